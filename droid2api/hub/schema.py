"""JSON Schemas in the dialect that a service takes: one fitting step for each dialect.

What a dialect lacks is moved into the description, for the model to read, as Anthropic's own SDK does. Every repair is
named by its path in the schema, such as "properties.age.minimum".
"""

from functools import lru_cache
from typing import Any, Literal, TypeAlias

import orjson

from droid2api.hub import schema_dialects as dialects
from droid2api.hub.schema_walk import COUNTS, Step, Walk, is_a, is_sound, refuse_depth, with_subschemas
from droid2api.wire.fields import Json, camel

Dialect: TypeAlias = Literal["plain", "openai", "openai strict", "anthropic tools", "anthropic output", "gemini"]

_STEPS: dict[Dialect, Step] = {
    "openai": dialects.to_openai,
    "openai strict": dialects.to_strict,
    "anthropic tools": lambda walk, node, path: node,  # Claude takes all of JSON Schema below the root
    "anthropic output": dialects.to_output,
    "gemini": dialects.to_gemini,
}
_STRICT_LEVELS, _STRICT_PROPERTIES = 10, 5000
MOST_KEPT, LARGEST_KEPT = 256, 8192
"""Fitted schemas, and bytes of each as JSON: agents send the same tools again in each request."""
LONGEST_NUMBER = 15
"""Digits of a number that is written as text; longer ones fit into no JSON of others."""


def fit(schema: Json, dialect: Dialect, where: str = "schema") -> tuple[Json, list[str]]:
    """The schema in a dialect, and the paths of what was mended or moved into descriptions. "plain" changes nothing.

    The schema is not written to, and the fitted one must not be: others may have it too.
    Raises RequestError when it is nested too deep, with `where` as the field at fault.
    """
    if dialect == "plain":
        refuse_depth(schema, where)
        return schema, []
    try:
        text = orjson.dumps(schema)
    except TypeError:  # it is nested too deep, or has half a character
        return _fit(schema, dialect, where)
    return _fit(schema, dialect, where) if len(text) > LARGEST_KEPT else _fit_kept(text, dialect, where)


@lru_cache(MOST_KEPT)
def _fit_kept(text: bytes, dialect: Dialect, where: str) -> tuple[Json, list[str]]:
    return _fit(orjson.loads(text), dialect, where)


def _fit(schema: Json, dialect: Dialect, where: str) -> tuple[Json, list[str]]:
    refuse_depth(schema, where)
    walk = Walk(schema, _STEPS[dialect])
    root = schema
    if dialect in ("openai", "openai strict", "anthropic tools"):
        root = dialects.object_root(walk, must=dialect == "anthropic tools")
    return walk.node(root, ""), list(dict.fromkeys(walk.repaired))


def from_gemini(schema: Json, where: str) -> Json:
    """JSON Schema for a client's schema in Google's OpenAPI subset, or for what its clients send as JSON Schema: types
    in capitals, numbers as text, `nullable`, names in snake_case. Raises RequestError when it is nested too deep.
    """
    refuse_depth(schema, where)
    fitted: Json = _from_gemini(schema)
    return fitted


def _from_gemini(schema: Any) -> Any:
    if type(schema) is not dict:
        return schema
    node = {camel(name): value for name, value in schema.items() if camel(name) != "propertyOrdering"}
    kind, nullable = node.get("type"), node.pop("nullable", None)
    if type(kind) is str:
        node["type"] = [kind.lower(), "null"] if nullable is True else kind.lower()
    elif type(kind) is list:
        node["type"] = [each.lower() if type(each) is str else each for each in kind]
    if node.get("type") == "type_unspecified":
        del node["type"]
    for name in COUNTS & node.keys():
        if type(value := node[name]) is str and value.isdecimal() and len(value) <= LONGEST_NUMBER:
            node[name] = int(value)
    return with_subschemas(node, _from_gemini)


def obeys_strict(schema: Json) -> bool:
    """Whether OpenAI takes the schema with `strict: true`: closed objects, all properties required, all of it typed."""
    if schema.get("type") != "object" or "anyOf" in schema:
        return False
    waiting: list[tuple[object, int]] = [(schema, 1)]
    properties = 0
    while waiting:
        node, level = waiting.pop()
        if type(node) is not dict or level > _STRICT_LEVELS or not _is_strict(node):
            return False
        named = node.get("properties", {})
        properties += len(named)
        waiting += [(value, level + 1) for value in named.values()]
        waiting += [(value, level) for value in node.get("anyOf", ())]
        waiting += [(node["items"], level)] if "items" in node else []
        waiting += [(value, 1) for name in ("$defs", "definitions") for value in node.get(name, {}).values()]
    return properties <= _STRICT_PROPERTIES


def _is_strict(node: Json) -> bool:
    """Whether one node by itself obeys."""
    if not node.keys() <= dialects.STRICT or not all(is_sound(key, value) for key, value in node.items()):
        return False
    if "$ref" in node:
        return node.keys() <= {"$ref", "$defs", "definitions"}
    if not node.keys() & {"type", "anyOf", "enum", "const"}:
        return False
    if is_a(node, "object") or "properties" in node:
        if "properties" not in node or node.get("additionalProperties") is not False:
            return False
        if set(node.get("required", ())) != node["properties"].keys():
            return False
    if is_a(node, "array") and type(node.get("items")) is not dict:
        return False
    return node.get("format") in (None, *dialects.STRICT_FORMATS) and not dialects.looks_around(node.get("pattern", ""))
