"""The blocks of a Chat upstream's answer, while its chunks tell text, reasoning and fragments of tool calls."""

from typing import Any

from droid2api.errors import WireError
from droid2api.formats.chat.calls import Call, Calls, Fragment, read_fragment
from droid2api.formats.chat.reasoning import Reasoning
from droid2api.formats.chat.request import NAME
from droid2api.formats.decoder import CallIds
from droid2api.hub.events import BlockEnd, BlockKind, BlockStart, Citation
from droid2api.hub.request import Target
from droid2api.hub.turn import Turn
from droid2api.wire.fields import Json

_NO_ARGUMENTS = ("{}", "null", '""', "[]")


class Blocks:
    """Puts blocks into the turn. Text, reasoning and refusal have their names as keys, and tool calls numbers.

    `citations` wait for the end of the open text.
    """

    def __init__(self, turn: Turn, target: Target, call_ids: CallIds, whole: bool) -> None:
        self.citations: list[Citation] = []
        self.calls = Calls(whole)
        self._reasoning = Reasoning()
        self._turn = turn
        self._target = target
        self._call_ids = call_ids

    def write(self, kind: BlockKind, text: str) -> None:
        """Add to the open block of this kind, or begin one."""
        if text:
            if self._turn.current != kind:
                self._switch(kind, BlockStart(kind))
            self._turn.delta(kind, text)

    def read_reasoning(self, delta: Json) -> None:
        """Add the reasoning that a message, or a piece of one, has in fields of its own."""
        text, details = self._reasoning.read(delta)
        if details and not self._turn.is_open("reasoning"):
            self._switch("reasoning", BlockStart("reasoning"))
        self.write("reasoning", text)

    def read_calls(self, calls: object) -> None:
        """Add fragments of tool calls. Raises WireError for what is none."""
        if type(calls) is not list:
            raise WireError("tool calls that are no list")
        for value in calls:
            found = self.calls.find(read_fragment(value))
            if found is None:
                continue
            call, fragment = found
            if call.extra is not None:
                call.extra = call.extra or fragment.extra
            if call.name:
                self._add_arguments(call, fragment.arguments)
                continue
            call.held.append(fragment.arguments)
            if fragment.name:
                self._begin_call(call, fragment)

    def end_all(self) -> None:
        """End what is open. Raises WireError for a call whose name has not come."""
        while self._turn.current is not None:
            self._end(self._turn.current)
        if self.calls.nameless:
            raise WireError("a tool call without a name")

    def _begin_call(self, call: Call, fragment: Fragment) -> None:
        arguments, call.held = "".join(call.held), []
        call.id, call.name, call.custom = call.id or fragment.id, fragment.name, fragment.custom
        state = self._target.state(NAME, {"extra_content": call.extra}) if call.extra else None
        id = self._call_ids.assign(call.id)
        self._switch(call.key, BlockStart("tool_call", id, call.name, call.custom, state=state))
        if state:
            call.extra = None
        self.calls.begin(call)
        self._add_arguments(call, arguments)
        call.began_empty = bool(call.held)

    def _add_arguments(self, call: Call, arguments: str) -> None:
        if not arguments:
            return
        if call.key not in self.calls.open:
            if arguments.strip():
                raise WireError("arguments of a tool call that has ended")
        elif not call.custom and not self._turn.size(call.key) and arguments.strip() in _NO_ARGUMENTS:
            call.held = ["{}"]  # should no others come, the turn ends the call with the same
        else:
            call.held = []
            call.said.append(arguments)
            call.size += len(arguments)
            call.brackets.add(arguments)
            self._turn.delta(call.key, arguments)

    def _switch(self, key: object, start: BlockStart) -> None:
        """Go on with another block. The live tool call ends only if it is whole: fragments of calls may alternate."""
        live = self._turn.current
        call = self.calls.open.get(live)
        if live is not None and (call is None or call.is_whole(start)):
            self._end(live)
        if not self._turn.is_open(key):
            self._turn.open(key, start)

    def _end(self, key: Any) -> None:
        end = BlockEnd()
        if key == "reasoning":
            end.state = self._target.state(NAME, self._reasoning.take_state())
        elif key == "text":
            end.citations, self.citations = self.citations, []
        elif (call := self.calls.open.pop(key, None)) and call.extra:
            end.state = self._target.state(NAME, {"extra_content": call.extra})
        self._turn.end(key, end)
