"""Where the credential comes from, and how it is kept fresh.

    the endpoint's own key > FACTORY_API_KEY > DROID_REFRESH_KEY > ~/.factory/auth.json > the client's own

A refresh token is good for one use: each refresh gives the next one. So there is one refresh at a time, in one process
of all that share the token (token_store.py), and the others take what it stored. Nothing is refreshed without the
store's lock: a token that two refresh is lost. https://workos.com/docs/reference/user-management/authentication/refresh-token
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import datetime

import aiohttp
import orjson

from droid2api.config import Endpoint, Settings, home
from droid2api.credentials.file_store import FileStore, StoreError, Tokens, TokenStore, expiry
from droid2api.errors import ConfigError, CredentialError
from droid2api.wire.fields import Json

log = logging.getLogger("droid2api.auth")

REFRESH_EVERY = 6 * 3600.0
REFRESH_BEFORE_EXPIRY = 2 * 3600.0
REFRESH_TIMEOUT = 30.0
SAVE_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0
FRESH_AT_START = 60.0
"""A start renews the token, but for one that is only seconds old: several workers start together."""
RETRY_DELAYS = (2.0, 300.0)
"""Seconds after a failed refresh: the first delay, doubled each time up to the second."""
CHECK_EVERY = 30.0
"""Seconds between looks at a store that others may write, or that did not take a token."""

NO_CREDENTIAL = (
    "No credential: set FACTORY_API_KEY or DROID_REFRESH_KEY, log in with Factory's own CLI (~/.factory/auth.json), "
    "give the endpoint an api_key_env in config.json, or send your key as Authorization: Bearer or x-api-key."
)


def client_credentials(headers: Mapping[str, str]) -> list[str]:
    """The keys that a client sends: of Authorization (bearer) and of x-api-key."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    sent = [token if scheme.lower() == "bearer" else "", headers.get("x-api-key", "")]
    return [key.strip() for key in sent if key.strip()]


