"""Clients without end: each is waited for as long as is documented, and no longer."""

import asyncio
from contextlib import asynccontextmanager

import orjson
import pytest

from droid2api.server import connections
from droid2api.server.keys import CONNECTIONS, RUNNING
from droid2api.settings import Timeouts
from tests.harness import BODIES, CHUNK, DONE, Scripted, scripted_gateway, until

CHAT = "/v1/chat/completions"
HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = orjson.dumps(BODIES[CHAT] | {"stream": True})


@asynccontextmanager
async def connected(folder, monkeypatch, script=None, **timeouts):
    """A gateway that is impatient as told, and a client's connection to it."""
    monkeypatch.setattr(connections, "LOOK_EVERY", 0.05)
    async with scripted_gateway(folder, script or Scripted(), timeouts=timeouts) as gateway:
        place = "127.0.0.1", int(gateway.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection(*place, limit=1000)
        try:
            yield gateway, reader, writer
        finally:
            writer.transport.abort()


async def ended_after(reader) -> float:
    """Seconds until the gateway hangs up."""
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(5):
            while await reader.read(1000):
                pass
    except ConnectionError:
        pass
    return asyncio.get_running_loop().time() - began


def test_defaults_are_those_of_other_servers():
    known = Timeouts()
    assert (known.client_head, known.client_body, known.client_send, known.client_idle) == (60, 60, 60, 75)


@pytest.mark.parametrize("sent", [b"", HEALTH[:20]])
async def test_who_sends_no_head(tmp_path, monkeypatch, sent):
    async with connected(tmp_path, monkeypatch, client_head=0.3) as (_, reader, writer):
        writer.write(sent)
        assert 0.2 < await ended_after(reader) < 2


@pytest.mark.parametrize("sent", [b"", HEALTH[:20]])
async def test_who_asks_nothing_more(tmp_path, monkeypatch, sent):
    async with connected(tmp_path, monkeypatch, client_head=0.2, client_idle=0.5) as (_, reader, writer):
        for _ in range(3):
            writer.write(HEALTH)
            assert (await reader.read(1000)).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.3)  # longer than for a first head, and anew after each request
        writer.write(sent)
        assert await ended_after(reader) < 2


async def test_who_sends_half_a_body(tmp_path, monkeypatch):
    async with connected(tmp_path, monkeypatch, client_body=0.3) as (_, reader, writer):
        writer.write(f"{HEAD}Content-Length: 1000\r\n\r\n".encode())
        for _ in range(3):
            await asyncio.sleep(0.2)
            writer.write(b" ")
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"Nothing more of the body came for 0.3 seconds." in await reader.read(1000)


@pytest.mark.parametrize("stream", [True, False])
async def test_who_reads_nothing(tmp_path, monkeypatch, stream):
    """The service's connection is ended too, and nothing is left."""
    script = Scripted(chunks=[CHUNK * 20_000] * 20 + [DONE])
    if not stream:
        script.headers = {"Content-Type": "application/json"}
    async with connected(tmp_path, monkeypatch, script, client_send=0.5) as (gateway, _, writer):
        writer.write(f"{HEAD}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
        await asyncio.wait_for(script.reached.wait(), 5)
        await until(lambda: not gateway.app[CONNECTIONS].runner.server.connections, 8)
        assert not gateway.app[RUNNING]
        if stream:
            await asyncio.wait_for(script.left.wait(), 5)


async def test_who_reads_slowly_gets_all(tmp_path, monkeypatch):
    script = Scripted(chunks=[CHUNK * 5_000] * 10 + [DONE])
    async with connected(tmp_path, monkeypatch, script, client_send=0.5) as (_, reader, writer):
        writer.write(f"{HEAD}Connection: close\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
        content = b""
        async with asyncio.timeout(30):
            while part := await reader.read(100_000):
                content += part
                await asyncio.sleep(0.03)
        assert b"data: [DONE]" in content[-100:]
