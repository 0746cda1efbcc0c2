"""What OpenAI's two formats have in common: the error envelope, cache breakpoints, and the same things in requests."""

from collections.abc import Callable, Mapping

from droid2api.errors import GatewayError, RequestError
from droid2api.formats.routes import Action
from droid2api.hub import request as hub
from droid2api.hub.encoded import Encoded
from droid2api.hub.fitting import cache_lives, output_schema_for, strict_for
from droid2api.hub.media import file_media_type
from droid2api.hub.tools import safe_name
from droid2api.wire.fields import Json, objects, optional, required, wrong

SAY_JSON = "Answer in JSON."
BREAKPOINT = "prompt_cache_breakpoint"

ANSWER_HEADERS: tuple[str, ...] = ("x-ratelimit-",)

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def upstream_url(base_url: str, target: hub.Target, action: Action, stream: bool, body: Json) -> str:
    return base_url


def upstream_headers(client: Mapping[str, str]) -> dict[str, str]:
    return {}


def encode_error(error: GatewayError) -> Json:
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


# -- a client's request: the functions raise RequestError


def decode_content(content: object, where: str, decode_part: Callable[[str, Json], hub.Part]) -> list[hub.Part]:
    if content is None:
        return []
    if type(content) is str:
        return [hub.Text(content, where=where)]
    if type(content) is not list:
        raise wrong(where, "a string or a list", content)
    return [decode_part(*each) for each in objects(content, where)]


def decode_image(url: str, cache: str | None, where: str, detail: str | None) -> hub.Image:
    media_type, content = hub.split_data_url(url) or ("", "")
    return hub.Image(media_type, content, "" if media_type else url, cache, where, detail)


def decode_file(data: str, cache: str | None, where: str, name: str) -> hub.Document:
    media_type, content = hub.split_data_url(data) or (file_media_type(name, data), data)
    return hub.Document(media_type, content, "", cache, where, name)


def decode_tool_choice(choice: object, named: Callable[[Json], hub.ToolChoice | None]) -> hub.ToolChoice | None:
    """`named` reads a choice that names tools."""
    if choice is None:
        return None
    if choice == "auto" or choice == "none" or choice == "required":
        return hub.ToolChoice(choice)
    if type(choice) is dict and (found := named(choice)):
        return found
    raise RequestError("tool_choice: must be auto, none, required or name a tool.", param="tool_choice")


def decode_output(request: hub.Request, format: Json | None, where: str, inner: str = "") -> hub.OutputFormat | None:
    """`inner` names the field of `format` that says more of a schema, where it is not `format` itself."""
    kind = "text" if format is None else format.get("type")
    if format is None or kind == "text":
        return None
    if kind == "json_object":
        return hub.OutputFormat(None)
    if kind != "json_schema":
        param = where if inner else f"{where}.type"
        raise RequestError(f"{where}.type: must be text, json_object or json_schema.", param=param)
    schema, path = (required(format, inner, dict, f"{where}."), f"{where}.{inner}.") if inner else (format, f"{where}.")
    request.drop_rest("response_format", schema, frozenset("type name schema strict description".split()))
    return hub.OutputFormat(
        required(schema, "schema", dict, path),
        required(schema, "name", str, path),
        optional(schema, "strict", bool, path),
        optional(schema, "description", str, path),
    )


# -- an upstream's request


def text_of(part: hub.Part, upstream: str) -> str:
    """Raises RequestError for what is no text."""
    if isinstance(part, hub.Text | hub.Refusal):
        return part.text
    raise hub.unsupported(part, upstream)


def encode_user(encoded: Encoded, user: str, field: str) -> None:
    encoded.body[field] = safe_name(user)
    if encoded.body[field] != user:
        encoded.repair("user")


def encode_schema(encoded: Encoded, output: hub.OutputFormat, target: hub.Target) -> Json:
    schema = output_schema_for(encoded, output, target)
    strict = strict_for(encoded, output.strict, schema, target, "response_format.strict")
    told: Json = {"name": output.name, "schema": schema, "strict": strict, "description": output.description}
    return {name: value for name, value in told.items() if value is not None}


def says_json(messages: list[Json]) -> bool:
    """Whether the word stands in the messages: OpenAI and others refuse to give any JSON where it does not."""
    contents = [message.get("content") for message in messages]
    texts = [content for content in contents if type(content) is str]
    texts += [part.get("text", "") for content in contents if type(content) is list for part in content]
    return any("json" in text.lower() for text in texts)


def keep_breakpoints(encoded: Encoded, request: hub.Request, target: hub.Target, contents: list[object]) -> None:
    """Leave as many marks as the model takes, the last ones, in these lists of encoded parts, and note lost ones."""
    lists = [content for content in contents if type(content) is list]
    marked = [part for content in lists for part in content if BREAKPOINT in part]
    kept = target.profile.cache_breakpoints
    for part in marked[: max(0, len(marked) - kept)]:
        del part[BREAKPOINT]
    caches = cache_lives(request)
    if len(caches) > min(len(marked), kept):
        encoded.drop("cache_breakpoints")
    if any(caches):
        encoded.drop("cache_breakpoints.ttl")


def with_breakpoint(block: Json, cache: str | None) -> Json:
    return block if cache is None else block | {BREAKPOINT: {"mode": "explicit"}}
