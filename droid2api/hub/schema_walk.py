"""A walk through a JSON Schema: what is a schema in it, which values keywords may have, and how repairs are told.

Theory of operation: the walk builds a new schema from the root down. Each node is first made sound (a keyword whose
value cannot be, such as `type: null`, goes), then goes through the step of a dialect, then its subschemas are walked.
Only what JSON Schema says is a schema is walked: a property may be named "minimum", and the values of `default`,
`enum`, `const` and `examples` are data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import orjson

from droid2api.errors import RequestError
from droid2api.wire.fields import Json

MOST_LEVELS = 64
"""Deeper ones are refused: no tool needs them, and a walk must not run out of stack."""
MOST_INLINED = 10_000
"""Nodes that references may bring in where they must be resolved: definitions can double each time."""
MOST_COPIED = 500_000
"""Characters that references may bring in, and that their own names may have: a definition can be long."""
LONGEST_PATH = 200
"""Characters of a path, about: each node has its own, and properties may have names without end."""
MOST_SAID = 1000
"""Characters of a keyword's value in a description."""

TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_MAPS = frozenset("properties patternProperties $defs definitions dependentSchemas".split())
_LISTS = frozenset("anyOf oneOf allOf prefixItems".split())
_ONES = frozenset(
    "items additionalProperties not if then else contains propertyNames unevaluatedItems unevaluatedProperties "
    "additionalItems contentSchema".split()
)
_TEXTS = frozenset("description title pattern format $ref $schema $id $comment".split())
_NUMBERS = frozenset("minimum maximum exclusiveMinimum exclusiveMaximum multipleOf".split())
COUNTS = frozenset("minLength maxLength minItems maxItems minProperties maxProperties".split())
_UNSAID = frozenset("$schema $id $comment $anchor discriminator".split())
"""Keywords that say nothing to a model: a dialect that lacks them loses nothing."""


def refuse_depth(schema: object, where: str) -> None:
    """Raises RequestError when lists and objects are nested more than MOST_LEVELS deep."""
    waiting = [(schema, 1)]
    while waiting:
        value, level = waiting.pop()
        inner: Iterable[object] = value.values() if type(value) is dict else value if type(value) is list else ()
        if level > MOST_LEVELS and type(value) in (dict, list):
            raise RequestError(f"{where}: is nested more than {MOST_LEVELS} levels deep.", param=where)
        waiting += [(item, level + 1) for item in inner if type(item) in (dict, list)]


def is_sound(key: str, value: Any) -> bool:
    """Whether a keyword may have this value; data and unknown keywords may have any."""
    kind = type(value)
    if key in _MAPS:
        return kind is dict
    if key in _LISTS or key == "enum":
        return kind is list and bool(value)
    if key in _ONES:
        return kind in (dict, bool)
    if key in _TEXTS:
        return kind is str
    if key in _NUMBERS:
        return kind in (int, float)
    if key in COUNTS:
        return kind is int and value >= 0
    if key in ("required", "propertyOrdering"):
        return kind is list and all(type(item) is str for item in value)
    if key == "type":
        return value in TYPES if kind is str else kind is list and bool(value) and all(item in TYPES for item in value)
    return kind is bool if key in ("nullable", "uniqueItems") else True


def with_subschemas(node: Json, change: Callable[[Any], Any]) -> Json:
    """A node, whatever is wrong with it, with its subschemas changed."""
    changed = dict(node)
    for key, value in node.items():
        if key in _MAPS and type(value) is dict:
            changed[key] = {name: change(each) for name, each in value.items()}
        elif key in _LISTS and type(value) is list:
            changed[key] = [change(each) for each in value]
        elif key in _ONES:
            changed[key] = change(value)
    return changed


def is_a(node: Json, type_: str) -> bool:
    given = node.get("type")
    return given == type_ or (type(given) is list and type_ in given)


def is_plain(value: object) -> bool:
    """Neither a list nor an object."""
    return type(value) not in (dict, list)


def join(path: str, key: str) -> str:
    if len(path) > LONGEST_PATH:
        return path
    return f"{path}.{key[:LONGEST_PATH]}" if path else key[:LONGEST_PATH]


