"""`droid2api check`: each thing that can be wrong is found, and nothing is touched by looking."""

import asyncio
import os
import socket
import time

import orjson
import pytest
from aiohttp import web

from droid2api.credentials.credential import DEMO
from droid2api.demo import Demo
from droid2api.observe.check import check
from droid2api.server.keys import RUNTIME
from tests.harness import PATHS, gateway_for, serving, settings_for
from tests.services import free_port

FIRST_KEY = "demo-refresh-0"
HOUR = 3600


@pytest.fixture
async def upstream():
    async with serving(Demo(pace=0).app()) as url:
        yield url


def problems(findings):
    return [finding for finding in findings if not finding.ok]


async def the_problem(settings, **options):
    """The one problem, in words; `name` is what was looked at."""
    (found,) = problems(await check(settings, folder=settings.source.parent, **options))
    assert str(found).startswith(f"problem  {found.name}")
    assert str(found).endswith(f" -> {found.todo}")
    return found


def ours(folder, upstream, environment=None, **config):
    return settings_for(folder, upstream, environment, **{"port": free_port()} | config)


def token_file(folder, **fields):
    file = folder / "home" / ".factory" / "auth.json"
    file.parent.mkdir(parents=True, mode=0o700)
    file.write_bytes(orjson.dumps(fields))
    file.chmod(0o600)
    return file


async def test_all_is_well(tmp_path, upstream):
    findings = await check(ours(tmp_path, upstream), folder=tmp_path)
    assert problems(findings) == []
    names = [finding.name for finding in findings]
    endpoints = [f"endpoint {type}" for type in PATHS]
    assert [name for name in names if name != "model"] == ["config", "credential", *endpoints, "port"]
    assert "(405)" in str(findings[2])  # the demo answers POST only: the way there is open all the same


# -- settings -------------------------------------------------------------------------------------------------------


async def test_what_config_json_warns_of(tmp_path, upstream):
    problem = await the_problem(ours(tmp_path, upstream, modles=[]))
    assert (problem.name, problem.text) == ("config", "modles: is not a setting, so it is ignored.")


async def test_no_model(tmp_path, upstream):
    assert (await the_problem(ours(tmp_path, upstream, models=[]))).todo == 'add one to "models"'


async def test_each_model_with_its_profile(tmp_path, upstream):
    models = [{"id": "house-model", "type": "common"}, {"id": "gpt-5", "type": "openai", "reasoning": "off"}]
    findings = await check(ours(tmp_path, upstream, models=models), folder=tmp_path)
    plain, known = (finding.text for finding in findings if finding.name == "model")
    assert plain == "house-model: plain"
    assert known.startswith("gpt-5: efforts=")
    assert known.endswith("it reasons all the same")


@pytest.mark.parametrize("keys", [[], ["planted-gateway-key"]])
async def test_a_gateway_that_all_can_use(tmp_path, upstream, keys):
    settings = ours(tmp_path, upstream, host="0.0.0.0", api_keys=keys)
    settings.source.chmod(0o600)
    found = problems(await check(settings, folder=tmp_path))
    assert [finding.name for finding in found] == ([] if keys else ["access"])


async def test_a_secret_in_a_header_of_an_endpoint_can_be_used_too(tmp_path, upstream):
    endpoint = [{"name": type, "base_url": upstream, "headers": {"Cookie": "planted-c"}} for type in PATHS]
    settings = ours(tmp_path, upstream, {}, endpoint=endpoint, host="0.0.0.0")
    settings.source.chmod(0o600)
    assert [finding.name for finding in problems(await check(settings, folder=tmp_path))] == ["access"]


# -- credential -----------------------------------------------------------------------------------------------------


async def test_no_credential_is_a_way_to_run_it(tmp_path, upstream):
    findings = await check(ours(tmp_path, upstream, {}), folder=tmp_path)
    assert problems(findings) == []
    assert "each client must send its own key" in str(findings[1])


async def test_a_key_of_an_endpoint_that_is_not_set(tmp_path, upstream):
    endpoint = {"name": "openai", "base_url": f"{upstream}/v1/responses", "api_key_env": "MY_KEY"}
    models = [{"id": "gpt-5.5", "type": "openai"}]
    settings = ours(tmp_path, upstream, {}, endpoint=[endpoint], models=models)
    problem = await the_problem(settings)
    assert problem.text == "MY_KEY for endpoint openai is not set"
    findings = await check(ours(tmp_path, upstream, {"MY_KEY": "x"}, endpoint=[endpoint], models=models))
    assert [f.text for f in findings if f.name == "credential"] == ["MY_KEY for endpoint openai"]


