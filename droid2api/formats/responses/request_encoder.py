"""The Responses body for an upstream."""

from __future__ import annotations

from typing import assert_never

from droid2api.formats.openai_shared import keep_breakpoints, with_breakpoint
from droid2api.formats.responses.request import ENCRYPTED_REASONING, NAME
from droid2api.hub.capabilities import never_reasons, openai_effort, refuses_sampling
from droid2api.hub.encoded import Encoded
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
    ToolChoice,
    ToolResult,
    unsupported,
)
from droid2api.hub.tools import name_tools, safe_name, upstream_name
from droid2api.wire.fields import Json

TYPE = "openai"
SMALLEST_LIMIT = 16
"""OpenAI refuses a smaller max_output_tokens."""
_OPTIONS = frozenset("temperature top_p service_tier store metadata prompt_cache_key".split())


def encode_request(request: Request, target: Target) -> Encoded:
    """The request for a Responses upstream. Raises RequestError for content that it cannot express.

    Nothing is stored upstream unless the client asked for it, so reasoning comes back encrypted, to be sent again.
    """
    encoded = Encoded.begun(request)
    body = encoded.body
    body |= {"model": target.id, "input": [], "store": False}
    _encode_conversation(encoded, request, target)
    _encode_tools(encoded, request)
    if not never_reasons(target.id):
        body["include"] = [ENCRYPTED_REASONING]
    if request.max_tokens is not None:
        limit = min(request.max_tokens, target.max_tokens or request.max_tokens)
        body["max_output_tokens"] = max(limit, SMALLEST_LIMIT)
    if request.effort and (effort := openai_effort(target.id, request.effort)):
        body["reasoning"] = {"effort": effort} | ({"summary": "auto"} if effort != "none" else {})
    if request.user:
        body["safety_identifier"] = safe_name(request.user)
    encoded.local_stop = list(request.stop)
    _encode_options(encoded, request, target)
    if request.stream:
        body["stream"] = True
    return encoded


def _encode_conversation(encoded: Encoded, request: Request, target: Target) -> None:
    body, items = encoded.body, encoded.body["input"]
    leading: list[str] = []
    for message in request.messages:
        if message.role in ("system", "developer") and not items:
            leading += [_text_of(part) for part in message.parts]
        else:
            items += _encode_message(encoded, message, target)
    keep_breakpoints(encoded, request, target, [item.get("content") or item.get("output") for item in items])
    if leading and items:
        body["instructions"] = "\n\n".join(leading)
    elif leading:  # there must be some input
        items.append({"type": "message", "role": "developer", "content": "\n\n".join(leading)})


def _encode_options(encoded: Encoded, request: Request, target: Target) -> None:
    text: Json = {}
    if request.output:
        text["format"] = _encode_output(request.output)
    reasons = refuses_sampling(target.id)
    for name, value in request.options.items():
        if name == "verbosity":
            text["verbosity"] = value
        elif name in _OPTIONS and not (reasons and name in ("temperature", "top_p")):
            encoded.body[name] = value
        else:
            encoded.drop(name)
    if text:
        encoded.body["text"] = text


def _encode_output(output: OutputFormat) -> Json:
    if output.schema is None:
        return {"type": "json_object"}
    format: Json = {"type": "json_schema", "name": output.name, "schema": output.schema, "strict": bool(output.strict)}
    return format | ({"description": output.description} if output.description else {})


def _encode_tools(encoded: Encoded, request: Request) -> None:
    tools = [_encode_tool(name, tool) for name, tool in name_tools(encoded, request.tools)]
    if not tools:
        return
    encoded.body["tools"] = tools
    if request.parallel_tool_calls is not None:
        encoded.body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.tool_choice:
        encoded.body["tool_choice"] = _encode_choice(encoded, request.tool_choice, tools)


