"""One rotating token for gateways on several machines, with a real Redis that dies and returns."""

import asyncio
import logging
import time

import pytest

from droid2api.credentials import rotating, schedule
from droid2api.credentials.credential import key_headers
from droid2api.credentials.tokens import Tokens
from droid2api.errors import CredentialError
from droid2api.server.keys import RUNTIME
from tests.credentials.service import (
    FIRST_KEY,
    Service,
    access,
    accesses,
    answers,
    credential_state,
    rotating_for,
    say,
    settled,
    until,
)
from tests.harness import gateway_for, serving, settings_for
from tests.services import Server, free_port, program, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]
PASSWORD = "SECRET-password"


@pytest.fixture
async def redis(tmp_path):
    folder, port = tmp_path / "redis", free_port()
    folder.mkdir()
    options = f"--port {port} --bind 127.0.0.1 --requirepass {PASSWORD} --save '' --appendonly yes --appendfsync always"
    command = [program("redis-server"), *(word.strip("'") for word in options.split()), "--dir", str(folder)]
    async with running(Server(command, port, folder)) as server:
        yield server


@pytest.fixture
def environment(redis):
    url = f"redis://:{PASSWORD}@127.0.0.1:{redis.port}/0"
    return {"DROID_REFRESH_KEY": FIRST_KEY, "DROID2API_REDIS_URL": url}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(schedule, "RETRY_DELAYS", (0.05, 0.1))
    monkeypatch.setattr(rotating, "SYNC_EVERY", 0.05)


async def health(gateway, state):
    async with asyncio.timeout(10):
        while (told := await credential_state(gateway))["state"] != state:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.02)
    return told


async def test_replicas_make_one_refresh(tmp_path, environment):
    service = Service()
    async with rotating_for(tmp_path, service, 4, environment) as rotatings:
        assert await accesses(rotatings) == {service.access_token}
        assert service.calls == [FIRST_KEY]
        old = service.access_token
        assert all(await asyncio.gather(*(rotating.renew(key_headers(old)) for rotating in rotatings)))
        assert await accesses(rotatings) == {service.access_token} != {old}
        assert len(service.calls) == 2
        assert rotatings[0].describe()["store"] == "redis"
    async with rotating_for(tmp_path, service, 1, environment) as rotatings:
        assert await accesses(rotatings) == {service.access_token}  # a new replica
    assert service.refreshes == len(service.calls) == 2
    assert not (tmp_path / "data").exists()


async def test_the_first_key_alone_is_no_garbage(tmp_path, environment, caplog):
    """It is stored before it is spent."""
    service = Service(token_answer=answers(500, "{}"))
    async with rotating_for(tmp_path, service, 2, environment) as rotatings:
        with pytest.raises(CredentialError):
            await access(rotatings[0])
        assert await rotatings[1].stored() == Tokens("", FIRST_KEY)
    assert "cannot be read" not in caplog.text


async def test_tokens_of_another_key_are_not_used(tmp_path, environment):
    service = Service()
    async with rotating_for(tmp_path, service, 1, environment) as rotatings:
        await accesses(rotatings)
        names = await rotatings[0]._kept.store._redis.keys("*")
    assert len(names) == 1
    assert FIRST_KEY not in names[0]
    service.refresh_token = "another"
    async with rotating_for(tmp_path, service, 1, environment | {"DROID_REFRESH_KEY": "another"}) as rotatings:
        await accesses(rotatings)
    assert service.calls == [FIRST_KEY, "another"]


async def test_redis_dies_and_returns(tmp_path, redis, environment, quick, caplog):
    caplog.set_level(logging.DEBUG)
    service = Service()
    told = []
    async with (
        serving(service.app()) as upstream,
        gateway_for(settings_for(tmp_path, upstream, environment)) as gateway,
        gateway_for(settings_for(tmp_path, upstream, environment)) as other,
    ):
        for each in (gateway, other):
            await settled(each)
            await health(each, "ok")
        await redis.kill()
        told.append(await health(gateway, "failing"))
        assert f"Redis at 127.0.0.1:{redis.port} does not serve the shared token" in told[-1]["problem"]
        assert (await say(gateway))[0] == 200  # with the token that it has
        good, service.access_token = service.access_token, "another"
        assert (await say(gateway))[0] == 401  # no refresh without the shared lock
        service.access_token = good
        gateway.app[RUNTIME].shared._schedule._ends = 0
        for _ in range(3):
            told.append(await say(gateway))
            assert told[-1][0] == 503
        assert len(service.calls) == 1

        await redis.start()
        await health(gateway, "ok")
        await health(other, "ok")
        assert {(await say(gateway))[0], (await say(other))[0]} == {200}
        assert service.refreshes == len(service.calls) <= 2
    lines = [record.message for record in caplog.records if record.name == "droid2api.auth"]
    for text in ("does not serve the shared token", "can be stored again"):
        assert 1 <= sum(text in line for line in lines) <= 3, "a line for each change and gateway, not for each try"
    assert "SECRET" not in caplog.text + repr(told)
    for token in (FIRST_KEY, service.access_token, service.refresh_token):
        assert token not in caplog.text + repr(told)


async def test_it_dies_during_a_refresh(tmp_path, redis, environment, quick):
    """The new token is only in one process: it must be stored before another may refresh."""

    class Killer(Service):
        async def token(self, request):
            if self.calls:
                await redis.kill()
            return await super().token(request)

    service = Killer()
    async with (
        serving(service.app()) as upstream,
        gateway_for(settings_for(tmp_path, upstream, environment)) as gateway,
        gateway_for(settings_for(tmp_path, upstream, environment)) as other,
    ):
        await health(gateway, "ok")
        await health(other, "ok")
        assert len(service.calls) == 1
        service.access_token = "another"
        assert (await say(gateway))[0] == 200
        problem = (await health(gateway, "failing"))["problem"]
        assert "Redis" in problem
        service.calls.clear()  # it is not killed again
        await redis.start()
        assert (await say(gateway))[0] == 200
        await health(gateway, "ok")
        assert (await say(other))[0] == 200
        assert service.calls == []


