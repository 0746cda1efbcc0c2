"""The application: routes, errors in the client's own format, and what lives as long as the process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from aiohttp.http import HttpProcessingError

from droid2api import __version__
from droid2api.auth import AuthManager
from droid2api.config import Model, Settings, find_config, load, load_dotenv
from droid2api.errors import CredentialError, GatewayError, RequestError
from droid2api.estimate import estimate_tokens
from droid2api.fields import Json, required
from droid2api.formats import ANTHROPIC, CHAT, FORMATS, RESPONSES, Format
from droid2api.guard import CORS_HEADERS, Guard
from droid2api.relay import STOPPING, Call, answer, forward
from droid2api.upstream import BODY_LIMIT, Upstream, open_session

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

SETTINGS = web.AppKey("settings", Settings)
AUTH = web.AppKey("auth", AuthManager)
UPSTREAM = web.AppKey("upstream", Upstream)
GUARD = web.AppKey("guard", Guard)
RUNNING = web.AppKey("running", set[asyncio.Task[Any]])
"""The tasks that are answering a client."""
STARTED = web.AppKey("started", float)

_begun = ContextVar("begun", default=False)
"""Whether this request's answer has begun, so that it is too late for another."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def create_app(settings: Settings | None = None) -> web.AppRunner:
    """The gateway as a server: its listener is stopped first, then running answers may finish.

    Without settings they are read as the command line does: `gunicorn droid2api.app:create_app`.
    """
    own_server = settings is not None
    if settings is None:
        load_dotenv(Path.cwd() / ".env")
        settings = load(find_config(None, os.environ))
        start_logging(settings)
    app = build_app(settings)
    app.on_shutdown.append(drain)
    if not own_server:
        app.on_startup.append(_warn_without_keys)
    return web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=5)


