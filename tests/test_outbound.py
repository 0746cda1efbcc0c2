"""Calls through real proxies and with real certificates: requests, the token refresh and `check` go the same way."""

import subprocess
import sys
from contextlib import asynccontextmanager

import orjson
import pytest
from aiohttp import web

from droid2api import outbound
from droid2api.config import load
from droid2api.demo import Demo
from droid2api.errors import ConfigError
from droid2api.observe.check import check

from .harness import PATHS, body_of, gateway_for
from .proxy_server import USER, certificates, proxy

HOST = "api.example.com"
HTTP, HTTPS = f"http://{HOST}", f"https://{HOST}"
KINDS = {"http": "http", "socks": "socks5"}
CHAT = PATHS["common"]


@pytest.fixture(scope="module")
def trust(tmp_path_factory):
    """The file of a CA, and what serves TLS with a certificate of its."""
    return certificates(tmp_path_factory.mktemp("trust"), HOST, "localhost")


@asynccontextmanager
async def demo(tls=None):
    """The demo on a free port; gives the port."""
    runner = web.AppRunner(Demo(pace=0).app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def settings(tmp_path, base, environment=None, **config):
    value = {
        "endpoint": [{"name": name, "base_url": base + path, "api_key_env": "OWN"} for name, path in PATHS.items()],
        "models": [{"id": "glm-4.6", "type": "common"}, {"id": "claude-haiku-4-5-20251001", "type": "anthropic"}],
    }
    file = tmp_path / "config.json"
    file.write_bytes(orjson.dumps(value | config))
    own = {"HOME": str(tmp_path), "DROID2API_DATA": str(tmp_path / "data"), "OWN": "test-key-own"}
    return load(file, own | (environment or {}))


def url(kind, server, login=""):
    return f"{KINDS[kind]}://{login and login + '@'}127.0.0.1:{server.port}"


async def say(gateway, client="common", **more):
    status, _, content = await gateway.ask(PATHS[client], body_of(client, said="hello there", **more))
    return status, content.decode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", [HTTP, HTTPS])
@pytest.mark.parametrize("by", ["config", "environment"])
async def test_requests_go_through(tmp_path, trust, kind, base, by):
    """Whole and streamed, relayed and translated; the names are for the proxy to find."""
    tls = trust[1] if base == HTTPS else None
    async with demo(tls) as port, proxy(port, kind, login=True) as server:
        way = url(kind, server, USER)
        environment = {"SSL_CERT_FILE": str(trust[0])} | ({"ALL_PROXY": way} if by == "environment" else {})
        config = {"proxy": way} if by == "config" else {}
        async with gateway_for(settings(tmp_path, base, environment, **config)) as gateway:
            for client, stream in (("common", False), ("common", True), ("anthropic", True)):
                status, said = await say(gateway, client, stream=stream)
                assert (status, "hello" in said) == (200, True), said
    assert server.asked
    assert all(HOST in place for place in server.asked)


async def test_direct_and_loopback_go_without(tmp_path):
    async with demo() as port, proxy(port) as server:
        environment = {"HTTP_PROXY": url("http", server)}
        async with gateway_for(settings(tmp_path, f"http://127.0.0.1:{port}", environment)) as gateway:
            assert (await say(gateway))[0] == 200
        async with gateway_for(settings(tmp_path, HTTP, environment, proxy="direct")) as gateway:
            assert (await say(gateway))[0] == 502  # nobody has that name
    assert server.asked == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("more", "login", "said"),
    [
        ({"login": True}, "", "refused the way to"),
        ({"login": True}, "planted-user:planted-wrong", "refused the way to"),
        ({"answer": 403}, "", "refused the way to"),
    ],
)
async def test_a_proxy_that_refuses_says_so(tmp_path, kind, more, login, said, caplog):
    async with demo() as port, proxy(port, kind, **more) as server:
        config = {"proxy": url(kind, server, login)}
        async with gateway_for(settings(tmp_path, HTTPS, **config)) as gateway:
            status, answer = await say(gateway)
    place = f"127.0.0.1:{server.port}"
    assert (status, said in answer, place in answer, HOST in answer) == (502, True, True, True), answer
    assert kind != "http" or ("USER:PASSWORD" in answer) == bool(more.get("login"))
    assert "planted" not in answer + caplog.text


