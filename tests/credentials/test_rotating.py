"""The life of a rotating token, against a token endpoint that rotates and fails."""

import asyncio
import logging
import os
import re
import stat
import time
from datetime import datetime

import orjson
import pytest
from aiohttp import web

from droid2api import application
from droid2api.credentials import kept_tokens, refresher, rotating, schedule
from droid2api.credentials.file_store import FileStore
from droid2api.credentials.rotating import RotatingCredential
from droid2api.credentials.token_endpoint import TokenEndpoint
from droid2api.credentials.tokens import Tokens
from droid2api.server.keys import RUNTIME
from tests.credentials.service import (
    FIRST_KEY,
    HOUR,
    Service,
    answers,
    breaks,
    credential_state,
    jwt,
    log_in,
    make_older,
    read_json,
    rotating_for,
    say,
    say_text,
    settled,
)
from tests.harness import BY_TYPE, PATHS, gateway_for, serving, settings_for, until

# -- rotation -------------------------------------------------------------------------------------------------------


async def test_a_rotated_token_is_on_disk_before_it_is_used(tmp_path, start):
    file = log_in(tmp_path, user={"name": "Ann"})
    service = Service(saved=file)
    async with start(service, {}) as gateway:
        assert (await say(gateway))[0] == 200
    assert service.on_disk == [service.access_token]
    tokens = {"access_token": service.access_token, "refresh_token": service.refresh_token}
    assert read_json(file) == tokens | {"user": {"name": "Ann"}}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in file.parent.iterdir()) == ["auth.json", "auth.json.lock"]
    assert stat.S_IMODE(file.with_name("auth.json.lock").stat().st_mode) == 0o600
    assert not (tmp_path / "data" / "auth.json").exists()


async def test_a_restart_continues_with_the_newest_token(tmp_path, start):
    service = Service()
    file = tmp_path / "data" / "auth.json"
    for age, refreshes in ((0, 1), (0, 1), (HOUR / 30, 2), (7 * HOUR, 3)):  # a start renews it, but one that is new
        if file.exists():
            make_older(file, age)
        async with start(service) as gateway:
            assert (await say(gateway))[0] == 200
        assert service.refreshes == refreshes
    assert service.calls[0] == FIRST_KEY
    assert read_json(file)["refresh_token"] == service.refresh_token
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert FIRST_KEY not in read_json(file).values()  # a newer one may begin like it


async def test_a_changed_key_starts_anew(start):
    service = Service()
    async with start(service) as gateway:
        assert (await say(gateway))[0] == 200
    service.refresh_token = "new-key"
    async with start(service, {"DROID_REFRESH_KEY": "new-key"}) as gateway:
        assert (await say(gateway))[0] == 200
    assert service.calls == [FIRST_KEY, "new-key"]
    async with start(service, {"DROID_REFRESH_KEY": "new-key"}) as gateway:
        assert (await say(gateway))[0] == 200


@pytest.mark.parametrize("seconds", [8 * 3600, 600], ids=["adopted", "too short: its refresh token is used"])
async def test_what_another_process_wrote(tmp_path, start, quick, seconds):
    log_in(tmp_path)
    service = Service()
    async with start(service, {}) as gateway:
        await settled(gateway)
        service.access_token = jwt(seconds)
        service.refresh_token = "of-another-process"
        log_in(tmp_path, service.access_token, service.refresh_token, age=8 * HOUR - seconds)
        assert (await say(gateway))[0] == 200
    assert service.calls == [FIRST_KEY, "of-another-process"][: 1 if seconds > 7200 else 2]


async def test_a_login_during_the_backoff_is_seen_at_once(tmp_path, start):
    log_in(tmp_path, refresh="worthless")
    service = Service()
    async with start(service, {}) as gateway:
        assert (await say(gateway))[0] == 401
        log_in(tmp_path)
        assert (await say(gateway))[0] == 200


