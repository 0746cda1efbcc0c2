"""Stop sequences for upstreams that have none: the text of an answer ends where one of them begins."""

import re
from bisect import bisect_right

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
    """Passes events on until a stop sequence is met in a text block; `stopped` tells that it was.

    Text that may be the beginning of a sequence is held back until it is known not to be one. Of two sequences, one of
    which begins with the other, only the shorter one can be met. So in their order each text has one place: what it
    begins with can only stand right before it, and what begins with it only right behind.
    """

    def __init__(self, sequences: list[str]) -> None:
        self._sequences: list[str] = []
        for sequence in sorted(sequences):
            if not self._sequences or not sequence.startswith(self._sequences[-1]):
                self._sequences.append(sequence)
        self._longest = max(map(len, self._sequences))
        self._first = re.compile(f"[{re.escape(''.join({sequence[0] for sequence in self._sequences}))}]")
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
        """Of several sequences that are met the one counts that is whole first, however the text is cut."""
        held = whole = len(text)
        met = ""
        for found in self._first.finditer(text):
            begin = found.start()
            if met and begin >= whole:
                break
            rest = text[begin : begin + self._longest]
            place = bisect_right(self._sequences, rest)
            before = self._sequences[place - 1] if place else ""
            if before and rest.startswith(before):
                if not met or begin + len(before) < whole:
                    met, whole = before, begin + len(before)
            elif held == len(text) == begin + len(rest) and self._may_begin(rest, place):
                held = begin
        self._met, self._held = met, "" if met else text[held:]
        if passed := text[: whole - len(met) if met else held]:
            out.append(Delta(passed))
        if met:
            out.append(BlockEnd())

    def _may_begin(self, rest: str, place: int) -> bool:
        return place < len(self._sequences) and self._sequences[place].startswith(rest)