async def test_a_plain_call_that_the_proxy_refuses_is_no_answer(tmp_path):
    """Without TLS the whole call goes to the proxy, and so its 407 looks like the service's."""
    async with (
        demo() as port,
        proxy(port, login=True) as server,
        gateway_for(settings(tmp_path, HTTP, proxy=url("http", server))) as gateway,
    ):
        status, answer = await say(gateway)
    assert (status, "407" in answer, "USER:PASSWORD" in answer) == (502, True, True)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_dead_proxy_is_named(tmp_path, kind):
    async with proxy(1, kind) as server:
        pass
    async with gateway_for(settings(tmp_path, HTTPS, proxy=url(kind, server, USER))) as gateway:
        status, answer = await say(gateway)
    assert (status, "could not be reached" in answer, "***@127.0.0.1" in answer) == (502, True, True), answer
    assert "planted" not in answer


@pytest.mark.parametrize("kind", KINDS)
async def test_a_proxy_whose_name_is_not_known_is_named(tmp_path, kind):
    """It is not the service's name that has to be mended."""
    read = settings(tmp_path, HTTPS, proxy=f"{KINDS[kind]}://{USER}@nowhere.invalid:1")
    async with gateway_for(read) as gateway:
        status, answer = await say(gateway)
    [found, *_] = [finding for finding in await check(read) if finding.name.startswith("endpoint")]
    for text in (answer, found.text):
        assert f"The proxy {KINDS[kind]}://***@nowhere.invalid:1 could not be reached" in text
        assert "planted" not in text
    assert (status, found.ok, "proxy" in found.todo) == (502, False, True)


async def test_an_https_proxy(tmp_path, trust):
    """TLS inside of TLS."""
    async with demo(trust[1]) as port, proxy(port, tls=trust[1]) as server:
        environment = {"SSL_CERT_FILE": str(trust[0])}
        config = {"proxy": f"https://localhost:{server.port}"}
        async with gateway_for(settings(tmp_path, HTTPS, environment, **config)) as gateway:
            status, answer = await say(gateway)
    assert status == 200, answer


@pytest.mark.parametrize("kind", KINDS)
async def test_the_token_refresh_and_check_go_through(tmp_path, trust, kind):
    async with demo(trust[1]) as port, proxy(port, kind) as server:
        environment = {"SSL_CERT_FILE": str(trust[0]), "DROID_REFRESH_KEY": "demo-refresh-0"}
        endpoint = [{"name": "common", "base_url": HTTPS + CHAT}]
        config = {"proxy": url(kind, server), "auth": {"token_url": f"{HTTPS}/oauth/token", "hosts": [HOST]}}
        models = [{"id": "glm-4.6", "type": "common"}]
        read = settings(tmp_path, HTTPS, environment, endpoint=endpoint, models=models, **config)
        async with gateway_for(read) as gateway:
            status, answer = await say(gateway)
            assert status == 200, answer
        found = {finding.name: finding for finding in await check(read)}
    for name in ("endpoint common", "token service"):
        assert found[name].ok, found[name]
        assert f"through {url(kind, server)}" in found[name].text
    assert server.asked


# -- certificates ---------------------------------------------------------------------------------------------------


async def test_an_untrusted_certificate_says_so_once(tmp_path, trust, caplog):
    async with (
        demo(trust[1]) as port,
        proxy(port) as server,
        gateway_for(settings(tmp_path, HTTPS, proxy=url("http", server))) as gateway,
    ):
        status, answer = await say(gateway)
    assert status == 502
    for word in (f"certificate of {HOST}", "truststore", "SSL_CERT_FILE"):
        assert word in answer
    assert len(server.asked) == 1  # it would be refused again


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("SSL_CERT_FILE", None, "No such file"), ("SSL_CERT_FILE", b"junk", "holds no certificate")],
)
def test_certificates_that_cannot_be_read_stop_the_start(tmp_path, name, content, reason):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name}: .*ca.pem cannot be used: .*{reason}"):
        outbound._trust({name: str(file)})


def test_the_systems_certificates_by_the_extra(monkeypatch):
    truststore = pytest.importorskip("truststore")
    assert type(outbound._trust({})) is truststore.SSLContext
    monkeypatch.setattr(outbound, "find_spec", lambda name: None)
    assert outbound._trust({}) is True


# -- what is missing ------------------------------------------------------------------------------------------------


async def test_socks_without_the_extra_is_a_config_error(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(outbound, "find_spec", lambda name: None)
    read = settings(tmp_path, HTTPS, proxy="socks5://planted-user:planted-pass@127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"pip install 'droid2api\[socks\]'") as refused:
        async with gateway_for(read):
            pass
    assert "planted" not in str(refused.value)
    with pytest.raises(ConfigError, match="aiohttp-socks"):
        await check(read)


def test_a_start_without_a_proxy_loads_no_package_for_one(tmp_path):
    code = "import sys, droid2api.application; sys.exit('aiohttp_socks' in sys.modules or 'truststore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
