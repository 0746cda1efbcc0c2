"""The keys of config.json as tables: what each may hold, and what stands for it where it is absent.

One table reads the file and another program's editor checks it by the same: `read_table` and `json_schema` are made
of them. What several keys must agree on is config.py's.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from droid2api.errors import RequestError
from droid2api.formats import Format
from droid2api.hub.profiles import override_schema
from droid2api.hub.reasoning import LEVELS
from droid2api.proxies import checked_proxy
from droid2api.settings import CLIENT_ID, TOKEN_URL, Timeouts
from droid2api.wire.fields import Json, optional, required, wrong


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be: its type in Python, a check that gives the value as the settings have it (or raises a
    RequestError that names `where`), and the JSON Schema that says the same to an editor.
    """

    type: type
    schema: Json
    check: Callable[[Any, str], Any] = lambda value, where: value


@dataclass(frozen=True, slots=True)
class Key:
    """`default` stands for a value that is absent or null."""

    kind: Kind
    default: Any = None
    required: bool = False


Table: TypeAlias = Mapping[str, Key]


def read_table(table: Table, value: Json, where: str, warnings: list[str]) -> dict[str, Any]:
    """Each key of the table with its value or default. Raises RequestError; unknown keys are warned of."""
    warnings += [f"{where}{name}: is not a setting, so it is ignored." for name in value if name not in table]
    read = {}
    for name, key in table.items():
        find = required if key.required else optional
        found = find(value, name, key.kind.type, where)
        read[name] = key.default if found is None else key.kind.check(found, where + name)
    return read


# -- kinds of values ------------------------------------------------------------------------------------------------


def whole(least: int, most: int | None = None) -> Kind:
    def check(value: int, where: str) -> int:
        if most is not None and not least <= value <= most:
            raise RequestError(f"{where}: must be from {least} to {most}, not {value}.")
        if value < least:
            raise RequestError(f"{where}: must be {least} or more, not {value}.")
        return value

    limits = {"minimum": least} | ({} if most is None else {"maximum": most})
    return Kind(int, {"type": "integer", **limits}, check)


def one_of(*words: str) -> Kind:
    def check(value: str, where: str) -> str:
        if value not in words:
            raise RequestError(f"{where}: must be one of {', '.join(words)}, not {value[:40]!r}.")
        return value

    return Kind(str, {"type": "string", "enum": list(words)}, check)


def _seconds(value: float, where: str) -> float:
    if value <= 0:
        raise RequestError(f"{where}: must be more than 0 seconds.")
    return value


def _rate(value: float, where: str) -> float:
    if value < 0:
        raise RequestError(f"{where}: must be 0 or more, not {value}.")
    return value


def _filled(value: str, where: str) -> str:
    if not value:
        raise RequestError(f"{where}: must not be empty.")
    return value


def _list(value: list[object], where: str) -> tuple[str, ...]:
    for index, item in enumerate(value):
        if type(item) is not str:
            raise wrong(f"{where}[{index}]", "a string", item)
        _filled(item, f"{where}[{index}]")
    return tuple(str(item) for item in value)


def _texts(value: Json, where: str) -> dict[str, str]:
    return {key: required(value, key, str, f"{where}.") for key in value}


def _header_value(value: str, where: str) -> str:
    if not value.isprintable():
        raise RequestError(f"{where}: must not hold control characters.")
    return value


def _headers(value: Json, where: str) -> dict[str, str]:
    headers = _texts(value, where)
    for name, text in headers.items():
        if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII):
            raise RequestError(f"{where}: {name[:40]!r} is no name of a header.")
        _header_value(text, f"{where}.{name}")
    return headers


def _body(value: Json, where: str) -> Json:
    for name in _OWN:
        if name in value:
            raise RequestError(f"{where}.{name}: cannot be set here: it is the gateway's own.")
    return value


