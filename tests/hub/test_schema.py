"""Schemas before and after, for each dialect; and what holds for any schema, sound or not."""

import copy
from functools import partial
from typing import Literal

import orjson
import pydantic
import pytest
from anthropic.lib._parse._transform import transform_schema
from hypothesis import given
from hypothesis import strategies as st
from openai.lib._pydantic import to_strict_json_schema

from droid2api.errors import RequestError
from droid2api.hub.schema import Dialect, fit, obeys_strict
from droid2api.hub.schema_dialects import looks_around
from tests.timing import assert_linear, assert_quick

DIALECTS = ("openai", "openai strict", "anthropic tools", "anthropic output", "gemini")
TEXT, NUMBER, ANY = {"type": "string"}, {"type": "integer"}, {}


def obj(properties=None, *required, **more):
    given = {"type": "object", "properties": {} if properties is None else properties}
    return given | ({"required": list(required)} if required else {}) | more


def closed(properties=None, *required, **more):
    return obj(properties, *required, **more, additionalProperties=False)


SCALARS = {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]}
NODE = {"$ref": "#/$defs/node"}
TREE = {"$defs": {"node": obj({"next": NODE, "name": TEXT}, "name")}}

# -- before, after, what is named as repaired --------------------------------------------------------------------------

EVERYWHERE = {
    "types that are null or unknown": (
        obj({"a": {"type": None}, "b": {"type": "any", "description": "b"}}),
        obj({"a": {}, "b": {"description": "b"}}),
        ["properties.a.type", "properties.b.type"],
    ),
    "types in capitals": (
        {"type": "OBJECT", "properties": {"a": {"type": "STRING"}, "b": {"type": ["Integer", "NULL"]}}},
        obj({"a": TEXT, "b": {"type": ["integer", "null"]}}),
        ["type", "properties.a.type", "properties.b.type"],
    ),
    "properties that are null": ({"type": "object", "properties": None}, obj(), ["properties"]),
    "required that is no list": (
        obj({"a": {"type": "string", "required": True}}, required=None),
        obj({"a": TEXT}),
        ["required", "properties.a.required"],
    ),
    "a tuple and bounds of older drafts": (
        obj({"a": {"type": "array", "items": [TEXT]}, "b": {"type": "number", "minimum": 1, "exclusiveMinimum": True}}),
        obj(
            {
                "a": {"type": "array", "prefixItems": [TEXT]},
                "b": {"type": "number", "minimum": 1, "exclusiveMinimum": 1},
            }
        ),
        ["properties.a.items", "properties.b.exclusiveMinimum"],
    ),
    "a schema that is none": (
        obj({"a": None, "b": "string"}),
        obj({"a": {}, "b": {}}),
        ["properties.a", "properties.b"],
    ),
    "no schema at all": ({}, obj(), []),
    "data that looks like schemas": (
        obj(
            {"type": TEXT, "properties": {"default": {"type": None, "properties": None}, "examples": [{"type": None}]}}
        ),
        obj(
            {"type": TEXT, "properties": {"default": {"type": None, "properties": None}, "examples": [{"type": None}]}}
        ),
        [],
    ),
    "properties named like keywords": (
        obj({"minimum": TEXT, "required": NUMBER, "$ref": TEXT, "anyOf": {"type": "boolean"}}),
        obj({"minimum": TEXT, "required": NUMBER, "$ref": TEXT, "anyOf": {"type": "boolean"}}),
        [],
    ),
}
ROOTS = {
    "a root that says no type": ({"properties": {"a": TEXT}}, obj({"a": TEXT}), []),
    "a root that may be null": ({"type": ["object", "null"], "properties": {"a": TEXT}}, obj({"a": TEXT}), ["type"]),
    "one of two sets of properties": (
        obj({"a": TEXT, "b": TEXT}, anyOf=[{"required": ["a"]}, {"required": ["b"]}]),
        obj({"a": TEXT, "b": TEXT}, description='{anyOf: [{"required":["a"]},{"required":["b"]}]}'),
        ["anyOf"],
    ),
    "a union of objects": (
        {
            "description": "Search.",
            "oneOf": [
                obj({"kind": {"const": "id"}, "id": NUMBER}, "kind", "id"),
                obj({"kind": {"const": "name"}, "name": TEXT}, "kind", "name"),
            ],
        },
        obj(
            {"kind": {"anyOf": [{"const": "id"}, {"const": "name"}]}, "id": NUMBER, "name": TEXT},
            "kind",
            description='Search.\n\n{oneOf: [{"type":"object","properties":{"kind":{"const":"id"},'
            '"id":{"type":"integer"}},'
            '"required":["kind","id"]},{"type":"object","properties":{"kind":{"const":"name"},"name":{"type":"string"}},'
            '"required":["kind","name"]}]}',
        ),
        ["oneOf"],
    ),
    "an intersection": (
        {"allOf": [obj({"a": TEXT}, "a"), {"$ref": "#/$defs/b"}], "$defs": {"b": obj({"b": NUMBER}, "b")}},
        obj({"a": TEXT, "b": NUMBER}, "a", "b") | {"$defs": {"b": obj({"b": NUMBER}, "b")}},
        ["allOf"],
    ),
    "what only some members require is not required": (
        {"anyOf": [obj({"a": TEXT}, "a"), obj({"b": TEXT}), {"type": "null"}]},
        obj(
            {"a": TEXT, "b": TEXT},
            description='{anyOf: [{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]},'
            '{"type":"object","properties":{"b":{"type":"string"}}},{"type":"null"}]}',
        ),
        ["anyOf"],
    ),
    "a reference at the root": (NODE | TREE, TREE["$defs"]["node"] | TREE, ["$ref"]),
    "a reference to itself at the root": ({"$ref": "#"}, obj(), ["$ref"]),
}
OPENAI = {
    "objects without properties, arrays without items": (
        {"type": "object", "properties": {"a": {"type": "object"}, "b": {"type": ["array", "null"]}}},
        obj({"a": obj(), "b": {"type": ["array", "null"], "items": {}}}),
        [],
    ),
    "lookaround": (
        obj({"a": {"type": "string", "pattern": "^(?!x).*$", "description": "A."}, "b": {"pattern": r"\(?=a"}}),
        obj({"a": {"type": "string", "description": "A.\n\n{pattern: ^(?!x).*$}"}, "b": {"pattern": r"\(?=a"}}),
        ["properties.a.pattern"],
    ),
    "a root of another type is the service's to refuse": ({"type": "array", "items": TEXT},) * 2 + ([],),
    "a union of texts too": ({"anyOf": [TEXT, NUMBER]},) * 2 + ([],),
    "what it knows stays": (
        obj({"a": {"type": "integer", "minimum": 0, "default": 1}, "b": NODE | {"description": "b"}}, "a") | TREE,
        obj({"a": {"type": "integer", "minimum": 0, "default": 1}, "b": NODE | {"description": "b"}}, "a") | TREE,
        [],
    ),
}
STRICT = {
    "objects are closed, maps are not": (
        obj({"a": obj({"b": TEXT}, "b"), "c": {"type": "object", "additionalProperties": TEXT}}, "a", "c"),
        closed({"a": closed({"b": TEXT}, "b"), "c": {"type": "object", "additionalProperties": TEXT}}, "a", "c"),
        [],
    ),
    "what strict mode lacks": (
        closed({"a": {"type": "string", "minLength": 1, "default": "x", "format": "uri", "pattern": "(?=x)"}}, "a"),
        closed(
            {"a": {"type": "string", "description": "{minLength: 1, default: x, format: uri, pattern: (?=x)}"}}, "a"
        ),
        [f"properties.a.{key}" for key in ("minLength", "default", "format", "pattern")],
    ),
    "unions, references with neighbours, an intersection of one": (
        closed(
            {"a": {"oneOf": [TEXT, NUMBER]}, "b": NODE | {"description": "b"}, "c": {"allOf": [TEXT]}}, "a", "b", "c"
        ),
        closed({"a": {"anyOf": [TEXT, NUMBER]}, "b": {"description": "b", "anyOf": [NODE]}, "c": TEXT}, "a", "b", "c"),
        ["properties.a.oneOf", "properties.b.$ref", "properties.c.allOf"],
    ),
    "nullable of OpenAPI": (
        closed({"a": {"type": "string", "nullable": True, "enum": ["x"]}}, "a"),
        closed({"a": {"type": ["string", "null"], "enum": ["x", None]}}, "a"),
        ["properties.a.nullable"],
    ),
    "names of the schema itself": ({"$schema": "http://json-schema.org/draft-07/schema#", "$id": "x"}, closed(), []),
}
TOOLS = {
    "all of JSON Schema below the root": (
        obj({"a": {"anyOf": [TEXT, {"type": "object"}]}, "b": {"type": "array", "uniqueItems": True}, "c": NODE})
        | TREE,
        obj({"a": {"anyOf": [TEXT, {"type": "object"}]}, "b": {"type": "array", "uniqueItems": True}, "c": NODE})
        | TREE,
        [],
    ),
    "a tool's parameters are an object": ({"type": "string"}, obj(), ["type"]),
}
OUTPUT = {
    "bounds are said, objects closed": (
        obj({"age": {"type": "integer", "minimum": 0, "maximum": 9, "description": "Years."}}, "age", title="Person"),
        closed(
            {"age": {"type": "integer", "description": "Years.\n\n{minimum: 0, maximum: 9}"}}, "age", title="Person"
        ),
        ["properties.age.minimum", "properties.age.maximum"],
    ),
    "a map cannot be": (
        obj({"m": {"type": "object", "additionalProperties": NUMBER}}),
        closed({"m": closed()}),
        ["properties.m.additionalProperties"],
    ),
    "formats, patterns and counts": (
        obj(
            {
                "a": {"type": "string", "format": "uri"},
                "b": {"type": "string", "format": "regex", "pattern": "x"},
                "c": {"type": "array", "items": TEXT, "minItems": 1},
                "d": {"type": "array", "items": TEXT, "minItems": 2, "uniqueItems": True},
            }
        ),
        closed(
            {
                "a": {"type": "string", "format": "uri"},
                "b": {"type": "string", "description": "{pattern: x, format: regex}"},
                "c": {"type": "array", "items": TEXT, "minItems": 1},
                "d": {"type": "array", "items": TEXT, "description": "{uniqueItems: true, minItems: 2}"},
            }
        ),
        ["properties.b.pattern", "properties.b.format", "properties.d.uniqueItems", "properties.d.minItems"],
    ),
    "several types": (
        obj({"a": {"type": ["string", "null"], "minLength": 1, "description": "A."}, "b": {"type": ["array", "null"]}}),
        closed(
            {
                "a": {
                    "description": "A.",
                    "anyOf": [{"type": "string", "description": "{minLength: 1}"}, {"type": "null"}],
                },
                "b": {"anyOf": [{"type": "array"}, {"type": "null"}]},
            }
        ),
        ["properties.a.type", "properties.a.anyOf[0].minLength", "properties.b.type"],
    ),
    "no type": (
        obj({"a": {"description": "A."}, "b": True, "c": False, "d": {"properties": {"e": {"const": 1}}}}, "b", "c"),
        closed(
            {"a": {"description": "A."} | SCALARS, "b": SCALARS, "d": closed({"e": {"const": 1}})},
            "b",
        ),
        ["properties.c", "properties.a.type", "properties.b.type", "properties.d.type"],
    ),
    "unions, enums, references": (
        obj({"a": {"oneOf": [TEXT, NUMBER]}, "b": {"enum": ["x", None]}, "c": NODE | {"description": "c"}}) | TREE,
        closed({"a": {"anyOf": [TEXT, NUMBER]}, "b": {"enum": ["x", None]}, "c": {"description": "c", "anyOf": [NODE]}})
        | {"$defs": {"node": closed({"next": NODE, "name": TEXT}, "name")}},
        ["properties.a.oneOf", "properties.c.$ref"],
    ),
    "an enum of objects": (
        obj({"a": {"type": "object", "enum": [{"x": 1}]}}),
        closed({"a": closed(description='{enum: [{"x":1}]}')}),
        ["properties.a.enum"],
    ),
}
GEMINI = {
    "references are resolved": (
        obj({"a": {"$ref": "#/definitions/x", "description": "a"}})
        | {"definitions": {"x": {"type": "string", "maxLength": 3}}},
        obj({"a": {"type": "string", "maxLength": 3, "description": "a"}}),
        [],
    ),
    "recursion ends": (
        NODE | TREE,
        obj({"next": {"type": "object"}, "name": TEXT}, "name"),
        ["properties.next.$ref"],
    ),
    "a reference that leads nowhere": (
        obj({"a": {"$ref": "#/$defs/gone"}, "b": {"$ref": "https://example.org/x"}}),
        obj({"a": {"type": "object"}, "b": {"type": "object"}}),
        ["properties.a.$ref", "properties.b.$ref"],
    ),
    "null": (
        obj({"a": {"type": ["string", "null"]}, "b": {"anyOf": [NUMBER, {"type": "null"}], "description": "b"}}),
        obj(
            {"a": {"type": "string", "nullable": True}, "b": {"type": "integer", "description": "b", "nullable": True}}
        ),
        ["properties.a.type", "properties.b.anyOf"],
    ),
    "several types as a union": (
        obj({"a": {"type": ["string", "integer"], "minimum": 1, "title": "A"}}),
        obj({"a": {"title": "A", "anyOf": [TEXT, {"type": "integer", "minimum": 1}]}}),
        ["properties.a.type"],
    ),
    "const, enums, exclusive bounds": (
        obj(
            {
                "a": {"const": "x"},
                "b": {"const": 1},
                "c": {"type": "integer", "enum": [1, 2]},
                "d": {"type": "string", "enum": ["", "x", None]},
                "e": {"type": "integer", "exclusiveMinimum": 0},
                "f": {"type": "number", "exclusiveMaximum": 1.5},
            }
        ),
        obj(
            {
                "a": {"enum": ["x"], "type": "string"},
                "b": {"type": "integer", "description": "{enum: [1]}"},
                "c": {"type": "integer", "description": "{enum: [1,2]}"},
                "d": {"type": "string", "enum": ["x"], "nullable": True},
                "e": {"type": "integer", "minimum": 1},
                "f": {"type": "number", "maximum": 1.5},
            }
        ),
        [
            "properties.a.const",
            "properties.b.const",
            "properties.b.enum",
            "properties.c.enum",
            "properties.d.enum",
            "properties.e.exclusiveMinimum",
            "properties.f.exclusiveMaximum",
        ],
    ),
    "intersections are merged, also of references": (
        {
            "allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}, obj({"b": TEXT}, "b")],
            "description": "Both.",
            "$defs": {"a": {"allOf": [obj({"a": NUMBER}, "a")]}},
        },
        obj({"a": NUMBER, "b": TEXT}, "a", "b", description="Both."),
        ["allOf"],
    ),
    "what the subset lacks": (
        obj(
            {"a": {"type": "string", "format": "email", "contentEncoding": "base64"}},
            "a",
            "b",
            additionalProperties=False,
        ),
        obj({"a": {"type": "string", "description": "{contentEncoding: base64, format: email}"}}, "a"),
        ["required", "additionalProperties", "properties.a.contentEncoding", "properties.a.format"],
    ),
    "a map is said": (
        obj({"m": {"type": "object", "additionalProperties": NUMBER}}),
        obj({"m": {"type": "object", "description": '{additionalProperties: {"type":"integer"}}'}}),
        ["properties.m.additionalProperties"],
    ),
    "tuples": (
        obj({"a": {"type": "array", "prefixItems": [TEXT, NUMBER, TEXT]}, "b": {"type": "array", "items": True}}),
        obj(
            {
                "a": {"type": "array", "minItems": 3, "maxItems": 3, "items": {"anyOf": [TEXT, NUMBER]}},
                "b": {"type": "array", "items": {}},
            }
        ),
        ["properties.a.prefixItems", "properties.b.items"],
    ),
}

