"""Edits of config.json and .env apply while the gateway runs; what is wrong changes nothing."""

import asyncio
import json
import logging
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest

from droid2api.application import build_app, file_source
from droid2api.credentials import chain
from droid2api.credentials.file_store import FileStore
from droid2api.credentials.fixed import FixedKey
from droid2api.errors import ConfigError
from droid2api.outbound import Outbound
from droid2api.server import reload
from droid2api.server.keys import RELOADER, RUNTIME
from droid2api.server.reload import Reloader, Runtime, Source
from droid2api.settings import Settings
from tests.credentials.service import FIRST_KEY, Service
from tests.harness import BODIES, CHUNK, DONE, Gateway, Scripted, serving, settings_for, until
from tests.test_start import environment, get, started, write_config  # noqa: F401 - a fixture

ONE = [{"id": "one", "type": "common"}]
TWO = [{"id": "two", "type": "common"}]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder and an environment of the test's own; files are looked at often."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.environ", {"HOME": str(tmp_path / "home")})
    monkeypatch.setattr(reload, "LOOK_EVERY", 0.02)
    return tmp_path


@dataclass
class Live(Gateway):
    """A gateway that reads config.json and .env of the working folder again."""

    upstream: str
    script: Scripted

    @property
    def current(self) -> Runtime:
        return self.app[RUNTIME]

    def write(self, **config) -> None:
        write(self.upstream, **config)

    async def say(self, model: str, key: str = "", path: str = "/v1/chat/completions") -> int:
        body = BODIES[path] | {"model": model, "stream": True}
        return (await self.ask(path, body, {"x-api-key": key} if key else {}))[0]

    async def applied(self, action) -> Settings:
        """The new settings, after what `action` did to the files."""
        before = self.current.settings
        action()
        await until(lambda: self.current.settings is not before)
        return self.current.settings


def write(upstream: str, **config) -> None:
    settings_for(Path.cwd(), upstream, {}, **({"models": ONE} | config))


def write_env(**values: str) -> None:
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))


@asynccontextmanager
async def live(script: Scripted | None = None, **config):
    script = script or Scripted(chunks=[CHUNK, DONE])
    async with serving(script.app()) as upstream:
        write(upstream, **config)
        write_env(FACTORY_API_KEY="test-key-1")
        source = file_source()
        app = build_app(source.read(), source)
        async with serving(app) as url, aiohttp.ClientSession() as client:
            yield Live(url, app, client, upstream, script)


def said(caplog, level=logging.WARNING) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "droid2api.reload" and r.levelno >= level]


# -- edits ----------------------------------------------------------------------------------------------------------


async def test_models_and_the_system_prompt(caplog):
    async with live() as gateway:
        assert (await gateway.say("one"), await gateway.say("two")) == (200, 404)
        await gateway.applied(lambda: gateway.write(models=TWO, system_prompt="Be new."))
        assert (await gateway.say("one"), await gateway.say("two")) == (404, 200)
        assert "Be new." in str(gateway.script.last)
        assert b'"two"' in (await gateway.get("/v1/models"))[2]
    assert said(caplog, logging.INFO) == ["Settings read again from config.json: 1 models."]


async def test_keys_of_the_config():
    async with live(api_keys=["gateway-1"]) as gateway:
        assert (await gateway.say("one", "gateway-1"), await gateway.say("one", "gateway-2")) == (200, 401)
        await gateway.applied(lambda: gateway.write(api_keys=["gateway-2"]))
        assert (await gateway.say("one", "gateway-1"), await gateway.say("one", "gateway-2")) == (401, 200)


