"""What a client's generateContent body means."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from droid2api.errors import RequestError
from droid2api.formats.gemini.words import SERVED, camelized, decode_state, standard_base64
from droid2api.hub import request as hub
from droid2api.hub.history import attach_states
from droid2api.hub.reasoning import effort_of
from droid2api.hub.schema import from_gemini
from droid2api.hub.stops import check_stops
from droid2api.wire.fields import Json, camel, dump, objects, optional, required, strings

MOST_STOPS = 128
"""Google takes five; other upstreams more."""

_OPTIONS = ("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty")
_CONFIG = frozenset("maxOutputTokens stopSequences candidateCount thinkingConfig".split()).union(map(camel, _OPTIONS))
_SCHEMAS = ("responseJsonSchema", "responseSchema")
_TOP = frozenset(
    "model stream contents systemInstruction tools toolConfig generationConfig serviceTier cachedContent "
    "generateContentRequest".split()
)
_KINDS = ("text", "inlineData", "fileData", "functionCall", "functionResponse")
_SEARCHES = ("googleSearch", "googleSearchRetrieval")
_IN_CONFIG = "generationConfig."


def decode_request(body: Json) -> hub.Request:
    """A client's body as a Request; its path has the model. Raises RequestError that names the wrong field."""
    given: Json = camelized(body)
    given |= optional(given, "generateContentRequest", dict) or {}  # of countTokens
    config = optional(given, "generationConfig", dict) or {}
    thinking = optional(config, "thinkingConfig", dict, _IN_CONFIG) or {}
    if (optional(config, "candidateCount", int, _IN_CONFIG) or 1) > 1:
        raise _refusal("generationConfig.candidateCount", "only 1 is served")
    if given.get("cachedContent"):
        raise _refusal("cachedContent", "is known to Google only")
    for name in ("temperature", "topP"):
        optional(config, name, float, _IN_CONFIG)
    request = hub.Request(
        model=optional(given, "model", str) or "",
        messages=[],
        stream=optional(given, "stream", bool),
        include_usage=True,
        max_tokens=optional(config, "maxOutputTokens", int, _IN_CONFIG),
        stop=check_stops(strings(config, "stopSequences"), "stopSequences", MOST_STOPS),
        effort=_decode_effort(thinking),
        show_reasoning=thinking.get("includeThoughts") is True,
        options={name: config[camel(name)] for name in _OPTIONS if camel(name) in config},
        body=body,
    )
    if tier := optional(given, "serviceTier", str):
        request.options["service_tier"] = "default" if tier == "standard" else tier
    for name in given.keys() - _TOP:
        request.drop(name)
    request.drop_rest("generationConfig", config, _CONFIG | _decode_output(request, config))
    request.drop_rest("thinkingConfig", thinking, frozenset("includeThoughts thinkingLevel thinkingBudget".split()))
    request.messages = _MessageReader(request).read(given)
    _decode_tools(request, given)
    return request


def _refusal(where: str, why: str) -> RequestError:
    return RequestError(f"{where}: {why}.", param=where)


def _decode_effort(thinking: Json) -> str | None:
    if level := optional(thinking, "thinkingLevel", str, "thinkingConfig."):
        return None if level.endswith("UNSPECIFIED") else level.lower()
    budget = optional(thinking, "thinkingBudget", int, "thinkingConfig.")
    if budget is None or budget < 0:  # as the model likes
        return None
    return effort_of(budget) if budget else "none"


def _decode_output(request: hub.Request, config: Json) -> set[str]:
    """Sets the request's output; returns the fields that it has read of it."""
    kind = optional(config, "responseMimeType", str, _IN_CONFIG)
    plain = {"responseModalities"} if config.get("responseModalities") == ["TEXT"] else set()
    if kind != "application/json":
        return plain | ({"responseMimeType"} if kind == "text/plain" else set())
    schemas = ((name, optional(config, name, dict, _IN_CONFIG)) for name in _SCHEMAS)
    schema = next((from_gemini(given, f"{_IN_CONFIG}{name}") for name, given in schemas if given), None)
    request.output = hub.OutputFormat(schema, strict=True if schema else None)
    return plain | {"responseMimeType", *_SCHEMAS}


# -- messages -------------------------------------------------------------------------------------------------------


def _items(value: object, where: str) -> list[tuple[str, Json]]:
    """The objects of a list, each with its path; protobuf's JSON takes one that stands for a list of one."""
    return objects(value if value is None or type(value) is list else [value], where)


