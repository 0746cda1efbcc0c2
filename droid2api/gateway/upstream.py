"""Everything that is said to an upstream besides the body. aiohttp's client errors leave it as errors.py's."""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from functools import lru_cache
from math import isnan
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from droid2api.credentials.credential import Credential
from droid2api.errors import GatewayError, StreamError, UpstreamError
from droid2api.formats import client_keys
from droid2api.gateway.exchange import Exchange
from droid2api.gateway.logs import masked
from droid2api.outbound import Outbound, WayError
from droid2api.proxies import password_of
from droid2api.settings import Model, Settings, Timeouts

CONNECT_DELAYS = (0.2, 0.6)
"""Seconds before it is tried again to connect, give or take a half."""

_FINAL = frozenset([400, 401, 402, 403, 404, 405, 413, 415, 422])
_BUSY = frozenset([429, 503, 529])
PATIENCE = 10.0
"""Seconds that are waited, at the most, for a service that says when to come back."""
_TRIED = {"x-should-retry": "false"}
"""For the client of an upstream that was tried in vain: it would only wait three times as long."""
_PASSED = frozenset("retry-after retry-after-ms x-should-retry request-id x-request-id".split())


def authorized(headers: CIMultiDict[str], model: Model, credential: Mapping[str, str]) -> CIMultiDict[str]:
    """The headers of one try. What the endpoint's configuration says wins over all."""
    complete = headers.copy()
    for name, value in (*credential.items(), *model.endpoint.headers.items()):
        complete[name] = value
    return complete


def passed_headers(response: aiohttp.ClientResponse, beginnings: tuple[str, ...]) -> dict[str, str]:
    """The upstream's headers that clients act on: retry advice, request ids, and those that begin so (rate limits).

    Where it gives no advice, a final error says that it is one: Claude Code would try a 401 again for minutes.
    """
    passed = {
        name.lower(): value
        for name, value in response.headers.items()
        if name.lower() in _PASSED or name.lower().startswith(beginnings)
    }
    if response.status in _FINAL:
        passed.setdefault("x-should-retry", "false")
    return passed


def retry_after(response: aiohttp.ClientResponse, before: int) -> float | None:
    """Seconds until a busy service is tried again; None where it is not busy, or wants more patience than is had.

    `before` counts the tries before. Without the service's own advice the pauses grow from half a second.
    """
    headers = response.headers
    if response.status not in _BUSY or headers.get("x-should-retry") == "false":
        return None
    seconds = _seconds(headers.get("retry-after-ms"), 1000)
    if seconds is None:
        seconds = _seconds(headers.get("retry-after"), 1)
    if seconds is None:
        return min(0.5 * (1 << before), PATIENCE) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
    return seconds if seconds <= PATIENCE else None


def _seconds(advice: str | None, unit: int) -> float | None:
    """A number, or a date (RFC 9110, 10.2.3)."""
    try:
        seconds = float(advice or "") / unit
        return None if isnan(seconds) else max(0.0, seconds)
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(advice or "").timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


