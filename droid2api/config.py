"""Settings from config.json and the environment, checked once and frozen.

Wrong values raise ConfigError with file, line or field. What is only odd is a warning: an existing config.json of the
Node edition must work unchanged.
"""

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import dotenv
import orjson

from droid2api import __version__
from droid2api.errors import ConfigError, RequestError
from droid2api.formats import FORMATS, Format
from droid2api.hub.profiles import Profile, profile_of, read_overrides
from droid2api.hub.reasoning import LEVELS
from droid2api.hub.request import Target
from droid2api.wire.fields import Json, objects, optional, required, wrong

TOKEN_URL = "https://api.workos.com/user_management/authenticate"  # noqa: S105 - a URL
CLIENT_ID = "client_01HNM792M5G5G1A2THWPXKFMXB"
USER_AGENT = f"droid2api/{__version__}"
THINKING = ("budget", "adaptive")
LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")
SECRET_HEADERS = frozenset("authorization x-api-key api-key cookie x-goog-api-key".split())

_KEYS = frozenset(
    "port host endpoint models model_redirects system_prompt user_agent dev_mode log_format log_level auth timeouts "
    "api_keys allowed_hosts allowed_origins".split()
)
_ENDPOINT_KEYS = frozenset("name base_url headers api_key_env".split())
_MODEL_KEYS = frozenset("name id type reasoning provider fast endpoint thinking max_tokens profile".split())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an upstream is. With `api_key_env` it has a key of its own, in that environment variable; without one it
    gets Factory's credential.
    """

    name: str
    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    api_key_env: str = ""

    @property
    def holds_secret(self) -> bool:
        """Whether a configured header lets requests in, as a credential does."""
        return any(name.lower() in SECRET_HEADERS for name in self.headers)


@dataclass(frozen=True, slots=True)
class Model:
    """A model that clients can ask for, and all that is needed to reach it."""

    name: str
    target: Target
    format: Format
    endpoint: Endpoint
    provider: str = ""

    @property
    def id(self) -> str:
        return self.target.id


@dataclass(frozen=True, slots=True)
class Auth:
    """Where refresh tokens are exchanged, and which hosts besides Factory's own may get Factory's credential."""

    token_url: str = TOKEN_URL
    client_id: str = CLIENT_ID
    hosts: tuple[str, ...] = ()


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
    """`own`: the user chose the file `source`; else it only lies in the folder that the gateway was started in."""

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


def find_config(given: str | None, environment: Mapping[str, str]) -> Path:
    """--config, DROID2API_CONFIG, ./config.json, then the copy that the package carries."""
    if chosen := given or environment.get("DROID2API_CONFIG"):
        return Path(chosen)
    local, package = Path("config.json"), Path(__file__).parent
    carried = package / "config.json"
    return local if local.exists() else carried if carried.exists() else package.parent / "config.json"


def is_own(path: Path, given: str | None) -> bool:
    """Whether the user chose this config.json: by --config (`given`), by DROID2API_CONFIG in the process's environment
    (a .env comes with a folder too), or by installing it beside the package.
    """
    package = Path(__file__).resolve().parent
    chosen = given or os.environ.get("DROID2API_CONFIG")
    return bool(chosen) or path.resolve().parent in (package, package.parent)


def read_environment(file: Path) -> dict[str, str]:
    """The process's variables and those of a .env file; those that are set already win. Raises ConfigError."""
    _refuse_pipe(file)
    try:
        given = dotenv.dotenv_values(file)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{file}: cannot be read: {reason}.") from None
    return {name: value for name, value in given.items() if value is not None} | dict(os.environ)


def home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or environment.get("USERPROFILE") or Path.home())


def load(
    path: Path,
    environment: Mapping[str, str] | None = None,
    formats: tuple[Format, ...] = FORMATS,
    *,
    own: bool = True,
) -> Settings:
    """Read and check the settings; models may be of the types of `formats`. Raises ConfigError."""
    environment = os.environ if environment is None else environment
    _refuse_pipe(path)
    try:
        value = orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))  # Windows editors put it there
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{path}: line {error.lineno}, column {error.colno}: {error.msg}.") from None
    if type(value) is not dict:
        raise ConfigError(f"{path}: must be a JSON object.")
    try:
        return replace(_Reader(value, path, environment, formats).read(), own=own)
    except RequestError as error:  # fields.py names the field; here it is the owner's
        raise ConfigError(f"{path}: {error.message}") from None


def _refuse_pipe(file: Path) -> None:
    """Raises ConfigError: to read it would wait for its writer, with all streams, and give nothing a second time."""
    if file.is_fifo():
        raise ConfigError(f"{file}: cannot be read: it is a pipe, not a file.")


