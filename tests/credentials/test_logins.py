"""A login in ~/.factory/auth.json that ends, or is replaced by another one, while the gateway runs."""

import asyncio
import stat
from pathlib import Path

import pytest

from droid2api.credentials import rotating
from droid2api.credentials.file_store import FileStore
from droid2api.credentials.tokens import Tokens
from droid2api.outbound import Outbound
from droid2api.server.keys import RUNTIME
from droid2api.server.reload import Runtime
from tests.credentials.service import (
    FIRST_KEY,
    HOUR,
    Service,
    credential_state,
    jwt,
    log_in,
    needs_posix,
    read_json,
    say,
    settled,
    until,
)
from tests.harness import settings_for


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(rotating, "TICK", 0.02)


def a_login(folder, seconds=8 * HOUR, **more):
    """One that is not due yet, so that nothing is refreshed by itself; gives its access token and the file."""
    access = jwt(seconds)
    return access, log_in(folder, access, **more)


def current(gateway):
    return gateway.app[RUNTIME].shared._kept.current


async def adopted(gateway, access):
    await until(lambda: current(gateway).access == access)


# -- noticed by itself, without a request ---------------------------------------------------------------------------


async def test_it_is_looked_for_each_second(monkeypatch):
    monkeypatch.undo()
    assert rotating.TICK <= 2


@pytest.mark.parametrize("content", [None, b"{}", b'{"access_token": "", "refresh_token": null}'])
async def test_a_logout_is_obeyed(tmp_path, start, content):
    access, file = a_login(tmp_path)
    service = Service(access_token=access)
    async with start(service, {}) as gateway:
        assert (await say(gateway))[0] == 200
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        await adopted(gateway, "")
        status, body = await say(gateway)
        assert status == 401
        assert "~/.factory/auth.json holds no login that can be renewed" in body["error"]["message"]
        state = await credential_state(gateway)
        assert (state["state"], "holds no login" in state["problem"]) == ("failing", True)
        assert len(service.requests) == 1
    assert service.calls == []
    assert (file.read_bytes() if file.exists() else None) == content  # and it is not written again at the end


async def test_a_login_after_a_logout(tmp_path, start):
    access, file = a_login(tmp_path)
    service = Service(access_token=access)
    async with start(service, {}) as gateway:
        file.unlink()
        await adopted(gateway, "")
        assert (await say(gateway))[0] == 401
        service.access_token, _ = a_login(tmp_path, 7.5 * HOUR)
        await adopted(gateway, service.access_token)
        assert (await say(gateway))[0] == 200
        assert "problem" not in await credential_state(gateway)
    assert service.calls == []


@pytest.mark.parametrize("refresh", ["another", ""], ids=["refreshed", "without a refresh token"])
async def test_another_login_is_used_from_then_on(tmp_path, start, refresh):
    access, _ = a_login(tmp_path)
    service = Service(access_token=access)
    async with start(service, {}) as gateway:
        assert (await say(gateway))[0] == 200
        service.access_token, _ = a_login(tmp_path, 7.5 * HOUR, refresh=refresh)
        await adopted(gateway, service.access_token)
        assert (await say(gateway))[0] == 200
        assert len(service.requests) == 2
        log_in(tmp_path, "yet-another", refresh)
        await adopted(gateway, "yet-another")
        assert service.access_token in gateway.app[RUNTIME].shared.secrets()  # an answer under way may repeat it
    assert service.calls == []


async def test_another_login_whose_token_has_ended(tmp_path, start):
    """The old account must not be used until the new one has a token."""
    access, _ = a_login(tmp_path)
    service = Service(access_token=access, refresh_token="another")
    async with start(service, {}) as gateway:
        log_in(tmp_path, "", "another")
        await until(lambda: current(gateway).refresh != FIRST_KEY)
        assert (await say(gateway))[0] == 200
    assert service.calls == ["another"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"access_token": "a\\nb", "refresh_token": "c"}', b"\xff"])
