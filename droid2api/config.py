"""Reads config.json and the environment into settings, checked once.

Wrong values raise ConfigError with file, line or field. What is only odd is a warning: an existing config.json of the
Node edition must work unchanged.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dotenv
import orjson

from droid2api.config_keys import AUTH, ENDPOINT, PRICE, TIMEOUTS, model_table, read_table, top_table
from droid2api.errors import ConfigError, RequestError
from droid2api.formats import FORMATS, Format
from droid2api.hub.profiles import Profile, profile_of, read_overrides
from droid2api.hub.request import Target
from droid2api.proxies import find_proxy
from droid2api.settings import USER_AGENT, Auth, Endpoint, Model, Price, Settings, Timeouts, is_factory, is_loopback
from droid2api.wire.fields import Json, objects

_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://[^/?#]+", re.IGNORECASE)


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
        self._warnings: list[str] = []
        self._value = read_table(top_table(formats), value, "", self._warnings)
        self._formats = {format.TYPE: format for format in formats}
        self._path = path
        self._environment = environment

    def read(self) -> Settings:
        value = self._value
        endpoints = {name: self._with_proxy(endpoint) for name, endpoint in self._read_endpoints().items()}
        models = self._read_models(endpoints)
        auth = self._read_auth()
        for model in models.values():
            _check_host(model.endpoint, auth.hosts)
            if model.fallback and (model.fallback == model.id or model.fallback not in models):
                others = ", ".join(id for id in models if id != model.id) or "none"
                raise RequestError(f"models: the fallback of {model.id!r} must be one of the others: {others}.")
        self._check_keys(endpoint.api_key_env for endpoint in endpoints.values())
        for pattern, id in value["model_redirects"].items():
            if id not in models:
                self._warnings.append(f"model_redirects.{pattern}: {id!r} is no configured model.")
        self._warn_of_no_names("auth.hosts", auth.hosts)
        self._warn_of_no_names("allowed_hosts", value["allowed_hosts"])
        for index, origin in enumerate(value["allowed_origins"]):
            if not _ORIGIN.fullmatch(origin):
                self._warnings.append(
                    f"allowed_origins[{index}]: {origin!r} is no origin, such as https://chat.example, so it fits none."
                )
        keys = self._read_keys()
        if not keys and any(fnmatchcase("any.example", pattern) for pattern in value["allowed_hosts"]):
            self._warnings.append("allowed_hosts: lets in pages of any name (DNS rebinding), and no key is set.")
        as_they_are = "system_prompt dev_mode capture log_format log_level allowed_hosts allowed_origins".split()
        return Settings(
            source=self._path,
            data_folder=self._data_folder(),
            environment=self._environment,
            models=MappingProxyType(models),
            endpoints=MappingProxyType(endpoints),
            redirects=MappingProxyType(value["model_redirects"]),
            host=self._environment.get("HOST") or value["host"] or "127.0.0.1",
            port=self._read_port(),
            user_agent=value["user_agent"] or USER_AGENT,
            auth=auth,
            timeouts=Timeouts(**read_table(TIMEOUTS, value["timeouts"], "timeouts.", self._warnings)),
            api_keys=keys,
            warnings=tuple(self._warnings),
            formats=tuple(self._formats.values()),
            **{name: value[name] for name in as_they_are},
        )

    def _read_auth(self) -> Auth:
        auth = Auth(**read_table(AUTH, self._value["auth"], "auth.", self._warnings))
        proxy = find_proxy(auth.token_url, self._value["proxy"], self._environment)
        return replace(auth, hosts=tuple(map(str.lower, auth.hosts)), proxy=proxy)

    def _warn_of_no_names(self, where: str, hosts: Iterable[str]) -> None:
        for index, host in enumerate(hosts):
            if "/" in host:
                self._warnings.append(f"{where}[{index}]: {host!r} is no name of a host, so it fits none.")

    def _data_folder(self) -> Path:
        if given := self._environment.get("DROID2API_DATA"):
            return Path(given)
        if self._path.parent == Path(__file__).parent:  # the carried copy: nothing is written into a package
            return home(self._environment) / ".droid2api"
        return self._path.parent / "data"

    def _read_port(self) -> int:
        given = self._environment.get("PORT")
        if not given:
            return int(self._value["port"])
        if not given.isdecimal() or int(given) > 65535:
            raise ConfigError(f"PORT: must be a port number (0 to 65535), not {given[:20]!r}.")
        return int(given)

    def _read_endpoints(self) -> dict[str, Endpoint]:
        named = [item.get("endpoint") for _, item in objects(self._value["models"], "models")]
        shipped = {name: format.SHIPPED_URL for name, format in self._formats.items() if format.SHIPPED_URL}
        endpoints = {name: Endpoint(name, url) for name, url in shipped.items()}
        for where, item in objects(self._value["endpoint"], "endpoint"):
            endpoint = Endpoint(**read_table(ENDPOINT, item, f"{where}.", self._warnings))
            if endpoint.name not in self._formats and endpoint.name not in named:
                known = ", ".join(self._formats)
                raise RequestError(f"{where}.name: must be one of {known}, or one that a model names.")
            endpoints[endpoint.name] = endpoint
        return endpoints

    def _with_proxy(self, endpoint: Endpoint) -> Endpoint:
        configured = endpoint.proxy or self._value["proxy"]
        return replace(endpoint, proxy=find_proxy(endpoint.base_url, configured, self._environment))

    def _read_models(self, endpoints: dict[str, Endpoint]) -> dict[str, Model]:
        models: dict[str, Model] = {}
        table = model_table(tuple(self._formats.values()))
        for where, item in objects(self._value["models"], "models"):
            value = read_table(table, item, f"{where}.", self._warnings)
            if value["id"] in models:
                self._warnings.append(f"{where}.id: {value['id']!r} is given twice; the first one counts.")
                continue
            name = value["endpoint"] or value["type"]
            if name not in endpoints:
                raise RequestError(f"{where}.endpoint: {name!r} is no configured endpoint.")
            models[value["id"]] = self._read_model(value, where, endpoints[name])
        return models

    def _read_model(self, value: dict[str, Any], where: str, endpoint: Endpoint) -> Model:
        format = self._formats[value["type"]]
        target = Target(
            id=value["id"],
            reasoning=value["reasoning"],
            fast=value["fast"],
            max_tokens=value["max_tokens"],
            service=endpoint.host,
            cache=value["cache"],
            profile=_read_profile(value, where, profile_of(endpoint.host, value["id"], format.NAME)),
        )
        extra = {name: value[name] for name in ("provider", "fallback", "retries", "body")}
        if value["price"] is not None:
            extra["price"] = Price(**read_table(PRICE, value["price"], f"{where}.price.", self._warnings))
        return Model(value["name"] or value["id"], target, format, endpoint, **extra)

    def _read_keys(self) -> tuple[str, ...]:
        given = [key.strip() for key in self._environment.get("DROID2API_KEYS", "").split(",")]
        keys = tuple(key for key in given if key)
        if not keys and len(given) > 1:
            raise ConfigError("DROID2API_KEYS: holds only commas, no key.")
        return keys or tuple(self._value["api_keys"])

    def _check_keys(self, own: Iterable[str]) -> None:
        """A key with a line break in it would end a header. Raises ConfigError."""
        for name in ("FACTORY_API_KEY", "DROID_REFRESH_KEY", *own):
            if not self._environment.get(name, "").strip().isprintable():
                raise ConfigError(f"{name}: must not hold control characters.")


def _read_profile(value: dict[str, Any], where: str, known: Profile) -> Profile:
    """What is known of the model, with what its owner knows better; `thinking` wins over both."""
    overrides = read_overrides(value["profile"], f"{where}.profile.")
    if value["thinking"]:
        overrides["thinking"] = value["thinking"]
    return replace(known, **overrides)


def _check_host(endpoint: Endpoint, allowed: tuple[str, ...]) -> None:
    """Factory's credential is for Factory. Raises RequestError when a mistake in a URL would give it to another."""
    host = endpoint.host.rstrip(".")
    brings_its_own = endpoint.api_key_env or any(name.lower() == "authorization" for name in endpoint.headers)
    if brings_its_own or is_factory(host) or is_loopback(host) or host in allowed:
        return
    raise RequestError(
        f"endpoint {endpoint.name!r}: Factory's credential is not for the host {host}. Give the endpoint a key of its "
        "own (api_key_env), or name the host in auth.hosts."
    )
