"""The application: its routes, its handlers, and what lives as long as the process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ParamSpec, TypeVar, assert_never

from aiohttp import web

from droid2api import __version__
from droid2api.credentials.credential import Credential
from droid2api.formats import Format, spoken
from droid2api.formats.routes import (
    Answer,
    ClientCall,
    CountTokens,
    ListModels,
    Refuse,
    Route,
    ShowModel,
)
from droid2api.gateway.exchange import Capture, Notifier, Observer
from droid2api.gateway.fallback import answer_or_fall_back
from droid2api.gateway.logs import RequestLog
from droid2api.gateway.prepare import Prepared, decode, prepare, read_model
from droid2api.gateway.pump import Call, answer
from droid2api.hub.estimate import estimate_tokens
from droid2api.outbound import Outbound
from droid2api.server.body import is_large, parse_body, read_body
from droid2api.server.connections import Connections
from droid2api.server.edge import complete_head, json_response, observed, served_routes
from droid2api.server.keys import (
    CAPTURE,
    CONNECTIONS,
    EXCHANGE,
    NOTIFIER,
    OBSERVERS,
    PAGE,
    RELOADER,
    RUNNING,
    RUNTIME,
    SPEAKERS,
    STARTED,
    STOPPING,
    Handler,
    sent_headers,
)
from droid2api.server.models import model_card, model_cards
from droid2api.server.reload import Reloader, Runtime, Source
from droid2api.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger("droid2api")


def build_core(
    settings: Settings, source: Source | None = None, credentials: Mapping[str, Credential] | None = None
) -> web.Application:
    """The gateway's application, without what is optional. Its sessions and its tasks live from startup to cleanup;
    from `source` the settings are read again when its files change. `credentials`, by names of endpoints, win over
    what the settings say.
    """
    app = web.Application(middlewares=[observed])
    app[STARTED] = time.time()
    app[STOPPING] = asyncio.Event()
    app[RUNNING] = set()
    app[CONNECTIONS] = Connections()
    observers: list[Observer] = [RequestLog()]
    app[OBSERVERS] = observers
    app[NOTIFIER] = Notifier(observers)
    app[SPEAKERS] = {}
    app.on_cleanup.insert(0, _notify_of_the_rest)  # before those end who want to know
    app.cleanup_ctx.append(_lifecycle(settings, source, credentials))
    app.on_response_prepare.append(complete_head)
    app.router.add_get("/", index)
    app.router.add_get("/health", health)
    app.router.add_get("/api/hello", hello)
    shared: dict[str, list[tuple[Format, Route]]] = {}
    for format in settings.formats:
        for route in format.ROUTES:
            handler = _handler(format, route)
            for prefix in format.PREFIXES:
                if route.method == "GET":
                    shared.setdefault(prefix + route.path, []).append((format, route))
                else:
                    app.router.add_route(route.method, prefix + route.path, handler)
            if isinstance(route, Answer | CountTokens):
                app[SPEAKERS][handler] = format
    for path, speakers in shared.items():
        app.router.add_get(path, _shared_handler(dict(speakers)))  # with HEAD
    return app


async def _notify_of_the_rest(app: web.Application) -> None:
    app[NOTIFIER].flush()


def _lifecycle(
    settings: Settings, source: Source | None, credentials: Mapping[str, Credential] | None
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(app: web.Application) -> AsyncIterator[None]:
        async with Outbound(settings.environment) as outbound:
            runtime = app[RUNTIME] = Runtime(settings, outbound, credentials)
            tasks = [asyncio.create_task(app[CONNECTIONS].run(lambda: runtime.settings.timeouts))]
            if source:
                app[RELOADER] = Reloader(source, runtime)
                tasks.append(asyncio.create_task(app[RELOADER].run()))
            yield
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await runtime.close()

    return run


async def drain(app: web.Application) -> None:
    """Let running answers finish, `timeouts.drain` seconds at the most; then end them with a clean error."""
    running, seconds = app[RUNNING], app[RUNTIME].settings.timeouts.drain
    if running:
        count = len(running)
        log.warning("%d running answer(s) have %g seconds to end. A second Ctrl+C ends them at once.", count, seconds)
    await _wait_for(running, seconds)
    app[STOPPING].set()
    for task in running:
        task.cancel()
    await _wait_for(running, 2)


async def _wait_for(tasks: set[asyncio.Task[Any]], seconds: float) -> None:
    if tasks:
        await asyncio.wait(set(tasks), timeout=seconds)


# -- the gateway's own paths ----------------------------------------------------------------------------------------


async def index(request: web.Request) -> web.Response:
    """A page for a browser, which holds nothing and asks for a key itself; JSON for others."""
    if PAGE in request.app and "text/html" in request.headers.get("Accept", ""):
        return request.app[PAGE]()
    runtime = request.app[RUNTIME]
    runtime.guard.check_key(sent_headers(request))
    endpoints = [route.split(" ")[1] for route in served_routes(runtime.settings.formats)[2:]]
    return json_response({"name": "droid2api", "version": __version__, "endpoints": endpoints})


async def hello(request: web.Request) -> web.Response:
    """Claude Code asks whether its API is there."""
    return web.Response()


async def health(request: web.Request) -> web.Response:
    uptime = round(time.time() - request.app[STARTED])
    state = {"status": "ok", "version": __version__, **request.app[RUNTIME].describe(), "uptime_seconds": uptime}
    return json_response(state)


# -- the formats' paths ---------------------------------------------------------------------------------------------


def _shared_handler(routes: dict[Format, Route]) -> Handler:
    """Clients of several formats ask on this path: each is answered in its own."""

    async def handle(request: web.Request) -> web.StreamResponse:
        format = spoken(tuple(routes), request.path, sent_headers(request))
        return await _handler(format, routes[format])(request)

    return handle


def _handler(format: Format, route: Route) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        runtime, started = request.app[RUNTIME], request.app[STARTED]
        match route:
            case Answer():
                return await _answer(request, format)
            case CountTokens():
                return await _count_tokens(request, format, route)
            case ListModels():
                return json_response(route.encode(model_cards(runtime.settings, started)))
            case ShowModel():
                return json_response(route.encode(model_card(runtime.settings, request.match_info["id"], started)))
            case Refuse():
                raise route.error()
            case _:
                assert_never(route)

    return handle


async def _answer(request: web.Request, format: Format) -> web.StreamResponse:
    call, large = await _read_call(request, format)

    async def made(call: Call) -> Prepared:
        prepared = await _run(large, prepare, call.settings, call.model, format, call.sent, request.headers)
        call.exchange.changed(prepared.dropped, prepared.repaired)
        return prepared

    return await answer_or_fall_back(call, made)


async def _count_tokens(request: web.Request, format: Format, route: CountTokens) -> web.StreamResponse:
    """Counted by the upstream where it speaks the client's format and counts (what it would get that costs tokens),
    else estimated. Factory's service answers 404.
    """
    call, large = await _read_call(request, format)
    if call.model.format is format:
        prepared = await _run(
            large, prepare, call.settings, call.model, format, call.sent, request.headers, "count_tokens"
        )
        counted = await answer(call, prepared) if prepared.url else None
        if counted and counted.status not in (404, 405):
            return counted
        call.exchange.end, call.exchange.error = "", ""
    count = await _run(large, lambda: estimate_tokens(decode(format, call.sent)))
    return json_response(route.encode(count))


async def _run(large: bool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Beside the event loop where it takes long: nobody else waits for it."""
    return await asyncio.to_thread(function, *args, **kwargs) if large else function(*args, **kwargs)


