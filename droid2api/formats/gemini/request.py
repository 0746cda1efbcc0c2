"""What a client's generateContent body means."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from droid2api.errors import RequestError
from droid2api.formats.gemini.words import camel, camelized, decode_state, standard_base64
from droid2api.hub.events import State
from droid2api.hub.history import attach_states
from droid2api.hub.reasoning import effort_of
from droid2api.hub.request import (
    Document,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from droid2api.hub.schema_walk import refuse_depth
from droid2api.hub.stops import check_stops
from droid2api.wire.fields import Json, dump, optional, required, strings, wrong

MOST_STOPS = 128
"""Google takes five; other upstreams more."""

_OPTIONS = ("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty")
_CONFIG = frozenset(
    "maxOutputTokens stopSequences candidateCount thinkingConfig responseMimeType responseSchema responseJsonSchema "
    "temperature topP topK seed presencePenalty frequencyPenalty".split()
)
_TOP = frozenset(
    "model stream contents systemInstruction tools toolConfig generationConfig serviceTier cachedContent "
    "generateContentRequest".split()
)
_KINDS = ("text", "inlineData", "fileData", "functionCall", "functionResponse")
_SERVED = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")
"""Parts of tools that Google runs itself."""
_SEARCHES = ("googleSearch", "googleSearchRetrieval")
_INTEGERS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


def decode_request(body: Json) -> Request:
    """A client's body as a Request; its path has the model. Raises RequestError that names the wrong field."""
    given: Json = camelized(body)
    if whole := optional(given, "generateContentRequest", dict):  # of countTokens
        given = given | whole
    config = optional(given, "generationConfig", dict) or {}
    thinking = optional(config, "thinkingConfig", dict, _IN_CONFIG) or {}
    if (optional(config, "candidateCount", int, _IN_CONFIG) or 1) > 1:
        raise _refusal("generationConfig.candidateCount", "only 1 is served")
    if given.get("cachedContent"):
        raise _refusal("cachedContent", "is known to Google only")
    request = Request(
        model=optional(given, "model", str) or "",
        messages=[],
        stream=optional(given, "stream", bool),
        include_usage=True,
        max_tokens=optional(config, "maxOutputTokens", int, _IN_CONFIG),
        stop=check_stops(strings(config, "stopSequences"), "stopSequences", MOST_STOPS),
        effort=_decode_effort(thinking),
        show_reasoning=thinking.get("includeThoughts") is True,
        output=_decode_output(config),
        options={name: config[camel(name)] for name in _OPTIONS if config.get(camel(name)) is not None},
        body=body,
    )
    for name in ("temperature", "topP"):
        optional(config, name, float, _IN_CONFIG)
    if tier := optional(given, "serviceTier", str):
        request.options["service_tier"] = "default" if tier == "standard" else tier
    for name in given.keys() - _TOP:
        request.drop(name)
    plain = ["responseModalities"] if config.get("responseModalities") == ["TEXT"] else []
    request.drop_rest("generationConfig", config, _CONFIG.union(plain))
    request.drop_rest("thinkingConfig", thinking, frozenset("includeThoughts thinkingLevel thinkingBudget".split()))
    request.messages = _MessageReader(request).read(given)
    _decode_tools(request, given)
    return request


_IN_CONFIG = "generationConfig."


def _refusal(where: str, why: str) -> RequestError:
    return RequestError(f"{where}: {why}.", param=where)


def _decode_effort(thinking: Json) -> str | None:
    if level := optional(thinking, "thinkingLevel", str, "thinkingConfig."):
        return None if level.endswith("UNSPECIFIED") else level.lower()
    budget = optional(thinking, "thinkingBudget", int, "thinkingConfig.")
    budget = -1 if budget is None else budget  # as the model likes
    return None if budget < 0 else effort_of(budget) if budget else "none"


def _decode_output(config: Json) -> OutputFormat | None:
    if optional(config, "responseMimeType", str, _IN_CONFIG) != "application/json":
        return None
    for name in ("responseJsonSchema", "responseSchema"):
        if schema := optional(config, name, dict, _IN_CONFIG):
            return OutputFormat(json_schema(schema, f"{_IN_CONFIG}{name}"), strict=True)
    return OutputFormat(None)


# -- messages -------------------------------------------------------------------------------------------------------


def _items(value: object, where: str) -> list[tuple[str, Json]]:
    """The objects of a list, each with its path; protobuf's JSON takes one that stands for a list of one."""
    if value is None:
        return []
    if type(value) is not list:
        value = [value]
    for index, item in enumerate(value):
        if type(item) is not dict:
            raise wrong(f"{where}[{index}]", "an object", item)
    return [(f"{where}[{index}]", item) for index, item in enumerate(value)]