@pytest.mark.parametrize(
    ("fields", "age", "text"),
    [
        ({"access_token": "planted-a", "refresh_token": FIRST_KEY}, HOUR, "1 h 0 min old, ends in 7 h 0 min"),
        ({"access_token": "planted-a", "refresh_token": FIRST_KEY}, 11 * HOUR, "ended 3 h 0 min ago; the start renews"),
        ({"refresh_token": FIRST_KEY}, 0, "no access token yet"),
    ],
)
async def test_a_token_is_told_of_and_not_touched(tmp_path, fields, age, text):
    demo, file = Demo(), token_file(tmp_path, **fields)
    received = time.time() - age + 5  # between two minutes
    os.utime(file, (received, received))
    before = file.read_bytes()
    async with serving(demo.app()) as upstream:
        findings = await check(ours(tmp_path, upstream, {}), folder=tmp_path)
    assert problems(findings) == []
    assert text in str(findings[1])
    assert "token service" in [finding.name for finding in findings]
    assert "planted-" not in "".join(map(str, findings))
    assert (demo.refreshes, file.read_bytes()) == (0, before)


async def test_a_token_that_has_ended_for_good(tmp_path, upstream):
    file = token_file(tmp_path, access_token="planted-a")
    os.utime(file, (time.time() - 9 * HOUR,) * 2)
    problem = await the_problem(ours(tmp_path, upstream, {}))
    assert "there is no refresh token" in problem.text
    assert "log in again" in problem.todo


async def test_a_token_file_that_cannot_be_read(tmp_path, upstream):
    token_file(tmp_path).write_text("{broken")
    assert "holds no token that can be read" in (await the_problem(ours(tmp_path, upstream, {}))).text


async def test_a_refresh_that_is_asked_for_is_kept(tmp_path):
    demo = Demo()
    async with serving(demo.app()) as upstream:
        settings = ours(tmp_path, upstream, {"DROID_REFRESH_KEY": FIRST_KEY})
        findings = await check(settings, refresh=True, folder=tmp_path)
        assert problems(findings) == []
        assert "DROID_REFRESH_KEY: 0 min old, ends in 8 h 0 min" in str(findings[1])
        stored = orjson.loads((settings.data_folder / "auth.json").read_bytes())
        assert (demo.refreshes, stored["refresh_token"]) == (1, demo.refresh_token)
        assert "(mode 600): only you may read it" in str(findings[-1])


async def test_a_refresh_that_is_refused(tmp_path, upstream):
    settings = ours(tmp_path, upstream, {"DROID_REFRESH_KEY": "planted-spent"})
    assert problems(await check(settings, folder=tmp_path)) == []
    problem = await the_problem(settings, refresh=True)
    assert "answered 400 (invalid_grant)" in problem.text
    assert "planted-" not in str(problem)


async def test_a_new_token_that_cannot_be_stored(tmp_path, upstream):
    settings = ours(tmp_path, upstream, {"DROID_REFRESH_KEY": FIRST_KEY})
    settings.data_folder.write_text("a file is in its place")
    problem = await the_problem(settings, refresh=True)
    assert "could not be saved" in problem.text


# -- network --------------------------------------------------------------------------------------------------------


async def test_an_endpoint_is_asked_without_secrets_and_its_redirect_is_not_followed(tmp_path):
    asked = []

    async def answer(request):
        asked.append((request.method, request.path_qs, {name.lower() for name in request.headers}))
        raise web.HTTPFound("/elsewhere")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with serving(app) as url:
        endpoint = {"name": "openai", "base_url": f"{url}/v1?key=planted-1", "headers": {"x-key": "planted-2"}}
        models = [{"id": "gpt-5.5", "type": "openai"}]
        settings = ours(tmp_path, url, endpoint=[endpoint], models=models)
        settings.source.chmod(0o600)
        findings = await check(settings, folder=tmp_path)
    assert problems(findings) == []
    assert f"{url}/v1?*** answers (302)" in "".join(map(str, findings))
    ((method, path, headers),) = asked
    assert (method, path) == ("GET", "/v1")
    assert not headers & {"authorization", "x-api-key", "x-key"}


