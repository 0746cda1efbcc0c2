"""One refresh at a time, and what follows when it fails.

A refresh token is good for one use: each refresh gives the next one. So a process runs one refresh at a time, and of
all processes that share the token only the one that has the store's lock asks the token endpoint; the others take what
it stored. Nothing is refreshed without that lock: a token that two processes spend is lost.
"""

import asyncio
import logging
import time
from contextlib import AsyncExitStack, suppress

from droid2api.credentials.kept_tokens import SAVE_TIMEOUT, KeptTokens, local_time
from droid2api.credentials.schedule import Schedule
from droid2api.credentials.token_endpoint import TokenEndpoint
from droid2api.credentials.tokens import StoreError, Tokens
from droid2api.errors import CredentialError

log = logging.getLogger("droid2api.auth")

REFRESH_TIMEOUT = 30.0
STORE_RETRY = 30.0
"""The longest pause, in seconds, after a failure of the store: it may be back at any time."""
REFUSED_PAUSE = 300.0
"""Seconds in which a token that took the place of a refused one is not renewed for being refused too."""


class Refresher:
    """`done` and `failed` count refreshes since the start."""

    def __init__(self, kept: KeptTokens, endpoint: TokenEndpoint, schedule: Schedule) -> None:
        self._kept = kept
        self._endpoint = endpoint
        self._schedule = schedule
        self._running: asyncio.Task[None] | None = None
        self._spending = False
        self._failure = CredentialError("")
        self._refusal = Refusal(endpoint.source)
        self.done = self.failed = 0

    @property
    def problem(self) -> str:
        """Why the last refresh failed, or why none is tried; "" when all is well."""
        if self._schedule.failing:
            return self._failure.message
        return self._refusal.problem(self._kept.current.access)

    async def replace(self, refused: str) -> None:
        """An upstream refused this access token: renew it, unless it has just been renewed for that reason. Raises
        CredentialError.
        """
        under_way = self._running is not None and not self._running.done()
        if self._refusal.concerns(refused) and not under_way:
            with suppress(StoreError):
                await self._kept.read()  # another process may have renewed it, which ends the one that it had
            if self._kept.current.access == refused:
                raise self._refusal.repeated()
            return
        await self.refresh()
        self._refusal.replaced_by(self._kept.current.access)

    async def refresh(self) -> None:
        """Join the refresh that is under way or begin one. Raises CredentialError, after 30 seconds at the latest.

        In the pause after a failure its error is raised again.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(self._kept.current))
            self._running.add_done_callback(_retrieve)
        await asyncio.shield(self._running)

    async def close(self) -> None:
        """To stop a refresh that has spent its token would lose the next one: it gets the time that it may take."""
        if self._running:
            if self._spending:
                await asyncio.wait([self._running], timeout=REFRESH_TIMEOUT + SAVE_TIMEOUT)
            self._running.cancel()

    def survive(self) -> CredentialError:
        """Note an exception that is being handled and that nobody foresaw: one mistake must not end all renewals."""
        log.exception("The renewal of the token failed by a mistake of the gateway. It is tried again.")
        failure = CredentialError(
            "The token could not be refreshed: a mistake of the gateway, which its log shows.", status=500
        )
        self._fail(failure)
        return failure

    async def _run(self, stale: Tokens) -> None:
        self._spending = False
        try:
            await self._renew(stale)
        except _Paused:
            raise CredentialError(self._failure.message, status=self._failure.status) from None
        except CredentialError as error:
            self._fail(error)
            raise
        except StoreError as error:
            self._kept.report(str(error))
            failure = CredentialError(f"The token can not be refreshed now. {error}", status=503)
            self._fail(failure, STORE_RETRY)
            raise failure from None
        except TimeoutError:
            place = self._endpoint.place
            failure = CredentialError(f"The token could not be refreshed: {place} did not answer in time.", status=503)
            self._fail(failure)
            raise failure from None
        except Exception:  # a mistake of ours: logged with its traceback, and the old token stays in use
            raise self.survive() from None
        self._schedule.succeed()

    def _fail(self, error: CredentialError, *longest_pause: float) -> None:
        if error.message != self.problem:  # once, not at each try
            log.warning("%s", error.message)
        self._failure = error
        self._schedule.fail(*longest_pause)
        self.failed += 1

    async def _renew(self, stale: Tokens) -> None:
        """Use what another process stored, else what the token endpoint gives for the newest refresh token."""
        kept, paused = self._kept, self._schedule.paused
        if paused and kept.store.remote and kept.problem:
            raise _Paused
        await kept.read()
        if kept.has_newer_than(stale):
            return
        if paused and stale.refresh == kept.current.refresh:
            raise _Paused
        self._check_login()
        async with AsyncExitStack() as locked:
            async with asyncio.timeout(REFRESH_TIMEOUT):
                await locked.enter_async_context(kept.store.lock())
                await kept.read()
                if kept.has_newer_than(stale):
                    return
                self._check_login()
                await kept.rehearse()  # a token must not be spent when the next one cannot be stored
                self._spending, spent = True, kept.current
                tokens = await self._endpoint.refresh(spent.refresh)
            if not kept.store.remote:
                await kept.read()
            if kept.current is not spent:
                return  # a logout or another login meanwhile, which counts
            try:  # stored before they are used, and used whether they could be stored or not
                await kept.save(tokens)
            finally:
                kept.replace(tokens)
        self.done += 1
        log.info("Token refreshed successfully, expires at: %s", local_time(tokens.expires_at))

    def _check_login(self) -> None:
        if not self._kept.current.refresh:
            raise CredentialError(
                f"{self._endpoint.source} holds no login that can be renewed: set FACTORY_API_KEY, or log in again."
            )


class Refusal:
    """The last token that was refused: which one took its place, and whether that was refused too. To renew a refused
    token for each request would be a storm of refreshes."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._successor = ""
        self._pause_ends = 0.0
        self._problem = ""

    def replaced_by(self, access: str) -> None:
        """This token took the place of a refused one."""
        if access != self._successor:
            self._successor, self._problem = access, ""
            self._pause_ends = time.monotonic() + REFUSED_PAUSE

    def concerns(self, access: str) -> bool:
        """Whether this token took the place of a refused one a short time ago."""
        return access == self._successor and time.monotonic() < self._pause_ends

    def problem(self, access: str) -> str:
        """Why this token is not renewed; "" when it may be."""
        return self._problem if self.concerns(access) else ""

    def repeated(self) -> CredentialError:
        """The token that took the place of a refused one was refused too."""
        if not self._problem:
            text = (
                f"An upstream refused the token of {self._source} and the one that replaced it. It is not renewed "
                f"again for {REFUSED_PAUSE / 60:g} minutes. If this goes on, log in again."
            )
            log.warning("%s", text)
            self._problem = text
        return CredentialError(self._problem)


class _Paused(Exception):
    """The last refresh failed so short ago that nothing is tried."""


def _retrieve(task: asyncio.Task[None]) -> None:
    """Whoever waits for the task gets its error; where nobody does, asyncio must not complain."""
    if not task.cancelled():
        task.exception()
