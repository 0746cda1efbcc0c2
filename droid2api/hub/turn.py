"""Keeps the grammar of events.py while a wire is read, whatever order the wire has.

A Turn is told what a wire says, by the wire's own block keys, and hands out events that obey the grammar: blocks that
a wire interleaves are put one after the other (the first goes out live, later ones wait), ends that it forgets are
added, and what follows the end is left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from droid2api.errors import GatewayError
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start

T = TypeVar("T")


@dataclass(slots=True)
class _Block:
    key: Hashable
    start: BlockStart
    text: list[str] = field(default_factory=list)
    end: BlockEnd | None = None


class Turn:
    """One answer while it is read. `current` is the key of the block that goes out live, `done` is set by the end.

    Raises KeyError, TypeError or ValueError for what no encoder could write: that is an error of the wire.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.current: Hashable = None
        self.started = False
        self.done = False
        self.called = False
        self._blocks: deque[_Block] = deque()

    def take(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def start(self, id: str, model: str) -> None:
        if not self.started:
            self.started = True
            self.events.append(Start(str(id), str(model)))

    def open(self, key: Hashable, start: BlockStart) -> None:
        self.start("", "")
        if start.kind == "tool_call":
            if not start.name or not all(type(word) is str for word in (start.id, start.name, start.namespace)):
                raise ValueError("a tool call without a name, or with one that is no text")
            self.called = True
        self._blocks.append(_Block(key, start))
        if len(self._blocks) == 1:
            self.current = key
            self.events.append(start)

    def delta(self, key: Hashable, text: str) -> None:
        """Add text to an open block."""
        if type(text) is not str:
            raise TypeError("text that is no text")
        if key == self.current:
            if text:
                self.events.append(Delta(text))
                self._blocks[0].text.append(text)
        else:
            self._find(key).text.append(text)

    def end(self, key: Hashable, end: BlockEnd | None = None) -> None:
        """End a block. A tool call whose arguments never came has none: an empty object."""
        block = self._find(key)
        if block.start.kind == "tool_call" and not block.start.custom and not any(block.text):
            self.delta(key, "{}")
        block.end = end or BlockEnd()
        while self._blocks and (ended := self._blocks[0].end):
            self.events.append(ended)
            self._blocks.popleft()
            self.current = None
            if self._blocks:
                self._promote(self._blocks[0])

    def is_open(self, key: Hashable) -> bool:
        return any(block.key == key for block in self._blocks)

    def open_keys(self) -> list[Any]:
        return [block.key for block in self._blocks]

    def opened(self, key: Hashable) -> BlockStart:
        return self._find(key).start

    def text(self, key: Hashable) -> str:
        return "".join(self._find(key).text)

    def end_all(self) -> None:
        while self._blocks:
            self.end(self._blocks[0].key)

    def finish(self, finish: Finish) -> None:
        """End the turn. A tool call in the answer decides the reason, whatever the upstream named (WIRE.md rule 6)."""
        if self.done:
            return
        self.start("", "")
        self.end_all()
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

    def _find(self, key: Hashable) -> _Block:
        for block in self._blocks:
            if block.key == key:
                return block
        raise KeyError(f"no open block {key!r}")

    def _promote(self, block: _Block) -> None:
        self.current = block.key
        self.events.append(block.start)
        if text := "".join(block.text):
            self.events.append(Delta(text))


@dataclass(slots=True)
class Block:
    """A whole block of a folded turn."""

    start: BlockStart
    text: str
    end: BlockEnd


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
    return FoldedTurn(start, blocks, finish)
