"""Stop sequences for upstreams that have none: the text of an answer ends where one of them begins."""

from __future__ import annotations

import re
from dataclasses import replace

from droid2api.hub.events import BlockEnd, BlockStart, Delta, Event, Finish


class StopFilter:
    """Passes events on until a stop sequence is met in a text block; `stopped` tells that it was.

    Text that may be the beginning of a sequence is held back until it is known not to be one.
    """

    def __init__(self, sequences: list[str]) -> None:
        self._prefixes = sorted({s[:end] for s in sequences for end in range(1, len(s))}, key=len, reverse=True)
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
        self._held = "" if met else next((prefix for prefix in self._prefixes if text.endswith(prefix)), "")
        passed = text[: met.start()] if met else text.removesuffix(self._held)
        if passed:
            out.append(Delta(passed))
        if met:
            self._met = met.group()
            out.append(BlockEnd())