@pytest.mark.parametrize("lost", ["all", "the last"])
async def test_it_returns_with_old_data(tmp_path, redis, environment, quick, lost):
    service = Service()
    async with (
        serving(service.app()) as upstream,
        gateway_for(settings_for(tmp_path, upstream, environment)) as gateway,
    ):
        await settled(gateway)
        shared = gateway.app[RUNTIME].shared
        client = shared._kept.store._redis
        (name,) = [name for name in await client.keys("*") if name.endswith("tokens")]
        before = await client.hgetall(name)
        assert await shared.renew(key_headers(service.access_token))
        await client.delete(name)
        if lost == "the last":
            await client.hset(name, mapping=before)
        async with asyncio.timeout(5):
            while await client.hget(name, "refresh") != service.refresh_token:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.02)
        assert (await say(gateway))[0] == 200
    assert service.refreshes == len(service.calls) == 2


async def test_a_holder_that_died_blocks_only_until_its_time_is_over(tmp_path, environment):
    service = Service()
    async with rotating_for(tmp_path, service, 1, environment) as rotatings:
        store = rotatings[0]._kept.store
        await store._redis.set(f"{store._name}:lock", "of one that died", px=700)
        began = time.monotonic()
        assert await accesses(rotatings) == {service.access_token}
        assert 0.4 < time.monotonic() - began < 3
        async with store.lock():
            assert 30_000 < await store._redis.pttl(f"{store._name}:lock") <= 45_000
        async with store.lock():  # it was released, and one of another holder is left alone
            await store._redis.set(f"{store._name}:lock", "another's")
        assert await store._redis.get(f"{store._name}:lock") == "another's"


async def test_times_are_told_by_its_clock(tmp_path, environment, monkeypatch):
    """Machines' clocks differ: a token that one stored lives as long for the other."""
    async with rotating_for(tmp_path, Service(), 2, environment) as rotatings:
        one, two = (rotating._kept.store for rotating in rotatings)
        now = time.time()
        monkeypatch.setattr("droid2api.credentials.redis_store.time.time", lambda: now + 5000)
        await one.write(Tokens("opaque", "refresh", now + 5000 + 8 * 3600, now + 5000))
        monkeypatch.undo()
        read = await two.read()
        assert read == Tokens("opaque", "refresh")
        assert (read.received_at, read.expires_at) == (
            pytest.approx(now, abs=1),
            pytest.approx(now + 8 * 3600, abs=1),
        )


async def test_a_wrong_password_is_told_without_it(tmp_path, redis, environment, caplog):
    caplog.set_level(logging.DEBUG)
    environment |= {"DROID2API_REDIS_URL": f"redis://:SECRET-wrong@127.0.0.1:{redis.port}"}
    async with gateway_for(settings_for(tmp_path, "http://127.0.0.1:9", environment)) as gateway:
        told = await health(gateway, "failing")
    assert "AuthenticationError" in told["problem"]
    assert "SECRET" not in caplog.text + repr(told)


async def test_it_has_no_memory_left(tmp_path, environment, quick):
    service = Service()
    async with (
        serving(service.app()) as upstream,
        gateway_for(settings_for(tmp_path, upstream, environment)) as gateway,
    ):
        await settled(gateway)
        client = gateway.app[RUNTIME].shared._kept.store._redis
        await client.config_set("maxmemory", 1)
        good, service.access_token = service.access_token, "another"
        assert (await say(gateway))[0] == 401
        service.access_token = good
        assert (await say(gateway))[0] == 200
        await health(gateway, "failing")
        await client.config_set("maxmemory", 0)
        await until(lambda: not gateway.app[RUNTIME].shared._kept.problem)
        service.access_token = "another"
        await asyncio.sleep(0.2)
        assert (await say(gateway))[0] == 200
    assert service.refreshes == len(service.calls)


GOOD = {"version": "1", "access": "a", "refresh": "r", "received_at": "1800000000"}


@pytest.mark.parametrize(
    "garbage",
    [
        {"version": "many"},
        {"version": "9" * 5000},
        {"received_at": "yesterday"},
        {"received_at": "nan"},
        {"received_at": "-1e308"},
        {"access": "line\nbreak"},
        {"refresh": "x" * 20000},
        {"refresh": ""},
        {"access": b"\xff\xfe"},
        {"access": None},
    ],
    ids=str,
)
async def test_what_no_gateway_has_written(tmp_path, environment, quick, garbage):
    """It is named, and ends nothing: who has the token stores it again."""
    service = Service()
    async with (
        serving(service.app()) as upstream,
        gateway_for(settings_for(tmp_path, upstream, environment)) as gateway,
    ):
        await settled(gateway)
        store = gateway.app[RUNTIME].shared._kept.store
        name = f"{store._name}:tokens"
        await store._redis.delete(name)
        await store._redis.hset(
            name, mapping={key: value for key, value in (GOOD | garbage).items() if value is not None}
        )
        assert (await say(gateway))[0] == 200
        if garbage != {"access": b"\xff\xfe"}:
            async with asyncio.timeout(5):
                while await store._redis.hget(name, "refresh") != service.refresh_token:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        else:
            assert "UnicodeDecodeError" in (await health(gateway, "failing"))["problem"]
        assert (await say(gateway))[0] == 200
    assert service.refreshes == 1
