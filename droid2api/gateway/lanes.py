"""The lanes of an answer, from the upstream's bytes to the client's, without a socket.

    RelayStream    a stream in the client's own format: whole events, byte for byte
    RelayBody      any other answer in the client's own format, errors too: byte for byte
    TranslateLane  an answer in another format: bytes -> decoder -> filters -> encoder -> bytes
    ErrorLane      an error answer in another format: it becomes the error of the call

A lane is fed with what was read and gives what is to be written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import orjson

from droid2api.errors import GatewayError, StreamError, UpstreamError
from droid2api.formats import Clock, Format, NewId
from droid2api.formats.decoder import MOST_SHOWN
from droid2api.formats.endings import TOO_MANY_VALUES, Ending
from droid2api.gateway.prepare import Prepared
from droid2api.hub.events import Event, Failed, Finish, Start, Usage
from droid2api.hub.request import Request, Target, ToolCall
from droid2api.hub.stops import StopFilter
from droid2api.hub.tools import ToolRestorer
from droid2api.wire import sse, surrogates
from droid2api.wire.fields import Json, has_too_many_values

BODY_LIMIT = 64 * 1024 * 1024
"""Bytes that an answer may have which is read as a whole."""
MOST_ERROR = 256 * 1024
"""Bytes of an error's JSON that is searched for its words; of a longer one the beginning is shown."""


class Lane(Protocol):
    """`streams`: whether the client gets a stream; else `close` gives the whole body. `over` is set when nothing more
    is to be read, `error` when the answer failed: the client must then be told, by `encode_error` or by a status.
    """

    streams: bool
    over: bool
    error: GatewayError | None

    def feed(self, chunk: bytes, /) -> bytes:
        """Read bytes to bytes to be written. Raises UpstreamError for what no client could be given."""

    @property
    def done(self) -> bool:
        """Whether the answer is whole, even if the upstream keeps the connection open."""

    def close(self, failure: UpstreamError | None) -> bytes:
        """The input has ended, by a `failure` or by itself: what is still to be written."""

    def encode_error(self, error: GatewayError) -> bytes:
        """The one error event that the client's format has."""

    def usage(self) -> Usage | None:
        """What the answer cost, as far as the upstream has said."""

    def relayed_error(self) -> UpstreamError | None:
        """The upstream's own error, which the client has as the upstream said it."""


def begins_stream(first: bytes, labelled: bool) -> bool:
    """Whether an answer that begins so is a stream of events; `labelled`: whether its Content-Type says so.

    Some services label a stream as JSON or text (metapi#177), others an error in JSON as a stream.
    """
    begun = first.removeprefix(_BOM).lstrip()[:6]
    if begun[:1] in (b"{", b"["):
        return False
    return labelled or (bool(begun) and any(mark.startswith(begun[: len(mark)]) for mark in _STREAM_BEGINNINGS))


_BOM = b"\xef\xbb\xbf"
_STREAM_BEGINNINGS = (b"data:", b"event:", b"id:", b"retry:", b":")


def choose_lane(format: Format, prepared: Prepared, status: int, streamed: bool, clock: Clock, new_id: NewId) -> Lane:
    """The lane for an answer with this status to a client that speaks `format`."""
    if prepared.request is None:
        return RelayStream(format) if status == 200 and streamed else RelayBody(format, status)
    if status != 200:
        return ErrorLane(prepared.model.format, status)
    return TranslateLane(format, prepared, prepared.request, streamed, clock, new_id)


# -- relay ----------------------------------------------------------------------------------------------------------

LAST_EVENTS = 4
"""Events at a stream's end that may tell of its end and its usage: finish, usage and [DONE] may each have their own."""


class RelayStream:
    """Nothing is parsed before the end, and then only the first event and the last ones."""

    streams = True
    over = False

    def __init__(self, format: Format) -> None:
        self._format = format
        self._cutter = sse.EventCutter()
        self.feed: Callable[[bytes], bytes] = self._cutter.feed
        self._known: dict[sse.ServerSentEvent, Ending] = {}
        self.error: GatewayError | None = None

    @property
    def done(self) -> bool:
        return any(ending.done for ending in self._endings())

    def close(self, failure: UpstreamError | None) -> bytes:
        told = self._format.ending(sse.ServerSentEvent(b"", self._cutter.rest)).error  # JSON that is called a stream
        if self.done and (self._cutter.last or not told):
            return self._whole_rest()
        rest = self._cutter.rest.strip()
        if rest and not told and not self._cutter.last and not begins_stream(rest, labelled=False):
            told = _no_answer(rest)
        self.error = failure or told or StreamError("The upstream closed the stream before its end.")
        return b""

    def encode_error(self, error: GatewayError) -> bytes:
        return self._format.encode_stream_error(error, self._cutter.last)

    def usage(self) -> Usage | None:
        """Later counts replace earlier ones, as Anthropic's message_delta does those of message_start."""
        counts: dict[str, Any] = {}
        for ending in self._endings(self._cutter.first_events()) + self._endings():
            counts |= {name: count for name, count in (ending.usage or {}).items() if count is not None}
        return self._format.decode_usage(counts) if counts else None

    def relayed_error(self) -> UpstreamError | None:
        return next((ending.error for ending in self._endings() if ending.error), None)

    def _endings(self, events: Sequence[sse.ServerSentEvent] | None = None) -> list[Ending]:
        """What these events say of the end, else the last ones, which are asked several times and may be megabytes."""
        if events is not None:
            return [self._format.ending(event) for event in events]
        last, known = self._cutter.last_events(LAST_EVENTS), self._known
        self._known = {event: known.get(event) or self._format.ending(event) for event in last}
        return [self._known[event] for event in last]

    def _whole_rest(self) -> bytes:
        """What came after the last boundary, if only the blank line is missing: half an event is none."""
        rest = self._cutter.rest
        events = sse.decode(rest)
        whole = not rest.strip() or (events and all(self._is_whole(event) for event in events))
        return rest if whole else b""

    def _is_whole(self, event: sse.ServerSentEvent) -> bool:
        return self._format.ending(event).done or is_json(event.data)


