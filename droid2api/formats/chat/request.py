"""What a client's Chat Completions body means."""

from __future__ import annotations

from droid2api.errors import RequestError
from droid2api.formats.chat.settings import MARK
from droid2api.hub.events import State
from droid2api.hub.history import attach_states
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
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    split_data_url,
)
from droid2api.wire.fields import Json, objects, optional, required, strings, wrong

NAME = "chat"


_HANDLED = frozenset(
    "model messages stream stream_options tools tool_choice parallel_tool_calls max_tokens max_completion_tokens stop "
    "reasoning_effort response_format user safety_identifier n modalities audio functions function_call".split()
)


def decode_request(body: Json) -> Request:
    """A client's body as a Request. Raises RequestError that names the wrong field."""
    if (optional(body, "n", int) or 1) > 1:
        raise RequestError("n: only one choice can be asked of this model.", param="n")
    if body.get("audio") or "audio" in (optional(body, "modalities", list) or ()):
        raise RequestError("audio: this model gives no audio.", param="audio")
    if body.get("functions"):
        raise RequestError("functions: is not served here; use tools.", param="functions")
    options = optional(body, "stream_options", dict) or {}
    stop = body.get("stop")
    request = Request(
        model=required(body, "model", str),
        messages=_decode_messages(body.get("messages")),
        stream=optional(body, "stream", bool),
        include_usage=bool(options.get("include_usage")),
        parallel_tool_calls=optional(body, "parallel_tool_calls", bool),
        max_tokens=optional(body, "max_completion_tokens", int) or optional(body, "max_tokens", int),
        stop=[stop] if type(stop) is str else strings(body, "stop"),
        effort=optional(body, "reasoning_effort", str),
        output=_decode_output(optional(body, "response_format", dict)),
        user=optional(body, "safety_identifier", str) or optional(body, "user", str),
        options={name: value for name, value in body.items() if name not in _HANDLED and value is not None},
        body=body,
    )
    for name in ("temperature", "top_p"):
        optional(body, name, float)
    for where, tool in objects(body.get("tools"), "tools"):
        _decode_tool(request, where, tool)
    request.tool_choice = _decode_tool_choice(body.get("tool_choice"))
    if not request.messages:
        raise RequestError("messages: is required and must not be empty.", param="messages")
    return request


def _decode_messages(messages: object) -> list[Message]:
    return attach_states([_decode_message(where, message) for where, message in objects(messages, "messages")])


def _decode_message(where: str, message: Json) -> Message:
    role = required(message, "role", str, f"{where}.")
    content = message.get("content")
    if role in ("tool", "function"):
        call_id = required(message, "tool_call_id" if role == "tool" else "name", str, f"{where}.")
        return Message("user", [ToolResult(call_id, _decode_content(content, where), where=where)])
    if role == "system" or role == "developer":
        return Message("developer" if role == "developer" else "system", _decode_content(content, where))
    if role == "user":
        return Message("user", _decode_content(content, where))
    if role != "assistant":
        raise RequestError(f"{where}.role: {role[:40]!r} is no role of a chat message.", param=f"{where}.role")
    parts: list[Part] = [*_decode_reasoning(message), *_decode_content(content, where)]
    if refusal := optional(message, "refusal", str, f"{where}."):
        parts.append(Refusal(refusal))
    for path, call in objects(message.get("tool_calls"), f"{where}.tool_calls"):
        parts.append(_decode_tool_call(path, call))
    return Message("assistant", parts)


def _decode_tool_call(where: str, call: Json) -> ToolCall:
    id, state = required(call, "id", str, f"{where}."), _decode_state(call.get("extra_content"))
    custom = optional(call, "custom", dict, f"{where}.")
    called = custom or required(call, "function", dict, f"{where}.")
    path = f"{where}.custom." if custom else f"{where}.function."
    arguments = optional(called, "input" if custom else "arguments", str, path) or ""
    return ToolCall(id, required(called, "name", str, path), arguments, bool(custom), where=where, state=state)


def _decode_state(extra: object) -> State | None:
    """What this gateway put into a call's extra_content is another provider's state; all else there is a Chat one's."""
    if type(extra) is not dict or not extra:
        return None
    packed = extra.get(MARK)
    if type(packed) is str and (state := State.unpack(packed)):
        return state.unbound()
    return State(NAME, "", {"extra_content": extra})


