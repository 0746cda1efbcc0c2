"""The Responses body for an upstream."""

from __future__ import annotations

from typing import assert_never

from droid2api.formats.openai_shared import keep_breakpoints, with_breakpoint
from droid2api.formats.responses.request import ENCRYPTED_REASONING, NAME
from droid2api.formats.responses.settings import reasoning_fields
from droid2api.hub.encoded import Encoded
from droid2api.hub.fitting import (
    CONTINUE,
    Choice,
    choice_for,
    effort_for,
    limit_for,
    options_for,
    output_schema_for,
    parameters_for,
    result_for,
    sampling_for,
    stops_for,
    strict_for,
)
from droid2api.hub.history import system_first
from droid2api.hub.media import check_media
from droid2api.hub.request import (
    Document,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Request,
    Target,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    WebSearch,
    unsupported,
)
from droid2api.hub.tools import CallIds, name_tools, safe_name, upstream_name
from droid2api.wire.fields import Json

TYPE = "openai"
SMALLEST_LIMIT = 16
"""OpenAI refuses a smaller max_output_tokens."""
_OPTIONS = frozenset(
    "service_tier store metadata prompt_cache_key prompt_cache_retention prompt_cache_options moderation "
    "max_tool_calls".split()
)
_JSON = "Answer in JSON."


def encode_request(request: Request, target: Target) -> Encoded:
    """The request for a Responses upstream. Raises RequestError for content that it cannot express.

    Nothing is stored upstream unless the client asked for it, so reasoning comes back encrypted, to be sent again.
    """
    encoded = Encoded.begun(request)
    body = encoded.body
    body |= {"model": target.id, "input": [], "store": False}
    _encode_conversation(encoded, request, target)
    effort = effort_for(encoded, request, target, bool(request.tools))
    _encode_tools(encoded, request, target, effort)
    if target.profile.reasons != "never":
        body["include"] = [ENCRYPTED_REASONING]
    if (limit := limit_for(encoded, request, target, SMALLEST_LIMIT)) is not None:
        body["max_output_tokens"] = limit
    body |= reasoning_fields(target.profile, effort)
    if request.user:
        body["safety_identifier"] = safe_name(request.user)
        if body["safety_identifier"] != request.user:
            encoded.repair("user")
    if stops := stops_for(encoded, request, target):
        encoded.local_stop = [*encoded.local_stop, *stops]
    _encode_options(encoded, request, target, effort)
    if request.stream:
        body["stream"] = True
    return encoded


def _encode_conversation(encoded: Encoded, request: Request, target: Target) -> None:
    body, items = encoded.body, encoded.body["input"]
    messages = request.messages
    if target.profile.system_messages != "anywhere":
        messages = system_first(encoded, messages, TYPE)
    leading: list[str] = []
    writer = _MessageWriter(encoded, target)
    for message in messages:
        if message.role in ("system", "developer") and not items:
            leading += [_text_of(part) for part in message.parts]
        else:
            items += writer.encode(message)
    keep_breakpoints(encoded, request, target, [item.get("content") or item.get("output") for item in items])
    if items and items[-1].get("role") == "assistant" and not target.profile.prefill:
        items.append(_developer(CONTINUE) | {"role": "user"})
        encoded.repair("messages.prefill")
    any_json = request.output is not None and not request.output.schema
    if leading and items and not any_json:
        body["instructions"] = "\n\n".join(leading)
    elif leading:  # there must be some input, and "json" must stand in it where any JSON is asked for
        items.insert(0, _developer("\n\n".join(leading)))
    if any_json and not any(_says_json(item) for item in items):
        items.append(_developer(_JSON))
        encoded.repair("response_format")


def _developer(text: str) -> Json:
    return {"type": "message", "role": "developer", "content": text}


def _says_json(item: Json) -> bool:
    content = item.get("content")
    texts = [content] if type(content) is str else [part.get("text", "") for part in content or ()]
    return any("json" in text.lower() for text in texts)


def _encode_options(encoded: Encoded, request: Request, target: Target, effort: str | None) -> None:
    body = encoded.body
    text: Json = {}
    if request.output:
        text["format"] = _encode_output(encoded, request.output, target)
    body |= sampling_for(encoded, request, target, effort, ("temperature", "top_p"))
    options = options_for(encoded, request, target, _OPTIONS | {"verbosity"})
    if "verbosity" in options:
        text["verbosity"] = options.pop("verbosity")
    body |= options
    if text:
        body["text"] = text


def _encode_output(encoded: Encoded, output: OutputFormat, target: Target) -> Json:
    if not output.schema:
        return {"type": "json_object"}
    schema = output_schema_for(encoded, output, target)
    strict = bool(strict_for(encoded, output.strict, schema, target, "response_format.strict"))
    format: Json = {"type": "json_schema", "name": output.name, "schema": schema, "strict": strict}
    return format | ({"description": output.description} if output.description else {})


# -- tools ----------------------------------------------------------------------------------------------------------


def _encode_tools(encoded: Encoded, request: Request, target: Target, effort: str | None) -> None:
    body, named = encoded.body, name_tools(encoded, request.tools)
    choice = choice_for(encoded, request, target, effort, named)
    if not named:
        return
    body["tools"] = [_encode_tool(encoded, name, tool, target) for name, tool in named]
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if choice:
        body["tool_choice"] = _encode_choice(choice, named)
    if choice and choice.said:
        body["input"].append(_developer(choice.said))
    searches = [tool.search for _, tool in named if tool.search]
    if searches and searches[0].max_uses is not None:  # it is the only tool that the service runs
        body["max_tool_calls"] = searches[0].max_uses


