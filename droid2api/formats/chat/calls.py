"""Tool calls of a Chat upstream, put together from fragments that services give all kinds of indexes, ids and names."""

import re
from dataclasses import dataclass, field, replace
from typing import Any

from droid2api.errors import WireError
from droid2api.hub.events import BlockStart
from droid2api.wire.fields import Json, json_text, number, opaque, string, word


@dataclass(slots=True)
class Fragment:
    """What one entry of `tool_calls` says."""

    index: int | None
    id: str
    name: str
    arguments: str
    custom: bool
    extra: Json


def read_fragment(value: object) -> Fragment:
    """Raises WireError for what is no part of a tool call."""
    if type(value) is not dict:
        raise WireError("a tool call that is no object")
    function = value.get("function")
    called = function or value.get("custom") or value
    if type(called) is not dict:
        raise WireError("a tool call whose function is no object")
    arguments = called.get("arguments")
    if arguments is None and type(called.get("input")) is str:
        arguments = called["input"]
    if type(arguments) is not str:
        arguments = "" if arguments is None else json_text(arguments)
    custom, extra = not function and bool(value.get("custom")), opaque(value, "extra_content")
    return Fragment(number(value, "index"), word(value, "id"), string(called, "name"), arguments, custom, extra)


_MARKS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)


class Brackets:
    """Tells whether JSON text that comes in pieces is whole. Each piece is looked at once, and only when asked."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._depth = 0
        self._begun = self._quoted = False

    def add(self, piece: str) -> None:
        self._pieces.append(piece)

    def are_closed(self) -> bool:
        text = "".join(self._pieces)
        slashes = len(text) - len(text.rstrip("\\"))
        self._pieces = ["\\"] if slashes % 2 else []  # what it escapes is still to come
        for mark in _MARKS.findall(text[:-1] if self._pieces else text):
            if mark == '"':
                self._quoted = not self._quoted
            elif len(mark) == 1 and not self._quoted:
                self._begun = True
                self._depth += 1 if mark in "{[" else -1
        return self._begun and self._depth <= 0 and not self._quoted


@dataclass(slots=True)
class Call:
    """A tool call while it comes; it begins with its name. `said` are its arguments, `held` those that the turn has not
    got yet. `extra` is state to be told with the call's end, None where its beginning has told it."""

    key: int
    id: str
    name: str = ""
    custom: bool = False
    said: list[str] = field(default_factory=list)
    size: int = 0
    held: list[str] = field(default_factory=list)
    began_empty: bool = False
    named_again: bool = False
    extra: Json | None = field(default_factory=dict)
    brackets: Brackets = field(default_factory=Brackets)

    def is_whole(self, following: BlockStart) -> bool:
        """Whether no more arguments are expected. Some services begin all calls with "{}" before they fill any."""
        if self.held:
            return not self.began_empty or following.kind != "tool_call"
        return self.custom or self.brackets.are_closed()

    def is_half(self) -> bool:
        """Whether its arguments are cut off."""
        return bool(self.said) and not self.custom and not self.brackets.are_closed()

    def has_said(self, arguments: str) -> bool:
        return len(arguments) == self.size and arguments == "".join(self.said)


class Calls:
    """The tool calls of an answer, found by what their fragments have in common. Those of a `whole` answer are none."""

    def __init__(self, whole: bool) -> None:
        self.open: dict[Any, Call] = {}
        self.nameless = 0
        self._whole = whole
        self._count = 0
        self._by_index: dict[int, Call] = {}
        self._by_id: dict[str, Call] = {}
        self._last: Call | None = None

    def find(self, fragment: Fragment) -> tuple[Call, Fragment] | None:
        """The call that a fragment belongs to, a new one if need be, and what it says; None if that is nothing new.

        A name that comes again without arguments when its call is whole begins another call only if arguments follow.
        """
        index, id = fragment.index, fragment.id
        call = self._known(index, id)
        if call is not None and call.named_again and not fragment.name and fragment.arguments.strip():
            call.named_again, fragment = False, replace(fragment, name=call.name)
        is_named = call is not None and bool(fragment.name and call.name)
        if call is None or (is_named and _is_another(call, fragment)):
            call = Call(self._count, id)
            self._count += 1
            self.nameless += 1
            if index is not None:
                self._by_index[index] = call
            if id:
                self._by_id[id] = call
        elif is_named and call.brackets.are_closed():
            call.named_again = not fragment.id
            return None
        self._last = call
        return call, fragment

    def begin(self, call: Call) -> None:
        self.nameless -= 1
        self.open[call.key] = call

    def _known(self, index: int | None, id: str) -> Call | None:
        if self._whole:
            return None
        if index is not None:
            call = self._by_index.get(index)
            other = self._by_id.get(id) if call and id and call.id not in ("", id) else None
            return other or call  # where all calls have one index, their ids tell them apart
        return self._by_id.get(id) if id else self._last


def _is_another(call: Call, fragment: Fragment) -> bool:
    """Whether a fragment with a name begins another call, though it comes in the place of `call`. Some services name a
    call in each of its fragments, some say it again when it is whole, and some give all calls the same place or id."""
    id = fragment.id
    if fragment.name != call.name or (id and call.id and id != call.id):
        return True
    if not fragment.arguments.strip():
        return False
    if call.held:
        return not id
    return call.brackets.are_closed() and not (id and call.has_said(fragment.arguments))
