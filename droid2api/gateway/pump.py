"""The pump: one upstream's answer to one client, whatever the lane and whether either of them streams.

Once a stream has begun its status is 200, so a later failure becomes the one error event that the client's format has
for it, and never a regular end. What is done with the bytes is in lanes.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from aiohttp import ClientResponse, web

from droid2api.errors import GatewayError, StreamError, UpstreamError
from droid2api.formats import Format
from droid2api.formats.routes import ClientCall
from droid2api.gateway.exchange import Capture, Exchange, random_id
from droid2api.gateway.lanes import Beginning, Lane, begins_stream, choose_lane
from droid2api.gateway.logs import BODY_KEPT, log_body
from droid2api.gateway.prepare import Prepared
from droid2api.gateway.upstream import Upstream, passed_headers, read_chunks
from droid2api.settings import Model, Settings, is_factory
from droid2api.wire import sse
from droid2api.wire.fields import dump

log = logging.getLogger("droid2api")

STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx buffers events otherwise
}
FALLBACK = "x-droid2api-fallback"
"""The header that names the model that was tried and the one that answered."""
MOST_HELD = 64 * 1024
"""Bytes of a stream that are held back, at the most, until it is clear that it does not begin with an error."""
MOST_SPACE = 4096
"""Bytes of white space after which an answer that is not labelled as a stream counts as none."""
HINT = (
    "(Factory's service refuses some phrases, among them some clients' own prompts. The gateway does not rewrite "
    "prompts: try another client or model.)"
)
OWN_FAULT = "The gateway failed; its log says why."


def new_id() -> str:
    return random_id(24)


@dataclass(slots=True)
class Call:
    """One request of a client: what it speaks, what it sent (`headers` have its key too, where the URL does), and the
    model that shall answer. `stopping` is set when the gateway has been told to stop and the time for streams to finish
    is over. `capture` keeps what passes.
    """

    settings: Settings
    upstream: Upstream
    request: web.Request
    headers: Mapping[str, str]
    format: Format
    sent: ClientCall
    model: Model
    exchange: Exchange
    stopping: asyncio.Event
    capture: Capture | None = None

    def show(self, what: str, content: bytes) -> None:
        """Log a body, in dev_mode."""
        if self.settings.dev_mode:
            log_body(what, self.exchange.id, content, self.upstream.secrets(self.headers))


class ClientAnswer(Protocol):
    """`begun`: the client has a status already, so no other can be given."""

    begun: bool

    async def write(self, content: bytes) -> None: ...

    async def finish(self) -> web.StreamResponse: ...


class ClientStream:
    """Begins with the first bytes, so that a failure before them still has a status."""

    def __init__(self, call: Call, headers: dict[str, str]) -> None:
        self._call = call
        self._array = sse.ArrayWriter() if call.format.wants_array(call.sent) else None
        kind = {"Content-Type": "application/json"} if self._array else {}
        self._response = web.StreamResponse(headers=headers | STREAM_HEADERS | kind)
        self._shown = bytearray()
        self._is_watched = call.settings.dev_mode or call.capture is not None
        self.begun = False

    async def write(self, content: bytes) -> None:
        if not self.begun:
            self.begun = True
            exchange = self._call.exchange
            exchange.stream, exchange.first_byte = True, time.time() - exchange.began
            await self._response.prepare(self._call.request)
            if self._call.capture:
                self._call.capture.head("given", {"status": 200, "headers": dict(self._response.headers)})
        content = self._array.feed(content) if self._array else content
        if content:
            await self._response.write(content)
            if self._is_watched:
                self._watch(content)

    async def finish(self) -> web.StreamResponse:
        await self.write(b"")
        if self._array:
            await self._response.write(self._array.close())
        self._call.show("answered", bytes(self._shown))
        return self._response

    def _watch(self, content: bytes) -> None:
        if len(self._shown) <= BODY_KEPT:
            self._shown += content
        if self._call.capture:
            self._call.capture.body("given", content)


class ClientBody:
    """Goes out as a whole."""

    def __init__(self, call: Call, status: int, headers: dict[str, str]) -> None:
        self._call = call
        self._status = status
        self._headers = headers
        self._content = b""
        self.begun = False

    async def write(self, content: bytes) -> None:
        self._content += content

    async def finish(self) -> web.StreamResponse:
        if self._status >= 400:  # an upstream's own error, which may say what key it was given
            self._content = self._call.upstream.mask_body(self._content, self._call.headers)
        self._call.show("answered", self._content)
        if capture := self._call.capture:
            capture.head("given", {"status": self._status, "headers": self._headers})
            capture.body("given", self._content)
        return web.Response(body=self._content, status=self._status, headers=self._headers)


async def answer(call: Call, prepared: Prepared, *, standby: bool = False) -> web.StreamResponse:
    """The upstream's answer for the client. Raises GatewayError for what can still be a status.

    With `standby` another model may answer in this one's place, so the upstream's own error is raised too, and nothing
    goes out before it is clear that the answer does not begin with one.
    """
    return await _Pump(call, prepared, standby).run()


def may_fall_over(error: UpstreamError) -> bool:
    """Whether another model may do better: this one's service is not there, or too busy."""
    return error.status == 429 or error.status >= 500