TABLE = [
    *(pytest.param("openai", *row, id=f"openai: {name}") for name, row in (EVERYWHERE | ROOTS | OPENAI).items()),
    *(pytest.param("anthropic tools", *row, id=f"tools: {name}") for name, row in (EVERYWHERE | ROOTS | TOOLS).items()),
    *(pytest.param("openai strict", *row, id=f"strict: {name}") for name, row in STRICT.items()),
    *(pytest.param("anthropic output", *row, id=f"output: {name}") for name, row in OUTPUT.items()),
    *(pytest.param("gemini", *row, id=f"gemini: {name}") for name, row in GEMINI.items()),
]


@pytest.mark.parametrize(("dialect", "before", "after", "repaired"), TABLE)
def test_before_and_after(dialect, before, after, repaired):
    given = copy.deepcopy(before)
    fitted, named = fit(before, dialect)
    assert fitted == after
    assert sorted(named) == sorted(repaired)
    assert before == given
    assert fit(fitted, dialect) == (fitted, [])


def test_what_all_members_of_a_union_require_is_required():
    members = [obj({"a": TEXT}, "a"), obj({"a": NUMBER, "b": TEXT}, "a", "b"), {"type": "null"}]
    fitted, _ = fit({"anyOf": members}, "anthropic tools")
    assert fitted["required"] == ["a"]
    assert fitted["properties"] == {"a": {"anyOf": [TEXT, NUMBER]}, "b": TEXT}


