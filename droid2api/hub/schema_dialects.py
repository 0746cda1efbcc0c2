"""What each dialect takes of JSON Schema: a step that makes one node fit, and how a root is made an object.

A step gets a sound node of its own and gives it back changed; its subschemas are walked afterwards.
"""

import re
from typing import TypeAlias

import orjson

from droid2api.hub.schema_walk import MOST_LEVELS, Walk, is_a, is_plain, is_sound, join, today
from droid2api.wire.fields import Json, inner

STRICT = frozenset(
    "type properties required additionalProperties items anyOf enum const $ref $defs definitions description title "
    "pattern format multipleOf minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems".split()
)
"""https://developers.openai.com/api/docs/guides/structured-outputs#supported-schemas"""
STRICT_FORMATS = frozenset("date-time time date duration email hostname ipv4 ipv6 uuid".split())

_OUTPUT = frozenset("type enum const anyOf allOf description title $defs definitions $ref".split())
_OUTPUT_OF = {
    "object": frozenset("properties required additionalProperties".split()),
    "array": frozenset("items minItems".split()),
    "string": frozenset(["format"]),
}
_OUTPUT_FORMATS = STRICT_FORMATS | {"uri"}
_BESIDE_REF = frozenset("$ref $defs definitions description title".split())
_SCALARS = ("string", "number", "boolean", "null")

_GEMINI = frozenset(
    "type format title description nullable enum items properties required propertyOrdering minItems maxItems "
    "minLength maxLength minimum maximum pattern minProperties maxProperties anyOf default example".split()
)
_GEMINI_FORMATS = frozenset("enum date-time int32 int64 float double".split())


def looks_around(pattern: str) -> bool:
    """Whether a regular expression has lookahead or lookbehind, which constrained decoding cannot follow."""
    return re.search(r"(?<!\\)(?:\\\\)*\(\?(?:=|!|<=|<!)", pattern) is not None


def to_openai(walk: Walk, node: Json, path: str) -> Json:
    """OpenAI's non-strict functions: an object has `properties`, an array `items`."""
    if is_a(node, "object"):
        node.setdefault("properties", {})
    if is_a(node, "array") and "prefixItems" not in node:
        node.setdefault("items", {})
    if looks_around(node.get("pattern") or ""):
        walk.say(node, path, ["pattern"])
    return node


def to_strict(walk: Walk, node: Json, path: str) -> Json:
    """What can be had under `strict: true` without asking for another thing; `obeys_strict` tells whether it is enough.

    Objects are closed as OpenAI's own helper does it, but for maps (no `properties`), which would become empty.
    Optional properties stay optional.
    """
    while type(node.get("allOf")) is list and len(node["allOf"]) == 1 and type(node["allOf"][0]) is dict:
        only = walk.sound(node.pop("allOf")[0], f"{path}.allOf[0]")
        walk.repair(path, "allOf")
        node = only | node
    _rename_one_of(walk, node, path)
    _say_null_in_type(walk, node, path)
    if is_a(node, "object") and (not path or "properties" in node):
        node.setdefault("properties", {})
        node.setdefault("additionalProperties", False)
    unfit = [key for key in node if key not in STRICT]
    unfit += ["format"] * (node.get("format") not in (None, *STRICT_FORMATS))
    unfit += ["pattern"] * looks_around(node.get("pattern") or "")
    walk.say(node, path, unfit)
    return _with_ref_in_union(walk, node, path)


def to_output(walk: Walk, node: Json, path: str) -> Json:
    """Claude's structured output and strict tools, as `transform_schema` of Anthropic's own SDK has it."""
    if "$ref" in node:
        walk.say(node, path, [key for key in node if key not in _BESIDE_REF])
        return _with_ref_in_union(walk, node, path)
    _without_booleans(walk, node, path)
    _rename_one_of(walk, node, path)
    _say_null_in_type(walk, node, path)
    unfit = ["enum"] * (not all(map(is_plain, node.get("enum") or ()))) + ["const"] * (not is_plain(node.get("const")))
    walk.say(node, path, unfit)
    node = _with_one_type(walk, node, path)
    if node.get("type") == "object":
        node.setdefault("properties", {})
        if node.get("additionalProperties", False) is not False:
            walk.repair(path, "additionalProperties")
        node["additionalProperties"] = False
    known = _OUTPUT | _OUTPUT_OF.get(str(node.get("type")), frozenset())
    unfit = [key for key in node if key not in known]
    unfit += ["format"] * ("format" in known & node.keys() and node["format"] not in _OUTPUT_FORMATS)
    unfit += ["minItems"] * ("minItems" in known & node.keys() and node["minItems"] > 1)
    unfit += ["allOf"] * (node.keys() >= {"anyOf", "allOf"})
    walk.say(node, path, unfit)
    return node


