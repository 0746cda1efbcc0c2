"""Keeps the grammar of events.py while a wire is read, whatever order the wire has.

A Turn is told what a wire says, by the wire's own block keys, and hands out events that obey the grammar: blocks that
a wire interleaves are put one after the other (the first goes out live, later ones wait), ends that it forgets are
added, and what follows the end is left out.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import assert_never

from droid2api.errors import GatewayError, WireError
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start, State

MOST_BLOCKS = 10_000
"""Blocks that one answer may have: none that is meant well comes near."""


@dataclass(slots=True)
class _Block:
    key: Hashable
    start: BlockStart
    text: list[str] = field(default_factory=list)
    size: int = 0
    end: BlockEnd | None = None


class Turn:
    """One answer while it is read. `id` is the upstream's, `current` the key of the block that goes out live, `done` is
    set by the end, `called` by a tool call, and `blocks` counts what was opened.

    A decoder asks `is_open` before it writes to a block: whatever it does to one that is not open is its mistake, and
    raises KeyError.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.current: Hashable = None
        self.started = False
        self.id = ""
        self.done = False
        self.called = False
        self.blocks = 0
        self._open: dict[Hashable, _Block] = {}
        self._waiting: deque[_Block] = deque()
        """The open blocks in the order of their beginnings, and what has ended behind one that has not."""

    def drain(self) -> list[Event]:
        """The events since the last time."""
        events, self.events = self.events, []
        return events

    def start(self, id: str, model: str) -> None:
        if not self.started:
            self.started, self.id = True, id
            self.events.append(Start(id, model))

    def open(self, key: Hashable, start: BlockStart) -> None:
        """Begin a block. Raises KeyError when `key` is that of an open one, and WireError for one too many."""
        if self.blocks == MOST_BLOCKS:
            raise WireError(f"more than {MOST_BLOCKS} blocks in one answer")
        if key in self._open:
            raise KeyError(key)
        self.start("", "")
        self.blocks += 1
        self.called = self.called or start.kind == "tool_call"
        block = self._open[key] = _Block(key, start)
        self._waiting.append(block)
        if len(self._waiting) == 1:
            self.current = key
            self.events.append(start)

    def delta(self, key: Hashable, text: str) -> None:
        """Add text to an open block. Raises KeyError when there is none."""
        block = self._open[key]
        if text:
            block.text.append(text)
            block.size += len(text)
            if key == self.current:
                self.events.append(Delta(text))

    def end(self, key: Hashable, end: BlockEnd | None = None) -> None:
        """End a block. A tool call whose arguments never came has none: an empty object. Raises KeyError."""
        block = self._open[key]
        if block.start.kind == "tool_call" and not block.start.custom and not block.text:
            self.delta(key, "{}")
        del self._open[key]
        block.end = end or BlockEnd()
        while self._waiting and (ended := self._waiting[0].end):
            self.events.append(ended)
            self._waiting.popleft()
            self.current = None
            if self._waiting:
                block = self._waiting[0]
                self.current = block.key
                self.events.append(block.start)
                if text := "".join(block.text):
                    self.events.append(Delta(text))

    def is_open(self, key: Hashable) -> bool:
        return key in self._open

    def opened(self, key: Hashable) -> BlockStart:
        """How an open block began. Raises KeyError."""
        return self._open[key].start

    def text(self, key: Hashable) -> str:
        """The text of an open block so far. Raises KeyError."""
        return "".join(self._open[key].text)

    def size(self, key: Hashable) -> int:
        """The characters of an open block so far. Raises KeyError."""
        return self._open[key].size

    def finish(self, finish: Finish) -> None:
        """End the turn. A tool call in the answer decides the reason, whatever the upstream named (WIRE.md rule 6)."""
        if self.done:
            return
        self.start("", "")
        for key in list(self._open):
            self.end(key)
        if finish.reason in ("stop", "tool_calls"):
            finish.reason = "tool_calls" if self.called else "stop"
        self.events.append(finish)
        self.done = True

    def fail(self, error: GatewayError) -> None:
        if self.done:
            return
        self.start("", "")
        self.events.append(Failed(error))
        self.done = True


def refuse(turn: Turn, words: str) -> None:
    """Say why the answer is withheld, behind what was said."""
    turn.open("refusal", BlockStart("refusal"))
    turn.delta("refusal", words)


@dataclass(slots=True)
class Block:
    """A whole block of a folded turn."""

    start: BlockStart
    text: str
    end: BlockEnd

    @property
    def state(self) -> State | None:
        return self.start.state or self.end.state


@dataclass(slots=True)
class FoldedTurn:
    start: Start
    blocks: list[Block]
    finish: Finish


def fold(events: Iterable[Event]) -> FoldedTurn:
    """A finished turn in one piece. Raises the error that a Failed carries."""
    start, finish = Start("", ""), Finish("stop")
    blocks: list[Block] = []
    opened, text = BlockStart("text"), [""]
    for event in events:
        match event:
            case Start():
                start = event
            case BlockStart():
                opened, text = event, []
            case Delta():
                text.append(event.text)
            case BlockEnd():
                blocks.append(Block(opened, "".join(text), event))
            case Finish():
                finish = event
            case Failed():
                raise event.error
            case _:
                assert_never(event)
    return FoldedTurn(start, blocks, finish)