async def test_a_refresh_token_that_is_not_rotated_is_kept(tmp_path, start):
    async def answer():
        return web.json_response({"access_token": "opaque"})

    service = Service(token_answer=answer)
    async with start(service) as gateway:
        assert (await say(gateway))[0] == 200
    assert read_json(tmp_path / "data" / "auth.json")["refresh_token"] == FIRST_KEY


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
async def test_a_token_is_not_spent_when_the_disk_would_not_take_the_next(tmp_path, start, monkeypatch, quick, call):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    file = log_in(tmp_path, jwt(3600), age=7 * HOUR)
    before = file.read_bytes(), file.stat().st_mtime
    service = Service()
    service.access_token = read_json(file)["access_token"]
    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        async with start(service, {}) as gateway:
            await settled(gateway)
            assert (await say(gateway))[0] == 200  # with the token that is still good
            state = await credential_state(gateway)
            assert state["state"] == "failing"
            assert "A new token could not be saved to" in state["problem"]
            assert "No space left on device" in state["problem"]
            assert (file.read_bytes(), file.stat().st_mtime) == before
            assert service.calls == []
            patched.undo()
            await until(lambda: service.refreshes)
            await settled(gateway)
            assert (await credential_state(gateway))["state"] == "ok"
    assert service.calls == [FIRST_KEY]
    assert read_json(file)["refresh_token"] == service.refresh_token


async def test_the_rehearsal_does_not_make_a_token_younger(tmp_path, start):
    """It is as old as it was, should the process end now."""
    file = log_in(tmp_path, jwt(3600), age=7 * HOUR)
    before = file.stat().st_mtime
    service = Service(token_answer=answers(500, "{}"))
    async with start(service, {}) as gateway:
        await settled(gateway)
    assert service.calls == [FIRST_KEY]
    assert file.stat().st_mtime == pytest.approx(before, abs=0.001)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


# -- one refresh at a time, and waiting for it ----------------------------------------------------------------------


async def test_requests_wait_while_the_server_already_listens(start):
    service = Service()
    service.gate.clear()
    async with start(service) as gateway:
        asked = [asyncio.create_task(say(gateway)) for _ in range(20)]
        assert (await credential_state(gateway))["state"] == "refreshing"
        await until(lambda: service.calls)
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in asked)
        service.gate.set()
        assert {status for status, _ in await asyncio.gather(*asked)} == {200}
        assert (await credential_state(gateway))["state"] == "ok"
    assert service.calls == [FIRST_KEY]


async def test_a_valid_token_is_used_while_it_is_renewed(tmp_path, start, quick):
    service = Service()
    service.access_token = jwt(3600)
    log_in(tmp_path, service.access_token, age=7 * HOUR)
    service.gate.clear()
    async with start(service, {}) as gateway:
        assert (await say(gateway))[0] == 200
        service.gate.set()


async def test_many_rejected_requests_make_one_refresh(start):
    service = Service()
    async with start(service) as gateway:
        await settled(gateway)
        service.access_token = "another"
        told = await asyncio.gather(*(say(gateway) for _ in range(20)))
        assert {status for status, _ in told} == {200}
    assert service.refreshes == 2


@pytest.mark.parametrize("type", PATHS)
async def test_a_401_that_stays_goes_to_the_client(start, type):
    service = Service(rejects=True)
    async with start(service) as gateway:
        await settled(gateway)
        status, body = await say(gateway, type)
        assert (status, body["error"]["message"]) == (401, "The token has expired.")
    assert (len(service.requests), service.refreshes) == (2, 2)


async def test_a_new_token_that_is_refused_too_is_not_renewed_for_each_request(start, monkeypatch, caplog):
    service = Service(rejects=True)
    async with start(service) as gateway:
        await settled(gateway)
        assert [(await say(gateway))[0] for _ in range(10)] == [401] * 10
        assert (service.refreshes, len(service.requests)) == (2, 11)
        state = await credential_state(gateway)
        assert state["state"] == "failing"
        assert "refused the token of DROID_REFRESH_KEY and the one that replaced it" in state["problem"]
        assert caplog.text.count(state["problem"]) == 1

        gateway.app[RUNTIME].shared.refresher._refusal._pause_ends = 0  # after a while it is tried again
        assert "problem" not in await credential_state(gateway)
        service.rejects = False
        service.access_token = "another"
        assert (await say(gateway))[0] == 200
    assert service.refreshes == 3


