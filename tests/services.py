"""Servers that slow tests start: on a free loopback port, in a folder of their own, each ended by its pid."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CRASHED = "it ended by itself"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


async def answers(port: int, process: asyncio.subprocess.Process) -> None:
    """Wait until something listens there."""
    async with asyncio.timeout(20):
        while True:
            assert process.returncode is None, CRASHED
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return


@dataclass
class Server:
    """A program that is started and stopped, as often as is wanted."""

    command: list[str]
    port: int
    folder: Path
    environment: dict[str, str] | None = None
    process: asyncio.subprocess.Process | None = None
    logs: list[Path] = field(default_factory=list)

    async def start(self) -> None:
        self.logs.append(self.folder / f"log-{len(self.logs)}")
        with self.logs[-1].open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            await answers(self.port, self.process)
        except BaseException:
            await self.kill()
            raise AssertionError(self.log) from None

    async def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), 30)

    async def kill(self) -> None:
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    @property
    def log(self) -> str:
        return "".join(log.read_text(errors="replace") for log in self.logs)


@contextlib.asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


def program(name: str) -> str:
    """Debian puts servers into /usr/sbin. A machine without it skips the test; CI installs it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    return found or pytest.skip(f"{name} is not installed")  # a developer need not have it: .ci/run installs it
