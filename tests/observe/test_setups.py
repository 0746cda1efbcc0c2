"""What is to be pasted into each client: its form, and (slow) the real clients with exactly these texts.

Each client runs in an empty home and gets nothing besides but what keeps it off the network. That docs/clients.md says
the same is held by test_docs.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from droid2api.demo import Demo
from droid2api.errors import ConfigError
from droid2api.observe import commands
from droid2api.observe.setups import local_url, setups
from droid2api.server.keys import RUNTIME
from tests import agents
from tests.agents import CLAUDE, CLIENTS, CODEX, OPENCODE, installed, installed_droid
from tests.harness import demo_gateway, settings_for
from tests.sdk_clients import run_example

KEY = 'client-key "$HOME" it\'s'
"""One that goes wrong where it is not quoted as the shell, TOML, JSON or Python want it."""
UPSTREAM = "http://127.0.0.1:9"
BASE = "http://127.0.0.1:3000"


def of(tool, settings, *, key="any", model=None):
    return setups(BASE, key, settings, model)[tool]


def text_of(setup):
    return "".join(part.text for part in setup.parts)


# -- form -----------------------------------------------------------------------------------------------------------


def test_every_tool_of_the_command_line_has_a_setup(tmp_path):
    made = setups(BASE, "any", settings_for(tmp_path, UPSTREAM))
    assert tuple(made) == commands.CLIENTS
    for tool, setup in made.items():
        assert setup.tool == tool
        assert all(part.text.endswith("\n") and part.language for part in setup.parts)


@pytest.mark.parametrize(
    ("tool", "model"),
    [
        ("claude", "claude-sonnet-4-5-20250929"),
        ("droid", "claude-sonnet-4-5-20250929"),
        ("codex", "gpt-5.5"),
        *((tool, "glm-4.6") for tool in ("openai", "opencode", "cline", "aider", "gemini")),
    ],
)
def test_each_gets_the_first_model_that_fits(tmp_path, tool, model):
    models = [
        {"id": "glm-4.6", "type": "common"},
        {"id": "gpt-5.5", "type": "openai"},
        {"id": "claude-sonnet-4-5-20250929", "type": "anthropic"},
    ]
    assert model in text_of(of(tool, settings_for(tmp_path, UPSTREAM, models=models)))
    alone = [{"id": "only-one", "type": "common"}]
    assert "only-one" in text_of(of(tool, settings_for(tmp_path, UPSTREAM, models=alone)))


@pytest.mark.parametrize(
    ("ids", "small"),
    [
        (["claude-opus-5-5", "gpt-5-mini", "claude-haiku-4-5"], "claude-haiku-4-5"),
        (["claude-opus-5-5", "gemini-x", "gpt-5-mini"], "gpt-5-mini"),
        (["glm-4.6", "claude-opus-5-5"], "claude-opus-5-5"),
    ],
)
def test_claude_code_gets_a_small_model_for_side_jobs(tmp_path, ids, small):
    models = [{"id": id, "type": "anthropic" if "claude" in id else "openai"} for id in ids]
    text = text_of(of("claude", settings_for(tmp_path, UPSTREAM, models=models)))
    assert f"export ANTHROPIC_DEFAULT_HAIKU_MODEL={small}\n" in text


def test_claude_code_lists_the_other_models_in_its_picker(tmp_path):
    needed, optional = of("claude", settings_for(tmp_path, UPSTREAM)).parts
    assert "export CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY=1\n" in needed.text
    assert (optional.where, optional.optional) == ("~/.claude/settings.json", True)
    options = json.loads(optional.text)["modelPicker"]["options"]
    assert [option["model"] for option in options] == ["gpt-5.5", "glm-4.6", "gemini-3.5-flash"]
    alone = [{"id": "claude-opus-5-5", "type": "anthropic"}]
    assert len(of("claude", settings_for(tmp_path, UPSTREAM, models=alone)).parts) == 1


def test_droid_gets_each_model_by_its_own_type(tmp_path):
    models = [
        {"id": "claude-opus-5-5", "type": "anthropic", "name": "Claude Opus 5.5", "max_tokens": 128000},
        {"id": "gpt-5.5", "type": "openai"},
        {"id": "glm-4.6", "type": "common"},
        {"id": "gemini-3.5-flash", "type": "google"},
    ]
    settings = settings_for(tmp_path, UPSTREAM, models=models, model_redirects={"fast-*": "glm-4.6"})
    listed = json.loads(text_of(of("droid", settings, model="fast-1")))["customModels"]
    assert [(model["id"], model["provider"], model["baseUrl"]) for model in listed] == [
        ("custom:fast-1", "generic-chat-completion-api", f"{BASE}/v1"),
        ("custom:claude-opus-5-5", "anthropic", BASE),
        ("custom:gpt-5.5", "openai", f"{BASE}/v1"),
        ("custom:glm-4.6", "generic-chat-completion-api", f"{BASE}/v1"),
        ("custom:gemini-3.5-flash", "generic-chat-completion-api", f"{BASE}/v1"),
    ]
    assert [model.get("maxOutputTokens") for model in listed] == [None, 128000, None, None, None]
    assert (listed[1]["model"], listed[1]["displayName"]) == ("claude-opus-5-5", "Claude Opus 5.5")


def test_a_model_may_be_named_by_a_redirect_and_must_be_known(tmp_path):
    settings = settings_for(tmp_path, UPSTREAM, model_redirects={"fast-*": "glm-4.6"})
    for tool in commands.CLIENTS:
        assert "fast-1" in text_of(of(tool, settings, model="fast-1"))
    with pytest.raises(ConfigError, match=r"--model: 'slow' is not configured\. Configured models: claude"):
        of("claude", settings, model="slow")
    with pytest.raises(ConfigError, match="no model is configured"):
        of("claude", settings_for(tmp_path, UPSTREAM, models=[]))


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:3000"), ("0.0.0.0", "http://127.0.0.1:3000"), ("::", "http://[::1]:3000")],
)
def test_the_address_is_one_that_can_be_called(tmp_path, host, url):
    assert local_url(settings_for(tmp_path, UPSTREAM, host=host)) == url


def test_texts_are_quoted_as_their_language_wants(tmp_path):
    hostile = "m\"'\\ $(x) \U0001f600"
    settings = settings_for(tmp_path, UPSTREAM, models=[{"id": hostile, "type": "openai"}])
    made = setups(BASE, KEY, settings)
    codex = tomllib.loads(made["codex"].parts[0].text)
    assert codex["model"] == hostile
    opencode = json.loads(text_of(made["opencode"]))
    assert opencode["provider"]["droid2api"]["options"]["apiKey"] == KEY
    assert opencode["provider"]["droid2api"]["models"].keys() == {hostile}
    assert shlex.split(text_of(made["cline"]))[5:8] == [KEY, "-m", hostile]
    assert shlex.split(text_of(made["aider"]))[-3:] == [
        f"OPENAI_API_KEY={KEY}",
        "export",
        f"AIDER_MODEL=openai/{hostile}",
    ]
    compile(text_of(made["openai"]), "openai", "exec")


# -- the real clients -----------------------------------------------------------------------------------------------


async def shell(folder: Path, text: str, command: str, programs: Path, **environment: str) -> str:
    """`text` is pasted into a shell, then `command` is typed."""
    path = f"{programs}{os.pathsep}{Path(shutil.which('node') or 'node').parent}{os.pathsep}/usr/bin{os.pathsep}/bin"
    script = f"set -eu\n{text}\n{command}\n"
    return await agents.run(Path("/bin/bash"), "-c", script, folder=folder, PATH=path, **environment)


def shell_text(setup) -> str:
    return "".join(part.text for part in setup.parts if part.language == "bash")


def write_files(setup, folder: Path) -> None:
    """The parts that belong into files, `~` being the client's home."""
    for part in setup.parts:
        if part.where:
            file = folder / part.where.replace("~", "home")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(part.text)