def _with_one_type(walk: Walk, node: Json, path: str) -> Json:
    """A list of types as a union, and a type for a node that has none: every node of an output must have one."""
    union = node.keys() & {"enum", "const", "anyOf", "allOf"}
    given = node.get("type")
    if type(given) is list:
        walk.repair(path, "type")
        del node["type"]
        if union:
            return node
        shared = {key: node.pop(key) for key in ("description", "title", "$defs", "definitions") if key in node}
        return shared | {"anyOf": [_only_for(type_, node) for type_ in given]}
    if given or union:
        return node
    if node.keys() & {"properties", "additionalProperties", "required"} or not path:
        node["type"] = "object"
    elif "items" in node or "prefixItems" in node:
        node["type"] = "array"
    else:
        node["anyOf"] = [{"type": type_} for type_ in _SCALARS]
    walk.repair(path, "type")
    return node


_WORDS_OF = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"),
    "string": ("format", "pattern", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


def _only_for(type_: str, node: Json) -> Json:
    """The keywords of a node that say something of values of one type."""
    words = _WORDS_OF.get("number" if type_ == "integer" else type_, ())
    return {"type": type_} | {key: node[key] for key in words if key in node}


def _rename_one_of(walk: Walk, node: Json, path: str) -> None:
    if "oneOf" in node and "anyOf" not in node:
        node["anyOf"] = node.pop("oneOf")
        walk.repair(path, "oneOf")


def _say_null_in_type(walk: Walk, node: Json, path: str) -> None:
    """OpenAPI's `nullable` as JSON Schema has it."""
    if "nullable" in node and ("type" in node or not node["nullable"]):
        if node.pop("nullable") and not is_a(node, "null"):
            given = node["type"]
            node["type"] = [*(given if type(given) is list else [given]), "null"]
            if None not in node.get("enum", [None]):
                node["enum"] = [*node["enum"], None]
        walk.repair(path, "nullable")


def _with_ref_in_union(walk: Walk, node: Json, path: str) -> Json:
    """Nothing may stand beside `$ref`, but it may beside `anyOf`."""
    if node.keys() - {"$ref", "$defs", "definitions"}:
        ref = node.pop("$ref", None)
        if ref is not None and "anyOf" not in node:
            node["anyOf"] = [{"$ref": ref}]
        if ref is not None:
            walk.repair(path, "$ref")
    return node


def _without_booleans(walk: Walk, node: Json, path: str) -> None:
    """`true` as a schema of anything; what `false` forbids is left out."""
    if "properties" in node:
        named = node["properties"]
        node["properties"] = {name: _opened(schema) for name, schema in named.items() if schema is not False}
        walk.repaired += [join(join(path, "properties"), name) for name, schema in named.items() if schema is False]
        if "required" in node:
            node["required"] = [name for name in node["required"] if named.get(name) is not False]
    if type(node.get("items")) is bool:
        node["items"] = {}
        walk.repair(path, "items")
    for key in ("anyOf", "oneOf", "allOf"):
        if key in node:
            node[key] = [_opened(schema) for schema in node[key] if schema is not False]
            if not node[key]:
                del node[key]
                walk.repair(path, key)


def _opened(schema: object) -> object:
    return {} if schema is True else schema


# -- a root that is an object ---------------------------------------------------------------------------------------


def object_root(walk: Walk, must: bool) -> Json:
    """The root as an object with properties: a reference there is resolved, a union or intersection merged.

    Of a union a property is required that all members require, and the description keeps what else it said. A root of
    another type is left to the service, unless it `must` be an object.
    """
    node, seen = walk.sound(walk.root, ""), set()
    while "$ref" in node:
        ref = node.pop("$ref")
        walk.repair("$ref")
        if (target := walk.resolved(ref)) is not None and ref not in seen:
            node = walk.sound(target, "") | node
        seen.add(ref)
    given = node.get("type")
    unions = [key for key in ("allOf", "anyOf", "oneOf") if key in node]
    gathered = {key: _gather(walk, node, key, seen, 0) for key in unions}
    members = [member for key in unions for member in node[key]]
    other = given or (members and "allOf" not in node and all(map(_is_other, members)))
    if not must and not is_a(node, "object") and other:
        return node
    if node.pop("nullable", None) is not None:
        walk.repair("nullable")
    for key, (named, required) in gathered.items():
        if key == "allOf":
            walk.repair(key)
            del node[key]
        else:
            walk.say(node, "", [key])
        joined = {name: _joined(schemas, "allOf" if key == "allOf" else "anyOf") for name, schemas in named.items()}
        node["properties"] = joined | node.get("properties", {})
        if required:
            node["required"] = list(dict.fromkeys([*node.get("required", ()), *(n for n in joined if n in required)]))
    if given not in (None, "object"):
        walk.repair("type")
    return {"type": "object"} | node | {"type": "object", "properties": node.get("properties", {})}


def _is_other(schema: object) -> bool:
    """Whether a schema says itself that it is of no object."""
    given = today(schema, "type", schema.get("type"))[1] if type(schema) is dict else None
    return is_sound("type", given) and not is_a({"type": given}, "object")


_Gathered: TypeAlias = tuple[dict[str, list[object]], set[str]]


def _gather(walk: Walk, node: Json, key: str, seen: set[str], level: int) -> _Gathered:
    """The properties of all members of a union or intersection, and those it requires. A definition counts once."""
    named: dict[str, list[object]] = {}
    required: list[set[str]] = []
    for member in node[key] if type(node[key]) is list else ():
        while type(member) is dict and type(ref := member.get("$ref")) is str:
            member = None if ref in seen else walk.resolved(ref)
            seen.add(ref)
        if type(member) is not dict or level > MOST_LEVELS:
            continue
        wanted = member.get("required")
        wanted = {name for name in wanted if type(name) is str} if type(wanted) is list else set()
        parts = [(name, [schema]) for name, schema in inner(member, "properties").items()]
        for union in ("allOf", "anyOf", "oneOf"):
            if union in member:
                more, also = _gather(walk, member, union, seen, level + 1)
                parts += more.items()
                wanted |= also
        for name, schemas in parts:
            named.setdefault(name, []).extend(schemas)
        if not _is_other(member):
            required.append(wanted)
    if not required:
        return named, set()
    return named, set.union(*required) if key == "allOf" else set.intersection(*required)


def _joined(schemas: list[object], key: str) -> object:
    different = list({orjson.dumps(schema): schema for schema in schemas}.values())
    return different[0] if len(different) == 1 else {key: different}


# -- Gemini ----------------------------------------------------------------------------------------------------------


def to_gemini(walk: Walk, node: Json, path: str) -> Json:
    """The OpenAPI subset of `parameters` and `responseSchema`: no references, no unions but `anyOf`, one type each."""
    only: Json | None = node
    node = {}
    while only is not None:  # a union of one becomes that one, which may be a reference or a union itself
        node = _merged(walk, walk.sound(only, path) | node, path, 0)
        _without_booleans(walk, node, path)
        _rename_one_of(walk, node, path)
        _fit_types(walk, node, path)
        only = _pop_only_member(walk, node, path)
    _fit_values(walk, node, path)
    _fit_items(walk, node, path)
    unfit = [key for key in node if key not in _GEMINI]
    if type(node.get("additionalProperties")) is bool:
        unfit.remove("additionalProperties")
        del node["additionalProperties"]
        walk.repair(path, "additionalProperties")
    unfit += ["format"] * (node.get("format") not in (None, *_GEMINI_FORMATS))
    walk.say(node, path, unfit)
    return node


def _inlined(walk: Walk, node: Json, path: str) -> Json:
    """A node with the definition that it refers to in it. One without an end is an object of any kind."""
    while "$ref" in node:
        ref = node.pop("$ref")
        target = walk.inline(ref)
        if target is None:
            walk.repair(path, "$ref")
            node.setdefault("type", "object")
        else:
            node = walk.sound(target, path) | node
    node.pop("$defs", None)
    node.pop("definitions", None)
    return node


def _merged(walk: Walk, node: Json, path: str, level: int) -> Json:
    """A node with what it refers to and the members of its `allOf` in it; what stands beside them wins."""
    node = _inlined(walk, node, path)
    if "allOf" not in node:
        return node
    walk.repair(path, "allOf")
    merged: Json = {}
    named: Json = {}
    required: dict[str, None] = {}
    for member in [*node.pop("allOf"), node]:
        if type(member) is not dict or level > MOST_LEVELS or walk.is_open(member.get("$ref")):
            continue  # a definition that is open is merged already
        if member is not node:
            member = _merged(walk, walk.sound(member, path), path, level + 1)
        named.update(member.get("properties", {}))
        required.update(dict.fromkeys(member.get("required", ())))
        merged |= member
    if "properties" in merged:
        merged["properties"] = named
    if "required" in merged:
        merged["required"] = list(required)
    return merged


def _fit_types(walk: Walk, node: Json, path: str) -> None:
    given = node.get("type")
    if type(given) is not list:
        return
    walk.repair(path, "type")
    del node["type"]
    if "null" in given:
        node["nullable"] = True
    others = [type_ for type_ in given if type_ != "null"]
    if len(others) == 1:
        node["type"] = others[0]
    elif "anyOf" not in node:
        node["anyOf"] = [_only_for(type_, node) for type_ in others]
        for key in {key for words in _WORDS_OF.values() for key in words} & node.keys():
            del node[key]


def _pop_only_member(walk: Walk, node: Json, path: str) -> Json | None:
    """Says null in a union as `nullable`, and takes a union's only member out of the node."""
    if "anyOf" not in node:
        return None
    members = [member for member in node["anyOf"] if not _is_null(member)]
    if len(members) < len(node["anyOf"]):
        node["nullable"] = True
        walk.repair(path, "anyOf")
    node["anyOf"] = members
    if len(members) > 1:
        return None
    del node["anyOf"]
    only = members[0] if members else None
    return only if type(only) is dict else None


def _is_null(schema: object) -> bool:
    return type(schema) is dict and today(schema, "type", schema.get("type"))[1] == "null"


def _fit_values(walk: Walk, node: Json, path: str) -> None:
    """Enums of strings only, `const` as an enum, exclusive bounds as bounds."""
    if "const" in node and "enum" not in node:
        node["enum"] = [node.pop("const")]
        walk.repair(path, "const")
    if values := node.get("enum"):
        kept = [value for value in values if value is not None and value != ""]
        if None in values:
            node["nullable"] = True
        if not all(type(value) is str for value in kept):
            node.setdefault("type", _type_of(kept[0]))
            walk.say(node, path, ["enum"])
        elif kept != values:
            walk.repair(path, "enum")
            del node["enum"]
        if all(type(value) is str for value in kept) and kept:
            node |= {"enum": kept, "type": "string"}
    for key, bound, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        if key in node:
            value = node.pop(key)
            whole = node.get("type") == "integer" and type(value) is int
            node.setdefault(bound, value + step if whole else value)
            walk.repair(path, key)


def _type_of(value: object) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "string")


def _fit_items(walk: Walk, node: Json, path: str) -> None:
    """Tuples as lists of any of their members, and only properties that there are."""
    if "prefixItems" in node:
        members = [_opened(member) for member in node.pop("prefixItems") if member is not False]
        walk.repair(path, "prefixItems")
        node.setdefault("minItems", len(members))
        if "items" not in node:
            node.setdefault("maxItems", len(members))
            node["items"] = _joined(members, "anyOf") if members else {}
    if node.get("type") == "array":
        node.setdefault("items", {})
    for key in ("required", "propertyOrdering"):
        if key in node:
            known = [name for name in node[key] if name in node.get("properties", {})]
            if known != node[key]:
                walk.repair(path, key)
            node[key] = known
            if not known:
                del node[key]