class _Pump:
    def __init__(self, call: Call, prepared: Prepared, standby: bool) -> None:
        self._call = call
        self._prepared = prepared
        self._standby = standby
        self._lane: Lane | None = None
        self._client: ClientAnswer | None = None
        self._passed: dict[str, str] = {}

    async def run(self) -> web.StreamResponse:
        call, prepared = self._call, self._prepared
        content = dump(prepared.body)
        call.show("sent", content)
        if call.capture:
            secret = dict.fromkeys(prepared.model.endpoint.headers, "***")
            url = prepared.url.partition("?")[0]  # a query may be a credential
            call.capture.head("sent", {"url": url, "headers": dict(prepared.headers) | secret})
            call.capture.body("sent", content)
        try:
            async with call.upstream.post(
                prepared.model, prepared.url, prepared.headers, content, call.headers
            ) as response:
                client = await self._pass_on(response)
        except asyncio.CancelledError:
            await self._interrupt()
            raise
        except GatewayError as error:
            self._hint(error)
            return await self._fail(error)
        except ConnectionError:  # the client has left
            raise
        except Exception:  # a mistake of ours: its traceback for the owner, a clean error for the client
            log.exception("%s %s failed", call.request.method, call.request.rel_url.raw_path)
            return await self._fail(GatewayError(OWN_FAULT))
        finally:
            if self._lane:
                call.exchange.usage = self._lane.usage()
        return await client.finish()

    async def _pass_on(self, response: ClientResponse) -> ClientAnswer:
        """Read the whole answer and write it as far as it goes. Raises UpstreamError when it fails."""
        call, prepared = self._call, self._prepared
        self._passed = _client_headers(call, response) | _notes(prepared, call.exchange)
        chunks = read_chunks(response, call.settings.timeouts, call.exchange)
        if call.capture:
            call.capture.head("answered", {"status": response.status, "headers": dict(response.headers)})
            chunks = _captured(chunks, call.capture)
        streamed, first = response.content_type == "text/event-stream", b""
        if not streamed:
            first = await _first_chunk(chunks)
            streamed = begins_stream(first, labelled=False)
        lane = choose_lane(call.format, prepared, response.status, streamed, time.time, new_id)
        self._lane = lane
        if self._standby and lane.streams and streamed:
            patience = call.settings.timeouts.keepalive
            first = await _beginning(first, chunks, Beginning(prepared.model.format, prepared.model.target), patience)
        if lane.streams:
            self._client = ClientStream(call, self._passed)
        else:
            self._client = ClientBody(call, response.status, self._passed | _content_type(prepared, response))
        await self._flow(_with_first(first, chunks) if first else chunks, lane, self._client)
        if error := lane.relayed_error():
            call.upstream.mask(error, call.headers)
            self._hint(error)
            if self._standby and not self._client.begun and may_fall_over(error):
                raise error
            call.exchange.fail(error)
        return self._client

    async def _flow(self, chunks: AsyncIterator[bytes], lane: Lane, client: ClientAnswer) -> None:
        failure: UpstreamError | None = None
        unheard = 0.0  # since when the upstream says only what is not for the client, as pings are
        try:
            async for chunk in chunks:
                if chunk:
                    if content := lane.feed(chunk):
                        await client.write(content)
                        unheard = 0.0
                    elif lane.streams:
                        now = time.monotonic()
                        unheard = unheard or now
                        if now - unheard >= self._call.settings.timeouts.keepalive:
                            await client.write(self._call.format.KEEPALIVE)
                            unheard = now
                    if lane.over:
                        break
                elif lane.done:
                    break  # the answer is whole, only the connection is still open
                elif lane.streams:
                    await client.write(self._call.format.KEEPALIVE)
        except UpstreamError as error:
            failure = error
        if rest := lane.close(failure):
            await client.write(rest)
        if lane.error:
            raise lane.error

    def _hint(self, error: GatewayError) -> None:
        """Factory's service says 403 also where it does not like a client's prompt, and does not say why."""
        endpoint = self._prepared.model.endpoint
        refused = isinstance(error, UpstreamError) and error.status == 403
        if refused and is_factory(endpoint.host) and HINT not in error.message:
            error.message += f" {HINT}"

    async def _fail(self, error: GatewayError) -> web.StreamResponse:
        """End with the one error event. Raises the error instead when nothing was sent yet."""
        if not (self._lane and self._client and self._client.begun):
            error.headers = self._passed | error.headers
            if isinstance(error, UpstreamError) and error.status == 429 and error.code != "insufficient_quota":
                error.headers.setdefault("retry-after", "1")  # without it Codex ends the turn
            raise error
        self._call.exchange.fail(error)
        await self._client.write(self._lane.encode_error(error))
        return await self._client.finish()

    async def _interrupt(self) -> None:
        """The handler was cancelled: by a client that left, or since the gateway stops; then the client is told."""
        if self._call.stopping.is_set() and self._lane and self._client and self._client.begun:
            error = StreamError("The gateway was stopped. Try again.", status=503)
            await self._client.write(self._lane.encode_error(error))
            await (await self._client.finish()).write_eof()


