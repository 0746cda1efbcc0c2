"""The processes of a run: each is started here, and ended by its own pid. What they cost in CPU and memory."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
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

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr crit; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    access_log off; client_max_body_size 64m; client_body_buffer_size 16m; keepalive_requests 1000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    upstream bench {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location / {{
            proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
        }}
    }}
}}
"""


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
def _process(
    *command: str, environment: dict[str, str] | None = None, quiet: bool = False, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`quiet` for what talks to stdout all the time; `log` for what does so to stderr."""
    base = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(ROOT)}
    out = subprocess.DEVNULL if quiet else subprocess.PIPE
    folder = (environment or {}).get("HOME", ROOT)
    with log.open("wb") if log else nullcontext() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=errors, env=base | (environment or {}), cwd=folder
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


def _port_told(process: subprocess.Popen[bytes]) -> int:
    """The port in the first line that the process prints."""
    assert process.stdout
    line = process.stdout.readline()
    found = re.search(rb"http://127\.0\.0\.1:(\d+)", line)
    if not found:
        raise RuntimeError(f"{process.args!r} did not start: {line!r}")
    return int(found.group(1))


@contextmanager
def upstream(port: int = 0) -> Iterator[Server]:
    with _process(sys.executable, "-m", "benchmarks.upstream", str(port)) as process:
        yield Server(_port_told(process), process.pid)


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
    with _process(sys.executable, *arguments, environment=environment, log=folder / "log") as process:
        yield Server(_port_told(process), process.pid)


def nginx_path() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


@contextmanager
def nginx(folder: Path, upstream_port: int) -> Iterator[Server]:
    """One process, as the gateway is one."""
    command, port = nginx_path(), _free_port()
    if command is None:
        raise RuntimeError("nginx is not installed")
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=upstream_port, port=port))
    with _process(command, "-p", str(folder), "-c", str(config)) as process:
        _wait_for(port, process, 10)
        yield Server(port, process.pid)


@contextmanager
def litellm(python: str, folder: Path, upstream_port: int) -> Iterator[Server]:
    """The LiteLLM proxy of another venv, one worker, with the short call and the streams of the chat format."""
    port, config = _free_port(), folder / "litellm.json"  # JSON is YAML
    models = [
        {
            "model_name": f"common-{name}",
            "litellm_params": {
                "model": "openai/model",
                "api_base": f"http://127.0.0.1:{upstream_port}/{name}/v1",
                "api_key": "bench-key",
            },
        }
        for name in SCENARIOS
    ]
    general = {"dangerously_permit_weak_or_unset_master_key": True}  # loopback only, and nothing behind it
    settings = {"model_list": models, "litellm_settings": {"telemetry": False}, "general_settings": general}
    config.write_bytes(orjson.dumps(settings))
    environment = {
        "HOME": str(folder),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "PYTHONPATH": "",
    }
    code = "from litellm import run_server; run_server()"
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with _process(python, "-c", code, *arguments, environment=environment, quiet=True) as process:
        _wait_for(port, process, 90)
        yield Server(port, process.pid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], seconds: float) -> None:
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
    with _process(sys.executable, "-m", "benchmarks.load") as process:
        yield Load(process)
