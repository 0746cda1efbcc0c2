"""The application: routes, errors in the client's own format, and what lives as long as the process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from droid2api import __version__
from droid2api.config import Model, Settings, find_config, is_own, load, read_environment
from droid2api.credentials.credential import Credential
from droid2api.errors import CredentialError, GatewayError, RequestError, UpstreamError
from droid2api.formats import ANTHROPIC, CHAT, FORMATS, RESPONSES, Format
from droid2api.gateway.exchange import Exchange, Observer, Teller, client_name
from droid2api.gateway.logs import RequestLog, start_logging
from droid2api.gateway.pump import STOPPING, Call, answer, forward
from droid2api.gateway.upstream import BODY_LIMIT, open_session
from droid2api.hub.estimate import estimate_tokens
from droid2api.server.guard import CORS_HEADERS
from droid2api.server.reload import Reloader, Runtime, Source
from droid2api.wire.fields import Json, required

log = logging.getLogger("droid2api")

PREFIXES = ("", "/v1", "/v1/v1")
"""Base URLs are given with /v1 and without, and some clients add their own /v1 to it."""

ROUTES = (
    "GET /",
    "GET /health",
    "GET /v1/models",
    "GET /v1/models/{id}",
    "POST /v1/chat/completions",
    "POST /v1/responses",
    "POST /v1/messages",
    "POST /v1/messages/count_tokens",
)

API_ENDINGS = tuple(route.rpartition("/")[2] for route in ROUTES if route.startswith("POST"))
"""Last parts of the paths that exchanges go over."""

CURRENT = web.AppKey("current", Runtime)
"""The settings and what is made from them; from the app's startup on."""
RELOADER = web.AppKey("reloader", Reloader)
OBSERVERS = web.AppKey("observers", list[Observer])
TELLER = web.AppKey("teller", Teller)
RUNNING = web.AppKey("running", set[asyncio.Task[Any]])
"""The tasks that are answering a client."""
STARTED = web.AppKey("started", float)
EXCHANGE = web.RequestKey("exchange", Exchange)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def create_app(
    settings: Settings | None = None,
    source: Source | None = None,
    credentials: Mapping[str, Credential] | None = None,
) -> web.AppRunner:
    """The gateway as a server: its listener is stopped first, then running answers may finish.

    Without settings they are read as the command line does: `gunicorn droid2api.server.app:create_app`. From `source`
    they are read again when its files change. `credentials`, by names of endpoints, win over what the settings say.
    """
    own_server = settings is not None
    if settings is None:
        source = file_source()
        settings = source.read()
        start_logging(settings)
    app = build_app(settings, source, credentials)
    app.on_shutdown.append(drain)
    if not own_server:
        app.on_startup.append(_warn_without_keys)
    return web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=5)


def file_source(config: str | None = None) -> Source:
    """Settings from config.json (or the file `config`), .env and the environment. Raises ConfigError."""
    env_file = Path.cwd() / ".env"
    path = find_config(config, read_environment(env_file))
    own = is_own(path, config)
    return Source(lambda: load(path, read_environment(env_file), own=own), (path, env_file))


async def _warn_without_keys(app: web.Application) -> None:
    """Where another server listens is not known here."""
    if app[CURRENT].guard.is_unlocked:
        log.warning("No key is set (DROID2API_KEYS): everyone who can reach this server can use your credential.")


def build_app(
    settings: Settings, source: Source | None = None, credentials: Mapping[str, Credential] | None = None
) -> web.Application:
    """The gateway's application. Its session and its tasks live from startup to cleanup."""
    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[answered])
    app[STARTED] = time.time()
    app[STOPPING] = asyncio.Event()
    app[RUNNING] = set()
    observers: list[Observer] = [RequestLog()]
    app[OBSERVERS] = observers
    app[TELLER] = Teller(observers)
    app.cleanup_ctx.append(_lifecycle(settings, source, credentials))
    _add_observers(app, observers)
    app.cleanup_ctx.append(_tell_the_rest)
    app.on_response_prepare.append(_complete_head)
    app.router.add_get("/", index)
    app.router.add_get("/health", health)
    app.router.add_get("/api/hello", hello)
    for prefix in PREFIXES:
        app.router.add_get(f"{prefix}/models", models)
        app.router.add_get(f"{prefix}/models/{{id:.+}}", model)
        for format in FORMATS.values():
            app.router.add_post(prefix + format.path.removeprefix("/v1"), _ask(format))
        app.router.add_post(f"{prefix}/messages/count_tokens", count_tokens)
        app.router.add_get(f"{prefix}/responses", websocket_probe)
    return app


def _add_observers(app: web.Application, observers: list[Observer]) -> None:
    """What is optional: nothing of it is needed to answer a client."""
    from droid2api.observe.metrics import add_metrics
    from droid2api.observe.page import add_page
    from droid2api.observe.usage import add_usage

    add_page(app, lambda: app[CURRENT], observers)
    add_metrics(app, observers, lambda: app[CURRENT].shared)
    add_usage(app, observers, lambda: app[CURRENT].settings.data_folder / "usage.db")


