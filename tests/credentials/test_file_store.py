"""One rotating token for several processes, a file that no crash can break, and clocks that jump."""

import asyncio
import base64
import logging
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp import web

from droid2api.credentials import manager as auth
from droid2api.credentials.file_store import FileStore, Tokens, expiry
from droid2api.credentials.manager import AuthManager
from droid2api.errors import ConfigError
from droid2api.server.app import CURRENT
from tests.credentials.test_manager import FIRST_KEY, HOUR, Service, credential_state, read_json, say, settled, until
from tests.harness import gateway_for, serving, settings_for

ROOT = Path(__file__).parents[2]
KEY = {"DROID_REFRESH_KEY": FIRST_KEY}
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and modes of POSIX")


@asynccontextmanager
async def managers_for(folder, service, count, environment=KEY, **config):
    """That many managers, each as if in a process of its own, and the endpoint that they are asked about."""
    async with AsyncExitStack() as stack:
        settings = settings_for(folder, await stack.enter_async_context(serving(service.app())), environment, **config)
        managers = []
        for _ in range(count):
            session = await stack.enter_async_context(aiohttp.ClientSession())
            managers.append(AuthManager(settings, session))
            stack.push_async_callback(managers[-1].close)
        yield managers, settings.endpoints["anthropic"]


async def credentials(managers, endpoint):
    return set(await asyncio.gather(*(manager.credential(endpoint, {}) for manager in managers)))


@asynccontextmanager
async def script(code, *arguments, environment=None):
    """A Python process, killed by its pid at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, *map(str, arguments)),
        env={"PYTHONPATH": str(ROOT), "PATH": os.defpath} | (environment or {}),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        while await process.stdout.read(1 << 16):
            pass


# -- one refresh for all --------------------------------------------------------------------------------------------


async def test_those_that_share_a_file_make_one_refresh(tmp_path):
    service = Service()
    async with managers_for(tmp_path, service, 5) as (managers, endpoint):
        assert await credentials(managers, endpoint) == {service.access_token}
    assert service.calls == [FIRST_KEY]


async def test_tokens_that_end_at_the_same_moment_make_one_refresh(tmp_path):
    service = Service()
    async with managers_for(tmp_path, service, 5) as (managers, endpoint):
        await credentials(managers, endpoint)
        for manager in managers:
            manager._ends = 0
        assert await credentials(managers, endpoint) == {service.access_token}
    assert service.refreshes == len(service.calls) == 2


async def test_a_401_for_all_makes_one_refresh(tmp_path):
    service = Service()
    async with managers_for(tmp_path, service, 5) as (managers, endpoint):
        (old,) = await credentials(managers, endpoint)
        answers = await asyncio.gather(*(manager.replace_rejected(endpoint, old) for manager in managers))
        assert answers == [True] * 5
        assert await credentials(managers, endpoint) == {service.access_token} != {old}
    assert service.refreshes == len(service.calls) == 2


@pytest.mark.parametrize("rotated", [True, False])
async def test_a_401_takes_what_another_process_stored_without_a_call(tmp_path, rotated):
    service = Service()
    if not rotated:
        service.token_answer = lambda: _answer(access_token=f"opaque-{len(service.calls)}")
    async with managers_for(tmp_path, service, 2) as (managers, endpoint):
        (old,) = await credentials(managers, endpoint)
        assert await managers[0].replace_rejected(endpoint, old)
        calls = len(service.calls)
        assert await managers[1].replace_rejected(endpoint, old)
        assert await credentials(managers, endpoint) == {await managers[0].credential(endpoint, {})} != {old}
        assert len(service.calls) == calls == 2


async def test_what_is_taken_beside_a_refresh_spares_it(tmp_path, monkeypatch):
    """The look at the store goes on while a request asks for a refresh."""
    service = Service()
    async with managers_for(tmp_path, service, 2) as (managers, endpoint):
        (old,) = await credentials(managers, endpoint)
        await managers[0].replace_rejected(endpoint, old)
        store = managers[1]._store

        async def read():
            managers[1]._take(store.load())
            return store.load()

        monkeypatch.setattr(store, "read", read)
        assert await managers[1].replace_rejected(endpoint, old)
    assert len(service.calls) == 2


async def _answer(**value):
    return web.json_response(value)


async def test_who_waits_for_the_lock_does_not_stop_the_loop(tmp_path):
    """And gets it at once when the holder dies."""
    store = FileStore(tmp_path / "auth.json")
    holder = (
        "import fcntl,sys,time; f=open(sys.argv[1],'w'); fcntl.flock(f,2); print('held',flush=True); time.sleep(60)"
    )
    async with script(holder, tmp_path / "auth.json.lock") as process:
        await process.stdout.readline()

        async def take():
            async with store.lock():
                pass

        taking = asyncio.create_task(take())
        await asyncio.sleep(0.2)  # a loop that stopped would not come back: the holder waits to be killed
        assert not taking.done()
        process.kill()
        await asyncio.wait_for(taking, 10)


async def test_processes_make_one_refresh(tmp_path):
    code = """
