"""Server-sent events: bytes to (event, data) and back (HTML Living Standard, 9.2.6).

Knows no JSON and no API format. Works on bytes, so that a character or a CRLF split over two reads is nothing special,
and in linear time: a long line is joined once, when its end is there.
"""

from collections import deque
from typing import NamedTuple

from droid2api.errors import StreamError

EVENT_LIMIT = 32 * 1024 * 1024
"""Bytes that one event may have; `response.completed` repeats a whole answer, so it can be megabytes."""


class ServerSentEvent(NamedTuple):
    event: bytes
    data: bytes


def encode(event: bytes, data: bytes) -> bytes:
    """One named event; `data` must be one line, as JSON is."""
    return b"event: %b\ndata: %b\n\n" % (event, data)


class Decoder:
    """Raises StreamError for an event above `limit` bytes."""

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._size = 0
        self._line: list[bytes] = []
        self._skip_newline = False
        self._first = True
        self._between = True
        self._event = b""
        self._data: list[bytes] = []
        self._bare: list[bytes] = []

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        if self._skip_newline or b"\r" in chunk:
            chunk = self._unify_newlines(chunk)
        if self._between and (event := _whole_event(chunk)):
            self._first = False
            return [event]
        self._size += len(chunk)
        if b"\n" not in chunk:
            self._check_size()
            self._line.append(chunk)
            self._between = False
            return []
        self._line.append(chunk)
        lines = b"".join(self._line).split(b"\n")
        self._line = [lines.pop()]
        if self._first and lines:
            self._first = False
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        return self._read_lines(lines)

    def close(self) -> list[ServerSentEvent]:
        """The input has ended: an event whose blank line is missing still counts (real upstreams forget it), and so
        does JSON at the end that is in no event (some send errors so)."""
        events = self.feed(b"\n\n")
        if bare := b"\n".join(self._bare):
            self._bare = []
            events.append(ServerSentEvent(b"", bare))
        return events

    def _read_lines(self, lines: list[bytes]) -> list[ServerSentEvent]:
        events = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line:
                if self._data:
                    events.append(ServerSentEvent(self._event, b"\n".join(self._data)))
                    self._data = []
                    if self._bare:
                        self._bare = []
                self._event = b""
                if not self._bare:
                    self._size = len(self._line[0])
            elif line.startswith(b"event:"):
                self._event = line[6:].removeprefix(b" ")
            elif self._bare or line[:1] in (b"{", b"["):
                self._bare.append(line)
        self._between = not (self._line[0] or self._data or self._event or self._bare)
        self._check_size()
        return events

    def _unify_newlines(self, chunk: bytes) -> bytes:
        if self._skip_newline and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._skip_newline = False
        self._skip_newline = self._skip_newline or chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _check_size(self) -> None:
        if self._size > self._limit:
            raise StreamError(f"The upstream sent an event of more than {self._limit} bytes.")


def _whole_event(chunk: bytes) -> ServerSentEvent | None:
    """The event that a chunk is, and nothing else, as services send them when they pause between them: with one line of
    data, and a name before it or none.
    """
    head, found, data = chunk.partition(b"data: ")
    if not found or data.find(b"\n") != len(data) - 2 or data[-1:] != b"\n":
        return None
    if not head:
        return ServerSentEvent(b"", data[:-2])
    if head.startswith(b"event: ") and head.find(b"\n") == len(head) - 1:
        return ServerSentEvent(head[7:-1], data[:-2])
    return None


def decode(content: bytes) -> list[ServerSentEvent]:
    """The events of a piece of a stream, of any size since it is there; the last blank line may be missing."""
    decoder = Decoder(len(content) + 2)
    return decoder.feed(content) + decoder.close()


class ArrayWriter:
    """Turns server-sent events into one JSON array of what their data is; their blank lines are white space there."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._next = b"["

    def feed(self, content: bytes) -> bytes:
        written = self._write(self._decoder.feed(content))
        return written if written or content.strip() else content

    def close(self) -> bytes:
        return self._write(self._decoder.close()) + (b"[]" if self._next == b"[" else b"]")

    def _write(self, events: list[ServerSentEvent]) -> bytes:
        out = []
        for event in events:
            out += [self._next, event.data]
            self._next = b",\r\n"
        return b"".join(out)


_WHOLE = (b"\n\n", b"\r\n\r\n")


class EventCutter:
    """Cuts a byte stream at event boundaries and changes no byte of it.

    The relay lane forwards whole events only, so that an error event can always follow. The first piece that was given
    out and the newest ones with data are kept; `rest` is what came after the last boundary.
    """

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._end = b""
        self._first = b""
        self._recent: deque[bytes] = deque(maxlen=4)

    @property
    def last(self) -> bytes:
        """The newest whole event with data."""
        return next((event for piece in reversed(self._recent) if (event := _last_event(piece))), b"")

    def first_events(self) -> list[ServerSentEvent]:
        """The first event with data, and what else came in one piece before it; none before there is one."""
        end = self._first.find(b"\n", self._first.find(b"data:"))
        return decode(self._first[: end if end > 0 else None]) if self._first else []

    def last_events(self, count: int) -> list[ServerSentEvent]:
        """The newest events with data, at least `count` lines of it, whole or not; older than 4 pieces are none."""
        content = b"".join([*self._recent, *self._parts])
        start = len(content)
        for _ in range(count):
            start = max(content.rfind(b"\ndata:", 0, start), content.rfind(b"\rdata:", 0, start), 0)
        return decode(content[_last_boundary(content, start + 1) :])

    @property
    def rest(self) -> bytes:
        return b"".join(self._parts)

    def feed(self, chunk: bytes) -> bytes:
        """The bytes up to the last event boundary, or nothing. Raises StreamError for an event above `limit` bytes."""
        if not self._size and chunk.endswith(_WHOLE):  # as services write: whole events only
            return self._note(chunk)
        window = self._end + chunk
        boundary = _last_boundary(window, len(window))
        if not boundary:
            self._parts.append(chunk)
            self._size += len(chunk)
            self._end = window[-3:]
            if self._size > self._limit:
                raise StreamError(f"The upstream sent an event of more than {self._limit} bytes.")
            return b""
        cut = boundary - len(self._end)
        head, tail = chunk[:cut], chunk[cut:]
        whole = b"".join([*self._parts, head])
        self._parts, self._size, self._end = [tail], len(tail), tail[-3:]
        return self._note(whole)

    def _note(self, whole: bytes) -> bytes:
        if b"data:" in whole or whole.startswith(b"{"):
            self._first = self._first or whole
            self._recent.append(whole)
        return whole


def _last_boundary(content: bytes, end: int) -> int:
    """Where the last blank line before `end` ends; 0 without one."""
    marks = (b"\n\n", b"\n\r\n", b"\r\r") if b"\r" in content else (b"\n\n",)  # a search for what is not there is slow
    boundary = 0
    for mark in marks:
        if (found := content.rfind(mark, 0, end)) >= 0:
            boundary = max(boundary, found + len(mark))
    return boundary


def _last_event(content: bytes) -> bytes:
    """The last event with data and what follows it: blank lines and comments may come after a stream's end."""
    data = content.rfind(b"\ndata:") + 1
    if b"\r" in content:
        data = max(data, content.rfind(b"\rdata:") + 1)
    if not data and not content.startswith(b"data:"):
        return b""
    return content[_last_boundary(content, data) :]
