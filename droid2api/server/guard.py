"""Who may use the gateway: whoever reaches it holds the owner's credential in the hand.

Checked before anything else is read: the Host (a name that an attacker's DNS points at 127.0.0.1 is not ours), the key
when keys are set, the Origin (a web page that the owner happens to visit), and the type of a body (a page may post a
form or text to localhost without asking, but not JSON).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from fnmatch import fnmatchcase

from droid2api.errors import CredentialError, RequestError
from droid2api.formats import client_keys
from droid2api.settings import Settings

CORS_HEADERS = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Expose-Headers": "*",
    "Access-Control-Max-Age": "600",
    "Vary": "Origin",
}
KEYLESS = ("/", "/health")
"""Paths that need no key: the page at / asks for one itself."""


class Guard:
    """`holds_credential`: whether requests are answered with a credential of the owner's, not the client's."""

    def __init__(self, settings: Settings, holds_credential: bool) -> None:
        self._settings = settings
        self._holds_credential = holds_credential
        self._keys = [key.encode() for key in settings.api_keys]

    @property
    def is_open(self) -> bool:
        """Whether others than this machine can use the owner's credential without a key."""
        address = _address(self._settings.host)
        local = address.is_loopback if address else self._settings.host == "localhost"
        return self.is_unlocked and not local

    @property
    def is_unlocked(self) -> bool:
        """Whether whoever reaches the gateway can use the owner's credential."""
        return self._holds_credential and not self._keys

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Raises RequestError (403, 415) or CredentialError for a request that must not be served."""
        self.check_host(headers)
        if path not in KEYLESS:
            self.check_key(headers)
        origin = headers.get("Origin")
        if origin and not self.allows_origin(origin, headers):
            raise _foreign(origin)
        if method in ("GET", "HEAD") and path not in KEYLESS and not origin and _is_cross_site(headers):
            raise _foreign(headers.get("Referer", "another site"))
        media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if method == "POST" and media_type != "application/json" and not media_type.endswith("+json"):
            raise RequestError("The body must be JSON, sent with Content-Type: application/json.", status=415)

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Raises CredentialError."""
        if self._keys and not self._has_key(headers):
            raise CredentialError(
                "This gateway wants one of its api_keys, as Authorization: Bearer or x-api-key.", code="invalid_api_key"
            )

    def check_host(self, headers: Mapping[str, str]) -> None:
        host = _host_name(headers.get("Host", ""))
        if not self._is_ours(host):
            raise RequestError(
                f"The host {_told(host)} is not known here. Use localhost, or add it to allowed_hosts in config.json.",
                status=403,
            )

    def allows_origin(self, origin: str, headers: Mapping[str, str]) -> bool:
        """The gateway's own page, one that the owner named, or one that has a key of the gateway's."""
        if origin in self._settings.allowed_origins or origin.partition("://")[2] == headers.get("Host"):
            return True
        return bool(self._keys) and self._has_key(headers)

    def check_preflight(self, origin: str, headers: Mapping[str, str]) -> None:
        """A preflight carries no key yet; the request after it is checked again. Raises RequestError (403)."""
        self.check_host(headers)
        if not self._keys and not self.allows_origin(origin, headers):
            raise _foreign(origin)

    def _has_key(self, headers: Mapping[str, str]) -> bool:
        given = [
            credential.encode(errors="surrogateescape") for credential in client_keys(self._settings.formats, headers)
        ]
        matches = [hmac.compare_digest(key, credential) for key in self._keys for credential in given]
        return any(matches)

    def _is_ours(self, host: str) -> bool:
        if host == "localhost" or host.endswith(".localhost") or host == self._settings.host.lower():
            return True
        if any(fnmatchcase(host, pattern.lower()) for pattern in self._settings.allowed_hosts):
            return True
        address = _address(host)
        if address is None:
            return False
        bound = _address(self._settings.host)
        return address.is_loopback or (bound is not None and bound.is_unspecified)  # no name, so no DNS to rebind


def _is_cross_site(headers: Mapping[str, str]) -> bool:
    """Whether a browser says so: a link or a picture in a foreign page has no Origin."""
    return headers.get("Sec-Fetch-Site") == "cross-site"


def _host_name(host: str) -> str:
    """Without the port and the brackets of IPv6."""
    name = host.lower().strip()
    return name[1 : name.find("]")] if name.startswith("[") else name.partition(":")[0]


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _foreign(origin: str) -> RequestError:
    hint = "Its owner can add it to allowed_origins in config.json."
    return RequestError(f"The page at {_told(origin)} may not use this gateway. {hint}", status=403)


def _told(text: str) -> str:
    return repr(text[:100])