class _MessageReader:
    """Reads the contents. Calls without an id get one, and a response without one is of the first call of its name."""

    def __init__(self, request: hub.Request) -> None:
        self._request = request
        self._ids: set[str] = set()
        self._answered: set[str] = set()
        self._unanswered: dict[str, deque[str]] = {}
        """The ids of the last calls of each name."""
        self._calling = False

    def read(self, body: Json) -> list[hub.Message]:
        messages = []
        if system := optional(body, "systemInstruction", dict):
            messages.append(hub.Message("system", self._decode_parts(system, "systemInstruction")))
        for where, content in _items(body.get("contents"), "contents"):
            message = self._decode_content(where, content)
            if messages and messages[-1].role == message.role == "assistant":  # SDKs send one for each event
                messages[-1].parts += message.parts
            else:
                messages.append(message)
        if not body.get("contents"):
            raise _refusal("contents", "is required and must not be empty")
        for message in messages:
            message.parts = _joined(message.parts) if message.role == "assistant" else message.parts
        return attach_states(messages)

    def _decode_content(self, where: str, content: Json) -> hub.Message:
        role = optional(content, "role", str, f"{where}.") or "user"
        if role not in ("user", "model", "function"):
            raise _refusal(f"{where}.role", f"must be user or model, not {role[:40]!r}")
        self._request.drop_rest("contents", content, frozenset(["role", "parts"]))
        return hub.Message("assistant" if role == "model" else "user", self._decode_parts(content, where))

    def _decode_parts(self, content: Json, where: str) -> list[hub.Part]:
        return [
            read for path, part in _items(content.get("parts"), f"{where}.parts") for read in self._read(path, part)
        ]

    def _read(self, where: str, part: Json) -> list[hub.Part]:
        """A part, and before it the reasoning of another provider whose state rides in its signature."""
        signature = optional(part, "thoughtSignature", str, f"{where}.") or ""
        read, state = self._decode_part(where, part), decode_state(signature) if signature else None
        parts = [read] if read else []
        if state is None:
            return parts
        if "text" in state.data and not state.bound():
            data = {name: value for name, value in state.data.items() if name != "text"}
            return [hub.Reasoning(str(state.data["text"]), replace(state, data=data)), *parts]
        if isinstance(read, hub.ToolCall) or (isinstance(read, hub.Text) and read.text):
            read.state = state.unbound()
        elif state.bound():
            return [hub.Reasoning("", state), *parts]
        return parts

    def _decode_part(self, where: str, part: Json) -> hub.Part | None:
        request, path = self._request, f"{where}."
        request.drop_rest("contents.parts", part, frozenset([*_KINDS, *SERVED, "thought", "thoughtSignature"]))
        kinds = [name for name in (*_KINDS, *SERVED) if name in part]
        match kinds:
            case ["functionCall"]:
                return self._decode_call(f"{path}functionCall", required(part, "functionCall", dict, path))
            case ["functionResponse"]:
                response = required(part, "functionResponse", dict, path)
                return self._decode_response(f"{path}functionResponse", response)
            case ["text"]:
                text = required(part, "text", str, path)
                return hub.Reasoning(text) if part.get("thought") is True else hub.Text(text, where=where)
            case ["inlineData" | "fileData"]:
                return _decode_media(request, where, part)
            case [served]:
                request.drop(f"contents.parts.{served}")
            case _ if kinds or "thoughtSignature" not in part:
                raise _refusal(where, f"must have one of {', '.join(_KINDS)}")
        return None

    def _decode_call(self, where: str, call: Json) -> hub.ToolCall:
        name, id = required(call, "name", str, f"{where}."), optional(call, "id", str, f"{where}.")
        self._request.drop_rest("contents.parts.functionCall", call, frozenset("id name args".split()))
        id = id or f"call_{len(self._ids)}"
        if not self._calling:
            self._calling, self._unanswered, self._answered = True, {}, set()
        self._ids.add(id)
        self._unanswered.setdefault(name, deque()).append(id)
        return hub.ToolCall(id, name, dump(optional(call, "args", dict, f"{where}.") or {}).decode(), where=where)

    def _decode_response(self, where: str, response: Json) -> hub.ToolResult:
        name, id = optional(response, "name", str, f"{where}.") or "", optional(response, "id", str, f"{where}.")
        known = frozenset("id name response parts".split())
        self._request.drop_rest("contents.parts.functionResponse", response, known)
        self._calling, waiting = False, self._unanswered.get(name, deque())
        while waiting and id not in self._ids:
            if (first := waiting.popleft()) not in self._answered:
                id = first
        self._answered.add(id or "")
        text, is_error = _said(optional(response, "response", dict, f"{where}.") or {})
        content: list[hub.Part] = [hub.Text(text)] if text else []
        for path, part in _items(response.get("parts"), f"{where}.parts"):
            content.append(_decode_media(self._request, path, part))
        return hub.ToolResult(id or name, content, is_error, where=where)


