"""What is made from the settings, and how it is made anew when config.json or .env is edited.

New settings are checked first; when they are wrong, the last good ones stay. A call keeps what it began with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from droid2api.credentials import chain
from droid2api.credentials.credential import CLIENT, Credential
from droid2api.errors import ConfigError
from droid2api.gateway.logs import start_logging
from droid2api.gateway.upstream import Upstream
from droid2api.outbound import Outbound
from droid2api.server.guard import Guard
from droid2api.settings import Settings
from droid2api.wire.fields import Json

log = logging.getLogger("droid2api.reload")

LOOK_EVERY = 1.0
"""Seconds between looks at the files. A change is taken when a second look finds no other: editors write in parts."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where settings come from: `read` gives them, or raises ConfigError; `files` are those that it looks at."""

    read: Callable[[], Settings]
    files: tuple[Path, ...]

    def marks(self) -> list[tuple[int, int, int] | None]:
        """What changes when a file does; None for one that is not there."""
        return [_mark(file) for file in self.files]


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Runtime:
    """The settings in force and what is made from them, replaced as a whole by `apply`.

    `credentials` has one for each endpoint that a model uses, by the endpoint's name; `shared` is that of all endpoints
    without one of their own. `given` are credentials made elsewhere: they win, and stay until the end.
    """

    settings: Settings
    shared: Credential
    credentials: Mapping[str, Credential]
    guard: Guard
    upstream: Upstream

    def __init__(self, settings: Settings, outbound: Outbound, given: Mapping[str, Credential] | None = None) -> None:
        """Raises ConfigError. Needs a running loop: the credentials are kept fresh from now on."""
        self._outbound = outbound
        self._given = dict(given or {})
        self._make(settings, chain.find_shared(settings, outbound))
        self._tasks = {each: asyncio.create_task(each.run()) for each in {self.shared, *self._given.values()}}

    async def apply(self, settings: Settings) -> None:
        """Raises ConfigError when they cannot be used; then nothing has changed."""
        before = self.shared
        if chain.is_unchanged(before, self.settings, settings):
            self._make(settings, before)
            return
        self._make(settings, chain.find_shared(settings, self._outbound))
        self._tasks[self.shared] = asyncio.create_task(self.shared.run())
        await self._end(before)

    async def close(self) -> None:
        for credential in list(self._tasks):
            await self._end(credential)

    def describe(self) -> Json:
        """The credentials' state for /health: the shared one, and each that was given."""
        state: Json = {"credential": self.shared.describe()}
        if self._given:
            state["credentials"] = {name: credential.describe() for name, credential in self._given.items()}
        return state

    def _make(self, settings: Settings, shared: Credential) -> None:
        for proxy in {settings.auth.proxy, *(model.endpoint.proxy for model in settings.models.values())}:
            self._outbound.allow(proxy)
        self.credentials = {
            model.endpoint.name: self._given.get(model.endpoint.name)
            or chain.choose(model.endpoint, model.format.KEY_HEADER, settings.environment, shared)
            for model in settings.models.values()
        }
        self.guard = Guard(settings, holds_credential(settings, shared, self.credentials))
        self.upstream = Upstream(settings, self._outbound, self.credentials)
        self.settings, self.shared = settings, shared

    async def _end(self, credential: Credential) -> None:
        task = self._tasks[credential]
        task.cancel()
        await asyncio.wait([task])  # to await the task itself could hide that this one is cancelled
        await credential.close()
        del self._tasks[credential]  # only now: when this is cancelled, `close` goes on with it


def holds_credential(settings: Settings, shared: Credential, credentials: Mapping[str, Credential]) -> bool:
    """Whether any request is answered with a credential of the owner's, not the client's."""
    if any(model.endpoint.holds_secret for model in settings.models.values()):
        return True
    return any(credential.source != CLIENT for credential in (shared, *credentials.values()))


class Reloader:
    """Looks at the files of `source` and applies what they say to `runtime`."""

    def __init__(self, source: Source, runtime: Runtime) -> None:
        self._source = source
        self._runtime = runtime
        self._marks = source.marks()
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read the files now, changed or not."""
        self._asked.set()

    async def run(self) -> None:
        settled = self._marks
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), LOOK_EVERY)
            seen, settled = settled, self._source.marks()
            if self._asked.is_set() or (settled == seen and settled != self._marks):
                self._asked.clear()
                self._marks = settled
                await self._reload()

    async def _reload(self) -> None:
        before = self._runtime.settings
        try:
            settings = self._source.read()
            await self._runtime.apply(settings)
        except ConfigError as error:
            log.error("%s The last good settings stay in force.", error)
            return
        start_logging(settings)
        if (settings.host, settings.port) != (before.host, before.port):
            log.warning("host and port are changed by a restart only.")
        log.info("Settings read again from %s: %d models.", settings.source, len(settings.models))
