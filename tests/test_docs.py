"""README and docs/ are true, in both languages: commands run against the demo, tables name what the code has."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import io
import json
import logging
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from droid2api import __version__
from droid2api.__main__ import _parse, _parser
from droid2api.application import build_app
from droid2api.config import load
from droid2api.config_keys import AUTH, ENDPOINT, model_table, top_table
from droid2api.formats import FORMATS
from droid2api.gateway.exchange import End, Exchange
from droid2api.gateway.logs import JsonFormatter, request_line
from droid2api.hub.events import Usage
from droid2api.hub.profile_table import OPENAI_EXTRAS
from droid2api.hub.profiles import Profile
from droid2api.hub.request import Target
from droid2api.hub.schema import Dialect, fit
from droid2api.observe.explain import explain, to_text
from droid2api.observe.setups import NO_KEY, setups
from droid2api.server.edge import served_routes
from droid2api.settings import Endpoint, Model, Settings, Timeouts
from tests.harness import demo_gateway
from tests.sdk_clients import run_example

ROOT = Path(__file__).parent.parent
README, DOCS = ROOT / "README.md", ROOT / "docs"
ENGLISH = [README, *sorted(file for file in DOCS.glob("*.md") if not file.name.endswith(".zh-CN.md"))]
SHIPPED = json.loads((ROOT / "config.json").read_bytes())
BASE = "http://127.0.0.1:3000"


def chinese(page: Path) -> Path:
    return page.with_suffix(".zh-CN.md")


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def page(name: str) -> str:
    return read(DOCS / f"{name}.md")


every_page = pytest.mark.parametrize("english", ENGLISH, ids=lambda page: page.stem)
every_file = pytest.mark.parametrize("file", [*ENGLISH, *map(chinese, ENGLISH)], ids=lambda file: file.name)


def blocks(text: str, language: str = r"\w*") -> list[str]:
    return re.findall(rf"^```(?:{language})\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def everywhere(language: str) -> list[str]:
    return [block for page in ENGLISH for block in blocks(read(page), language)]


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def headings(text: str) -> list[tuple[int, str]]:
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) (.*)", prose(text), re.MULTILINE)]


def section(text: str, title: str) -> str:
    """From a heading of the second level to the next one."""
    return next(part for part in re.split(r"^## ", text, flags=re.MULTILINE) if part.startswith(f"{title}\n"))


def tables(text: str) -> list[list[str]]:
    """The first cell of each row, for each table."""
    return [[row[0] for row in table] for table in rows(text)]


def rows(text: str) -> list[list[list[str]]]:
    found = re.findall(r"(?:^\|.*\n)+", prose(text), re.MULTILINE)
    return [[[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]] for table in found]


def table(text: str, first: str) -> list[str]:
    """The code in the first cells of the table that begins with `first`."""
    found = next(table for table in tables(text) if table[0].startswith(f"`{first}`"))
    return [name for cell in found for name in spans(cell)]


def spans(cell: str) -> list[str]:
    """The code in a text, by `one` backtick or ``two``."""
    return [two.strip() or one for two, one in re.findall(r"``(.+?)``(?!`)|`([^`]+)`", cell)]


def words_of(program: str) -> list[list[str]]:
    """Each command of `program` in the pages, as a shell would split it."""
    text = "\n".join(everywhere("bash")).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith(f"{program} ")]
    return [shlex.split(line, comments=True) for line in lines]


# -- both languages -------------------------------------------------------------------------------------------------


@every_page
def test_both_languages_have_the_same_headings_and_tables(english):
    ours, theirs = read(english), read(chinese(english))
    assert [level for level, _ in headings(ours)] == [level for level, _ in headings(theirs)]
    assert [len(table) for table in tables(ours)] == [len(table) for table in tables(theirs)]
    for one, other in zip(tables(ours), tables(theirs), strict=True):
        assert [spans(cell) for cell in one] == [spans(cell) for cell in other]


@every_page
def test_both_languages_have_the_same_code(english):
    def without_comments(block: str) -> str:
        return re.sub(r"(^|\s+)# .*", "", block)

    ours, theirs = (list(map(without_comments, blocks(read(page)))) for page in (english, chinese(english)))
    assert ours == theirs


@every_page
def test_both_languages_lead_to_each_other_at_the_top(english):
    other = chinese(english)
    assert f"English | [简体中文]({other.name})" in read(english).splitlines()[:4]
    assert f"[English]({english.name}) | 简体中文" in read(other).splitlines()[:4]
    assert english == README or f"](docs/{english.name})" in read(README)


@every_file
def test_links_lead_somewhere(file):
    targets = re.findall(r"\]\(([^)]+)\)", prose(read(file)))
    for target in targets:
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        there = (file.parent / path).resolve() if path else file
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target
        if ".zh-CN" in file.name and there.suffix == ".md" and there != english_of(file):
            assert not chinese(there).exists(), f"{target} leads out of the language"


def english_of(file: Path) -> Path:
    return file.with_name(file.name.replace(".zh-CN", ""))


def anchors(file: Path) -> set[str]:
    """As GitHub makes them of headings."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for _, title in headings(read(file))}