class Beginning:
    """How a stream begins, where another model may answer in its place."""

    def __init__(self, format: Format, target: Target) -> None:
        self._format = format
        self._lines = sse.Decoder()
        self._decoder = format.StreamDecoder(target)

    def feed(self, chunk: bytes) -> bool:
        """Whether the answer has begun: more than its head is there. Raises the UpstreamError that comes instead."""
        events = self._lines.feed(chunk)
        for event in events:
            if error := self._format.ending(event).error:
                raise error
        return any(type(event) is not Start for event in self._decoder.feed(events))


class RelayBody:
    streams = False
    over = False
    done = False

    def __init__(self, format: Format, status: int) -> None:
        self._format = format
        self._status = status
        self._body = _Body()
        self._ending = Ending()
        self.error: GatewayError | None = None

    def feed(self, chunk: bytes, /) -> bytes:
        self._body.add(chunk)
        return b""

    def close(self, failure: UpstreamError | None) -> bytes:
        self.error = failure
        content = self._body.content
        if 200 < self._status < 400:  # nothing, or elsewhere: passed on, but no answer
            self._ending = Ending(error=UpstreamError(f"The upstream's answer has the status {self._status}."))
        elif self._status < 400:
            self._ending = self._format.ending(sse.ServerSentEvent(b"", content))
        else:
            self._ending = Ending(error=_read_error(self._format, content, self._status))
        return b"" if failure else content

    def encode_error(self, error: GatewayError) -> bytes:
        raise AssertionError("a whole answer has not begun before its end")

    def usage(self) -> Usage | None:
        usage = self._ending.usage
        return self._format.decode_usage(usage) if usage else None

    def relayed_error(self) -> UpstreamError | None:
        return self._ending.error


# -- translate ------------------------------------------------------------------------------------------------------


class ErrorLane:
    """The upstream's error for the client's envelope: same status, same message."""

    streams = False
    over = False
    done = False

    def __init__(self, upstream: Format, status: int) -> None:
        self._format = upstream
        self._status = status if status >= 400 else 502
        self._body = _Body()
        self.error: GatewayError | None = None

    def feed(self, chunk: bytes, /) -> bytes:
        self._body.add(chunk)
        return b""

    def close(self, failure: UpstreamError | None) -> bytes:
        self.error = failure or _read_error(self._format, self._body.content, self._status)
        return b""

    def encode_error(self, error: GatewayError) -> bytes:
        raise AssertionError("an error answer becomes a status")

    def usage(self) -> Usage | None:
        return None

    def relayed_error(self) -> UpstreamError | None:
        return None


