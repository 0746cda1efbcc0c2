"""The settings, checked and frozen: what config.py makes of config.json and the environment."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from droid2api import __version__
from droid2api.errors import RequestError
from droid2api.formats import FORMATS, Format
from droid2api.hub.request import Target

TOKEN_URL = "https://api.workos.com/user_management/authenticate"  # noqa: S105 - a URL
CLIENT_ID = "client_01HNM792M5G5G1A2THWPXKFMXB"
USER_AGENT = f"droid2api/{__version__}"
SECRET_HEADERS = frozenset("authorization x-api-key api-key cookie x-goog-api-key".split())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an upstream is. With `api_key_env` it has a key of its own, in that environment variable; without one it
    gets Factory's credential. `proxy` is the URL of the proxy to it, "" for none.
    """

    name: str
    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    api_key_env: str = ""
    proxy: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        """The name or address in its URL, without the port."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def holds_secret(self) -> bool:
        """Whether a configured header lets requests in, as a credential does."""
        return any(name.lower() in SECRET_HEADERS for name in self.headers)


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens; None: as `input`."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model that clients can ask for, and all that is needed to reach it.

    `retries` are further tries where the service is too busy, `fallback` is the id of the model that answers where this
    one cannot. `body` is merged into each request's body (RFC 7396).
    """

    name: str
    target: Target
    format: Format
    endpoint: Endpoint
    provider: str = ""
    fallback: str = ""
    retries: int = 0
    body: Mapping[str, Any] = field(default_factory=dict)
    price: Price | None = None

    @property
    def id(self) -> str:
        return self.target.id


@dataclass(frozen=True, slots=True)
class Auth:
    """Where refresh tokens are exchanged, through which proxy, and which hosts besides Factory's own may get Factory's
    credential.
    """

    token_url: str = TOKEN_URL
    client_id: str = CLIENT_ID
    hosts: tuple[str, ...] = ()
    proxy: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to connect, until the head of an answer, that an answer may be silent, of silence before the client of a
    stream gets a sign of life, and that streams may go on when the gateway is told to stop. Of clients: until the head
    of a first request, between two pieces of a body, that nothing of an answer is taken, and between two requests.
    """

    connect: float = 10
    first_byte: float = 600
    idle: float = 300
    keepalive: float = 15
    drain: float = 30
    client_head: float = 60
    client_body: float = 60
    client_send: float = 60
    client_idle: float = 75


@dataclass(frozen=True, slots=True)
class Settings:
    """`own`: the user chose the file `source`; else it only lies in the folder that the gateway was started in.
    `demo`: all models are at the embedded upstream. `capture`: how many requests are kept whole, for the page.
    """

    source: Path
    data_folder: Path
    environment: Mapping[str, str] = field(repr=False)
    models: Mapping[str, Model]
    endpoints: Mapping[str, Endpoint]
    redirects: Mapping[str, str]
    host: str = "127.0.0.1"
    port: int = 3000
    system_prompt: str = ""
    user_agent: str = USER_AGENT
    dev_mode: bool = False
    capture: int = 0
    log_format: str = "text"
    log_level: str = "info"
    auth: Auth = Auth()
    timeouts: Timeouts = Timeouts()
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    formats: tuple[Format, ...] = FORMATS
    own: bool = True
    demo: bool = False

    def route(self, model_id: str) -> Model:
        """The model for the id that a client sent. Raises RequestError (404) that lists the configured ones.

        Claude Code marks an id with "[1m]" for the context that it wants: the model is the same.
        """
        if model_id not in self.models and model_id not in self.redirects:
            model_id = model_id.removesuffix("[1m]")
        id = self.redirects.get(model_id, model_id)
        if id not in self.models:
            patterns = (target for pattern, target in self.redirects.items() if fnmatchcase(model_id, pattern))
            id = next(patterns, id)
        if id not in self.models:
            known = ", ".join(self.models) or "none"
            raise RequestError(
                f"model: {model_id[:100]!r} is not configured. Configured models: {known}.",
                status=404,
                code="model_not_found",
                param="model",
            )
        return self.models[id]


def is_factory(host: str) -> bool:
    """Whether a host is Factory's own."""
    return bool(re.fullmatch(r"([a-z0-9-]+\.)*factory\.ai", host.rstrip(".")))


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's, without asking DNS."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
