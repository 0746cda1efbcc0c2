"""Where the credential comes from, and how it is kept fresh.

    the endpoint's own key > FACTORY_API_KEY > DROID_REFRESH_KEY > ~/.factory/auth.json > the client's own

A refresh token is good for one use: each refresh gives the next one. So there is one refresh at a time, the new token
is on disk before it is used, and one that another process put there is adopted. https://workos.com/docs/reference/user-management/authentication/refresh-token
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
import random
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import aiohttp
import orjson

from droid2api.config import Endpoint, Settings, home
from droid2api.errors import CredentialError
from droid2api.fields import Json

log = logging.getLogger("droid2api.auth")

REFRESH_EVERY = 6 * 3600.0
REFRESH_BEFORE_EXPIRY = 2 * 3600.0
ASSUMED_LIFETIME = 8 * 3600.0
"""Seconds that an access token lives which does not say so itself."""
LAST_DATE = 1e11
"""Seconds since the epoch: what claims to live longer is no date that can be told."""
REFRESH_TIMEOUT = 30.0
CLOSE_TIMEOUT = 5.0
RETRY_DELAYS = (2.0, 300.0)
"""Seconds after a failed refresh: the first delay, doubled each time up to the second."""

NO_CREDENTIAL = (
    "No credential: set FACTORY_API_KEY or DROID_REFRESH_KEY, log in with Factory's own CLI (~/.factory/auth.json), "
    "give the endpoint an api_key_env in config.json, or send your key as Authorization: Bearer or x-api-key."
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """`expires_at` is in seconds since the epoch."""

    access: str
    refresh: str
    expires_at: float


class TokenFile:
    """auth.json: read and replaced as a whole, with mode 0600; fields that are not the gateway's own are kept.

    With `key`, the file belongs to that DROID_REFRESH_KEY: it is told by its hash, and tokens of another are ignored.
    """

    def __init__(self, path: Path, key: str = "") -> None:
        self.path = path
        self._key_hash = hashlib.sha256(key.encode()).hexdigest() if key else ""

    def read(self) -> Tokens | None:
        """None when there is no file, or none that can be used."""
        try:
            value = orjson.loads(self.path.read_bytes())
            modified = self.path.stat().st_mtime
        except FileNotFoundError:
            return None
        except (OSError, orjson.JSONDecodeError) as error:
            log.warning("%s cannot be read (%s).", self.path, type(error).__name__)
            return None
        if type(value) is not dict or (self._key_hash and value.get("key_sha256") != self._key_hash):
            return None
        access, refresh = value.get("access_token") or "", value.get("refresh_token") or ""
        if type(access) is not str or type(refresh) is not str or not (access or refresh):
            return None
        return Tokens(access, refresh, expiry(access, modified) if access else 0)

    def write(self, tokens: Tokens) -> None:
        """Atomic: a crash leaves the old file or the new one. Raises OSError."""
        try:
            value = orjson.loads(self.path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            value = {}
        fields: Json = value if type(value) is dict else {}
        fields |= {"access_token": tokens.access, "refresh_token": tokens.refresh}
        if self._key_hash:
            fields["key_sha256"] = self._key_hash
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".auth-")  # made with mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps(fields, option=orjson.OPT_INDENT_2))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except BaseException:
            os.unlink(temporary)
            raise


def expiry(access_token: str, issued_at: float) -> float:
    """When a token ends, in seconds since the epoch: a JWT says so, of another 8 hours are assumed."""
    try:
        payload = access_token.split(".")[1]
        claims: Json = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        expires_at = float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError):
        expires_at = 0
    return expires_at if 0 < expires_at < LAST_DATE else issued_at + ASSUMED_LIFETIME


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
        self._file: TokenFile | None = None
        self._tokens: Tokens | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at = 0.0
        self._failures = 0
        self._failed_status = 401
        self._retry_at = 0.0
        self._disk_problem = ""
        self.problem = ""
        self.source = self._find_source()
        self._seen = self._tokens.refresh if self._tokens else ""  # in the file; another there is another process's

    def _find_source(self) -> str:
        if self._key:
            return "FACTORY_API_KEY"
        if key := self._environment.get("DROID_REFRESH_KEY", "").strip():
            self._file = TokenFile(self._settings.data_folder / "auth.json", key)
            self._tokens = self._file.read() or Tokens("", key, 0)
            return "DROID_REFRESH_KEY"
        file = TokenFile(home(self._environment) / ".factory" / "auth.json")
        if tokens := file.read():
            self._file, self._tokens = file, tokens
            return "~/.factory/auth.json"
        return "client"

    @property
    def refreshes(self) -> bool:
        return self._tokens is not None and bool(self._tokens.refresh)

    def describe(self) -> Json:
        """Source and state for /health; no part of a credential."""
        state: Json = {"source": self.source, "state": "ok"}
        if self.problem:
            state |= {"state": "failing", "problem": self.problem}
        if self._tokens:
            valid = self._tokens.expires_at > time.time()
            state["expires_at"] = int(self._tokens.expires_at) or None
            if not valid:
                state["state"] = "failing" if self.problem else "refreshing"
        return state

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
                await self._refresh()
            except CredentialError:
                return False
        return self._tokens.access != credential

    async def run(self) -> None:
        """Refresh now, then every 6 hours or 2 hours before the token ends, or with growing delays after a failure."""
        while self.refreshes:
            try:
                await self._refresh()
            except CredentialError as error:
                log.warning("%s", error.message)
            await asyncio.sleep(self._next_delay())

    async def close(self) -> None:
        """A refresh under way has used up its token: stopping now would lose the next one."""
        if self._refreshing:
            await asyncio.wait([self._refreshing], timeout=CLOSE_TIMEOUT)
            self._refreshing.cancel()

    def _next_delay(self) -> float:
        if self._failures:
            return max(self._retry_at - time.monotonic(), 0) + 0.01  # so that it is not too soon
        expires_at = self._tokens.expires_at if self._tokens else 0
        early = min(REFRESH_BEFORE_EXPIRY, (expires_at - self._refreshed_at) * 3 / 4)  # some live for minutes only
        due = min(self._refreshed_at + REFRESH_EVERY, expires_at - early)
        return max(due - time.time(), RETRY_DELAYS[0])

    async def _token(self) -> str:
        tokens = self._tokens
        if tokens and tokens.access and tokens.expires_at > time.time():
            return tokens.access
        await self._refresh()
        if self._tokens and self._tokens.access:
            return self._tokens.access
        raise CredentialError(NO_CREDENTIAL)  # pragma: no cover - a refresh gives a token or raises

    async def _refresh(self) -> None:
        """Join the refresh that is under way or begin one. Raises CredentialError, after 30 seconds at the latest."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh_once())
            self._refreshing.add_done_callback(_retrieve)
        await asyncio.shield(self._refreshing)

    async def _refresh_once(self) -> None:
        try:
            tokens = await asyncio.wait_for(self._newer_tokens(), REFRESH_TIMEOUT)
        except _TooSoon:
            raise CredentialError(self.problem, status=self._failed_status) from None
        except CredentialError as error:
            self._failed(error)
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            message = f"The token could not be refreshed: {self._token_url} {_outline(error)}."
            failure = CredentialError(message, status=503)
            self._failed(failure)
            raise failure from None
        self._tokens, self._refreshed_at = tokens, time.time()
        self._failures, self._retry_at, self.problem = 0, 0.0, self._disk_problem
        expires = datetime.fromtimestamp(tokens.expires_at).strftime("%Y-%m-%d %H:%M:%S")
        log.info("Token refreshed successfully, expires at: %s", expires)

    def _failed(self, error: CredentialError) -> None:
        first, most = RETRY_DELAYS
        delay = min(most, first * 2.0 ** min(self._failures, 20)) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        self._failures += 1
        self._retry_at = time.monotonic() + delay
        self._failed_status = error.status
        self.problem = error.message

    async def _newer_tokens(self) -> Tokens:
        """What another process wrote since, else what the token endpoint gives for the newest refresh token."""
        held, file = self._tokens, self._file
        if held is None or file is None:
            raise CredentialError(NO_CREDENTIAL)
        stored = file.read()
        if stored and stored.refresh and stored.refresh not in (held.refresh, self._seen):
            self._seen = stored.refresh
            if stored.access != held.access and stored.expires_at > time.time() + REFRESH_BEFORE_EXPIRY:
                return stored
            held = stored if stored.expires_at > held.expires_at else replace(held, refresh=stored.refresh)
            self._tokens = held
        elif time.monotonic() < self._retry_at:
            raise _TooSoon
        tokens = await self._request(held.refresh)
        self._disk_problem = ""
        try:
            file.write(tokens)
            self._seen = tokens.refresh
        except OSError as error:
            self._disk_problem = f"The new token could not be saved to {file.path}: {error.strerror}."
            log.error("%s It is used, but a restart will need a new login.", self._disk_problem)
        return tokens

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
        return Tokens(access, str(value.get("refresh_token") or refresh_token), expiry(access, time.time()))


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
