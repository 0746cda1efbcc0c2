"""An upstream that can do anything to HTTP, and what a client must see of it: one well-formed end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import orjson

from droid2api.server.keys import RUNNING
from tests.formats.recordings import OWN
from tests.formats.sdk import wire_events
from tests.harness import FORMAT_OF, PATHS, Gateway, body_of, gateway_for, settings_for, until

TIMEOUTS = {"connect": 1, "first_byte": 0.4, "idle": 0.4, "keepalive": 0.15}
PATIENCE = 30
"""Seconds after which a request counts as hanging."""


def recorded(type: str, name: str) -> bytes:
    return (OWN / FORMAT_OF[type].NAME / name).read_bytes()


# -- the upstream ---------------------------------------------------------------------------------------------------


@dataclass
class Line:
    """A connection on which the gateway has asked for `content`, the recorded answer or stream of that upstream."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    type: str = ""
    streams: bool = False
    content: bytes = b""
    case: str = ""
    """What the client said in a header, so that a play knows what it is to do."""

    async def read_request(self) -> None:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = orjson.loads(await self.reader.readexactly(int(length.group(1))))
        path = head.split()[1].decode()
        self.case = re.search(rb"(?i)x-session-id: (.*)\r", head).group(1).decode()
        self.type = next(type for type, known in PATHS.items() if path.startswith(known))
        self.streams = bool(body.get("stream"))
        self.content = recorded(self.type, "text.sse" if self.streams else "text.response.json")

    async def write(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def head(self, *headers: str, status: str = "200 OK") -> None:
        """The body that follows ends with the connection, if no header says otherwise."""
        kind = "text/event-stream" if self.streams else "application/json"
        lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *headers]
        await self.write("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n")

    async def chunk(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def reset(self) -> None:
        """RST instead of FIN."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def stall(self) -> None:
        """Say nothing until the gateway hangs up."""
        await self.reader.read()


Play = Callable[[Line], Awaitable[None]]


@asynccontextmanager
async def playing(play: Play) -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await play(Line(reader, writer))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def faulty_gateway(folder, play: Play, **config) -> AsyncIterator[Gateway]:
    timeouts = TIMEOUTS | config.pop("timeouts", {})
    async with (
        playing(play) as url,
        gateway_for(settings_for(folder, url, timeouts=timeouts, **config)) as gateway,
        nothing_left(gateway),
    ):
        yield gateway


# -- what must be seen ----------------------------------------------------------------------------------------------


async def ask(gateway: Gateway, client: str, upstream: str, stream: bool, case: str = "") -> tuple[int, str, bytes]:
    """On a connection of its own; the answer must be whole, as HTTP."""
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
        body = body_of(client, upstream, stream=stream)
        headers = {"x-session-id": case} if case else {}
        async with session.post(gateway.url + PATHS[client], json=body, headers=headers) as response:
            return response.status, response.content_type, await response.read()


def outcome(client: str, status: int, kind: str, content: bytes) -> str:
    """How an answer ended for the client: "regular", "error", or "unread" for an answer in one piece that was
    passed on as it came. Fails when its form is wrong.
    """
    if status >= 400:
        check_envelope(client, content)
        assert kind == "application/json"
        return "error"
    assert status == 200
    if kind == "text/event-stream":
        return stream_outcome(client, content)
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return "unread"
    if client == "google":
        assert value["candidates"][0]["finishReason"]
        return "regular"
    assert value.get("object", value.get("type")) in ("chat.completion", "response", "message")
    return "regular"


def check_envelope(client: str, content: bytes) -> None:
    value = orjson.loads(content)
    if client == "google":
        assert {"code", "message", "status"} <= set(value["error"])
        return
    keys = {"type", "message"} if client == "anthropic" else {"message", "type", "param", "code"}
    assert set(value) == ({"type", "error", "request_id"} if client == "anthropic" else {"error"})
    assert keys <= set(value["error"])
    assert value["error"]["message"]


def stream_outcome(client: str, content: bytes) -> str:
    """The one end of a stream, after which nothing comes."""
    assert content.endswith((b"\n\n", b"\r\n\r\n", b"\r\r", b"}\r\n" if client == "google" else b"\n\n"))
    seen, finished = [], False
    for event in wire_events(content):
        try:
            value = {"type": "[DONE]"} if event.data.strip() == b"[DONE]" else orjson.loads(event.data)
        except orjson.JSONDecodeError:
            continue  # the relay lane passes on what it gets
        if type(value) is not dict:
            continue
        if value == {"type": "[DONE]"} and client != "common":
            continue  # some upstreams of the other formats say it too, after the end
        finished = finished or any(choice.get("finish_reason") for choice in value.get("choices") or ())
        seen.append(_end(client, value))
    ends = [end for end in seen if end]
    if not ends and client == "common" and finished:  # an upstream that forgot [DONE]
        return "regular"
    assert len(ends) == 1, (ends, content[-500:])
    assert seen[-1] == ends[0], content[-500:]
    return ends[0]


def _end(client: str, value: dict) -> str:
    kind = str(value.get("type"))
    if client == "google":
        finished = any(candidate.get("finishReason") for candidate in value.get("candidates") or ())
        return "error" if "error" in value else "regular" if finished else ""
    if client == "common":
        return "error" if "error" in value else "regular" if kind == "[DONE]" else ""
    if client == "anthropic":
        return {"error": "error", "message_stop": "regular"}.get(kind, "")
    ends = {"response.completed": "regular", "response.incomplete": "regular", "response.failed": "error"}
    return ends.get(kind, "error" if kind == "error" else "")


@asynccontextmanager
async def nothing_left(gateway: Gateway) -> AsyncIterator[None]:
    """Tasks and open files, sockets too, are as many in the end as they were, once all that was begun has ended."""
    before = _footprint()
    yield
    with contextlib.suppress(TimeoutError):
        await until(lambda: _is_within(before))
    assert _is_within(before), (before, _footprint(), [str(task.get_coro()) for task in asyncio.all_tasks()])
    assert not gateway.app[RUNNING]


def _is_within(before: tuple[int, int]) -> bool:
    return all(now <= was for now, was in zip(_footprint(), before, strict=True))


def _footprint() -> tuple[int, int]:
    return len(asyncio.all_tasks()), len(os.listdir("/dev/fd"))