class _Reader:
    def __init__(self, value: Json, path: Path, environment: Mapping[str, str], formats: tuple[Format, ...]) -> None:
        self._value = value
        self._formats = {format.TYPE: format for format in formats}
        self._path = path
        self._environment = environment
        self._warnings: list[str] = []

    def read(self) -> Settings:
        value = self._value
        self._warn_unknown(value, _KEYS, "")
        named = [str(model.get("endpoint")) for _, model in objects(value.get("models"), "models")]
        endpoints = self._read_endpoints(named)
        models = self._read_models(endpoints)
        auth = self._read_auth()
        for model in models.values():
            _check_host(model.endpoint, auth.hosts)
        self._check_keys(endpoint.api_key_env for endpoint in endpoints.values())
        redirects = _read_texts(value, "model_redirects")
        for pattern, id in redirects.items():
            if id not in models:
                self._warnings.append(f"model_redirects.{pattern}: {id!r} is no configured model.")
        keys, hosts = self._read_keys(), _read_list(value, "allowed_hosts")
        if not keys and any(fnmatchcase("any.example", pattern) for pattern in hosts):
            self._warnings.append("allowed_hosts: lets in pages of any name (DNS rebinding), and no key is set.")
        return Settings(
            source=self._path,
            data_folder=self._data_folder(),
            environment=self._environment,
            models=MappingProxyType(models),
            endpoints=MappingProxyType(endpoints),
            redirects=MappingProxyType(redirects),
            host=self._environment.get("HOST") or optional(value, "host", str) or "127.0.0.1",
            port=self._read_port(),
            system_prompt=optional(value, "system_prompt", str) or "",
            user_agent=_header_value("user_agent", optional(value, "user_agent", str)) or USER_AGENT,
            dev_mode=optional(value, "dev_mode", bool) or False,
            log_format=_one_of(optional(value, "log_format", str) or "text", LOG_FORMATS, "log_format"),
            log_level=_one_of(optional(value, "log_level", str) or "info", LOG_LEVELS, "log_level"),
            auth=auth,
            timeouts=self._read_timeouts(),
            api_keys=keys,
            allowed_hosts=hosts,
            allowed_origins=_read_list(value, "allowed_origins"),
            warnings=tuple(self._warnings),
            formats=tuple(self._formats.values()),
        )

    def _warn_unknown(self, value: Json, known: frozenset[str], where: str) -> None:
        self._warnings += [f"{where}{name}: is not a setting, so it is ignored." for name in value if name not in known]

    def _data_folder(self) -> Path:
        if given := self._environment.get("DROID2API_DATA"):
            return Path(given)
        if self._path.parent == Path(__file__).parent:  # the carried copy: nothing is written into a package
            return home(self._environment) / ".droid2api"
        return self._path.parent / "data"

    def _read_port(self) -> int:
        if given := self._environment.get("PORT"):
            if not given.isdecimal() or int(given) > 65535:
                raise ConfigError(f"PORT: must be a port number (0 to 65535), not {given[:20]!r}.")
            return int(given)
        port = optional(self._value, "port", int)
        if port is not None and not 0 <= port <= 65535:
            raise RequestError(f"port: must be from 0 to 65535, not {port}.")
        return 3000 if port is None else port

    def _read_endpoints(self, named: list[str]) -> dict[str, Endpoint]:
        shipped = {name: format.SHIPPED_URL for name, format in self._formats.items() if format.SHIPPED_URL}
        endpoints = {name: Endpoint(name, url) for name, url in shipped.items()}
        for where, item in objects(self._value.get("endpoint"), "endpoint"):
            self._warn_unknown(item, _ENDPOINT_KEYS, f"{where}.")
            name = required(item, "name", str, f"{where}.")
            if name not in self._formats and name not in named:
                known = ", ".join(self._formats)
                raise RequestError(f"{where}.name: must be one of {known}, or one that a model names.")
            url = _checked_url(required(item, "base_url", str, f"{where}."), f"{where}.base_url")
            headers = _read_texts(item, "headers", f"{where}.")
            for header, text in headers.items():
                if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", header, re.ASCII):
                    raise RequestError(f"{where}.headers: {header[:40]!r} is no name of a header.")
                _header_value(f"{where}.headers.{header}", text)
            key = optional(item, "api_key_env", str, f"{where}.") or ""
            endpoints[name] = Endpoint(name, url, headers, key)
        return endpoints

    def _read_models(self, endpoints: dict[str, Endpoint]) -> dict[str, Model]:
        models: dict[str, Model] = {}
        for where, item in objects(self._value.get("models"), "models"):
            self._warn_unknown(item, _MODEL_KEYS, f"{where}.")
            path = f"{where}."
            id = required(item, "id", str, path)
            if not id:
                raise RequestError(f"{path}id: must not be empty.")
            if id in models:
                self._warnings.append(f"{path}id: {id!r} is given twice; the first one counts.")
                continue
            type_ = _one_of(required(item, "type", str, path), tuple(self._formats), f"{path}type")
            name = optional(item, "endpoint", str, path) or type_
            if name not in endpoints:
                raise RequestError(f"{path}endpoint: {name!r} is no configured endpoint.")
            max_tokens = optional(item, "max_tokens", int, path)
            if max_tokens is not None and max_tokens < 1:
                raise RequestError(f"{path}max_tokens: must be positive.")
            profile = self._read_profile(item, path, profile_of(_host(endpoints[name]), id, self._formats[type_].NAME))
            target = Target(
                id=id,
                reasoning=_one_of(optional(item, "reasoning", str, path) or "auto", LEVELS, f"{path}reasoning"),
                fast=optional(item, "fast", bool, path) or False,
                max_tokens=max_tokens,
                service=_host(endpoints[name]),
                profile=profile,
            )
            provider = _header_value(f"{path}provider", optional(item, "provider", str, path)) or ""
            label = optional(item, "name", str, path) or id
            models[id] = Model(label, target, self._formats[type_], endpoints[name], provider)
        return models

    def _read_profile(self, item: Json, path: str, known: Profile) -> Profile:
        """What is known of the model, with what its owner knows better; `thinking` wins over both."""
        overrides = read_overrides(optional(item, "profile", dict, path) or {}, f"{path}profile.")
        if thinking := optional(item, "thinking", str, path):
            overrides["thinking"] = _one_of(thinking, THINKING, f"{path}thinking")
        return replace(known, **overrides)

    def _read_auth(self) -> Auth:
        value = optional(self._value, "auth", dict) or {}
        self._warn_unknown(value, frozenset(Auth.__slots__), "auth.")
        token_url = _checked_url(optional(value, "token_url", str, "auth.") or TOKEN_URL, "auth.token_url")
        hosts = tuple(host.lower() for host in _read_list(value, "hosts", "auth."))
        return Auth(token_url, optional(value, "client_id", str, "auth.") or CLIENT_ID, hosts)

    def _read_timeouts(self) -> Timeouts:
        value = optional(self._value, "timeouts", dict) or {}
        self._warn_unknown(value, frozenset(Timeouts.__slots__), "timeouts.")
        seconds = {name: optional(value, name, float, "timeouts.") for name in Timeouts.__slots__}
        for name, given in seconds.items():
            if given is not None and given <= 0:
                raise RequestError(f"timeouts.{name}: must be more than 0 seconds.")
        return Timeouts(**{name: given for name, given in seconds.items() if given is not None})

    def _read_keys(self) -> tuple[str, ...]:
        given = [key.strip() for key in self._environment.get("DROID2API_KEYS", "").split(",")]
        keys = tuple(key for key in given if key)
        if not keys and len(given) > 1:
            raise ConfigError("DROID2API_KEYS: holds only commas, no key.")
        return keys or _read_list(self._value, "api_keys")

    def _check_keys(self, own: Iterable[str]) -> None:
        """A key with a line break in it would end a header. Raises ConfigError."""
        for name in ("FACTORY_API_KEY", "DROID_REFRESH_KEY", *own):
            if not self._environment.get(name, "").strip().isprintable():
                raise ConfigError(f"{name}: must not hold control characters.")


