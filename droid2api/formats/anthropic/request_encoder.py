"""The Messages body for an upstream."""

from __future__ import annotations

from typing import assert_never

from droid2api.errors import RequestError
from droid2api.formats.anthropic.request import NAME
from droid2api.formats.anthropic.settings import DEFAULT_MAX_TOKENS, fit_to_thinking, thinking_for
from droid2api.hub.capabilities import takes_system_messages
from droid2api.hub.encoded import Encoded
from droid2api.hub.request import (
    Document,
    Foreign,
    Image,
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
from droid2api.hub.tools import name_tools, safe_name, upstream_name, wrapped_arguments, wrapped_tool
from droid2api.wire.fields import Json, parse_arguments

_OPTIONS = frozenset(["temperature", "top_p", "top_k"])
_SERVICE_TIERS = {"auto": "auto", "default": "standard_only"}


def encode_request(request: Request, target: Target) -> Encoded:
    """The request for an Anthropic upstream. Raises RequestError for content that it cannot express."""
    encoded = Encoded.begun(request)
    body = encoded.body
    limit = target.max_tokens or DEFAULT_MAX_TOKENS
    body |= {"model": target.id, "max_tokens": min(request.max_tokens or limit, target.max_tokens or 1 << 30)}
    system = _encode_conversation(encoded, request, target)
    if request.output and request.output.schema is None:
        system.append({"type": "text", "text": "Answer with one JSON object and nothing else."})
    elif request.output:
        body["output_config"] = {"format": {"type": "json_schema", "schema": request.output.schema}}
    _encode_tools(encoded, request, target, system)
    if system:
        body["system"] = system
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.user:
        body["metadata"] = {"user_id": request.user[:256]}
    if request.stream:
        body["stream"] = True
    _encode_options(encoded, request, target)
    _encode_effort(encoded, request, target)
    return encoded


def _encode_conversation(encoded: Encoded, request: Request, target: Target) -> list[Json]:
    """Puts the messages into the body, and gives the blocks of the system prompt.

    System messages between turns stay there for models that take them, but only after a user turn, says the API; else
    they go to the top.
    """
    system: list[Json] = []
    waiting: list[Json] = []
    messages: list[Json] = []
    for message in request.messages:
        if message.role in ("user", "assistant"):
            blocks = [block for part in message.parts for block in _encode_part(encoded, part, target)]
            _append(messages, message.role, blocks)
        else:
            waiting += [_encode_text(part) for part in message.parts]
        if waiting and messages and messages[-1]["role"] == "user" and takes_system_messages(target.id):
            messages.append({"role": "system", "content": waiting})
            waiting = []
        elif waiting and not messages:
            system, waiting = system + waiting, []
    if waiting:
        encoded.repair("messages.system_moved", len(waiting))
    if not messages:
        raise RequestError("messages: an anthropic model needs a user message.", param="messages")
    encoded.body["messages"] = messages
    return system + waiting


def _append(messages: list[Json], role: str, blocks: list[Json]) -> None:
    """Leaving out foreign reasoning can empty a turn or put two turns of one role side by side."""
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"] += blocks
    elif blocks:
        messages.append({"role": role, "content": blocks})


def _encode_options(encoded: Encoded, request: Request, target: Target) -> None:
    body = encoded.body
    for name, value in request.options.items():
        if name in _OPTIONS and target.thinking != "adaptive":
            body[name] = value
        elif name == "service_tier" and str(value) in _SERVICE_TIERS:
            body[name] = _SERVICE_TIERS[str(value)]
        else:
            encoded.drop(name)
    if body.get("temperature", 0) > 1:
        body["temperature"] = 1
        encoded.repair("temperature")
    if "temperature" in body and "top_p" in body:  # models since Claude 4.1 take only one of the two
        del body["top_p"]
        encoded.drop("top_p")


def _encode_effort(encoded: Encoded, request: Request, target: Target) -> None:
    """The client's effort; the model's own level is put in later, for both lanes, but what it costs is told here."""
    body = encoded.body
    effort = request.effort if target.reasoning == "auto" else target.reasoning
    if not effort or effort == "off":
        return
    body |= thinking_for(body, effort, target)
    fit_to_thinking(encoded, target)


# -- tools ----------------------------------------------------------------------------------------------------------


def _encode_tools(encoded: Encoded, request: Request, target: Target, system: list[Json]) -> None:
    choice = request.tool_choice
    allowed = choice.allowed if choice else None
    tools = [
        _encode_tool(name, tool)
        for name, tool in name_tools(encoded, request.tools)
        if allowed is None or tool.name in allowed
    ]
    if not tools:
        return
    encoded.body["tools"] = tools
    encoded_choice = _encode_choice(encoded, choice, target, system)
    if request.parallel_tool_calls is False and encoded_choice["type"] != "none":
        encoded_choice["disable_parallel_tool_use"] = True
    if choice or len(encoded_choice) > 1:
        encoded.body["tool_choice"] = encoded_choice


def _encode_tool(name: str, tool: Tool) -> Json:
    if tool.kind == "web_search":
        return {"type": "web_search_20250305", "name": "web_search"}
    tool = wrapped_tool(tool)
    schema = {"type": "object", "properties": {}} | (tool.parameters or {})
    return _with_cache({"name": name, "description": tool.description, "input_schema": schema}, tool.cache)


def _encode_choice(encoded: Encoded, choice: ToolChoice | None, target: Target, system: list[Json]) -> Json:
    if choice is None or choice.mode == "auto":
        return {"type": "auto"}
    if choice.mode == "none":
        return {"type": "none"}
    name = upstream_name(encoded, choice.name) if choice.name else ""
    if target.thinking == "adaptive":  # the newest of these models refuse to be forced, thinking or not
        encoded.repair("tool_choice")
        system.append({"type": "text", "text": f"Call {f'the tool {name}' if name else 'one of the tools'} now."})
        return {"type": "auto"}
    return {"type": "tool", "name": name} if name else {"type": "any"}


# -- messages -------------------------------------------------------------------------------------------------------


def _encode_text(part: Part) -> Json:
    if not isinstance(part, Text | Refusal):
        raise unsupported(part, NAME)
    return _with_cache({"type": "text", "text": part.text}, part.cache if isinstance(part, Text) else None)


def _with_cache(block: Json, cache: str | None) -> Json:
    """Other providers' times to live are half an hour and longer: the long one here."""
    if cache is not None:
        block["cache_control"] = {"type": "ephemeral"} | ({"ttl": "5m" if cache == "5m" else "1h"} if cache else {})
    return block


def _encode_part(encoded: Encoded, part: Part, target: Target) -> list[Json]:
    """The blocks of one part; reasoning of another provider has none."""
    match part:
        case Text() | Refusal():
            return [_encode_text(part)] if part.text.strip() else []  # text of white space only is refused
        case Image() | Document():
            return [_encode_media(part)]
        case Reasoning():
            data = target.state_data(part.state, NAME)
            if not data:
                return []
            if "data" in data:
                return [{"type": "redacted_thinking", "data": data["data"]}]
            return [{"type": "thinking", "thinking": part.text, "signature": data["signature"]}]
        case ToolCall():
            arguments = parse_arguments(wrapped_arguments(part), part.where)
            name = upstream_name(encoded, part.name, part.namespace)
            return [{"type": "tool_use", "id": safe_name(part.id), "name": name, "input": arguments}]
        case ToolResult():
            content = [block for item in part.content for block in _encode_part(encoded, item, target)]
            result: Json = {"type": "tool_result", "tool_use_id": safe_name(part.call_id), "content": content}
            return [_with_cache(result | ({"is_error": True} if part.is_error else {}), part.cache)]
        case Foreign():
            raise unsupported(part, NAME)
        case _:
            assert_never(part)


def _encode_media(part: Image | Document) -> Json:
    source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    if part.url:
        source = {"type": "url", "url": part.url}
    block: Json = {"type": "image" if isinstance(part, Image) else "document", "source": source}
    if isinstance(part, Document) and part.media_type.startswith("text/"):
        raise unsupported(part, NAME)
    if isinstance(part, Document) and part.name:
        block["title"] = part.name
    return _with_cache(block, part.cache)