@pytest.mark.parametrize(("length", "kept"), [(10, True), (8000, True), (9000, False)])
def test_small_ones_are_fitted_once(length, kept):
    """Agents send the same tools again in each request; what a client can make large is not kept."""
    first, again = (fit(obj({"a": {"type": "string", "pattern": "x" * length}}), "openai") for _ in range(2))
    assert first == again
    assert (first[0] is again[0]) == kept


@pytest.mark.parametrize("given", [True, 1, 1.0, "1"])
def test_what_is_kept_is_not_taken_for_what_is_alike(given):
    """Python's dictionaries hold True, 1 and 1.0 for one key."""
    fitted, _ = fit(obj({"a": {"enum": [given]}}), "openai")
    assert repr(fitted["properties"]["a"]["enum"]) == repr([given])


def test_plain_is_what_came_in():
    schema = {"type": None, "anyOf": [], "properties": {"a": False}}
    assert fit(schema, "plain") == (schema, [])


# -- strict mode -------------------------------------------------------------------------------------------------------

TYPED = closed({"a": TEXT, "b": {"type": ["integer", "null"]}, "c": {"type": "array", "items": TEXT}}, "a", "b", "c")


@pytest.mark.parametrize(
    "schema",
    [
        TYPED,
        closed(),
        closed({"t": NODE}, "t") | {"$defs": {"node": closed({"next": {"anyOf": [NODE, {"type": "null"}]}}, "next")}},
        closed({"a": {"enum": ["x", 1]}, "b": {"const": 1}, "c": {"type": "number", "minimum": 0}}, "a", "b", "c"),
        closed({"a": {"type": "string", "pattern": "^x$", "format": "date"}}, "a"),
    ],
)
def test_schemas_that_obey(schema):
    assert obeys_strict(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array", "items": TEXT},
        {"type": "object", "anyOf": [TYPED]},
        obj({"a": TEXT}, "a"),  # open
        closed({"a": TEXT}),  # optional
        closed({"a": obj({"b": TEXT}, "b")}, "a"),
        {"type": "object", "additionalProperties": False},
        closed({"a": {"type": "array"}}, "a"),
        closed({"a": {"type": "array", "items": {}}}, "a"),
        closed({"a": {"description": "anything"}}, "a"),
        closed({"a": {"type": "string", "minLength": 1}}, "a"),
        closed({"a": {"type": "string", "default": "x"}}, "a"),
        closed({"a": {"type": "string", "format": "uri"}}, "a"),
        closed({"a": {"type": "string", "pattern": "(?<=x)y"}}, "a"),
        closed({"a": {"oneOf": [TEXT]}}, "a"),
        closed({"a": {"allOf": [TEXT]}}, "a"),
        closed({"a": NODE | {"description": "a"}}, "a"),
        closed({"a": True}, "a"),
        closed({"a": {"type": None}}, "a"),
        closed({f"p{index}": TEXT for index in range(5001)}, *(f"p{index}" for index in range(5001))),
    ],
)
def test_schemas_that_do_not(schema):
    assert not obeys_strict(schema)


