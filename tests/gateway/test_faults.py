"""The fault matrix: whatever an upstream does, the client gets one well-formed end and nothing is left over."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import zlib

import aiohttp
import orjson
import pytest

from droid2api.formats import BY_NAME
from droid2api.gateway import upstream
from droid2api.observe.usage import WRITE_EVERY
from droid2api.server.keys import RUNNING, RUNTIME
from tests.formats.recordings import OWN, STREAMS
from tests.gateway.faults import (
    PATIENCE,
    TIMEOUTS,
    Line,
    ask,
    check_envelope,
    faulty_gateway,
    nothing_left,
    outcome,
    playing,
    recorded,
)
from tests.harness import PAIRS, PATHS, body_of, gateway_for, settings_for, until

CHUNKED = "Transfer-Encoding: chunked"
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


@fault("error", relayed="unread")
async def ends_early_in_a_stream_that_counts_as_it_goes(line: Line):
    """Usage in every chunk of a Chat stream is no end."""
    events = line.content.replace(b'"usage":null', b'"usage":{"prompt_tokens":1}').split(b"\n\n")
    await line.head(CHUNKED)
    await line.chunk(b"\n\n".join(events[: len(events) // 2]) + b"\n\n", b"")


SAYS_END = rb"data: [DONE] data: [DONE]\n\ndata: [DONE]\n\n\"type\":\"message_stop\" \"finish_reason\":\"stop\""


@fault("error")
async def ends_early_after_a_text_about_ends(line: Line):
    await line.head(CHUNKED)
    await line.chunk(b'data: {"type":"x","id":"c","choices":[],"text":"%b"}\n\n' % SAYS_END, b"")


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
    await line.write(large(line.type, 35_000_000) if line.streams else b" " * 70_000_000, line.content)


@fault("regular")
async def says_more_after_the_end(line: Line):
    await line.head()
    await line.write(line.content)
    done = b"data: [DONE]\n\n" if line.streams and line.type != "common" else b"\n"
    for more in (done, b"\n", b"\n\n", b": bye\n", b"\n") if line.streams else (b"\n", b" "):
        await asyncio.sleep(0.005)
        await line.write(more)


@fault("regular", pairs=FEW)
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


BOMB = gzip.compress(bytes(70_000_000), 1)


@fault("error", pairs=FEW)
async def is_a_bomb(line: Line):
    """70 MB of zeros."""
    await line.head(GZIP, f"Content-Length: {len(BOMB)}")
    await line.write(BOMB)


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
    silent = play.__name__.startswith("stalls") or play is sends_continue_without_end
    timeouts = {} if silent else {"first_byte": PATIENCE, "idle": PATIENCE}
    async with faulty_gateway(tmp_path, read_and(play), timeouts=timeouts) as gateway:
        checks = Checks(gateway)

        def asked(client, upstream, stream):
            def check(*answer):
                ended = outcome(client, *answer)
                assert ended == expected[0 if stream else 1 + (client == upstream)]
                assert (b"said nothing" in answer[2]) == (silent and ended == "error")

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
async def test_cuts(tmp_path, recording):
    """The upstream closes and resets by turns: at each place for some clients the one, for some the other."""
    upstream, stream = BY_NAME[recording.format].TYPE, recording.bytes
    either = {"regular", "error"}
    end = len(stream)
    if upstream == "common":  # a Chat stream without [DONE] may be whole
        end = stream.index(b"\n\n", stream.index(b'"finish_reason":"')) + 2

    async def cut(line: Line):
        await line.head(CHUNKED)
        how, place = line.case.split()
        await line.chunk(stream[: int(place)])
        if how == "resets":
            await asyncio.sleep(0.02)
            line.reset()

    async with faulty_gateway(tmp_path, read_and(cut)) as gateway:
        checks = Checks(gateway)

        def asked(client, place, how):
            def check(*answer):
                assert outcome(client, *answer) in (either if place >= end else {"error"})

            return checks.ask(client, upstream, True, check, f"{how} {place}")

        await checks.all(
            asked(client, place, ("closes", "resets")[(number + turn) % 2])
            for number, client in enumerate(PATHS)
            for turn, place in enumerate(cuts(stream))
        )


# -- no connection --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["refuses", "resets", "closes"])
async def test_no_connection(tmp_path, how):
    async def play(line: Line):
        if how == "resets":
            line.reset()

    async with contextlib.AsyncExitStack() as upstream:
        url = await upstream.enter_async_context(playing(play))
        if how == "refuses":
            await upstream.aclose()
        async with gateway_for(settings_for(tmp_path, url, timeouts=TIMEOUTS)) as gateway, nothing_left(gateway):
            checks = Checks(gateway)

            def check(*answer):
                assert answer[0] == 502

            await checks.all(checks.ask(*pair, stream, check) for pair in PAIRS for stream in (True, False))


@pytest.mark.parametrize("failures", [0, 1, 2, 3])
async def test_connecting_is_tried_three_times(tmp_path, failures, monkeypatch):
    async def play(line: Line):
        await line.head()
        await line.write(line.content)

    pauses = []
    real_sleep, real_connect = asyncio.sleep, aiohttp.TCPConnector._create_connection

    async def sleep(delay, result=None):
        pauses.append(delay)
        await real_sleep(0, result)

    async def connect(connector, request, *more):
        tried.append(request.url)
        if len(tried) <= failures:
            raise aiohttp.ClientConnectorError(request.connection_key, ConnectionRefusedError(111, "refused"))
        return await real_connect(connector, request, *more)

    delays = tuple(600 * delay for delay in upstream.CONNECT_DELAYS)
    monkeypatch.setattr(upstream, "CONNECT_DELAYS", delays)
    async with faulty_gateway(tmp_path, read_and(play)) as gateway:
        connector, tried = gateway.app[RUNTIME].upstream._outbound._session.connector, []
        monkeypatch.setattr(connector, "_create_connection", functools.partial(connect, connector))
        monkeypatch.setattr(upstream.asyncio, "sleep", sleep)
        answer = await ask(gateway, "common", "anthropic", True)
        monkeypatch.setattr(upstream.asyncio, "sleep", real_sleep)
    assert outcome("common", *answer) == ("regular" if failures < 3 else "error")
    assert len(tried) == min(failures + 1, 3)
    jittered = [pause for pause in pauses if pause not in (0, WRITE_EVERY)]
    assert len(jittered) == min(failures, 2)
    assert all(mean / 2 <= pause <= mean * 1.5 for mean, pause in zip(delays, jittered, strict=False))


async def test_what_was_sent_is_never_sent_again(tmp_path):
    """Not after a status, and not after a line that broke: the upstream may have begun to work."""
    asked = []

    async def play(line: Line):
        asked.append(line.case)
        if line.case != "closes":
            await line.head("Content-Length: 2", status=f"{line.case} Odd")
            await line.write(b"{}")

    cases = ["closes", "408", "429", "500", "502", "503", "504", "529"]
    async with faulty_gateway(tmp_path, read_and(play)) as gateway:
        for case in cases:
            await ask(gateway, "common", "common", True, case)
    assert asked == cases


# -- every status ---------------------------------------------------------------------------------------------------

BODIES = {"json": b'{"error":{"type":"odd","message":"no"}}', "html": b"<html>\n\nno</html>", "empty": b""}
STATUSES = [201, 202, 204, 206, 301, 302, 303, 304, 307, 308]
STATUSES += [400, 401, 402, 403, 404, 408, 409, 413, 418, 422, 429, 451, 499]
STATUSES += [500, 502, 503, 504, 520, 529, 599, 600, 999]
BODILESS = (204, 304)


@pytest.mark.parametrize("body", BODIES)
async def test_statuses(tmp_path, body):
    content = BODIES[body]

    async def play(line: Line):
        line.streams = line.streams and body == "empty"  # an upstream may say so, whatever it answers
        length = [] if line.case in ("204", "304") else [f"Content-Length: {len(content)}"]
        close = "Connection: close"  # else it might be used again in the moment that it ends
        await line.head("Location: /elsewhere", close, *length, status=f"{line.case} Odd")
        await line.write(b"" if line.case in ("204", "304") else content)

    patient = {"first_byte": PATIENCE, "idle": PATIENCE}
    async with faulty_gateway(tmp_path, read_and(play), timeouts=patient) as gateway:
        checks = Checks(gateway)

        def asked(client, upstream, stream, status):
            def check(told, kind, got):
                if client == upstream:
                    assert (told, got) == (status, b"" if status in BODILESS else content)
                else:
                    assert told == (status if status >= 400 else 502)
                    assert outcome(client, told, kind, got) == "error"

            return checks.ask(client, upstream, stream, check, status)

        # a stream and a whole answer by turns: every status of a pair has both, with one body or another
        turn = list(BODIES).index(body)
        await checks.all(
            asked(*pair, (turn + number + place) % 2 == 0, status)
            for number, pair in enumerate(PAIRS)
            for place, status in enumerate(STATUSES)
        )


async def test_switching_protocols(tmp_path):
    async def play(line: Line):
        await line.head("Upgrade: websocket", "Connection: upgrade", status="101 Switching Protocols")
        await line.stall()

    async with faulty_gateway(tmp_path, read_and(play)) as gateway:
        checks = Checks(gateway)

        def asked(client, upstream, stream):
            def check(*answer):
                assert outcome(client, *answer) == "error"

            return checks.ask(client, upstream, stream, check)

        await checks.all(asked(*pair, stream) for pair in PAIRS for stream in (True, False))


# -- what must not follow -------------------------------------------------------------------------------------------


async def test_bytes_past_the_length_are_no_part_of_the_next_answer(tmp_path):
    connections = []

    async def play(line: Line):
        connections.append(line)
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await line.read_request()
                smuggled = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a":66}'
                await line.head(f"Content-Length: {len(line.content)}")
                await line.write(line.content + smuggled)

    async with faulty_gateway(tmp_path, play) as gateway:
        for _ in range(3):
            for upstream in PATHS:
                status, _, content = await ask(gateway, upstream, upstream, False)
                assert (status, content) == (200, recorded(upstream, "text.response.json"))


@pytest.mark.parametrize(
    "more",
    [
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a":66}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConte",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"\r\n",
        b"{",
    ],
)
async def test_an_answer_that_nobody_asked_for_is_no_next_clients(tmp_path, more):
    """It comes when the connection is idle, and the connection is not used again."""
    connections = []

    async def play(line: Line):
        connections.append(line)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await line.read_request()
                await line.head(f"Content-Length: {len(line.content)}")
                await line.write(line.content)
                await asyncio.sleep(0.05)
                await line.write(more)

    async with playing(play) as url, gateway_for(settings_for(tmp_path, url)) as gateway:
        for upstream in ("common", "anthropic", "common"):
            status, _, content = await ask(gateway, upstream, upstream, False)
            assert (status, content) == (200, recorded(upstream, "text.response.json"))
            await asyncio.sleep(0.15)
    assert len(connections) == 3


async def test_a_connection_on_which_nothing_came_is_used_again(tmp_path):
    connections = []

    async def play(line: Line):
        connections.append(line)
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await line.read_request()
                await line.head(f"Content-Length: {len(line.content)}")
                await line.write(line.content)

    async with playing(play) as url, gateway_for(settings_for(tmp_path, url)) as gateway:
        for _ in range(3):
            assert (await ask(gateway, "common", "common", False))[0] == 200
            await asyncio.sleep(0.05)
        assert len(connections) == 1
        connections[0].writer.close()  # as a service does after a while
        await asyncio.sleep(0.05)
        assert (await ask(gateway, "common", "common", False))[0] == 200
    assert len(connections) == 2


# -- backpressure ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "upstream"), [("common", "common"), ("anthropic", "common"), ("openai", "anthropic")]
)
async def test_a_client_that_does_not_read_stops_the_upstream(tmp_path, client, upstream):
    """64 MB are ready to be sent; what is taken fits into the buffers of the sockets."""
    taken, stopped = 0, asyncio.Event()

    async def play(line: Line):
        nonlocal taken
        first = line.content.partition(b"\n\n")[0]
        await line.head()
        event = large(line.type, 10_000) if client == upstream else FILLED[line.type]
        await line.write(first + b"\n\n" + BEGUN.get(line.type, b""))
        while taken < 64_000_000:
            line.writer.write(event)
            try:
                async with asyncio.timeout(0.2):
                    await line.writer.drain()
            except TimeoutError:
                stopped.set()
                await line.stall()
                return
            taken += len(event)

    async with faulty_gateway(tmp_path, read_and(play), timeouts={"idle": 60}) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        body = orjson.dumps(body_of(client, upstream, stream=True))
        head = f"POST {PATHS[client]} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(PATIENCE):
            await stopped.wait()
        assert taken < 20_000_000
        writer.transport.abort()


WORDS = b"words " * 1000
FILLED = {
    "common": b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % WORDS,
    "anthropic": b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"%b"}}\n\n' % WORDS,
}
BEGUN = {
    "anthropic": b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
}


# -- clients --------------------------------------------------------------------------------------------------------


async def answer_to(gateway, path, *headers: str, body: bytes = b"") -> bytes:
    """What the gateway says to raw bytes, until it hangs up or has said all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", "Connection: close", *headers]
    writer.write("".join(f"{line}\r\n" for line in head).encode("utf-8", "surrogateescape") + b"\r\n" + body)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
    writer.close()
    return answer