def _said(response: Json) -> tuple[str, bool]:
    """A response's text, and whether it tells of an error. Clients have several words for the only field in it."""
    for name in ("output", "result", "content", "return_value", "error"):
        if response.keys() - {"name"} == {name}:
            value = response[name]
            return (value if type(value) is str else dump(value).decode()), name == "error"
    return dump(response).decode() if response else "", False


def _decode_media(request: hub.Request, where: str, part: Json) -> hub.Part:
    name = "inlineData" if "inlineData" in part else "fileData"
    source, path = required(part, name, dict, f"{where}."), f"{where}.{name}."
    request.drop_rest(f"contents.parts.{name}", source, frozenset("mimeType data fileUri".split()))
    kind = (optional(source, "mimeType", str, path) or "").lower()
    url = required(source, "fileUri", str, path) if name == "fileData" else ""
    data = standard_base64(required(source, "data", str, path)) if name == "inlineData" else ""
    known = "googleapis.com/" in url or "youtube.com/" in url or "youtu.be/" in url
    if kind.startswith(("audio/", "video/")) or known or (url and not url.startswith(("http://", "https://"))):
        return hub.Foreign(kind or "fileData", where, is_media=True)
    if kind.startswith("image/"):
        return hub.Image(kind, data, url, where=where)
    return hub.Document(kind, data, url, where=where)


def _joined(parts: list[hub.Part]) -> list[hub.Part]:
    """The parts of one answer as they were before they were streamed: texts without state are the end of the last one.

    Thoughts stand in the signature too where another provider wants them back.
    """
    signed = any(isinstance(part, hub.Reasoning) and part.state and not part.state.bound() for part in parts)
    runs: list[list[Any]] = []
    for part in parts:
        thought = isinstance(part, hub.Reasoning) and part.state is None
        if thought and signed:
            continue
        first = runs[-1][0] if runs else None
        goes_on = isinstance(part, hub.Text) and part.state is None and isinstance(first, hub.Text)
        if goes_on or (thought and isinstance(first, hub.Reasoning) and first.state is None):
            runs[-1].append(part)
        else:
            runs.append([part])
    return [run[0] if len(run) == 1 else replace(run[0], text="".join(part.text for part in run)) for run in runs]


# -- tools ----------------------------------------------------------------------------------------------------------


def _decode_tools(request: hub.Request, body: Json) -> None:
    for where, tool in _items(body.get("tools"), "tools"):
        for path, declared in _items(tool.get("functionDeclarations"), f"{where}.functionDeclarations"):
            request.tools.append(_decode_tool(request, path, declared))
        for name in tool.keys() - {"functionDeclarations"}:
            if name not in _SEARCHES:
                request.drop(f"tools.{name}")
            elif not any(tool.kind == "web_search" for tool in request.tools):
                request.tools.append(hub.Tool("web_search", kind="web_search"))
                request.drop_rest("tools.web_search", tool[name] if type(tool[name]) is dict else {}, frozenset())
    config = optional(body, "toolConfig", dict) or {}
    request.drop_rest("toolConfig", config, frozenset(["functionCallingConfig"]))
    calling = optional(config, "functionCallingConfig", dict, "toolConfig.") or {}
    request.drop_rest("toolConfig", calling, frozenset(["mode", "allowedFunctionNames"]))
    names = strings(calling, "allowedFunctionNames") or None
    match (optional(calling, "mode", str, "toolConfig.functionCallingConfig.") or "").upper():
        case "ANY" if names and len(names) == 1:
            request.tool_choice = hub.ToolChoice("required", names[0])
        case "ANY":
            request.tool_choice = hub.ToolChoice("required", allowed=names)
        case "NONE":
            request.tool_choice = hub.ToolChoice("none")
        case "AUTO" | "VALIDATED":
            request.tool_choice = hub.ToolChoice("auto", allowed=names)
        case mode if mode not in ("", "MODE_UNSPECIFIED"):
            request.drop("toolConfig.mode")


def _decode_tool(request: hub.Request, where: str, declared: Json) -> hub.Tool:
    name = required(declared, "name", str, f"{where}.")
    request.drop_rest("tools", declared, frozenset("name description parameters parametersJsonSchema".split()))
    fields = ((field, optional(declared, field, dict, f"{where}.")) for field in ("parametersJsonSchema", "parameters"))
    schema = next((from_gemini(given, f"{where}.{field}") for field, given in fields if given), None)
    return hub.Tool(name, optional(declared, "description", str, f"{where}.") or "", schema)
