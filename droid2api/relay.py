"""The two pumps from an upstream to a client.

relay       client and upstream speak the same format: the answer is not parsed, whole events go out as they came
translate   upstream bytes -> its decoder -> events -> the client's encoder -> bytes

Once a stream has begun its status is 200, so a later failure becomes the one error event that the client's format has
for it, and never a regular end.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import aiohttp
import orjson
from aiohttp import web
from multidict import CIMultiDict

from droid2api import sse
from droid2api.config import Model, Settings
from droid2api.conversation import Request
from droid2api.errors import GatewayError, StreamError, UpstreamError, read_error
from droid2api.events import Event, Failed
from droid2api.fields import Json
from droid2api.formats import Format
from droid2api.history import repair
from droid2api.stops import StopFilter
from droid2api.tools import ToolRestorer
from droid2api.upstream import Upstream, passed_headers, read_body, read_chunks, request_headers

log = logging.getLogger("droid2api.relay")

STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx buffers events otherwise
}


def new_id() -> str:
    return uuid.uuid4().hex[:24]


STOPPING = web.AppKey("stopping", asyncio.Event)
"""Set when the gateway has been told to stop and the time for streams to finish is over."""


@dataclass(slots=True)
class Call:
    """One request of a client: what it speaks, what it sent, and the model that shall answer."""

    settings: Settings
    upstream: Upstream
    request: web.Request
    format: Format
    body: Json
    model: Model

    def upstream_headers(self) -> CIMultiDict[str]:
        return request_headers(self.settings, self.model, self.request.headers)


class Out:
    """A stream to the client. It begins with the first bytes, so that a failure before them still has a status."""

    def __init__(self, call: Call, headers: dict[str, str]) -> None:
        self._call = call
        self._response = web.StreamResponse(headers=headers | STREAM_HEADERS)
        self._headers = headers

    async def write(self, content: bytes) -> None:
        if not self._response.prepared:
            await self._response.prepare(self._call.request)
        if content:
            await self._response.write(content)

    async def fail(self, error: GatewayError, content: bytes, begun: bool = False) -> None:
        """End with the one error event `content`. Raises the error instead when nothing was sent or is to be sent."""
        log.warning("%s: %s", self._call.model.id, error.message)
        if not self._response.prepared and not begun:
            error.headers |= self._headers
            raise error
        await self.write(content)

    async def interrupt(self, encode: Callable[[GatewayError], bytes]) -> None:
        """The handler was cancelled: by a client that left, or since the gateway stops; then the client is told."""
        if self._call.request.app[STOPPING].is_set() and self._response.prepared:
            await self._response.write(encode(StreamError("The gateway was stopped. Try again.", status=503)))
            await self._response.write_eof()

    async def finished(self) -> web.StreamResponse:
        await self.write(b"")
        return self._response


async def answer(call: Call) -> web.StreamResponse:
    if call.format is call.model.format:
        return await relay(call)
    return await translate(call)


# -- relay ----------------------------------------------------------------------------------------------------------


async def relay(call: Call) -> web.StreamResponse:
    """Status, headers that clients act on and body bytes go out as they came in."""
    headers = call.upstream_headers()
    call.format.adapt(call.body, headers, call.model.target, call.settings.system_prompt)
    return await forward(call, "", headers)


async def forward(call: Call, path: str, headers: CIMultiDict[str]) -> web.StreamResponse:
    """Send `call.body` to `path` below the model's endpoint and pass the answer on."""
    body = orjson.dumps(call.body)
    async with call.upstream.post(call.model, path, headers, body, call.request.headers) as response:
        passed = passed_headers(response)
        if response.status == 200 and response.content_type == "text/event-stream":
            return await _relay_stream(call, response, passed)
        content = await read_body(response, call.settings.timeouts)
        content_type = response.headers.get("Content-Type", "application/json")
        return web.Response(body=content, status=response.status, headers=passed | {"Content-Type": content_type})


async def _relay_stream(call: Call, response: aiohttp.ClientResponse, passed: dict[str, str]) -> web.StreamResponse:
    out = Out(call, passed)
    cutter = sse.EventCutter()
    failure: UpstreamError = StreamError("The upstream closed the stream before its end.")
    try:
        try:
            async for chunk in read_chunks(response, call.settings.timeouts):
                if not chunk and _has_ended(call, cutter):
                    break  # the answer is whole, only the connection is still open
                if not chunk:
                    await out.write(call.format.keepalive)
                elif whole := cutter.feed(chunk):
                    await out.write(whole)
        except UpstreamError as error:
            failure = error
        if _has_ended(call, cutter):
            await out.write(_whole_rest(cutter))
        else:
            await out.fail(failure, call.format.encode_stream_error(failure, cutter.last))
    except asyncio.CancelledError:
        await out.interrupt(lambda error: call.format.encode_stream_error(error, cutter.last))
        raise
    return await out.finished()


def _has_ended(call: Call, cutter: sse.EventCutter) -> bool:
    return call.format.end.search(_whole_rest(cutter).strip() or cutter.last) is not None