def _decode_reasoning(message: Json) -> list[Part]:
    """Reasoning that this gateway gave out comes back with its state; other reasoning as text."""
    parts: list[Part] = []
    for _, detail in objects(message.get("reasoning_details"), "reasoning_details"):
        packed = detail.get("signature") or detail.get("data")
        if type(packed) is str and (state := State.unpack(packed)):
            parts.append(Reasoning(str(state.data.pop("text", "")), state))
    text = message.get("reasoning_content") or message.get("reasoning")
    if not parts and type(text) is str:
        parts.append(Reasoning(text))
    return parts


def _decode_content(content: object, where: str) -> list[Part]:
    if content is None:
        return []
    if type(content) is str:
        return [Text(content, where=f"{where}.content")]
    if type(content) is not list:
        raise wrong(f"{where}.content", "a string or a list", content)
    return [_decode_part(path, part) for path, part in objects(content, f"{where}.content")]


def _decode_part(where: str, part: Json) -> Part:
    kind = required(part, "type", str, f"{where}.")
    cache = _decode_cache(part)
    match kind:
        case "text":
            return Text(required(part, "text", str, f"{where}."), cache, where)
        case "refusal":
            return Refusal(required(part, "refusal", str, f"{where}."), where)
        case "image_url":
            image = part.get("image_url")
            image = {"url": image} if type(image) is str else required(part, "image_url", dict, f"{where}.")
            url = required(image, "url", str, f"{where}.image_url.")
            detail = optional(image, "detail", str, f"{where}.image_url.")
            media_type, content = split_data_url(url) or ("", "")
            return Image(media_type, content, "" if content else url, cache, where, detail)
        case "file":
            file = required(part, "file", dict, f"{where}.")
            if data := optional(file, "file_data", str, f"{where}.file."):
                name = optional(file, "filename", str, f"{where}.file.") or ""
                media_type, content = split_data_url(data) or ("application/pdf", data)
                return Document(media_type, content, "", cache, where, name)
            return Foreign("file_id", where)
        case _:
            return Foreign(kind, where)


def _decode_cache(part: Json) -> str | None:
    """OpenAI's prompt_cache_breakpoint, or the cache_control that OpenRouter and LiteLLM clients put on a part."""
    mark = part.get("prompt_cache_breakpoint") or part.get("cache_control")
    return str(mark.get("ttl") or "") if type(mark) is dict else None


def _decode_tool(request: Request, where: str, tool: Json) -> None:
    kind = required(tool, "type", str, f"{where}.")
    if kind == "function":
        function, path = required(tool, "function", dict, f"{where}."), f"{where}.function."
        request.tools.append(
            Tool(
                required(function, "name", str, path),
                optional(function, "description", str, path) or "",
                optional(function, "parameters", dict, path),
                optional(function, "strict", bool, path),
                cache=_decode_cache(tool),
            )
        )
    elif kind == "custom":
        custom, path = required(tool, "custom", dict, f"{where}."), f"{where}.custom."
        grammar = (optional(custom, "format", dict, path) or {}).get("grammar")
        name, description = required(custom, "name", str, path), optional(custom, "description", str, path) or ""
        request.tools.append(Tool(name, description, kind="custom", grammar=grammar if type(grammar) is dict else None))
    else:
        request.drop(f"tools.{kind}")


def _decode_tool_choice(choice: object) -> ToolChoice | None:
    if choice is None:
        return None
    if choice == "auto" or choice == "none" or choice == "required":
        return ToolChoice(choice)
    if type(choice) is dict:
        kind = choice.get("type")
        if kind == "allowed_tools":
            allowed = required(choice, "allowed_tools", dict, "tool_choice.")
            tools = objects(allowed.get("tools"), "tool_choice.allowed_tools.tools")
            names = [str((tool.get("function") or tool.get("custom") or {}).get("name")) for _, tool in tools]
            return ToolChoice("required" if allowed.get("mode") == "required" else "auto", allowed=names)
        if kind in ("function", "custom"):
            named = required(choice, kind, dict, "tool_choice.")
            return ToolChoice("required", required(named, "name", str, f"tool_choice.{kind}."))
    raise RequestError("tool_choice: must be auto, none, required or name a tool.", param="tool_choice")


def _decode_output(format: Json | None) -> OutputFormat | None:
    if format is None or format.get("type") == "text":
        return None
    if format.get("type") == "json_object":
        return OutputFormat(None)
    if format.get("type") != "json_schema":
        raise RequestError("response_format.type: must be text, json_object or json_schema.", param="response_format")
    where = "response_format.json_schema."
    schema = required(format, "json_schema", dict, "response_format.")
    return OutputFormat(
        required(schema, "schema", dict, where),
        required(schema, "name", str, where),
        optional(schema, "strict", bool, where),
        optional(schema, "description", str, where),
    )