class AuthManager:
    """Gives the credential for each request. `run` keeps the token fresh; it is the app's background task."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._session = session
        self._environment = settings.environment
        self._token_url = settings.auth.token_url.partition("?")[0]  # as it may be told
        self._key = self._environment.get("FACTORY_API_KEY", "").strip()
        self._store: TokenStore | None = None
        self._tokens: Tokens | None = None
        self._due = self._ends = 0.0  # of the tokens, by the monotonic clock: the other one may be set
        self._unsaved = False
        self._changed = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None
        self._failures = 0
        self._failed_status = 401
        self._retry_at = 0.0
        self._store_problem = ""
        self.problem = ""
        self.refreshes_done = self.refreshes_failed = 0  # since the start
        self.source = self._find_source()
        self._seen: Tokens | None = self._tokens  # in the store; others there are another process's
        if self._tokens and time.time() - self._tokens.received_at > FRESH_AT_START:
            self._due = 0.0

    def _find_source(self) -> str:
        if self._key:
            return "FACTORY_API_KEY"
        redis_url = self._environment.get("DROID2API_REDIS_URL", "").strip()
        if key := self._environment.get("DROID_REFRESH_KEY", "").strip():
            if redis_url:
                self._store = _open_redis(redis_url, key)
                self._hold(Tokens("", key))
                return "DROID_REFRESH_KEY"
            file = FileStore(self._settings.data_folder / "auth.json", key)
            self._store = file
            self._hold(file.load() or Tokens("", key))
            return "DROID_REFRESH_KEY"
        file = FileStore(home(self._environment) / ".factory" / "auth.json")
        if tokens := file.load():
            if redis_url:
                log.warning("DROID2API_REDIS_URL is not used: it shares the token of a DROID_REFRESH_KEY only.")
            self._store = file
            self._hold(tokens)
            return "~/.factory/auth.json"
        return "client"

    def holds_for(self, settings: Settings) -> bool:
        """Whether the credential comes from the same place under other settings; where there was none, it is looked
        for again: somebody may have logged in.
        """
        return self.source != "client" and _places(settings) == _places(self._settings)

    def take(self, settings: Settings) -> None:
        """Go on with the same credential under new settings."""
        self._settings, self._environment = settings, settings.environment

    @property
    def refreshes(self) -> bool:
        return bool(self._refresh_token)

    @property
    def _refresh_token(self) -> str:
        return self._tokens.refresh if self._tokens else ""

    def describe(self) -> Json:
        """Source and state for /health; no part of a credential."""
        state: Json = {"source": self.source, "state": "ok"}
        if self._tokens:
            state["expires_at"] = int(self._tokens.expires_at) or None
            if self._store and self._store.remote:
                state["store"] = "redis"
            if not self._is_valid():
                state["state"] = "refreshing"
        if problem := self.problem or self._store_problem:
            state |= {"state": "failing", "problem": problem}
        return state

    async def stored(self) -> Tokens | None:
        """What the store holds now, for who only looks: nothing is refreshed. Raises StoreError."""
        return await self._store.read() if self._store else None

    def secrets(self, headers: Mapping[str, str]) -> list[str]:
        """What an upstream that repeats what it was sent could tell of, for a client with `headers`."""
        tokens = [self._tokens.access, self._tokens.refresh] if self._tokens else []
        endpoints = self._settings.endpoints.values()
        own = [self._environment.get(endpoint.api_key_env, "") for endpoint in endpoints if endpoint.api_key_env]
        configured = [value for endpoint in endpoints for value in endpoint.headers.values()]
        known = [self._key, *tokens, *own, *configured, *client_credentials(headers)]
        return [secret for secret in known if len(secret) > 7]  # a shorter one is a dummy, and may be a word

    async def credential(self, endpoint: Endpoint, headers: Mapping[str, str]) -> str:
        """The credential for a request to `endpoint` from a client with `headers`. Raises CredentialError."""
        if endpoint.api_key_env:
            if key := self._environment.get(endpoint.api_key_env, "").strip():
                return key
            raise CredentialError(
                f"The environment variable {endpoint.api_key_env}, which has the key of endpoint {endpoint.name!r}, "
                "is not set. Set it and start again.",
            )
        if self._key:
            return self._key
        if self._tokens:
            return await self._token()
        for own in client_credentials(headers):
            if own not in self._settings.api_keys:  # those are for this gateway, not for the upstream
                return own
        raise CredentialError(NO_CREDENTIAL)

    async def replace_rejected(self, endpoint: Endpoint, credential: str) -> bool:
        """The upstream answered 401: renew the token if it is ours to renew. True when a retry has a chance."""
        if endpoint.api_key_env or not self.refreshes or self._tokens is None:
            return False
        if self._tokens.access == credential:
            try:
                await self.refresh()
            except CredentialError:
                return False
        return self._tokens.access != credential

    async def run(self) -> None:
        """Refresh when it is due: 6 hours after the last time, or 2 hours before the token ends; and after failures."""
        while self.refreshes:
            with suppress(CredentialError):  # told already
                await (self.refresh() if self._failures or time.monotonic() >= self._due else self._check())
            await self._pause()

    async def close(self) -> None:
        """A refresh under way has used up its token: stopping now would lose the next one."""
        if self._refreshing:
            await asyncio.wait([self._refreshing], timeout=CLOSE_TIMEOUT)
            self._refreshing.cancel()
        if self._store:
            if self._unsaved:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._check(), CLOSE_TIMEOUT)
            await self._store.close()

    def _hold(self, tokens: Tokens) -> None:
        now, lifetime = time.time(), tokens.expires_at - tokens.received_at
        self._tokens = tokens
        self._changed.set()
        self._ends = time.monotonic() + tokens.expires_at - now
        early = min(REFRESH_BEFORE_EXPIRY, lifetime * 3 / 4)  # some live for minutes only
        due = min(tokens.received_at + REFRESH_EVERY, tokens.expires_at - early)
        self._due = time.monotonic() + due - now

    def _is_valid(self) -> bool:
        """Both clocks are asked: one may have been set, the other stands still while a laptop sleeps."""
        tokens = self._tokens
        return bool(tokens and tokens.access and time.time() < tokens.expires_at and time.monotonic() < self._ends)

    async def _pause(self) -> None:
        """Until there is something to do; what requests brought about meanwhile changes when that is."""
        with suppress(TimeoutError):
            while True:
                self._changed.clear()
                await asyncio.wait_for(self._changed.wait(), self._next_delay())

    def _next_delay(self) -> float:
        now = time.monotonic()
        delay = max(self._retry_at - now, 0) + 0.01 if self._failures else max(self._due - now, RETRY_DELAYS[0])
        remote = self._store is not None and self._store.remote
        return min(delay, CHECK_EVERY) if remote or self._unsaved else delay

    async def _token(self) -> str:
        if not self._is_valid():
            await self.refresh()
        if self._tokens and self._tokens.access:
            return self._tokens.access
        raise CredentialError(NO_CREDENTIAL)  # pragma: no cover - a refresh gives a token or raises

    async def refresh(self, *, at_once: bool = False) -> None:
        """Join the refresh that is under way or begin one. Raises CredentialError, after 30 seconds at the latest.

        After a failure there is a pause, in which its error is raised again; `at_once` ends the pause.
        """
        if at_once:
            self._retry_at = 0.0
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh_once(self._tokens))
            self._refreshing.add_done_callback(_retrieve)
        await asyncio.shield(self._refreshing)

    async def _refresh_once(self, stale: Tokens | None) -> None:
        try:
            taken = await self._renew(stale)
        except _TooSoon:
            raise CredentialError(self.problem, status=self._failed_status) from None
        except CredentialError as error:
            self._failed(error)
            raise
        except StoreError as error:
            failure = CredentialError(f"The token can not be refreshed now. {error}", status=503)
            self._note_store(str(error))
            self._failed(failure, CHECK_EVERY)
            raise failure from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            message = f"The token could not be refreshed: {self._token_url} {_outline(error)}."
            failure = CredentialError(message, status=503)
            self._failed(failure)
            raise failure from None
        self._failures, self._retry_at, self.problem = 0, 0.0, ""
        self.refreshes_done += not taken
        expires = datetime.fromtimestamp(self._tokens.expires_at if self._tokens else 0).strftime("%Y-%m-%d %H:%M:%S")
        how = "taken from another process" if taken else "refreshed successfully"
        log.info("Token %s, expires at: %s", how, expires)

    def _failed(self, error: CredentialError, most: float = RETRY_DELAYS[1]) -> None:
        first, most = RETRY_DELAYS[0], min(most, RETRY_DELAYS[1])
        delay = min(most, first * 2.0 ** min(self._failures, 20)) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        self._failures += 1
        self.refreshes_failed += 1
        self._changed.set()
        self._retry_at = time.monotonic() + delay
        self._failed_status = error.status
        if error.message != self.problem:  # once, not at each try
            log.warning("%s", error.message)
        self.problem = error.message

    async def _renew(self, stale: Tokens | None) -> bool:
        """Hold what another process stored (True), else what the token endpoint gives for the newest refresh token."""
        store = self._store
        if stale is None or store is None:
            raise CredentialError(NO_CREDENTIAL)
        waiting = time.monotonic() < self._retry_at
        if waiting and store.remote and self._store_problem:
            raise _TooSoon
        self._take(await store.read())
        if self._has_newer_than(stale):
            return True
        if waiting and stale.refresh == self._refresh_token:
            raise _TooSoon
        async with AsyncExitStack() as locked:
            async with asyncio.timeout(REFRESH_TIMEOUT):
                await locked.enter_async_context(store.lock())
                self._take(await store.read())
                if self._has_newer_than(stale):
                    return True
                tokens = await self._request(self._refresh_token)
            try:  # stored before it is used, and used whatever comes of that
                await self._save(store, tokens)
            finally:
                self._hold(tokens)
        return False

    def _take(self, stored: Tokens | None) -> None:
        """Go on with what another process stored."""
        held = self._tokens
        if held is None or stored is None or not stored.refresh or stored in (held, self._seen):
            return
        self._seen, self._unsaved = stored, False
        good = stored.access and stored.expires_at > time.time()
        self._hold(stored if good else replace(held, refresh=stored.refresh))

    def _has_newer_than(self, stale: Tokens) -> bool:
        """Whether a refresh is spared by what was taken, here or by the look at the store that goes on beside."""
        access = self._tokens.access if self._tokens else ""
        return access != stale.access and self._is_valid() and time.monotonic() < self._due

    async def _save(self, store: TokenStore, tokens: Tokens) -> None:
        self._unsaved = True  # also when the process is stopped in between
        self._changed.set()
        try:
            await asyncio.wait_for(store.write(tokens), SAVE_TIMEOUT)
        except (StoreError, TimeoutError) as error:
            reason = str(error) or f"The new token could not be stored in {SAVE_TIMEOUT:g} seconds."
            self._note_store(f"{reason} The new token is used, but until it is stored a restart may need a new login.")
        else:
            self._seen, self._unsaved = tokens, False
            self._note_store("")

    async def _check(self) -> None:
        """Take what others stored, and store what the store did not take before or has lost."""
        store = self._store
        if store is None:
            return
        try:
            stored = await store.read()
            self._take(stored)
            self._unsaved |= stored is None and store.remote and self._is_valid()
            if self._unsaved:
                async with asyncio.timeout(REFRESH_TIMEOUT), store.lock():
                    self._take(await store.read())
                    if self._unsaved and self._tokens:
                        await self._save(store, self._tokens)
            if not self._unsaved:
                self._note_store("")
        except StoreError as error:
            self._note_store(str(error))
        except TimeoutError:
            pass  # another process holds the lock for long: the next time

    def _note_store(self, problem: str) -> None:
        """For /health, and one line in the log when it changes."""
        if problem and problem != self._store_problem:
            log.error("%s", problem)
        elif self._store_problem and not problem:
            log.info("Tokens can be stored again.")
        self._store_problem = problem

    async def _request(self, refresh_token: str) -> Tokens:
        """One call of the token endpoint. Raises CredentialError, aiohttp.ClientError, TimeoutError."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "client_id": self._settings.auth.client_id,
        }
        async with self._session.post(self._settings.auth.token_url, data=form, allow_redirects=False) as response:
            body = await response.read()
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            value = None
        access = value.get("access_token") if type(value) is dict else None
        if response.status != 200 or type(access) is not str or not access:
            reason = value.get("error") if type(value) is dict else None
            known = f" ({reason})" if type(reason) is str and reason.replace("_", "").isalpha() else ""
            raise CredentialError(
                f"The token could not be refreshed: {self._token_url} answered {response.status}{known}. "
                f"If this goes on, log in again and renew {self.source}.",
                status=401 if response.status in (400, 401, 403) else 503,
            )
        now = time.time()
        return Tokens(access, str(value.get("refresh_token") or refresh_token), expiry(access, now), now)


def _places(settings: Settings) -> list[object]:
    """All that decides where the gateway's own credential comes from."""
    names = ("FACTORY_API_KEY", "DROID_REFRESH_KEY", "DROID2API_REDIS_URL")
    given = [settings.environment.get(name, "") for name in names]
    return [*given, home(settings.environment), settings.data_folder, settings.auth]


def _open_redis(url: str, key: str) -> TokenStore:
    try:
        from droid2api.credentials.redis_store import RedisStore  # only here: the package is an extra
    except ImportError:
        raise ConfigError("DROID2API_REDIS_URL needs the redis package: pip install 'droid2api[redis]'.") from None
    return RedisStore(url, key)


class _TooSoon(Exception):
    """The last refresh failed so shortly before that it is not tried again."""


def _retrieve(task: asyncio.Task[None]) -> None:
    """A failure is told to those who wait for the task; where nobody does, asyncio must not complain."""
    if not task.cancelled():
        task.exception()


def _outline(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    return f"is not reachable ({type(error).__name__})"
