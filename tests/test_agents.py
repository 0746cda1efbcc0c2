"""Claude Code, Codex and Gemini CLI, the real programs, on models of all upstream types.

They come from npm into a folder that is kept between runs; where the registry does not answer, the tests are skipped.
Each runs in an environment of its own: an empty home, a dummy key, nothing but loopback.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from droid2api.demo import Demo
from tests.harness import BY_TYPE, demo_gateway
from tests.sdk_clients import PNG

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CLIENTS = Path(os.environ.get("DROID2API_CLIENTS") or Path(__file__).parent.parent / ".clients")
CLAUDE, CODEX = "@anthropic-ai/claude-code@2.1.330", "@openai/codex@0.169.0"
GEMINI = "@google/gemini-cli@0.61.0"
upstreams = pytest.mark.parametrize("upstream", ["anthropic", "openai", "common", "google"])


def installed(package: str, binary: str) -> Path:
    """The program's path. npm puts it there; a registry that does not answer is the only reason to go without."""
    program = CLIENTS / "node_modules" / ".bin" / binary
    if program.exists():
        return program
    if not shutil.which("npm"):
        pytest.fail("npm is needed to install the real clients")  # CI must not pass without them
    reached = subprocess.run(["npm", "view", package, "version"], capture_output=True, timeout=120)
    if reached.returncode:
        pytest.skip(f"the npm registry does not answer for {package}")
    CLIENTS.mkdir(exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(CLIENTS), package]
    subprocess.run(command, check=True, capture_output=True, timeout=500)
    return program


@pytest.fixture(scope="module")
def claude():
    return installed(CLAUDE, "claude")


@pytest.fixture(scope="module")
def codex():
    return installed(CODEX, "codex")


@pytest.fixture(scope="module")
def gemini():
    return installed(GEMINI, "gemini")


