"""One call of the OAuth token endpoint: a refresh token goes out, a new pair of tokens comes back.

https://workos.com/docs/reference/user-management/authentication/refresh-token
"""

from __future__ import annotations

import time
from typing import Any

import aiohttp
import orjson

from droid2api.credentials.tokens import Tokens, expiry
from droid2api.errors import CredentialError


class TokenEndpoint:
    """`place` is its URL without a query, which may be a secret. `source` is named to whoever must log in again."""

    def __init__(self, session: aiohttp.ClientSession, url: str, client_id: str, source: str) -> None:
        self._session = session
        self._url = url
        self._client_id = client_id
        self._source = source
        self.place = url.partition("?")[0]

    async def refresh(self, refresh_token: str) -> Tokens:
        """Spends the refresh token. Raises CredentialError: 401 when it is refused, else 503."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": self._client_id}
        try:
            async with self._session.post(self._url, data=form, allow_redirects=False) as response:
                body = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            reason = _outline(error)
            raise CredentialError(f"The token could not be refreshed: {self.place} {reason}.", status=503) from None
        return self._read(response.status, body, refresh_token)

    def _read(self, status: int, body: bytes, refresh_token: str) -> Tokens:
        value = _json(body)
        access = value.get("access_token")
        if status != 200 or type(access) is not str or not access:
            reason = value.get("error")
            known = f" ({reason})" if type(reason) is str and reason.replace("_", "").isalpha() else ""
            raise CredentialError(
                f"The token could not be refreshed: {self.place} answered {status}{known}. "
                f"If this goes on, log in again and renew {self._source}.",
                status=401 if status in (400, 401, 403) else 503,
            )
        now = time.time()
        return Tokens(access, str(value.get("refresh_token") or refresh_token), expiry(access, now), now)


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if type(value) is dict else {}


def _outline(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    return f"is not reachable ({type(error).__name__})"
