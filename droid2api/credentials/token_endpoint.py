"""One call of the OAuth token endpoint: a refresh token goes out, a new pair of tokens comes back.

https://workos.com/docs/reference/user-management/authentication/refresh-token
"""

import time
from typing import Any

import aiohttp
import orjson

from droid2api.credentials.tokens import Tokens, expiry, is_token
from droid2api.errors import CredentialError
from droid2api.outbound import Outbound, WayError

ANSWER_LIMIT = 256 * 1024
"""Bytes."""


class TokenEndpoint:
    """`place` is its URL without a query, which may be a secret. `source` is named to whoever must log in again."""

    def __init__(self, outbound: Outbound, url: str, client_id: str, source: str, proxy: str = "") -> None:
        self._outbound = outbound
        self._proxy = proxy
        self._url = url
        self._client_id = client_id
        self.source = source
        self.place = url.partition("?")[0]

    async def refresh(self, refresh_token: str) -> Tokens:
        """Spends the refresh token. Raises CredentialError: 401 when it is refused, else 503."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": self._client_id}
        try:
            async with await self._outbound.post(self._url, proxy=self._proxy, data=form) as response:
                body = await _read(response)
        except WayError as error:
            raise CredentialError(f"The token could not be refreshed: {error}", status=503) from None
        except (aiohttp.ClientError, OSError) as error:
            late = isinstance(error, TimeoutError)
            reason = "did not answer in time" if late else f"is not reachable ({type(error).__name__})"
            raise CredentialError(f"The token could not be refreshed: {self.place} {reason}.", status=503) from None
        return self._decode(response.status, body, refresh_token)

    def _decode(self, status: int, body: bytes, refresh_token: str) -> Tokens:
        value = _json(body)
        access, refresh = value.get("access_token"), value.get("refresh_token") or refresh_token
        if status != 200 or not access:
            reason = value.get("error")
            known = f" ({reason})" if type(reason) is str and reason.replace("_", "").isalpha() else ""
            raise self._error(f"answered {status}{known}", 401 if status in (400, 401, 403) else 503)
        if not is_token(access):
            raise self._error("answered 200 with an access_token that is none", 503)
        if not is_token(refresh):
            raise self._error("answered 200 with a refresh_token that is none", 503)
        now = time.time()
        return Tokens(access, refresh, expiry(access, now), now)

    def _error(self, what: str, status: int) -> CredentialError:
        return CredentialError(
            f"The token could not be refreshed: {self.place} {what}. "
            f"If this goes on, log in again and renew {self.source}.",
            status=status,
        )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The first bytes of the body; what is longer than an answer can be is not read further."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > ANSWER_LIMIT:
            break
    return body[:ANSWER_LIMIT]


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if type(value) is dict else {}