class AnswerReader:
    """An upstream's answer, streamed or whole, as the events that the client may see.

    `waits` says that an answer which a stop sequence has ended is read on, for the tokens that it used.
    """

    def __init__(self, prepared: Prepared, streamed: bool, waits: bool) -> None:
        self._format = prepared.model.format
        self._target = prepared.model.target
        self._used_ids = _call_ids(prepared.request)
        self._decoder = self._format.StreamDecoder(self._target, self._used_ids)
        self._lines = sse.Decoder()
        self._body: _Body | None = None if streamed else _Body()
        self._begun = False
        self._odd = b""
        """How a stream began that is none."""
        self._stops = StopFilter(prepared.local_stop) if prepared.local_stop else None
        self._tools = ToolRestorer(prepared.tool_names)
        self._waits = waits
        self._usage: Usage | None = None
        self.over = False

    @property
    def done(self) -> bool:
        return self._body is None and self._decoder.turn.done

    @property
    def usage(self) -> Usage | None:
        """What the upstream has said of it until now."""
        return self._usage or self._decoder.usage

    def feed(self, chunk: bytes) -> list[Event]:
        if not self._begun and chunk.strip():
            self._begun = True
            self._body = None if begins_stream(chunk, self._body is None) else _Body()
            self._odd = b"" if begins_stream(chunk, labelled=False) else chunk.strip()
        if self._body:
            self._body.add(chunk)
            return []
        return self._filter(self._decoder.feed(self._lines.feed(chunk)))

    def close(self, failure: UpstreamError | None) -> list[Event]:
        if failure:
            return self._filter(self._decoder.fail(failure))
        if self._body:
            return self._filter(self._read_whole(self._body.content))
        events = self._decoder.feed(self._lines.close())
        if self._odd and not self._decoder.turn.started and self._decoder.noted is None:
            self._decoder.noted = _no_answer(self._odd)
        return self._filter(events + self._decoder.close())

    def _read_whole(self, content: bytes) -> list[Event]:
        if has_too_many_values(content):
            return self._decoder.fail(StreamError(f"The upstream sent {TOO_MANY_VALUES}."))
        value = _json(content)
        if value is None and content.strip() and content.lstrip()[:1] not in (b"{", b"["):
            return self._decoder.fail(_no_answer(content.strip()))
        events = self._format.decode_response(value, self._target, self._used_ids)
        if type(events[-1]) is Finish:
            self._usage = events[-1].usage
        return events

    def _filter(self, events: list[Event]) -> list[Event]:
        """Without what comes after a stop sequence, and with the client's own names of tools."""
        if self._stops:
            events = self._stops.feed(events)
            if self._stops.stopped and not self._waits:
                self.over = True
                events += self._stops.close()
        return self._tools.feed(events)


def _call_ids(request: Request | None) -> set[str]:
    """The ids that the conversation's tool calls have: some services give the same ones again in each answer."""
    parts = [part for message in (request.messages if request else ()) for part in message.parts]
    return {part.id for part in parts if isinstance(part, ToolCall)}


class TranslateLane:
    """An upstream's events in the client's format: as they come, or in one piece at the end."""

    def __init__(
        self, format: Format, prepared: Prepared, request: Request, streamed: bool, clock: Clock, new_id: NewId
    ) -> None:
        self.streams = streamed if request.stream is None else request.stream
        self.over = False
        self.error: GatewayError | None = None
        self._reader = AnswerReader(prepared, streamed, waits=not self.streams)
        self._encoder = format.StreamEncoder(request, clock, new_id)
        self._encode_whole: Callable[[list[Event]], Json] = lambda events: format.encode_response(
            events, request, clock, new_id
        )
        self._events: list[Event] = []

    @property
    def done(self) -> bool:
        return self._reader.done

    def feed(self, chunk: bytes, /) -> bytes:
        events = self._reader.feed(chunk)
        return self._encode(events) if events else b""

    def close(self, failure: UpstreamError | None) -> bytes:
        events = [] if self.over else self._reader.close(failure)
        written = self._encode(events) if events else b""
        return written if self.streams else self._encode_all()

    def encode_error(self, error: GatewayError) -> bytes:
        return self._encoder.encode([Failed(error)])

    def usage(self) -> Usage | None:
        return self._reader.usage

    def relayed_error(self) -> UpstreamError | None:
        return None

    def _encode(self, events: Sequence[Event]) -> bytes:
        last = events[-1]
        if type(last) is Finish:
            self.over = self._reader.over
        elif type(last) is Failed:
            self.error, self.over = last.error, True
            events = events[:-1]
        if not self.streams:
            self._events += events
            return b""
        if self.error and all(type(event) is Start for event in events):
            return b""  # nothing was said: the error can still be a status
        return self._encoder.encode(list(events))

    def _encode_all(self) -> bytes:
        return b"" if self.error else orjson.dumps(self._encode_whole(self._events))


# -- both -----------------------------------------------------------------------------------------------------------


class _Body:
    """What is read as a whole."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Raises UpstreamError above BODY_LIMIT."""
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._size > BODY_LIMIT:
            raise UpstreamError(f"The upstream's answer has more than {BODY_LIMIT} bytes.")

    @property
    def content(self) -> bytes:
        return b"".join(self._parts)


def _json(content: bytes) -> Any:
    """None for what is no JSON, or too much of it. Halves of characters, which some services send, become U+FFFD."""
    if has_too_many_values(content):
        return None
    content = content.removeprefix(_BOM)
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    try:
        return surrogates.mend(surrogates.parse(content))
    except RecursionError:
        return None


def _no_answer(content: bytes) -> StreamError:
    """For a text in place of events or JSON: it is most often a proxy's, and says what is wrong."""
    return StreamError(f"The upstream sent no answer but: {content[:MOST_SHOWN].decode(errors='replace')}")


def is_json(content: bytes) -> bool:
    return _json(content) is not None


def _read_error(format: Format, content: bytes, status: int) -> UpstreamError:
    value = _json(content) if len(content) <= MOST_ERROR else None
    return format.read_error(content[:8000].decode(errors="replace")[:2000] if value is None else value, status)
