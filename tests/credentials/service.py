"""A token endpoint that rotates and fails as tests want, with an upstream that takes its tokens; and logins."""

import asyncio
import base64
import os
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from droid2api.credentials.chain import find_shared
from droid2api.demo import Demo
from droid2api.outbound import Outbound
from droid2api.server.keys import RUNTIME
from tests.harness import BY_TYPE, PATHS, serving, settings_for, until

FIRST_KEY = "demo-refresh-0"
KEY = {"DROID_REFRESH_KEY": FIRST_KEY}
HOUR = 3600
ROOT = Path(__file__).parents[2]
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and modes of POSIX")


@dataclass
class Service(Demo):
    """The demo with failures: `token_answer` answers for the token endpoint, `rejects` all access tokens.

    `saved` is a file: what it says when a request comes in is collected in `on_disk`.
    """

    pace: float = 0
    token_answer: object = None
    rejects: bool = False
    calls: list = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    saved: object = None
    on_disk: list = field(default_factory=list)

    def __post_init__(self):
        self.gate.set()

    async def token(self, request):
        self.calls.append((await request.post())["refresh_token"])
        await self.gate.wait()
        if self.token_answer is breaks:
            request.transport.abort()
        return await self.token_answer() if self.token_answer else await super().token(request)

    def _check_credential(self, http):
        if self.saved:
            self.on_disk.append(read_json(self.saved)["access_token"])
        if self.rejects:
            self.access_token = "another"
        super()._check_credential(http)

    @property
    def used(self):
        """The credentials that came in, oldest first."""
        return [headers.get("authorization", headers.get("x-api-key")) for _, headers, _ in self.requests]


def read_json(path):
    return orjson.loads(path.read_bytes())


def token_with(claims):
    return f"e30.{base64.urlsafe_b64encode(claims.encode()).decode().rstrip('=')}.demo"


def jwt(seconds):
    return token_with(f'{{"exp": {int(time.time() + seconds)}}}')


def log_in(folder, access="", refresh=FIRST_KEY, age=0, **more):
    """What Factory's own CLI leaves in HOME, `age` seconds ago."""
    file = folder / "home" / ".factory" / "auth.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(orjson.dumps({"access_token": access, "refresh_token": refresh} | more))
    make_older(file, age)
    return file


def make_older(file, seconds):
    then = time.time() - seconds
    os.utime(file, (then, then))


async def say(gateway, type="anthropic", headers=None):
    status, content = await say_text(gateway, type, headers)
    return status, orjson.loads(content)


async def say_text(gateway, type, headers, **more):
    body = {"input": "hi"} if type == "openai" else {"max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    status, _, content = await gateway.ask(PATHS[type], {"model": BY_TYPE[type]} | body | more, headers)
    return status, content


async def credential_state(gateway):
    return orjson.loads((await gateway.get("/health"))[2])["credential"]


async def settled(gateway):
    """Wait for the refresh at the start."""
    refresher = gateway.app[RUNTIME].shared.refresher
    await until(lambda: refresher._running is not None and refresher._running.done())


async def breaks():
    """An answer of the token endpoint: the connection ends."""
    return web.Response()


@asynccontextmanager
async def rotating_for(folder, service, count, environment=KEY, **config):
    """That many rotating credentials, each as if in a process of its own. Nothing runs in the background."""
    async with AsyncExitStack() as stack:
        settings = settings_for(folder, await stack.enter_async_context(serving(service.app())), environment, **config)
        made = []
        for _ in range(count):
            outbound = await stack.enter_async_context(Outbound({}))
            made.append(find_shared(settings, outbound))
            stack.push_async_callback(made[-1].close)
        yield made


async def access(rotating):
    return (await rotating.get([]))["authorization"].removeprefix("Bearer ")


async def accesses(rotatings):
    return set(await asyncio.gather(*map(access, rotatings)))


@asynccontextmanager
async def script(code, *arguments, environment=None):
    """A Python process, killed by its pid at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, *map(str, arguments)),
        env={"PYTHONPATH": str(ROOT), "PATH": os.defpath} | (environment or {}),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        while await process.stdout.read(1 << 16):
            pass


def answers(status, text, content_type="application/json"):
    """An answer of the token endpoint."""

    async def answer():
        return web.Response(status=status, text=text, content_type=content_type)

    return answer
