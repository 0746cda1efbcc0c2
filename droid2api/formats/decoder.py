"""What the stream decoders of all formats share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import orjson

from droid2api.errors import StreamError
from droid2api.hub.events import Citation, Event
from droid2api.hub.turn import Turn
from droid2api.wire.fields import Json, string
from droid2api.wire.sse import ServerSentEvent

T = TypeVar("T")


class TurnDecoder:
    """What the three stream decoders share: errors of the wire become one Failed, and input that stops early too.

    A subclass gives `read_value`, which reads one JSON value of the wire into `turn`.
    """

    def __init__(self) -> None:
        self.turn = Turn()

    def feed(self, events: Iterable[ServerSentEvent]) -> list[Event]:
        return self._read_all(self.read, events)

    def feed_values(self, values: Iterable[Json]) -> list[Event]:
        return self._read_all(self.read_value, values)

    def close(self) -> list[Event]:
        """The input has ended. Without an end of the turn that is a failure, never a success."""
        self.turn.fail(StreamError("The upstream closed the stream before its end."))
        return self.turn.take()

    def read(self, event: ServerSentEvent) -> None:
        self.read_value(orjson.loads(event.data))

    def read_value(self, value: Json) -> None:
        raise NotImplementedError

    def _read_all(self, read: Callable[[T], None], items: Iterable[T]) -> list[Event]:
        turn = self.turn
        try:
            for item in items:
                if turn.done:
                    break
                read(item)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            turn.fail(StreamError(f"The upstream sent an event that cannot be read ({type(error).__name__})."))
        return turn.take()


def read_citation(value: Json) -> Citation | None:
    """A citation of a page, in the words that all formats have for it; None for one without a URL."""
    url, start, end = value.get("url"), value.get("start_index"), value.get("end_index")
    if type(url) is not str or not url:
        return None
    offsets = [offset if type(offset) is int else None for offset in (start, end)]
    return Citation(url, string(value, "title"), *offsets)