class Upstream:
    """Sends each request with the credential of its endpoint; `credentials` has them by the endpoints' names."""

    def __init__(self, settings: Settings, outbound: Outbound, credentials: Mapping[str, Credential]) -> None:
        self._outbound = outbound
        self._credentials = credentials
        self._formats = settings.formats
        self._gateway_keys = settings.api_keys
        headers = [text for model in settings.models.values() for text in model.endpoint.headers.values()]
        self._configured = [part for text in headers for part in (text, *text.split()[-1:])]  # without "Bearer" too
        self._configured += [part for model in settings.models.values() for part in password_of(model.endpoint.proxy)]
        self._timeouts = settings.timeouts
        # no limit on the whole call: streams are long
        self._limits = aiohttp.ClientTimeout(total=None, connect=settings.timeouts.connect, sock_read=None)

    def mask(self, error: GatewayError, client: Mapping[str, str]) -> GatewayError:
        """An upstream's error without the credentials that it may repeat."""
        error.message = masked(error.message, self.secrets(client))
        return error

    def mask_body(self, content: bytes, client: Mapping[str, str]) -> bytes:
        text = content.decode(errors="surrogateescape")
        return masked(text, self.secrets(client)).encode(errors="surrogateescape")

    def secrets(self, client: Mapping[str, str]) -> list[str]:
        """What an upstream may repeat of what it was sent for a client with these headers."""
        known = [secret for credential in set(self._credentials.values()) for secret in credential.secrets()]
        known += [*self._configured, *client_keys(self._formats, client)]
        return [secret for secret in known if len(secret) > 7]  # a shorter one is a dummy, and may be a word

    @asynccontextmanager
    async def post(
        self, model: Model, url: str, headers: CIMultiDict[str], body: bytes, client: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a POST, whatever its status; a 401 is tried once more when the credential could be renewed, and
        a service that is too busy as often as the model's `retries` say.

        Raises CredentialError; UpstreamError 502 when the upstream cannot be reached, 504 when it says nothing.
        """
        credential = self._credentials[model.endpoint.name]
        # the gateway's own keys are not for the upstream
        keys = [key for key in client_keys(self._formats, client) if key not in self._gateway_keys]
        tries, renewed = model.retries, False
        while True:
            given, pause = await credential.get(keys), 0.0
            response = await self._send(url, model.endpoint.proxy, authorized(headers, model, given), body)
            try:
                if response.status == 401 and not renewed and await credential.renew(given):
                    renewed = True
                elif tries and (waited := retry_after(response, model.retries - tries)) is not None:
                    tries, pause = tries - 1, waited
                else:
                    yield response
                    return
            except UpstreamError as error:
                self.mask(error, client)
                raise
            finally:
                response.close()
            await asyncio.sleep(pause)

    async def _send(self, url: str, proxy: str, headers: CIMultiDict[str], body: bytes) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(self._timeouts.first_byte):
                for delay in CONNECT_DELAYS:
                    try:
                        return await self._send_once(url, proxy, headers, body)
                    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):  # nothing has been sent
                        await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                return await self._send_once(url, proxy, headers, body)
        except WayError as error:
            raise UpstreamError(str(error), headers=_TRIED) from None
        except aiohttp.ConnectionTimeoutError:
            raise UpstreamError(f"The upstream {_host(url)} could not be reached in time.", headers=_TRIED) from None
        except TimeoutError:
            silence = f"said nothing for {self._timeouts.first_byte:g} seconds"
            raise UpstreamError(f"The upstream {_host(url)} {silence}.", status=504) from None
        except (aiohttp.ClientError, OSError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            advice = _TRIED if isinstance(error, aiohttp.ClientConnectorError) else None
            raise UpstreamError(f"The upstream {_host(url)} could not be reached ({reason}).", headers=advice) from None

    async def _send_once(self, url: str, proxy: str, headers: CIMultiDict[str], body: bytes) -> aiohttp.ClientResponse:
        # aiohttp wants large bodies as files, so that it can send them in pieces
        data = io.BytesIO(body) if len(body) > 1 << 20 else body
        response = await self._outbound.post(
            _parsed(url), proxy=proxy, data=data, headers=headers, timeout=self._limits
        )
        if response.status < 200:  # 101: a protocol that nobody asked for
            response.close()
            raise UpstreamError(f"The upstream {_host(url)} answered with status {response.status}.")
        return response


_parsed = lru_cache(maxsize=256)(URL)


def _host(url: str) -> str:
    """Host and port, without a user or password that the owner may have put there."""
    return urlsplit(url).netloc.rpartition("@")[2]


class _Watch:
    """Ends a wait for the upstream by the `limit` around it, once nothing has come for `patience` seconds.

    A read only notes the time; one timer for the whole answer looks at it. To set a timer for each costs as much as
    the read itself.
    """

    def __init__(self, limit: asyncio.Timeout, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._patience = patience
        self.since = self._loop.time()
        self.waiting = True
        self.longest = 0.0
        self._timer = self._loop.call_later(patience, self._look)

    def heard(self) -> None:
        now = self._loop.time()
        if now - self.since > self.longest:
            self.longest = now - self.since
        self.waiting = False  # the client may take long for what was read
        if self._limit.when() is not None:  # time ran out in the moment that it came: whoever waits now is not meant
            self._limit.reschedule(None)
            self._look()

    def wait(self) -> None:
        self.since = self._loop.time()
        self.waiting = True

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if self.waiting and now >= self.since + self._patience - 0.001:  # uvloop's clock counts milliseconds
            self._limit.reschedule(now)
            return
        due = (self.since if self.waiting else now) + self._patience
        self._timer = self._loop.call_at(due, self._look)


async def read_chunks(
    response: aiohttp.ClientResponse, timeouts: Timeouts, exchange: Exchange | None = None
) -> AsyncIterator[bytes]:
    """The bytes of an answer as they come, and b"" each time that the upstream was silent for `keepalive` seconds.

    Raises StreamError when the answer breaks, or the upstream is silent for `idle` seconds. The longest silence is
    noted in `exchange`.
    """
    readany, silent, gap = response.content.readany, 0.0, 0.0
    try:
        if response.content.is_eof():  # all of it came with the head
            if whole := response.content.read_nowait():
                yield whole
            return
        while silent < timeouts.idle:
            patience = min(timeouts.keepalive, timeouts.idle - silent)
            try:
                async with asyncio.timeout(None) as limit:
                    watch = _Watch(limit, patience)
                    try:
                        while chunk := await readany():
                            watch.heard()
                            if silent:
                                gap, silent = max(gap, silent + watch.longest), 0.0
                            yield chunk
                            watch.wait()
                        return
                    finally:
                        watch.stop()
                        gap = max(gap, watch.longest)
            except TimeoutError:
                silent += patience
                gap = max(gap, silent)
                if silent < timeouts.idle:
                    yield b""
    except (aiohttp.ClientError, OSError) as error:
        raise StreamError(f"The connection to the upstream broke ({type(error).__name__}).") from None
    finally:
        if exchange:
            exchange.longest_gap = gap
    raise StreamError(f"The upstream said nothing for {timeouts.idle:g} seconds.", status=504)
