"""The READMEs are true: their commands run against the demo, their tables name what the code has."""

import ast
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
from tests.harness import demo_gateway

ROOT = Path(__file__).parent.parent
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
SHIPPED = json.loads((ROOT / "config.json").read_bytes())
BASE = "http://127.0.0.1:3000"


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
    text = "\n".join(blocks(ENGLISH, "bash")).replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.startswith("curl ")]


# -- both languages -------------------------------------------------------------------------------------------------


def test_both_readmes_have_the_same_headings_and_tables():
    assert headings(ENGLISH) == headings(CHINESE)
    assert [len(table) for table in tables(ENGLISH)] == [len(table) for table in tables(CHINESE)]
    for english, chinese in zip(tables(ENGLISH), tables(CHINESE), strict=True):
        assert [keys(cell) for cell in english] == [keys(cell) for cell in chinese]


def test_both_readmes_have_the_same_code():
    def without_comments(block: str) -> str:
        return re.sub(r"(^|\s+)# .*", "", block)

    assert [without_comments(b) for b in blocks(ENGLISH)] == [without_comments(b) for b in blocks(CHINESE)]


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_links_lead_somewhere(text):
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)", text, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", prose(text)):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("http"):
            assert (ROOT / target).exists(), target


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_place_for_the_generated_table(text):
    assert text.count("<!-- pairs -->") == text.count("<!-- /pairs -->") == 1


# -- tables ---------------------------------------------------------------------------------------------------------


def test_every_key_of_config_json_is_in_the_table():
    expected = {f"endpoint[].{key}" for key in config._ENDPOINT_KEYS}
    expected |= {f"models[].{key}" for key in config._MODEL_KEYS}
    expected |= {f"auth.{key}" for key in Auth.__slots__} | {f"timeouts.{key}" for key in Timeouts.__slots__}
    expected |= config._KEYS - {"endpoint", "models", "auth", "timeouts"}
    table = next(table for table in tables(ENGLISH) if table[0] == "`port`")
    assert sorted(key for cell in table for key in keys(cell)) == sorted(expected)


def test_every_route_is_in_the_table():
    table = next(table for table in tables(ENGLISH) if table[0] == "`GET /`")
    assert [key for cell in table for key in keys(cell)] == list(ROUTES)


def test_every_environment_variable_is_in_the_table():
    """Names in capitals that the code asks an environment for."""
    asked = set()
    for file in (ROOT / "droid2api").glob("*.py"):
        asked |= set(re.findall(r'nviron(?:ment)?\.get\("([A-Z0-9_]+)"', file.read_text(encoding="utf-8")))
    table = next(table for table in tables(ENGLISH) if table[0] == "`FACTORY_API_KEY`")
    assert {key for cell in table for key in keys(cell)} == asked - {"HOME", "USERPROFILE"}


def test_quoted_messages_are_the_programs_own():
    """Each part of a quoted message between the ellipses occurs in a text of the program."""
    texts = []
    for file in (ROOT / "droid2api").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):  # neighbouring literals are one here, fields are cut out
                values = [v.value if isinstance(v, ast.Constant) else "\0" for v in node.values]
                texts.append("".join(map(str, values)))
            elif isinstance(node, ast.Constant) and type(node.value) is str:
                texts.append(node.value)
    table = next(table for table in tables(ENGLISH) if any("No credential" in cell for cell in table))
    quoted = [key for cell in table for key in keys(cell) if " " in key]
    assert len(quoted) > 8
    for message in quoted:
        for part in message.replace("%s", "…").split("…"):
            assert any(part.strip() in text for text in texts), message


# -- commands -------------------------------------------------------------------------------------------------------


async def test_every_curl_command_answers(tmp_path):
    assert len(commands()) >= 9
    paths = {words[-1].removeprefix(BASE) for words in commands() if len(words) == 2}
    assert {"/v1/models", "/health"} <= paths
    async with demo_gateway(tmp_path, models=SHIPPED["models"], model_redirects=SHIPPED["model_redirects"]) as gateway:
        for words in commands():
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
            assert streamed is body["stream"]


@pytest.mark.parametrize("code", blocks(ENGLISH, "python"), ids=["openai", "anthropic"])
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
    examples = [block for block in blocks(ENGLISH, "json") if '"models": [' in block]
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
    ids = [id for pattern in patterns for id in re.findall(pattern, "\n".join(blocks(ENGLISH)))]
    assert len(ids) > 12
    for id in ids:
        assert settings.route(id).id == id