async def test_a_renewal_for_another_reason_ends_the_pause(start):
    """Each upstream's refusal of a token counts once, and those of older tokens do not count at all."""
    service = Service(rejects=True)
    async with start(service) as gateway:
        await settled(gateway)
        for _ in range(3):
            assert (await say(gateway))[0] == 401
        service.rejects = False
        await gateway.app[RUNTIME].shared.refresh_now()
        assert "problem" not in await credential_state(gateway)
        service.access_token = "another"
        assert (await say(gateway))[0] == 200
    assert service.refreshes == 4


@pytest.mark.parametrize("environment", [{"FACTORY_API_KEY": "x.demo"}, {}])
async def test_a_401_for_what_cannot_be_renewed(start, environment):
    service = Service(rejects=True)
    async with start(service, environment) as gateway:
        assert (await say(gateway, headers={"x-api-key": "x.demo"}))[0] == 401
    assert (len(service.requests), service.calls) == (1, [])


async def test_a_refresh_under_way_is_finished_at_the_end(tmp_path, start):
    """Its token is used up: what comes back must not be lost."""
    service = Service()
    service.gate.clear()
    async with start(service):
        await until(lambda: service.calls)
        asyncio.get_running_loop().call_later(0.1, service.gate.set)
    assert read_json(tmp_path / "data" / "auth.json")["refresh_token"] == service.refresh_token


async def test_a_slow_refresh_is_waited_for_at_the_end(tmp_path, monkeypatch):
    """As long as it may take, which is longer than a store gets."""
    monkeypatch.setattr(kept_tokens, "CLOSE_TIMEOUT", 0.05)
    service = Service()
    service.gate.clear()
    async with rotating_for(tmp_path, service, 1) as [credential]:
        asking = asyncio.create_task(credential.get([]))
        await until(lambda: service.calls)
        asyncio.get_running_loop().call_later(0.5, service.gate.set)
        await credential.close()
        assert asking.done()
    assert read_json(tmp_path / "data" / "auth.json")["refresh_token"] == service.refresh_token


async def test_a_refresh_that_has_spent_nothing_is_not_waited_for(tmp_path, start):
    """It waits for the lock of another process."""
    service, began = Service(), time.monotonic()
    async with FileStore(tmp_path / "data" / "auth.json").lock(), start(service) as gateway:
        refresher = gateway.app[RUNTIME].shared.refresher
        await until(lambda: refresher._running is not None)
    assert time.monotonic() - began < 3
    assert service.calls == []


# -- failures -------------------------------------------------------------------------------------------------------


async def _hangs():
    await asyncio.sleep(60)


FAILURES = {
    "hangs": (_hangs, 503, "did not answer in time"),
    "breaks": (breaks, 503, "is not reachable"),
    "html": (answers(200, "<html>log in</html>", "text/html"), 503, "answered 200"),
    "list": (answers(200, "[]"), 503, "answered 200"),
    "no token": (answers(200, '{"access_token": ""}'), 503, "answered 200"),
    "500": (answers(500, "oops"), 503, "answered 500"),
    "429": (answers(429, "{}"), 503, "answered 429"),
    "redirect": (answers(302, ""), 503, "answered 302"),
    "invalid_grant": (answers(400, '{"error": "invalid_grant"}'), 401, "answered 400 (invalid_grant)"),
}
each_failure = pytest.mark.parametrize(("answer", "status", "message"), FAILURES.values(), ids=FAILURES)


