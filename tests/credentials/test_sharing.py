"""One rotating token for several processes: one of them refreshes."""

import asyncio
import statistics
import time
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from droid2api.credentials.credential import key_headers
from droid2api.credentials.file_store import FileStore
from tests.credentials.service import FIRST_KEY, KEY, Service, access, accesses, rotating_for, script, until
from tests.harness import serving, settings_for


async def test_those_that_share_a_file_make_one_refresh(tmp_path):
    service = Service()
    async with rotating_for(tmp_path, service, 5) as rotatings:
        assert await accesses(rotatings) == {service.access_token}
    assert service.calls == [FIRST_KEY]


async def test_tokens_that_end_at_the_same_moment_make_one_refresh(tmp_path):
    service = Service()
    async with rotating_for(tmp_path, service, 5) as rotatings:
        await accesses(rotatings)
        for rotating in rotatings:
            rotating._schedule._ends = 0
        assert await accesses(rotatings) == {service.access_token}
    assert service.refreshes == len(service.calls) == 2


async def test_a_401_for_all_makes_one_refresh(tmp_path):
    service = Service()
    async with rotating_for(tmp_path, service, 5) as rotatings:
        (old,) = await accesses(rotatings)
        renewed = await asyncio.gather(*(rotating.renew(key_headers(old)) for rotating in rotatings))
        assert renewed == [True] * 5
        assert await accesses(rotatings) == {service.access_token} != {old}
    assert service.refreshes == len(service.calls) == 2


@pytest.mark.parametrize("rotated", [True, False])
async def test_a_401_takes_what_another_process_stored_without_a_call(tmp_path, rotated):
    service = Service()
    if not rotated:
        service.token_answer = lambda: _answer(access_token=f"opaque-{len(service.calls)}")
    async with rotating_for(tmp_path, service, 2) as rotatings:
        (old,) = await accesses(rotatings)
        assert await rotatings[0].renew(key_headers(old))
        calls = len(service.calls)
        assert await rotatings[1].renew(key_headers(old))
        assert await accesses(rotatings) == {await access(rotatings[0])} != {old}
        assert len(service.calls) == calls == 2


@pytest.mark.parametrize("count", [2, 5])
async def test_a_401_that_stays_makes_one_refresh_for_all(tmp_path, count):
    """What replaced a refused token is of no use to the others either."""
    service = Service()
    async with rotating_for(tmp_path, service, count) as rotatings:
        await accesses(rotatings)
        for _ in range(3):
            for rotating in rotatings:
                given = await rotating.get([])
                if await rotating.renew(given):
                    assert not await rotating.renew(await rotating.get([]))
    assert service.refreshes == len(service.calls) == 2


async def test_a_successor_that_another_process_has_renewed_is_no_refusal(tmp_path):
    """To renew a token ends the one before."""
    service = Service()
    async with rotating_for(tmp_path, service, 2) as rotatings:
        (old,) = await accesses(rotatings)
        assert await rotatings[0].renew(key_headers(old))
        successor = await access(rotatings[0])
        await rotatings[1].refresh_now()
        await rotatings[1].refresh_now()
        assert await rotatings[0].renew(key_headers(successor))
        assert await access(rotatings[0]) == service.access_token
        assert "problem" not in rotatings[0].describe()
    assert service.refreshes == len(service.calls) == 3


async def test_a_successor_that_is_being_renewed_is_no_refusal(tmp_path):
    service = Service()
    async with rotating_for(tmp_path, service, 1) as [rotating]:
        (old,) = await accesses([rotating])
        assert await rotating.renew(key_headers(old))
        successor = await access(rotating)
        service.gate.clear()
        renewing = asyncio.create_task(rotating.refresh_now())
        await until(lambda: len(service.calls) == 3)
        asyncio.get_running_loop().call_later(0.05, service.gate.set)
        assert await rotating.renew(key_headers(successor))
        await renewing
        assert await access(rotating) == service.access_token
    assert service.refreshes == 3


async def test_what_is_taken_beside_a_refresh_spares_it(tmp_path, monkeypatch):
    """The look at the store goes on while a request asks for a refresh."""
    service = Service()
    async with rotating_for(tmp_path, service, 2) as rotatings:
        (old,) = await accesses(rotatings)
        await rotatings[0].renew(key_headers(old))
        store = rotatings[1]._kept.store

        async def read():
            rotatings[1]._kept.replace(store.load())
            return store.load()

        monkeypatch.setattr(store, "read", read)
        assert await rotatings[1].renew(key_headers(old))
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
                return time.monotonic()

        taking = asyncio.create_task(take())
        turns = []
        for _ in range(30):
            began = time.monotonic()
            await asyncio.sleep(0.01)
            turns.append(time.monotonic() - began)
        assert not taking.done()
        assert statistics.median(turns) < 0.2  # not each: the machine may be busy
        killed = time.monotonic()
        process.kill()
        assert await asyncio.wait_for(taking, 5) - killed < 1


async def test_processes_make_one_refresh(tmp_path):
    code = """
import asyncio, sys, aiohttp
from pathlib import Path
from droid2api.credentials.chain import find_shared
from droid2api.config import load
from droid2api.outbound import Outbound
async def main():
    settings = load(Path(sys.argv[1]))
    async with Outbound({}) as outbound:
        credential = find_shared(settings, outbound)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print((await credential.get([]))["authorization"].split()[1])
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
