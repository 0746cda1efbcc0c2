"""Reads fields of JSON: a client's, and says exactly which is wrong; an upstream's, and overlooks what is optional."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar, cast

import orjson

from droid2api.errors import RequestError

Json: TypeAlias = dict[str, Any]
T = TypeVar("T")

_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def wrong(where: str, expected: str, value: object) -> RequestError:
    found = _NAMES.get(type(value), type(value).__name__)
    return RequestError(f"{where}: must be {expected}, not {found}.", param=where)


def optional(body: Json, name: str, kind: type[T], where: str = "") -> T | None:
    """`body[name]`, None when absent or null. Raises RequestError when it is of another type."""
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise wrong(where + name, _NAMES[kind], value)
    return cast(T, value)


def required(body: Json, name: str, kind: type[T], where: str = "") -> T:
    value = optional(body, name, kind, where)
    if value is None:
        raise RequestError(f"{where}{name}: is required and must be {_NAMES[kind]}.", param=where + name)
    return value


def strings(body: Json, name: str) -> list[str]:
    """The strings of the list `body[name]`; null is an empty list."""
    value = optional(body, name, list) or []
    for index, item in enumerate(value):
        if type(item) is not str:
            raise wrong(f"{name}[{index}]", "a string", item)
    return value


def objects(value: object, where: str) -> list[tuple[str, Json]]:
    """The objects of a list, each with its own path; null is an empty list."""
    if value is None:
        return []
    if type(value) is not list:
        raise wrong(where, "a list", value)
    pairs = []
    for index, item in enumerate(value):
        path = f"{where}[{index}]"
        if type(item) is not dict:
            raise wrong(path, "an object", item)
        pairs.append((path, item))
    return pairs


def parse_arguments(arguments: str, where: str) -> Json:
    """A tool call's arguments as an object; an empty string is an empty object."""
    try:
        value = orjson.loads(arguments) if arguments.strip() else {}
    except orjson.JSONDecodeError:
        raise RequestError(f"{where}: the arguments are not valid JSON.", param=where) from None
    if type(value) is not dict:
        raise wrong(where, "a JSON object", value)
    return value


def dump(value: object) -> bytes:
    """JSON. Raises RequestError for a client's value that is nested too deep to be written."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise RequestError(f"The body cannot be written as JSON: {error}.") from None


# -- an upstream's --------------------------------------------------------------------------------------------------


def string(value: Json, name: str) -> str:
    """`value[name]`, "" when absent or null. Raises TypeError when it is no string."""
    found = value.get(name) or ""
    if type(found) is not str:
        raise TypeError(f"{name} is no string")
    return found


def inner(value: Json, name: str) -> Json:
    """The object `value[name]`, an empty one when it is anything else: for what an answer can do without."""
    found = value.get(name)
    return found if type(found) is dict else {}


def count(value: Json, name: str) -> int:
    """The number `value[name]`, 0 when it is anything else, or none that could be a count."""
    found = value.get(name)
    return found if type(found) is int and 0 <= found < 1 << 63 else 0
