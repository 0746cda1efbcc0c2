"""Tokens in Redis, for gateways on many machines that share one DROID_REFRESH_KEY. Needs `droid2api[redis]`.

One hash holds the tokens, a key beside it is the lock. Times are told by Redis' clock, since machines' clocks differ.
Redis must keep its data (appendonly): a refresh token that was used is worthless, and DROID_REFRESH_KEY is the first.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import LockError, RedisError

from droid2api.errors import ConfigError
from droid2api.token_store import StoreError, Tokens, expiry, key_hash

LOCK_SECONDS = 45.0
"""Longer than a refresh may take. A holder that died or was cut off blocks the others no longer than this."""
CONNECT_TIMEOUT = 3.0
ANSWER_TIMEOUT = 5.0


class RedisStore:
    remote = True

    def __init__(self, url: str, key: str) -> None:
        try:
            self._redis = Redis.from_url(
                url,
                decode_responses=True,
                socket_connect_timeout=CONNECT_TIMEOUT,
                socket_timeout=ANSWER_TIMEOUT,
                retry=Retry(NoBackoff(), 1),  # a connection that a restart of Redis has ended
            )
        except ValueError:  # its text may hold the password
            raise ConfigError(
                "DROID2API_REDIS_URL: must be redis://, rediss:// or unix://, such as redis://:password@host:6379/0."
            ) from None
        place = self._redis.connection_pool.connection_kwargs
        self._place = place.get("path") or f"{place.get('host', 'localhost')}:{place.get('port', 6379)}"
        self._name = f"droid2api:{{{key_hash(key)}}}"  # braces keep both keys on one node of a cluster
        self._version = 0
        self._left: Lock | None = None

    async def read(self) -> Tokens | None:
        """None also for what is older than what was here before: Redis has lost its last seconds."""
        with self._told():
            async with self._redis.pipeline() as pipeline:
                pipeline.time()
                pipeline.hgetall(f"{self._name}:tokens")
                (seconds, micros), stored = await pipeline.execute()
        version = stored.get("version", "")
        if not version.isdecimal() or int(version) < self._version or not stored.get("refresh"):
            return None
        self._version = int(version)
        age = seconds + micros / 1e6 - float(stored["received_at"])
        access, received_at = stored["access"], time.time() - max(age, 0)
        return Tokens(access, stored["refresh"], expiry(access, received_at), received_at)

    async def write(self, tokens: Tokens) -> None:
        with self._told():
            seconds, micros = await self._redis.time()
            fields: dict[str | bytes, bytes | float | int | str] = {
                "access": tokens.access,
                "refresh": tokens.refresh,
                "received_at": seconds + micros / 1e6 - max(time.time() - tokens.received_at, 0),
                "version": self._version + 1,
            }
            await cast("Awaitable[int]", self._redis.hset(f"{self._name}:tokens", mapping=fields))
        self._version += 1

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        lock = self._redis.lock(f"{self._name}:lock", timeout=LOCK_SECONDS, sleep=0.1, thread_local=False)
        with self._told():
            if self._left:
                with suppress(LockError):
                    await self._left.release()
                self._left = None
            await lock.acquire()
        try:
            yield
        finally:
            try:
                await lock.release()
            except LockError:
                pass  # its time was over
            except (RedisError, OSError):
                self._left = lock  # a Redis that returns may still have it

    async def close(self) -> None:
        with suppress(RedisError, OSError):
            await self._redis.aclose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:  # TimeoutError is one too
            raise StoreError(
                f"Redis at {self._place} does not serve the shared token ({type(error).__name__})."
            ) from None
