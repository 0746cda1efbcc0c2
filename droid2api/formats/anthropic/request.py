"""What a client's Messages body means."""

from __future__ import annotations

import orjson

from droid2api.errors import RequestError
from droid2api.formats.anthropic.settings import is_attribution
from droid2api.hub.events import State
from droid2api.hub.history import attach_states
from droid2api.hub.reasoning import effort_of
from droid2api.hub.request import (
    Document,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from droid2api.wire.fields import Json, objects, optional, required, strings

NAME = "anthropic"


_HANDLED = frozenset(
    "model messages system stream tools tool_choice max_tokens stop_sequences thinking output_config output_format "
    "metadata".split()
)


def decode_request(body: Json) -> Request:
    """A client's body as a Request. Raises RequestError that names the wrong field."""
    request = Request(
        model=required(body, "model", str),
        messages=_decode_system(body.get("system")),
        stream=optional(body, "stream", bool),
        max_tokens=optional(body, "max_tokens", int),
        stop=strings(body, "stop_sequences"),
        effort=_decode_effort(body),
        output=_decode_output(body),
        user=optional(optional(body, "metadata", dict) or {}, "user_id", str, "metadata."),
        options={name: value for name, value in body.items() if name not in _HANDLED and value is not None},
        body=body,
    )
    for name in ("temperature", "top_p"):
        optional(body, name, float)
    for where, message in objects(body.get("messages"), "messages"):
        request.messages.append(_decode_message(request, where, message))
    request.messages = attach_states(request.messages)
    if not body.get("messages"):
        raise RequestError("messages: is required and must not be empty.", param="messages")
    loaded = _loaded_tools(body["messages"])
    for where, tool in objects(body.get("tools"), "tools"):
        _decode_tool(request, where, tool, loaded)
    if choice := optional(body, "tool_choice", dict):
        request.tool_choice = _decode_tool_choice(choice)
        if optional(choice, "disable_parallel_tool_use", bool, "tool_choice.") is not None:
            request.parallel_tool_calls = not choice["disable_parallel_tool_use"]
    if tier := request.options.pop("service_tier", None):
        request.options["service_tier"] = "default" if tier == "standard_only" else tier
    return request


def _decode_system(system: object) -> list[Message]:
    if system is None or system == "" or system == []:
        return []
    if type(system) is str:
        return [Message("system", [Text(system)])]
    blocks = objects(system, "system")
    parts: list[Part] = [_decode_text(where, block) for where, block in blocks if not is_attribution(block)]
    return [Message("system", parts)] if parts else []


def _decode_effort(body: Json) -> str | None:
    thinking = optional(body, "thinking", dict) or {}
    effort = optional(optional(body, "output_config", dict) or {}, "effort", str, "output_config.")
    match thinking.get("type"):
        case "disabled":
            return "none"
        case "enabled":
            return effort or effort_of(optional(thinking, "budget_tokens", int, "thinking.") or 0)
        case "adaptive" | "between_tools":
            return effort or "medium"
    return effort


def _decode_output(body: Json) -> OutputFormat | None:
    config = optional(body, "output_config", dict) or {}
    format = optional(config, "format", dict, "output_config.") or optional(body, "output_format", dict)
    if not format:
        return None
    return OutputFormat(required(format, "schema", dict, "output_config.format."), strict=True)


def _decode_message(request: Request, where: str, message: Json) -> Message:
    role = required(message, "role", str, f"{where}.")
    if role not in ("user", "assistant", "system"):
        raise RequestError(f"{where}.role: {role[:40]!r} is no role of a message.", param=f"{where}.role")
    content = message.get("content")
    if type(content) is str:
        parts: list[Part] = [Text(content, where=f"{where}.content")]
    else:
        blocks = objects(content, f"{where}.content")
        parts = [part for path, block in blocks if (part := _decode_block(request, path, block))]
    return Message("user" if role == "user" else "assistant" if role == "assistant" else "system", parts)


def _decode_text(where: str, block: Json) -> Text:
    return Text(required(block, "text", str, f"{where}."), _decode_cache(block), where)


def _decode_cache(block: Json) -> str | None:
    mark = block.get("cache_control")
    return str(mark.get("ttl") or "") if type(mark) is dict else None


def _decode_block(request: Request, where: str, block: Json) -> Part | None:
    kind = required(block, "type", str, f"{where}.")
    match kind:
        case "text":
            return _decode_text(where, block)
        case "image" | "document":
            return _decode_media(kind, where, block)
        case "thinking":
            return Reasoning(optional(block, "thinking", str, f"{where}.") or "", _decode_state(block, "signature"))
        case "redacted_thinking":
            return Reasoning("", _decode_state(block, "data"))
        case "tool_use":
            arguments = orjson.dumps(optional(block, "input", dict, f"{where}.") or {}).decode()
            id, name = required(block, "id", str, f"{where}."), required(block, "name", str, f"{where}.")
            return ToolCall(id, name, arguments, where=where)
        case "tool_result":
            content = block.get("content")
            if type(content) is str:
                parts: list[Part] = [Text(content, where=f"{where}.content")]
            else:
                blocks = objects(content, f"{where}.content")
                parts = [part for path, item in blocks if (part := _decode_block(request, path, item))]
            id, is_error = required(block, "tool_use_id", str, f"{where}."), bool(block.get("is_error"))
            return ToolResult(id, parts, is_error, cache=_decode_cache(block), where=where)
        case "tool_reference":
            return Text(f"The tool {block.get('tool_name')} can be called now.", where=where)
        case "search_result":
            texts = [str(item.get("text") or "") for _, item in objects(block.get("content"), f"{where}.content")]
            return Text("\n".join([str(block.get("title") or ""), str(block.get("source") or ""), *texts]), where=where)
        case "server_tool_use" | "mcp_tool_use" | "fallback" | "compaction":
            request.drop(kind)
            return None
    if kind.endswith("_tool_result"):
        request.drop(kind)
        return None
    return Foreign(kind, where)


def _decode_state(block: Json, field: str) -> State | None:
    """A signature that this gateway gave out holds the state of another provider; any other is Anthropic's own."""
    text = optional(block, field, str)
    return (State.unpack(text) or State(NAME, "", {field: text})) if text else None


def _decode_media(kind: str, where: str, block: Json) -> Part:
    source, path = required(block, "source", dict, f"{where}."), f"{where}.source."
    cache = _decode_cache(block)
    match source.get("type"):
        case "base64":
            media_type, data = required(source, "media_type", str, path), required(source, "data", str, path)
            url = ""
        case "url":
            media_type, data, url = "", "", required(source, "url", str, path)
        case "text" if kind == "document":
            return Text(required(source, "data", str, path), cache, where)
        case other:
            return Foreign(f"{kind} {other}", where)
    if kind == "image":
        return Image(media_type, data, url, cache, where)
    return Document(media_type, data, url, cache, where, optional(block, "title", str, f"{where}.") or "")


def _loaded_tools(messages: list[Json]) -> set[str]:
    """The deferred tools that a tool search has found, as Claude Code says it in tool results."""
    contents = [message["content"] for message in messages if type(message.get("content")) is list]
    results = [block.get("content") for blocks in contents for block in blocks if block["type"] == "tool_result"]
    items = [item for result in results if type(result) is list for item in result]
    return {str(item.get("tool_name")) for item in items if item["type"] == "tool_reference"}


def _decode_tool(request: Request, where: str, tool: Json, loaded: set[str]) -> None:
    kind = optional(tool, "type", str, f"{where}.") or "custom"
    if kind == "custom":
        name, schema = required(tool, "name", str, f"{where}."), optional(tool, "input_schema", dict, f"{where}.") or {}
        if tool.get("defer_loading") and name not in loaded:
            return  # the client's own tool search has not found it yet
        description, strict = optional(tool, "description", str, f"{where}.") or "", tool.get("strict")
        parameters = {key: value for key, value in schema.items() if key != "$schema"}
        strict = strict if type(strict) is bool else None
        request.tools.append(Tool(name, description, parameters, strict, cache=_decode_cache(tool)))
    elif kind.startswith("web_search_"):
        request.tools.append(Tool("web_search", kind="web_search"))
    else:
        request.drop(f"tools.{kind}")


def _decode_tool_choice(choice: Json) -> ToolChoice:
    match choice.get("type"):
        case "auto" | "none" as mode:
            return ToolChoice(mode)
        case "any":
            return ToolChoice("required")
        case "tool":
            return ToolChoice("required", required(choice, "name", str, "tool_choice."))
    raise RequestError("tool_choice.type: must be auto, any, none or tool.", param="tool_choice.type")
