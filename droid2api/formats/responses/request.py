"""What a client's Responses body means."""

from __future__ import annotations

from droid2api.errors import RequestError
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
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    split_data_url,
)
from droid2api.wire.fields import Json, objects, optional, required, wrong

NAME = "responses"
ENCRYPTED_REASONING = "reasoning.encrypted_content"

_HANDLED = frozenset(
    "model input instructions stream stream_options tools tool_choice parallel_tool_calls max_output_tokens reasoning "
    "text user safety_identifier include previous_response_id conversation prompt background".split()
)
_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
}
_STATEFUL = ("previous_response_id", "conversation", "prompt", "background")


def decode_request(body: Json) -> Request:
    """A client's body as a Request. Raises RequestError that names the wrong field."""
    for name in _STATEFUL:
        if body.get(name):
            raise RequestError(
                f"{name}: needs an upstream that keeps state; send the whole conversation as input.", param=name
            )
    text = optional(body, "text", dict) or {}
    instructions = optional(body, "instructions", str)
    request = Request(
        model=required(body, "model", str),
        messages=[Message("system", [Text(instructions)])] if instructions else [],
        stream=optional(body, "stream", bool),
        parallel_tool_calls=optional(body, "parallel_tool_calls", bool),
        max_tokens=optional(body, "max_output_tokens", int),
        effort=optional(optional(body, "reasoning", dict) or {}, "effort", str, "reasoning."),
        output=_decode_output(optional(text, "format", dict, "text.")),
        user=optional(body, "safety_identifier", str) or optional(body, "user", str),
        options={name: value for name, value in body.items() if name not in _HANDLED and value is not None},
        body=body,
    )
    for name in ("temperature", "top_p"):
        optional(body, name, float)
    if verbosity := text.get("verbosity"):
        request.options["verbosity"] = verbosity
    for name in optional(body, "include", list) or ():
        if name != ENCRYPTED_REASONING:  # that one every answer has
            request.drop(f"include.{name}")
    items = body.get("input")
    if not items:
        raise RequestError("input: is required and must not be empty.", param="input")
    if type(items) is str:
        request.messages.append(Message("user", [Text(items, where="input")]))
    else:
        for where, item in objects(items, "input"):
            _decode_item(request, where, item)
        request.messages = attach_states(request.messages)
    _decode_tools(request, "tools", body.get("tools"))
    request.tool_choice = _decode_tool_choice(request, body.get("tool_choice"))
    return request


def _decode_item(request: Request, where: str, item: Json) -> None:
    kind = item.get("type") or "message"
    path = f"{where}."
    match kind:
        case "message":
            role = _ROLES.get(required(item, "role", str, path))
            if role is None:
                raise RequestError(f"{path}role: must be user, assistant, system or developer.", param=f"{path}role")
            parts = _decode_content(item.get("content"), f"{path}content")
            if phase := optional(item, "phase", str, path):
                _set_phase(parts, phase)
            request.messages.append(Message(role, parts))
        case "function_call" | "custom_tool_call":
            custom = kind == "custom_tool_call"
            arguments = optional(item, "input" if custom else "arguments", str, path) or ""
            id, name = required(item, "call_id", str, path), required(item, "name", str, path)
            call = ToolCall(id, name, arguments, custom, optional(item, "namespace", str, path) or "", where)
            request.messages.append(Message("assistant", [call]))
        case "function_call_output" | "custom_tool_call_output":
            content = _decode_content(item.get("output"), f"{path}output")
            id, custom = required(item, "call_id", str, path), kind == "custom_tool_call_output"
            request.messages.append(Message("user", [ToolResult(id, content, custom=custom, where=where)]))
        case "reasoning":
            request.messages.append(Message("assistant", [_decode_reasoning(item, where)]))
        case "additional_tools":
            _decode_tools(request, f"{path}tools", item.get("tools"))
        case "item_reference" | "compaction" | "compaction_trigger":
            raise RequestError(
                f"{where}: {kind} items need an upstream of the openai type; for Codex, configure this gateway as a "
                "custom model provider.",
                param=where,
            )
        case _:  # calls of tools that OpenAI runs itself: their outcome is in the messages around them
            request.drop(f"input.{kind}")


def _set_phase(parts: list[Part], phase: str) -> None:
    """Which part of an answer a message is, as OpenAI's models want to see it again."""
    for part in parts:
        if isinstance(part, Text):
            part.state = State(NAME, "", {"phase": phase})