async def play_whole(line: Line):
    await line.head()
    await line.write(line.content)


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


@pytest.mark.parametrize("client", PATHS)
async def test_compressed_bodies_of_clients(tmp_path, client):
    body = orjson.dumps(body_of(client, client))
    bomb, packed = gzip.compress(b" " * 70_000_000, 1), gzip.compress(body)
    cases = [
        ("gzip", packed, 200),
        ("gzip", body, 400),
        ("gzip", packed[:-20], 400),
        ("deflate", b"\xff" * 50, 400),
        ("gzip", bomb, 413),
        ("gzip", packed + b"more", 400),
        ("GZIP", packed, 200),
        ("deflate", zlib.compress(body), 200),
        ("deflate", zlib.compress(body, wbits=-15), 200),
        ("deflate", b"", 400),
        ("identity", body, 200),
        ("br", body, 415),
        ("zstd", body, 415),
        ("gzip, gzip", packed, 415),
    ]
    async with faulty_gateway(tmp_path, read_and(play_whole)) as gateway:
        for encoding, content, status in cases:
            headers = (f"Content-Length: {len(content)}", f"Content-Encoding: {encoding}")
            answer = await answer_to(gateway, PATHS[client], *headers, body=content)
            assert status_of(answer) == status, (encoding, answer)
            if status >= 400:
                check_envelope(client, answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("client", PATHS)
async def test_bodies_that_are_no_http(tmp_path, client):
    cases = [
        (["Transfer-Encoding: chunked"], b"zz\r\n{}\r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], b"2\r\n{}xx0\r\n\r\n"),
        (["Content-Length: -1"], b"{}"),
        (["Content-Length: 2", "Content-Length: 3"], b"{} "),
        (["Content-Length: 2", "Transfer-Encoding: chunked"], b"2\r\n{}\r\n0\r\n\r\n"),
        (["Transfer-Encoding: gzip"], b"{}"),
        (["X-Long: " + "x" * 100_000], b""),
        ([f"X-Long-{number}: {'x' * 8000}" for number in range(100)], b""),
        (["X-Control: a\x00b"], b""),
        (["no colon"], b""),
    ]
    async with faulty_gateway(tmp_path, read_and(play_whole)) as gateway:
        for headers, body in cases:
            answer = await answer_to(gateway, PATHS[client], *headers, body=body)
            assert status_of(answer) == 400, (headers[0][:50], answer)
            assert b"Traceback" not in answer


async def test_a_body_that_stays_unfinished_holds_nothing_when_its_client_leaves(tmp_path):
    async with faulty_gateway(tmp_path, read_and(play_whole)) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 100\r\n\r\n{")
        await until(lambda: gateway.app[RUNNING])
        writer.transport.abort()
