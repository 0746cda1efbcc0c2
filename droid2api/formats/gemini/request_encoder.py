"""The generateContent body for an upstream."""

from __future__ import annotations

import math
from typing import assert_never

from droid2api.errors import RequestError
from droid2api.formats.gemini.settings import thinking_config
from droid2api.formats.gemini.words import NAME, STAND_IN
from droid2api.hub import fitting
from droid2api.hub import request as hub
from droid2api.hub.encoded import Encoded
from droid2api.hub.history import system_first
from droid2api.hub.media import check_media
from droid2api.hub.tools import CallIds, name_tools, upstream_name, wrapped_arguments, wrapped_tool
from droid2api.wire.fields import Json, camel, parse_arguments

_OPTIONS = frozenset(["seed", "presence_penalty", "frequency_penalty", "service_tier"])
_SEARCH = {"location": "user_location", "context_size": "search_context_size", "live": "external_web_access"}
"""The names that other formats have for what a search is told."""


def encode_request(request: hub.Request, target: hub.Target) -> Encoded:
    """The request for a Gemini upstream. Raises RequestError for content that it cannot express."""
    encoded = Encoded.begun(request)
    _encode_conversation(encoded, request, target)
    effort = fitting.effort_for(encoded, request, target, bool(request.tools))
    _encode_tools(encoded, request, target, effort)
    if config := _encode_config(encoded, request, target, effort):
        encoded.body["generationConfig"] = config
    unsaid = {"user": request.user, "parallel_tool_calls": request.parallel_tool_calls is False}
    for name, told in (unsaid | {"cache_breakpoints": fitting.cache_lives(request)}).items():
        if told:
            encoded.drop(name)
    return encoded


def _encode_conversation(encoded: Encoded, request: hub.Request, target: hub.Target) -> None:
    contents: list[Json] = []
    writer = _MessageWriter(encoded, target)
    messages = fitting.history_for(encoded, request.messages, target, in_answers=True)
    for message in system_first(encoded, messages, NAME):
        if message.role == "system":
            encoded.body["systemInstruction"] = {"parts": writer.encode(message)}
            continue
        role = "model" if message.role == "assistant" else "user"
        parts = writer.encode(message)
        if contents and contents[-1]["role"] == role:  # what stood between was left out
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    if not contents:
        raise RequestError("messages: a gemini model needs a user message.", param="messages")
    if contents[-1]["role"] == "model" and not target.profile.prefill:
        contents.append({"role": "user", "parts": [{"text": fitting.CONTINUE}]})
        encoded.repair("messages.prefill")
    encoded.body["contents"] = contents


def _encode_config(encoded: Encoded, request: hub.Request, target: hub.Target, effort: str | None) -> Json:
    config: Json = {}
    if (limit := fitting.limit_for(encoded, request, target)) is not None:
        config["maxOutputTokens"] = limit
    if stops := fitting.stops_for(encoded, request, target):
        config["stopSequences"] = stops
    options = fitting.options_for(encoded, request, target, _OPTIONS)
    options |= fitting.sampling_for(encoded, request, target, effort)
    if tier := options.pop("service_tier", None):
        encoded.body["serviceTier"] = "standard" if tier == "default" else tier
    config |= {camel(name): value for name, value in options.items()}
    if request.output:
        config |= _encode_output(encoded, request.output, target)
    thinking = thinking_config(target.profile, effort)
    if target.profile.is_reasoning(effort) and (request.show_reasoning is not False or effort is not None):
        thinking["includeThoughts"] = True
    if thinking:
        config["thinkingConfig"] = thinking
    if limit is not None and (budget := thinking.get("thinkingBudget", 0)) >= limit:
        config["maxOutputTokens"], thinking["thinkingBudget"] = fitting.room_for(target, limit, budget)
        encoded.repair("max_tokens")
    return config


def _encode_output(encoded: Encoded, output: hub.OutputFormat, target: hub.Target) -> Json:
    told: Json = {"responseMimeType": "application/json"}
    if not output.schema:
        return told
    fitting.drop_output_names(encoded, output)
    field = "responseSchema" if target.profile.output_schema == "gemini" else "responseJsonSchema"
    return told | {field: fitting.output_schema_for(encoded, output, target)}


# -- tools ----------------------------------------------------------------------------------------------------------


def _encode_tools(encoded: Encoded, request: hub.Request, target: hub.Target, effort: str | None) -> None:
    named = name_tools(encoded, request.tools)
    functions = [(name, tool) for name, tool in named if tool.kind != "web_search"]
    searches = [tool.search or hub.WebSearch() for _, tool in named if tool.kind == "web_search"]
    if functions and searches and not target.profile.signed_calls:  # both at once came with Gemini 3
        encoded.drop("tools.web_search")
        searches = []
    choice = fitting.choice_for(encoded, request, target, effort, functions)
    tools: list[Json] = []
    if functions:
        declared = [_encode_tool(encoded, name, tool, target) for name, tool in functions]
        tools.append({"functionDeclarations": declared})
    if searches:
        tools.append({"googleSearch": {}})
        for name in hub.WebSearch.__slots__:
            if any(getattr(search, name) is not None for search in searches):
                encoded.drop(f"tools.web_search.{_SEARCH.get(name, name)}")
    config: Json = {"functionCallingConfig": _encode_choice(choice, functions)} if choice else {}
    if functions and searches:
        config["includeServerSideToolInvocations"] = True
    encoded.body |= {name: value for name, value in (("tools", tools), ("toolConfig", config)) if value}
    if choice and choice.said:
        encoded.body["contents"].append({"role": "user", "parts": [{"text": choice.said}]})