def test_ten_levels_obey_and_eleven_do_not():
    def nested(levels):
        schema = TEXT
        for _ in range(levels):
            schema = closed({"a": schema}, "a")
        return schema

    assert obeys_strict(nested(9))
    assert not obeys_strict(nested(10))


class Colour(pydantic.BaseModel):
    name: Literal["red", "blue"]
    shade: float | None


class Part(pydantic.BaseModel):
    name: str
    parts: list["Part"]


class Simple(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=1, description="Who.")
    tags: list[str] = pydantic.Field(min_length=1, max_length=3)
    rating: int = pydantic.Field(ge=0, le=5, default=3)
    colour: Colour


def test_what_openais_own_helper_makes_obeys():
    assert not obeys_strict(to_strict_json_schema(Simple))  # it leaves defaults in, which are refused
    assert obeys_strict(to_strict_json_schema(Colour))
    assert obeys_strict(fit(Colour.model_json_schema(), "openai strict")[0])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_recursion_survives_where_there_are_references(dialect):
    part = Part.model_json_schema()
    fitted, _ = fit(obj({"part": {"$ref": "#/$defs/Part"}}) | {"$defs": part["$defs"]}, dialect)
    assert ("$ref" in orjson.dumps(fitted).decode()) is (dialect != "gemini")


