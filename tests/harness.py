"""What tests start: the gateway in front of the demo, or of an upstream that plays a script. Loopback only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from droid2api.application import build_app
from droid2api.config import load
from droid2api.demo import Demo
from droid2api.formats import FORMATS
from droid2api.server.connections import runner_of
from droid2api.server.keys import CONNECTIONS
from droid2api.settings import Settings

Json = dict[str, Any]

PATHS = {
    "anthropic": "/v1/messages",
    "openai": "/v1/responses",
    "common": "/v1/chat/completions",
    "google": "/v1/generate",
}
"""Where clients speak each format, by its `type` in config.json: what is promised, so it is not read from the code. All
of these take the model, and whether to stream, in the body."""
PAIRS = [(client, upstream) for client in PATHS for upstream in PATHS]
RING = [*zip(PATHS, [*list(PATHS)[1:], *list(PATHS)[:1]], strict=True)]
"""Each format once as the client's and once as the upstream's: for what does not depend on the pair, but on either."""
BOTH_LANES = [(type, type) for type in PATHS] + RING
TRANSLATED = [(client, upstream) for client, upstream in PAIRS if client != upstream]

MODELS: list[Json] = [
    {"id": "claude-sonnet-4-5-20250929", "type": "anthropic", "name": "Claude Sonnet 4.5", "max_tokens": 64000},
    {"id": "claude-haiku-4-5-20251001", "type": "anthropic", "max_tokens": 64000},
    {"id": "claude-opus-5-5", "type": "anthropic", "thinking": "adaptive"},
    {"id": "gpt-5.5", "type": "openai"},
    {"id": "glm-4.6", "type": "common"},
    {"id": "gemini-3.5-flash", "type": "google"},
]
FORMAT_OF = {format.TYPE: format for format in FORMATS}
BY_TYPE = {
    "anthropic": "claude-haiku-4-5-20251001",
    "openai": "gpt-5.5",
    "common": "glm-4.6",
    "google": "gemini-3.5-flash",
}


def body_of(client: str, upstream: str | None = None, said: Any = "hi", **more: Any) -> Json:
    """The least that a client asks a model of the upstream's type; without `upstream` one of its own."""
    asked = {
        "openai": {"input": said},
        "google": {"contents": [{"role": "user", "parts": [{"text": said}] if type(said) is str else said}]},
    }.get(client, {"messages": [{"role": "user", "content": said}]})
    needed = {"max_tokens": 50} if client == "anthropic" else {}
    return {"model": BY_TYPE[upstream or client]} | asked | needed | more


BODIES = {path: body_of(type) for type, path in PATHS.items()}

CHUNK = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"one "}}]}\n\n'
DONE = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
"""A small stream of an upstream of the type common: a word, and the end."""


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    """For what has no event: of a thread, of another process, or deep inside."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve an application on a free loopback port, as the command line does; gives its URL."""
    if CONNECTIONS in app:
        runner = runner_of(app, app[CONNECTIONS], 1)
    else:
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def settings_for(folder: Path, upstream: str, environment: dict[str, str] | None = None, **config: Any) -> Settings:
    """Settings whose endpoints are all at `upstream`. HOME and the state are in `folder`, the key is "test-key"."""
    value: Json = {
        "endpoint": [{"name": name, "base_url": upstream + path} for name, path in PATHS.items()],
        "models": MODELS,
        "auth": {"token_url": f"{upstream}/oauth/token"},
    }
    file = folder / "config.json"
    file.write_bytes(orjson.dumps(value | config))
    base = {"HOME": str(folder / "home"), "DROID2API_DATA": str(folder / "data")}
    return load(file, base | ({"FACTORY_API_KEY": "test-key"} if environment is None else environment))


@dataclass
class Gateway:
    """A running gateway: `ask` posts JSON to it and gives (status, headers, body bytes)."""

    url: str
    app: web.Application
    client: aiohttp.ClientSession

    async def ask(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any, bytes]:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        sent = {"Content-Type": "application/json"} | (headers or {})
        async with self.client.post(self.url + path, data=data, headers=sent) as response:
            return response.status, response.headers, await response.read()

    async def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any, bytes]:
        async with self.client.get(self.url + path, headers=headers) as response:
            return response.status, response.headers, await response.read()


@asynccontextmanager
async def gateway_for(settings: Settings) -> AsyncIterator[Gateway]:
    app = build_app(settings)
    async with serving(app) as url, aiohttp.ClientSession() as client:
        yield Gateway(url, app, client)


@asynccontextmanager
async def demo_gateway(folder: Path, demo: Demo | None = None, **config: Any) -> AsyncIterator[Gateway]:
    async with (
        serving((demo or Demo(pace=0)).app()) as upstream,
        gateway_for(settings_for(folder, upstream, **config)) as gateway,
    ):
        yield gateway


@dataclass
class Scripted:
    """An upstream that answers what it is told to: `chunks` one by one, with a pause of `pause` seconds.

    `cut` aborts the connection after the chunks. `requests` holds what came in, `reached` is set by the first; `left`
    is set when a client went away.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    chunks: list[bytes] = field(default_factory=list)
    pause: float = 0.0
    cut: bool = False
    silence: float = 0.0
    decide: Callable[[Json], None] | None = None
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=100 * 1024 * 1024)
        app.router.add_post("/{path:.*}", self.answer)
        return app

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.path, headers, body))
        self.reached.set()
        if self.decide:
            self.decide(body)
        try:
            await asyncio.sleep(self.silence)
            out = web.StreamResponse(status=self.status, headers=self.headers)
            await out.prepare(request)
            for chunk in self.chunks:
                await out.write(chunk)
                await asyncio.sleep(self.pause)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        if self.cut and request.transport:
            request.transport.abort()
        return out

    @property
    def last(self) -> Json:
        return self.requests[-1][2]


@asynccontextmanager
async def scripted_gateway(folder: Path, script: Scripted, **config: Any) -> AsyncIterator[Gateway]:
    async with serving(script.app()) as upstream, gateway_for(settings_for(folder, upstream, **config)) as gateway:
        yield gateway