async def _captured(chunks: AsyncIterator[bytes], capture: Capture) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        capture.body("answered", chunk)
        yield chunk


async def _first_chunk(chunks: AsyncIterator[bytes]) -> bytes:
    """What comes first, up to a piece that is not white space alone; b"" of an answer that has nothing."""
    first = b""
    async for chunk in chunks:
        first += chunk
        if chunk.strip() or len(first) > MOST_SPACE:
            break
    return first


async def _beginning(first: bytes, chunks: AsyncIterator[bytes], beginning: Beginning, patience: float) -> bytes:
    """What comes until the answer has begun, or says nothing for `patience` seconds, so that its client must get a sign
    of life. Raises the UpstreamError that it begins with.
    """
    begun, end = beginning.feed(first), time.monotonic() + patience
    while not begun and (chunk := await anext(chunks, b"")):
        first += chunk
        begun = beginning.feed(chunk) or len(first) > MOST_HELD or time.monotonic() > end
    return first


async def _with_first(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in chunks:
        yield chunk


def _content_type(prepared: Prepared, response: ClientResponse) -> dict[str, str]:
    relayed = response.headers.get("Content-Type", "application/json")
    return {"Content-Type": "application/json" if prepared.request else relayed}


def _client_headers(call: Call, response: ClientResponse) -> dict[str, str]:
    """What is passed on. The upstream's request id is beside our own, and where Anthropic's SDKs look for it."""
    passed = passed_headers(response, _answer_headers(call.settings.formats))
    id = passed.pop("x-request-id", "") or passed.get("request-id", "")
    if id:
        passed |= {"x-upstream-request-id": id, "request-id": passed.get("request-id", id)}
        call.exchange.upstream_id = _header_text(id)
    return passed


@lru_cache
def _answer_headers(formats: tuple[Format, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for format in formats for name in format.ANSWER_HEADERS))


def _notes(prepared: Prepared, exchange: Exchange) -> dict[str, str]:
    """What was left out or repaired on the way, and which model answers, for whoever wonders."""
    notes = {}
    if exchange.fallback:
        notes[FALLBACK] = _header_text(f"{exchange.fallback} -> {exchange.model}")
    if prepared.dropped:
        notes["x-droid2api-dropped"] = _header_text(", ".join(prepared.dropped))
    if prepared.repaired:
        repairs = ", ".join(f"{name}={count}" for name, count in sorted(prepared.repaired.items()))
        notes["x-droid2api-repaired"] = _header_text(repairs)
    return notes


def _header_text(text: str) -> str:
    """Names of fields come from the client, and headers from the upstream: both may hold anything."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)[:1000]
