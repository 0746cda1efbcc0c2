"""`droid2api run` with the real tools, and in a real terminal: what a new user sees. Slow, all of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from droid2api.demo import Demo
from droid2api.observe.tools import TOOLS
from tests import agents
from tests.agents import CLAUDE, CODEX, GEMINI, OPENCODE, installed, installed_droid
from tests.harness import demo_gateway, until
from tests.observe.test_run import ROOT, Fake
from tests.observe.test_setups import installed_aider
from tests.services import free_port, program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ASKED = {
    "claude": ["-p", "hello there"],
    "codex": ["exec", "--skip-git-repo-check", "hello there"],
    "droid": ["exec", "hello there"],
    "gemini": ["--skip-trust", "-p", "hello there"],
    "opencode": ["run", "hello there"],
    "aider": ["--no-git", "--no-check-update", "--yes-always", "--no-pretty", "--message", "hello there"],
}


def real(tool: str) -> Path:
    packages = {"claude": CLAUDE, "codex": CODEX, "gemini": GEMINI, "opencode": OPENCODE}
    if tool in packages:
        return installed(packages[tool], tool)
    return installed_droid() if tool == "droid" else installed_aider()


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_new_user_in_an_empty_home(tmp_path, tool):
    """One command, without an account: the demo answers."""
    path = os.pathsep.join([str(real(tool).parent), str(Path(program("node")).parent), os.defpath])
    words = ["-m", "droid2api", "--port", str(free_port()), "--demo", "run", tool, "--", *ASKED[tool]]
    answer = await agents.run(
        Path(sys.executable), *words, folder=tmp_path, PATH=path, PYTHONPATH=str(ROOT), DROID2API_DATA=str(tmp_path)
    )
    assert "hello there" in answer
    settings = [".claude/settings.json", ".codex/config.toml", ".factory/settings.json", ".gemini/settings.json"]
    assert [file for file in settings if (tmp_path / "home" / file).exists()] == []


class Terminal:
    """A real one, of tmux's, in which a command was started."""

    def __init__(self, folder: Path, variables: dict[str, str], command: list[str]) -> None:
        """`command` runs in the folder, with nothing but these variables."""
        self._tmux = [program("tmux"), "-L", f"droid2api-{os.getpid()}", "-f", os.devnull]
        clean = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in variables.items()), "TERM=xterm-256color"]
        size = ["-x", "150", "-y", "50"]
        self._call("new-session", "-d", "-s", "t", *size, "-c", str(folder), shlex.join([*clean, *command]))

    def _call(self, *words: str) -> str:
        own = {name: value for name, value in os.environ.items() if name != "TMUX"} | {"LC_ALL": "C.UTF-8"}
        result = subprocess.run([*self._tmux, *words], check=True, capture_output=True, text=True, timeout=30, env=own)
        return result.stdout

    def press(self, *keys: str) -> None:
        self._call("send-keys", "-t", "t", *keys)

    async def shows(self, text: str, times: int = 1) -> None:
        try:
            await until(lambda: self.screen().count(text) >= times, 30)
        except TimeoutError:
            raise AssertionError(self.screen()) from None

    def screen(self) -> str:
        return self._call("capture-pane", "-p", "-t", "t")

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):  # it closes by itself when its program has ended
            self._call("kill-server")


async def test_a_tool_that_is_stopped_gives_the_terminal_back(tmp_path, monkeypatch):
    """In a real terminal: Ctrl+Z, the shell's prompt, `fg`, and Ctrl+C heard once."""
    fake = Fake(tmp_path)
    (fake.folder / "config.json").write_text((ROOT / "config.json").read_text())
    variables = {
        "PATH": f"{fake.bin}:{os.defpath}",
        "HOME": str(fake.home),
        "PYTHONPATH": str(ROOT),
        "DROID2API_DATA": str(fake.folder),
        "FAKE_FOLDER": str(fake.folder),
        "FAKE_WAITS": "1",
    }
    terminal = Terminal(fake.folder, variables, ["/bin/bash", "--norc"])
    try:
        run = f"{sys.executable} -m droid2api --port {free_port()} --demo run claude"
        terminal.press(run, "Enter")
        await until((fake.folder / "report").exists, 30)
        terminal.press("C-z")
        await terminal.shows("Stopped")
        terminal.press("fg", "Enter")
        await terminal.shows("droid2api --port", times=3)  # as typed, as stopped, as continued
        terminal.press("C-c")
        await until(lambda: fake.heard, 30)
        (fake.folder / "go on").touch()
        terminal.press("echo code $?", "Enter")
        await terminal.shows("code 0")
        assert fake.heard == [signal.SIGINT]
    finally:
        terminal.close()


async def test_claude_code_shows_all_models_in_its_picker(tmp_path):
    """Claude's and redirects by their names from the gateway's list, the others by its settings; one is picked."""
    binary = installed(CLAUDE, "claude")
    demo, home, work = Demo(pace=0), tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    trusted = {str(work): {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}}
    known = {"hasCompletedOnboarding": True, "theme": "dark", "projects": trusted}
    (home / ".claude.json").write_text(json.dumps(known))
    async with demo_gateway(tmp_path, demo, model_redirects={"claude-glm": "glm-4.6"}) as gateway:
        variables = {
            "HOME": str(home),
            "PATH": f"{binary.parent}:{os.defpath}",
            "PYTHONPATH": str(ROOT),
            "DISABLE_AUTOUPDATER": "1",
        }
        port = gateway.url.rpartition(":")[2]
        command = ["-m", "droid2api", "--config", str(tmp_path / "config.json"), "--port", port, "run", "claude"]
        terminal = Terminal(work, variables, [sys.executable, *command])
        try:
            await terminal.shows("❯")
            await asyncio.sleep(1)  # it reads keys a moment after it has drawn itself
            terminal.press("/model")
            await terminal.shows("/model")
            terminal.press("Enter")
            await terminal.shows("glm-4.6 (claude-glm)")
            shown = terminal.screen()
            assert "From gateway" in shown
            line = next(line for line in shown.splitlines() if "gpt-5.5" in line)
            assert "through droid2api" in line
            async with asyncio.timeout(30):
                while "❯" not in next(line for line in terminal.screen().splitlines() if "through droid2api" in line):
                    terminal.press("Down")
                    await asyncio.sleep(0.1)
            terminal.press("s")
            await terminal.shows("Set model to gpt-5.5")
            terminal.press("hello there", "Enter")
            await until(lambda: any(body["model"] == "gpt-5.5" for _, _, body in demo.requests), 30)
        finally:
            terminal.close()
