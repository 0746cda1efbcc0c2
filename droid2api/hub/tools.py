"""Tool names, ids and kinds that every upstream takes, and the way back to the client's own."""

import hashlib
import re
from collections import Counter, deque
from dataclasses import replace
from typing import Literal, TypeAlias

import orjson

from droid2api.errors import RequestError
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Event
from droid2api.hub.request import Tool, ToolCall
from droid2api.wire.fields import Json

_UNSAFE = re.compile(r"[^a-zA-Z0-9_-]")


def safe_name(name: str, limit: int = 64) -> str:
    """A name or id in the alphabet and length that all providers take; unchanged when it is fine already.

    A changed one ends in a hash of the original, so that it is the same in every turn and meets no other.
    """
    safe = _UNSAFE.sub("_", name)
    if safe == name and 0 < len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{safe[: limit - 9]}_{digest}"


IdStyle: TypeAlias = Literal["kept", "safe", "nine"]


def styled_id(id: str, style: IdStyle, longest: int) -> str:
    """A call's id in the style of a profile: the same one for the call and for its result, and in every turn."""
    if style != "nine":
        return safe_name(id, longest) if style == "safe" or not id else id
    if len(id) == 9 and id.isascii() and id.isalnum():
        return id
    return hashlib.sha256(id.encode()).hexdigest()[:9]


def with_fitting_id(value: Json, field: str, style: IdStyle, longest: int) -> Json:
    """An object of a client's own format with the id in `field` as the service takes it; the same one where it does.

    A conversation may have been with another model: its ids come back with every turn.
    """
    id = value.get(field)
    if type(id) is not str or not id or (fitting := styled_id(id, style, longest)) == id:
        return value
    return value | {field: fitting}


class CallIds:
    """The ids of a history's tool calls as the upstream gets them, in the style that its profile names.

    Two answers of one conversation may have the same id ("call_0" each time), and even two calls of one answer. Where
    ids are kept as they came only the latter get another; else each call of the conversation has an id of its own. Safe
    ones have `longest` characters at most.
    """

    def __init__(self, style: IdStyle, longest: int = 64) -> None:
        self._style = style
        self._longest = longest
        self._unanswered: dict[str, deque[str]] = {}
        self._times: Counter[str] = Counter()
        self._used: set[str] = set()

    def of_call(self, id: str) -> str:
        """For a call; its result, which comes later, gets the same from `of_result`."""
        waiting = self._unanswered.setdefault(id, deque())
        kept = self._style == "kept" and id and not waiting
        given = id if kept else self._unused(id)
        waiting.append(given)
        self._used.add(given)
        return given

    def of_result(self, id: str) -> str:
        """For the result of the first call with this id that has none yet."""
        waiting = self._unanswered.get(id)
        return waiting.popleft() if waiting else id

    def _unused(self, id: str) -> str:
        self._times[id] += 1
        given = self._styled(id)
        while given in self._used:
            given = self._styled(f"{id}_{self._times[id]}")
            self._times[id] += 1
        return given

    def _styled(self, id: str) -> str:
        return styled_id(id, self._style, self._longest)


def upstream_name(encoded: Encoded, name: str, namespace: str = "") -> str:
    """The tool's name for the upstream. Tools of a namespace carry it in front."""
    safe = safe_name(f"{namespace}__{name}" if namespace else name)
    if safe != name and not namespace:
        encoded.repair("tools.name")
    return safe


def name_tools(encoded: Encoded, tools: list[Tool]) -> list[tuple[str, Tool]]:
    """Each tool with its name for the upstream; `encoded.tool_names` remembers the way back.

    Raises RequestError for a name that two tools have. The same tool given twice is one.
    """
    named = []
    for tool in tools:
        name = upstream_name(encoded, tool.name, tool.namespace)
        if (known := encoded.tool_names.get(name)) is None:
            encoded.tool_names[name] = tool
            named.append((name, tool))
        elif _meaning(known) != _meaning(tool):
            raise RequestError(f"tools: the name {tool.name!r} is given twice.", param="tools")
    return named


def _meaning(tool: Tool) -> Tool:
    """The tool without what makes it no other one."""
    return replace(tool, cache=None, strict=bool(tool.strict))


def wrapped_tool(tool: Tool) -> Tool:
    """A custom tool as a function with one string, for upstreams that know functions only."""
    if tool.kind != "custom":
        return tool
    description = tool.description
    if tool.grammar and (definition := tool.grammar.get("definition")):
        description += f"\n\nThe input must follow this {tool.grammar.get('syntax', '')} grammar:\n{definition}"
    schema = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    return replace(tool, description=description.strip(), parameters=schema, kind="function", grammar=None)


def wrapped_arguments(call: ToolCall) -> str:
    """A call's arguments as a JSON object; free text as `wrapped_tool` takes it."""
    if call.custom:
        return orjson.dumps({"input": call.arguments}).decode()
    return call.arguments if call.arguments.strip() else "{}"


def unwrapped_input(arguments: str) -> str:
    """The free text in the arguments of a call to a wrapped tool; what is not wrapped comes back as it is."""
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments
    text = value.get("input") if type(value) is dict else None
    return text if type(text) is str else arguments


class ToolRestorer:
    """Gives the tool calls of an answer back the names, namespaces and kinds that the client knows.

    The input of a wrapped custom tool can only be unwrapped when it is whole, so it goes out in one piece.
    """

    def __init__(self, tool_names: dict[str, Tool]) -> None:
        self._tools = {name: tool for name, tool in tool_names.items() if tool.kind == "custom" or name != tool.name}
        self._wrapped: list[str] | None = None

    def feed(self, events: list[Event]) -> list[Event]:
        if not self._tools:
            return events
        out: list[Event] = []
        for event in events:
            if isinstance(event, BlockStart) and (tool := self._tools.get(event.name)):
                if tool.kind == "custom" and not event.custom:
                    self._wrapped = []
                custom = tool.kind == "custom"
                out.append(replace(event, name=tool.name, custom=custom, namespace=tool.namespace))
            elif self._wrapped is not None and isinstance(event, Delta):
                self._wrapped.append(event.text)
            else:
                if self._wrapped is not None and isinstance(event, BlockEnd):
                    if text := unwrapped_input("".join(self._wrapped)):
                        out.append(Delta(text))
                    self._wrapped = None
                out.append(event)
        return out
