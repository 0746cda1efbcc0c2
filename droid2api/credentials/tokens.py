"""Rotating tokens: a pair of access and refresh token, when it ends, and what a place to keep it must do.

Whoever refreshes holds the store's lock, reads first, and writes before others may read: so one process refreshes
and the others go on with what it stored.
"""

import base64
import hashlib
import re
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeGuard

import orjson

from droid2api.wire.fields import Json

ASSUMED_LIFETIME = 8 * 3600.0
"""Seconds that an access token lives which does not say so itself."""
LAST_DATE = 1e11
"""Seconds since the epoch: what claims to live longer than that is not a date."""
TOKEN_LIMIT = 16 * 1024
"""Characters of one token: servers take no longer headers."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Two are equal that have the same secrets. Times are in seconds since the epoch, by this machine's clock."""

    access: str
    refresh: str
    expires_at: float = field(default=0, compare=False)
    received_at: float = field(default=0, compare=False)


NO_LOGIN = Tokens("", "")
"""What a store has that knows that somebody has logged out."""


class StoreError(Exception):
    """The store cannot be used now. The text says which and why, and has no secret in it."""


class TokenStore(Protocol):
    """`remote`: processes on other machines write it too, and it may lose what it had."""

    remote: bool

    async def read(self) -> Tokens | None:
        """None when it has none that can be used. Raises StoreError."""

    def changed(self) -> bool:
        """Whether somebody else has written it since it was last read or written, where that is seen at a glance."""

    async def write(self, tokens: Tokens) -> None:
        """All or nothing. Raises StoreError."""

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Waits until no other process has it; one that died has it no more. Raises StoreError."""

    async def close(self) -> None: ...


def is_token(value: object) -> TypeGuard[str]:
    """Whether a value can be sent as a token: visible ASCII characters, of a length that a header may have."""
    return type(value) is str and 0 < len(value) <= TOKEN_LIMIT and re.fullmatch("[!-~]+", value) is not None


def key_hash(key: str) -> str:
    """Says which DROID_REFRESH_KEY tokens belong to; those of another one are not used."""
    return hashlib.sha256(key.encode()).hexdigest()


def expiry(access_token: str, received_at: float) -> float:
    """When a token ends, by the clock that says `received_at`: a JWT says so, of another 8 hours are assumed.

    A JWT may say when it was issued (`iat`): its lifetime is right even where this machine's clock is wrong.
    """
    try:
        payload = access_token.split(".")[1]
        claims: Json = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        expires_at = float(claims["exp"])
        issued_at = float(claims.get("iat") or 0)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return received_at + ASSUMED_LIFETIME
    if 0 < issued_at < expires_at < LAST_DATE:
        return received_at + expires_at - issued_at
    return expires_at if received_at < expires_at < LAST_DATE else received_at + ASSUMED_LIFETIME