def setup_for(gateway, tool, model=None):
    return setups(gateway.url, KEY, gateway.app[RUNTIME].settings, model)[tool]


def models_asked(demo: Demo) -> set[str]:
    return {body["model"] for _, _, body in demo.requests}


def gateway_and_demo(folder: Path):
    demo = Demo(pace=0)
    return demo, demo_gateway(folder, demo, api_keys=[KEY])


async def test_openai_sdk(tmp_path):
    demo, starting = gateway_and_demo(tmp_path)
    async with starting as gateway:
        code = text_of(setup_for(gateway, "openai", "gpt-5.5"))
        with contextlib.redirect_stdout(io.StringIO()) as output:
            await asyncio.to_thread(run_example, code)
    assert output.getvalue() == "Hello\n"
    assert models_asked(demo) == {"gpt-5.5"}


slow = [pytest.mark.slow, pytest.mark.timeout(600)]


class TestRealClients:
    pytestmark = slow

    async def test_claude_code(self, tmp_path):
        program = installed(CLAUDE, "claude")
        demo, starting = gateway_and_demo(tmp_path)
        async with starting as gateway:
            setup = setup_for(gateway, "claude")
            answer = await shell(
                tmp_path,
                shell_text(setup),
                f'{setup.start} -p "hello there"',
                program.parent,
                CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
                DISABLE_AUTOUPDATER="1",
                CLAUDE_CODE_MAX_RETRIES="0",
            )
        assert "hello there" in answer
        assert models_asked(demo) == {"claude-sonnet-4-5-20250929"}

    async def test_codex(self, tmp_path):
        program = installed(CODEX, "codex")
        demo, starting = gateway_and_demo(tmp_path)
        quiet = "--disable plugins --disable apps -c analytics.enabled=false -c check_for_update_on_startup=false"
        async with starting as gateway:
            setup = setup_for(gateway, "codex")
            write_files(setup, tmp_path)
            command = f'{setup.start} exec --skip-git-repo-check {quiet} "hello there"'
            answer = await shell(tmp_path, shell_text(setup), command, program.parent)
        assert "hello there" in answer
        assert models_asked(demo) == {"gpt-5.5"}

    @pytest.mark.parametrize("model", [None, "gpt-5.5", "glm-4.6", "gemini-3.5-flash"])
    async def test_droid(self, tmp_path, model):
        program = installed_droid()
        demo, starting = gateway_and_demo(tmp_path)
        async with starting as gateway:
            setup = setup_for(gateway, "droid", model)
            write_files(setup, tmp_path)
            answer = await shell(tmp_path, "", setup.start, program.parent)
        assert "Hello" in answer
        assert models_asked(demo) == {model or "claude-sonnet-4-5-20250929"}

    async def test_opencode(self, tmp_path):
        program = installed(OPENCODE, "opencode")
        demo, starting = gateway_and_demo(tmp_path)
        async with starting as gateway:
            setup = setup_for(gateway, "opencode", "gpt-5.5")
            write_files(setup, tmp_path)
            answer = await shell(
                tmp_path,
                "",
                f'{setup.start} run "hello there"',
                program.parent,
                OPENCODE_DISABLE_AUTOUPDATE="1",
                OPENCODE_DISABLE_MODELS_FETCH="1",
            )
        assert "hello there" in answer
        assert models_asked(demo) == {"gpt-5.5"}

    async def test_cline(self, tmp_path):
        program = installed("cline@3.0.65", "cline")
        demo, starting = gateway_and_demo(tmp_path)
        try:
            async with starting as gateway:
                setup = setup_for(gateway, "cline", "glm-4.6")
                answer = await shell(tmp_path, shell_text(setup), f'{setup.start} --json "hello there"', program.parent)
        finally:
            end_daemons(tmp_path / "home")
        assert "hello there" in answer
        assert models_asked(demo) == {"glm-4.6"}

    async def test_aider(self, tmp_path):
        program = installed_aider()
        demo, starting = gateway_and_demo(tmp_path)
        quiet = "--no-check-update --no-analytics --no-show-model-warnings --no-show-release-notes --no-pretty --no-git"
        async with starting as gateway:
            setup = setup_for(gateway, "aider", "glm-4.6")
            command = f'{setup.start} {quiet} --yes-always --message "hello there"'
            answer = await shell(
                tmp_path, shell_text(setup), command, program.parent, LITELLM_LOCAL_MODEL_COST_MAP="True"
            )
        assert "hello there" in answer
        assert models_asked(demo) == {"glm-4.6"}


def installed_aider() -> Path:
    """It wants older packages than the tests do, so it has an environment of its own beside the npm clients. As for
    those, an index that does not answer is the only reason to go without.
    """
    folder = CLIENTS / "aider"
    program = folder / "bin" / "aider"
    if program.exists():
        return program
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=120)
    pip = [str(folder / "bin" / "pip"), "--disable-pip-version-check"]
    reached = subprocess.run(
        [*pip, "download", "--no-deps", "-q", "-d", str(folder), "aider-chat==0.86.2"], timeout=120
    )
    if reached.returncode:
        # Without a network nothing can be shown about a real client; anything else that goes wrong below is a failure.
        pytest.skip("the package index does not answer for aider-chat")
    subprocess.run([*pip, "install", "-q", "aider-chat==0.86.2"], check=True, timeout=500)
    return program


def end_daemons(home: Path) -> None:
    """Cline leaves one behind. It is known by its home, which no other process has."""
    mark = f"HOME={home}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is another user's
            continue
        if mark in environment:
            os.kill(int(process.name), signal.SIGKILL)