@each_failure
async def test_without_a_token(start, quick, monkeypatch, answer, status, message):
    monkeypatch.setattr(refresher, "REFRESH_TIMEOUT", 0.1 if answer is _hangs else 10)
    service = Service(token_answer=answer)
    async with start(service) as gateway:
        told, body = await say(gateway)
        assert (told, body["type"]) == (status, "error")
        assert message in body["error"]["message"]
        state = await credential_state(gateway)
        assert state["state"] == "failing"
        assert message in state["problem"]
        assert not service.requests
        service.token_answer = None  # it recovers by itself
        await until(lambda: service.refreshes)
        await settled(gateway)
        assert (await say(gateway))[0] == 200
        assert "problem" not in await credential_state(gateway)


@each_failure
async def test_with_an_old_token(tmp_path, start, quick, monkeypatch, answer, status, message):
    monkeypatch.setattr(refresher, "REFRESH_TIMEOUT", 0.1 if answer is _hangs else 10)
    service = Service(token_answer=answer, access_token=jwt(60))
    log_in(tmp_path, service.access_token, age=8 * HOUR)
    async with start(service, {}) as gateway:
        await settled(gateway)
        assert (await say(gateway))[0] == 200
        assert (await credential_state(gateway))["state"] == "failing"


async def test_requests_do_not_repeat_a_failed_refresh(start):
    service = Service(token_answer=answers(500, ""))
    async with start(service) as gateway:
        await settled(gateway)
        statuses = [(await say(gateway))[0] for _ in range(5)]
    assert (statuses, len(service.calls)) == ([503] * 5, 1)


async def test_an_answer_in_pieces(start):
    """The token endpoint's answer may take several reads."""

    class Slow(Service):
        async def token(self, request):
            whole = await super().token(request)
            out = web.StreamResponse(headers={"Content-Type": "application/json"})
            await out.prepare(request)
            for piece in (whole.body[:20], whole.body[20:]):
                await out.write(piece)
                await asyncio.sleep(0.02)
            return out

    service = Slow()
    async with start(service) as gateway:
        assert (await say(gateway))[0] == 200
    assert service.refreshes == 1


async def test_the_task_refreshes_again_and_again(start, monkeypatch):
    monkeypatch.setattr(schedule, "REFRESH_EVERY", 0.0)
    monkeypatch.setattr(schedule, "RETRY_DELAYS", (0.01, 0.01))
    service = Service()
    async with start(service) as gateway:
        await until(lambda: service.refreshes >= 3)
        assert (await say(gateway))[0] == 200


async def test_refreshes_are_counted(tmp_path, start, quick):
    """The gateway's own, not what it took from another process."""
    service = Service(token_answer=answers(500, "{}"))

    def counts():
        return shared.refresher.done, shared.refresher.failed

    async with start(service) as gateway:
        shared = gateway.app[RUNTIME].shared
        await until(lambda: shared.refresher.failed >= 2)
        service.token_answer = None
        await until(lambda: shared.refresher.done)
        done, failed = counts()
        assert (done, failed) == (1, len(service.calls) - 1)
        FileStore(tmp_path / "data" / "auth.json", FIRST_KEY).save(
            Tokens(jwt(8 * HOUR), "demo-refresh-another", received_at=time.time())
        )
        await shared.refresh_now()
        assert counts() == (done, failed)


async def test_the_renewal_survives_a_mistake(start, monkeypatch, quick, caplog):
    """One that nobody foresaw: here the token endpoint's and the store's."""
    service = Service()

    async def mistake(*_):
        raise ZeroDivisionError("planted")

    with monkeypatch.context() as patched:
        patched.setattr(TokenEndpoint, "refresh", mistake)
        async with start(service) as gateway:
            status, body = await say(gateway)
            assert status == 500
            assert "a mistake of the gateway, which its log shows" in body["error"]["message"]
            state = await credential_state(gateway)
            assert (state["state"], "mistake of the gateway" in state["problem"]) == ("failing", True)
            patched.undo()
            await until(lambda: service.refreshes)
            patched.setattr(rotating, "TICK", 0.01)
            patched.setattr(RotatingCredential, "_work", mistake)
            caplog.clear()
            await until(lambda: "ZeroDivisionError" in caplog.text)
            assert "mistake of the gateway" in (await credential_state(gateway))["problem"]
            patched.undo()
            await until(lambda: not gateway.app[RUNTIME].shared.refresher.problem)
            assert "problem" not in await credential_state(gateway)
    assert "The renewal of the token failed by a mistake of the gateway. It is tried again." in caplog.text


