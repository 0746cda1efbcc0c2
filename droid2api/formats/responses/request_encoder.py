"""The Responses body for an upstream."""

from typing import assert_never

from droid2api.formats import openai_shared as shared
from droid2api.formats.responses.request import ENCRYPTED_REASONING, NAME
from droid2api.formats.responses.settings import reasoning_fields
from droid2api.hub import fitting
from droid2api.hub import request as hub
from droid2api.hub.encoded import Encoded
from droid2api.hub.history import system_first
from droid2api.hub.media import check_media
from droid2api.hub.tools import CallIds, name_tools, upstream_name
from droid2api.wire.fields import Json

TYPE = "openai"
SMALLEST_LIMIT = 16
"""OpenAI refuses a smaller max_output_tokens."""
_OPTIONS = frozenset(
    "service_tier store metadata prompt_cache_key prompt_cache_retention prompt_cache_options moderation "
    "max_tool_calls".split()
)


def encode_request(request: hub.Request, target: hub.Target) -> Encoded:
    """The request for a Responses upstream. Raises RequestError for content that it cannot express.

    Nothing is stored upstream unless the client asked for it, so reasoning comes back encrypted, to be sent again.
    """
    encoded = Encoded.begun(request)
    body = encoded.body
    body |= {"model": target.id, "input": [], "store": False}
    _encode_conversation(encoded, request, target)
    effort = fitting.effort_for(encoded, request, target, bool(request.tools))
    _encode_tools(encoded, request, target, effort)
    if target.profile.reasons != "never":
        body["include"] = [ENCRYPTED_REASONING]
    if (limit := fitting.limit_for(encoded, request, target, SMALLEST_LIMIT)) is not None:
        body["max_output_tokens"] = limit
    body |= reasoning_fields(target.profile, effort)
    if effort is None and request.show_reasoning and target.profile.is_reasoning(None):
        body["reasoning"] = {"summary": "auto"}
    if request.user:
        shared.encode_user(encoded, request.user, "safety_identifier")
    if stops := fitting.stops_for(encoded, request, target):
        encoded.local_stop = [*encoded.local_stop, *stops]
    _encode_options(encoded, request, target, effort)
    if request.stream:
        body["stream"] = True
    return encoded


def _encode_conversation(encoded: Encoded, request: hub.Request, target: hub.Target) -> None:
    body, items = encoded.body, encoded.body["input"]
    messages = fitting.history_for(encoded, request.messages, target)
    if target.profile.system_messages != "anywhere":
        messages = system_first(encoded, messages, TYPE)
    leading: list[str] = []
    writer = _MessageWriter(encoded, target)
    for message in messages:
        if message.role in ("system", "developer") and not items:
            leading += [shared.text_of(part, TYPE) for part in message.parts]
        else:
            items += writer.encode(message)
    shared.keep_breakpoints(encoded, request, target, [item.get("content") or item.get("output") for item in items])
    if items and items[-1].get("role") == "assistant" and not target.profile.prefill:
        items.append(_developer(fitting.CONTINUE) | {"role": "user"})
        encoded.repair("messages.prefill")
    any_json = request.output is not None and not request.output.schema
    if leading and items and not any_json:
        body["instructions"] = "\n\n".join(leading)
    elif leading:  # there must be some input, and "json" must stand in it where any JSON is asked for
        items.insert(0, _developer("\n\n".join(leading)))
    if any_json and not shared.says_json(items):
        items.append(_developer(shared.SAY_JSON))
        encoded.repair("response_format")


def _developer(text: str) -> Json:
    return {"type": "message", "role": "developer", "content": text}


def _encode_options(encoded: Encoded, request: hub.Request, target: hub.Target, effort: str | None) -> None:
    body = encoded.body
    text: Json = {}
    if request.output and request.output.schema:
        schema = shared.encode_schema(encoded, request.output, target)
        text["format"] = {"type": "json_schema", "strict": False} | schema
    elif request.output:
        text["format"] = {"type": "json_object"}
    body |= fitting.sampling_for(encoded, request, target, effort, ("temperature", "top_p"))
    options = fitting.options_for(encoded, request, target, _OPTIONS | {"verbosity"})
    if "verbosity" in options:
        text["verbosity"] = options.pop("verbosity")
    body |= options
    if text:
        body["text"] = text


# -- tools ----------------------------------------------------------------------------------------------------------


def _encode_tools(encoded: Encoded, request: hub.Request, target: hub.Target, effort: str | None) -> None:
    body, named = encoded.body, name_tools(encoded, request.tools)
    choice = fitting.choice_for(encoded, request, target, effort, named)
    if not named:
        return
    body["tools"] = [_encode_tool(encoded, name, tool, target) for name, tool in named]
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if choice:
        body["tool_choice"] = _encode_choice(choice, named)
    if choice and choice.said:
        body["input"].append(_developer(choice.said))
    searches = [tool.search for _, tool in named if tool.search]
    if searches and searches[0].max_uses is not None:  # it is the only tool that the service runs
        body["max_tool_calls"] = searches[0].max_uses


def _encode_tool(encoded: Encoded, name: str, tool: hub.Tool, target: hub.Target) -> Json:
    match tool.kind:
        case "web_search":
            return {"type": "web_search"} | _encode_search(encoded, tool.search or hub.WebSearch())
        case "custom":
            grammar = {"format": {"type": "grammar", **tool.grammar}} if tool.grammar else {}
            return {"type": "custom", "name": name, "description": tool.description, **grammar}
        case "function":
            parameters = fitting.parameters_for(encoded, tool, target)
            function = {"type": "function", "name": name, "description": tool.description, "parameters": parameters}
            # strict is the API's default and rewrites schemas that were not made for it
            return function | {
                "strict": bool(fitting.strict_for(encoded, tool.strict, parameters, target, "tools.strict"))
            }
        case _:
            assert_never(tool.kind)


