"""Several processes that serve as one: real gunicorn workers, and a real nginx with the shipped configuration."""

import asyncio
import io
import os
import re
import signal
import sys
import time
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import aiohttp
import orjson
import pytest

from droid2api.demo import Demo
from tests.credentials.service import FIRST_KEY, Service, read_json
from tests.harness import BY_TYPE, PATHS, Scripted, body_of, demo_gateway, scripted_gateway, serving, until
from tests.services import Server, free_port, program, running
from tests.workers import gunicorn, workers_of

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]
STREAM = {"model": BY_TYPE["common"], "stream": True, "messages": [{"role": "user", "content": "one two three four"}]}


# -- gunicorn -------------------------------------------------------------------------------------------------------


async def ask_many(server, count=40):
    """On connections of their own, so that all workers are asked."""

    async def ask(session):
        async with session.post(f"http://127.0.0.1:{server.port}/v1/chat/completions", json=STREAM) as response:
            return response.status, (await response.read())[-14:]

    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        return set(await asyncio.gather(*(ask(session) for _ in range(count))))


GOOD = {(200, b"data: [DONE]\n\n")}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
async def test_workers_make_one_refresh(tmp_path):
    service = Service()
    async with serving(service.app()) as upstream, gunicorn(tmp_path, upstream) as server:
        assert await ask_many(server) == GOOD
        assert service.calls == [FIRST_KEY]

        service.access_token, service.lifetime = "another", 3  # rejected everywhere at once
        assert await ask_many(server) == GOOD
        assert service.refreshes == len(service.calls) == 2

        service.lifetime = 8 * 3600
        await asyncio.sleep(3)  # ended everywhere at once, or renewed by one before
        assert await ask_many(server) == GOOD
        assert service.refreshes == len(service.calls) <= 4

        calls = len(service.calls)
        killed = workers_of(server)[0]
        os.kill(killed, signal.SIGKILL)
        await until(lambda: killed not in workers_of(server) and len(workers_of(server)) == 4)
        assert await ask_many(server) == GOOD
        assert len(service.calls) == calls  # the new worker took the stored one
        assert read_json(tmp_path / "data" / "auth.json")["refresh_token"] == service.refresh_token
    assert server.process.returncode == 0
    assert server.log.count("No key is set") == 5


async def test_workers_drain(tmp_path):
    """A stream goes to its end, the listener is gone soon, and the exit code is 0."""
    async with (
        serving(Service(pace=0.7).app()) as upstream,
        gunicorn(tmp_path, upstream, workers=2) as server,
        aiohttp.ClientSession() as client,
    ):
        url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
        async with client.post(url, json=STREAM) as response:
            await response.content.readany()
            stopping = asyncio.create_task(server.stop())
            await asyncio.sleep(1.5)  # a worker looks once a second
            assert not stopping.done()
            with pytest.raises(aiohttp.ClientConnectorError):
                async with aiohttp.ClientSession() as late:
                    await late.get(f"http://127.0.0.1:{server.port}/health")
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        assert await stopping == 0


async def test_a_worker_ends_a_stream_that_takes_too_long(tmp_path):
    async with (
        serving(Service(pace=1).app()) as upstream,
        gunicorn(tmp_path, upstream, workers=1, timeouts={"drain": 0.5}) as server,
        aiohttp.ClientSession() as client,
    ):
        async with client.post(f"http://127.0.0.1:{server.port}/v1/chat/completions", json=STREAM) as response:
            await response.content.readany()
            stopping = asyncio.create_task(server.stop())
            last = (await response.read()).split(b"\n\n")[-2].removeprefix(b"data: ")
            assert "error" in orjson.loads(last)
        assert await stopping == 0


async def leave(url, script, headers=None):
    """Ask for a stream, leave while the upstream says nothing yet, and wait until it is told."""
    async with aiohttp.ClientSession() as client:
        asking = asyncio.create_task(client.post(f"{url}/v1/chat/completions", json=STREAM, headers=headers))
        await asyncio.wait_for(script.reached.wait(), 10)
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.wait_for(script.left.wait(), 10)


async def test_a_worker_lets_the_upstream_go_with_its_client(tmp_path):
    script = Scripted(silence=30)
    async with serving(script.app()) as upstream:
        key = {"api_key_env": "PATH"}  # any credential will do
        endpoint = [{"name": "common", "base_url": upstream + PATHS["common"]} | key]
        async with gunicorn(tmp_path, upstream, workers=1, endpoint=endpoint) as server:
            await leave(f"http://127.0.0.1:{server.port}", script)