def _without_request_bytes(record: logging.LogRecord) -> bool:
    """aiohttp quotes a request that it cannot read, with whatever key stands in it: the kind of error must do."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.msg, record.args = f"{record.getMessage()}: {type(record.exc_info[1]).__name__}", ()
        record.exc_info = record.exc_text = None
    return True


logging.getLogger("aiohttp.server").addFilter(_without_request_bytes)


def start_logging(settings: Settings) -> None:
    """To stderr, where nobody has set up other (gunicorn's --log-config)."""
    logging.basicConfig(
        level=logging.DEBUG if settings.dev_mode else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("asyncio").setLevel(logging.INFO)
    for warning in settings.warnings:
        log.warning("%s: %s", settings.source, warning)


async def _warn_without_keys(app: web.Application) -> None:
    """Where another server listens is not known here."""
    if app[GUARD].is_unlocked:
        log.warning("No key is set (DROID2API_KEYS): everyone who can reach this server can use your credential.")


def build_app(settings: Settings) -> web.Application:
    """The gateway's application. Its session and its refresh task live from startup to cleanup."""
    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[errors_in_format, guarded])
    app[SETTINGS] = settings
    app[STARTED] = time.time()
    app[STOPPING] = asyncio.Event()
    app[RUNNING] = set()
    app.cleanup_ctx.append(_lifecycle)
    app.on_response_prepare.append(_note_begin)
    app.on_response_prepare.append(_allow_origin)
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


async def drain(app: web.Application) -> None:
    """Let running answers finish, `timeouts.drain` seconds at the most; then end them with a clean error."""
    await _wait_for(app[RUNNING], app[SETTINGS].timeouts.drain)
    app[STOPPING].set()
    for task in app[RUNNING]:
        task.cancel()
    await _wait_for(app[RUNNING], 2)


async def _wait_for(tasks: set[asyncio.Task[Any]], seconds: float) -> None:
    if tasks:
        await asyncio.wait(set(tasks), timeout=seconds)


async def _lifecycle(app: web.Application) -> AsyncIterator[None]:
    async with open_session(app[SETTINGS].timeouts) as session:
        app[AUTH] = AuthManager(app[SETTINGS], session)
        own_keys = any(model.endpoint.api_key_env for model in app[SETTINGS].models.values())
        app[GUARD] = Guard(app[SETTINGS], own_keys or app[AUTH].source != "client")
        app[UPSTREAM] = Upstream(app[SETTINGS], session, app[AUTH])
        refreshing = asyncio.create_task(app[AUTH].run())
        yield
        refreshing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await refreshing
        await app[AUTH].close()


# -- errors ---------------------------------------------------------------------------------------------------------


@web.middleware
async def errors_in_format(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error leaves in the envelope of the client's format."""
    _begun.set(False)
    if task := asyncio.current_task():
        request.app[RUNNING].add(task)
        task.add_done_callback(request.app[RUNNING].discard)
    try:
        return await handler(request)
    except GatewayError as error:
        log.debug("%s %s: %d %s", request.method, request.rel_url.raw_path, error.status, error.message)
        return _error_response(request, error)
    except web.HTTPNotFound:
        routes = ", ".join(ROUTES)
        return _error_response(request, RequestError(f"No such path. This gateway serves: {routes}.", status=404))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        wrong = f"{request.method} is not served on this path, but {allowed}."
        return _error_response(request, RequestError(wrong, status=405, headers={"Allow": allowed}))
    except web.HTTPRequestEntityTooLarge:
        return _error_response(request, RequestError(f"The body has more than {BODY_LIMIT} bytes.", status=413))
    except web.HTTPException:
        raise
    except Exception:  # a mistake of this program: the client must get an end all the same, and the log the traceback
        if request.transport and not request.transport.is_closing():  # else the client has left in the middle
            log.exception("%s %s failed", request.method, request.rel_url.raw_path)
            if _begun.get():  # a second head would be part of the stream: let it break instead
                request.transport.abort()
        return _error_response(request, GatewayError("The gateway failed; its log says why."))


async def _note_begin(request: web.Request, response: web.StreamResponse) -> None:
    _begun.set(True)


def _error_response(request: web.Request, error: GatewayError) -> web.Response:
    spoken = ANTHROPIC if "/messages" in request.path or "anthropic-version" in request.headers else CHAT
    headers = dict(error.headers)
    if isinstance(error, RequestError | CredentialError) and error.status < 500:
        headers["x-should-retry"] = "false"  # Claude Code and the SDKs would try again for minutes
    return _json(spoken.encode_error(error), error.status, headers)


def _json(value: Json, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, headers=headers, content_type="application/json")


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    guard, origin = request.app[GUARD], request.headers.get("Origin")
    if request.method == "OPTIONS" and origin:
        guard.check_preflight(origin, request.headers)
        return web.Response(status=204, headers=CORS_HEADERS | {"Access-Control-Allow-Origin": origin})
    guard.check(request.method, request.path, request.headers)
    return await handler(request)


async def _allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """A page that may use the gateway may read its answers, errors too."""
    origin = request.headers.get("Origin")
    if origin and request.app[GUARD].allows_origin(origin, request.headers):
        response.headers.update(CORS_HEADERS | {"Access-Control-Allow-Origin": origin})


# -- the gateway's own pages ----------------------------------------------------------------------------------------


async def index(request: web.Request) -> web.Response:
    endpoints = [route.split(" ")[1] for route in ROUTES if "/v1" in route]
    return _json({"name": "droid2api", "version": __version__, "endpoints": endpoints})


async def hello(request: web.Request) -> web.Response:
    """Claude Code asks whether its API is there."""
    return web.Response()


async def health(request: web.Request) -> web.Response:
    uptime = round(time.time() - request.app[STARTED])
    credential = request.app[AUTH].describe()
    return _json({"status": "ok", "version": __version__, "credential": credential, "uptime_seconds": uptime})


async def models(request: web.Request) -> web.Response:
    """Configured models, with the fields that both vendors' SDKs require."""
    data = [_describe(model, request.app[STARTED]) for model in request.app[SETTINGS].models.values()]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return _json({"object": "list", "data": data, "has_more": False, **ends})


async def model(request: web.Request) -> web.Response:
    model = request.app[SETTINGS].route(request.match_info["id"])
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
    try:
        body = orjson.loads(await request.read())
    except web.RequestPayloadError:
        raise RequestError("The body is not encoded as its Content-Encoding or Transfer-Encoding says.") from None
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise RequestError(f"The body is not valid JSON: {where}.") from None
    if type(body) is not dict:
        raise RequestError("The body must be a JSON object.")
    settings = request.app[SETTINGS]
    try:
        id = required(body, "model", str)
    except RequestError as error:
        error.message += f" Configured models: {', '.join(settings.models) or 'none'}."
        raise
    return Call(settings, request.app[UPSTREAM], request, format, body, settings.route(id))


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