def _encode_tool(name: str, tool: Tool) -> Json:
    match tool.kind:
        case "web_search":
            return {"type": "web_search"}
        case "custom":
            grammar = {"format": {"type": "grammar", **tool.grammar}} if tool.grammar else {}
            return {"type": "custom", "name": name, "description": tool.description, **grammar}
        case "function":
            parameters = tool.parameters or {"type": "object", "properties": {}}
            function = {"type": "function", "name": name, "description": tool.description, "parameters": parameters}
            # strict is the API's default and rewrites schemas that were not made for it
            return function | {"strict": bool(tool.strict)}
        case _:
            assert_never(tool.kind)


def _encode_choice(encoded: Encoded, choice: ToolChoice, tools: list[Json]) -> object:
    if choice.allowed is not None:
        allowed = {upstream_name(encoded, name) for name in choice.allowed}
        named = [{"type": tool["type"], "name": tool["name"]} for tool in tools if tool.get("name") in allowed]
        return {"type": "allowed_tools", "mode": choice.mode, "tools": named}
    if choice.name:
        name = upstream_name(encoded, choice.name)
        kind = next((tool["type"] for tool in tools if tool.get("name") == name), "function")
        return {"type": kind, "name": name}
    return choice.mode


# -- messages -------------------------------------------------------------------------------------------------------


def _encode_message(encoded: Encoded, message: Message, target: Target) -> list[Json]:
    items: list[Json] = []
    role = "developer" if message.role == "system" else message.role
    for part in message.parts:
        match part:
            case ToolCall():
                items.append(_encode_call(encoded, part))
            case ToolResult():
                kind = "custom_tool_call_output" if part.custom else "function_call_output"
                items.append({"type": kind, "call_id": safe_name(part.call_id), "output": _encode_result(part)})
            case Reasoning():
                if data := target.state_data(part.state, NAME):
                    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
                    items.append({"type": "reasoning", "summary": summary, **data})
            case _ if role == "assistant":
                items.append(_encode_said(part, target))
            case _ if items and items[-1].get("role") == role:
                items[-1]["content"].append(_encode_part(part))
            case _:
                items.append({"type": "message", "role": role, "content": [_encode_part(part)]})
    if items and items[-1]["type"] == "reasoning":
        items.pop()  # refused without the item that it led to
    return items


def _encode_said(part: Part, target: Target) -> Json:
    """What the model said. Its `phase` is told again to who gave it."""
    said: Json = {"type": "message", "role": "assistant", "content": _text_of(part)}
    data = (target.state_data(part.state, NAME) if isinstance(part, Text) else None) or {}
    return said | ({"phase": data["phase"]} if "phase" in data else {})


def _encode_call(encoded: Encoded, call: ToolCall) -> Json:
    name, id = upstream_name(encoded, call.name, call.namespace), safe_name(call.id)
    if call.custom:
        return {"type": "custom_tool_call", "call_id": id, "name": name, "input": call.arguments}
    return {"type": "function_call", "call_id": id, "name": name, "arguments": call.arguments or "{}"}


def _encode_result(result: ToolResult) -> object:
    if all(isinstance(part, Text) for part in result.content):
        text = "\n\n".join(_text_of(part) for part in result.content)
        return f"Error: {text}" if result.is_error else text
    error = [{"type": "input_text", "text": "Error:"}] if result.is_error else []
    return error + [_encode_part(part) for part in result.content]


def _text_of(part: Part) -> str:
    if isinstance(part, Text | Refusal):
        return part.text
    raise unsupported(part, TYPE)


def _encode_part(part: Part) -> Json:
    match part:
        case Text():
            return with_breakpoint({"type": "input_text", "text": part.text}, part.cache)
        case Refusal():
            return {"type": "input_text", "text": part.text}
        case Image():
            image = {"type": "input_image", "image_url": part.href, "detail": part.detail or "auto"}
            return with_breakpoint(image, part.cache)
        case Document():
            file = {"filename": part.name or "document.pdf", "file_data": part.href}
            return with_breakpoint({"type": "input_file"} | ({"file_url": part.url} if part.url else file), part.cache)
        case Foreign() | Reasoning() | ToolCall() | ToolResult():
            raise unsupported(part, TYPE)
        case _:
            assert_never(part)
