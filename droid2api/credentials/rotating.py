"""A credential that is renewed again and again: an access token for requests, a refresh token to get the next pair.

schedule        when
refresher       one refresh at a time; failures, pauses, and a renewed token that is refused too
kept_tokens     the pair in memory, in step with a store (file_store, redis_store)
token_endpoint  the one call over HTTP
"""

import asyncio
from collections.abc import Mapping, Sequence

from droid2api.credentials.credential import Credential, key_headers
from droid2api.credentials.kept_tokens import KeptTokens
from droid2api.credentials.refresher import Refresher
from droid2api.credentials.schedule import Schedule
from droid2api.credentials.token_endpoint import TokenEndpoint
from droid2api.credentials.tokens import NO_LOGIN, Tokens, TokenStore
from droid2api.errors import CredentialError
from droid2api.wire.fields import Json

TICK = 1.0
"""The longest time, in seconds, that the background task sleeps: requests may change when a refresh is due."""
SYNC_EVERY = 30.0
"""Seconds between looks at a store that others may write, or that did not take a token."""


class RotatingCredential(Credential):
    def __init__(self, source: str, store: TokenStore, tokens: Tokens, endpoint: TokenEndpoint) -> None:
        self.source = source
        self._schedule = Schedule()
        self._kept = KeptTokens(store, tokens, self._schedule)
        self.refresher = Refresher(self._kept, endpoint, self._schedule)
        self._synced_at = 0.0

    @property
    def renewable(self) -> bool:
        """Whether there is a refresh token."""
        return bool(self._kept.current.refresh)

    @property
    def has_login(self) -> bool:
        """False when somebody has logged out since the start."""
        return self._kept.current != NO_LOGIN

    async def get(self, client_keys: Sequence[str]) -> Mapping[str, str]:
        if not self._kept.usable:
            await self.refresher.refresh()
        if not self._kept.current.access:
            raise CredentialError("The login is being changed. Try again.", status=503)
        return key_headers(self._kept.current.access)

    async def renew(self, refused: Mapping[str, str]) -> bool:
        if not self.renewable:
            return False
        access = self._kept.current.access
        if refused == key_headers(access):
            try:
                await self.refresher.replace(access)
            except CredentialError:
                return False
        return refused != key_headers(self._kept.current.access)

    async def refresh_now(self) -> None:
        """Also in the pause after a failure. Raises CredentialError."""
        self._schedule.end_pause()
        await self.refresher.refresh()

    def describe(self) -> Json:
        tokens = self._kept.current
        state: Json = {"source": self.source, "state": "ok", "expires_at": int(tokens.expires_at) or None}
        if self._kept.store.remote:
            state["store"] = "redis"
        if not self._kept.usable:
            state["state"] = "refreshing"
        if problem := self.refresher.problem or self._kept.problem:
            state |= {"state": "failing", "problem": problem}
        return state

    async def stored(self) -> Tokens | None:
        """What the store has now, for whoever only looks: nothing is refreshed. Raises StoreError."""
        return await self._kept.store.read()

    def secrets(self) -> list[str]:
        pairs = (self._kept.current, self._kept.previous)  # requests with the previous ones may still be running
        return [token for pair in pairs for token in (pair.access, pair.refresh)]

    async def run(self) -> None:
        """Refresh when it is due, and keep step with the store."""
        while True:
            try:
                await self._work()
            except CredentialError:  # logged already
                pass
            except Exception:  # a mistake of ours is logged with its traceback, but must not end the renewing for ever
                self.refresher.survive()
            await asyncio.sleep(min(self._schedule.delay() + 0.01, TICK))

    async def close(self) -> None:
        await self.refresher.close()
        await self._kept.close()

    async def _work(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._schedule.delay():
            await self.refresher.refresh()
            return
        patient = self._kept.store.remote or self._kept.unsaved
        if self._kept.store.changed() or (patient and now - self._synced_at >= SYNC_EVERY):
            self._synced_at = now
            await self._kept.sync()
