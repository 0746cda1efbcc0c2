"""Reads fields of JSON.

A client's: what is wrong is a RequestError that names the field. An upstream's: what an answer needs is a WireError
when it is missing or of another type, and what it can do without is overlooked.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar, cast

import orjson

from droid2api.errors import RequestError, WireError

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


def camel(name: str) -> str:
    """A name in snake_case as protobuf's JSON has it."""
    return re.sub(r"(?<=.)_([a-z0-9])", lambda found: found.group(1).upper(), name) if "_" in name else name


def merged(value: Json, patch: Mapping[str, Any]) -> Json:
    """A copy with a patch: objects are merged, null deletes, all else replaces (RFC 7396)."""
    result = dict(value)
    for name, item in patch.items():
        if item is None:
            result.pop(name, None)
        elif type(item) is dict:
            before = result.get(name)
            result[name] = merged(before if type(before) is dict else {}, item)
        else:
            result[name] = item
    return result


MOST_VALUES = 500_000
"""Brackets and commas that JSON may have: each makes an object in memory. A million tokens of code have fewer."""
TOO_MANY_VALUES = f"JSON with more than {MOST_VALUES} brackets and commas"


def count_values(content: bytes) -> int:
    """How many values JSON has at the most."""
    return content.count(b"{") + content.count(b"[") + content.count(b",")


def has_too_many_values(content: bytes) -> bool:
    """Whether it would take seconds and gigabytes to be read."""
    return len(content) > MOST_VALUES and count_values(content) > MOST_VALUES


def dump(value: object) -> bytes:
    """JSON. Raises RequestError for a client's value that is nested too deep to be written."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise RequestError(f"The body cannot be written as JSON: {error}.") from None


# -- an upstream's: what is needed ----------------------------------------------------------------------------------


def text(value: Json, name: str) -> str:
    """The text `value[name]`; null is empty. Raises WireError when it is absent or anything else."""
    found = value.get(name)
    if type(found) is str:
        return found
    if found is None and name in value:
        return ""
    raise WireError(f"an event whose {name} is no text")


def string(value: Json, name: str) -> str:
    """The text `value[name]`, "" when absent or null. Raises WireError when it is anything else."""
    found = value.get(name)
    if found is None:
        return ""
    if type(found) is not str:
        raise WireError(f"an event whose {name} is no text")
    return found


def member(value: Json, name: str) -> Json:
    """The object `value[name]`. Raises WireError when it is anything else."""
    found = value.get(name)
    if type(found) is not dict:
        raise WireError(f"an event whose {name} is no object")
    return found


def members(value: Json, name: str) -> list[Json]:
    """The objects of the list `value[name]`, none when absent or null. Raises WireError when it is anything else."""
    found = value.get(name)
    if found is None:
        return []
    for item in found if type(found) is list else [None]:
        if type(item) is not dict:
            raise WireError(f"an event whose {name} is no list of objects")
    return cast(list[Json], found)


def json_text(value: object) -> str:
    """Parsed JSON as text again. Raises WireError when it is nested too deeply to be written."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        raise WireError("JSON that is nested too deeply") from None


# -- an upstream's: what an answer can do without -------------------------------------------------------------------


def word(value: Json, name: str) -> str:
    """The word `value[name]`, a number as text, "" when it is anything else."""
    found = value.get(name)
    return found if type(found) is str else str(found) if type(found) is int else ""


def inner(value: Json, name: str) -> Json:
    """The object `value[name]`, an empty one when it is anything else."""
    found = value.get(name)
    return found if type(found) is dict else {}


def inners(value: Json, name: str) -> list[Json]:
    """The objects in the list `value[name]`, none when it is anything else."""
    found = value.get(name)
    return [item for item in found if type(item) is dict] if type(found) is list else []


def number(value: Json, name: str) -> int | None:
    """The whole number `value[name]`, also as text; None when it is anything else."""
    found = value.get(name)
    if type(found) is str and found.isascii() and found.isdigit() and len(found) < 10:
        return int(found)
    return found if type(found) is int else None


def count(value: Json, name: str) -> int:
    """The number `value[name]`, 0 when it is anything else, or none that could be a count."""
    found = value.get(name)
    return found if type(found) is int and 0 <= found < 1 << 63 else 0


MOST_LEVELS = 200
"""Levels of JSON that are handed back; orjson writes 254, and what is around the value needs some."""


def opaque(value: Json, name: str) -> Json:
    """The object `value[name]`, to be sent back as it is; an empty one when it is anything else, or too deep to be."""
    found = inner(value, name)
    return found if found and is_shallow(found) else {}


def is_shallow(value: object) -> bool:
    """Whether JSON has so few levels that it can be written inside of other JSON."""
    level: list[Any] = [value]
    for _ in range(MOST_LEVELS):
        level = [item for outer in level for item in (outer.values() if type(outer) is dict else outer)]
        level = [item for item in level if type(item) is dict or type(item) is list]
        if not level:
            return True
    return False