# -- what is told ---------------------------------------------------------------------------------------------------


async def test_the_log_line(start, caplog):
    caplog.set_level(logging.INFO)
    async with start(Service()) as gateway:
        await settled(gateway)
        expires_at = (await credential_state(gateway))["expires_at"]
    (line,) = [record.message for record in caplog.records if "Token" in record.message]
    assert re.fullmatch(r"Token refreshed successfully, expires at: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", line)
    assert line.endswith(str(datetime.fromtimestamp(expires_at)))


SECRETS = {
    "FACTORY_API_KEY": "SECRET-factory",
    "DROID_REFRESH_KEY": "SECRET-refresh",
    "OWN_KEY": "SECRET-own",
}


@pytest.mark.parametrize("chain", [["FACTORY_API_KEY"], ["DROID_REFRESH_KEY"], []], ids=["key", "refresh", "client"])
@pytest.mark.parametrize("failing", [False, True])
async def test_no_secret_is_told(tmp_path, quick, caplog, chain, failing, monkeypatch):
    """Not in a DEBUG log, an error, /health, / or the banner: whatever is asked and whatever fails."""
    caplog.set_level(logging.DEBUG)
    echo = orjson.dumps({"error": "invalid_grant", "error_description": "SECRET-refresh is used up"}).decode()
    service = Service(refresh_token="SECRET-refresh", rejects=failing)
    service.token_answer = answers(400, echo) if failing else None
    told = []
    async with serving(service.app()) as upstream:
        endpoints = [
            {"name": name, "base_url": upstream + path, "headers": {"x-own": "SECRET-header"}}
            for name, path in PATHS.items()
        ]
        endpoints[2]["api_key_env"] = "OWN_KEY"
        endpoints.append({"name": "gone", "base_url": "http://127.0.0.1:1/?key=x", "headers": {"x-own": "SECRET-gone"}})
        models = [{"id": id, "type": type} for type, id in BY_TYPE.items()]
        models.append({"id": "gone", "type": "common", "endpoint": "gone"})
        environment = {name: SECRETS[name] for name in [*chain, "OWN_KEY"]}
        settings = settings_for(tmp_path, upstream, environment, endpoint=endpoints, models=models, dev_mode=True)
        async with gateway_for(settings) as gateway:
            for header in ({"x-api-key": "SECRET-client"}, {"Authorization": "Bearer SECRET-client"}):
                for type in PATHS:
                    for more in ({}, {"stream": True}, {"model": "gone"}, {"model": "nothing"}, {"model": 1}):
                        told.append((await say_text(gateway, type, header, **more))[1])
                for text in ("fail 429", "break", "overload"):
                    more = {"messages": [{"role": "user", "content": text}], "stream": True}
                    told += [(await say_text(gateway, type, header, **more))[1] for type in ("common", "anthropic")]
                told += [(await gateway.ask(path, b"{", header))[2] for path in PATHS.values()]
                told += [(await gateway.get(path, header))[2] for path in ("/", "/health", "/v1/models", "/SECRE")]
            monkeypatch.setattr(gateway.app[RUNTIME].upstream, "_send", None)  # any mistake in the gateway
            told.append((await say_text(gateway, "common", {"x-api-key": "SECRET-client"}))[1])
            told.append(application._banner(settings, gateway.app, 1).encode())
    everything = caplog.text.encode() + b"".join(told) + repr(settings.auth).encode()
    assert len(told) > 40
    assert b"SECRET-" not in everything
    for token in filter(None, (service.access_token, service.refresh_token)):
        assert token.encode() not in everything