def _encode_tool(encoded: Encoded, name: str, tool: Tool, target: Target) -> Json:
    match tool.kind:
        case "web_search":
            return {"type": "web_search"} | _encode_search(encoded, tool.search or WebSearch())
        case "custom":
            grammar = {"format": {"type": "grammar", **tool.grammar}} if tool.grammar else {}
            return {"type": "custom", "name": name, "description": tool.description, **grammar}
        case "function":
            parameters = parameters_for(encoded, tool, target)
            function = {"type": "function", "name": name, "description": tool.description, "parameters": parameters}
            # strict is the API's default and rewrites schemas that were not made for it
            return function | {"strict": bool(strict_for(encoded, tool.strict, parameters, target, "tools.strict"))}
        case _:
            assert_never(tool.kind)


def _encode_search(encoded: Encoded, search: WebSearch) -> Json:
    if search.blocked_domains:
        encoded.drop("tools.web_search.blocked_domains")
    told: Json = {
        "filters": {"allowed_domains": search.allowed_domains} if search.allowed_domains else None,
        "user_location": search.location,
        "search_context_size": search.context_size,
        "external_web_access": search.live,
    }
    return {name: value for name, value in told.items() if value is not None}


def _encode_choice(choice: Choice, named: list[tuple[str, Tool]]) -> object:
    if choice.allowed is not None:
        allowed = [_reference(name, tool) for name, tool in named if name in choice.allowed]
        return {"type": "allowed_tools", "mode": choice.mode, "tools": allowed} if allowed else "none"
    return _reference(choice.name, choice.tool) if choice.tool else choice.mode


def _reference(name: str, tool: Tool) -> Json:
    return {"type": tool.kind} if tool.kind == "web_search" else {"type": tool.kind, "name": name}


# -- messages -------------------------------------------------------------------------------------------------------


class _MessageWriter:
    """Writes one message after the other as items; results have their calls' ids."""

    def __init__(self, encoded: Encoded, target: Target) -> None:
        self._encoded = encoded
        self._target = target
        self._ids = CallIds(target.profile.ids, target.profile.longest_id)

    def encode(self, message: Message) -> list[Json]:
        items: list[Json] = []
        role = "developer" if message.role == "system" else message.role
        for part in message.parts:
            match part:
                case ToolCall():
                    items.append(self._encode_call(part))
                case ToolResult():
                    items.append(self._encode_result(part))
                case Reasoning():
                    items += self._encode_reasoning(part)
                case _ if role == "assistant":
                    items.append(self._encode_said(part))
                case _ if items and items[-1].get("role") == role:
                    items[-1]["content"].append(self._encode_part(part))
                case _:
                    items.append({"type": "message", "role": role, "content": [self._encode_part(part)]})
        if items and items[-1]["type"] == "reasoning":
            items.pop()  # refused without the item that it led to
            self._encoded.drop("messages.reasoning")
        return items

    def _encode_reasoning(self, part: Reasoning) -> list[Json]:
        data = self._target.state_data(part.state, NAME)
        if not data or self._target.profile.replay == "never":
            self._encoded.drop("messages.reasoning")
            return []
        summary = [{"type": "summary_text", "text": part.text}] if part.text else []
        return [{"type": "reasoning", "summary": summary, **data}]

    def _encode_said(self, part: Part) -> Json:
        """What the model said. Its `phase` is told again to who gave it."""
        said: Json = {"type": "message", "role": "assistant", "content": _text_of(part)}
        data = (self._target.state_data(part.state, NAME) if isinstance(part, Text) else None) or {}
        self._encoded.drop_state(part, NAME, self._target)
        return said | ({"phase": data["phase"]} if "phase" in data else {})

    def _encode_call(self, call: ToolCall) -> Json:
        self._encoded.drop_state(call, NAME, self._target)
        name, id = upstream_name(self._encoded, call.name, call.namespace), self._ids.of_call(call.id)
        if call.custom:
            return {"type": "custom_tool_call", "call_id": id, "name": name, "input": call.arguments}
        return {"type": "function_call", "call_id": id, "name": name, "arguments": call.arguments or "{}"}

    def _encode_result(self, result: ToolResult) -> Json:
        kind = "custom_tool_call_output" if result.custom else "function_call_output"
        return {"type": kind, "call_id": self._ids.of_result(result.call_id), "output": self._encode_output(result)}

    def _encode_output(self, result: ToolResult) -> object:
        content = result_for(self._encoded, result, self._target)
        if all(isinstance(part, Text) for part in content):
            text = "\n\n".join(_text_of(part) for part in content)
            return f"Error: {text}" if result.is_error else text
        error = [{"type": "input_text", "text": "Error:"}] if result.is_error else []
        return error + [self._encode_part(part) for part in content]

    def _encode_part(self, part: Part) -> Json:
        match part:
            case Text():
                return with_breakpoint({"type": "input_text", "text": part.text}, part.cache)
            case Refusal():
                return {"type": "input_text", "text": part.text}
            case Image():
                check_media(part, self._target, TYPE)
                image = {"type": "input_image", "image_url": part.href, "detail": part.detail or "auto"}
                return with_breakpoint(image, part.cache)
            case Document():
                check_media(part, self._target, TYPE)
                return with_breakpoint(self._encode_document(part), part.cache)
            case Foreign() | Reasoning() | ToolCall() | ToolResult():
                raise unsupported(part, TYPE)
            case _:
                assert_never(part)

    def _encode_document(self, part: Document) -> Json:
        if not part.url:
            return {"type": "input_file", "filename": part.name or "document.pdf", "file_data": part.href}
        if part.name:
            self._encoded.drop("messages.document.title")
        return {"type": "input_file", "file_url": part.url}


def _text_of(part: Part) -> str:
    if isinstance(part, Text | Refusal):
        return part.text
    raise unsupported(part, TYPE)