async def run(program: Path, *arguments: str, folder: Path, **environment: str) -> str:
    """Its standard output, once it has ended well. Killed after 90 seconds."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    path = os.pathsep.join(["/usr/local/bin", "/usr/bin", "/bin", str(Path(shutil.which("node") or "node").parent)])
    process = await asyncio.create_subprocess_exec(
        str(program),
        *arguments,
        cwd=folder,
        env={"HOME": str(home), "PATH": path, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), 90)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, (output.decode(), errors.decode())
    return output.decode()


async def ask_claude(program: Path, url: str, folder: Path, model: str, prompt: str) -> str:
    return await run(
        program,
        *("-p", prompt, "--model", model, "--allowedTools", "Bash"),
        folder=folder,
        ANTHROPIC_BASE_URL=url,
        ANTHROPIC_API_KEY="sk-dummy",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        DISABLE_TELEMETRY="1",
        DISABLE_AUTOUPDATER="1",
        DISABLE_ERROR_REPORTING="1",
        CLAUDE_CODE_MAX_RETRIES="0",
    )


async def ask_codex(program: Path, url: str, folder: Path, model: str, prompt: str) -> str:
    provider = f'{{name="gw",base_url="{url}/v1",env_key="GW_KEY",wire_api="responses",request_max_retries=0'
    settings = [
        "model_provider=gw",
        f"model_providers.gw={provider},stream_max_retries=0}}",
        "analytics.enabled=false",
        "check_for_update_on_startup=false",
    ]
    options = [part for setting in settings for part in ("-c", setting)]
    return await run(
        program,
        *("exec", "--skip-git-repo-check", "-m", model, *options),
        *("--disable", "plugins", "--disable", "apps", "-s", "workspace-write", prompt),
        folder=folder,
        GW_KEY="sk-dummy",
    )


async def ask_gemini(program: Path, url: str, folder: Path, model: str, prompt: str) -> str:
    settings = folder / "home" / ".gemini" / "settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    quiet = {"privacy": {"usageStatisticsEnabled": False}, "general": {"enableAutoUpdate": False}}
    settings.write_text(json.dumps({"security": {"auth": {"selectedType": "gemini-api-key"}}} | quiet))
    return await run(
        program,
        *("-p", prompt, "-m", model, "--approval-mode", "yolo"),
        folder=folder,
        GEMINI_API_KEY="sk-dummy",
        GOOGLE_GEMINI_BASE_URL=url,
        GEMINI_CLI_TRUST_WORKSPACE="true",
    )


@upstreams
async def test_gemini_cli(gemini, tmp_path, upstream):
    """One turn, a tool turn, parallel tools, a picture."""
    demo = Demo(pace=0)
    own = {"gemini-3.8-flash": BY_TYPE["google"]}  # it has newer models in the place of some that are asked for
    async with demo_gateway(tmp_path, demo, model_redirects=own) as gateway:
        model = BY_TYPE[upstream]
        assert "hello there" in await ask_gemini(gemini, gateway.url, tmp_path, model, "hello there")
        prompt = 'call run_shell_command {"command": "expr 40 + 2"}'
        assert "42" in await ask_gemini(gemini, gateway.url, tmp_path, model, prompt)
        (tmp_path / "note.txt").write_text("kept in a file\n")
        prompt = 'call read_file twice {"file_path": "note.txt"}'
        answer = await ask_gemini(gemini, gateway.url, tmp_path, model, prompt)
        assert answer.count("kept in a file") == 2
        (tmp_path / "dot.png").write_bytes(base64.b64decode(PNG))
        await ask_gemini(gemini, gateway.url, tmp_path, model, "look at @dot.png")
        assert PNG in str(demo.requests[-1][2])


def one_model(id: str, upstream: str) -> dict[str, Any]:
    return {"models": [{"id": id, "type": upstream, "thinking": "adaptive"}]}


@upstreams
async def test_claude_code(claude, tmp_path, upstream):
    model = {"anthropic": "claude-opus-5-5", "openai": "gpt-5.5", "common": "glm-4.6", "google": "gemini-3.5-flash"}[
        upstream
    ]
    demo = Demo(pace=0)
    async with demo_gateway(tmp_path, demo, **one_model(model, upstream)) as gateway:
        assert "hello there" in await ask_claude(claude, gateway.url, tmp_path, model, "hello there")
        prompt = 'call Bash with {"command": "echo $((40 + 2))-it-works", "description": "adds"}'
        answer = await ask_claude(claude, gateway.url, tmp_path, model, prompt)
        assert "The tool said: 42-it-works" in answer
    foreign = [body for path, _, body in demo.requests if path != "/v1/messages"]
    assert "x-anthropic-billing-header" not in str(foreign)


@upstreams
async def test_codex(codex, tmp_path, upstream):
    async with demo_gateway(tmp_path, Demo(pace=0), **one_model("gpt-5.5", upstream)) as gateway:
        assert "hello there" in await ask_codex(codex, gateway.url, tmp_path, "gpt-5.5", "hello there")
        prompt = 'call exec_command {"cmd": "echo $((40 + 2))-it-works"}'
        assert "42-it-works" in await ask_codex(codex, gateway.url, tmp_path, "gpt-5.5", prompt)
        note = tmp_path / "note.txt"
        note.write_text("hello world\n")
        patch = "*** Begin Patch\n*** Update File: note.txt\n@@\n-hello world\n+hello gateway\n*** End Patch\n"
        await ask_codex(codex, gateway.url, tmp_path, "gpt-5.5", f"call apply_patch <<<{patch}>>>")
        assert note.read_text() == "hello gateway\n"


async def test_codex_with_tools_in_namespaces(codex, tmp_path):
    """A model that Codex does not know gets its tools in namespaces."""
    async with demo_gateway(tmp_path, Demo(pace=0), **one_model("claude-opus-5-5", "anthropic")) as gateway:
        prompt = 'call exec_command {"cmd": "echo $((40 + 2))-it-works"}'
        assert "42-it-works" in await ask_codex(codex, gateway.url, tmp_path, "claude-opus-5-5", prompt)
