"""What the stream decoders of all formats share: whose fault an error is, limits, and ids of tool calls.

Theory of operation. A decoder is fed server-sent events, and tells a Turn what they say; the Turn keeps the order of
blocks and holds the events until they are taken. Held back is an event that ends in a half of a character, since the
next one may begin with the other half. The turn ends with the upstream's own end, with its error, with the first event
that cannot be read, or as a failure when the input stops; whatever comes after that is left out.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from typing import ClassVar

import orjson

from droid2api.errors import StreamError, UpstreamError, WireError
from droid2api.formats.endings import DONE, TOO_MANY_VALUES, list_error
from droid2api.formats.upstream_error import find_words, read_error, tells_error
from droid2api.hub.events import Citation, Event, Finish, FinishReason, Usage
from droid2api.hub.request import Target
from droid2api.hub.turn import Turn
from droid2api.wire import surrogates
from droid2api.wire.fields import MOST_VALUES, Json, has_too_many_values, json_text, word
from droid2api.wire.sse import ServerSentEvent

ANSWER_LIMIT = 64 * 1024 * 1024
"""Bytes of events that one answer may have, as a whole JSON answer may."""
MOST_SHOWN = 200
"""Bytes of an event that cannot be read which the client is told."""
MEDIA = "a picture or a file in its answer, which cannot be passed on"


class CallIds:
    """Gives each tool call an id that no other has: none of this answer, and none of `used`, the conversation's."""

    def __init__(self, turn: Turn, used: Collection[str]) -> None:
        self._turn = turn
        self._used = set(used)
        self._answer_id = ""
        self._count = 0

    def assign(self, told: str) -> str:
        """The upstream's own id; a made one where it gave none, or one that another call has."""
        id = told
        if id and id not in self._used:
            self._count += 1
        else:
            self._answer_id = self._answer_id or self._turn.id or uuid.uuid4().hex
            while not id or id in self._used:
                id = f"call_{self._answer_id}_{self._count}"
                self._count += 1
        self._used.add(id)
        return id


class TurnDecoder:
    """Reads an upstream's answer into a Turn and hands out its events.

    What cannot be read (WireError) becomes one Failed, and so does input that stops before its end. Any other exception
    is a mistake in this program and passes through.

    A subclass gives `read_value`, which reads one JSON object of the wire and puts what that tells of tokens into
    `counts`, and `decode_usage`, which reads those. It writes to `turn`, asks `call_ids` for the id of a call, and ends
    the turn with `finish`. The other methods are for whoever feeds the wire.
    """

    decode_usage: ClassVar[staticmethod[[Json], Usage]]

    def __init__(self, target: Target, used_ids: Collection[str] = ()) -> None:
        self.target = target
        self.turn = Turn()
        self.call_ids = CallIds(self.turn, used_ids)
        self.counts: Json = {}
        self.left_out = ""
        """The kind of a part of the answer that no client can be given."""
        self.noted: UpstreamError | None = None
        """What was no part of an answer but had words: should the answer end badly, they say why."""
        self._room = ANSWER_LIMIT
        self._halves = surrogates.Halves()

    def feed(self, events: Iterable[ServerSentEvent]) -> list[Event]:
        """The events of the turn that these events of the wire make."""
        turn = self.turn
        try:
            for event in events:
                if turn.done:
                    break
                size = len(event.data)
                self._room -= size
                if self._room < 0:
                    raise WireError(f"more than {ANSWER_LIMIT} bytes in one answer")
                if size > MOST_VALUES and has_too_many_values(event.data):
                    raise WireError(TOO_MANY_VALUES)
                try:
                    value = orjson.loads(event.data)
                except orjson.JSONDecodeError:
                    self._read_unusual(event.data)
                    continue
                if type(value) is not dict:
                    if error := list_error(value):
                        turn.fail(error)
                        break
                    raise WireError(f"an event that is no JSON object: {_shown(event.data)}")
                if self._halves.waiting is not None:
                    self._halves.release_to(self.read_value)
                    if turn.done:
                        break
                self.read_value(value)
        except WireError as error:
            turn.fail(_unreadable(error))
        return turn.drain()

    def feed_values(self, values: Iterable[Json]) -> list[Event]:
        """The same for JSON objects that were read already: those of a whole answer."""
        turn = self.turn
        try:
            for value in values:
                if turn.done:
                    break
                self.read_value(value)
        except WireError as error:
            turn.fail(_unreadable(error))
        return turn.drain()

    def close(self) -> list[Event]:
        """The input has ended. Without an end of the turn that is a failure, never a success."""
        turn = self.turn
        try:
            if not turn.done:
                self._halves.release_to(self.read_value)
            if not turn.done:
                self.read_end()
        except WireError as error:
            turn.fail(_unreadable(error))
        return self.fail(self.noted or StreamError("The upstream closed the stream before its end."))

    def fail(self, error: UpstreamError) -> list[Event]:
        """The input broke. Nothing happens when the turn has ended already."""
        self.turn.fail(error)
        return self.turn.drain()

    @property
    def usage(self) -> Usage | None:
        """What the upstream has told of its tokens so far."""
        return self.decode_usage(self.counts) if self.counts else None

    def read_value(self, value: Json) -> None:
        """Read one JSON object of the wire. Raises WireError for what cannot be read, as the methods below do."""
        raise NotImplementedError

    def read_done(self) -> None:
        """Read [DONE]: an end in the Chat format only."""

    def read_end(self) -> None:
        """The input has ended before the turn: the last chance to end or to fail it."""

    def read_unknown(self, value: Json) -> None:
        """Read an error, or an event of a type that nobody knows. Raises WireError for one that has no type."""
        kind = value.get("type")
        if tells_error(value) or (kind is None and find_words(value)):
            self.turn.fail(read_error(value))
        elif type(kind) is not str:
            raise WireError(f"an event without a type: {_shown(json_text(value).encode())}")
        elif find_words(value):
            self.noted = read_error(value)

    def finish(self, reason: FinishReason, told: str, stop_sequence: str | None = None) -> None:
        """End the turn, for the reason that the upstream `told` in its own word."""
        if reason == "stop" and self.left_out and not self.turn.blocks:
            self.turn.fail(StreamError(f"The upstream's answer has nothing but {self.left_out[:100]!r}."))
        else:
            self.turn.finish(Finish(reason, told, self.usage or Usage(), stop_sequence))

    def _read_unusual(self, data: bytes) -> None:
        """Read an event that is no strict JSON: with a half of a character in it, empty, or [DONE]."""
        value, mark = surrogates.parse(data), data.strip()
        if type(value) is dict:
            self._halves.join(value)
        self._halves.release_to(self.read_value)
        if type(value) is dict:
            self._halves.waiting = value
        elif mark == DONE and not self.turn.done:
            self.read_done()
        elif mark and mark != DONE:
            raise WireError(f"an event that is not JSON: {_shown(mark)}")


def _unreadable(error: WireError) -> StreamError:
    return StreamError(f"The upstream sent {error}.")


def _shown(data: bytes) -> str:
    """What an event says that cannot be read: it may be the words of an error."""
    return data[:MOST_SHOWN].decode(errors="replace")


def read_citation(value: Json) -> Citation | None:
    """A citation of a page, in the words that all formats have for it; None for one without a URL."""
    url = value.get("url")
    if type(url) is not str or not url:
        return None
    offsets = [value.get(name) for name in ("start_index", "end_index")]
    places = [offset if type(offset) is int and offset >= 0 else None for offset in offsets]
    return Citation(url, word(value, "title"), *places)
