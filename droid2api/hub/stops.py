"""Stop sequences for upstreams that have none: the text of an answer ends where one of them begins."""

import re
from bisect import bisect_left

from droid2api.errors import RequestError
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Usage

LONGEST_STOP = 1000
"""Characters. No format says; the text that a longer one holds back would be a page."""


def check_stops(stops: list[str], where: str, most: int) -> list[str]:
    """The stop sequences of a client. Raises RequestError for more, or longer ones, than can be looked for."""
    if len(stops) > most:
        raise RequestError(f"{where}: must be {most} stop sequences at the most, not {len(stops)}.", param=where)
    for index, stop in enumerate(stops):
        if len(stop) > LONGEST_STOP:
            place = f"{where}[{index}]"
            raise RequestError(f"{place}: must have {LONGEST_STOP} characters at the most.", param=place)
    return stops


class StopFilter:
    """Passes events on until a stop sequence is whole in a text block; `stopped` tells that one was.

    Text that may be the beginning of a sequence is held back until it is known not to be one. What the upstream says
    after the sequence is left out, but for the tokens that it used.
    """

    def __init__(self, sequences: list[str]) -> None:
        self._sequences = sorted(sequences)
        self._longest = max(map(len, sequences), default=0)
        self._first = re.compile(
            "[" + "".join(re.escape(char) for char in {sequence[0] for sequence in sequences}) + "]"
        )
        self._in_text = False
        self._called = False
        self._held = ""
        self._met = ""
        self._ended = False

    @property
    def stopped(self) -> bool:
        return bool(self._met)

    def feed(self, events: list[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            if self._met:
                if isinstance(event, Finish):
                    out += self._end(event.usage)
                elif isinstance(event, Failed):  # the answer was whole before
                    out += self.close()
            elif self._in_text and isinstance(event, Delta):
                self._read_text(self._held + event.text, out)
            else:
                if isinstance(event, BlockStart):
                    self._in_text = event.kind == "text"
                    self._called = self._called or event.kind == "tool_call"
                elif isinstance(event, BlockEnd) and self._held:
                    out.append(Delta(self._held))
                    self._held = ""
                out.append(event)
        return out

    def close(self) -> list[Event]:
        """The end of a stopped answer, when the upstream is not waited for; how many tokens it used is not known."""
        return self._end(Usage())

    def _end(self, usage: Usage) -> list[Event]:
        if self._ended:
            return []
        self._ended = True
        return [Finish("tool_calls" if self._called else "stop", "stop_sequence", usage, self._met)]

    def _read_text(self, text: str, out: list[Event]) -> None:
        """A sequence counts when it is whole, so that pieces of any size give the same: "a" before "baa" is met."""
        found = [(start + len(each), start, each) for each in self._sequences if (start := text.find(each)) >= 0]
        _, start, self._met = min(found, default=(0, 0, ""))
        self._held = "" if self._met else self._beginning_of_one(text)
        passed = text[:start] if self._met else text.removesuffix(self._held)
        if passed:
            out.append(Delta(passed))
        if self._met:
            out.append(BlockEnd())

    def _beginning_of_one(self, text: str) -> str:
        """The longest end of the text with which a sequence may begin."""
        for found in self._first.finditer(text, max(0, len(text) - self._longest + 1)):
            end = text[found.start() :]
            index = bisect_left(self._sequences, end)
            if index < len(self._sequences) and self._sequences[index].startswith(end):
                return end
        return ""
