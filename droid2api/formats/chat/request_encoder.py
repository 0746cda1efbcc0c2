"""The Chat Completions body for an upstream."""

from typing import assert_never

from droid2api.formats import openai_shared as shared
from droid2api.formats.chat.request import NAME
from droid2api.formats.chat.settings import reasoning_fields, with_stand_in
from droid2api.hub import fitting
from droid2api.hub import request as hub
from droid2api.hub.encoded import Encoded
from droid2api.hub.history import system_first
from droid2api.hub.media import check_media, takes_media
from droid2api.hub.tools import CallIds, name_tools, upstream_name, wrapped_arguments, wrapped_tool
from droid2api.wire.fields import Json

TYPE = "common"
_OPTIONS = frozenset(
    "frequency_penalty presence_penalty seed logit_bias prediction verbosity service_tier store metadata "
    "prompt_cache_key prompt_cache_retention prompt_cache_options moderation web_search_options min_p".split()
)


def encode_request(request: hub.Request, target: hub.Target) -> Encoded:
    """The request for a Chat upstream. Raises RequestError for content that it cannot express."""
    encoded = Encoded.begun(request)
    encoded.body["model"] = target.id
    _encode_messages(encoded, request, target)
    effort = fitting.effort_for(encoded, request, target, any(tool.kind != "web_search" for tool in request.tools))
    _encode_tools(encoded, request, target, effort)
    _encode_settings(encoded, request, target, effort)
    if request.output and request.output.schema:
        schema = shared.encode_schema(encoded, request.output, target)
        encoded.body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif request.output:
        encoded.body["response_format"] = {"type": "json_object"}
        if not shared.says_json(encoded.body["messages"]):
            encoded.body["messages"].append({"role": "user", "content": shared.SAY_JSON})
            encoded.repair("response_format")
    if request.stream:
        encoded.body["stream"] = True
    if request.stream and fitting.takes_option(target.profile, "stream_options"):
        encoded.body["stream_options"] = {"include_usage": True}
    return encoded


def _encode_settings(encoded: Encoded, request: hub.Request, target: hub.Target, effort: str | None) -> None:
    body, profile = encoded.body, target.profile
    if (limit := fitting.limit_for(encoded, request, target)) is not None:
        body[profile.limit_field] = limit
    if stops := fitting.stops_for(encoded, request, target):
        body["stop"] = stops
    body |= reasoning_fields(profile, effort)
    body |= fitting.sampling_for(encoded, request, target, effort)
    body |= fitting.options_for(encoded, request, target, _OPTIONS)
    if request.user and not fitting.takes_option(profile, "user"):
        encoded.drop("user")
    elif request.user:
        shared.encode_user(encoded, request.user, "user")


# -- tools ----------------------------------------------------------------------------------------------------------


def _encode_tools(encoded: Encoded, request: hub.Request, target: hub.Target, effort: str | None) -> None:
    """Chat has no list of allowed tools that all upstreams know, so the others are not offered."""
    body = encoded.body
    named = [each for each in name_tools(encoded, request.tools) if _is_function(encoded, each[1])]
    choice = fitting.choice_for(encoded, request, target, effort, named)
    if choice and choice.allowed is not None:
        named = [(name, tool) for name, tool in named if name in choice.allowed]
    if not named:
        return
    body["tools"] = [_encode_tool(encoded, name, tool, target) for name, tool in named]
    if request.parallel_tool_calls is not None:
        if fitting.takes_option(target.profile, "parallel_tool_calls"):
            body["parallel_tool_calls"] = request.parallel_tool_calls
        else:
            encoded.drop("parallel_tool_calls")
    if choice and choice.name:
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice:
        body["tool_choice"] = choice.mode
    if choice and choice.said:
        body["messages"].append({"role": "user", "content": choice.said})


def _is_function(encoded: Encoded, tool: hub.Tool) -> bool:
    if tool.kind == "web_search":
        encoded.drop("tools.web_search")
    return tool.kind != "web_search"


def _encode_tool(encoded: Encoded, name: str, tool: hub.Tool, target: hub.Target) -> Json:
    tool = wrapped_tool(tool)
    parameters = fitting.parameters_for(encoded, tool, target)
    function: Json = {"name": name, "description": tool.description, "parameters": parameters}
    strict = fitting.strict_for(encoded, tool.strict, parameters, target, "tools.strict")
    return {"type": "function", "function": function | ({} if strict is None else {"strict": strict})}


# -- messages -------------------------------------------------------------------------------------------------------


def _encode_messages(encoded: Encoded, request: hub.Request, target: hub.Target) -> None:
    messages = fitting.history_for(encoded, request.messages, target, _takes)
    if target.profile.system_messages != "anywhere":
        messages = system_first(encoded, messages, TYPE)
    writer = _MessageWriter(encoded, target)
    written = [each for message in messages for each in writer.encode(message)]
    shared.keep_breakpoints(encoded, request, target, [message["content"] for message in written])
    last = next((message["role"] for message in reversed(written) if message["role"] != "system"), "")
    if last == "assistant" and not target.profile.prefill:
        written.append({"role": "user", "content": fitting.CONTINUE})
        encoded.repair("messages.prefill")
    encoded.body["messages"] = written


