"""What is made from the settings, and how it is made anew when config.json or .env is edited.

New settings are checked first; when they are wrong, the last good ones stay. A call keeps what it began with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from droid2api.config import Settings
from droid2api.credentials.manager import AuthManager
from droid2api.errors import ConfigError
from droid2api.gateway.logs import start_logging
from droid2api.gateway.upstream import Upstream
from droid2api.server.guard import Guard

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


class Current:
    """The settings in force and what is made from them, together replaced by `apply`."""

    settings: Settings
    auth: AuthManager
    guard: Guard
    upstream: Upstream

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._make(settings, AuthManager(settings, session))
        self._refreshing = asyncio.create_task(self.auth.run())

    async def apply(self, settings: Settings) -> None:
        """Raises ConfigError when they cannot be used; then nothing has changed."""
        before = self.auth
        if before.holds_for(settings):
            before.take(settings)
            self._make(settings, before)
            return
        self._make(settings, AuthManager(settings, self._session))
        await self._end_refreshing(before)
        self._refreshing = asyncio.create_task(self.auth.run())

    async def close(self) -> None:
        await self._end_refreshing(self.auth)

    def _make(self, settings: Settings, auth: AuthManager) -> None:
        own_keys = any(model.endpoint.api_key_env for model in settings.models.values())
        guard = Guard(settings, own_keys or auth.source != "client")
        self.upstream = Upstream(settings, self._session, auth)
        self.settings, self.auth, self.guard = settings, auth, guard

    async def _end_refreshing(self, auth: AuthManager) -> None:
        self._refreshing.cancel()
        await asyncio.wait([self._refreshing])  # to await the task itself could hide that this one is cancelled
        await auth.close()


class Reloader:
    """Looks at the files of `source` and applies what they say to `current`."""

    def __init__(self, source: Source, current: Current) -> None:
        self._source = source
        self._current = current
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
        before = self._current.settings
        try:
            settings = self._source.read()
            await self._current.apply(settings)
        except ConfigError as error:
            log.error("%s The last good settings stay in force.", error)
            return
        start_logging(settings)
        if (settings.host, settings.port) != (before.host, before.port):
            log.warning("host and port are changed by a restart only.")
        log.info("Settings read again from %s: %d models.", settings.source, len(settings.models))