def _whole_rest(cutter: sse.EventCutter) -> bytes:
    """What came after the last boundary, if only the blank line is missing: half an event is none."""
    data = cutter.rest.rpartition(b"data:")[2].strip()
    whole = not cutter.rest.strip() or data == b"[DONE]" or _json(data) is not None
    return cutter.rest if whole else b""


# -- translate ------------------------------------------------------------------------------------------------------


async def translate(call: Call) -> web.StreamResponse:
    """Ask the upstream in its format, answer in the client's."""
    request = call.format.decode_request(call.body)
    repair(request)
    upstream_format, headers = call.model.format, call.upstream_headers()
    body = upstream_format.encode_request(request, call.model.target)
    upstream_format.adapt(body, headers, call.model.target, call.settings.system_prompt)
    async with call.upstream.post(call.model, "", headers, orjson.dumps(body), call.request.headers) as response:
        passed = _client_headers(response) | _notes(request)
        if response.status != 200:
            raise await _upstream_error(call, response, passed)
        async with aclosing(_decoded(call, request, response)) as batches:
            if request.stream or (request.stream is None and response.content_type == "text/event-stream"):
                return await _translate_stream(call, request, batches, passed)
            whole = [event async for batch in batches for event in batch or ()]
        try:
            answer = call.format.encode_response(whole, request, time.time, new_id)
        except GatewayError as error:  # the turn failed
            error.headers |= passed
            raise call.upstream.mask(error, call.request.headers) from None
        return web.Response(body=orjson.dumps(answer), content_type="application/json", headers=passed)


async def _translate_stream(
    call: Call, request: Request, batches: AsyncIterator[list[Event] | None], passed: dict[str, str]
) -> web.StreamResponse:
    out = Out(call, passed)
    encoder = call.format.stream_encoder(request, time.time, new_id)
    try:
        async for batch in batches:
            if batch is None:
                await out.write(call.format.keepalive)
            elif isinstance(batch[-1], Failed):
                call.upstream.mask(batch[-1].error, call.request.headers)
                await out.fail(batch[-1].error, encoder.encode(batch), begun=len(batch) > 2)
            else:
                await out.write(encoder.encode(batch))
    except asyncio.CancelledError:
        await out.interrupt(lambda error: encoder.encode([Failed(error)]))
        raise
    return await out.finished()


async def _decoded(
    call: Call, request: Request, response: aiohttp.ClientResponse
) -> AsyncGenerator[list[Event] | None, None]:
    """The answer's events as the client may see them, a batch for each read; the last batch ends the turn.

    None stands for a silence of the upstream.
    """
    stops, tools = StopFilter(request.local_stop), ToolRestorer(request)
    async for batch in _upstream_events(call, response):
        if batch is None:
            yield None
            continue
        events = stops.feed(batch) if request.local_stop else batch
        if stops.stopped and request.stream:
            yield tools.feed(events + stops.close())
            return
        if events := tools.feed(events):
            yield events


async def _upstream_events(call: Call, response: aiohttp.ClientResponse) -> AsyncIterator[list[Event] | None]:
    upstream_format, target, timeouts = call.model.format, call.model.target, call.settings.timeouts
    if response.content_type != "text/event-stream":
        body = _json(await read_body(response, timeouts))
        if type(body) is not dict:
            raise UpstreamError("The upstream's answer is not a JSON object.")
        yield upstream_format.decode_response(body, target)
        return
    decoder, lines = upstream_format.stream_decoder(target), sse.Decoder()
    try:
        async for chunk in read_chunks(response, timeouts):
            if not chunk and decoder.turn.done:
                break
            yield decoder.feed(lines.feed(chunk)) if chunk else None
        yield decoder.feed(lines.close()) + decoder.close()
    except UpstreamError as error:
        decoder.turn.fail(error)
        yield decoder.turn.take()


def _json(content: bytes) -> object:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


async def _upstream_error(call: Call, response: aiohttp.ClientResponse, passed: dict[str, str]) -> GatewayError:
    """The upstream's error for the client's envelope: same status, same message, same advice to retry."""
    content = await read_body(response, call.settings.timeouts)
    value = _json(content)
    status = response.status if response.status >= 400 else 502
    error = read_error(content.decode(errors="replace")[:2000] if value is None else value, status)
    error.headers |= passed
    if status == 429 and error.code != "insufficient_quota":
        error.headers.setdefault("retry-after", "1")  # without it Codex ends the turn
    return call.upstream.mask(error, call.request.headers)


def _client_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """What is passed on, with the request id under the names of both vendors' SDKs."""
    passed = passed_headers(response)
    if id := passed.get("request-id") or passed.get("x-request-id"):
        passed |= {"request-id": id, "x-request-id": id}
    return passed


def _notes(request: Request) -> dict[str, str]:
    """What was left out or mended on the way, for whoever wonders."""
    notes = {}
    if request.dropped:
        notes["x-droid2api-dropped"] = _header_text(", ".join(request.dropped))
        log.debug("Not sent to the upstream: %s.", notes["x-droid2api-dropped"])
    if request.repaired:
        repairs = ", ".join(f"{name}={count}" for name, count in sorted(request.repaired.items()))
        notes["x-droid2api-repaired"] = _header_text(repairs)
    return notes


def _header_text(text: str) -> str:
    """Names of fields come from the client, so they may hold anything."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)[:1000]