async def test_dotenv():
    """The gateway's keys, the credential, and the key of an endpoint."""
    own = [{"name": "own", "type": "common", "id": "own", "endpoint": "own"}]
    async with live() as gateway:
        url = f"{gateway.upstream}/v1/chat/completions"
        endpoint = [
            {"name": "common", "base_url": url},
            {"name": "own", "base_url": url, "api_key_env": "OWN"},
        ]
        await gateway.applied(lambda: gateway.write(models=ONE + own, endpoint=endpoint))
        assert (await gateway.say("one"), await gateway.say("own")) == (200, 401)
        new = {"FACTORY_API_KEY": "test-key-2", "DROID2API_KEYS": "gateway-1", "OWN": "test-key-own"}
        await gateway.applied(lambda: write_env(**new))
        assert await gateway.say("one") == 401
        assert (await gateway.say("one", "gateway-1"), await gateway.say("own", "gateway-1")) == (200, 200)
        credentials = [headers["authorization"] for _, headers, _ in gateway.script.requests]
        assert credentials == ["Bearer test-key-1", "Bearer test-key-2", "Bearer test-key-own"]
        await gateway.applied(Path(".env").unlink)
        assert await gateway.say("own") == 401


async def test_variables_that_are_set_win_over_dotenv(monkeypatch):
    monkeypatch.setenv("FACTORY_API_KEY", "test-key-0")
    async with live() as gateway:
        await gateway.applied(lambda: write_env(FACTORY_API_KEY="test-key-2"))
        await gateway.say("one")
        assert gateway.script.requests[0][1]["authorization"] == "Bearer test-key-0"


@pytest.mark.parametrize(("change", "warned"), [({"host": "127.0.0.2"}, 1), ({"port": 3001}, 1), ({"models": TWO}, 0)])
async def test_what_needs_a_restart_is_said(caplog, change, warned):
    async with live() as gateway:
        await gateway.applied(lambda: gateway.write(**change))
    assert said(caplog) == ["host and port are changed by a restart only."] * warned


async def test_what_did_not_change_is_not_read_again(caplog):
    async with live() as gateway:
        settings = gateway.current.settings
        await asyncio.sleep(0.1)
        assert gateway.current.settings is settings
    assert said(caplog, logging.INFO) == []


# -- what is wrong --------------------------------------------------------------------------------------------------

WRONG = [
    ("config.json", b'{"port": 3000,\n "models": [}', "config.json: line 2, column 13"),
    ("config.json", b"", "config.json: line 1"),
    ("config.json", b'{"models": [{"id": "a", "type": "gpt"}]}', "config.json: models[0].type: must be one of"),
    ("config.json", b'{"log_level": "loud"}', "config.json: log_level: must be one of"),
    ("config.json", None, "config.json: cannot be read: No such file or directory."),
    (".env", b"KEY=\xff\xfe", ".env: cannot be read: it is not UTF-8 text."),
    (".env", b"PORT=http", "PORT: must be a port number (0 to 65535), not 'http'."),
]


@pytest.mark.parametrize(("name", "content", "error"), WRONG)
async def test_a_wrong_file_changes_nothing(here, caplog, name, content, error):
    file = here / name
    async with live() as gateway:
        parts = vars(gateway.current).copy()
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        await until(lambda: said(caplog))
        await asyncio.sleep(0.1)  # it is looked at again, but not complained of
        (line,) = said(caplog)
        assert error in line
        assert line.endswith(" The last good settings stay in force.")
        assert vars(gateway.current) == parts
        assert await gateway.say("one") == 200
        (here / ".env").write_text("FACTORY_API_KEY=test-key-1\n")
        await gateway.applied(lambda: gateway.write(models=TWO))
        assert await gateway.say("two") == 200
    assert len(said(caplog)) == 1


async def test_a_file_is_not_read_while_it_is_written(here, caplog, monkeypatch):
    """Editors write in parts; half a file would be an error in the log. Each look finds one part more."""
    look, file = Source.marks, here / "config.json"

    def write_and_look(source):
        if parts:
            file.write_bytes(whole[: parts.pop(0)])
        return look(source)

    async with live() as gateway:
        gateway.write(models=TWO)
        whole = file.read_bytes()
        parts = [10, 50, 100, len(whole)]
        monkeypatch.setattr(Source, "marks", write_and_look)
        await until(lambda: "two" in gateway.current.settings.models)
    assert said(caplog) == []


