"""The two pumps from an upstream to a client.

relay       client and upstream speak the same format: the answer is not parsed, whole events go out as they came
translate   upstream bytes -> its decoder -> events -> the client's encoder -> bytes

Once a stream has begun its status is 200, so a later failure becomes the one error event that the client's format has
for it, and never a regular end. What each does with the bytes is in lanes.py.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import ClientResponse, web
from multidict import CIMultiDict

from droid2api.config import Model, Settings
from droid2api.errors import GatewayError, StreamError, UpstreamError
from droid2api.formats import Format
from droid2api.formats.upstream_error import read_error
from droid2api.gateway.exchange import Exchange
from droid2api.gateway.lanes import AnswerReader, Lane, RelayLane, TranslateLane, find_usage
from droid2api.gateway.logs import log_body
from droid2api.gateway.upstream import Upstream, passed_headers, read_body, read_chunks, request_headers
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import Event, Finish
from droid2api.hub.history import normalize
from droid2api.hub.request import Request
from droid2api.wire.fields import Json

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
    exchange: Exchange

    def upstream_headers(self) -> CIMultiDict[str]:
        return request_headers(self.settings, self.model, self.request.headers)

    def show(self, what: str, content: bytes) -> None:
        """Log a body, in dev_mode."""
        if self.settings.dev_mode:
            log_body(what, self.exchange.id, content, self.upstream.secrets(self.request.headers))


class Out:
    """A stream to the client. It begins with the first bytes, so that a failure before them still has a status."""

    def __init__(self, call: Call, headers: dict[str, str]) -> None:
        self._call = call
        self._response = web.StreamResponse(headers=headers | STREAM_HEADERS)
        self._headers = headers
        self.shown: list[bytes] | None = [] if call.settings.dev_mode else None

    async def write(self, content: bytes) -> None:
        if not self._response.prepared:
            await self._begin()
        if content:
            await self._response.write(content)
            if self.shown is not None:
                self.shown.append(content)

    async def _begin(self) -> None:
        exchange = self._call.exchange
        exchange.stream, exchange.first_byte = True, time.time() - exchange.began
        await self._response.prepare(self._call.request)

    async def fail(self, error: GatewayError, content: bytes) -> None:
        """End with the one error event `content`. Raises the error instead when nothing was sent yet."""
        if not self._response.prepared:
            error.headers |= self._headers
            raise error
        self._call.exchange.end, self._call.exchange.error = "upstream error", error.message
        await self.write(content)

    async def interrupt(self, lane: Lane) -> None:
        """The handler was cancelled: by a client that left, or since the gateway stops; then the client is told."""
        if self._call.request.app[STOPPING].is_set() and self._response.prepared:
            content = lane.encode_error(StreamError("The gateway was stopped. Try again.", status=503))
            await self._response.write(content)
            await self._response.write_eof()

    async def finished(self) -> web.StreamResponse:
        await self.write(b"")
        return self._response


async def answer(call: Call) -> web.StreamResponse:
    if call.format is call.model.format:
        return await relay(call)
    return await translate(call)


async def _stream(call: Call, response: ClientResponse, lane: Lane, passed: dict[str, str]) -> web.StreamResponse:
    """Pump the answer through `lane` while it is made."""
    out = Out(call, passed)
    failure: UpstreamError | None = None
    try:
        try:
            async for chunk in read_chunks(response, call.settings.timeouts, call.exchange):
                if chunk:
                    if content := lane.feed(chunk):
                        await out.write(content)
                    if lane.over:
                        break
                elif lane.done:
                    break  # the answer is whole, only the connection is still open
                else:
                    await out.write(call.format.keepalive)
        except UpstreamError as error:
            failure = error
        return await _end(call, out, lane, lane.close(failure))
    except asyncio.CancelledError:
        await out.interrupt(lane)
        raise
    finally:
        call.exchange.usage = lane.usage()
        call.show("answered", b"".join(out.shown or ()))


async def _end(call: Call, out: Out, lane: Lane, rest: bytes) -> web.StreamResponse:
    if rest:
        await out.write(rest)
    if lane.error:
        error = call.upstream.mask(lane.error, call.request.headers)
        await out.fail(error, lane.encode_error(error))
    return await out.finished()


# -- relay ----------------------------------------------------------------------------------------------------------


async def relay(call: Call) -> web.StreamResponse:
    """Status, headers that clients act on and body bytes go out as they came in."""
    headers = call.upstream_headers()
    call.format.apply_model_settings(call.body, headers, call.model.target, call.settings.system_prompt)
    return await forward(call, "", headers)


async def forward(call: Call, path: str, headers: CIMultiDict[str]) -> web.StreamResponse:
    """Send `call.body` to `path` below the model's endpoint and pass the answer on."""
    body = orjson.dumps(call.body)
    call.show("sent", body)
    async with call.upstream.post(call.model, path, headers, body, call.request.headers) as response:
        passed = _client_headers(call, response)
        if response.status == 200 and response.content_type == "text/event-stream":
            lane = RelayLane(call.format)
            answer = await _stream(call, response, lane, passed)
            if failure := lane.told_error():
                _note_failure(call, failure)
            return answer
        content = await read_body(response, call.settings.timeouts)
        call.show("answered", content)
        if response.status < 400:
            call.exchange.usage = find_usage(content, call.format)
        else:
            _note_failure(call, _read_error(content, response.status))
        content_type = response.headers.get("Content-Type", "application/json")
        return web.Response(body=content, status=response.status, headers=passed | {"Content-Type": content_type})