async def test_what_is_no_login_and_no_logout_changes_nothing(tmp_path, start, content):
    """A program may be writing it in this moment."""
    access, file = a_login(tmp_path)
    async with start(Service(access_token=access), {}) as gateway:
        file.write_bytes(content)
        await until(lambda: not gateway.app[RUNTIME].shared._kept.store.changed())
        assert (await say(gateway))[0] == 200


# -- in the middle of a refresh -------------------------------------------------------------------------------------


@pytest.mark.parametrize("another", [False, True], ids=["logout", "login"])
async def test_while_the_token_endpoint_is_asked(tmp_path, start, quick, another):
    """What comes back belongs to a login that is no more."""
    file = log_in(tmp_path)
    service = Service()
    service.gate.clear()
    async with start(service, {}) as gateway:
        await until(lambda: service.calls)
        file.unlink()
        access = jwt(8 * HOUR)
        if another:
            log_in(tmp_path, access, "another")
        service.gate.set()
        await settled(gateway)
        service.access_token = access
        status, _ = await say(gateway)
        assert (status, service.calls) == ((200, [FIRST_KEY]) if another else (401, [FIRST_KEY]))
    if another:
        assert read_json(file)["refresh_token"] == "another"
    else:
        assert not file.exists()


async def test_the_gateways_own_memory_is_no_login(tmp_path, start):
    """DROID_REFRESH_KEY is: who deletes data/auth.json does not log out."""
    service = Service()
    file = tmp_path / "data" / "auth.json"
    async with start(service) as gateway:
        assert (await say(gateway))[0] == 200
        file.unlink()
        await until(lambda: not gateway.app[RUNTIME].shared._kept.store.changed())
        assert (await say(gateway))[0] == 200
        await gateway.app[RUNTIME].shared.refresh_now()
    assert read_json(file)["refresh_token"] == service.refresh_token
    assert service.refreshes == 2


# -- a reload -------------------------------------------------------------------------------------------------------


async def test_a_reload_after_a_logout_finds_the_next_credential(tmp_path):
    _, file = a_login(tmp_path)
    async with Outbound({}) as outbound:
        settings = settings_for(tmp_path, "http://127.0.0.1:9", {})
        runtime = Runtime(settings, outbound)
        assert runtime.shared.source == "~/.factory/auth.json"
        file.unlink()
        await until(lambda: not runtime.shared.has_login)
        await runtime.apply(settings)
        assert runtime.shared.source == "client"
        await runtime.close()


# -- a link, and who may read it ------------------------------------------------------------------------------------


@needs_posix
@pytest.mark.parametrize("there", [True, False])
async def test_a_symbolic_link_stays_one(tmp_path, there):
    kept = tmp_path / "kept"
    link = tmp_path / "home" / "auth.json"
    link.parent.mkdir()
    link.symlink_to(Path("..", "kept", "auth.json"))
    if there:
        kept.mkdir()
        (kept / "auth.json").write_text('{"user": "Ann"}')
    store = FileStore(link, "key")
    async with store.lock():
        await store.write(Tokens("access", "refresh"))
    assert link.is_symlink()
    assert await store.read() == Tokens("access", "refresh")
    assert ("user" in read_json(kept / "auth.json")) == there
    assert sorted(path.name for path in kept.iterdir()) == ["auth.json", "auth.json.lock"]
    assert [path.name for path in link.parent.iterdir()] == ["auth.json"]


async def test_who_comes_by_the_link_and_who_comes_directly_share_a_lock(tmp_path):
    file, link = tmp_path / "auth.json", tmp_path / "link.json"
    link.symlink_to(file)
    async with FileStore(file).lock():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), FileStore(link).lock():
                pass


@needs_posix
async def test_after_the_first_write_only_the_owner_may_read_it(tmp_path, start):
    file = log_in(tmp_path)
    file.chmod(0o644)
    async with start(Service(), {}) as gateway:
        assert (await say(gateway))[0] == 200
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