import asyncio, sys, aiohttp
from pathlib import Path
from droid2api.credentials.manager import AuthManager
from droid2api.config import load
async def main():
    settings = load(Path(sys.argv[1]))
    async with aiohttp.ClientSession() as session:
        manager = AuthManager(settings, session)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(await manager.credential(settings.endpoints["anthropic"], {}))
asyncio.run(main())
"""
    service = Service()
    async with serving(service.app()) as upstream, AsyncExitStack() as stack:
        settings = settings_for(tmp_path, upstream, KEY)
        environment = KEY | {"HOME": str(tmp_path), "DROID2API_DATA": str(tmp_path / "data")}
        started = [script(code, settings.source, environment=environment) for _ in range(3)]
        processes = [await stack.enter_async_context(process) for process in started]
        for process in processes:
            assert await process.stdout.readline() == b"ready\n"
        service.gate.clear()
        asyncio.get_running_loop().call_later(0.3, service.gate.set)  # all have come to it by then
        told = await asyncio.gather(*(process.stdout.readline() for process in processes))
    assert set(told) == {service.access_token.encode() + b"\n"}
    assert service.calls == [FIRST_KEY]


# -- a file that is always whole ------------------------------------------------------------------------------------

WRITER = """
import itertools, os, signal, sys
from pathlib import Path
from droid2api.credentials.file_store import FileStore, Tokens
store = FileStore(Path(sys.argv[1]), "key")
if len(sys.argv) > 2:
    original = getattr(os, sys.argv[2])
    def dies(*arguments, **named):
        if sys.argv[3] == "after":
            original(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(os, sys.argv[2], dies)
print("ready", flush=True)
for number in itertools.count(1):
    store.save(Tokens(f"access-{number}" * 20000, f"refresh-{number}"))
"""


def check_whole(file):
    tokens = FileStore(file, "key").load()
    assert tokens is not None
    assert tokens.access == tokens.refresh.replace("refresh", "access") * (
        1 if tokens.refresh == "refresh-0" else 20000
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {path.name for path in file.parent.iterdir()} <= {"auth.json", ".auth.json.new"}
    return tokens


@needs_posix
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["open", "fdopen", "fsync", "replace"])
def test_killed_at_each_step(tmp_path, call, when):
    file = tmp_path / "auth.json"
    FileStore(file, "key").save(Tokens("access-0", "refresh-0"))
    command = [sys.executable, "-c", WRITER, str(file), call, when]
    ended = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, timeout=30)
    assert ended.returncode == -signal.SIGKILL
    assert check_whole(file).refresh == ("refresh-1" if (call, when) == ("replace", "after") else "refresh-0")
    FileStore(file, "key").save(Tokens("access-0", "refresh-0"))
    assert [path.name for path in tmp_path.iterdir()] == ["auth.json"]


@needs_posix
async def test_killed_at_any_instant(tmp_path):
    file = tmp_path / "auth.json"
    FileStore(file, "key").save(Tokens("access-0", "refresh-0"))
    for _ in range(8):
        async with script(WRITER, file) as process:
            await process.stdout.readline()
            end = time.monotonic() + random.uniform(0.01, 0.1)
            while time.monotonic() < end:
                assert FileStore(file, "key").load()
            process.kill()
        check_whole(file)


async def test_a_token_that_was_not_saved_is_saved_later(tmp_path, monkeypatch, caplog):
    """The next process needs it: the old one is used up."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(auth, "CHECK_EVERY", 0.02)
    monkeypatch.setattr(auth, "RETRY_DELAYS", (0.02, 0.02))
    service = Service()

    def fail(*_):
        raise OSError(28, "No space left on device")

    async with serving(service.app()) as upstream:
        settings = settings_for(tmp_path, upstream, KEY)
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", fail)
            async with gateway_for(settings) as gateway:
                await settled(gateway)
                await asyncio.sleep(0.1)
                assert "No space left" in (await credential_state(gateway))["problem"]
                assert (await say(gateway))[0] == 200
                patched.undo()
                await until((tmp_path / "data" / "auth.json").exists)
                await until(lambda: not gateway.app[CURRENT].auth._store_problem)
                assert (await credential_state(gateway))["state"] == "ok"
        assert read_json(tmp_path / "data" / "auth.json")["refresh_token"] == service.refresh_token
    assert service.refreshes == 1
    assert [record.levelname for record in caplog.records if "saved" in record.message] == ["ERROR"]


async def test_it_is_saved_at_the_end_at_the_latest(tmp_path, monkeypatch):
    service = Service()
    with monkeypatch.context() as patched:
        async with managers_for(tmp_path, service, 1) as (managers, endpoint):
            patched.setattr(os, "fsync", lambda _: os.replace("not there", "either"))
            await credentials(managers, endpoint)
            patched.undo()
    assert read_json(tmp_path / "data" / "auth.json")["refresh_token"] == service.refresh_token


async def test_a_folder_that_cannot_be_made(tmp_path):
    service = Service()
    (tmp_path / "file").touch()
    environment = KEY | {"DROID2API_DATA": str(tmp_path / "file" / "data")}
    async with managers_for(tmp_path, service, 1, environment) as (managers, endpoint):
        assert await credentials(managers, endpoint) == {service.access_token}
        assert "could not be saved" in managers[0].describe()["problem"]


# -- clocks ---------------------------------------------------------------------------------------------------------


@dataclass
class Clock:
    """What auth.py sees as time; `wrong` is how far the wall clock is off, `later` what has passed on both."""

    wrong: float = 0
    later: float = 0

    def time(self):
        return time.time() + self.wrong + self.later

    def monotonic(self):
        return time.monotonic() + self.later


def dated(clock, with_iat):
    """A token endpoint with the right time."""

    async def answer():
        now = time.time() + clock.later
        claims = orjson.dumps({"exp": int(now + 8 * HOUR)} | ({"iat": int(now)} if with_iat else {}))
        token = f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.{os.urandom(4).hex()}"
        return web.json_response({"access_token": token, "refresh_token": os.urandom(4).hex()})

    return answer


DAY = 24 * HOUR


@pytest.mark.parametrize("with_iat", [True, False])
@pytest.mark.parametrize("jump", [-365 * DAY, -DAY, -HOUR, HOUR, 7.9 * HOUR, DAY, 365 * DAY])
@pytest.mark.parametrize("first", [True, False], ids=["wrong from the start", "jumps"])
async def test_a_wrong_clock_makes_no_storm_and_no_endless_token(tmp_path, monkeypatch, jump, with_iat, first):
    clock = Clock(wrong=jump if first else 0)
    monkeypatch.setattr(auth, "time", clock)
    service = Service(token_answer=dated(clock, with_iat))
    async with managers_for(tmp_path, service, 1) as ([manager], endpoint):
        await manager.credential(endpoint, {})
        clock.wrong = jump
        for _ in range(5):
            await manager.credential(endpoint, {})
        assert len(service.calls) <= 2
        if with_iat or len(service.calls) == 2:
            assert manager._next_delay() > 0.5 * HOUR
        assert manager._next_delay() <= 6 * HOUR  # whatever the token seems to say
        clock.later = 8 * HOUR + 60
        if with_iat or (jump <= HOUR and not first):
            calls = len(service.calls)
            for _ in range(5):
                await manager.credential(endpoint, {})
            assert len(service.calls) == calls + 1


async def test_a_laptop_that_slept(tmp_path, monkeypatch):
    """The monotonic clock stood still."""
    clock = Clock()
    monkeypatch.setattr(auth, "time", clock)
    service = Service(token_answer=dated(clock, True))
    async with managers_for(tmp_path, service, 1) as ([manager], endpoint):
        await manager.credential(endpoint, {})
        clock.wrong = 9 * HOUR
        await manager.credential(endpoint, {})
        assert len(service.calls) == 2


@pytest.mark.parametrize(("exp", "iat", "lasts"), [(7200, 0, 7200), (7200, 3600, 3600), (-100, -400, 300), (5, 9, 5)])
def test_a_token_that_tells_its_lifetime(exp, iat, lasts):
    claims = base64.urlsafe_b64encode(orjson.dumps({"exp": 1e9 + exp, "iat": 1e9 + iat})).decode()
    assert expiry(f"e30.{claims}.s", 1e9) == 1e9 + lasts


# -- Redis, without one ---------------------------------------------------------------------------------------------

REDIS = KEY | {"DROID2API_REDIS_URL": "redis://:SECRET-password@127.0.0.1:1/0"}


async def test_no_refresh_without_the_shared_lock(tmp_path, caplog):
    pytest.importorskip("redis")
    caplog.set_level(logging.DEBUG)
    service = Service()
    async with serving(service.app()) as upstream, gateway_for(settings_for(tmp_path, upstream, REDIS)) as gateway:
        answers = [await say(gateway) for _ in range(3)]
        state = await credential_state(gateway)
    assert [status for status, _ in answers] == [503] * 3
    assert state["state"] == "failing"
    assert "Redis at 127.0.0.1:1 does not serve the shared token (ConnectionError)" in state["problem"]
    assert (service.calls, (tmp_path / "data" / "auth.json").exists()) == ([], False)
    lines = [record for record in caplog.records if record.levelno > logging.INFO and "auth" in record.name]
    assert len(lines) <= 2
    assert "SECRET-password" not in caplog.text + repr(answers) + repr(state)


async def test_a_redis_url_that_is_none(tmp_path):
    pytest.importorskip("redis")
    environment = KEY | {"DROID2API_REDIS_URL": "http://SECRET-password"}
    with pytest.raises(ConfigError, match="DROID2API_REDIS_URL") as error:
        AuthManager(settings_for(tmp_path, "http://127.0.0.1", environment), None)
    assert "SECRET" not in str(error.value)


def test_without_the_redis_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "droid2api.credentials.redis_store", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'droid2api[redis]'")):
        AuthManager(settings_for(tmp_path, "http://127.0.0.1", REDIS), None)


def test_redis_is_only_loaded_when_it_is_used():
    code = "import sys, droid2api.__main__; sys.exit('redis' in sys.modules or 'droid2api.credentials.redis_store' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, timeout=30).returncode == 0


async def test_a_token_is_stored_before_it_is_used(tmp_path, monkeypatch):
    service, save, waiting = Service(), FileStore.save, []
    async with managers_for(tmp_path, service, 1) as ([manager], endpoint):

        def slow_save(store, tokens):
            time.sleep(0.2)
            waiting.append(asking.done())
            save(store, tokens)

        monkeypatch.setattr(FileStore, "save", slow_save)
        asking = asyncio.create_task(manager.credential(endpoint, {}))
        token = await asking
        assert waiting == [False]
        assert read_json(tmp_path / "data" / "auth.json")["access_token"] == token


async def test_a_disk_that_hangs_holds_nobody_for_long(tmp_path, monkeypatch):
    async def hang(store, tokens):
        await asyncio.sleep(60)

    monkeypatch.setattr(FileStore, "write", hang)
    monkeypatch.setattr(auth, "SAVE_TIMEOUT", 0.1)
    monkeypatch.setattr(auth, "CLOSE_TIMEOUT", 0.1)
    async with managers_for(tmp_path, Service(), 1) as ([manager], endpoint):
        async with asyncio.timeout(10):
            assert await manager.credential(endpoint, {})
        assert "could not be stored in 0.1 seconds" in manager.describe()["problem"]


@needs_posix
def test_only_the_owner_may_read_the_folder_and_its_files(tmp_path):
    before = os.umask(0)  # as open as a shell can set it
    try:
        store = FileStore(tmp_path / "data" / "auth.json", "key")
        store.save(Tokens("access", "refresh"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "data").iterdir()} == {0o600}