def _decode_reasoning(item: Json, where: str) -> Reasoning:
    texts = [str(part.get("text") or "") for _, part in objects(item.get("summary"), f"{where}.summary")]
    texts += [str(part.get("text") or "") for _, part in objects(item.get("content"), f"{where}.content")]
    encrypted = optional(item, "encrypted_content", str, f"{where}.")
    state = None
    if encrypted:
        own = State(NAME, "", {"id": item.get("id"), "encrypted_content": encrypted})
        state = State.unpack(encrypted) or own
    return Reasoning("\n\n".join(texts), state)


def _decode_content(content: object, where: str) -> list[Part]:
    if content is None:
        return []
    if type(content) is str:
        return [Text(content, where=where)]
    if type(content) is not list:
        raise wrong(where, "a string or a list", content)
    return [_decode_part(path, part) for path, part in objects(content, where)]


def _decode_part(where: str, part: Json) -> Part:
    kind, path = required(part, "type", str, f"{where}."), f"{where}."
    mark = part.get("prompt_cache_breakpoint")
    cache = str(mark.get("ttl") or "") if type(mark) is dict else None
    match kind:
        case "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text":
            return Text(required(part, "text", str, path), cache, where)
        case "refusal":
            return Refusal(required(part, "refusal", str, path), where)
        case "input_image" if url := optional(part, "image_url", str, path):
            media_type, content = split_data_url(url) or ("", "")
            return Image(media_type, content, "" if content else url, cache, where, optional(part, "detail", str, path))
        case "input_file" if url := optional(part, "file_url", str, path):
            return Document("", "", url, cache, where, optional(part, "filename", str, path) or "")
        case "input_file" if data := optional(part, "file_data", str, path):
            media_type, content = split_data_url(data) or ("application/pdf", data)
            return Document(media_type, content, "", cache, where, optional(part, "filename", str, path) or "")
    return Foreign("file_id" if kind in ("input_image", "input_file") else kind, where)


def _decode_tools(request: Request, where: str, tools: object, namespace: str = "") -> None:
    for path, tool in objects(tools, where):
        kind = required(tool, "type", str, f"{path}.")
        if kind == "namespace":
            _decode_tools(request, f"{path}.tools", tool.get("tools"), required(tool, "name", str, f"{path}."))
        elif kind in ("function", "custom"):
            name = required(tool, "name", str, f"{path}.")
            description = optional(tool, "description", str, f"{path}.") or ""
            decoded = Tool(name, description, namespace=namespace)
            if kind == "custom":
                decoded.kind = "custom"
                decoded.grammar = optional(tool, "format", dict, f"{path}.")
            else:
                decoded.parameters = optional(tool, "parameters", dict, f"{path}.")
                decoded.strict = optional(tool, "strict", bool, f"{path}.")
            request.tools.append(decoded)
        elif kind.startswith("web_search"):
            request.tools.append(Tool("web_search", kind="web_search"))
        else:
            request.drop(f"tools.{kind}")


def _decode_tool_choice(request: Request, choice: object) -> ToolChoice | None:
    if choice is None:
        return None
    if choice == "auto" or choice == "none" or choice == "required":
        return ToolChoice(choice)
    if type(choice) is dict:
        match choice.get("type"):
            case "function" | "custom":
                return ToolChoice("required", required(choice, "name", str, "tool_choice."))
            case "allowed_tools":
                names = [str(tool.get("name")) for _, tool in objects(choice.get("tools"), "tool_choice.tools")]
                return ToolChoice("required" if choice.get("mode") == "required" else "auto", allowed=names)
            case str(kind):
                request.drop(f"tool_choice.{kind}")
                return None
    raise RequestError("tool_choice: must be auto, none, required or name a tool.", param="tool_choice")


def _decode_output(format: Json | None) -> OutputFormat | None:
    match (format or {}).get("type"):
        case None | "text":
            return None
        case "json_object":
            return OutputFormat(None)
        case "json_schema" if format:
            where = "text.format."
            return OutputFormat(
                required(format, "schema", dict, where),
                required(format, "name", str, where),
                optional(format, "strict", bool, where),
                optional(format, "description", str, where),
            )
    raise RequestError("text.format.type: must be text, json_object or json_schema.", param="text.format.type")