def _encode_search(encoded: Encoded, search: hub.WebSearch) -> Json:
    if search.blocked_domains:
        encoded.drop("tools.web_search.blocked_domains")
    told: Json = {
        "filters": {"allowed_domains": search.allowed_domains} if search.allowed_domains else None,
        "user_location": search.location,
        "search_context_size": search.context_size,
        "external_web_access": search.live,
    }
    return {name: value for name, value in told.items() if value is not None}


def _encode_choice(choice: fitting.Choice, named: list[tuple[str, hub.Tool]]) -> object:
    if choice.allowed is not None:
        allowed = [_reference(name, tool) for name, tool in named if name in choice.allowed]
        return {"type": "allowed_tools", "mode": choice.mode, "tools": allowed} if allowed else "none"
    return _reference(choice.name, choice.tool) if choice.tool else choice.mode


def _reference(name: str, tool: hub.Tool) -> Json:
    return {"type": tool.kind} if tool.kind == "web_search" else {"type": tool.kind, "name": name}


# -- messages -------------------------------------------------------------------------------------------------------


class _MessageWriter:
    """Writes one message after the other as items; results have their calls' ids."""

    def __init__(self, encoded: Encoded, target: hub.Target) -> None:
        self._encoded = encoded
        self._target = target
        self._ids = CallIds(target.profile.ids, target.profile.longest_id)

    def encode(self, message: hub.Message) -> list[Json]:
        items: list[Json] = []
        role = "developer" if message.role == "system" else message.role
        for part in message.parts:
            match part:
                case hub.ToolCall():
                    items.append(self._encode_call(part))
                case hub.ToolResult():
                    kind = "custom_tool_call_output" if part.custom else "function_call_output"
                    output, id = self._encode_output(part), self._ids.of_result(part.call_id)
                    items.append({"type": kind, "call_id": id, "output": output})
                case hub.Reasoning():
                    items += self._encode_reasoning(part)
                case _ if role == "assistant":
                    items.append(self._encode_said(part))
                case _ if items and items[-1].get("role") == role:
                    items[-1]["content"].append(self._encode_part(part))
                case _:
                    items.append({"type": "message", "role": role, "content": [self._encode_part(part)]})
        if items and items[-1]["type"] == "reasoning":
            items.pop()  # refused without the item that it led to
            self._encoded.drop("messages.reasoning")
        return items

    def _encode_reasoning(self, part: hub.Reasoning) -> list[Json]:
        data = self._target.state_data(part.state, NAME)
        if not data or self._target.profile.replay == "never":
            self._encoded.drop("messages.reasoning")
            return []
        summary = [{"type": "summary_text", "text": part.text}] if part.text else []
        return [{"type": "reasoning", "summary": summary, **data}]

    def _encode_said(self, part: hub.Part) -> Json:
        """What the model said. Its `phase` is told again to who gave it."""
        said: Json = {"type": "message", "role": "assistant", "content": shared.text_of(part, TYPE)}
        data = (self._target.state_data(part.state, NAME) if isinstance(part, hub.Text) else None) or {}
        self._encoded.drop_state(part, NAME, self._target)
        return said | ({"phase": data["phase"]} if "phase" in data else {})

    def _encode_call(self, call: hub.ToolCall) -> Json:
        self._encoded.drop_state(call, NAME, self._target)
        name, id = upstream_name(self._encoded, call.name, call.namespace), self._ids.of_call(call.id)
        if call.custom:
            return {"type": "custom_tool_call", "call_id": id, "name": name, "input": call.arguments}
        return {"type": "function_call", "call_id": id, "name": name, "arguments": call.arguments or "{}"}

    def _encode_output(self, result: hub.ToolResult) -> object:
        content = fitting.result_for(self._encoded, result, self._target)
        if all(isinstance(part, hub.Text) for part in content):
            text = "\n\n".join(shared.text_of(part, TYPE) for part in content)
            return f"Error: {text}" if result.is_error else text
        error = [{"type": "input_text", "text": "Error:"}] if result.is_error else []
        return error + [self._encode_part(part) for part in content]

    def _encode_part(self, part: hub.Part) -> Json:
        match part:
            case hub.Text():
                return shared.with_breakpoint({"type": "input_text", "text": part.text}, part.cache)
            case hub.Refusal():
                return {"type": "input_text", "text": part.text}
            case hub.Image():
                check_media(part, self._target, TYPE)
                image = {"type": "input_image", "image_url": part.href, "detail": part.detail or "auto"}
                return shared.with_breakpoint(image, part.cache)
            case hub.Document():
                check_media(part, self._target, TYPE)
                return shared.with_breakpoint(self._encode_document(part), part.cache)
            case hub.Foreign() | hub.Reasoning() | hub.ToolCall() | hub.ToolResult():
                raise hub.unsupported(part, TYPE)
            case _:
                assert_never(part)

    def _encode_document(self, part: hub.Document) -> Json:
        if not part.url:
            return {"type": "input_file", "filename": part.name or "document.pdf", "file_data": part.href}
        if part.name:
            self._encoded.drop("messages.document.title")
        return {"type": "input_file", "file_url": part.url}
