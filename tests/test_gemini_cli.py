"""Gemini CLI, the real program, on models of all upstream types."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from droid2api.demo import Demo
from tests.agents import GEMINI, installed, run
from tests.harness import BY_TYPE, demo_gateway
from tests.sdk_clients import PNG

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def gemini():
    return installed(GEMINI, "gemini")


async def ask(program: Path, url: str, folder: Path, model: str, prompt: str) -> str:
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


@pytest.mark.parametrize("upstream", BY_TYPE)
async def test_gemini_cli(gemini, tmp_path, upstream):
    """One turn, a tool turn, parallel tools, a picture."""
    demo = Demo(pace=0)
    own = {"gemini-3.8-flash": BY_TYPE["google"]}  # it has newer models in the place of some that are asked for
    async with demo_gateway(tmp_path, demo, model_redirects=own) as gateway:
        model = BY_TYPE[upstream]
        assert "hello there" in await ask(gemini, gateway.url, tmp_path, model, "hello there")
        prompt = 'call run_shell_command {"command": "expr 40 + 2"}'
        assert "42" in await ask(gemini, gateway.url, tmp_path, model, prompt)
        (tmp_path / "note.txt").write_text("kept in a file\n")
        prompt = 'call read_file twice {"file_path": "note.txt"}'
        answer = await ask(gemini, gateway.url, tmp_path, model, prompt)
        assert answer.count("kept in a file") == 2
        (tmp_path / "dot.png").write_bytes(base64.b64decode(PNG))
        await ask(gemini, gateway.url, tmp_path, model, "look at @dot.png")
        assert PNG in str(demo.requests[-1][2])