def _capture(request: web.Request, content: bytes) -> Capture | None:
    if CAPTURE not in request.app:
        return None
    headers = sent_headers(request)
    capture = request.app[CAPTURE](request[EXCHANGE], headers)
    if capture:
        head = {"method": request.method, "url": request.path, "headers": dict(request.headers)}
        capture.head("asked", head)
        capture.body("asked", content)
    return capture


async def _read_call(request: web.Request, format: Format) -> tuple[Call, bool]:
    """What the client sent, with its model found, and whether it is much. Raises RequestError."""
    exchange, runtime = request[EXCHANGE], request.app[RUNTIME]
    exchange.format = format.NAME
    try:
        content = await read_body(request, runtime.settings.timeouts.client_body)
        capture = _capture(request, content)
        sent = ClientCall(parse_body(content), request.match_info, request.query)
        asked = read_model(runtime.settings, format, sent)
        exchange.asked = asked[:200]
        model = runtime.settings.route(asked)
        exchange.model, exchange.upstream = model.id, model.format.NAME
    finally:
        request.app[NOTIFIER].notify("began", exchange)
    headers, stopping = sent_headers(request), request.app[STOPPING]
    call = Call(runtime.settings, runtime.upstream, request, headers, format, sent, model, exchange, stopping, capture)
    call.show("asked", content)
    return call, is_large(content)
