"""What happens to every request: it is let in or not, observed, and its errors leave in the envelope of its format."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping

import orjson
from aiohttp import web
from multidict import CIMultiDict

from droid2api.errors import CredentialError, GatewayError, RequestError
from droid2api.formats import Format, spoken
from droid2api.formats.routes import Refuse
from droid2api.gateway.exchange import Exchange, client_name, random_id
from droid2api.gateway.pump import OWN_FAULT
from droid2api.server.guard import CORS_HEADERS
from droid2api.server.keys import (
    CONNECTIONS,
    EXCHANGE,
    NOTIFIER,
    RUNNING,
    RUNTIME,
    SPEAKERS,
    STOPPING,
    Handler,
    sent_headers,
)
from droid2api.wire.fields import Json

log = logging.getLogger("droid2api")


@web.middleware
async def observed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Observers are notified of each exchange, whatever becomes of it."""
    app = request.app
    exchange = request[EXCHANGE] = _new_exchange(request)
    if task := asyncio.current_task():
        app[RUNNING].add(task)
    app[CONNECTIONS].began(request)
    try:
        response = await _answer(request, handler, exchange)
        exchange.status = exchange.status or response.status  # of a stream the first one counts
        return response
    except asyncio.CancelledError:
        exchange.end = "stopped" if app[STOPPING].is_set() else "client left"
        raise
    finally:
        app[CONNECTIONS].ended(request)
        if task:
            app[RUNNING].discard(task)
        if exchange.format:
            exchange.duration = time.time() - exchange.began
            if not exchange.stream:
                exchange.first_byte = exchange.duration
            exchange.end = exchange.end or "finish"
            app[NOTIFIER].notify("ended", exchange)


def _new_exchange(request: web.Request) -> Exchange:
    return Exchange(random_id(16), client_name(request.headers.get("User-Agent", "")))


async def _answer(request: web.Request, handler: Handler, exchange: Exchange) -> web.StreamResponse:
    try:
        if preflight := _let_in(request):
            return preflight
        return await handler(request)
    except GatewayError as error:
        return _refuse(request, error)
    except web.HTTPNotFound:
        served = ", ".join(served_routes(request.app[RUNTIME].settings.formats))
        return _error_response(request, RequestError(f"No such path. This gateway serves: {served}.", status=404))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        wrong = f"{request.method} is not served on this path, but {allowed}."
        return _error_response(request, RequestError(wrong, status=405, headers={"Allow": allowed}))
    except web.HTTPException:
        raise
    except Exception:  # a mistake of this program: the client must get an end all the same, and the log the traceback
        exchange.end = "client left"
        if request.transport and not request.transport.is_closing():  # else the client has left in the middle
            exchange.fail(GatewayError(OWN_FAULT))
            log.exception("%s %s failed", request.method, request.rel_url.raw_path)
            if exchange.status:  # a second head would be part of the stream: let it break instead
                request.transport.abort()
        return _error_response(request, GatewayError(OWN_FAULT))


def served_routes(formats: tuple[Format, ...]) -> list[str]:
    """Every path as its clients' documentation has it, with its method."""
    own = ["GET /", "GET /health"]
    rooms = [
        f"{route.method} {format.PREFIXES[0]}{documented(route.path)}"
        for format in formats
        for route in format.ROUTES
        if not isinstance(route, Refuse)
    ]
    return own + rooms


def documented(pattern: str) -> str:
    """A route's pattern without its regular expressions."""
    return re.sub(r"\{\w+:(\w+)\}", r"\1", pattern.replace(":.+}", "}"))


def _let_in(request: web.Request) -> web.Response | None:
    """The answer to a preflight. Raises RequestError or CredentialError for who must not be served."""
    guard, headers = request.app[RUNTIME].guard, _headers(request)
    origin = headers.get("Origin")
    if request.method == "OPTIONS" and origin:
        guard.check_preflight(origin, headers)
        return web.Response(status=204, headers=CORS_HEADERS | {"Access-Control-Allow-Origin": origin})
    guard.check(request.method, request.path, headers)
    return None


def _headers(request: web.Request) -> Mapping[str, str]:
    """With the host of the target where that is a whole URL: it wins over Host (RFC 9112, 3.2.2)."""
    sent = sent_headers(request)
    if not request.raw_path.lower().startswith(("http://", "https://")):
        return sent
    headers = CIMultiDict(sent)
    headers["Host"] = request.url.raw_authority.rpartition("@")[2]
    return headers


def _refuse(request: web.Request, error: GatewayError) -> web.Response:
    """Observers are notified of a request too that was refused before its format was looked at."""
    exchange = request[EXCHANGE]
    exchange.fail(error)
    format = request.app[SPEAKERS].get(request.match_info.handler)
    if format and not exchange.format:
        exchange.format = format.NAME
        request.app[NOTIFIER].notify("began", exchange)
    return _error_response(request, error)


async def complete_head(request: web.Request, response: web.StreamResponse) -> None:
    """Every answer carries the request's id, and a page that may use the gateway may read its answers, errors too."""
    exchange = request.get(EXCHANGE) or _new_exchange(request)  # aiohttp refuses an odd Expect before any middleware
    exchange.status = exchange.status or response.status
    response.headers["x-request-id"] = exchange.id
    response.headers.setdefault("request-id", exchange.id)
    origin = request.headers.get("Origin")
    if origin and request.app[RUNTIME].guard.allows_origin(origin, _headers(request)):
        response.headers.update(CORS_HEADERS | {"Access-Control-Allow-Origin": origin})


def _error_response(request: web.Request, error: GatewayError) -> web.Response:
    headers = dict(error.headers)
    if isinstance(error, RequestError | CredentialError) and error.status < 500:
        headers["x-should-retry"] = "false"  # Claude Code and the SDKs would try again for minutes
    format = spoken(request.app[RUNTIME].settings.formats, request.path, sent_headers(request))
    return json_response(format.encode_error(error), error.status, headers)


def json_response(value: Json, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, headers=headers, content_type="application/json")