async def test_settings_that_cannot_be_used_change_nothing(caplog, monkeypatch):
    """What is only found out when they are applied."""

    def missing(url, key):
        raise ConfigError("DROID2API_REDIS_URL needs the redis package.")

    monkeypatch.setattr(chain, "_open_redis", missing)
    async with live() as gateway:
        parts = vars(gateway.current).copy()
        write_env(DROID_REFRESH_KEY=FIRST_KEY, DROID2API_REDIS_URL="redis://127.0.0.1:9")
        await until(lambda: said(caplog))
        assert said(caplog) == ["DROID2API_REDIS_URL needs the redis package. The last good settings stay in force."]
        assert vars(gateway.current) == parts
        assert not any(task.cancelled() for task in gateway.current._tasks.values())
        assert await gateway.say("one") == 200


# -- what goes on meanwhile -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_stream_goes_on_with_what_it_began_with(path):
    script = Scripted(chunks=[CHUNK] * 10 + [DONE], pause=0.04)
    async with live(script) as gateway:
        outbound = gateway.current._outbound
        asking = asyncio.create_task(gateway.ask(path, BODIES[path] | {"model": "one", "stream": True}))
        await script.reached.wait()
        await gateway.applied(lambda: (gateway.write(models=TWO), write_env(FACTORY_API_KEY="test-key-2")))
        await until(lambda: gateway.current.settings.environment["FACTORY_API_KEY"] == "test-key-2")
        assert not asking.done()
        status, _, content = await asking
        assert (status, content.count(b"one "), b"error" in content) == (200, 10, False)
        assert (b"[DONE]" if "chat" in path else b"message_stop") in content
        script.pause = 0
        assert gateway.current._outbound is outbound
        assert not outbound._session.closed
        assert await gateway.say("two") == 200


# -- the credential -------------------------------------------------------------------------------------------------

KEY = {"DROID_REFRESH_KEY": FIRST_KEY}
CHANGES = [
    ({}, {}, False),
    ({"system_prompt": "Be new."}, {}, False),
    ({"models": TWO, "api_keys": ["gateway-1"], "timeouts": {"idle": 5}}, {}, False),
    ({}, {"DROID2API_KEYS": "gateway-1", "OWN": "test-key-own"}, False),
    ({}, {"FACTORY_API_KEY": "test-key"}, True),
    ({}, {"DROID_REFRESH_KEY": "demo-refresh-other"}, True),
    ({}, {"HOME": "elsewhere"}, True),
    ({}, {"DROID2API_DATA": "elsewhere"}, True),
    ({"auth": {"token_url": "http://127.0.0.1:9/other"}}, {}, True),
    ({"auth": {"client_id": "another"}}, {}, True),
]


@pytest.mark.parametrize(("config", "more", "anew"), CHANGES)
async def test_who_holds_the_credential(here, config, more, anew):
    service, tasks = Service(), asyncio.all_tasks()
    async with serving(service.app()) as upstream, Outbound({}) as outbound:
        current = Runtime(settings_for(here, upstream, KEY), outbound)
        before, refreshing = current.shared, current._tasks[current.shared]
        await until(lambda: service.refreshes)
        settings = settings_for(here, upstream, KEY | more, **config)
        await current.apply(settings)
        assert (current.shared is not before, refreshing.done(), before not in current._tasks) == (anew,) * 3
        assert set(current.credentials.values()) == {current.shared} == current._tasks.keys()
        assert current.upstream._credentials is current.credentials
        assert current.settings is settings
        await current.close()
    await until(lambda: asyncio.all_tasks() <= tasks)


async def test_a_login_after_the_start_is_found(here):
    async with Outbound({}) as outbound:
        settings = settings_for(here, "http://127.0.0.1:9", {"HOME": str(here)})
        current = Runtime(settings, outbound)
        assert current.shared.source == "client"
        (here / ".factory").mkdir()
        (here / ".factory" / "auth.json").write_text('{"access_token": "test-key"}')
        await current.apply(settings)
        assert current.shared.source == "~/.factory/auth.json"
        await current.close()


