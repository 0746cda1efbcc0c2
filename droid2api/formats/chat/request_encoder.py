"""The Chat Completions body for an upstream."""

from __future__ import annotations

from typing import assert_never

from droid2api.formats.chat.request import NAME
from droid2api.formats.openai_shared import keep_breakpoints, with_breakpoint
from droid2api.hub.capabilities import refuses_sampling, takes_cache_breakpoints
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
    ToolResult,
    unsupported,
)
from droid2api.hub.tools import name_tools, safe_name, upstream_name, wrapped_arguments, wrapped_tool
from droid2api.wire.fields import Json

TYPE = "common"
_OPTIONS = frozenset(
    "temperature top_p frequency_penalty presence_penalty seed logit_bias logprobs top_logprobs prediction verbosity "
    "service_tier store metadata prompt_cache_key prompt_cache_retention web_search_options top_k min_p".split()
)
MOST_STOPS = 4


def encode_request(request: Request, target: Target) -> Encoded:
    """The request for a Chat upstream. Raises RequestError for content that it cannot express."""
    encoded = Encoded.begun(request)
    body = encoded.body
    messages = [each for message in request.messages for each in _encode_message(encoded, message, target)]
    body |= {"model": target.id, "messages": messages}
    keep_breakpoints(encoded, request, target, [message["content"] for message in messages])
    _encode_tools(encoded, request)
    _encode_settings(encoded, request, target)
    if request.output:
        body["response_format"] = _encode_output(request.output)
    if request.user:
        body["user"] = safe_name(request.user)
    if request.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return encoded


def _encode_settings(encoded: Encoded, request: Request, target: Target) -> None:
    body, reasons = encoded.body, refuses_sampling(target.id)
    if request.max_tokens is not None:
        limit = min(request.max_tokens, target.max_tokens or request.max_tokens)
        body["max_completion_tokens" if reasons else "max_tokens"] = limit
    if request.stop and (reasons or len(request.stop) > MOST_STOPS):
        encoded.local_stop = list(request.stop)
    elif request.stop:
        body["stop"] = list(request.stop)
    if request.effort:
        body["reasoning_effort"] = request.effort
    for name, value in request.options.items():
        if name in _OPTIONS and not (reasons and name in ("temperature", "top_p")):
            body[name] = value
        else:
            encoded.drop(name)


def _encode_output(output: OutputFormat) -> Json:
    if not output.schema:
        return {"type": "json_object"}
    given: Json = {"strict": output.strict, "description": output.description}
    schema: Json = {"name": output.name, "schema": output.schema}
    schema |= {name: value for name, value in given.items() if value is not None}
    return {"type": "json_schema", "json_schema": schema}


def _encode_tools(encoded: Encoded, request: Request) -> None:
    body, choice = encoded.body, request.tool_choice
    named = name_tools(encoded, request.tools)
    tools = [_encode_tool(name, tool) for name, tool in named if _is_offered(encoded, request, tool)]
    if not tools:
        return
    body["tools"] = tools
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if choice and choice.name:
        body["tool_choice"] = {"type": "function", "function": {"name": upstream_name(encoded, choice.name)}}
    elif choice:
        body["tool_choice"] = choice.mode


def _is_offered(encoded: Encoded, request: Request, tool: Tool) -> bool:
    """Chat has no list of allowed tools that all upstreams know, so the others are not offered."""
    if tool.kind == "web_search":
        encoded.drop("tools.web_search")
        return False
    allowed = request.tool_choice.allowed if request.tool_choice else None
    return allowed is None or tool.name in allowed


def _encode_tool(name: str, tool: Tool) -> Json:
    tool = wrapped_tool(tool)
    parameters = tool.parameters or {"type": "object", "properties": {}}
    function: Json = {"name": name, "description": tool.description, "parameters": parameters}
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


# -- messages -------------------------------------------------------------------------------------------------------


def _encode_message(encoded: Encoded, message: Message, target: Target) -> list[Json]:
    match message.role:
        case "system" | "developer":
            return [{"role": "system", "content": "\n\n".join(_text_of(part) for part in message.parts)}]
        case "assistant":
            return [_encode_assistant(encoded, message, target)]
        case "user":
            return _encode_user(message, target)
        case _:
            assert_never(message.role)


def _encode_user(message: Message, target: Target) -> list[Json]:
    """Results are messages of their own. Those are text only, so their files follow in the user's message."""
    messages: list[Json] = []
    files: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            messages.append(_encode_result(part, files))
    others = files + [part for part in message.parts if not isinstance(part, ToolResult)]
    only = others[0] if len(others) == 1 else None
    if isinstance(only, Text) and (only.cache is None or not takes_cache_breakpoints(target.id)):
        messages.append({"role": "user", "content": only.text})
    elif others:
        messages.append({"role": "user", "content": [_encode_part(part) for part in others]})
    return messages


def _encode_result(result: ToolResult, files: list[Part]) -> Json:
    """A tool's message; what it cannot hold is added to `files`."""
    id = safe_name(result.call_id)
    texts = [_text_of(item) for item in result.content if not isinstance(item, Image | Document)]
    shown = [item for item in result.content if isinstance(item, Image | Document)]
    if shown:
        files += [Text(f"Files from the tool result {id}:"), *shown]
        texts.append("The files of this result are in the next user message.")
    text = "\n\n".join(texts)
    return {"role": "tool", "tool_call_id": id, "content": f"Error: {text}" if result.is_error else text}


def _encode_assistant(encoded: Encoded, message: Message, target: Target) -> Json:
    answer: Json = {"role": "assistant", "content": None}
    texts, calls = [], []
    for part in message.parts:
        match part:
            case Reasoning():
                _add_reasoning(answer, part, target)
            case ToolCall():
                calls.append(_encode_call(encoded, part, target))
            case _:
                texts.append(_text_of(part))
    if texts or not calls:
        answer["content"] = "".join(texts)
    if calls:
        answer["tool_calls"] = calls
    return answer


def _add_reasoning(answer: Json, part: Reasoning, target: Target) -> None:
    """Reasoning goes back to who made it, in the field where it came."""
    data = target.state_data(part.state, NAME)
    if not data:
        return
    name = data["field"]
    answer[name] = answer.get(name, "") + part.text
    if details := data.get("details"):
        answer["reasoning_details"] = [*answer.get("reasoning_details", ()), *details]


def _encode_call(encoded: Encoded, call: ToolCall, target: Target) -> Json:
    name = upstream_name(encoded, call.name, call.namespace)
    function = {"name": name, "arguments": wrapped_arguments(call)}
    encoded_call: Json = {"id": safe_name(call.id), "type": "function", "function": function}
    data = target.state_data(call.state, NAME) or {}
    if extra := data.get("extra_content"):
        encoded_call["extra_content"] = extra
    return encoded_call


def _text_of(part: Part) -> str:
    if isinstance(part, Text | Refusal):
        return part.text
    raise unsupported(part, TYPE)


def _encode_part(part: Part) -> Json:
    match part:
        case Text():
            return with_breakpoint({"type": "text", "text": part.text}, part.cache)
        case Refusal():
            return {"type": "text", "text": part.text}
        case Image():
            image = {"url": part.href} | ({"detail": part.detail} if part.detail else {})
            return with_breakpoint({"type": "image_url", "image_url": image}, part.cache)
        case Document() if part.data:
            file = {"filename": part.name or "document", "file_data": part.href}
            return with_breakpoint({"type": "file", "file": file}, part.cache)
        case Document() | Foreign() | Reasoning() | ToolCall() | ToolResult():
            raise unsupported(part, TYPE)
        case _:
            assert_never(part)