def _encode_tool(encoded: Encoded, name: str, tool: hub.Tool, target: hub.Target) -> Json:
    tool = wrapped_tool(tool)
    if tool.strict:
        encoded.drop("tools.strict")
    declared: Json = {"name": name, "description": tool.description}
    schema = fitting.parameters_for(encoded, tool, target)
    field = "parameters" if target.profile.tool_schema == "gemini" else "parametersJsonSchema"
    return declared | ({field: schema} if schema.keys() - {"type", "properties"} or schema.get("properties") else {})


def _encode_choice(choice: fitting.Choice, functions: list[tuple[str, hub.Tool]]) -> Json:
    if choice.mode == "none" or choice.allowed == set():
        return {"mode": "NONE"}
    names = [choice.name] if choice.name else [name for name, _ in functions if name in (choice.allowed or ())]
    mode = "ANY" if choice.mode == "required" else "VALIDATED" if names else "AUTO"
    return {"mode": mode} | ({"allowedFunctionNames": names} if names else {})


# -- messages -------------------------------------------------------------------------------------------------------


class _MessageWriter:
    """Writes the parts of one message after the other; results have the ids and the names of their calls."""

    def __init__(self, encoded: Encoded, target: hub.Target) -> None:
        self._encoded = encoded
        self._target = target
        self._ids = CallIds(target.profile.ids)
        self._calls: dict[str, tuple[int, str]] = {}
        """The place and the name of each call."""
        self._called = False

    def encode(self, message: hub.Message) -> list[Json]:
        """The parts of a message. Results stand in the order of their calls, which older models tell them by."""
        self._called = False
        written = [self._encode_part(part) for part in message.parts]
        ordered = sorted(written, key=self._place)
        if ordered != written:
            self._encoded.repair("messages.result_order")
        return [part for parts in ordered for part in parts]

    def _place(self, parts: list[Json]) -> float:
        response = parts[0].get("functionResponse") if parts else None
        return self._calls.get(response["id"], (0, ""))[0] if response else math.inf

    def _encode_part(self, part: hub.Part) -> list[Json]:
        match part:
            case hub.Text():
                return self._encode_text(part)
            case hub.Refusal():
                return [{"text": part.text}]
            case hub.Image() | hub.Document():
                return [self._encode_media(part)]
            case hub.Reasoning():
                return self._encode_reasoning(part)
            case hub.ToolCall():
                return [self._encode_call(part)]
            case hub.ToolResult():
                return self._encode_result(part)
            case hub.Foreign():
                raise hub.unsupported(part, NAME)
            case _:
                assert_never(part)

    def _encode_text(self, part: hub.Text) -> list[Json]:
        """A text, divided where its signed part begins and ends: a signature goes back in the place that it had."""
        self._encoded.drop_state(part, NAME, self._target)
        data = self._target.state_data(part.state, NAME)
        if not data or "signature" not in data:
            return [{"text": part.text}]
        start, end = data.get("start", 0), data.get("end", len(part.text))
        before, signed, after = part.text[:start], part.text[start:end], part.text[end:]
        parts = [{"text": before}, {"text": signed, "thoughtSignature": data["signature"]}, {"text": after}]
        return [part for part in parts if part != {"text": ""}]

    def _encode_reasoning(self, part: hub.Reasoning) -> list[Json]:
        """Thoughts alone need not go back; what the service signed must."""
        data = self._target.state_data(part.state, NAME)
        if data and "part" in data:
            return [data["part"]]
        if data and "signature" in data:
            return [{"text": part.text, "thought": True, "thoughtSignature": data["signature"]}]
        self._encoded.drop("messages.reasoning")
        return []

    def _encode_call(self, call: hub.ToolCall) -> Json:
        """The first call of a turn must be signed; one that another model made has a stand-in for it."""
        self._encoded.drop_state(call, NAME, self._target)
        id, name = self._ids.of_call(call.id), upstream_name(self._encoded, call.name, call.namespace)
        self._calls[id] = (len(self._calls), name)
        arguments = parse_arguments(wrapped_arguments(call), call.where)
        part: Json = {"functionCall": {"id": id, "name": name, "args": arguments}}
        data = self._target.state_data(call.state, NAME) or {}
        if signature := data.get("signature"):
            part["thoughtSignature"] = signature
        elif self._target.profile.signed_calls and not self._called:
            part["thoughtSignature"] = STAND_IN
        self._called = True
        return part

    def _encode_result(self, result: hub.ToolResult) -> list[Json]:
        """Media stand in the response since Gemini 3, before that beside it."""
        texts: list[str] = []
        media: list[Json] = []
        for part in fitting.result_for(self._encoded, result, self._target):
            if isinstance(part, hub.Text | hub.Refusal):
                texts.append(part.text)
            elif isinstance(part, hub.Image | hub.Document):
                media.append(self._encode_media(part))
            else:
                raise hub.unsupported(part, NAME)
        id = self._ids.of_result(result.call_id)
        said = {"error" if result.is_error else "output": "\n\n".join(texts)}
        response: Json = {"id": id, "name": self._calls.get(id, (0, ""))[1], "response": said}
        if media and self._target.profile.signed_calls:
            return [{"functionResponse": response | {"parts": media}}]
        return [{"functionResponse": response}, *media]

    def _encode_media(self, part: hub.Image | hub.Document) -> Json:
        check_media(part, self._target, NAME)
        if isinstance(part, hub.Image) and part.detail not in (None, "auto"):
            self._encoded.drop("messages.image.detail")
        if isinstance(part, hub.Document) and part.name:
            self._encoded.drop("messages.document.title")
        if not part.url:
            return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
        kind = part.media_type or ("" if isinstance(part, hub.Image) else "application/pdf")
        return {"fileData": {"fileUri": part.url} | ({"mimeType": kind} if kind else {})}