def test_the_readme_is_short_and_has_its_places():
    for file in (README, chinese(README)):
        text = read(file)
        assert text.count("\n") <= 150
        assert text.count("<!-- ratios -->") == text.count("<!-- /ratios -->") == 1


# -- tables ---------------------------------------------------------------------------------------------------------


def test_every_key_of_config_json_is_in_the_table():
    expected = {f"endpoint[].{key}" for key in ENDPOINT}
    expected |= {f"models[].{key}" for key in model_table(FORMATS)}
    expected |= {f"auth.{key}" for key in AUTH} | {f"timeouts.{key}" for key in Timeouts.__slots__}
    expected |= set(top_table(FORMATS)) - {"endpoint", "models", "auth", "timeouts"}
    assert sorted(table(page("configuration"), "$schema")) == sorted(expected)


def test_defaults_in_the_table_are_the_codes():
    default: dict[str, object] = {}
    for kind, where in (
        (Settings, ""),
        (Timeouts, "timeouts."),
        (Target, "models[]."),
        (Model, "models[]."),
        (Endpoint, "endpoint[]."),
    ):
        default |= {where + field.name: field.default for field in fields(kind)}
    found = next(table for table in rows(page("configuration")) if table[0][0] == "`$schema`")
    told = {spans(row[0])[0]: spans(row[1])[0] for row in found if row[1].startswith("`")}
    assert len(told) > 12
    told["user_agent"] = told["user_agent"].replace("VERSION", __version__)
    assert told == {key: json.dumps(default[key]).strip('"') for key in told}


def test_every_field_of_a_profile_is_in_the_table_with_its_values():
    assert table(page("configuration"), "efforts") == [field.name for field in fields(Profile)]
    found = next(table for table in rows(page("configuration")) if table[0][0] == "`efforts`")
    for (name, values, _), hint in zip(found, get_type_hints(Profile).values(), strict=True):
        if choices := [choice for choice in get_args(hint) if isinstance(choice, str)]:
            assert values == "the same" or spans(values) == choices, name
    extras = next(meaning for name, _, meaning in found if name == "`extras`")
    assert spans(extras) == list(OPENAI_EXTRAS)


PROXIES = {"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"}
"""Looked for in both cases."""


def test_every_environment_variable_is_in_the_table():
    """Names in capitals that the code asks an environment for."""
    asked = set()
    for file in (ROOT / "droid2api").rglob("*.py"):
        asked |= set(re.findall(r'nviron(?:ment)?\.(?:get|pop)\("([A-Z0-9_]+)"', read(file)))
    assert set(table(page("configuration"), "FACTORY_API_KEY")) == (asked - {"HOME", "USERPROFILE"}) | PROXIES


def test_every_option_and_command_is_in_the_tables():
    def options(parser: argparse.ArgumentParser) -> set[str]:
        return {action.option_strings[-1] for action in parser._actions if action.option_strings}

    parser = _parser()
    told = table(page("configuration"), "--config FILE")
    assert {option.split()[0] for option in told} == options(parser)
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    everyones = set.intersection(*map(options, commands.values()))
    assert everyones == {"--config", "--host", "--port", "--help"}
    everyones.add("--json")
    expected = {(name, option) for name, command in commands.items() for option in options(command) - everyones}
    told_words = [words.split() for words in table(page("configuration"), "run TOOL")]
    assert {words[0] for words in told_words} == set(commands)
    assert {(words[0], words[1]) for words in told_words if "--" in " ".join(words)} == expected