def test_claudes_output_is_as_anthropics_own_sdk_makes_it():
    for model in (Simple, Colour):
        ours, theirs = fit(model.model_json_schema(), "anthropic output")[0], transform_schema(model)

        def told(schema):
            """Theirs writes Python's True and says no type beside an enum; the order in a description is nothing."""
            if isinstance(schema, list):
                return [told(item) for item in schema]
            if not isinstance(schema, dict):
                return schema
            kept = {key: told(value) for key, value in schema.items() if not (key == "type" and "enum" in schema)}
            if isinstance(text := kept.get("description"), str):
                kept["description"] = sorted(text.replace("{", "").replace("}", "").replace("\n\n", ", ").split(", "))
            return kept

        assert told(ours) == told(theirs)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(?=a)", True),
        ("x(?!a)", True),
        ("(?<=a)", True),
        ("(?<!a)", True),
        (r"\\(?=a)", True),
        ("(?:a)", False),
        (r"\(?=a", False),
        ("(?P<n>a)", False),
        ("(?<n>a)", False),
        ("", False),
    ],
)
def test_lookaround(pattern, expected):
    assert looks_around(pattern) is expected


# -- any schema, and none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["plain", *DIALECTS])
@pytest.mark.parametrize(
    "wrap", [lambda inner: {"items": inner}, lambda inner: {"anyOf": [inner]}, lambda inner: [inner]]
)
def test_a_thousand_levels_are_refused(dialect, wrap):
    schema = {}
    for _ in range(1000):
        schema = {"default": [schema]} if wrap({}) == [{}] else wrap(schema)
    with pytest.raises(RequestError) as refused:
        fit(schema, dialect, "tools[0].parameters")
    assert (refused.value.status, refused.value.param) == (400, "tools[0].parameters")
    assert refused.value.message == "tools[0].parameters: is nested more than 64 levels deep."


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("key", ["items", "anyOf", "allOf", "properties", "not"])
def test_what_is_just_deep_enough_is_walked(dialect, key):
    schema, levels = TEXT, 62 if key in ("items", "not") else 31
    for _ in range(levels):
        schema = {key: {"a": schema} if key == "properties" else [schema] if key.endswith("Of") else schema}
    assert orjson.dumps(fit(schema, dialect)[0])


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("key", ["properties", "anyOf", "allOf"])
def test_definitions_that_double_and_chains_of_them_stay_small(dialect, key):
    def both(ref):
        return {key: {"a": ref, "b": ref} if key == "properties" else [ref, ref | {"title": "b"}]}

    doubling = {f"d{index}": both({"$ref": f"#/$defs/d{index + 1}"}) for index in range(60)} | {"d60": obj({"z": TEXT})}
    chain = {f"d{index}": {"items": {"$ref": f"#/$defs/d{index + 1}"}} for index in range(3000)}
    aliases = {f"d{index}": {"$ref": f"#/$defs/d{index + 1}"} for index in range(3000)}
    for defs in (doubling, chain, aliases):
        schema = obj({"a": {"$ref": "#/$defs/d0"}}, anyOf=[{"$ref": "#/$defs/d0"}]) | {"$defs": defs}
        assert len(orjson.dumps(fit(schema, dialect)[0])) < 5_000_000
        assert_quick(partial(fit, schema, dialect), 5)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_cost_is_linear(dialect):
    def fitting(size):
        properties = {f"p{index}": {"type": "string", "minLength": 1, "description": "x"} for index in range(size)}
        members = [obj({f"m{index}": NUMBER}, f"m{index}") for index in range(size)]
        schema = obj(properties, *properties, allOf=members) | {"$defs": {"t": {"prefixItems": members}}}
        return lambda: fit(schema, dialect)

    assert_linear(fitting, 1000)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.sampled_from(
    "type properties required items anyOf oneOf allOf $ref $defs definitions enum const default minimum "
    "exclusiveMinimum minItems minLength pattern format nullable additionalProperties prefixItems "
    "description title not $schema".split()
)
LIKELY = {
    "type": st.sampled_from(["object", "array", "string", "integer", "null", "STRING", "any", None])
    | st.lists(st.sampled_from(["object", "string", "null", "array", "x"]), max_size=3),
    "$ref": st.sampled_from(["#", "#/$defs/a", "#/$defs/b", "#/definitions/a", "#/properties/a", "x", 1, None]),
    "required": st.lists(st.sampled_from("abc"), max_size=3),
    "enum": st.lists(st.sampled_from(["x", "", 1, None, {"a": 1}]), max_size=3),
    "nullable": st.booleans() | st.none(),
    "pattern": st.sampled_from(["x", "(?=x)"]),
}


