"""The Messages body for an upstream."""

from typing import assert_never

from droid2api.errors import RequestError
from droid2api.formats.anthropic.cache import keep_breakpoints, mark_last, wants_marks
from droid2api.formats.anthropic.request import NAME
from droid2api.formats.anthropic.settings import DEFAULT_MAX_TOKENS, make_room, may_think, thinking_for, with_thinking
from droid2api.hub import fitting
from droid2api.hub import request as hub
from droid2api.hub.encoded import Encoded
from droid2api.hub.media import check_media, takes_media, text_in
from droid2api.hub.tools import CallIds, name_tools, upstream_name, wrapped_arguments, wrapped_tool
from droid2api.wire.fields import Json, parse_arguments

_SERVICE_TIERS = {"auto": "auto", "default": "standard_only"}
_JSON = "Answer with one JSON object and nothing else."
LONGEST_USER = 256


def encode_request(request: hub.Request, target: hub.Target) -> Encoded:
    """The request for an Anthropic upstream. Raises RequestError for content that it cannot express."""
    encoded = Encoded.begun(request)
    body = encoded.body
    usual = min(DEFAULT_MAX_TOKENS, target.profile.max_output_tokens or DEFAULT_MAX_TOKENS)
    limit = fitting.limit_for(encoded, request, target) or target.max_tokens or usual
    body |= {"model": target.id, "max_tokens": limit}
    system = _encode_conversation(encoded, request, target)
    effort = _effort_for(encoded, request, target)
    if request.output:
        _encode_output(encoded, request.output, target, system)
    _encode_tools(encoded, request, target, effort)
    if system:
        body["system"] = system
    if stops := fitting.stops_for(encoded, request, target):
        body["stop_sequences"] = stops
    if request.user:
        body["metadata"] = {"user_id": request.user[:LONGEST_USER]}
        if len(request.user) > LONGEST_USER:
            encoded.repair("user")
    if request.stream:
        body["stream"] = True
    _encode_options(encoded, request, target, effort)
    _encode_effort(encoded, request, target, effort)
    if wants_marks(request, target):
        _ = mark_last(system) or mark_last(body.get("tools", ()))
    keep_breakpoints(encoded, request, target)
    return encoded


def _encode_conversation(encoded: Encoded, request: hub.Request, target: hub.Target) -> list[Json]:
    """Puts the messages into the body, and gives the blocks of the system prompt.

    System messages between turns stay there for models that take them, but only after a user turn, says the API; else
    they go to the top.
    """
    in_place = target.profile.system_messages != "first"
    system: list[Json] = []
    waiting: list[Json] = []
    messages: list[Json] = []
    writer = _MessageWriter(encoded, target)
    for message in fitting.history_for(encoded, request.messages, target, _takes):
        if message.role in ("user", "assistant"):
            _append(messages, message.role, writer.encode(message))
        else:
            waiting += [_encode_text(part) for part in message.parts]
        if not messages:
            system, waiting = system + waiting, []
        elif in_place:
            waiting = _place(messages, waiting)
    if not messages:
        raise RequestError("messages: an anthropic model needs a user message.", param="messages")
    if wants_marks(request, target):
        mark_last(block for message in messages for block in message["content"])
    _fit_end(encoded, messages, target)
    if in_place:
        waiting = _place(messages, waiting)
    if waiting:
        encoded.repair("messages.system_moved", len(waiting))
    encoded.body["messages"] = messages
    return system + waiting


def _place(messages: list[Json], system: list[Json]) -> list[Json]:
    """Put system blocks behind the last message if it is no answer; gives those that must wait for a user turn."""
    if not system or messages[-1]["role"] == "assistant":
        return system
    if messages[-1]["role"] == "user":
        messages.append({"role": "system", "content": []})
    messages[-1]["content"] += system
    return []


def _append(messages: list[Json], role: str, blocks: list[Json]) -> None:
    """Leaving out foreign reasoning can empty a turn or put two turns of one role side by side."""
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"] += blocks
    elif blocks:
        messages.append({"role": role, "content": blocks})


def _fit_end(encoded: Encoded, messages: list[Json], target: hub.Target) -> None:
    """A history that ends with the assistant is a beginning of the answer, which not every model takes."""
    last = messages[-1]
    if last["role"] != "assistant":
        return
    if not target.profile.prefill:
        _say(messages, fitting.CONTINUE)
        encoded.repair("messages.prefill")
    elif not target.profile.prefill_space and last["content"][-1]["type"] == "text":
        text = last["content"][-1]["text"]
        if text != text.rstrip():
            last["content"][-1] |= {"text": text.rstrip()}
            encoded.repair("messages.prefill")


