"""Server-sent events, by the bytes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from droid2api.errors import StreamError
from droid2api.wire import sse
from droid2api.wire.sse import ServerSentEvent
from tests.timing import assert_quick

# the bytes, and the events in them (the last one with or without its blank line)
WIRES = [
    (b"", []),
    (b"data: a\n\n", [(b"", b"a")]),
    (b"data:a\n\n", [(b"", b"a")]),
    (b"data:  a \n\n", [(b"", b" a ")]),
    (b"event: e\ndata: a\n\n", [(b"e", b"a")]),
    (b"data: a\nevent: e\n\n", [(b"e", b"a")]),
    (b"event:e\ndata: a\n\ndata: b\n\n", [(b"e", b"a"), (b"", b"b")]),
    (b"data: a\ndata:\ndata: b\n\n", [(b"", b"a\n\nb")]),
    (b": comment\n\ndata: a\n\n", [(b"", b"a")]),
    (b": comment\nid: 1\nretry: 5\nunknown\ndata: a\n\n", [(b"", b"a")]),
    (b"event: e\n\ndata: a\n\n", [(b"", b"a")]),
    (b"\n\n\ndata: a\n\n\n\n", [(b"", b"a")]),
    (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
    (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [(b"", b"a")]),
    (b"data: a", [(b"", b"a")]),
    (b"data: a\n", [(b"", b"a")]),
    ("data: 你好\u2028👋\u0085\n\n".encode(), [(b"", "你好\u2028👋\u0085".encode())]),
    (b"data: a\x0b\x0c\x1cb\n\n", [(b"", b"a\x0b\x0c\x1cb")]),
]


def read(chunks, **options):
    decoder = sse.Decoder(**options)
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.close()


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(("wire", "events"), WIRES)
def test_decoder(wire, events, newline):
    expected = [ServerSentEvent(*event) for event in events]
    wire = wire.replace(b"\n", newline)
    assert read([wire]) == expected
    assert read([wire[index : index + 1] for index in range(len(wire))]) == expected
    for cut in range(len(wire)):
        assert read([wire[:cut], b"", wire[cut:]]) == expected


PIECES = [
    b"data: ",
    b"data:",
    b"event: ",
    b"event:",
    b"a",
    b" ",
    b"{",
    b":",
    b"\n",
    b"\n\n",
    b"\r",
    b"\r\n",
    b"\xef\xbb\xbf",
]
chunks_of = st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join), max_size=6)


@given(chunks_of)
@example([b"event: data: a\ndata: b\n\n"])
@example([b"a", b"data: a\n\n"])
@example([b"data: a\n", b"data: b\n\n"])
@example([b"event: a\n", b"data: b\n\n"])
@example([b"event: a\nevent: b\ndata: c\n\n"])
@example([b"a", b"\r", b"\ndata: a\n\n"])
@example([b"data: a\n\ndata: b\n", b"data: c\n\n"])
@example([b"data: a\n\nevent: b\n", b"data: c\n\n"])
@example([b"\n{}\n", b"data: c\n\n"])
def test_it_does_not_matter_how_the_bytes_come(chunks):
    wire = b"".join(chunks)
    by_byte = [wire[index : index + 1] for index in range(len(wire))]
    assert read(chunks) == read([wire]) == read(by_byte)


def test_events_go_out_as_soon_as_they_are_whole():
    decoder = sse.Decoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\ndata: b\r\n\r") == [(b"", b"a"), (b"", b"b")]
    assert decoder.feed(b"\n") == []
    assert decoder.close() == []


def test_encode_is_the_decoders_inverse():
    assert read([sse.encode(b"e", "é".encode())]) == [(b"e", "é".encode())]


@pytest.mark.parametrize("chunks", [[b"data: 0123456789"], [b"data: 1", b"23456789"], [b"data: 1\n", b"data: 2345\n"]])
def test_an_event_has_a_limit(chunks):
    with pytest.raises(StreamError, match="more than 14 bytes"):
        read(chunks, limit=14)


def test_many_small_events_have_none():
    assert len(read([b"data: 0123\n\n"] * 100, limit=14)) == 100


def test_a_long_line_in_small_reads_takes_linear_time():
    line = b"data: " + b"x" * 4_000_000 + b"\n\n"
    chunks = [line[position : position + 4096] for position in range(0, len(line), 4096)]
    [event] = read(chunks)
    assert len(event.data) == 4_000_000
    assert_quick(lambda: read(chunks), 1)


# -- the relay lane's cutter ----------------------------------------------------------------------------------------

CUTS = [
    (b"data: a\n\ndata: b\n\n", b"data: a\n\ndata: b\n\n", b"data: b", b""),
    (b"data: a\n\ndata: b", b"data: a\n\n", b"data: a", b"data: b"),
    (b"data: a\r\n\r\ndata: b\r\n", b"data: a\r\n\r\n", b"data: a", b"data: b\r\n"),
    (b"data: a\r\rdata: b", b"data: a\r\r", b"data: a", b"data: b"),
    (b"data: a\n\n\n: c\n\n", b"data: a\n\n\n: c\n\n", b"data: a", b""),
    (b"data: a", b"", b"", b"data: a"),
    (b"event: e\ndata: a\n\n", b"event: e\ndata: a\n\n", b"event: e\ndata: a", b""),
]


@pytest.mark.parametrize(("wire", "whole", "last", "rest"), CUTS)
def test_cutter(wire, whole, last, rest):
    cutter = sse.EventCutter()
    assert cutter.feed(wire) == whole
    assert cutter.last.strip(b"\r\n").removesuffix(b": c").strip(b"\n") == last
    assert cutter.rest == rest
    for cut in range(len(wire)):
        cutter = sse.EventCutter()
        assert cutter.feed(wire[:cut]) + cutter.feed(wire[cut:]) + cutter.rest == wire
        assert cutter.last.strip(b"\r\n").removesuffix(b": c").strip(b"\n") == last
        assert cutter.rest.lstrip(b"\r\n") == rest.lstrip(b"\r\n")
    cutter = sse.EventCutter()
    single = b"".join(cutter.feed(wire[index : index + 1]) for index in range(len(wire)))
    assert single + cutter.rest == wire


def test_what_is_above_the_limit_can_be_read():
    cutter = sse.EventCutter()
    assert cutter.feed(b"data: a\n\n")
    with pytest.raises(StreamError):
        cutter.feed(b"data: " + b"b" * sse.EVENT_LIMIT)
    assert [len(event.data) for event in cutter.last_events(4)] == [1, sse.EVENT_LIMIT]


def test_cutter_has_a_limit():
    cutter = sse.EventCutter(limit=10)
    cutter.feed(b"data: a\n\n" * 10)
    with pytest.raises(StreamError, match="more than 10 bytes"):
        cutter.feed(b"data: 0123456789")