def schemas(inner):
    names = st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    of = dict.fromkeys(("properties", "$defs", "definitions"), names)
    of |= dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), st.lists(inner, max_size=3))
    of |= dict.fromkeys(("items", "additionalProperties", "not"), inner)
    likely = {key: strategy | VALUES for key, strategy in (LIKELY | of).items()}
    return st.lists(WORDS, max_size=6, unique=True).flatmap(
        lambda words: st.fixed_dictionaries({word: likely.get(word, VALUES) for word in words})
    )


SCHEMAS = schemas(st.recursive(st.booleans() | st.none() | schemas(st.just({})), schemas, max_leaves=12))


@given(SCHEMAS, st.sampled_from(DIALECTS))
def test_any_schema_is_fitted_once_and_not_written_to(schema, dialect: Dialect):
    before = orjson.dumps(schema)
    try:
        fitted, repaired = fit(schema, dialect)
    except RequestError:
        return
    assert orjson.dumps(schema) == before
    assert all(isinstance(path, str) for path in repaired)
    assert fit(fitted, dialect) == (fitted, [])
    obeys_strict(schema)


@given(SCHEMAS)
def test_gemini_gets_its_subset_only(schema):
    def check(node):
        if not node:
            return
        assert not node.keys() & {
            "$ref",
            "$defs",
            "const",
            "oneOf",
            "allOf",
            "additionalProperties",
            "exclusiveMinimum",
        }
        assert not isinstance(node.get("type"), list)
        assert all(isinstance(value, str) for value in node.get("enum", ()))
        for inner in [*node.get("properties", {}).values(), *node.get("anyOf", ()), node.get("items", {})]:
            check(inner)

    check(fit(schema, "gemini")[0])


