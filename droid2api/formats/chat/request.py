"""Requests of the Chat Completions format."""

from __future__ import annotations

from droid2api.errors import RequestError
from droid2api.formats.openai_shared import keep_breakpoints, with_breakpoint
from droid2api.hub.capabilities import refuses_sampling, takes_cache_breakpoints
from droid2api.hub.events import State
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
    split_data_url,
    unsupported,
)
from droid2api.hub.tools import register_tools, safe_name, wire_name, wrapped_arguments, wrapped_tool
from droid2api.wire.fields import Json, objects, optional, required, strings, wrong

NAME = "chat"


_HANDLED = frozenset(
    "model messages stream stream_options tools tool_choice parallel_tool_calls max_tokens max_completion_tokens stop "
    "reasoning_effort response_format user safety_identifier n modalities audio functions function_call".split()
)
_OPTIONS = frozenset(
    "temperature top_p frequency_penalty presence_penalty seed logit_bias logprobs top_logprobs prediction verbosity "
    "service_tier store metadata prompt_cache_key prompt_cache_retention web_search_options top_k min_p".split()
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
        messages=[_decode_message(where, message) for where, message in objects(body.get("messages"), "messages")],
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
    id = required(call, "id", str, f"{where}.")
    if custom := optional(call, "custom", dict, f"{where}."):
        path = f"{where}.custom."
        return ToolCall(id, required(custom, "name", str, path), optional(custom, "input", str, path) or "", True)
    function, path = required(call, "function", dict, f"{where}."), f"{where}.function."
    arguments = optional(function, "arguments", str, path) or ""
    return ToolCall(id, required(function, "name", str, path), arguments, where=where)


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


def encode_request(request: Request, target: Target) -> Json:
    """The body for a Chat upstream. Raises RequestError for content that it cannot express."""
    body: Json = {"model": target.id, "messages": []}
    for message in request.messages:
        body["messages"] += _encode_message(request, message, target)
    keep_breakpoints(request, target, [message["content"] for message in body["messages"]])
    if tools := [_encode_tool(name, tool) for name, tool in register_tools(request) if _is_offered(request, tool)]:
        body["tools"] = tools
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
        if choice := request.tool_choice:
            body["tool_choice"] = choice.mode
            if choice.name:
                body["tool_choice"] = {"type": "function", "function": {"name": wire_name(request, choice.name)}}
    reasons = refuses_sampling(target.id)
    if request.max_tokens is not None:
        limit = min(request.max_tokens, target.max_tokens or request.max_tokens)
        body["max_completion_tokens" if reasons else "max_tokens"] = limit
    if request.stop and (reasons or len(request.stop) > 4):
        request.local_stop = request.stop
    elif request.stop:
        body["stop"] = request.stop
    if request.effort:
        body["reasoning_effort"] = request.effort
    if output := request.output:
        given: Json = {"strict": output.strict, "description": output.description}
        schema: Json = {"name": output.name, "schema": output.schema}
        schema |= {name: value for name, value in given.items() if value is not None}
        json_schema = {"type": "json_schema", "json_schema": schema}
        body["response_format"] = json_schema if output.schema else {"type": "json_object"}
    if request.user:
        body["user"] = safe_name(request.user)
    for name, value in request.options.items():
        if name in _OPTIONS and not (reasons and name in ("temperature", "top_p")):
            body[name] = value
        else:
            request.drop(name)
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body


def _is_offered(request: Request, tool: Tool) -> bool:
    """Chat has no list of allowed tools that all upstreams know, so the others are not offered."""
    if tool.kind == "web_search":
        request.drop("tools.web_search")
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


def _encode_message(request: Request, message: Message, target: Target) -> list[Json]:
    if message.role in ("system", "developer"):
        return [{"role": "system", "content": "\n\n".join(_text_of(part) for part in message.parts)}]
    if message.role == "assistant":
        return [_encode_assistant(request, message, target)]
    messages: list[Json] = []
    media: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            texts = [_text_of(item) for item in part.content if not isinstance(item, Image | Document)]
            shown = [item for item in part.content if isinstance(item, Image | Document)]
            if shown:
                media += [Text(f"Files from the tool result {safe_name(part.call_id)}:"), *shown]
                texts.append("The files of this result are in the next user message.")
            text = "\n\n".join(texts)
            content = f"Error: {text}" if part.is_error else text
            messages.append({"role": "tool", "tool_call_id": safe_name(part.call_id), "content": content})
    others = media + [part for part in message.parts if not isinstance(part, ToolResult)]
    only = others[0] if len(others) == 1 else None
    if isinstance(only, Text) and (only.cache is None or not takes_cache_breakpoints(target.id)):
        messages.append({"role": "user", "content": only.text})
    elif others:
        messages.append({"role": "user", "content": [_encode_part(part) for part in others]})
    return messages


def _text_of(part: Part) -> str:
    if isinstance(part, Text | Refusal):
        return part.text
    raise unsupported(part, "common")


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
        case _:
            raise unsupported(part, "common")


def _encode_assistant(request: Request, message: Message, target: Target) -> Json:
    encoded: Json = {"role": "assistant", "content": None}
    texts, calls = [], []
    for part in message.parts:
        match part:
            case Reasoning():
                if data := part.data_for(NAME, target):
                    encoded[data["field"]] = encoded.get(data["field"], "") + part.text
                    encoded.setdefault("reasoning_details", []).extend(data.get("details", ()))
            case ToolCall():
                function = {"name": wire_name(request, part.name, part.namespace), "arguments": wrapped_arguments(part)}
                calls.append({"id": safe_name(part.id), "type": "function", "function": function})
            case _:
                texts.append(_text_of(part))
    if not encoded.get("reasoning_details"):
        encoded.pop("reasoning_details", None)
    if texts or not calls:
        encoded["content"] = "".join(texts)
    if calls:
        encoded["tool_calls"] = calls
    return encoded
