"""The two lanes of a streamed answer, from the upstream's bytes to the client's, without a socket.

A lane is fed with what was read and gives what is to be written. `over` is set when nothing more is to be read, `error`
when the answer failed: the client is then told by `encode_error`, or by a status if nothing was written yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from droid2api.config import Model
from droid2api.errors import GatewayError, StreamError, UpstreamError
from droid2api.formats import Clock, Format, NewId
from droid2api.formats.upstream_error import read_error
from droid2api.hub.events import Event, Failed, Finish, Start, Usage
from droid2api.hub.request import Request
from droid2api.hub.stops import StopFilter
from droid2api.hub.tools import ToolRestorer
from droid2api.wire import sse
from droid2api.wire.fields import Json


class Lane(Protocol):
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
        """What the answer cost, as far as the upstream has told."""


class RelayLane:
    """Whole events, byte for byte."""

    over = False

    def __init__(self, format: Format) -> None:
        self._format = format
        self._cutter = sse.EventCutter()
        self.feed: Callable[[bytes], bytes] = self._cutter.feed
        self.error: GatewayError | None = None

    @property
    def done(self) -> bool:
        return self._format.end.search(self._whole_rest().strip() or self._cutter.last) is not None

    def close(self, failure: UpstreamError | None) -> bytes:
        if self.done:
            return self._whole_rest()
        self.error = failure or StreamError("The upstream closed the stream before its end.")
        return b""

    def encode_error(self, error: GatewayError) -> bytes:
        return self._format.encode_stream_error(error, self._cutter.last)

    def usage(self) -> Usage | None:
        return find_usage(b"".join([self._cutter.first, *self._cutter.recent, self._cutter.rest]), self._format)

    def told_error(self) -> UpstreamError | None:
        """The upstream's own error at the end of its stream: the client has it already."""
        content = b"".join([*self._cutter.recent, self._cutter.rest])
        if not _tells_error(content):
            return None
        for line in content.splitlines():
            if line.startswith(b"data:") and _tells_error(line):
                value = _parsed(line[5:])
                if type(value) is dict and (value.get("error") or value.get("type") in ("error", "response.failed")):
                    return read_error(value)
        return None

    def _whole_rest(self) -> bytes:
        """What came after the last boundary, if only the blank line is missing: half an event is none."""
        rest = self._cutter.rest
        data = rest.rpartition(b"data:")[2].strip()
        return rest if not rest.strip() or data == b"[DONE]" or _parsed(data) is not None else b""


class AnswerReader:
    """An upstream's stream as the events that the client may see."""

    def __init__(self, model: Model, request: Request) -> None:
        self._lines = sse.Decoder()
        self._decoder = model.format.stream_decoder(model.target)
        self._stops = StopFilter(request.local_stop) if request.local_stop else None
        self._tools = ToolRestorer(request)
        self._waits = not request.stream  # for the tokens that a stopped answer used
        self.over = False

    @property
    def done(self) -> bool:
        return self._decoder.turn.done

    def feed(self, chunk: bytes) -> list[Event]:
        return self.filter(self._decoder.feed(self._lines.feed(chunk)))

    def close(self, failure: UpstreamError | None) -> list[Event]:
        if failure:
            return self.filter(self._decoder.fail(failure))
        return self.filter(self._decoder.feed(self._lines.close()) + self._decoder.close())

    def filter(self, events: list[Event]) -> list[Event]:
        """Without what comes after a stop sequence, and with the client's own names of tools."""
        if self._stops:
            events = self._stops.feed(events)
            if self._stops.stopped and not self._waits:
                self.over = True
                events += self._stops.close()
        return self._tools.feed(events)


class TranslateLane:
    """An upstream's events in the client's format."""

    def __init__(self, format: Format, model: Model, request: Request, clock: Clock, new_id: NewId) -> None:
        self._reader = AnswerReader(model, request)
        self._encoder = format.stream_encoder(request, clock, new_id)
        self._upstream = model.format
        self._beginning = b""
        self._usage: Usage | None = None
        self.over = False
        self.error: GatewayError | None = None

    @property
    def done(self) -> bool:
        return self._reader.done

    def feed(self, chunk: bytes) -> bytes:
        if len(self._beginning) < BEGINNING:
            self._beginning += chunk
        events = self._reader.feed(chunk)
        return self._encode(events) if events else b""

    def feed_whole(self, events: list[Event]) -> bytes:
        """A whole answer, for a client that wants it as a stream."""
        return self._encode(self._reader.filter(events))

    def close(self, failure: UpstreamError | None) -> bytes:
        events = [] if self.over else self._reader.close(failure)
        return self._encode(events) if events else b""

    def encode_error(self, error: GatewayError) -> bytes:
        return self._encoder.encode([Failed(error)])

    def usage(self) -> Usage | None:
        """Of an answer that was cut, what its beginning told: Anthropic's has the input."""
        return self._usage or find_usage(self._beginning, self._upstream)

    def _encode(self, events: list[Event]) -> bytes:
        last = events[-1]
        if type(last) is Finish:
            self._usage, self.over = last.usage, self._reader.over
        elif type(last) is Failed:
            self.error, self.over = last.error, True
            events = events[:-1]
            if all(type(event) is Start for event in events):  # nothing was said: the error can still be a status
                return b""
        return self._encoder.encode(events)


_JSON = json.JSONDecoder()
BEGINNING = 2000
"""Bytes in which Anthropic's first event has come."""
USAGE_LIMIT = 4000
"""Bytes that the object with the counts has at the most."""


def _tells_error(content: bytes) -> bool:
    """Whether it may: a key or a type."""
    return b'"error"' in content or b'"response.failed"' in content


def find_usage(content: bytes, format: Format) -> Usage | None:
    """What an answer says of its tokens, whole or a stream, read without parsing the rest; None if it says nothing.

    Later counts replace earlier ones, as Anthropic's message_delta does those of message_start.
    """
    told: Json = {}
    for part in content.split(b'"usage":')[1:]:
        try:
            value, _ = _JSON.raw_decode(part[:USAGE_LIMIT].decode(errors="replace").lstrip())
        except (ValueError, RecursionError):
            continue
        if type(value) is dict:
            told |= {name: count for name, count in value.items() if count is not None}
    return format.decode_usage(told) if told else None


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