def _read_list(value: Json, name: str, where: str = "") -> tuple[str, ...]:
    items = optional(value, name, list, where) or []
    for index, item in enumerate(items):
        if type(item) is not str or not item:
            raise wrong(f"{where}{name}[{index}]", "a string", item)
    return tuple(items)


def _read_texts(value: Json, name: str, where: str = "") -> dict[str, str]:
    texts = optional(value, name, dict, where) or {}
    return {key: required(texts, key, str, f"{where}{name}.") for key in texts}


def _header_value(where: str, value: str | None) -> str | None:
    if value and not value.isprintable():
        raise RequestError(f"{where}: must not hold control characters.")
    return value


def _host(endpoint: Endpoint) -> str:
    return urlsplit(endpoint.base_url).hostname or ""


def _one_of(value: str, allowed: tuple[str, ...], where: str) -> str:
    if value not in allowed:
        raise RequestError(f"{where}: must be one of {', '.join(allowed)}, not {value[:40]!r}.")
    return value


def _checked_url(url: str, where: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:  # a port that is no number, a bracket that is not closed, a label that is empty or too long
        good = False
    if not good or not url.isprintable() or " " in url:
        raise RequestError(f"{where}: must be an http or https URL, not {url[:80]!r}.")
    if "@" in parts.netloc:  # it would be told wherever the URL is
        raise RequestError(f"{where}: must not hold a user or password; an endpoint has `headers` and `api_key_env`.")
    return url.rstrip("/")


def _check_host(endpoint: Endpoint, allowed: tuple[str, ...]) -> None:
    """Factory's credential is for Factory. Raises RequestError when a mistake in a URL would give it to another."""
    host = _host(endpoint).rstrip(".")
    brings_its_own = endpoint.api_key_env or any(name.lower() == "authorization" for name in endpoint.headers)
    is_factory = re.fullmatch(r"([a-z0-9-]+\.)*factory\.ai", host)
    if brings_its_own or is_factory or is_loopback(host) or host in allowed:
        return
    raise RequestError(
        f"endpoint {endpoint.name!r}: Factory's credential is not for the host {host}. Give the endpoint a key of its "
        "own (api_key_env), or name the host in auth.hosts."
    )


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's, without asking DNS."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
