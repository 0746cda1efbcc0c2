"""The other rows: what people would pick instead, and what the gateway is built on. Each is set up for the upstream."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import orjson

from benchmarks.servers import Server, free_port, port_told, process, wait_for
from benchmarks.wire import SCENARIOS

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


def nginx_path() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


@contextmanager
def nginx(folder: Path, upstream_port: int) -> Iterator[Server]:
    """One process, as the gateway is one."""
    command, port = nginx_path(), free_port()
    if command is None:
        raise RuntimeError("nginx is not installed")
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=upstream_port, port=port))
    with process(command, "-p", str(folder), "-c", str(config)) as started:
        wait_for(port, started, 10)
        yield Server(port, started.pid)


@contextmanager
def litellm(python: str, folder: Path, upstream_port: int) -> Iterator[Server]:
    """The LiteLLM proxy of another venv, one worker, with the short call and the streams of the chat format."""
    port, config = free_port(), folder / "litellm.json"  # JSON is YAML
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
    with process(python, "-c", code, *arguments, environment=environment, quiet=True) as started:
        wait_for(port, started, 90)
        yield Server(port, started.pid)


@contextmanager
def bare(upstream_port: int) -> Iterator[Server]:
    """aiohttp alone: the base of what the gateway adds."""
    with process(sys.executable, "-m", "benchmarks.bare", f"http://127.0.0.1:{upstream_port}") as started:
        yield Server(port_told(started), started.pid)


@contextmanager
def rolter(program: str, folder: Path, upstream_port: int) -> Iterator[Server]:
    """A gateway in Rust: clients of Chat and Anthropic, the upstream speaks Chat."""
    port, config = free_port(), folder / "rolter.toml"
    text = f'[server]\nhost = "127.0.0.1"\nport = {port}\n'
    for name in SCENARIOS:
        base = f"http://127.0.0.1:{upstream_port}/{name}"
        text += f'[[providers]]\nname = "{name}"\nkind = "openai_compatible"\napi_base = "{base}"\n'
        text += f'[[routes]]\nmodel = "common-{name}"\n'
        text += f'targets = [{{ provider = "{name}", model = "common-{name}" }}]\n'
    config.write_text(text)
    environment = {"HOME": str(folder), "RUST_LOG": "warn"}
    with process(program, "gateway", "--config", str(config), environment=environment, quiet=True) as started:
        wait_for(port, started, 20)
        yield Server(port, started.pid)


@contextmanager
def smg(program: str, folder: Path, upstream_port: int) -> Iterator[dict[str, Server]]:
    """Another in Rust, Chat only. It knows one path of an upstream, so there is a process for each scenario."""
    with ExitStack() as running:
        found = {}
        for name in SCENARIOS:
            port, metrics = free_port(), free_port()
            base = f"http://127.0.0.1:{upstream_port}/{name}"
            options = f"launch --host 127.0.0.1 --port {port} --worker-urls {base} --backend openai --log-level error"
            options += " --disable-health-check --disable-load-monitoring --max-concurrent-requests 4096"
            options += f" --prometheus-port {metrics}"
            environment = {"HOME": str(folder), "PYTHONPATH": ""}
            started = running.enter_context(
                process(program, *options.split(), environment=environment, quiet=True, log=folder / "log")
            )
            wait_for(port, started, 20)
            found[name] = Server(port, started.pid)
        yield found