def _url(value: str, where: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:  # a port that is no number, a bracket that is not closed, a label that is empty or too long
        good = False
    if not good or not value.isprintable() or " " in value:
        raise RequestError(f"{where}: must be an http or https URL, not {value[:80]!r}.")
    if "@" in parts.netloc:  # it would be told wherever the URL is
        raise RequestError(f"{where}: must not hold a user or password; an endpoint has `headers` and `api_key_env`.")
    return value.rstrip("/")


_OWN = ("model", "stream")
"""Fields of a body that the gateway itself needs."""
_STRINGS: Json = {"type": "object", "additionalProperties": {"type": "string"}}
TEXT = Kind(str, {"type": "string"})
FILLED = Kind(str, {"type": "string", "minLength": 1}, _filled)
FLAG = Kind(bool, {"type": "boolean"})
RATE = Kind(float, {"type": "number", "minimum": 0}, _rate)
SECONDS = Kind(float, {"type": "number", "exclusiveMinimum": 0}, _seconds)
LIST = Kind(list, {"type": "array", "items": {"type": "string", "minLength": 1}}, _list)
TEXTS = Kind(dict, _STRINGS, _texts)
HEADERS = Kind(dict, _STRINGS, _headers)
HEADER_VALUE = Kind(str, {"type": "string"}, _header_value)
URL = Kind(str, {"type": "string", "pattern": "^https?://"}, _url)
BODY = Kind(dict, {"type": "object", "not": {"anyOf": [{"required": [name]} for name in _OWN]}}, _body)
PROXY = Kind(str, {"type": "string"}, checked_proxy)
PROFILE = Kind(dict, override_schema())
"""Checked by hub.profiles.read_overrides, where the model it overrides is known."""


# -- the tables -----------------------------------------------------------------------------------------------------


def top_table(formats: tuple[Format, ...]) -> Table:
    """The outermost object; models may be of the types of `formats`."""
    return {
        "$schema": Key(TEXT),
        "port": Key(whole(0, 65535), 3000),
        "host": Key(TEXT, ""),
        "endpoint": Key(_table_list(ENDPOINT)),
        "models": Key(_table_list(model_table(formats))),
        "proxy": Key(PROXY, ""),
        "model_redirects": Key(TEXTS, {}),
        "system_prompt": Key(TEXT, ""),
        "user_agent": Key(HEADER_VALUE, ""),
        "dev_mode": Key(FLAG, False),
        "capture": Key(whole(0, 50), 0),
        "log_format": Key(one_of("text", "json"), "text"),
        "log_level": Key(one_of("debug", "info", "warning", "error"), "info"),
        "auth": Key(_table(AUTH), {}),
        "timeouts": Key(_table(TIMEOUTS), {}),
        "api_keys": Key(LIST, ()),
        "allowed_hosts": Key(LIST, ()),
        "allowed_origins": Key(LIST, ()),
    }


def model_table(formats: tuple[Format, ...]) -> Table:
    """An object of `models`."""
    return {
        "id": Key(FILLED, required=True),
        "type": Key(one_of(*(format.TYPE for format in formats)), required=True),
        "name": Key(TEXT, ""),
        "reasoning": Key(one_of(*LEVELS), "auto"),
        "provider": Key(HEADER_VALUE, ""),
        "fast": Key(FLAG, False),
        "endpoint": Key(TEXT, ""),
        "thinking": Key(one_of("budget", "adaptive")),
        "max_tokens": Key(whole(1)),
        "fallback": Key(TEXT, ""),
        "retries": Key(whole(0, 10), 0),
        "body": Key(BODY, {}),
        "price": Key(_table(PRICE)),
        "cache": Key(one_of("auto", "off"), "auto"),
        "profile": Key(PROFILE, {}),
    }


def _table(table: Table) -> Kind:
    return Kind(dict, object_schema(table))


def _table_list(table: Table) -> Kind:
    return Kind(list, {"type": "array", "items": object_schema(table)})


def object_schema(table: Table) -> Json:
    """The JSON Schema of an object with these keys; an editor marks others, which the gateway only warns of."""
    schema: Json = {
        "type": "object",
        "properties": {name: _key_schema(key) for name, key in table.items()},
        "additionalProperties": False,
    }
    needed = [name for name, key in table.items() if key.required]
    return schema | ({"required": needed} if needed else {})


def _key_schema(key: Key) -> Json:
    told = key.default not in (None, "", (), {})
    return key.kind.schema | ({"default": key.default} if told else {})


ENDPOINT: Table = {
    "name": Key(TEXT, required=True),
    "base_url": Key(URL, required=True),
    "headers": Key(HEADERS, {}),
    "api_key_env": Key(TEXT, ""),
    "proxy": Key(PROXY, ""),
}
PRICE: Table = {
    "input": Key(RATE, required=True),
    "output": Key(RATE, required=True),
    "cache_read": Key(RATE),
    "cache_write": Key(RATE),
}
AUTH: Table = {"token_url": Key(URL, TOKEN_URL), "client_id": Key(TEXT, CLIENT_ID), "hosts": Key(LIST, ())}
TIMEOUTS: Table = {field.name: Key(SECONDS, field.default) for field in fields(Timeouts)}