def _say(messages: list[Json], text: str) -> None:
    """At the end of the messages: what comes before may be cached, or be bound to earlier thinking."""
    _append(messages, "user", [{"type": "text", "text": text}])


def _encode_output(encoded: Encoded, output: hub.OutputFormat, target: hub.Target, system: list[Json]) -> None:
    if not output.schema and target.profile.bound_thinking:
        _say(encoded.body["messages"], _JSON)
    elif not output.schema:
        system.append({"type": "text", "text": _JSON})
    else:
        schema = fitting.output_schema_for(encoded, output, target)
        encoded.body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        fitting.drop_output_names(encoded, output)


def _encode_options(encoded: Encoded, request: hub.Request, target: hub.Target, effort: str | None) -> None:
    encoded.body |= fitting.sampling_for(encoded, request, target, effort)
    options = fitting.options_for(encoded, request, target, frozenset(["service_tier", "max_tool_calls"]))
    if (tier := options.get("service_tier")) in _SERVICE_TIERS:
        encoded.body["service_tier"] = _SERVICE_TIERS[tier]
    most = options.get("max_tool_calls")
    searches = [tool for tool in encoded.body.get("tools", ()) if tool.get("type") == _SEARCH_TYPE]
    if searches and type(most) is int:
        searches[0]["max_uses"] = most
    elif most is not None:
        encoded.drop("max_tool_calls")


def _effort_for(encoded: Encoded, request: hub.Request, target: hub.Target) -> str | None:
    effort = fitting.effort_for(encoded, request, target, bool(request.tools))
    asked = effort is not None and effort != "none"
    if asked and target.profile.thinking == "budget" and not may_think(encoded.body["messages"]):
        encoded.repair("thinking")
        return None
    return effort


def _encode_effort(encoded: Encoded, request: hub.Request, target: hub.Target, effort: str | None) -> None:
    """Where the model thinks unasked, its text must be asked for nevertheless: without an effort, as it likes."""
    body, profile = encoded.body, target.profile
    shown: Json = {}
    if request.show_reasoning is not False and profile.thinking_hidden:
        shown = {"display": "summarized"}
    body |= thinking_for(body, effort, profile, shown)
    if shown and effort is None and profile.thinking == "adaptive" and profile.is_reasoning(None):
        body["thinking"] = {"type": "adaptive"} | shown
    make_room(encoded, target)


# -- tools ----------------------------------------------------------------------------------------------------------

_SEARCH_TYPE = "web_search_20250305"


def _encode_tools(encoded: Encoded, request: hub.Request, target: hub.Target, effort: str | None) -> None:
    """Which tools may be called has no field, so the others are not offered.

    But where earlier thinking is bound to the tools they all stay, and the model is told.
    """
    named = name_tools(encoded, request.tools)
    choice = fitting.choice_for(encoded, request, target, effort, named)
    if choice and choice.allowed is not None and not target.profile.bound_thinking:
        named = [(name, tool) for name, tool in named if name in choice.allowed]
    elif choice and choice.allowed is not None:
        encoded.repair("tool_choice")
        choice.said = f"Call no other tools than: {', '.join(sorted(choice.allowed)) or 'none'}. {choice.said}".strip()
    if not named:
        return
    encoded.body["tools"] = [_encode_tool(encoded, name, tool, target) for name, tool in named]
    encoded_choice = _encode_choice(choice)
    if request.parallel_tool_calls is False and encoded_choice["type"] != "none":
        encoded_choice["disable_parallel_tool_use"] = True
    if choice or len(encoded_choice) > 1:
        encoded.body["tool_choice"] = encoded_choice
    if choice and choice.said:
        _say(encoded.body["messages"], choice.said)


def _encode_tool(encoded: Encoded, name: str, tool: hub.Tool, target: hub.Target) -> Json:
    if tool.kind == "web_search":
        search = {"type": _SEARCH_TYPE, "name": "web_search"} | _encode_search(encoded, tool.search or hub.WebSearch())
        return _with_cache(search, tool.cache)
    tool = wrapped_tool(tool)
    strict = tool.strict is True and target.profile.strict_tools
    if tool.strict and not strict:
        encoded.drop("tools.strict")
    schema = fitting.parameters_for(encoded, tool, target, strict)
    encoded_tool: Json = {"name": name, "description": tool.description, "input_schema": schema}
    return _with_cache(encoded_tool | ({"strict": True} if strict else {}), tool.cache)


def _encode_search(encoded: Encoded, search: hub.WebSearch) -> Json:
    if search.context_size:
        encoded.drop("tools.web_search.search_context_size")
    if search.live is False:
        encoded.drop("tools.web_search.external_web_access")
    told: Json = {
        "allowed_domains": search.allowed_domains or None,
        "blocked_domains": search.blocked_domains or None,
        "user_location": {"type": "approximate"} | search.location if search.location else None,
        "max_uses": search.max_uses,
    }
    return {name: value for name, value in told.items() if value is not None}


