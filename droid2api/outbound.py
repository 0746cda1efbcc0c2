"""The client sessions: every call that leaves the gateway goes through here, by its proxy and with the right trust.

What stands in the way of a call - a proxy, a certificate - is a WayError whose text says what and the way out. It holds
no password.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from importlib.util import find_spec
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from droid2api.errors import ConfigError
from droid2api.proxies import without_password

NO_SOCKS = (
    "needs the aiohttp-socks package: pip install 'droid2api[socks]' (with start.sh: .venv/bin/pip install "
    'aiohttp-socks). "proxy": "direct" in config.json goes without a proxy.'
)
UNTRUSTED = (
    "If your company signs certificates itself: pip install 'droid2api[truststore]' (with start.sh: .venv/bin/pip "
    "install truststore) to trust what the system trusts, or name its file in SSL_CERT_FILE; then start again."
)


class WayError(aiohttp.ClientError):
    """A proxy or a certificate stands in the way. Its text is for the owner, and holds no secret."""


class _Idle(asyncio.Protocol):
    """Stands for a connection's protocol while nobody waits for an answer: what comes then ends the connection, or it
    would be the next client's answer.
    """

    def __init__(self, protocol: ResponseHandler) -> None:
        self._protocol = protocol

    def data_received(self, data: bytes) -> None:
        self._protocol.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._protocol.connection_lost(exc)


class _Guarded(aiohttp.TCPConnector):
    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        connection = await super()._get(key, traces)
        if connection and connection.transport and connection.protocol is not None:  # an empty one is false
            connection.transport.set_protocol(connection.protocol)
        return connection

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        super()._release(key, protocol, should_close=should_close)
        if protocol.is_connected() and protocol.transport:
            protocol.transport.set_protocol(_Idle(protocol))


class Outbound:
    """To be closed. `environment` may name certificates: SSL_CERT_FILE, SSL_CERT_DIR. Raises ConfigError."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._trust = _trust(environment)
        self._session = _open(_Guarded(limit=0, ssl=self._trust))
        self._by_socks: dict[str, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Outbound:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in (self._session, *self._by_socks.values()):
            await session.close()

    def allow(self, proxy: str) -> None:
        """Make sure that a proxy can be used. Raises ConfigError that names the package it needs."""
        if proxy.startswith("socks") and proxy not in self._by_socks:
            self._by_socks[proxy] = _open(_socks_connector(proxy, self._trust))

    async def get(self, url: str | URL, *, proxy: str = "", **options: Any) -> aiohttp.ClientResponse:
        """As `post`."""
        return await self._send("GET", url, proxy, options)

    async def post(self, url: str | URL, *, proxy: str = "", **options: Any) -> aiohttp.ClientResponse:
        """The head of the answer, which the caller closes; `options` are aiohttp's. Raises WayError, and aiohttp's
        errors for the rest.
        """
        return await self._send("POST", url, proxy, options)

    async def _send(self, method: str, url: str | URL, proxy: str, options: dict[str, Any]) -> aiohttp.ClientResponse:
        self.allow(proxy)
        session = self._by_socks.get(proxy, self._session)
        through = proxy if proxy and session is self._session else None
        try:
            response = await session.request(method, url, proxy=through, allow_redirects=False, **options)
        except Exception as error:
            if obstacle := _obstacle(error, url, proxy):
                raise obstacle from None
            raise
        if through and response.status == 407:
            response.close()
            raise _refused(url, proxy, "407")
        return response


def _open(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """No limit on connections: streams are many. No cookies are kept, and no environment is looked at."""
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def _socks_connector(proxy: str, trust: ssl.SSLContext | bool) -> aiohttp.BaseConnector:
    """The proxy finds the names: what a local resolver says may be false, and whoever runs it need not know them."""
    if find_spec("aiohttp_socks") is None:
        raise ConfigError(f"The proxy {without_password(proxy)} {NO_SOCKS}")
    from aiohttp_socks import ProxyConnector  # only here: the package is an extra

    class Connector(_Guarded, ProxyConnector):
        pass

    plain = proxy.replace("socks5h://", "socks5://")
    connector: aiohttp.BaseConnector = Connector.from_url(plain, rdns=True, limit=0, ssl=trust)
    return connector


def _trust(environment: Mapping[str, str]) -> ssl.SSLContext | bool:
    """The certificates that are trusted: named ones, else the system's by the extra, else OpenSSL's own."""
    file, folder = environment.get("SSL_CERT_FILE"), environment.get("SSL_CERT_DIR")
    if file or folder:
        try:
            return ssl.create_default_context(cafile=file or None, capath=folder or None)
        except (OSError, ssl.SSLError) as error:
            name = "SSL_CERT_FILE" if file else "SSL_CERT_DIR"
            reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigError(f"{name}: {file or folder} cannot be used: {reason}.") from None
    if find_spec("truststore") is None:
        return True
    import truststore  # only here: the package is an extra

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


# -- what stands in the way -----------------------------------------------------------------------------------------


def _obstacle(error: Exception, url: str | URL, proxy: str) -> WayError | None:
    """What a failure says of a proxy or a certificate; None where it is about something else."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or type(error.certificate_error).__name__
        return WayError(f"The certificate of {error.host} is not trusted ({reason}). {UNTRUSTED}")
    if not proxy:
        return None
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _refused(url, proxy, str(error.status))
    kind, shown = type(error).__name__, without_password(proxy)
    of_socks = type(error).__module__.startswith(("python_socks", "aiohttp_socks"))
    # With a proxy the service's name is the proxy's to find: one that is not known here is its own.
    unreached = (aiohttp.ClientProxyConnectionError, aiohttp.ClientConnectorDNSError)
    if isinstance(error, unreached) or (of_socks and kind == "ProxyConnectionError"):
        return WayError(f"The proxy {shown} could not be reached ({getattr(error, 'strerror', None) or kind}).")
    if of_socks and kind == "ProxyTimeoutError":
        return WayError(f"The proxy {shown} did not answer in time.")
    return _refused(url, proxy, kind) if of_socks else None


def _refused(url: str | URL, proxy: str, reason: str) -> WayError:
    place = urlsplit(str(url)).netloc.rpartition("@")[2]
    login = " It wants a user and password, http://USER:PASSWORD@HOST:PORT." if reason == "407" else ""
    return WayError(f"The proxy {without_password(proxy)} refused the way to {place} ({reason}).{login}")