async def _tell_the_rest(app: web.Application) -> AsyncIterator[None]:
    yield
    app[TELLER].flush()


async def drain(app: web.Application) -> None:
    """Let running answers finish, `timeouts.drain` seconds at the most; then end them with a clean error."""
    await _wait_for(app[RUNNING], app[CURRENT].settings.timeouts.drain)
    app[STOPPING].set()
    for task in app[RUNNING]:
        task.cancel()
    await _wait_for(app[RUNNING], 2)


async def _wait_for(tasks: set[asyncio.Task[Any]], seconds: float) -> None:
    if tasks:
        await asyncio.wait(set(tasks), timeout=seconds)


def _lifecycle(
    settings: Settings, source: Source | None, credentials: Mapping[str, Credential] | None
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(app: web.Application) -> AsyncIterator[None]:
        async with open_session() as session:
            runtime = app[CURRENT] = Runtime(settings, session, credentials)
            tasks = []
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


# -- every request --------------------------------------------------------------------------------------------------


@web.middleware
async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every request is let in or not, told to the observers, and its errors leave in the envelope of its format."""
    app = request.app
    exchange = request[EXCHANGE] = _new_exchange(request)
    if task := asyncio.current_task():
        app[RUNNING].add(task)
    try:
        response = await _answer(request, handler, exchange)
        exchange.status = exchange.status or response.status  # of a stream the first one counts
        return response
    except asyncio.CancelledError:
        exchange.end = "stopped" if app[STOPPING].is_set() else "client left"
        raise
    finally:
        if task:
            app[RUNNING].discard(task)
        if exchange.format:
            exchange.duration = time.time() - exchange.began
            if not exchange.stream:
                exchange.first_byte = exchange.duration
            exchange.end = exchange.end or "finish"
            app[TELLER].tell("ended", exchange)


def _new_exchange(request: web.Request) -> Exchange:
    return Exchange(secrets.token_hex(8), client_name(request.headers.get("User-Agent", "")))


async def _answer(request: web.Request, handler: Handler, exchange: Exchange) -> web.StreamResponse:
    try:
        if preflight := _let_in(request):
            return preflight
        return await handler(request)
    except GatewayError as error:
        _note_error(request, error)
        return _error_response(request, error)
    except web.HTTPNotFound:
        routes = ", ".join(ROUTES)
        return _error_response(request, RequestError(f"No such path. This gateway serves: {routes}.", status=404))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        wrong = f"{request.method} is not served on this path, but {allowed}."
        return _error_response(request, RequestError(wrong, status=405, headers={"Allow": allowed}))
    except web.HTTPRequestEntityTooLarge:
        too_large = RequestError(f"The body has more than {BODY_LIMIT} bytes.", status=413)
        _note_error(request, too_large)
        return _error_response(request, too_large)
    except web.HTTPException:
        raise
    except Exception:  # a mistake of this program: the client must get an end all the same, and the log the traceback
        exchange.end = "client left"
        if request.transport and not request.transport.is_closing():  # else the client has left in the middle
            exchange.end = "gateway error"
            log.exception("%s %s failed", request.method, request.rel_url.raw_path)
            if exchange.status:  # a second head would be part of the stream: let it break instead
                request.transport.abort()
        return _error_response(request, GatewayError("The gateway failed; its log says why."))


def _let_in(request: web.Request) -> web.Response | None:
    """The answer to a preflight. Raises RequestError or CredentialError for who must not be served."""
    guard, origin = request.app[CURRENT].guard, request.headers.get("Origin")
    if request.method == "OPTIONS" and origin:
        guard.check_preflight(origin, request.headers)
        return web.Response(status=204, headers=CORS_HEADERS | {"Access-Control-Allow-Origin": origin})
    guard.check(request.method, request.path, request.headers)
    return None


def _note_error(request: web.Request, error: GatewayError) -> None:
    """Whose fault it is. A request that was refused before its format was looked at is told to the observers too."""
    exchange = request[EXCHANGE]
    exchange.error = error.message
    match error:
        case RequestError():
            exchange.end = "request error"
        case CredentialError():
            exchange.end = "credential error"
        case UpstreamError():
            exchange.end = "upstream error"
        case _:
            exchange.end = "gateway error"
    if request.method == "POST" and not exchange.format and request.path.endswith(API_ENDINGS):
        exchange.format = _spoken(request).name
        request.app[TELLER].tell("began", exchange)


async def _complete_head(request: web.Request, response: web.StreamResponse) -> None:
    """Every answer carries the request's id, and a page that may use the gateway may read its answers, errors too."""
    exchange = request.get(EXCHANGE) or _new_exchange(request)  # aiohttp refuses an odd Expect before any middleware
    exchange.status = exchange.status or response.status
    response.headers["x-request-id"] = exchange.id
    response.headers.setdefault("request-id", exchange.id)
    origin = request.headers.get("Origin")
    if origin and request.app[CURRENT].guard.allows_origin(origin, request.headers):
        response.headers.update(CORS_HEADERS | {"Access-Control-Allow-Origin": origin})


def _spoken(request: web.Request) -> Format:
    """The format that the client surely understands an error in."""
    return ANTHROPIC if "/messages" in request.path or "anthropic-version" in request.headers else CHAT


def _error_response(request: web.Request, error: GatewayError) -> web.Response:
    headers = dict(error.headers)
    if isinstance(error, RequestError | CredentialError) and error.status < 500:
        headers["x-should-retry"] = "false"  # Claude Code and the SDKs would try again for minutes
    return _json(_spoken(request).encode_error(error), error.status, headers)


def _json(value: Json, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, headers=headers, content_type="application/json")


# -- the gateway's own pages ----------------------------------------------------------------------------------------


async def index(request: web.Request) -> web.Response:
    """A page for a browser, which holds nothing and asks for a key itself; JSON for others."""
    if "text/html" in request.headers.get("Accept", ""):
        from droid2api.observe.page import page

        return page()
    request.app[CURRENT].guard.check_key(request.headers)
    endpoints = [route.split(" ")[1] for route in ROUTES if "/v1" in route]
    return _json({"name": "droid2api", "version": __version__, "endpoints": endpoints})


async def hello(request: web.Request) -> web.Response:
    """Claude Code asks whether its API is there."""
    return web.Response()


async def health(request: web.Request) -> web.Response:
    uptime = round(time.time() - request.app[STARTED])
    state = {"status": "ok", "version": __version__, **request.app[CURRENT].describe(), "uptime_seconds": uptime}
    return _json(state)


async def models(request: web.Request) -> web.Response:
    """Configured models, with the fields that both vendors' SDKs require."""
    data = [_describe(model, request.app[STARTED]) for model in request.app[CURRENT].settings.models.values()]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return _json({"object": "list", "data": data, "has_more": False, **ends})


async def model(request: web.Request) -> web.Response:
    model = request.app[CURRENT].settings.route(request.match_info["id"])
    return _json(_describe(model, request.app[STARTED]))


def _describe(model: Model, started: float) -> Json:
    created = _release_date(model.id) or datetime.fromtimestamp(int(started), UTC)
    return {
        "id": model.id,
        "object": "model",
        "type": "model",
        "created": int(created.timestamp()),
        "created_at": created.isoformat().replace("+00:00", "Z"),
        "owned_by": model.provider or "droid2api",
        "display_name": model.name,
        "lifecycle": "active",
        "max_tokens": model.target.max_tokens,
    }


def _release_date(id: str) -> datetime | None:
    """The date that many model ids end in."""
    found = re.search(r"20\d\d-?\d\d-?\d\d$", id)
    try:
        return datetime.fromisoformat(found.group()).replace(tzinfo=UTC) if found else None
    except ValueError:
        return None


# -- the three formats ----------------------------------------------------------------------------------------------


def _ask(format: Format) -> Handler:
    async def ask(request: web.Request) -> web.StreamResponse:
        return await answer(await _read_call(request, format))

    return ask


async def _read_call(request: web.Request, format: Format) -> Call:
    """The body as JSON, with its model found. Raises RequestError."""
    exchange, current = request[EXCHANGE], request.app[CURRENT]
    exchange.format = format.name
    try:
        body = await _read_json(request)
        exchange.asked = required(body, "model", str)[:200]
        model = current.settings.route(body["model"])
        exchange.model, exchange.upstream = model.id, model.format.name
    except RequestError as error:
        if error.param == "model" and error.status == 400:
            error.message += f" Configured models: {', '.join(current.settings.models) or 'none'}."
        raise
    finally:
        request.app[TELLER].tell("began", exchange)
    call = Call(current.settings, current.upstream, request, format, body, model, exchange)
    call.show("asked", await request.read())
    return call


async def _read_json(request: web.Request) -> Json:
    try:
        body = orjson.loads(await request.read())
    except web.RequestPayloadError:
        raise RequestError("The body is not encoded as its Content-Encoding or Transfer-Encoding says.") from None
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise RequestError(f"The body is not valid JSON: {where}.") from None
    if type(body) is not dict:
        raise RequestError("The body must be a JSON object.")
    return body


async def count_tokens(request: web.Request) -> web.StreamResponse:
    """Counted by the upstream where it can (what it would get that costs tokens, and no max_tokens), else estimated."""
    call = await _read_call(request, ANTHROPIC)
    if call.model.format is not ANTHROPIC:
        return _json({"input_tokens": estimate_tokens(ANTHROPIC.decode_request(call.body))})
    headers = call.upstream_headers()
    target = replace(call.model.target, reasoning="auto", fast=False)
    ANTHROPIC.adapt(call.body, headers, target, call.settings.system_prompt)
    return await forward(call, "/count_tokens", headers)


async def websocket_probe(request: web.Request) -> web.Response:
    """Codex asks for a WebSocket first; 426 sends it to POST at once (any other answer costs retries or the turn)."""
    error = RequestError("WebSocket is not served here: use POST.", status=426)
    return _json(RESPONSES.encode_error(error), 426, {"Upgrade": "http/1.1"})