async def test_a_refresh_under_way_is_not_lost(here):
    """It has used up its token: the next one must be kept, whatever comes after."""
    service = Service()
    service.gate.clear()
    async with serving(service.app()) as upstream, Outbound({}) as outbound:
        data = {"DROID2API_DATA": str(here / "data")}
        current = Runtime(settings_for(here, upstream, KEY | data), outbound)
        await until(lambda: service.calls)
        applying = asyncio.create_task(current.apply(settings_for(here, upstream, data | {"FACTORY_API_KEY": "k"})))
        await until(lambda: current.shared.source == "FACTORY_API_KEY")  # requests need not wait for it
        assert not applying.done()
        service.gate.set()
        await applying
        assert FileStore(here / "data" / "auth.json", FIRST_KEY).load().refresh == service.refresh_token
        await current.close()


async def test_a_refresh_under_way_survives_a_reload_and_a_stop(here):
    """The reload is cancelled while it waits for the refresh of the credential that it replaces."""
    service = Service()
    service.gate.clear()
    async with serving(service.app()) as upstream, Outbound({}) as outbound:
        data = {"DROID2API_DATA": str(here / "data")}
        runtime = Runtime(settings_for(here, upstream, KEY | data), outbound)
        await until(lambda: service.calls)
        applying = asyncio.create_task(runtime.apply(settings_for(here, upstream, data | {"FACTORY_API_KEY": "k"})))
        await asyncio.sleep(0.05)
        applying.cancel()
        asyncio.get_running_loop().call_later(0.1, service.gate.set)
        await runtime.close()
        assert service.refreshes == 1
        assert FileStore(here / "data" / "auth.json", FIRST_KEY).load().refresh == service.refresh_token
        assert runtime._tasks == {}


async def test_a_stop_in_the_middle_of_a_reload_is_not_swallowed(here, monkeypatch):
    async def run(self):
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)

    monkeypatch.setattr(FixedKey, "run", run)
    settings = settings_for(here, "http://127.0.0.1:9")
    other = replace(settings, environment={"FACTORY_API_KEY": "test-key-2"})
    async with Outbound({}) as outbound:
        current = Runtime(settings, outbound)
        reloader = Reloader(Source(lambda: other, ()), current)
        reloader.ask()
        running = asyncio.create_task(reloader.run())
        await until(lambda: current.settings is other)
        await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.wait([running], timeout=10)
        assert running.cancelled()
        await current.close()


# -- on demand ------------------------------------------------------------------------------------------------------


async def test_asked_it_reads_at_once_what_has_not_changed(monkeypatch):
    monkeypatch.setattr(reload, "LOOK_EVERY", 60)
    async with live() as gateway:
        await gateway.applied(lambda: gateway.app[RELOADER].ask())
        await gateway.applied(lambda: (gateway.write(models=TWO), gateway.app[RELOADER].ask()))
        assert await gateway.say("two") == 200


RARELY = "import droid2api.server.reload as r; r.LOOK_EVERY = 1000; from droid2api.__main__ import main; main()"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")
async def test_sighup(here, environment):  # noqa: F811
    """Of a process that would not look by itself for long."""
    write_config(here, models=ONE)
    command = (sys.executable, "-c", RARELY)
    async with started(here, environment, "--port", "0", "--demo", "0", command=command) as running:
        assert (await get(f"{running.url}/v1/models"))["first_id"] == "one"
        write_config(here, models=TWO, log_format="json")
        running.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(10):
            while (await get(f"{running.url}/v1/models"))["first_id"] != "two":  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        async with aiohttp.ClientSession() as client:
            body = BODIES["/v1/chat/completions"] | {"model": "two"}
            async with client.post(f"{running.url}/v1/chat/completions", json=body) as response:
                assert response.status == 200  # of the demo still
        (here / "config.json").write_text("{")
        running.process.send_signal(signal.SIGHUP)
        await until(lambda: any("line 1, column 2" in line for line in running.errors))
        assert await running.end() == 0
    lines = [json.loads(line) for line in running.errors]
    read, wrong = (line for line in lines if line["logger"] == "droid2api.reload")
    assert (read["level"], wrong["level"]) == ("info", "error")
    assert "config.json: line 1, column 2" in wrong["message"]
    assert [line["model"] for line in lines if line["logger"] == "droid2api.requests"] == ["two"]
    assert len(lines) == 3
