"""Where the credential comes from, and its life cycle against a token endpoint that rotates."""

import asyncio
import base64
import logging
import os
import re
import stat
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import orjson
import pytest
from aiohttp import web

from droid2api import __main__
from droid2api.credentials import manager as auth
from droid2api.credentials.file_store import FileStore, Tokens, expiry
from droid2api.credentials.manager import AuthManager
from droid2api.demo import Demo
from droid2api.server.app import CURRENT
from tests.harness import BY_TYPE, PATHS, body_of, gateway_for, serving, settings_for, until

FIRST_KEY = "demo-refresh-0"
HOUR = 3600


@dataclass
class Service(Demo):
    """The demo with failures: `token_answer` answers for the token endpoint, `rejects` all access tokens.

    `saved` is a file: what it says when a request comes in is collected in `on_disk`.
    """

    pace: float = 0
    token_answer: object = None
    rejects: bool = False
    calls: list = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    saved: object = None
    on_disk: list = field(default_factory=list)

    def __post_init__(self):
        self.gate.set()

    async def token(self, request):
        self.calls.append((await request.post())["refresh_token"])
        await self.gate.wait()
        if self.token_answer is _breaks:
            request.transport.abort()
        return await self.token_answer() if self.token_answer else await super().token(request)

    def _check_credential(self, http):
        if self.saved:
            self.on_disk.append(read_json(self.saved)["access_token"])
        if self.rejects:
            self.access_token = "another"
        super()._check_credential(http)

    @property
    def used(self):
        """The credentials that came in, oldest first."""
        return [headers.get("authorization", headers.get("x-api-key")) for _, headers, _ in self.requests]


def read_json(path):
    return orjson.loads(path.read_bytes())


def token_with(claims):
    return f"e30.{base64.urlsafe_b64encode(claims.encode()).decode().rstrip('=')}.demo"


def jwt(seconds):
    return token_with(f'{{"exp": {int(time.time() + seconds)}}}')


def log_in(folder, access="", refresh=FIRST_KEY, age=0, **more):
    """What Factory's own CLI leaves in HOME, `age` seconds ago."""
    file = folder / "home" / ".factory" / "auth.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(orjson.dumps({"access_token": access, "refresh_token": refresh} | more))
    make_older(file, age)
    return file


def make_older(file, seconds):
    then = time.time() - seconds
    os.utime(file, (then, then))


async def say(gateway, type="anthropic", headers=None):
    status, content = await say_text(gateway, type, headers)
    return status, orjson.loads(content)


async def say_text(gateway, type, headers, **more):
    status, _, content = await gateway.ask(PATHS[type], body_of(type, **more), headers)
    return status, content


async def credential_state(gateway):
    return orjson.loads((await gateway.get("/health"))[2])["credential"]


async def settled(gateway):
    """Wait for the refresh at the start."""
    manager = gateway.app[CURRENT].auth
    await until(lambda: manager._refreshing is not None and manager._refreshing.done())


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(auth, "RETRY_DELAYS", (0.02, 0.05))
    monkeypatch.setattr(auth, "CLOSE_TIMEOUT", 0.01)


@pytest.fixture
def start(tmp_path):
    """A gateway in front of a service, with DROID_REFRESH_KEY unless `environment` says other."""

    @asynccontextmanager
    async def start(service, environment=None, **config):
        environment = {"DROID_REFRESH_KEY": FIRST_KEY} if environment is None else environment
        async with (
            serving(service.app()) as upstream,
            gateway_for(settings_for(tmp_path, upstream, environment, **config)) as gateway,
        ):
            yield gateway

    return start


# -- where it comes from --------------------------------------------------------------------------------------------

OWN_KEY = {"api_key_env": "OWN_KEY"}
ALL = {"OWN_KEY": "own", "FACTORY_API_KEY": "factory", "DROID_REFRESH_KEY": FIRST_KEY}


@pytest.mark.parametrize(
    ("environment", "own_key", "logged_in", "source", "credential"),
    [
        (ALL, True, True, "FACTORY_API_KEY", "own"),
        (ALL, False, True, "FACTORY_API_KEY", "Bearer factory"),
        (ALL | {"FACTORY_API_KEY": " "}, False, True, "DROID_REFRESH_KEY", "Bearer {access}"),
        ({}, False, True, "~/.factory/auth.json", "Bearer {access}"),
        ({}, False, False, "client", "Bearer client"),
    ],
    ids=["api_key_env", "FACTORY_API_KEY", "DROID_REFRESH_KEY", "auth.json", "client"],
)
async def test_priority(tmp_path, environment, own_key, logged_in, source, credential):
    service = Service()
    if logged_in:
        log_in(tmp_path)
    async with serving(service.app()) as upstream:
        endpoint = {"name": "anthropic", "base_url": upstream + "/v1/messages"} | (OWN_KEY if own_key else {})
        async with gateway_for(settings_for(tmp_path, upstream, environment, endpoint=[endpoint])) as gateway:
            status, _ = await say(gateway, headers={"x-api-key": "client"})
            assert status == 200
            assert service.used == [credential.format(access=service.access_token)]
            assert (await credential_state(gateway))["source"] == source
            assert source in __main__._banner(gateway.app[CURRENT].auth._settings, gateway.app, 1, demo=False).replace(
                "each client's own", "client"
            )


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ({"Authorization": "Bearer theirs"}, "Bearer theirs"),
        ({"authorization": "bearer  theirs "}, "Bearer theirs"),
        ({"x-api-key": "theirs"}, "Bearer theirs"),
        ({"Authorization": "Bearer theirs", "x-api-key": "other"}, "Bearer theirs"),
        ({"Authorization": "Basic dTpw", "x-api-key": "theirs"}, "Bearer theirs"),
    ],
)
async def test_the_clients_own(start, headers, credential):
    service = Service()
    async with start(service, {}) as gateway:
        assert (await say(gateway, headers=headers))[0] == 200
        assert service.used == [credential]


