"""What must hold for any bytes of an upstream; the first byte says how they are split. For tests/fuzz.py."""

from __future__ import annotations

from collections.abc import Callable

from droid2api.formats import FORMATS
from droid2api.wire import sse
from tests.formats.carried import is_failed
from tests.formats.grammar import check_turn
from tests.formats.wire import read_stream, write_stream
from tests.gateway.faults import stream_outcome


def _split(content: bytes) -> list[bytes]:
    size, stream = content[0] + 1 if content else 1, content[1:]
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def check_sse(content: bytes) -> None:
    """The decoder reads the same in one piece, and the cutter changes nothing."""
    chunks, decoder, cutter = _split(content), sse.Decoder(), sse.EventCutter()
    events = [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.close()
    whole = sse.Decoder()
    assert events == whole.feed(content[1:]) + whole.close()
    assert b"".join(cutter.feed(chunk) for chunk in chunks) + cutter.rest == content[1:]


def stream_check(format: str) -> Callable[[bytes], None]:
    """Whatever an upstream of `format` sends is a turn in the grammar, and ends once in each client's format."""

    def check(content: bytes) -> None:
        events = read_stream(format, _split(content))
        check_turn(events)
        for client in FORMATS:
            written = write_stream(client.NAME, events)
            assert stream_outcome(client.TYPE, written) == ("error" if is_failed(events) else "regular")

    return check
