"""Real clients, Claude Code and Codex first of all: installed, started, talked to, and ended by their pids.

They come from npm into a folder that is kept between runs; where the registry does not answer, the tests are skipped.
Each runs in an environment of its own: an empty home, a dummy key, nothing but loopback.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

CLIENTS = Path(os.environ.get("DROID2API_CLIENTS") or Path(__file__).parent.parent / ".clients")
CLAUDE, CODEX = "@anthropic-ai/claude-code@2.1.330", "@openai/codex@0.169.0"
DROID, GEMINI, OPENCODE = "@factory/cli-linux-x64@0.225.2", "@google/gemini-cli@0.61.0", "opencode-ai@1.18.33"
OLD_CODEX = "@openai/codex@0.77.0"
"""The last that runs commands by a tool of its own kind, `local_shell`."""
LONGEST = 90
"""Seconds that a client may take."""


def installed(package: str, binary: str, folder: Path = CLIENTS) -> Path:
    """The program's path: that of a command, or one in node_modules. npm puts it there; a registry that does not answer
    is the only reason to go without.
    """
    program = folder / "node_modules" / (binary if "/" in binary else f".bin/{binary}")
    if program.exists():
        return program
    if not shutil.which("npm"):
        pytest.fail("npm is needed to install the real clients")  # CI must not pass without them
    reached = subprocess.run(["npm", "view", package, "version"], capture_output=True, timeout=120)
    if reached.returncode:
        # Without a network nothing can be shown about a real client; anything else that goes wrong below is a failure.
        pytest.skip(f"the npm registry does not answer for {package}")
    folder.mkdir(exist_ok=True, parents=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), package]
    subprocess.run(command, check=True, capture_output=True, timeout=500)
    return program


def installed_droid() -> Path:
    """Factory's package has no command of its own; the one that has loads its program from elsewhere."""
    return installed(DROID, "@factory/cli-linux-x64/bin/droid")


@asynccontextmanager
async def running(
    program: Path, *arguments: str, folder: Path, stdin: int, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The program at work in the folder, with a home there; killed if it has not ended by itself."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    path = os.pathsep.join(["/usr/local/bin", "/usr/bin", "/bin", str(Path(shutil.which("node") or "node").parent)])
    process = await asyncio.create_subprocess_exec(
        str(program),
        *arguments,
        cwd=folder,
        env={"HOME": str(home), "PATH": path, **environment},
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    try:
        async with asyncio.timeout(LONGEST):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run(program: Path, *arguments: str, folder: Path, ends_well: bool = True, **environment: str) -> str:
    """Its standard output, once it has ended as is expected."""
    nothing = asyncio.subprocess.DEVNULL
    async with running(program, *arguments, folder=folder, stdin=nothing, **environment) as process:
        output, errors = await process.communicate()
    assert (process.returncode == 0) == ends_well, (output.decode(), errors.decode())
    return output.decode()


@dataclass
class ClaudeCode:
    """Claude Code that talks to the gateway at `url`."""

    program: Path
    url: str
    folder: Path

    def _arguments(self, model: str, *more: str) -> list[str]:
        tools = "Bash,Read,WebSearch,ToolSearch,mcp__late__add"
        return ["-p", *more, "--model", model, "--allowedTools", tools]

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "sk-dummy",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0",
        }

    async def ask(self, model: str, prompt: str, *more: str) -> str:
        """A session of one turn; with "--continue" the next turn of the last one."""
        arguments = self._arguments(model, prompt, *more)
        return await run(self.program, *arguments, folder=self.folder, **self._environment)

    async def session(self, model: str, *prompts: str, more: list[str]) -> list[str]:
        """What it says to each prompt, one after the other in one process."""
        streams = ["--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
        arguments = self._arguments(model, *streams, *more)
        pipe = asyncio.subprocess.PIPE
        said = []
        async with running(self.program, *arguments, folder=self.folder, stdin=pipe, **self._environment) as process:
            assert process.stdin
            assert process.stdout
            for prompt in prompts:
                message = {"type": "user", "message": {"role": "user", "content": prompt}}
                process.stdin.write(orjson.dumps(message) + b"\n")
                event = {"type": ""}
                while event["type"] != "result":
                    event = orjson.loads(await process.stdout.readline())
                said.append(str(event["result"]))
            process.stdin.close()
            await process.wait()
        return said


@dataclass
class Codex:
    """Codex that has the gateway at `url` as its provider."""

    program: Path
    url: str
    folder: Path

    async def ask(self, model: str, prompt: str, *more: str, ends_well: bool = True) -> str:
        """A session of one turn; with "resume", "--last" the next turn of the last one."""
        provider = f'{{name="gw",base_url="{self.url}/v1",env_key="GW_KEY",wire_api="responses",request_max_retries=0'
        settings = [
            "model_provider=gw",
            f"model_providers.gw={provider},stream_max_retries=0}}",
            "check_for_update_on_startup=false",
        ]
        old = "codex-0.77" in str(self.program)
        switches = [] if old else ["--disable", "plugins", "--disable", "apps"]
        settings += [] if old else ["analytics.enabled=false"]
        options = [part for setting in settings for part in ("-c", setting)]
        return await run(
            self.program,
            *("exec", "--skip-git-repo-check", "-m", model, *options, *switches, "-s", "workspace-write"),
            *more,
            prompt,
            folder=self.folder,
            ends_well=ends_well,
            GW_KEY="sk-dummy",
        )