@pytest.mark.parametrize("type", PATHS)
async def test_no_credential_at_all(start, type):
    async with start(Service(), {}) as gateway:
        status, body = await say(gateway, type)
        assert status == 401
        assert body["error"]["type"] == "authentication_error"
        assert ("type" in body) == (type == "anthropic")
        for way in ("FACTORY_API_KEY", "DROID_REFRESH_KEY", "~/.factory/auth.json", "api_key_env", "Authorization"):
            assert way in body["error"]["message"]


async def test_an_endpoint_whose_own_key_is_missing(tmp_path):
    endpoint = {"name": "anthropic", "base_url": "http://127.0.0.1:9/v1/messages", "api_key_env": "OWN_KEY"}
    async with gateway_for(settings_for(tmp_path, "http://127.0.0.1:9", {}, endpoint=[endpoint])) as gateway:
        status, body = await say(gateway, headers={"x-api-key": "client"})
        assert status == 401
        assert "OWN_KEY" in body["error"]["message"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"access_token": 1}', '{"refresh_token": ""}', "\xff"])
async def test_an_unusable_login_is_none(tmp_path, start, content):
    log_in(tmp_path).write_bytes(content.encode("latin-1"))
    async with start(Service(), {}) as gateway:
        assert (await credential_state(gateway))["source"] == "client"


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
async def test_what_another_process_wrote(tmp_path, start, seconds):
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


@pytest.mark.parametrize("call", ["replace", "fsync"])
async def test_a_disk_that_does_not_take_it(tmp_path, start, monkeypatch, call):
    def fail(*_):
        raise OSError(28, "No space left on device")

    file = log_in(tmp_path)
    before = file.read_bytes()
    service = Service()
    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        async with start(service, {}) as gateway:
            assert (await say(gateway))[0] == 200
            state = await credential_state(gateway)
            assert state["state"] == "failing"
            assert "No space left on device" in state["problem"]
            assert file.read_bytes() == before
            assert sorted(path.name for path in file.parent.iterdir()) == ["auth.json", "auth.json.lock"]
            patched.undo()
            service.access_token = "another"  # rejected: the next refresh must not use what the file still holds
            assert (await say(gateway))[0] == 200
            assert (await credential_state(gateway))["state"] == "ok"
    assert service.calls == [FIRST_KEY, service.calls[1]]
    assert service.calls[1] != FIRST_KEY
    assert read_json(file)["refresh_token"] == service.refresh_token


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
        answers = await asyncio.gather(*(say(gateway) for _ in range(20)))
        assert {status for status, _ in answers} == {200}
    assert service.refreshes == 2


@pytest.mark.parametrize("type", PATHS)
async def test_a_401_that_stays_goes_to_the_client(start, type):
    service = Service(rejects=True)
    async with start(service) as gateway:
        await settled(gateway)
        status, body = await say(gateway, type)
        assert (status, body["error"]["message"]) == (401, "The token has expired.")
    assert (len(service.requests), service.refreshes) == (2, 2)


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


# -- failures -------------------------------------------------------------------------------------------------------


async def _hangs():
    await asyncio.sleep(60)


async def _breaks():
    return web.Response()


def _answers(status, text, content_type="application/json"):
    async def answer():
        return web.Response(status=status, text=text, content_type=content_type)

    return answer


FAILURES = {
    "hangs": (_hangs, 503, "did not answer in time"),
    "breaks": (_breaks, 503, "is not reachable"),
    "html": (_answers(200, "<html>log in</html>", "text/html"), 503, "answered 200"),
    "list": (_answers(200, "[]"), 503, "answered 200"),
    "no token": (_answers(200, '{"access_token": ""}'), 503, "answered 200"),
    "500": (_answers(500, "oops"), 503, "answered 500"),
    "429": (_answers(429, "{}"), 503, "answered 429"),
    "redirect": (_answers(302, ""), 503, "answered 302"),
    "invalid_grant": (_answers(400, '{"error": "invalid_grant"}'), 401, "answered 400 (invalid_grant)"),
}
each_failure = pytest.mark.parametrize(("answer", "status", "message"), FAILURES.values(), ids=FAILURES)


