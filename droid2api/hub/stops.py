"""Stop sequences for upstreams that have none: the text of an answer ends where one of them begins."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import replace

from droid2api.errors import RequestError
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Event, Finish

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

    Text that may be the beginning of a sequence is held back until it is known not to be one.
    """

    def __init__(self, sequences: list[str]) -> None:
        self._sequences = sorted(sequences)
        self._longest = max(map(len, sequences), default=0)
        self._first = re.compile(
            "[" + "".join(re.escape(char) for char in {sequence[0] for sequence in sequences}) + "]"
        )
        self._pattern = re.compile("|".join(re.escape(sequence) for sequence in sequences))
        self._in_text = False
        self._held = ""
        self._met = ""

    @property
    def stopped(self) -> bool:
        return bool(self._met)

    def feed(self, events: list[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            if self._met:
                if isinstance(event, Finish):
                    out.append(replace(event, reason="stop", raw="stop_sequence", stop_sequence=self._met))
            elif self._in_text and isinstance(event, Delta):
                self._read_text(self._held + event.text, out)
            else:
                if isinstance(event, BlockStart):
                    self._in_text = event.kind == "text"
                elif isinstance(event, BlockEnd) and self._held:
                    out.append(Delta(self._held))
                    self._held = ""
                out.append(event)
        return out

    def close(self) -> list[Event]:
        """The end of a stopped stream, when the upstream is not waited for; how many tokens it used is not known."""
        return [Finish("stop", "stop_sequence", stop_sequence=self._met)]

    def _read_text(self, text: str, out: list[Event]) -> None:
        met = self._pattern.search(text)
        self._held = "" if met else self._beginning_of_one(text)
        passed = text[: met.start()] if met else text.removesuffix(self._held)
        if passed:
            out.append(Delta(passed))
        if met:
            self._met = met.group()
            out.append(BlockEnd())

    def _beginning_of_one(self, text: str) -> str:
        """The longest end of the text with which a sequence may begin."""
        for found in self._first.finditer(text, max(0, len(text) - self._longest + 1)):
            end = text[found.start() :]
            index = bisect_left(self._sequences, end)
            if index < len(self._sequences) and self._sequences[index].startswith(end):
                return end
        return ""
