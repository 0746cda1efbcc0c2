"""The gateway's page for a browser, and what it reads: state, requests as they happen, usage.

    GET  /                 the page itself (page.html), for who accepts HTML
    GET  /status           credential, endpoints, models, the last exchanges and errors, usage, as JSON
    GET  /status/events    exchanges as server-sent events, one when each begins and one when it ends
    GET  /status/setups    what to paste into each tool
    POST /status/refresh   renews the credential

The page holds no data, so that it can be given to who has no key, and ask for it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from droid2api import __version__
from droid2api.credentials.credential import CLIENT, Credential
from droid2api.credentials.rotating import RotatingCredential
from droid2api.errors import ConfigError, CredentialError, GatewayError, RequestError
from droid2api.gateway.exchange import Exchange
from droid2api.observe.usage import MOST_TOKENS, read_days
from droid2api.server.keys import OBSERVERS, PAGE, RUNTIME
from droid2api.server.reload import Runtime
from droid2api.settings import Endpoint, Model, Settings
from droid2api.wire.fields import Json

KEPT = 50
KEPT_ERRORS = 20
WAITING = 256
"""Events that may wait for a page; one that takes them more slowly is dropped, and comes back by itself."""
MOST_PAGES = 100
HEARTBEAT = 15.0
"""Seconds. A page that hears nothing for longer than two of them connects again."""
CLOSE_TIMEOUT = 1.0
"""Seconds that a page may take for what is still to be sent to it when the gateway stops."""
DAYS = 30

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
SHOWN = (
    "id client format asked fallback model upstream lane began first_byte duration status usage cost end error "
    "tokens_per_second"
).split()
"""Of an exchange: what is short."""
ERROR_SHOWN = 1000
"""Characters."""


def add_page(app: web.Application) -> None:
    """Serve the page and what it reads. To be called before others add handlers of shutdown: open pages end first."""
    feed = Feed()
    status = Status(lambda: app[RUNTIME], feed)
    app[OBSERVERS].append(feed)
    app[PAGE] = page
    app.on_shutdown.append(feed.close)
    app.router.add_get("/status", status.state)
    app.router.add_get("/status/events", status.events, allow_head=False)
    app.router.add_get("/status/setups", status.setups)
    app.router.add_post("/status/refresh", status.refresh)


# -- the page -------------------------------------------------------------------------------------------------------


def page() -> web.Response:
    html, policy = _read_page()
    return web.Response(text=html, content_type="text/html", headers=HEADERS | {"Content-Security-Policy": policy})


@cache
def _read_page() -> tuple[str, str]:
    """The page and its Content-Security-Policy, which lets in the page's own script and style only."""
    html = Path(__file__).with_name("page.html").read_text(encoding="utf-8")  # with \n, as a browser hashes it
    script, style = _hash_of("script", html), _hash_of("style", html)
    policy = (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"  # no text becomes HTML
    )
    return html, policy


def _hash_of(tag: str, html: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digest = hashlib.sha256(found.group(1).encode() if found else b"").digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


# -- exchanges ------------------------------------------------------------------------------------------------------


class Feed:
    """Knows what runs and what ended last, and tells open pages of each exchange that begins or ends."""

    def __init__(self) -> None:
        self._errors: deque[Exchange] = deque(maxlen=KEPT_ERRORS)
        self._ended: deque[Exchange] = deque(maxlen=KEPT)
        self._running: dict[str, Exchange] = {}
        self._pages: dict[asyncio.Queue[bytes], Callable[[], object]] = {}
        self._closed = False

    def began(self, exchange: Exchange) -> None:
        self._running[exchange.id] = exchange
        if self._pages:
            self._send(_event(_shown(exchange)))

    def ended(self, exchange: Exchange) -> None:
        self._running.pop(exchange.id, None)
        self._ended.append(exchange)
        if exchange.failed:
            self._errors.append(exchange)
        if self._pages:
            self._send(_event(_shown(exchange)))

    @property
    def recent(self) -> list[Json]:
        """What ended last, then what began last of all that runs."""
        return [_shown(exchange) for exchange in (*self._ended, *list(self._running.values())[-KEPT:])]

    @property
    def errors(self) -> list[Json]:
        return [_shown(exchange) for exchange in self._errors]

    @contextlib.contextmanager
    def opened(self, drop: Callable[[], object]) -> Iterator[asyncio.Queue[bytes]]:
        """The events from now on; b"" is the last one. `drop` is called if they are taken too slowly."""
        if self._closed:
            raise GatewayError("The gateway is stopping.", status=503)
        if len(self._pages) >= MOST_PAGES:
            raise RequestError(f"{MOST_PAGES} pages are open already. Close one.", status=429)
        queue = asyncio.Queue[bytes](WAITING)
        self._pages[queue] = drop
        try:
            yield queue
        finally:
            self._pages.pop(queue, None)

    async def close(self, app: web.Application) -> None:
        """The gateway stops: no page may hold it up, nor one that has stopped reading."""
        self._closed = True
        self._send(b"")
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._drop_all)

    def _drop_all(self) -> None:
        for drop in list(self._pages.values()):
            drop()

    def _send(self, event: bytes) -> None:
        for queue, drop in list(self._pages.items()):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                del self._pages[queue]
                drop()


