"""How long an upstream may be silent while its answer is read: one timer for the whole answer."""

import asyncio
from types import SimpleNamespace

import aiohttp
import pytest

from droid2api.errors import StreamError
from droid2api.gateway.exchange import Exchange
from droid2api.gateway.upstream import read_chunks
from droid2api.settings import Timeouts
from tests.formats.recordings import OWN
from tests.harness import Scripted, serving

STREAM = (OWN / "chat" / "text.sse").read_bytes()


@pytest.fixture
async def clock():
    """The event loop's, which does not wait but goes on to its next timer: `now` is exact, and no load changes it."""
    loop = asyncio.get_running_loop()
    clock, select = SimpleNamespace(now=loop.time()), loop._selector.select

    def go_on(timeout):
        clock.now += timeout or 0
        return select(timeout and 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "time", lambda: clock.now)
        patch.setattr(loop._selector, "select", go_on)
        yield clock


class Slow:
    """An answer whose pieces come each so many seconds after the gateway began to wait for it."""

    def __init__(self, *pauses: float) -> None:
        self.pauses = list(pauses)
        self.content = self
        self.due = 0.0

    def is_eof(self) -> bool:
        return False

    async def readany(self) -> bytes:
        if not self.pauses:
            return b""
        now = asyncio.get_running_loop().time()
        self.due = self.due or now + self.pauses[0]
        await asyncio.sleep(self.due - now)  # a wait that is ended and begun again makes it no later
        self.due = 0.0
        self.pauses.pop(0)
        return b"x"


async def read(response, idle, keepalive=60.0, client=0.0, exchange=None):
    """What is read, the error in the end too, by a client that takes `client` seconds for each piece."""
    pieces = []
    try:
        async with asyncio.timeout(100):
            async for piece in read_chunks(response, Timeouts(idle=idle, keepalive=keepalive), exchange):
                pieces.append(piece)
                await asyncio.sleep(client)
    except StreamError as error:
        pieces.append(error.status)
    return pieces


@pytest.mark.parametrize(
    ("pauses", "client", "expected"),
    [
        ([60], 0, [504]),
        ([0, 60], 0, [b"x", 504]),
        ([0.08] * 5, 0, [b"x"] * 5),  # steady, and longer in all than the limit
        ([0] * 4, 0.2, [b"x"] * 4),  # the client is slow, not the upstream
        ([0, 0.08], 0.08, [b"x", b"x"]),  # each in time, if not both together
        ([0, 60], 0.2, [b"x", 504]),
        ([], 0, []),
    ],
)
async def test_silence_is_the_upstreams_only(clock, pauses, client, expected):
    assert await read(Slow(*pauses), 0.1, client=client) == expected


async def test_the_limit_begins_anew_with_each_piece(clock):
    began = clock.now
    assert await read(Slow(0.15, 60), 0.2) == [b"x", 504]
    assert clock.now - began == pytest.approx(0.35, abs=0.002)


async def test_signs_of_life_do_not_break_what_is_read():
    """A wait is ended for each of them, and the next one goes on."""
    script = Scripted(chunks=[STREAM[:300], STREAM[300:]], pause=0.12)
    async with serving(script.app()) as url, aiohttp.ClientSession() as session, session.post(url, json={}) as response:
        pieces = await read(response, 5, 0.05)
    assert b"".join(pieces) == STREAM
    assert b"" in pieces


@pytest.mark.parametrize(
    ("pauses", "longest"), [([0, 0.06, 0.03], 0.06), ([0, 0.25, 0], 0.25), ([0.15], 0.15), ([0.1, 60], 5), ([], 0)]
)
async def test_the_longest_gap_is_whole(clock, pauses, longest):
    """Also when the client was given signs of life in between."""
    exchange = Exchange("1", "client")
    await read(Slow(*pauses), 5, 0.1, exchange=exchange)
    assert exchange.longest_gap == pytest.approx(longest, abs=0.002)


@pytest.mark.parametrize(("idle", "client"), [(0.05, 0), (1, 0), (1, 0.05)])
async def test_what_comes_as_time_runs_out_is_heard(clock, idle, client):
    """An event loop that was blocked finds both at once: the piece, and that the time for it is over."""
    loop, began = asyncio.get_running_loop(), clock.now

    def block() -> None:
        clock.now += 0.04

    class Late(Slow):
        async def readany(self) -> bytes:
            if self.pauses[0]:
                return await super().readany()
            self.pauses.pop(0)
            came = loop.create_future()
            loop.call_later(0.03, block)
            loop.call_later(0.045, came.set_result, None)
            await came
            return b"x"

    pieces = await read(Late(0, 60), idle, 0.05, client)
    assert (pieces[0], pieces[-1]) == (b"x", 504)
    assert b"x" not in pieces[1:]
    signs = client * pieces.count(b"")
    assert clock.now - began == pytest.approx(0.07 + client + idle + signs, abs=0.002)


@pytest.mark.parametrize("pauses", [[0, 0], [0, 60], [0, 0.08]])
async def test_no_timer_is_left(clock, pauses):
    before = timers()
    await read(Slow(*pauses), 0.1, 0.05)
    assert timers() <= before


async def test_an_answer_has_one_timer():
    before = timers()
    chunks = read_chunks(Slow(0, 0), Timeouts())
    await anext(chunks)
    assert len(timers() - before) == 1
    await anext(chunks)
    assert len(timers() - before) == 1
    await chunks.aclose()
    assert timers() <= before


def timers():
    return {timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()}