@given(SCHEMAS)
def test_claudes_output_gets_closed_objects_only(schema):
    def check(node):
        assert node.get("type") != "object" or node["additionalProperties"] is False
        assert node.keys() & {"type", "anyOf", "allOf", "enum", "const", "$ref"}
        inner = [*node.get("anyOf", ()), *node.get("allOf", ()), *node.get("properties", {}).values()]
        for schema in [*inner, *([node["items"]] if "items" in node else [])]:
            check(schema)

    check(fit(schema, "anthropic output")[0])


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("shared", [{"description": "d" * 200_000}, {"enum": [f"e{index}" for index in range(10_000)]}])
def test_a_long_definition_is_not_copied_for_each_reference(dialect, shared):
    properties = {f"p{index}": {"$ref": "#/$defs/t"} for index in range(1000)}
    fitted, _ = fit(obj(properties) | {"$defs": {"t": TEXT | shared}}, dialect)
    assert len(orjson.dumps(fitted)) < 1_500_000


def test_a_long_reference_is_not_followed_for_each_copy():
    endless = obj({"a": {"$ref": "#/" + "a/" * 100_000}})
    schema = obj({f"p{index}": {"$ref": "#/$defs/t"} for index in range(2000)}) | {"$defs": {"t": endless}}
    assert_quick(lambda: fit(schema, "gemini"), 1)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("wrong", [{"type": None}, False])
def test_a_long_name_is_not_in_the_path_of_each_node(dialect, wrong):
    schema = obj({"x" * 100_000: obj({f"p{index}": wrong for index in range(1000)})})
    _, paths = fit(schema, dialect)
    assert sum(map(len, paths)) < 1_000_000