class _MessageWriter:
    """Writes one message after the other; results have their calls' ids."""

    def __init__(self, encoded: Encoded, target: hub.Target) -> None:
        self._encoded = encoded
        self._target = target
        self._ids = CallIds(target.profile.ids, target.profile.longest_id)

    def encode(self, message: hub.Message) -> list[Json]:
        match message.role:
            case "system" | "developer":
                return [
                    {"role": "system", "content": "\n\n".join(shared.text_of(part, TYPE) for part in message.parts)}
                ]
            case "assistant":
                answer = self._encode_assistant(message)
                return [answer] if any(answer[name] for name in answer if name != "role") else []
            case "user":
                return self._encode_user(message)
            case _:
                assert_never(message.role)

    def _encode_user(self, message: hub.Message) -> list[Json]:
        """Results are messages of their own. Those are text only, so their files follow in the user's message."""
        messages: list[Json] = []
        files: list[hub.Part] = []
        for part in message.parts:
            if isinstance(part, hub.ToolResult):
                messages.append(self._encode_result(part, files))
        others = files + [part for part in message.parts if not isinstance(part, hub.ToolResult)]
        only = others[0] if len(others) == 1 else None
        if isinstance(only, hub.Text) and (only.cache is None or not self._target.profile.cache_breakpoints):
            messages.append({"role": "user", "content": only.text})
        elif others:
            messages.append({"role": "user", "content": [_encode_part(part, self._target) for part in others]})
        return messages

    def _encode_result(self, result: hub.ToolResult, files: list[hub.Part]) -> Json:
        """A tool's message; what it cannot hold is added to `files`."""
        id = self._ids.of_result(result.call_id)
        content = fitting.result_for(self._encoded, result, self._target, _takes)
        texts = [shared.text_of(item, TYPE) for item in content if not isinstance(item, hub.Image | hub.Document)]
        shown = [item for item in content if isinstance(item, hub.Image | hub.Document)]
        if shown:
            files += [hub.Text(f"Files from the tool result {id}:"), *shown]
            texts.append("The files of this result are in the next user message.")
        text = "\n\n".join(texts)
        return {"role": "tool", "tool_call_id": id, "content": f"Error: {text}" if result.is_error else text}

    def _encode_assistant(self, message: hub.Message) -> Json:
        answer: Json = {"role": "assistant", "content": None}
        texts, calls = [], []
        for part in message.parts:
            match part:
                case hub.Reasoning():
                    self._add_reasoning(answer, part)
                case hub.ToolCall():
                    calls.append(self._encode_call(part))
                case _:
                    self._encoded.drop_state(part, NAME, self._target)
                    texts.append(shared.text_of(part, TYPE))
        if texts or not calls:
            answer["content"] = "".join(texts)
        if calls:
            answer["tool_calls"] = calls
        self._complete_calls(answer, message)
        return answer

    def _add_reasoning(self, answer: Json, part: hub.Reasoning) -> None:
        """Reasoning goes back to who made it, in the field where it came."""
        data = self._target.state_data(part.state, NAME)
        if not data or self._target.profile.replay == "never":
            if self._target.profile.replay != "always":
                self._encoded.drop("messages.reasoning")
            return
        name = data.get("field", "reasoning_content")
        answer[name] = answer.get(name, "") + part.text
        if details := data.get("details"):
            answer["reasoning_details"] = [*answer.get("reasoning_details", ()), *details]

    def _complete_calls(self, answer: Json, message: hub.Message) -> None:
        """What some services want with every turn that called tools, whoever made it: its reasoning, a signature."""
        profile, calls = self._target.profile, answer.get("tool_calls")
        texts = [part.text for part in message.parts if isinstance(part, hub.Reasoning)]
        replayed = answer.get("reasoning_content") or answer.get("reasoning")
        if profile.replay == "always" and calls and not replayed:
            answer["reasoning_content"] = "".join(texts) or " "  # an empty one is refused as none at all
        elif profile.replay == "always" and texts and not replayed:
            self._encoded.drop("messages.reasoning")
        if profile.signed_calls and calls and (signed := with_stand_in(calls)) is not calls:
            answer["tool_calls"] = signed
            self._encoded.repair("messages.tool_call.signature")

    def _encode_call(self, call: hub.ToolCall) -> Json:
        name = upstream_name(self._encoded, call.name, call.namespace)
        function = {"name": name, "arguments": wrapped_arguments(call)}
        encoded_call: Json = {"id": self._ids.of_call(call.id), "type": "function", "function": function}
        data = self._target.state_data(call.state, NAME) or {}
        if extra := data.get("extra_content"):
            encoded_call["extra_content"] = extra
        else:
            self._encoded.drop_state(call, NAME, self._target)
        return encoded_call


def _takes(part: hub.Image | hub.Document, target: hub.Target) -> bool:
    """A file must be in the request: the format has no place for its URL."""
    return takes_media(part, target) and bool(part.data or isinstance(part, hub.Image))


def _encode_part(part: hub.Part, target: hub.Target) -> Json:
    match part:
        case hub.Text():
            return shared.with_breakpoint({"type": "text", "text": part.text}, part.cache)
        case hub.Refusal():
            return {"type": "text", "text": part.text}
        case hub.Image():
            check_media(part, target, TYPE)
            image = {"url": part.href} | ({"detail": part.detail} if part.detail else {})
            return shared.with_breakpoint({"type": "image_url", "image_url": image}, part.cache)
        case hub.Document() if part.data:
            check_media(part, target, TYPE)
            file = {"filename": part.name or "document", "file_data": part.href}
            return shared.with_breakpoint({"type": "file", "file": file}, part.cache)
        case hub.Document() | hub.Foreign() | hub.Reasoning() | hub.ToolCall() | hub.ToolResult():
            raise hub.unsupported(part, TYPE)
        case _:
            assert_never(part)
