"""The fault matrix: whatever an upstream does, on both lanes, the client gets one well-formed end and nothing is left."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import zlib

import pytest

from droid2api.formats import FORMATS
from tests.faults import Line, ask, faulty_gateway, outcome
from tests.formats.recordings import OWN, STREAMS
from tests.harness import PATHS

CHUNKED = "Transfer-Encoding: chunked"

PAIRS = list(itertools.product(PATHS, PATHS))
FEW = [("anthropic", "anthropic"), ("openai", "common"), ("common", "openai")]
"""The pairs for faults of many megabytes."""
FAULTS = []


def fault(stream, whole=None, relayed=None, pairs=PAIRS):
    """The outcome that is right for a stream, for an answer in one piece, and for that on the relay lane."""

    def add(play):
        expected = (stream, whole or stream, relayed or whole or stream)
        FAULTS.append(pytest.param(play, expected, pairs, id=play.__name__))
        return play

    return add


# -- before the head, and in it -------------------------------------------------------------------------------------


@fault("error")
async def resets_before_the_head(line: Line):
    line.reset()


@fault("error")
async def closes_before_the_head(line: Line):
    pass


@fault("error")
async def stalls_before_the_head(line: Line):
    await line.stall()


@fault("error")
async def resets_in_the_head(line: Line):
    await line.write(b"HTTP/1.1 200 OK\r\nContent-Ty")
    line.reset()


@fault("error")
async def closes_in_the_head(line: Line):
    await line.write(b"HTTP/1.1 200 OK\r\nContent-Ty")


@fault("error")
async def stalls_in_the_head(line: Line):
    await line.write(b"HTTP/1.1 200 OK\r\nContent-Ty")
    await line.stall()


@fault("error")
async def speaks_binary(line: Line):
    await line.write(bytes(range(256)) * 4)


@fault("error")
async def speaks_tls(line: Line):
    await line.write(b"\x15\x03\x01\x00\x02\x02\x46")


@fault("error")
async def speaks_a_line_without_end(line: Line):
    await line.write(b"x" * 100_000)
    await line.stall()


@fault("error")
async def has_an_odd_status_line(line: Line):
    await line.write(b"HTTP/1.1 two hundred\r\n\r\n")


@fault("error")
async def has_a_head_of_a_megabyte(line: Line):
    await line.head("X-Long: " + "x" * 1_000_000)
    await line.write(line.content)


@fault("error")
async def has_headers_without_end(line: Line):
    await line.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        await line.write(b"X-More: more\r\n" * 100)


@fault("error")
async def sends_continue_without_end(line: Line):
    while True:
        await line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.01)


@fault("regular")
async def sends_continue_and_hints_first(line: Line):
    await line.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    await line.head()
    await line.write(line.content)


@fault("regular")
async def answers_in_http_1_0(line: Line):
    kind = b"text/event-stream" if line.streams else b"application/json"
    await line.write(b"HTTP/1.0 200 OK\r\nContent-Type: %b\r\n\r\n" % kind, line.content)


@fault("error")
async def has_a_negative_length(line: Line):
    await line.head("Content-Length: -5")
    await line.write(line.content)


# -- in the body ----------------------------------------------------------------------------------------------------


def half(line: Line) -> bytes:
    return line.content[: len(line.content) // 2]


@fault("error", relayed="unread")  # nothing told its length
async def resets_after_the_head(line: Line):
    await line.head()
    await asyncio.sleep(0.05)
    line.reset()


@fault("error", relayed="unread")  # nothing told its length
async def closes_after_the_head(line: Line):
    await line.head()


@fault("error")
async def stalls_after_the_head(line: Line):
    await line.head()
    await line.stall()


@fault("error", relayed="unread")  # nothing told its length
async def resets_in_the_body(line: Line):
    await line.head()
    await line.write(half(line))
    await asyncio.sleep(0.05)
    line.reset()


@fault("error")
async def resets_in_a_chunk(line: Line):
    await line.head(CHUNKED)
    await line.chunk(half(line))
    line.reset()


@fault("error")
async def closes_in_the_body(line: Line):
    await line.head(CHUNKED)
    await line.chunk(half(line))


@fault("error")
async def stalls_in_the_body(line: Line):
    await line.head()
    await line.write(half(line))
    await line.stall()


@fault("regular", "error")
async def stalls_after_the_body(line: Line):
    await line.head(CHUNKED)
    await line.chunk(line.content)
    await line.stall()


@fault("regular", "error")
async def closes_after_the_body_without_its_last_chunk(line: Line):
    await line.head(CHUNKED)
    await line.chunk(line.content)


@fault("regular", "error")
async def promises_more_than_it_sends(line: Line):
    await line.head(f"Content-Length: {len(line.content) + 10}")
    await line.write(line.content)


@fault("error")
async def promises_much_more_than_it_sends(line: Line):
    await line.head(f"Content-Length: {len(line.content)}")
    await line.write(half(line))


@fault("error")
async def has_a_wrong_chunk_size(line: Line):
    await line.head(CHUNKED)
    await line.chunk(half(line))
    await line.write(b"zz\r\n", line.content)


@fault("regular")
async def trickles(line: Line):
    await line.head(CHUNKED)
    await line.chunk(*(line.content[at : at + 1] for at in range(len(line.content))), b"")


@fault("error", relayed="unread")
async def sends_garbage(line: Line):
    await line.head()
    await line.write(bytes(range(256)) * 100, b"\n\n", b"data: \xff\xfe\n\n", b"data: {\n\n")


@fault("error", relayed="unread")
async def sends_html(line: Line):
    await line.head()
    await line.write(b"<html><body>\n\n<h1>Welcome to our network</h1></body></html>\n")


def large(type: str, size: int) -> bytes:
    """An event that means nothing, of `size` bytes."""
    named = {"anthropic": b"ping", "openai": b"response.metadata"}.get(type)
    start = b'event: %b\ndata: {"type":"%b"' % (named, named) if named else b'data: {"id":"c","choices":[]'
    return b'%b,"padding":"%b"}\n\n' % (start, b"x" * size)


@fault("error", pairs=FEW)
async def has_an_event_above_the_limit(line: Line):
    await line.head()
    await line.write(large(line.type, 35_000_000) if line.streams else b" " * 70_000_000)


@fault("regular")
async def says_more_after_the_end(line: Line):
    await line.head()
    await line.write(line.content)
    for more in (b"\n", b"\n\n", b": bye\n", b"\n") if line.streams else (b"\n", b" "):
        await asyncio.sleep(0.005)
        await line.write(more)


@fault("regular")
async def has_a_line_of_10_megabytes(line: Line):
    content = large(line.type, 10_000_000) + line.content if line.streams else b" " * 10_000_000 + line.content
    await line.head()
    await line.write(content)


# -- encodings ------------------------------------------------------------------------------------------------------

GZIP = "Content-Encoding: gzip"


@fault("regular")
async def compresses_the_whole(line: Line):
    content = gzip.compress(line.content)
    await line.head(GZIP, f"Content-Length: {len(content)}")
    await line.write(content)


@fault("regular")
async def compresses_each_event(line: Line):
    deflate = zlib.compressobj(wbits=31)
    await line.head(GZIP, CHUNKED)
    for event in line.content.split(b"\n\n"):
        await line.chunk(deflate.compress(event + b"\n\n") + deflate.flush(zlib.Z_SYNC_FLUSH))
        await asyncio.sleep(0.001)
    await line.chunk(deflate.flush(), b"")


@fault("error", relayed="unread")  # nothing told its length
async def compresses_and_breaks_off(line: Line):
    content = gzip.compress(line.content)
    await line.head(GZIP)
    await line.write(content[: len(content) // 2])


@fault("error")
async def is_not_as_compressed_as_it_says(line: Line):
    await line.head(GZIP)
    await line.write(line.content)


@fault("error", pairs=FEW)
async def is_a_bomb(line: Line):
    """70 MB of zeros."""
    content = gzip.compress(bytes(70_000_000), 1)
    await line.head(GZIP, f"Content-Length: {len(content)}")
    await line.write(content)


def read_and(play):
    async def read_and_play(line: Line):
        await line.read_request()
        await play(line)

    return read_and_play


class Checks:
    """Many requests at once; what was wrong is told of all of them."""

    def __init__(self, gateway):
        self._gateway = gateway
        self._wrong = []
        self._crowd = asyncio.Semaphore(20)

    async def ask(self, client, upstream, stream, check, case=""):
        async with self._crowd:
            answer = ("hangs",)
            try:
                answer = await ask(self._gateway, client, upstream, stream, str(case))
                check(*answer)
            except (AssertionError, ValueError, TimeoutError) as error:
                told = f"{answer[:2]} {answer[-1][-200:]!r}: {error!r:.300}"
                self._wrong.append(f"{client} {upstream} stream={stream} {case}: {told}")

    async def all(self, asked):
        await asyncio.gather(*asked)
        assert not self._wrong, "\n".join(self._wrong[:10])


@pytest.mark.parametrize(("play", "expected", "pairs"), FAULTS)
async def test_fault(tmp_path, play, expected, pairs):
    async with faulty_gateway(tmp_path, read_and(play)) as gateway:
        checks = Checks(gateway)

        def asked(client, upstream, stream):
            def check(*answer):
                assert outcome(client, *answer) == expected[0 if stream else 1 + (client == upstream)]

            return checks.ask(client, upstream, stream, check)

        await checks.all(asked(*pair, stream) for pair in pairs for stream in (True, False))


# -- every cut ------------------------------------------------------------------------------------------------------

RECORDED = [recording for recording in STREAMS if recording.path.is_relative_to(OWN)]


def cuts(stream: bytes):
    """Every boundary of an event, and two places inside of each."""
    start = 0
    while (end := stream.find(b"\n\n", start) + 2) > 1:
        yield from (start, start + 3, (start + end) // 2)
        start = end


@pytest.mark.parametrize("recording", RECORDED, ids=str)
@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_cuts(tmp_path, recording, how):
    upstream, stream = FORMATS[recording.format].type, recording.bytes
    either = {"regular", "error"}
    end = len(stream)
    if upstream == "common":  # a Chat stream without [DONE] may be whole
        end = stream.index(b"\n\n", stream.index(b'"finish_reason":"')) + 2

    async def cut(line: Line):
        await line.head(CHUNKED)
        await line.chunk(stream[: int(line.case)])
        if how == "resets":
            await asyncio.sleep(0.02)
            line.reset()

    async with faulty_gateway(tmp_path, read_and(cut)) as gateway:
        checks = Checks(gateway)

        def asked(client, place):
            def check(*answer):
                assert outcome(client, *answer) in (either if place >= end else {"error"})

            return checks.ask(client, upstream, True, check, place)

        await checks.all(asked(*case) for case in itertools.product(PATHS, cuts(stream)))
