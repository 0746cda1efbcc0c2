"""Tokens in Redis, for gateways on many machines that share one DROID_REFRESH_KEY. Needs `droid2api[redis]`.

One hash holds the tokens, a key beside it is the lock. Times are by Redis' clock, since machines' clocks differ.
Redis must keep its data (appendonly): a refresh token that was used is worthless, and DROID_REFRESH_KEY is the first.
"""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import chain

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from droid2api.credentials.tokens import StoreError, Tokens, expiry, is_token, key_hash
from droid2api.errors import ConfigError

log = logging.getLogger("droid2api.auth")

LOCK_SECONDS = 45.0
"""Longer than a refresh may take. One that died or was cut off with the lock blocks the others no longer than this."""
LOCK_POLL = 0.1
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
CONNECT_TIMEOUT = 3.0
ANSWER_TIMEOUT = 5.0


class RedisStore:
    remote = True

    def __init__(self, url: str, key: str) -> None:
        """Raises ConfigError when `url` is none of Redis'."""
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
        self._name = f"droid2api:{{{key_hash(key)}}}"
        self._version = 0
        self._release = self._redis.register_script(RELEASE)
        self._left = ""  # the token of a lock that could not be released

    async def read(self) -> Tokens | None:
        """None also for what is older than what was here before (Redis has lost its last seconds), and for what no
        gateway has written.
        """
        with self._errors_named():
            async with self._redis.pipeline() as pipeline:
                pipeline.time()
                pipeline.hgetall(f"{self._name}:tokens")
                (seconds, micros), stored = await pipeline.execute()
        try:
            return self._parse(stored, seconds + micros / 1e6) if stored else None
        except (KeyError, ValueError):
            log.warning("Redis at %s holds a token that cannot be read. It is as if there were none.", self._place)
            return None

    def _parse(self, stored: dict[str, str], now: float) -> Tokens | None:
        """Raises KeyError, ValueError."""
        version, access, refresh = int(stored["version"]), stored["access"], stored["refresh"]
        age = now - float(stored["received_at"])
        if not ((access == "" or is_token(access)) and is_token(refresh) and math.isfinite(age)):
            raise ValueError
        if version < self._version:
            return None
        self._version = version
        received_at = time.time() - min(max(age, 0), now)
        return Tokens(access, refresh, expiry(access, received_at) if access else 0, received_at)

    async def write(self, tokens: Tokens) -> None:
        with self._errors_named():
            seconds, micros = await self._redis.time()
            fields: dict[str, str | float] = {
                "access": tokens.access,
                "refresh": tokens.refresh,
                "received_at": seconds + micros / 1e6 - max(time.time() - tokens.received_at, 0),
                "version": self._version + 1,
            }
            async with self._redis.pipeline() as pipeline:  # of one command, since the client's own types are wrong
                pipeline.hset(f"{self._name}:tokens", items=list(chain(*fields.items())))
                await pipeline.execute()
        self._version += 1

    def changed(self) -> bool:
        return False

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """It ends by itself after a time, and only the process that has it releases it."""
        name, token = f"{self._name}:lock", uuid.uuid4().hex
        with self._errors_named():
            if self._left:
                await self._release(keys=[name], args=[self._left])
                self._left = ""
            while not await self._redis.set(name, token, nx=True, px=int(LOCK_SECONDS * 1000)):  # noqa: ASYNC110
                await asyncio.sleep(LOCK_POLL)
        try:
            yield
        finally:
            try:
                await self._release(keys=[name], args=[token])
            except (RedisError, OSError):
                self._left = token  # a Redis that returns may still have it

    async def close(self) -> None:
        with suppress(RedisError, OSError):
            await self._redis.aclose()

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError, UnicodeDecodeError) as error:  # TimeoutError is an OSError
            raise StoreError(
                f"Redis at {self._place} does not serve the shared token ({type(error).__name__})."
            ) from None