async def test_endpoints_that_cannot_be_reached(tmp_path, monkeypatch):
    resolve = socket.getaddrinfo

    def without_network(host, *arguments, **options):
        if host == "not.known":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", without_network)
    async with serving(web.Application()) as plain:
        urls = {
            "refused": f"http://127.0.0.1:{free_port()}/x",
            "unknown": "http://not.known/x",
            "plain": plain.replace("http:", "https:"),
        }
        endpoints = [{"name": name, "base_url": url} for name, url in urls.items()]
        models = [{"id": name, "type": "common", "endpoint": name} for name in urls]
        settings = ours(tmp_path, plain, endpoint=endpoints, models=models, auth={"hosts": ["not.known"]})
        found = {finding.name: finding for finding in problems(await check(settings, folder=tmp_path))}
    assert found.keys() == {f"endpoint {name}" for name in urls}
    assert found["endpoint refused"].text.endswith(": Connection refused")
    assert found["endpoint unknown"].text.endswith(": the name not.known is not known")
    assert "TLS failed" in found["endpoint plain"].text


async def test_silent_endpoints_are_asked_all_at_once_and_not_for_long(tmp_path):
    open, most = 0, 0

    async def silent(reader, writer):
        nonlocal open, most
        open += 1
        most = max(most, open)
        await reader.read()
        open -= 1
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    findings = await check(ours(tmp_path, url, timeouts={"connect": 0.5}), folder=tmp_path)
    assert most == len(PATHS)
    server.close()
    texts = [finding.text.partition(": ")[2] for finding in problems(findings)]
    assert texts == ["no answer in 0.5 seconds"] * len(PATHS)


# -- port -----------------------------------------------------------------------------------------------------------


def port_of(url):
    return int(url.rpartition(":")[2])


async def test_a_port_that_this_gateway_has(tmp_path, upstream, monkeypatch):
    async with gateway_for(settings_for(tmp_path, upstream)) as gateway:
        settings = ours(tmp_path, upstream, port=port_of(gateway.url))
        findings = await check(settings, folder=tmp_path)
        assert problems(findings) == []
        assert str(findings[-1]).endswith("runs there already")
        demo = {"source": DEMO, "state": "ok"}
        monkeypatch.setattr(gateway.app[RUNTIME].shared, "describe", lambda: demo)
        findings = await check(settings, folder=tmp_path)
        assert problems(findings) == []
        assert "runs there already, as a demo that says your words back" in str(findings[-1])
        failing = {"state": "failing", "problem": "the token could not be refreshed"}
        monkeypatch.setattr(gateway.app[RUNTIME].shared, "describe", lambda: failing)
        problem = await the_problem(settings)
        assert "runs there, but the token could not be refreshed" in problem.text


@pytest.mark.parametrize("answer", ["{}", "[]", "not JSON"])
async def test_a_port_that_another_program_has(tmp_path, upstream, answer):
    async def health(request):
        return web.Response(text=answer)

    app = web.Application()
    app.router.add_get("/health", health)
    async with serving(app) as other:
        problem = await the_problem(ours(tmp_path, upstream, port=port_of(other)))
    assert problem.text.endswith("is taken by another program")
    assert "--port" in problem.todo


async def test_an_address_that_this_machine_does_not_have(tmp_path, upstream):
    problem = await the_problem(ours(tmp_path, upstream, {}, host="192.0.2.1"))
    assert "Cannot assign requested address" in problem.text


# -- files ----------------------------------------------------------------------------------------------------------


async def test_files_with_secrets_that_others_may_read(tmp_path, upstream):
    (tmp_path / ".env").write_text("FACTORY_API_KEY=planted-1\n")
    (tmp_path / ".env").chmod(0o640)
    token = token_file(tmp_path, access_token="planted-a", refresh_token=FIRST_KEY)
    token.chmod(0o604)
    settings = ours(tmp_path, upstream, {}, api_keys=["planted-2"])
    settings.source.chmod(0o644)
    found = problems(await check(settings, folder=tmp_path))
    expected = {tmp_path / ".env": "640", settings.source: "644", token: "604"}
    assert [finding.todo for finding in found] == [f"chmod 600 {file}" for file in expected]
    for finding, mode in zip(found, expected.values(), strict=True):
        assert f"(mode {mode})" in finding.text
    for file in expected:
        file.chmod(0o600)
    findings = await check(settings, folder=tmp_path)
    assert problems(findings) == []
    assert [finding.name for finding in findings].count("file") == 3


async def test_files_without_secrets_may_be_read(tmp_path, upstream):
    (tmp_path / ".env").write_text("PORT=3000\nDROID_REFRESH_KEY=\n")
    endpoint = {"name": "openai", "base_url": upstream, "headers": {"anthropic-beta": "x"}}
    settings = ours(tmp_path, upstream, endpoint=[endpoint], models=[{"id": "gpt-5.5", "type": "openai"}])
    for file in (tmp_path / ".env", settings.source):
        file.chmod(0o644)
    findings = await check(settings, folder=tmp_path)
    assert "file" not in [finding.name for finding in findings]