class _MessageReader:
    """Reads the contents. Calls without an id get one, and a response without one is of the first call of its name."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._ids: set[str] = set()
        self._unanswered: dict[str, deque[str]] = {}
        """The ids of the last calls of each name."""
        self._answered = False

    def read(self, body: Json) -> list[Message]:
        messages = []
        if system := optional(body, "systemInstruction", dict):
            messages.append(Message("system", self._decode_parts(system, "systemInstruction")))
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

    def _decode_content(self, where: str, content: Json) -> Message:
        role = optional(content, "role", str, f"{where}.") or "user"
        if role not in ("user", "model", "function"):
            raise _refusal(f"{where}.role", f"must be user or model, not {role[:40]!r}")
        self._request.drop_rest("contents", content, frozenset(["role", "parts"]))
        return Message("assistant" if role == "model" else "user", self._decode_parts(content, where))

    def _decode_parts(self, content: Json, where: str) -> list[Part]:
        return [
            read for path, part in _items(content.get("parts"), f"{where}.parts") for read in self._read(path, part)
        ]

    def _read(self, where: str, part: Json) -> list[Part]:
        """A part, and before it the reasoning of another provider whose state rides in its signature."""
        signature = optional(part, "thoughtSignature", str, f"{where}.") or ""
        read, state = self._decode_part(where, part), decode_state(signature) if signature else None
        if state is None:
            return [read] if read else []
        bound, before = state.bound(), []
        if "text" in state.data and bound is None:
            data = {name: value for name, value in state.data.items() if name != "text"}
            before.append(Reasoning(str(state.data["text"]), State(state.format, state.family, data, state.service)))
        elif isinstance(read, ToolCall) or (isinstance(read, Text) and read.text):
            read.state = state.unbound()
        elif bound:
            before.append(Reasoning("", state))
        return [*before, *([read] if read else [])]

    def _decode_part(self, where: str, part: Json) -> Part | None:
        request, path = self._request, f"{where}."
        request.drop_rest("contents.parts", part, frozenset([*_KINDS, *_SERVED, "thought", "thoughtSignature"]))
        if "functionCall" in part:
            return self._decode_call(f"{path}functionCall", required(part, "functionCall", dict, path))
        if "functionResponse" in part:
            response = required(part, "functionResponse", dict, path)
            return self._decode_response(f"{path}functionResponse", response)
        if "text" in part:
            text = required(part, "text", str, path)
            return Reasoning(text) if part.get("thought") is True else Text(text, where=where)
        if "inlineData" in part or "fileData" in part:
            return _decode_media(request, where, part)
        for name in _SERVED:
            if name in part:
                request.drop(f"contents.parts.{name}")
                return None
        if part.get("thoughtSignature"):
            return None
        raise _refusal(where, f"must have one of {', '.join(_KINDS)}")

    def _decode_call(self, where: str, call: Json) -> ToolCall:
        name, id = required(call, "name", str, f"{where}."), optional(call, "id", str, f"{where}.")
        self._request.drop_rest("contents.parts.functionCall", call, frozenset("id name args".split()))
        id = id or f"call_{len(self._ids)}"
        if self._answered:
            self._answered, self._unanswered = False, {}
        self._ids.add(id)
        self._unanswered.setdefault(name, deque()).append(id)
        return ToolCall(id, name, dump(optional(call, "args", dict, f"{where}.") or {}).decode(), where=where)

    def _decode_response(self, where: str, response: Json) -> ToolResult:
        name, id = optional(response, "name", str, f"{where}."), optional(response, "id", str, f"{where}.")
        self._request.drop_rest(
            "contents.parts.functionResponse", response, frozenset("id name response parts".split())
        )
        self._answered = True
        if id not in self._ids and (waiting := self._unanswered.get(name or "")):
            id = waiting.popleft()
        text, is_error = _said(optional(response, "response", dict, f"{where}.") or {})
        content: list[Part] = [Text(text)] if text else []
        for path, part in _items(response.get("parts"), f"{where}.parts"):
            content.append(_decode_media(self._request, path, part))
        return ToolResult(id or name or "", content, is_error, where=where)


def _said(response: Json) -> tuple[str, bool]:
    """A response's text, and whether it tells of an error. Clients have several words for the only field in it."""
    for name in ("output", "result", "content", "return_value", "error"):
        if response.keys() - {"name"} == {name}:
            value = response[name]
            return (value if type(value) is str else dump(value).decode()), name == "error"
    return dump(response).decode() if response else "", False