def test_every_route_is_in_the_table(tmp_path):
    prefixes = {prefix for format in FORMATS for prefix in format.PREFIXES}

    def plain(method: str, path: str) -> str:
        path = path.replace(":{stream}", ":streamGenerateContent")  # what is a pattern in the router
        prefix = next(prefix for prefix in sorted(prefixes, key=len, reverse=True) if path.startswith(prefix))
        return f"{method} {path.removeprefix(prefix)}"

    routes = build_app(load(ROOT / "config.json", {"HOME": str(tmp_path)})).router.routes()
    served = {plain(r.method, r.resource.canonical) for r in routes if r.resource and r.method != "HEAD"}
    told = table(page("formats"), "GET /")
    assert told[: len(served_routes(FORMATS))] == served_routes(FORMATS)
    assert {plain(*route.split()) for route in told} == served


async def test_every_series_of_metrics_is_in_the_table(tmp_path):
    async with demo_gateway(tmp_path) as gateway:
        _, _, content = await gateway.get("/metrics")
    series = set(re.findall(r"^# TYPE (droid2api_\w+) (?:counter|gauge|histogram)$", content.decode(), re.MULTILINE))
    assert set(table(page("operations"), "droid2api_requests_total")) == {s for s in series if "_created" not in s}


def test_every_field_of_the_log_is_in_the_table():
    record = logging.makeLogRecord({"exchange": Exchange("", ""), "exc_info": (ValueError, ValueError(), None)})
    assert set(table(page("operations"), "time")) == set(json.loads(JsonFormatter().format(record)))
    told = next(row[1] for table in rows(page("operations")) for row in table if row[0] == "`end`")
    assert spans(told) == [end for end in End.__args__ if end]


def test_schemas_become_what_the_table_says():
    """Each row is a property of an object, but for the dialect that changes the root only."""
    found = next(table for table in rows(page("formats")) if table[0][0] == "`anthropic tools`")
    assert {spans(row[0])[0] for row in found} == set(get_args(Dialect)) - {"plain"}
    for dialect, *cells, named in found:
        before, after = (json.loads(spans(cell)[0]) for cell in cells)
        at_root = spans(dialect) == ["anthropic tools"]
        schema = before if at_root else {"type": "object", "properties": {"x": before}}
        fitted, repaired = fit(schema, spans(dialect)[0])
        node = fitted if at_root else fitted["properties"]["x"]
        begin, cut, _ = after.get("description", "").partition("…")
        assert node.pop("description", "").startswith(begin) if cut else True
        assert node == {key: value for key, value in after.items() if not (cut and key == "description")}
        assert repaired == [name if at_root else f"properties.x.{name}" for name in spans(named)]


def test_every_repair_is_in_the_table():
    code = "".join(read(file) for file in (ROOT / "droid2api").rglob("*.py"))
    found = re.findall(r'(?:[^.]repaired\[|encoded\.repair\()f?"([^"{]+)', code)
    repaired = [f"{path}X" if path.endswith(".") else path for path in found if "$" not in path]
    told = table(page("formats"), "messages.empty_text")
    schemas = ("tools.parameters", "tools.parameters.X", "response_format.schema", "response_format.schema.X")
    assert set(told) == {*repaired, *schemas, "tools.strict", "response_format.strict"}


# -- clients --------------------------------------------------------------------------------------------------------


def test_clients_are_told_what_env_prints():
    settings = load(ROOT / "config.json", {})
    for setup in setups(BASE, NO_KEY, settings).values():
        text = section(page("clients"), setup.title)
        for part in setup.parts:
            assert part.text in blocks(text, part.language), setup.tool
            assert not part.where or f"`{part.where}`" in text
        assert not setup.start or f"{setup.start}\n" in blocks(text, "bash")
        assert f"`env {setup.tool}`" in read(README)


