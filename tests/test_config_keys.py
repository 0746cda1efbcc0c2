"""config.schema.json: it is what the code makes, and it refuses in an editor what the gateway refuses."""

import json
import runpy
from pathlib import Path

import jsonschema
import pytest

from tests.test_config import NODE_EDITION, WRONG

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "config.schema.json").read_bytes())
KNOWN_TO_THE_GATEWAY_ALONE = (
    "must not hold",  # what no pattern says in every editor
    "is no name of a header",
    "is no configured endpoint",
    "the fallback of",
    "endpoint[1].name: must be one of",
    "must be an http or https",
)
"""What a schema does not say: what several keys must agree on, and the grammar of URLs and headers."""


def test_the_schema_is_what_the_code_makes():
    assert runpy.run_path(str(ROOT / "scripts" / "config-schema"))["schema"]() == SCHEMA, "run scripts/config-schema"


def test_the_shipped_file_names_the_schema_and_keeps_it():
    shipped = json.loads((ROOT / "config.json").read_bytes())
    assert (ROOT / shipped["$schema"]).samefile(ROOT / "config.schema.json")
    jsonschema.validate(shipped, SCHEMA)


def test_an_editor_marks_only_what_the_gateway_warns_of():
    found = [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(NODE_EDITION)]
    assert found == ["Additional properties are not allowed ('proxies' was unexpected)"]


MARKED = [(value, text) for value, text in WRONG if not any(known in text for known in KNOWN_TO_THE_GATEWAY_ALONE)]


@pytest.mark.parametrize(("value", "message"), MARKED, ids=[message for _, message in MARKED])
def test_what_is_wrong_is_marked(value, message):
    assert list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(value))