def _decode_media(request: Request, where: str, part: Json) -> Part:
    name = "inlineData" if part.get("inlineData") else "fileData"
    source, path = required(part, name, dict, f"{where}."), f"{where}.{name}."
    request.drop_rest(f"contents.parts.{name}", source, frozenset("mimeType data fileUri".split()))
    kind = (optional(source, "mimeType", str, path) or "").lower()
    url = required(source, "fileUri", str, path) if name == "fileData" else ""
    data = standard_base64(required(source, "data", str, path)) if name == "inlineData" else ""
    known = "googleapis.com/" in url or "youtube.com/" in url or "youtu.be/" in url
    if kind.startswith(("audio/", "video/")) or known or (url and not url.startswith(("http://", "https://"))):
        return Foreign(kind or "fileData", where, is_media=True)
    if kind.startswith("image/"):
        return Image(kind, data, url, where=where)
    return Document(kind if data else "", data, url, where=where)


def _joined(parts: list[Part]) -> list[Part]:
    """The parts of one answer as they were before they were streamed: texts without state are the end of the last one.

    Thoughts stand in the signature too where another provider wants them back.
    """
    signed = any(isinstance(part, Reasoning) and part.state and not part.state.bound() for part in parts)
    runs: list[list[Any]] = []
    for part in parts:
        thought = isinstance(part, Reasoning) and part.state is None
        if thought and signed:
            continue
        first = runs[-1][0] if runs else None
        goes_on = isinstance(part, Text) and part.state is None and isinstance(first, Text)
        if goes_on or (thought and isinstance(first, Reasoning) and first.state is None):
            runs[-1].append(part)
        else:
            runs.append([part])
    return [run[0] if len(run) == 1 else replace(run[0], text="".join(part.text for part in run)) for run in runs]


# -- tools ----------------------------------------------------------------------------------------------------------


def _decode_tools(request: Request, body: Json) -> None:
    for where, tool in _items(body.get("tools"), "tools"):
        for path, declared in _items(tool.get("functionDeclarations"), f"{where}.functionDeclarations"):
            request.tools.append(_decode_tool(request, path, declared))
        for name in tool.keys() - {"functionDeclarations"}:
            if name in _SEARCHES and not any(tool.kind == "web_search" for tool in request.tools):
                request.tools.append(Tool("web_search", kind="web_search"))
                request.drop_rest("tools.web_search", tool[name] if type(tool[name]) is dict else {}, frozenset())
            elif name not in _SEARCHES:
                request.drop(f"tools.{name}")
    config = optional(body, "toolConfig", dict) or {}
    request.drop_rest("toolConfig", config, frozenset(["functionCallingConfig"]))
    calling = optional(config, "functionCallingConfig", dict, "toolConfig.") or {}
    request.drop_rest("toolConfig", calling, frozenset(["mode", "allowedFunctionNames"]))
    names = strings(calling, "allowedFunctionNames") or None
    match (optional(calling, "mode", str, "toolConfig.functionCallingConfig.") or "").upper():
        case "ANY" if names and len(names) == 1:
            request.tool_choice = ToolChoice("required", names[0])
        case "ANY":
            request.tool_choice = ToolChoice("required", allowed=names)
        case "NONE":
            request.tool_choice = ToolChoice("none")
        case "AUTO" | "VALIDATED":
            request.tool_choice = ToolChoice("auto", allowed=names)


def _decode_tool(request: Request, where: str, declared: Json) -> Tool:
    name = required(declared, "name", str, f"{where}.")
    request.drop_rest("tools", declared, frozenset("name description parameters parametersJsonSchema".split()))
    schema = None
    for field in ("parametersJsonSchema", "parameters"):
        if schema is None and (given := optional(declared, field, dict, f"{where}.")):
            schema = json_schema(given, f"{where}.{field}")
    return Tool(name, optional(declared, "description", str, f"{where}.") or "", schema)


def json_schema(schema: Json, where: str) -> Json:
    """JSON Schema for a schema in Google's OpenAPI subset, or for what its clients send as JSON Schema: types in
    capitals, numbers as text, `nullable`. Raises RequestError for one that is nested too deep."""
    refuse_depth(schema, where)
    fitted: Json = _node(schema)
    return fitted


def _node(schema: Any) -> Any:
    if type(schema) is not dict:
        return schema
    node = {camel(name): value for name, value in schema.items()}
    node.pop("propertyOrdering", None)
    kind, nullable = node.get("type"), node.pop("nullable", None)
    if type(kind) is str:
        node["type"] = [kind.lower(), "null"] if nullable is True else kind.lower()
    elif type(kind) is list:
        node["type"] = [each.lower() if type(each) is str else each for each in kind]
    if node.get("type") == "type_unspecified":
        del node["type"]
    for name in _INTEGERS:
        if type(value := node.get(name)) is str and value.isdecimal():
            node[name] = int(value)
    for name in ("properties", "$defs", "definitions"):
        if type(named := node.get(name)) is dict:
            node[name] = {each: _node(value) for each, value in named.items()}
    for name in ("items", "additionalProperties"):
        node |= {name: _node(node[name])} if name in node else {}
    for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if type(members := node.get(name)) is list:
            node[name] = [_node(member) for member in members]
    return node