def test_models_in_the_examples_are_shipped():
    settings = load(ROOT / "config.json", {})
    patterns = [
        r'model"?(?:: | = |=)"([^"/]+)"',
        r"=openai/(\S+)",
        r'"droid2api/([^"]+)"',
        r"(?<!llm) -m (?:custom:)?(\S+)",
    ]
    patterns += [r"_MODEL=([^\s/]+)$", r"model_name: (\S+)", r'droid2api\("([^"]+)"\)']
    text = "\n".join(everywhere(r"\w*"))
    ids = [id for pattern in patterns for id in re.findall(pattern, text, re.MULTILINE)]
    assert len(ids) > 20
    for id in ids:
        assert settings.route(id).id in settings.models


# -- commands and examples ------------------------------------------------------------------------------------------


async def test_every_curl_command_answers(tmp_path):
    commands = words_of("curl")
    assert len(commands) >= 11
    paths = {words[-1].removeprefix(BASE) for words in commands if len(words) == 2}
    assert {"/v1/models", "/health"} <= paths
    async with demo_gateway(tmp_path, models=SHIPPED["models"], model_redirects=SHIPPED["model_redirects"]) as gateway:
        for words in commands:
            path = next(word for word in words if word.startswith(BASE)).removeprefix(BASE)
            if "-d" not in words:
                status, _, content = await gateway.get(path)
                assert (status, type(json.loads(content))) == (200, dict), words
                continue
            body = json.loads(words[words.index("-d") + 1])
            status, headers, content = await gateway.ask(path, body)
            assert status == 200, (words, content)
            assert b"Hello" in content
            streamed = headers["Content-Type"].startswith("text/event-stream")
            assert streamed is body.get("stream", "alt=sse" in path)


def test_every_command_line_is_understood():
    lines = words_of("droid2api") + words_of("./start.sh")
    lines += [line.split() for page in ENGLISH for line in re.findall(r"\$\(\./start\.sh ([^)]+)\)", read(page))]
    assert len(lines) > 5
    for line in lines:
        words = line[: line.index(">")] if ">" in line else line
        _parse(_parser(), [word for word in words if word not in ("droid2api", "./start.sh")])


def test_what_gunicorn_is_told_to_start_is_there():
    (words,) = words_of("gunicorn")
    module, _, name = words[1].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_tests_that_are_named_are_there():
    named = {name for page in ENGLISH for name in re.findall(r"`(?:\w+/)*(\w+\.py)`", read(page))}
    assert len(named) > 8
    assert named <= {file.name for file in (ROOT / "tests").rglob("*.py")}


@pytest.mark.parametrize("code", everywhere("python"), ids=["chat", "responses", "anthropic", "gemini"])
async def test_every_python_example_runs(tmp_path, code):
    async with demo_gateway(tmp_path, models=SHIPPED["models"]) as gateway:
        with contextlib.redirect_stdout(io.StringIO()) as output:
            await asyncio.to_thread(run_example, code.replace(BASE, gateway.url))
    assert output.getvalue().split() == ["Hello"]


def test_every_config_example_loads_without_a_warning(tmp_path):
    examples = [block for block in everywhere("json") if '"models": [' in block]
    assert len(examples) == 2
    for example in examples:
        file = tmp_path / "config.json"
        file.write_text(example)
        settings = load(file, {})
        assert settings.warnings == ()
        assert len(settings.models) == len(json.loads(example)["models"])


def test_the_lines_of_the_log_are_as_it_writes_them():
    text = section(page("operations"), "Logs")
    value = json.loads(blocks(text, "json")[0])
    known = {field.name: value[field.name] for field in fields(Exchange)} | {"usage": Usage(**value["usage"])}
    exchange = Exchange(**known)
    assert value["message"] == request_line(exchange)
    assert blocks(text, "text")[0].strip().endswith(f" INFO {value['logger']}: {value['message']}")
    told = json.loads(json.dumps(exchange.to_json()))
    assert {name: value[name] for name in told} == told


def test_the_example_of_explain_is_as_it_prints_it():
    text = section(page("formats"), "explain")
    explained = explain(load(ROOT / "config.json", {}), json.loads(blocks(text, "json")[0]))
    assert to_text(explained, color=False).startswith(blocks(text, "text")[0])
