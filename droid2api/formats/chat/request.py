"""What a client's Chat Completions body means."""

from functools import partial

from droid2api.errors import RequestError
from droid2api.formats import openai_shared as shared
from droid2api.formats.chat.settings import MARK
from droid2api.hub import request as hub
from droid2api.hub.events import State
from droid2api.hub.history import attach_states
from droid2api.hub.stops import check_stops
from droid2api.wire.fields import Json, objects, optional, required, strings

NAME = "chat"
MOST_STOPS = 4
"""https://developers.openai.com/api/reference/resources/chat: "up to 4 sequences"."""

_HANDLED = frozenset(
    "model messages stream stream_options tools tool_choice parallel_tool_calls max_tokens max_completion_tokens stop "
    "reasoning_effort response_format user safety_identifier n modalities audio functions function_call".split()
)
_MESSAGE = frozenset(
    "role content refusal tool_calls tool_call_id function_call reasoning_content reasoning reasoning_details "
    "audio".split()
)
_PART = frozenset("type text refusal image_url file prompt_cache_breakpoint cache_control".split())
_CALL = frozenset("type id index function custom extra_content".split())
_FUNCTION = frozenset("name description parameters strict".split())
_TOOL = frozenset("type function custom prompt_cache_breakpoint cache_control".split())


def decode_request(body: Json) -> hub.Request:
    """A client's body as a Request. Raises RequestError that names the wrong field."""
    if (optional(body, "n", int) or 1) > 1:
        raise RequestError("n: only one choice can be asked of this model.", param="n")
    if body.get("audio") or "audio" in (optional(body, "modalities", list) or ()):
        raise RequestError("audio: this model gives no audio.", param="audio")
    if body.get("functions"):
        raise RequestError("functions: is not served here; use tools.", param="functions")
    options = optional(body, "stream_options", dict) or {}
    stop = body.get("stop")
    request = hub.Request(
        model=required(body, "model", str),
        messages=[],
        stream=optional(body, "stream", bool),
        include_usage=bool(options.get("include_usage")),
        parallel_tool_calls=optional(body, "parallel_tool_calls", bool),
        max_tokens=optional(body, "max_completion_tokens", int) or optional(body, "max_tokens", int),
        stop=check_stops([stop] if type(stop) is str else strings(body, "stop"), "stop", MOST_STOPS),
        effort=optional(body, "reasoning_effort", str),
        show_reasoning=None,
        user=optional(body, "safety_identifier", str) or optional(body, "user", str),
        options={name: value for name, value in body.items() if name not in _HANDLED and value is not None},
        body=body,
    )
    if body.get("user") not in (None, "", request.user):
        request.drop("user")
    request.drop_rest("stream_options", options, frozenset(["include_usage"]))
    for name in ("temperature", "top_p"):
        optional(body, name, float)
    messages = [_decode_message(request, *each) for each in objects(body.get("messages"), "messages")]
    request.messages = attach_states(messages)
    request.output = shared.decode_output(
        request, optional(body, "response_format", dict), "response_format", "json_schema"
    )
    request.tools = [_decode_tool(request, *each) for each in objects(body.get("tools"), "tools")]
    request.tool_choice = shared.decode_tool_choice(body.get("tool_choice"), _decode_named)
    if not request.messages:
        raise RequestError("messages: is required and must not be empty.", param="messages")
    return request


# -- messages -------------------------------------------------------------------------------------------------------


def _decode_message(request: hub.Request, where: str, message: Json) -> hub.Message:
    role = required(message, "role", str, f"{where}.")
    request.drop_rest("messages", message, _MESSAGE if role != "function" else _MESSAGE | {"name"})
    parts = shared.decode_content(message.get("content"), f"{where}.content", partial(_decode_part, request))
    match role:
        case "tool" | "function":
            call_id = required(message, "tool_call_id" if role == "tool" else "name", str, f"{where}.")
            return hub.Message("user", [hub.ToolResult(call_id, parts, where=where)])
        case "system" | "developer" | "user":
            return hub.Message(role, parts)
        case "assistant":
            return hub.Message("assistant", _decode_answer(request, where, message, parts))
    raise RequestError(f"{where}.role: {role[:40]!r} is no role of a chat message.", param=f"{where}.role")


def _decode_answer(request: hub.Request, where: str, message: Json, content: list[hub.Part]) -> list[hub.Part]:
    parts = [*_decode_reasoning(request, message), *content]
    if refusal := optional(message, "refusal", str, f"{where}."):
        parts.append(hub.Refusal(refusal))
    if message.get("audio"):
        parts.append(hub.Foreign("audio", f"{where}.audio", is_media=True))
    for path, call in objects(message.get("tool_calls"), f"{where}.tool_calls"):
        parts.append(_decode_tool_call(request, path, call))
    if function := optional(message, "function_call", dict, f"{where}."):  # its result names the function
        path = f"{where}.function_call."
        name = required(function, "name", str, path)
        parts.append(hub.ToolCall(name, name, optional(function, "arguments", str, path) or "", where=path[:-1]))
    return parts


