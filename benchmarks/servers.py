"""The processes of a run: each is started here, and ended by its own pid. What they cost in CPU and memory."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.wire import SCENARIOS, model_id
from droid2api.demo import answer_path
from droid2api.formats import BY_NAME

ROOT = Path(__file__).parent.parent
PLAIN_LOOP = (
    "import runpy, sys; sys.modules['uvloop'] = None; sys.argv[0] = 'droid2api'; "
    "runpy.run_module('droid2api', run_name='__main__', alter_sys=True)"
)
"""The gateway as it is where uvloop is not installed."""


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed: upstream and load shall be no bottleneck."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def has_uvloop() -> bool:
    return type(new_loop()).__module__.startswith("uvloop")


@dataclass
class Server:
    port: int
    pid: int

    def cpu(self) -> float:
        """Seconds of CPU that the process has used: /proc/PID/stat without its rounding to ticks."""
        return time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3)

    def memory(self, field: str = "VmRSS") -> int:
        """KB of memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{field}:\s*(\d+)", status, re.MULTILINE)
        return int(found.group(1)) if found else 0


@contextmanager
def process(
    *command: str, environment: dict[str, str] | None = None, quiet: bool = False, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`quiet` for what talks to stdout all the time; `log` for what does so to stderr."""
    base = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(ROOT)}
    out = subprocess.DEVNULL if quiet else subprocess.PIPE
    folder = (environment or {}).get("HOME", ROOT)
    with log.open("wb") if log else nullcontext() as errors:
        started = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=errors, env=base | (environment or {}), cwd=folder
        )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(2)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        for pipe in (started.stdin, started.stdout):
            if pipe:
                pipe.close()


def port_told(process: subprocess.Popen[bytes]) -> int:
    """The port in the first line that the process prints."""
    assert process.stdout
    line = process.stdout.readline()
    found = re.search(rb"http://127\.0\.0\.1:(\d+)", line)
    if not found:
        raise RuntimeError(f"{process.args!r} did not start: {line!r}")
    return int(found.group(1))


@contextmanager
def upstream(port: int = 0) -> Iterator[Server]:
    with process(sys.executable, "-m", "benchmarks.upstream", str(port)) as started:
        yield Server(port_told(started), started.pid)


@contextmanager
def gateway(folder: Path, upstream_port: int, *, plain_loop: bool = False) -> Iterator[Server]:
    """As its users run it, with its log in a file. A model and an endpoint for each format and scenario."""
    config = folder / "config.json"
    models: list[dict[str, Any]] = []
    endpoints = []
    for format in BY_NAME.values():
        for scenario in SCENARIOS.values():
            name = model_id(format, scenario)
            endpoints.append(
                {"name": name, "base_url": f"http://127.0.0.1:{upstream_port}/{scenario.name}{answer_path(format)}"}
            )
            models.append({"id": name, "type": format.TYPE, "endpoint": name})
    prompt = orjson.loads((ROOT / "config.json").read_bytes())["system_prompt"]
    config.write_bytes(orjson.dumps({"endpoint": endpoints, "models": models, "system_prompt": prompt}))
    command = ["-c", PLAIN_LOOP] if plain_loop else ["-m", "droid2api"]
    environment = {"HOME": str(folder), "DROID2API_DATA": str(folder), "FACTORY_API_KEY": "bench-key"}
    arguments = [*command, "--config", str(config), "--port", "0"]
    with process(sys.executable, *arguments, environment=environment, log=folder / "log") as started:
        yield Server(port_told(started), started.pid)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen")


class Load:
    """The load process: `run` gives it a job and waits for the result."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(self, job: str, **fields: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(orjson.dumps({"job": job, **fields}) + b"\n")
        self._process.stdin.flush()
        result: dict[str, Any] = orjson.loads(self._process.stdout.readline())
        if "error" in result:
            raise RuntimeError(f"the load failed: {result['error']}")
        return result


@contextmanager
def load() -> Iterator[Load]:
    with process(sys.executable, "-m", "benchmarks.load") as started:
        yield Load(started)