def _note_failure(call: Call, error: GatewayError) -> None:
    """The client has it as the upstream said it."""
    call.exchange.error = call.upstream.mask(error, call.request.headers).message
    call.exchange.end = "upstream error"


# -- translate ------------------------------------------------------------------------------------------------------


async def translate(call: Call) -> web.StreamResponse:
    """Ask the upstream in its format, answer in the client's."""
    request = normalize(call.format.decode_request(call.body))
    upstream_format, headers = call.model.format, call.upstream_headers()
    encoded = upstream_format.encode_request(request, call.model.target)
    upstream_format.apply_model_settings(encoded.body, headers, call.model.target, call.settings.system_prompt)
    call.exchange.dropped, call.exchange.repaired = encoded.dropped, encoded.repaired
    content = orjson.dumps(encoded.body)
    call.show("sent", content)
    async with call.upstream.post(call.model, "", headers, content, call.request.headers) as response:
        passed = _client_headers(call, response) | _notes(encoded)
        if response.status != 200:
            raise await _upstream_error(call, response, passed)
        streamed = response.content_type == "text/event-stream"
        if request.stream or (request.stream is None and streamed):
            lane = TranslateLane(call.format, call.model, request, encoded, time.time, new_id)
            if streamed:
                return await _stream(call, response, lane, passed)
            return await _stream_whole(call, response, lane, passed)
        events = await (_read_stream if streamed else _read_whole)(call, request, encoded, response)
    return _whole_answer(call, request, events, passed)


async def _stream_whole(
    call: Call, response: ClientResponse, lane: TranslateLane, passed: dict[str, str]
) -> web.StreamResponse:
    content = lane.feed_whole(await _read_events(call, response))
    call.exchange.usage = lane.usage()
    return await _end(call, Out(call, passed), lane, content)


async def _read_stream(call: Call, request: Request, encoded: Encoded, response: ClientResponse) -> list[Event]:
    reader = AnswerReader(call.model, request, encoded)
    events: list[Event] = []
    try:
        async for chunk in read_chunks(response, call.settings.timeouts):
            if chunk:
                events += reader.feed(chunk)
            elif reader.done:
                break
    except UpstreamError as error:
        return events + reader.close(error)
    return events + reader.close(None)


async def _read_whole(call: Call, request: Request, encoded: Encoded, response: ClientResponse) -> list[Event]:
    return AnswerReader(call.model, request, encoded).filter(await _read_events(call, response))


async def _read_events(call: Call, response: ClientResponse) -> list[Event]:
    body = _json(await read_body(response, call.settings.timeouts))
    if type(body) is not dict:
        raise UpstreamError("The upstream's answer is not a JSON object.")
    return call.model.format.decode_response(body, call.model.target)


def _whole_answer(call: Call, request: Request, events: list[Event], passed: dict[str, str]) -> web.Response:
    if isinstance(events[-1], Finish):
        call.exchange.usage = events[-1].usage
    try:
        answer = call.format.encode_response(events, request, time.time, new_id)
    except GatewayError as error:  # the turn failed
        error.headers |= passed
        raise call.upstream.mask(error, call.request.headers) from None
    content = orjson.dumps(answer)
    call.show("answered", content)
    return web.Response(body=content, content_type="application/json", headers=passed)


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


async def _upstream_error(call: Call, response: ClientResponse, passed: dict[str, str]) -> GatewayError:
    """The upstream's error for the client's envelope: same status, same message, same advice to retry."""
    content = await read_body(response, call.settings.timeouts)
    status = response.status if response.status >= 400 else 502
    error = _read_error(content, status)
    error.headers |= passed
    if status == 429 and error.code != "insufficient_quota":
        error.headers.setdefault("retry-after", "1")  # without it Codex ends the turn
    return call.upstream.mask(error, call.request.headers)


def _read_error(content: bytes, status: int) -> UpstreamError:
    value = _json(content)
    return read_error(content.decode(errors="replace")[:2000] if value is None else value, status)


def _client_headers(call: Call, response: ClientResponse) -> dict[str, str]:
    """What is passed on. The upstream's request id is beside our own, and where Anthropic's SDKs look for it."""
    passed = passed_headers(response)
    id = passed.pop("x-request-id", "") or passed.get("request-id", "")
    if id:
        passed |= {"x-upstream-request-id": id, "request-id": passed.get("request-id", id)}
        call.exchange.upstream_id = _header_text(id)
    return passed


def _notes(encoded: Encoded) -> dict[str, str]:
    """What was left out or mended on the way, for whoever wonders."""
    notes = {}
    if encoded.dropped:
        notes["x-droid2api-dropped"] = _header_text(", ".join(encoded.dropped))
    if encoded.repaired:
        repairs = ", ".join(f"{name}={count}" for name, count in sorted(encoded.repaired.items()))
        notes["x-droid2api-repaired"] = _header_text(repairs)
    return notes


def _header_text(text: str) -> str:
    """Names of fields come from the client, and headers from the upstream: both may hold anything."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)[:1000]