def _decode_tool_call(request: hub.Request, where: str, call: Json) -> hub.ToolCall:
    request.drop_rest("messages.tool_call", call, _CALL)
    id, state = required(call, "id", str, f"{where}."), _decode_state(call.get("extra_content"))
    custom = optional(call, "custom", dict, f"{where}.")
    called = custom or required(call, "function", dict, f"{where}.")
    path = f"{where}.custom." if custom else f"{where}.function."
    arguments = optional(called, "input" if custom else "arguments", str, path) or ""
    return hub.ToolCall(id, required(called, "name", str, path), arguments, bool(custom), where=where, state=state)


def _decode_state(extra: object) -> State | None:
    """What this gateway put into a call's extra_content is another provider's state; all else there is a Chat one's."""
    if type(extra) is not dict or not extra:
        return None
    packed = extra.get(MARK)
    if type(packed) is str and (state := State.unpack(packed)):
        return state.unbound()
    return State(NAME, "", {"extra_content": extra})


def _decode_reasoning(request: hub.Request, message: Json) -> list[hub.Reasoning]:
    """Reasoning that this gateway gave out comes back with its state; other reasoning as text."""
    parts: list[hub.Reasoning] = []
    for _, detail in objects(message.get("reasoning_details"), "reasoning_details"):
        packed = detail.get("signature") or detail.get("data")
        if type(packed) is str and (state := State.unpack(packed)):
            text = str(state.data.pop("text", ""))
            parts.append(hub.Reasoning(text, state))
        else:
            request.drop("messages.reasoning_details")
    said = message.get("reasoning_content") or message.get("reasoning")
    if type(said) is str and all(part.state and part.state.bound() for part in parts):
        parts.insert(0, hub.Reasoning(said))
    return parts


def _decode_part(request: hub.Request, where: str, part: Json) -> hub.Part:
    kind = required(part, "type", str, f"{where}.")
    cache = _decode_cache(request, part)
    request.drop_rest(f"messages.{kind}", part, _PART)
    match kind:
        case "text":
            return hub.Text(required(part, "text", str, f"{where}."), cache, where)
        case "refusal":
            return hub.Refusal(required(part, "refusal", str, f"{where}."), where)
        case "image_url":
            image = part.get("image_url")
            image = {"url": image} if type(image) is str else required(part, "image_url", dict, f"{where}.")
            request.drop_rest("messages.image", image, frozenset(["url", "detail"]))
            url = required(image, "url", str, f"{where}.image_url.")
            detail = optional(image, "detail", str, f"{where}.image_url.")
            return shared.decode_image(url, cache, where, detail)
        case "file":
            file = required(part, "file", dict, f"{where}.")
            request.drop_rest("messages.document", file, frozenset("file_data filename file_id".split()))
            if data := optional(file, "file_data", str, f"{where}.file."):
                return shared.decode_file(data, cache, where, optional(file, "filename", str, f"{where}.file.") or "")
            return hub.Foreign("file_id", where, is_media=True)
        case _:
            return hub.Foreign(kind, where, is_media=kind == "input_audio")


def _decode_cache(request: hub.Request, part: Json) -> str | None:
    """OpenAI's prompt_cache_breakpoint, or the cache_control that OpenRouter and LiteLLM clients put on a part."""
    mark = part.get("prompt_cache_breakpoint") or part.get("cache_control")
    if type(mark) is not dict:
        return None
    request.drop_rest("cache_breakpoints", mark, frozenset("type mode ttl".split()))
    return str(mark.get("ttl") or "")


# -- tools and output -----------------------------------------------------------------------------------------------


def _decode_tool(request: hub.Request, where: str, tool: Json) -> hub.Tool:
    kind = required(tool, "type", str, f"{where}.")
    request.drop_rest("tools", tool, _TOOL)
    if kind == "function":
        function, path = required(tool, "function", dict, f"{where}."), f"{where}.function."
        request.drop_rest("tools", function, _FUNCTION)
        return hub.Tool(
            required(function, "name", str, path),
            optional(function, "description", str, path) or "",
            optional(function, "parameters", dict, path),
            optional(function, "strict", bool, path),
            cache=_decode_cache(request, tool),
        )
    if kind == "custom":
        custom, path = required(tool, "custom", dict, f"{where}."), f"{where}.custom."
        request.drop_rest("tools", custom, frozenset("name description format".split()))
        grammar = (optional(custom, "format", dict, path) or {}).get("grammar")
        name, description = required(custom, "name", str, path), optional(custom, "description", str, path) or ""
        return hub.Tool(name, description, kind="custom", grammar=grammar if type(grammar) is dict else None)
    raise RequestError(
        f"{where}.type: {kind[:40]!r} is no tool of a chat request; it must be function or custom.",
        param=f"{where}.type",
    )


def _decode_named(choice: Json) -> hub.ToolChoice | None:
    kind = choice.get("type")
    if kind == "allowed_tools":
        allowed = required(choice, "allowed_tools", dict, "tool_choice.")
        tools = objects(allowed.get("tools"), "tool_choice.allowed_tools.tools")
        names = [_named(where, tool) for where, tool in tools]
        return hub.ToolChoice("required" if allowed.get("mode") == "required" else "auto", allowed=names)
    if kind in ("function", "custom"):
        return hub.ToolChoice("required", _named("tool_choice", choice))
    return None


def _named(where: str, tool: Json) -> str:
    kind = "custom" if tool.get("type") == "custom" else "function"
    return required(required(tool, kind, dict, f"{where}."), "name", str, f"{where}.{kind}.")
