"""The tokens in memory, and how they keep step with a store that other processes write too."""

import asyncio
import logging
from contextlib import suppress
from datetime import datetime

from droid2api.credentials.schedule import Schedule
from droid2api.credentials.tokens import NO_LOGIN, StoreError, Tokens, TokenStore

log = logging.getLogger("droid2api.auth")

LOCK_TIMEOUT = 30.0
SAVE_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0


class KeptTokens:
    """`current` are the tokens in use, `unsaved` while the store does not have them; `problem`: why it is of no use."""

    def __init__(self, store: TokenStore, tokens: Tokens, schedule: Schedule) -> None:
        self.store = store
        self.current = self.previous = tokens
        self.unsaved = False
        self.problem = ""
        self._schedule = schedule
        self._seen = tokens  # last read or written: other tokens in the store are another process's
        schedule.start(tokens)

    @property
    def usable(self) -> bool:
        """Whether there is an access token that has not ended."""
        return bool(self.current.access) and self._schedule.valid

    def replace(self, tokens: Tokens) -> None:
        """Use these from now on."""
        self.previous, self.current = self.current, tokens
        self._schedule.set(tokens)

    async def read(self) -> Tokens | None:
        """What the store has; tokens that another process or a login stored are used from now on. Raises StoreError."""
        stored = await self.store.read()
        if stored is None or stored in (self.current, self._seen):
            return stored
        self._seen, self.unsaved = stored, False
        self.replace(stored)
        self._schedule.succeed()
        if stored != NO_LOGIN:
            log.info("Token taken from another process, expires at: %s", local_time(stored.expires_at))
        return stored

    def has_newer_than(self, stale: Tokens) -> bool:
        """Whether what was read, here or by another task, spares a refresh."""
        return self.current.access != stale.access and self.usable and self._schedule.early

    async def rehearse(self) -> None:
        """Store the tokens in use once more: a store that takes them will take the next ones. Raises StoreError."""
        await self._write(self.current)
        self.report("")

    async def save(self, tokens: Tokens) -> None:
        """Store new tokens. They are used even if the store does not take them: the old ones are spent."""
        self.unsaved = True  # also when the process is stopped in between
        try:
            await self._write(tokens)
        except StoreError as error:
            self.report(f"{error} The new token is used, but until it is stored a restart may need a new login.")
        else:
            self.report("")

    async def _write(self, tokens: Tokens) -> None:
        try:
            await asyncio.wait_for(self.store.write(tokens), SAVE_TIMEOUT)
        except TimeoutError:
            raise StoreError(f"A new token could not be stored in {SAVE_TIMEOUT:g} seconds.") from None
        self._seen, self.unsaved = tokens, False

    async def sync(self) -> None:
        """Read what others stored, and store what the store did not take before or has lost."""
        try:
            stored = await self.read()
            self.unsaved |= stored is None and self.store.remote and self._schedule.valid
            if self.unsaved:
                async with asyncio.timeout(LOCK_TIMEOUT), self.store.lock():
                    await self.read()
                    if self.unsaved:
                        await self.save(self.current)
            if not self.unsaved:
                self.report("")
        except StoreError as error:
            self.report(str(error))
        except TimeoutError:
            pass  # another process keeps the lock for long: the next time

    def report(self, text: str) -> None:
        """For /health, and one line in the log when it changes. "" is for: all is well."""
        if text and text != self.problem:
            log.error("%s", text)
        elif self.problem and not text:
            log.info("Tokens can be stored again.")
        self.problem = text

    async def close(self) -> None:
        if self.unsaved:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.sync(), CLOSE_TIMEOUT)
        await self.store.close()


def local_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