class Walk:
    """One walk through one schema, with the step of a dialect."""

    def __init__(self, root: Json, step: Step) -> None:
        self.root = root
        self.repaired: list[str] = []
        self._step = step
        self._open: dict[str, None] = {}
        """References that are being resolved, the outermost first."""
        self._level = 0
        self._inlined = 0
        self._copied = 0

    def node(self, schema: Json, path: str) -> Json:
        opened = len(self._open)
        self._level += 1
        self._inlined += opened > 0
        node = self._step(self, self.sound(schema, path), path)
        for key, value in node.items():
            where = join(path, key)
            if key in _MAPS:
                node[key] = {name: self._schema(inner, join(where, name)) for name, inner in value.items()}
            elif key in _LISTS:
                node[key] = [self._schema(inner, f"{where}[{index}]") for index, inner in enumerate(value)]
            elif key in _ONES:
                node[key] = self._schema(value, where)
        self._level -= 1
        while len(self._open) > opened:
            self._open.popitem()
        return node

    def _schema(self, schema: object, path: str) -> object:
        if type(schema) is dict:
            return self.node(schema, path)
        if type(schema) is bool:
            return schema
        self.repair(path)
        return self.node({}, path)

    def repair(self, path: str, key: str = "") -> None:
        self.repaired.append(join(path, key) if key else path)

    def sound(self, schema: Json, path: str) -> Json:
        """The node without keywords of impossible values, and with those of older drafts as they are written today."""
        node: Json = {}
        for key, value in schema.items():
            name, mended = today(schema, key, value)
            same = name == key and type(mended) is type(value) and mended == value
            if not same or not is_sound(name, mended):
                self.repair(path, key)
            if is_sound(name, mended):
                node[name] = mended
        return node

    def say(self, node: Json, path: str, keys: Iterable[str]) -> None:
        """Move keywords into the description, for the model to read."""
        said = []
        for key in list(keys):
            value = node.pop(key)
            if key not in _UNSAID:
                self.repair(path, key)
                text = value if type(value) is str else orjson.dumps(value).decode()
                said.append(f"{key}: {text if len(text) <= MOST_SAID else text[:MOST_SAID] + '...'}")
        if said:
            text = "{" + ", ".join(said) + "}"
            node["description"] = f"{node['description']}\n\n{text}" if node.get("description") else text

    def resolved(self, ref: str) -> Json | None:
        """The definition that a reference names; None where it is not in this schema."""
        found: object = self.root if ref.startswith("#") else None
        for key in ref[1:].split("/")[1:]:
            found = found.get(key.replace("~1", "/").replace("~0", "~")) if type(found) is dict else None
        return found if type(found) is dict else None

    def is_open(self, ref: object) -> bool:
        return type(ref) is str and ref in self._open

    def inline(self, ref: str) -> Json | None:
        """The definition to put in a reference's place; None where it is not in this schema or would have no end."""
        self._copied += len(ref)
        target = self.resolved(ref) if self._copied <= MOST_COPIED else None
        if target is None or ref in self._open or self._level > MOST_LEVELS or self._inlined > MOST_INLINED:
            return None
        self._copied += len(orjson.dumps(target))
        if self._copied > MOST_COPIED:
            return None
        self._open[ref] = None
        self._inlined += 1
        return target


Step: TypeAlias = Callable[[Walk, Json, str], Json]


def today(schema: Json, key: str, value: Any) -> tuple[str, Any]:
    """A keyword as the draft of today has it: types in small letters, tuples in `prefixItems`, exclusive bounds."""
    if key == "type" and type(value) is str:
        return key, value.lower()
    if key == "type" and type(value) is list:
        known = list(dict.fromkeys(item.lower() for item in value if type(item) is str and item.lower() in TYPES))
        return key, known[0] if len(known) == 1 else known
    if key == "items" and type(value) is list and value and "prefixItems" not in schema:
        return "prefixItems", value
    if key in ("exclusiveMinimum", "exclusiveMaximum") and value is True:
        return key, schema.get("minimum" if key == "exclusiveMinimum" else "maximum")
    return key, value
