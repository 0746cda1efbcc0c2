"""The READMEs and docs/ are true: their commands run against the demo, their tables name what the code has."""

import asyncio
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from droid2api import config
from droid2api.app import ROUTES
from droid2api.config import Auth, Timeouts, load
from droid2api.observe.commands import TOOLS
from droid2api.observe.setups import setups
from tests.harness import demo_gateway

ROOT = Path(__file__).parent.parent
CHINESE = {
    file: file.with_name(f"{file.stem}.zh-CN.md") for file in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
}
CHINESE = {english: chinese for english, chinese in CHINESE.items() if not english.stem.endswith(".zh-CN")}
PAGES = {file: file.read_text(encoding="utf-8") for pair in CHINESE.items() for file in pair}
ENGLISH = {file.stem: PAGES[file] for file in CHINESE}
ALL_ENGLISH = "\n".join(ENGLISH.values())
SHIPPED = json.loads((ROOT / "config.json").read_bytes())
BASE = "http://127.0.0.1:3000"

pairs = pytest.mark.parametrize("page", sorted(CHINESE), ids=lambda file: file.stem)
pages = pytest.mark.parametrize("page", sorted(PAGES), ids=lambda file: file.stem)


def blocks(text: str, language: str = r"\w*") -> list[str]:
    return re.findall(rf"^```(?:{language})\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def headings(text: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", prose(text), re.MULTILINE)]


def tables(text: str) -> list[list[str]]:
    """The first cell of each row, for each table."""
    found = re.findall(r"(?:^\|.*\n)+", prose(text), re.MULTILINE)
    return [[row.split("|")[1].strip() for row in table.splitlines()[2:]] for table in found]


def keys(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def commands() -> list[list[str]]:
    """Each curl command, in words, as a shell would split it."""
    text = "\n".join(blocks(ALL_ENGLISH, "bash")).replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.startswith("curl ")]


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


# -- both languages -------------------------------------------------------------------------------------------------


@pairs
def test_both_languages_have_the_same_headings_and_tables(page):
    english, chinese = PAGES[page], PAGES[CHINESE[page]]
    assert headings(english) == headings(chinese)
    assert [len(table) for table in tables(english)] == [len(table) for table in tables(chinese)]
    for one, other in zip(tables(english), tables(chinese), strict=True):
        assert [keys(cell) for cell in one] == [keys(cell) for cell in other]


@pairs
def test_both_languages_have_the_same_code(page):
    def without_comments(block: str) -> str:
        return re.sub(r"(^|\s+)# .*", "", block)

    english, chinese = blocks(PAGES[page]), blocks(PAGES[CHINESE[page]])
    assert [without_comments(block) for block in english] == [without_comments(block) for block in chinese]


@pages
def test_links_lead_somewhere_in_their_language(page):
    for target in re.findall(r"\]\(([^)]+)\)", prose(PAGES[page])):
        name, _, anchor = target.partition("#")
        if target.startswith("http"):
            continue
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(PAGES[file]), target
        if file in PAGES and file.stem.split(".")[0] != page.stem.split(".")[0]:
            assert file.stem.endswith(".zh-CN") == page.stem.endswith(".zh-CN"), target


@pairs
def test_each_page_links_to_its_other_language(page):
    assert f"]({CHINESE[page].name})" in PAGES[page]
    assert f"]({page.name})" in PAGES[CHINESE[page]]


# -- tables ---------------------------------------------------------------------------------------------------------


def test_every_key_of_config_json_is_in_the_table():
    expected = {f"endpoint[].{key}" for key in config._ENDPOINT_KEYS}
    expected |= {f"models[].{key}" for key in config._MODEL_KEYS}
    expected |= {f"auth.{key}" for key in Auth.__slots__} | {f"timeouts.{key}" for key in Timeouts.__slots__}
    expected |= config._KEYS - {"endpoint", "models", "auth", "timeouts"}
    table = next(table for table in tables(ENGLISH["configuration"]) if table[0] == "`port`")
    assert sorted(key for cell in table for key in keys(cell)) == sorted(expected)


def test_every_route_is_in_the_table():
    table = next(table for table in tables(ENGLISH["formats"]) if table[0] == "`GET /`")
    assert [key for cell in table for key in keys(cell)] == list(ROUTES)


def test_every_environment_variable_is_in_the_table():
    """Names in capitals that the code asks an environment for."""
    asked = set()
    for file in (ROOT / "droid2api").glob("*.py"):
        asked |= set(re.findall(r'nviron(?:ment)?\.get\("([A-Z0-9_]+)"', file.read_text(encoding="utf-8")))
    table = next(table for table in tables(ENGLISH["configuration"]) if table[0] == "`FACTORY_API_KEY`")
    assert {key for cell in table for key in keys(cell)} == asked - {"HOME", "USERPROFILE"}


# -- commands -------------------------------------------------------------------------------------------------------


async def test_every_curl_command_answers(tmp_path):
    assert len(commands()) >= 9
    paths = {words[-1].removeprefix(BASE) for words in commands() if len(words) == 2}
    assert {"/v1/models", "/health", "/metrics"} <= paths
    async with demo_gateway(tmp_path, models=SHIPPED["models"], model_redirects=SHIPPED["model_redirects"]) as gateway:
        for words in commands():
            path = next(word for word in words if word.startswith(BASE)).removeprefix(BASE)
            if "-d" not in words:
                status, _, content = await gateway.get(path)
                assert status == 200, words
                assert path == "/metrics" or type(json.loads(content)) is dict
                continue
            body = json.loads(words[words.index("-d") + 1])
            status, headers, content = await gateway.ask(path, body)
            assert status == 200, (words, content)
            assert b"Hello" in content
            streamed = headers["Content-Type"].startswith("text/event-stream")
            assert streamed is body["stream"]


@pytest.mark.parametrize("code", blocks(ALL_ENGLISH, "python"))
async def test_every_python_example_runs(tmp_path, code):
    async with demo_gateway(tmp_path, models=SHIPPED["models"]) as gateway:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code.replace(BASE, gateway.url),
            cwd=tmp_path,
            env={"HOME": str(tmp_path)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, output.decode()
    assert output.decode().split() == ["Hello"] * code.count("Hello")


def test_every_config_example_loads_without_a_warning(tmp_path):
    examples = [block for block in blocks(ALL_ENGLISH, "json") if '"models": [' in block]
    assert len(examples) == 2
    for example in examples:
        file = tmp_path / "config.json"
        file.write_text(example)
        settings = load(file, {})
        assert settings.warnings == ()
        assert len(settings.models) == len(json.loads(example)["models"])


def test_models_in_the_examples_are_shipped():
    settings = load(ROOT / "config.json", {})
    patterns = r'model"?(?:: | = |=)"([^"]+)"', r"--model openai/(\S+)", r"-m (\S+)", r"_MODEL=(\S+)"
    found = [id for pattern in patterns for id in re.findall(pattern, "\n".join(blocks(ALL_ENGLISH)))]
    ids = [id.removeprefix("droid2api/").removeprefix("openai/") for id in found]
    assert len(ids) > 12
    for id in ids:
        assert settings.route(id).id == id


@pytest.mark.parametrize("tool", TOOLS)
def test_clients_are_set_up_as_the_program_prints_it(tool):
    settings = load(ROOT / "config.json", {})
    setup = setups(BASE, "any", settings, "gpt-5.5" if tool == "codex" else "claude-sonnet-5-5")[tool]
    for part in setup.parts:
        assert part.text in ENGLISH["clients"]
    assert setup.start in ENGLISH["clients"]
    assert f"`droid2api env {tool}`" in ENGLISH["README"]
