"""Which proxy stands between the gateway and a URL: the one of config.json, else the environment's, else the system's.

Names and precedence are those of the standard library (urllib.request); its NO_PROXY too. Nothing goes through a proxy
to this machine.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from droid2api.errors import RequestError
from droid2api.settings import is_loopback

DIRECT = "direct"
"""In config.json: no proxy, whatever the environment says."""
_SCHEMES = ("http", "https", "socks5", "socks5h")


def checked_proxy(value: str, where: str) -> str:
    """A proxy's URL, or "direct". Raises RequestError that does not repeat the value: it may hold a password."""
    if value == DIRECT:
        return value
    value = re.sub("^socks://", "socks5://", value)  # as desktops write it
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        good = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0 and value.isprintable()
    except ValueError:
        good = False
    if not good or value.isalpha() or " " in value or parts.path not in ("", "/") or parts.query:
        raise RequestError(
            f'{where}: must be "direct" or the URL of a proxy, such as http://127.0.0.1:7890 or socks5://127.0.0.1:7891.'
        )
    return urlunsplit((parts.scheme, parts.netloc, "", "", ""))


def find_proxy(url: str, configured: str, environment: Mapping[str, str]) -> str:
    """The URL of the proxy to this URL, "" for none. `configured` is what config.json says, "" for nothing.

    Raises RequestError for a variable that holds no proxy.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if configured == DIRECT or is_loopback(host):
        return ""
    if configured:
        return configured
    set_ = {name.lower(): name for name in sorted(environment) if environment[name]}  # lower case wins
    variables = [set_[name] for name in (f"{parts.scheme}_proxy", "all_proxy") if name in set_]
    if "REQUEST_METHOD" in environment:  # under CGI a client's header `Proxy` would be HTTP_PROXY
        variables = [name for name in variables if name != "HTTP_PROXY"]
    exempt = environment.get(set_.get("no_proxy", ""), "")
    if variables:
        if urllib.request.proxy_bypass_environment(parts.netloc.rpartition("@")[2], {"no": exempt}):  # type: ignore[attr-defined]  # typeshed lacks it
            return ""
        found = checked_proxy(environment[variables[0]].strip(), variables[0])
        return "" if found == DIRECT else found
    return _system_proxy(parts.scheme, host)


def _system_proxy(scheme: str, host: str) -> str:
    """What the settings of macOS and Windows say; elsewhere nothing does."""
    system = getattr(urllib.request, "getproxies_macosx_sysconf", None) or getattr(
        urllib.request, "getproxies_registry", None
    )
    proxies = system() if system else {}
    given = proxies.get(scheme) or proxies.get("socks") or ""
    if not given or urllib.request.proxy_bypass(host):
        return ""
    return checked_proxy(given, "the system's proxy")


def without_password(proxy: str) -> str:
    """A proxy's URL as it may be told."""
    parts = urlsplit(proxy)
    _, at, place = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{'***@' if at else ''}{place}"


def password_of(proxy: str) -> list[str]:
    """What must be masked of a proxy's URL: user and password as they are sent and as they are written."""
    user = urlsplit(proxy).netloc.rpartition("@")[0]
    password = user.partition(":")[2]
    return [text for text in (user, password) if text]