def _encode_choice(choice: fitting.Choice | None) -> Json:
    if choice is None or choice.mode != "required":
        return {"type": choice.mode if choice else "auto"}
    name = "web_search" if choice.tool and choice.tool.kind == "web_search" else choice.name
    return {"type": "tool", "name": name} if name else {"type": "any"}


# -- messages -------------------------------------------------------------------------------------------------------


def _encode_text(part: hub.Part) -> Json:
    if not isinstance(part, hub.Text | hub.Refusal):
        raise hub.unsupported(part, NAME)
    return _with_cache({"type": "text", "text": part.text}, part.cache if isinstance(part, hub.Text) else None)


def _takes(part: hub.Image | hub.Document, target: hub.Target) -> bool:
    """A text file of any kind is plain text here."""
    return takes_media(part, target) or text_in(part) is not None


def _with_cache(block: Json, cache: str | None) -> Json:
    """Other providers' times to live are half an hour and longer: the long one here."""
    if cache is not None:
        block["cache_control"] = {"type": "ephemeral"} | ({"ttl": "5m" if cache == "5m" else "1h"} if cache else {})
    return block


class _MessageWriter:
    """Writes the blocks of one message after the other; results have their calls' ids."""

    def __init__(self, encoded: Encoded, target: hub.Target) -> None:
        self._encoded = encoded
        self._target = target
        self._ids = CallIds(target.profile.ids, target.profile.longest_id)
        self._calls = False

    def encode(self, message: hub.Message) -> list[Json]:
        self._calls = any(isinstance(part, hub.ToolCall) for part in message.parts)
        return with_thinking(self._encode_parts(message.parts), self._target.profile)

    def _encode_parts(self, parts: list[hub.Part]) -> list[Json]:
        return [block for part in parts for block in self._encode_part(part)]

    def _encode_part(self, part: hub.Part) -> list[Json]:
        """The blocks of one part; what only another provider could read has none."""
        match part:
            case hub.Text() | hub.Refusal():
                self._encoded.drop_state(part, NAME, self._target)
                if not part.text.strip():  # the API refuses it
                    self._encoded.repair("messages.empty_text")
                    return []
                return [_encode_text(part)]
            case hub.Image() | hub.Document():
                return [self._encode_media(part)]
            case hub.Reasoning():
                return self._encode_reasoning(part)
            case hub.ToolCall():
                self._encoded.drop_state(part, NAME, self._target)
                arguments = parse_arguments(wrapped_arguments(part), part.where)
                name = upstream_name(self._encoded, part.name, part.namespace)
                return [{"type": "tool_use", "id": self._ids.of_call(part.id), "name": name, "input": arguments}]
            case hub.ToolResult():
                id = self._ids.of_result(part.call_id)
                content = self._encode_parts(fitting.result_for(self._encoded, part, self._target))
                result: Json = {"type": "tool_result", "tool_use_id": id, "content": content}
                return [_with_cache(result | ({"is_error": True} if part.is_error else {}), part.cache)]
            case hub.Foreign():
                raise hub.unsupported(part, NAME)
            case _:
                assert_never(part)

    def _encode_reasoning(self, part: hub.Reasoning) -> list[Json]:
        profile, data = self._target.profile, self._target.state_data(part.state, NAME)
        if profile.bound_thinking and part.outdated:
            data = None
        if data and "data" in data and profile.replay != "never":
            return [{"type": "redacted_thinking", "data": data["data"]}]
        if data and profile.replay != "never":
            return [{"type": "thinking", "thinking": part.text, "signature": data.get("signature", "")}]
        if profile.replay == "always" and self._calls and part.text:
            return [{"type": "thinking", "thinking": part.text, "signature": ""}]
        self._encoded.drop("messages.reasoning")
        return []

    def _encode_media(self, part: hub.Image | hub.Document) -> Json:
        if (text := text_in(part)) is not None:  # of any kind: it is plain text for Anthropic
            source = {"type": "text", "media_type": "text/plain", "data": text}
        else:
            check_media(part, self._target, NAME)
            source = {"type": "base64", "media_type": part.media_type, "data": part.data}
        if part.url:
            source = {"type": "url", "url": part.url}
        block: Json = {"type": "image" if isinstance(part, hub.Image) else "document", "source": source}
        if isinstance(part, hub.Image) and part.detail not in (None, "auto"):
            self._encoded.drop("messages.image.detail")
        if isinstance(part, hub.Document) and part.name:
            block["title"] = part.name
        return _with_cache(block, part.cache)