def _event(shown: Json) -> bytes:
    return b"data: " + orjson.dumps(shown) + b"\n\n"


def _shown(exchange: Exchange) -> Json:
    known = exchange.to_json()
    usage = known["usage"] and {name: min(count, MOST_TOKENS) for name, count in known["usage"].items()}
    return {name: known[name] for name in SHOWN} | {"usage": usage, "error": exchange.error[:ERROR_SHOWN]}


# -- handlers -------------------------------------------------------------------------------------------------------


class Status:
    """The handlers. Each asks for the current settings: they may have been read again."""

    def __init__(self, current: Callable[[], Runtime], feed: Feed) -> None:
        self._current = current
        self._feed = feed
        self._started = time.time()

    async def state(self, request: web.Request) -> web.Response:
        usage = await _usage(self._current().settings.data_folder / "usage.db")
        current = self._current()
        settings = current.settings
        endpoints = {model.endpoint.name: model.endpoint for model in settings.models.values()}
        return _json(
            {
                "version": __version__,
                "now": time.time(),
                "uptime_seconds": round(time.time() - self._started),
                "credential": _credential(current.shared),
                "needs_key": bool(settings.api_keys),
                "endpoints": [_endpoint(endpoint, settings) for endpoint in endpoints.values()],
                "models": [_model(model) for model in settings.models.values()],
                "recent": self._feed.recent,
                "errors": self._feed.errors,
                "usage": usage,
                "capture": settings.capture,
            }
        )

    async def events(self, request: web.Request) -> web.StreamResponse:
        out = web.StreamResponse(headers=HEADERS | {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        drop = request.transport.abort if request.transport else lambda: None
        with self._feed.opened(drop) as waiting:
            await out.prepare(request)
            event = b":\n\n"  # the page waits for it: from now on it misses nothing
            while event and self._has_key(request):
                await out.write(event)
                try:
                    event = await asyncio.wait_for(waiting.get(), HEARTBEAT)
                except TimeoutError:
                    event = b":\n\n"
        return out

    def _has_key(self, request: web.Request) -> bool:
        """Also when the keys have been changed since the page was opened."""
        try:
            self._current().guard.check_key(request.headers)
        except CredentialError:
            return False
        return True

    async def setups(self, request: web.Request) -> web.Response:
        """For the model `?model=`, else for one that fits each tool, at the address that the browser sees."""
        from droid2api.observe.setups import NO_KEY, setups  # only here: it is not needed for a start

        current = self._current()
        settings = current.settings
        model = request.query.get("model") or None
        if model:
            settings.route(model)
        if not settings.models:
            return _json([])
        scheme = "https" if request.query.get("scheme") == "https" else request.scheme  # a proxy may end TLS
        key = "YOUR_KEY" if _wants_key(current) else NO_KEY
        return _json(list(setups(f"{scheme}://{request.host}", key, settings, model).values()))

    async def refresh(self, request: web.Request) -> web.Response:
        """The credential's state after it; a failure is told there."""
        credential = self._current().shared
        if not (isinstance(credential, RotatingCredential) and credential.renewable):
            raise RequestError("This credential is none that is renewed.", status=409)
        with contextlib.suppress(CredentialError):
            await credential.refresh_now()
        return _json(_credential(self._current().shared))


def _json(value: Any) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json", headers=HEADERS)


def _credential(credential: Credential) -> Json:
    renewable = isinstance(credential, RotatingCredential) and credential.renewable
    return credential.describe() | {"refreshes": renewable}


def _endpoint(endpoint: Endpoint, settings: Settings) -> Json:
    """A query may be a credential; of an own key only the variable's name is told, and whether it is set."""
    key = endpoint.api_key_env
    is_set = bool(settings.environment.get(key, "").strip())
    return {"name": endpoint.name, "url": endpoint.base_url.partition("?")[0], "key": key, "key_is_set": is_set}


def _model(model: Model) -> Json:
    return {
        "id": model.id,
        "name": model.name,
        "type": model.format.TYPE,
        "endpoint": model.endpoint.name,
        "reasoning": model.target.reasoning,
    }


def _wants_key(current: Runtime) -> bool:
    """Whether a client must send a key that means something: to the gateway, or through it to the upstream."""
    passed_on = any(credential.source == CLIENT for credential in current.credentials.values())
    return bool(current.settings.api_keys) or passed_on


async def _usage(file: Path) -> Json:
    """The last days' rows; none where nothing was counted yet."""
    value: Json = {"today": date.today().isoformat(), "days": []}
    try:
        rows = await asyncio.to_thread(read_days, file, DAYS)
    except (ConfigError, OSError) as error:
        return value | {"problem": str(error)}
    return value | {"days": [asdict(row) | {"day": day, "model": row.key} for day, row in rows]}