@each_failure
async def test_without_a_token(start, quick, monkeypatch, answer, status, message):
    monkeypatch.setattr(auth, "REFRESH_TIMEOUT", 0.1)
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
    monkeypatch.setattr(auth, "REFRESH_TIMEOUT", 0.1)
    service = Service(token_answer=answer, access_token=jwt(60))
    log_in(tmp_path, service.access_token, age=8 * HOUR)
    async with start(service, {}) as gateway:
        await settled(gateway)
        assert (await say(gateway))[0] == 200
        assert (await credential_state(gateway))["state"] == "failing"


async def test_requests_do_not_repeat_a_failed_refresh(start):
    service = Service(token_answer=_answers(500, ""))
    async with start(service) as gateway:
        await settled(gateway)
        answers = [(await say(gateway))[0] for _ in range(5)]
    assert (answers, len(service.calls)) == ([503] * 5, 1)


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


# -- the schedule ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lifetime", "delay"),
    [(48, 6), (8, 6), (7, 5), (4, 2), (3, 1), (1, 0.25), (0.1, 0.025), (0, 0), (-1, 0)],
)
def test_when_the_next_refresh_is(tmp_path, lifetime, delay):
    manager = AuthManager(settings_for(tmp_path, "http://127.0.0.1", {"DROID_REFRESH_KEY": "r"}), None)
    now = time.time()
    manager._hold(Tokens("a", "r", now + lifetime * HOUR, now))
    assert manager._next_delay() == pytest.approx(max(delay * HOUR, 2), abs=1)


def test_failures_wait_longer_and_longer(tmp_path):
    manager = AuthManager(settings_for(tmp_path, "http://127.0.0.1", {"DROID_REFRESH_KEY": "r"}), None)
    delays = []
    for _ in range(40):
        manager._failed(auth.CredentialError("failed"))
        delays.append(manager._next_delay())
    for delay, expected in zip(delays, [2, 4, 8, 16, 32, 64, 128, 256, *[300] * 32], strict=True):
        assert expected * 0.79 <= delay <= expected * 1.21


async def test_the_task_refreshes_again_and_again(start, monkeypatch):
    monkeypatch.setattr(auth, "REFRESH_EVERY", 0.0)
    monkeypatch.setattr(auth, "RETRY_DELAYS", (0.01, 0.01))
    service = Service()
    async with start(service) as gateway:
        await until(lambda: service.refreshes >= 3)
        assert (await say(gateway))[0] == 200


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("token", "expires_at"),
    [
        (token_with('{"exp": 1800000060}'), NOW + 60),
        (token_with('{"exp":1800000060.5}'), NOW + 60.5),
        ("opaque", NOW + 8 * HOUR),
        ("e30.e30.s", NOW + 8 * HOUR),
        ("a.!!!.c", NOW + 8 * HOUR),
        (token_with("[]"), NOW + 8 * HOUR),
        (token_with('{"exp": null}'), NOW + 8 * HOUR),
        (token_with('{"exp": 1e300}'), NOW + 8 * HOUR),
        (token_with('{"exp": "nan"}'), NOW + 8 * HOUR),
        (token_with('{"exp": 1800000060000}'), NOW + 8 * HOUR),
    ],
)
def test_expiry(token, expires_at):
    assert expiry(token, NOW) == expires_at


def test_a_file_of_another_key(tmp_path):
    file = FileStore(tmp_path / "auth.json", "one")
    file.save(Tokens("access", "refresh"))
    assert file.load().refresh == "refresh"
    assert FileStore(tmp_path / "auth.json", "two").load() is None


async def test_refreshes_are_counted(tmp_path, start, quick):
    """The gateway's own, not what it took from another process."""
    service = Service(token_answer=_answers(500, "{}"))

    def counts():
        return manager.refreshes_done, manager.refreshes_failed

    async with start(service) as gateway:
        manager = gateway.app[CURRENT].auth
        await until(lambda: manager.refreshes_failed >= 2)
        service.token_answer = None
        await until(lambda: manager.refreshes_done)
        done, failed = counts()
        assert (done, failed) == (1, len(service.calls) - 1)
        FileStore(tmp_path / "data" / "auth.json", FIRST_KEY).save(Tokens(jwt(8 * HOUR), "demo-refresh-another"))
        await manager._refresh_once(manager._tokens)
        assert counts() == (done, failed)


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
    service.token_answer = _answers(400, echo) if failing else None
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
            monkeypatch.setattr(gateway.app[CURRENT].upstream, "_send", None)  # any mistake in the gateway
            told.append((await say_text(gateway, "common", {"x-api-key": "SECRET-client"}))[1])
            told.append(__main__._banner(settings, gateway.app, 1, demo=False).encode())
    everything = caplog.text.encode() + b"".join(told) + repr(settings.auth).encode()
    assert len(told) > 40
    assert b"SECRET-" not in everything
    for token in filter(None, (service.access_token, service.refresh_token)):
        assert token.encode() not in everything
