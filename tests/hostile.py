"""Clients that mean no good, for soak.py: each does what it can, and says what it got that it should not."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import orjson

from tests.harness import PATHS, body_of

HOLD = 5.0
"""Seconds; longer than the gateway that is soaked waits."""
BOMB = gzip.compress(b'{"messages": [' + b"{}," * 8_000_000 + b"1]}", 1)
DEEP = b'{"model": ' + b"[" * 100_000
MANY = b'{"model": "glm-4.6", "messages": [' + b"{}," * 150_000 + b"1]}"
STOPS = b'{"model": "glm-4.6", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stop_sequences": ['
STOPS += b",".join(b'"%s%d"' % (b"ab" * 495, number) for number in range(1000)) + b"]}"

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Kind = Callable[[Reader, Writer], Awaitable[str]]


def head(path: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


async def silent(reader: Reader, writer: Writer) -> str:
    return await _hung_up(reader, "a client that asks nothing")


async def half_a_head(reader: Reader, writer: Writer) -> str:
    writer.write(b"GET /health HTTP/1.1\r\nHost: loc")
    return await _hung_up(reader, "half a head")


async def half_a_body(reader: Reader, writer: Writer) -> str:
    writer.write(head(random.choice([*PATHS.values()]), "Content-Length: 100") + b'{"model"')
    return await _refused(reader, b"408")


async def reads_nothing(reader: Reader, writer: Writer) -> str:
    """Of a stream that is long enough to fill all buffers."""
    client = random.choice([*PATHS])
    body = b'{"stream": true, "max_tokens": 100000, ' + orjson.dumps(body_of(client, "common", "x" * 3_000_000))[1:]
    writer.write(head(PATHS[client], f"Content-Length: {len(body)}") + body)
    await asyncio.sleep(HOLD)
    return ""


async def bomb(reader: Reader, writer: Writer) -> str:
    return await _sent(reader, writer, BOMB, b"413", "Content-Encoding: gzip")


async def foreign_encoding(reader: Reader, writer: Writer) -> str:
    return await _sent(reader, writer, b"{}", b"415", "Content-Encoding: br")


async def too_deep(reader: Reader, writer: Writer) -> str:
    return await _sent(reader, writer, DEEP, b"400")


async def many_values(reader: Reader, writer: Writer) -> str:
    return await _sent(reader, writer, MANY, b"400", path="/v1/messages")


async def many_stops(reader: Reader, writer: Writer) -> str:
    return await _sent(reader, writer, STOPS, b"200", path="/v1/messages")


async def no_http(reader: Reader, writer: Writer) -> str:
    writer.write(random.randbytes(1000) + b"\r\n\r\n")
    return await _refused(reader, b"400")


KINDS: list[Kind] = [
    silent,
    half_a_head,
    half_a_body,
    reads_nothing,
    bomb,
    foreign_encoding,
    too_deep,
    many_values,
    many_stops,
    no_http,
]


async def attack(gateway: str, kind: Kind) -> str:
    """What was wrong with the gateway's answer, "" for nothing."""
    place = urlsplit(gateway)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=1000)
    try:
        async with asyncio.timeout(60):
            return await kind(reader, writer)
    except ConnectionError:
        return ""  # it is shown the door
    except TimeoutError:
        return "it was let wait"
    finally:
        writer.transport.abort()


async def _sent(
    reader: Reader,
    writer: Writer,
    body: bytes,
    status: bytes,
    *headers: str,
    path: str = "",
) -> str:
    path = path or random.choice([*PATHS.values()])
    writer.write(head(path, f"Content-Length: {len(body)}", *headers) + body)
    return await _refused(reader, status)


async def _refused(reader: Reader, status: bytes) -> str:
    line = await reader.readline()
    return "" if not line or line.split()[1:2] == [status] else f"{line!r} instead of {status!r}"


async def _hung_up(reader: Reader, what: str) -> str:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(3 * HOLD):
            return "" if not await reader.read(1) else f"an answer to {what}"
    return f"{what} was waited for"