async def test_a_wrong_configuration_ends_it(tmp_path):
    (tmp_path / "config.json").write_text("{")
    command = [sys.executable, "-m", "gunicorn", "droid2api.application:create_app", "-k", "aiohttp.GunicornWebWorker"]
    process = await asyncio.create_subprocess_exec(
        *(*command, "-b", f"127.0.0.1:{free_port()}"),
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": os.defpath, "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode != 0
    assert b"config.json: line 1" in errors


# -- nginx ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def nginx(folder, *gateways):
    """deploy/nginx.conf, but for ports, the folder of its files, and one process without a change of user."""
    port, prefix = free_port(), folder / "nginx"
    prefix.mkdir()
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    servers = "".join(f"server {url.removeprefix('http://')}; " for url in gateways)
    places = "".join(f"{kind}_temp_path {prefix}/{kind}; " for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    changes = {
        "server droid2api:3000;": servers,
        "listen 80;": f"listen 127.0.0.1:{port};",
        "worker_processes auto;": f"worker_processes 1; daemon off; master_process off; pid {prefix}/pid;",
        "http {": f"http {{ client_body_temp_path {prefix}/body; {places}",
        "worker_rlimit_nofile 65536;": "",
        "worker_connections 16384;": "worker_connections 256;",
    }
    for shipped, adapted in changes.items():
        assert text.count(shipped) == 1
        text = text.replace(shipped, adapted)
    (prefix / "nginx.conf").write_text(text)
    command = [program("nginx"), "-p", str(prefix), "-c", str(prefix / "nginx.conf"), "-e", "stderr"]
    async with running(Server(command, port, prefix)) as server:
        yield f"http://127.0.0.1:{port}"
    assert "[emerg]" not in server.log


KEYS = {"api_keys": ["a-long-secret"], "allowed_hosts": ["gateway.example"]}
HEADERS = {"Authorization": "Bearer a-long-secret", "Host": "gateway.example"}


async def check_paced(url, type):
    """The events of a stream come apart in time, as they are made."""
    body = body_of(type, said="one two three four five six", stream=True)
    arrived, whole = [], b""
    async with (
        aiohttp.ClientSession() as client,
        client.post(url + PATHS[type], json=body, headers=HEADERS) as response,
    ):
        assert response.status == 200
        async for chunk in response.content.iter_any():
            arrived.append(time.monotonic())
            whole += chunk
    pauses = [later - earlier for earlier, later in pairwise(arrived)]
    assert sum(pause > 0.1 for pause in pauses) >= 4, pauses
    assert b"six" in whole


@pytest.mark.parametrize("type", PATHS)
async def test_events_pass_nginx_one_by_one(tmp_path, type):
    async with demo_gateway(tmp_path, Demo(pace=0.15), **KEYS) as gateway, nginx(tmp_path, gateway.url) as url:
        await check_paced(url, type)


async def test_nginx_does_not_need_to_be_told(tmp_path):
    """The gateway asks it not to buffer; its configuration says so too."""
    async with serving(Demo(pace=0.15).app()) as upstream, nginx(tmp_path, upstream) as url:
        await check_paced(url, "common")


async def test_nginx_asks_all_gateways_and_goes_round_one_that_is_gone(tmp_path):
    demos = [Demo(pace=0), Demo(pace=0)]
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    async with (
        demo_gateway(folders[0], demos[0], **KEYS) as first,
        demo_gateway(folders[1], demos[1], **KEYS) as second,
        nginx(tmp_path, first.url, second.url, f"http://127.0.0.1:{free_port()}") as url,
        aiohttp.ClientSession(headers=HEADERS) as client,
    ):
        for _ in range(12):
            async with client.post(f"{url}/v1/chat/completions", json=STREAM) as response:
                assert (await response.read()).endswith(b"data: [DONE]\n\n")
    assert all(demo.requests for demo in demos)
    assert sum(len(demo.requests) for demo in demos) == 12


async def test_what_the_gateway_refuses_is_refused_through_nginx(tmp_path):
    async with (
        demo_gateway(tmp_path, **KEYS) as gateway,
        nginx(tmp_path, gateway.url) as url,
        aiohttp.ClientSession() as client,
    ):

        async def ask(headers):
            async with client.post(f"{url}/v1/chat/completions", json=STREAM, headers=headers) as response:
                return response.status

        assert await ask(HEADERS) == 200
        assert await ask(HEADERS | {"Host": "foreign.example"}) == 403
        assert await ask({"Host": "gateway.example"}) == 401
        said = [{"role": "user", "content": "x" * 5_000_000}]
        large = io.BytesIO(orjson.dumps({"model": BY_TYPE["common"], "messages": said, "max_tokens": 1}))
        more = HEADERS | {"Content-Type": "application/json"}
        async with client.post(f"{url}/v1/chat/completions", data=large, headers=more) as response:
            assert response.status == 200


async def test_who_leaves_nginx_leaves_the_upstream(tmp_path):
    script = Scripted(silence=30)
    async with scripted_gateway(tmp_path, script, **KEYS) as gateway, nginx(tmp_path, gateway.url) as url:
        await leave(url, script, HEADERS)


# -- what is shipped ------------------------------------------------------------------------------------------------


def test_compose_and_nginx_agree():
    compose = (ROOT / "deploy" / "docker-compose.replicas.yml").read_text()
    configuration = (ROOT / "deploy" / "nginx.conf").read_text()
    assert "./nginx.conf:/etc/nginx/nginx.conf" in compose
    assert re.search(r"^  droid2api:$", compose, re.MULTILINE)
    assert "server droid2api:3000;" in configuration
    assert 'PORT:-3000}:80"' in compose
    assert "listen 80;" in configuration
    assert re.search(r'- "127\.0\.0\.1:', compose)
    assert "DROID2API_KEYS:?" in compose
