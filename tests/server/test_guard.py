import asyncio
import dataclasses

import orjson
import pytest

from droid2api.server.guard import Guard
from droid2api.server.keys import RUNTIME
from tests.harness import BY_TYPE, PATHS, Scripted, demo_gateway, gateway_for, scripted_gateway, serving, settings_for

ASK = {"model": BY_TYPE["common"], "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"
FOREIGN = {"Origin": "https://evil.example"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def settings(tmp_path):
    return settings_for(tmp_path, "http://127.0.0.1:1")


HOSTS = [
    ("127.0.0.1", "localhost:3000", True),
    ("127.0.0.1", "LOCALHOST", True),
    ("127.0.0.1", "app.localhost:3000", True),
    ("127.0.0.1", "127.0.0.1:3000", True),
    ("127.0.0.1", "127.8.9.1", True),
    ("127.0.0.1", "[::1]:3000", True),
    ("127.0.0.1", "evil.example:3000", False),
    ("127.0.0.1", "localhost.evil.example", False),
    ("127.0.0.1", "127.0.0.1.evil.example", False),
    ("127.0.0.1", "192.168.1.7:3000", False),
    ("127.0.0.1", "", False),
    ("127.0.0.1", "gateway.lan", True),
    ("127.0.0.1", "a.team.lan:80", True),
    ("0.0.0.0", "192.168.1.7:3000", True),
    ("::", "[fe80::1]:3000", True),
    ("0.0.0.0", "evil.example", False),
    ("192.168.1.7", "192.168.1.7:3000", True),
    ("192.168.1.7", "192.168.1.8:3000", False),
    ("box.lan", "box.lan:3000", True),
]


@pytest.mark.parametrize(("bound", "host", "ours"), HOSTS)
def test_hosts(settings, bound, host, ours):
    settings = dataclasses.replace(settings, host=bound, allowed_hosts=("gateway.lan", "*.team.lan"))
    guard = Guard(settings, True)
    if ours:
        guard.check_host({"Host": host})
    else:
        with pytest.raises(Exception, match="allowed_hosts") as caught:
            guard.check_host({"Host": host})
        assert caught.value.status == 403


@pytest.mark.parametrize(
    ("host", "keys", "holds", "is_open"),
    [
        ("127.0.0.1", (), True, False),
        ("localhost", (), True, False),
        ("0.0.0.0", (), True, True),
        ("::", (), True, True),
        ("192.168.1.7", (), True, True),
        ("0.0.0.0", ("k",), True, False),
        ("0.0.0.0", (), False, False),
    ],
)
def test_who_is_warned(settings, host, keys, holds, is_open):
    assert Guard(dataclasses.replace(settings, host=host, api_keys=keys), holds).is_open is is_open


async def test_dns_rebinding_is_refused_on_every_route(tmp_path):
    async with demo_gateway(tmp_path) as gateway:
        for path in ("/", "/health", "/v1/models", "/nowhere"):
            status, _, content = await gateway.get(path, {"Host": "evil.example"})
            assert status == 403
            assert "allowed_hosts" in orjson.loads(content)["error"]["message"]
        status, _, _ = await gateway.ask(CHAT, ASK, {"Host": "evil.example"})
        assert status == 403


async def test_a_key_is_wanted_on_every_route_but_health(tmp_path):
    async with demo_gateway(tmp_path, api_keys=["key-one", "key-two"]) as gateway:
        assert (await gateway.get("/health"))[0] == 200
        for path in ("/", "/v1/models", "/nowhere"):
            assert (await gateway.get(path))[0] == 401
        assert (await gateway.ask(CHAT, ASK))[0] == 401
        for wrong in ({"x-api-key": "key-on"}, {"Authorization": "Bearer key-onee"}, {"Authorization": "key-one"}):
            status, _, content = await gateway.ask("/v1/messages", ASK | {"max_tokens": 9}, wrong)
            assert status == 401
            assert orjson.loads(content)["error"]["type"] == "authentication_error"
        for right in ({"x-api-key": "key-two"}, {"Authorization": "Bearer key-one"}):
            assert (await gateway.ask(CHAT, ASK, right))[0] == 200


async def test_keys_from_the_environment_win(tmp_path):
    settings = settings_for(tmp_path, "http://127.0.0.1:1", {"DROID2API_KEYS": " a, b ,"}, api_keys=["c"])
    assert settings.api_keys == ("a", "b")
    assert "DROID2API_KEYS" not in repr(settings)


async def test_the_gateways_key_is_never_forwarded(tmp_path):
    script = Scripted(status=500, headers=JSON, chunks=[b"{}"])
    async with serving(script.app()) as upstream:
        settings = settings_for(tmp_path, upstream, {}, api_keys=["gateway-key"])  # no credential of the owner's
        async with gateway_for(settings) as gateway:
            status, _, _ = await gateway.ask(CHAT, ASK, {"Authorization": "Bearer gateway-key"})
            assert (status, script.requests) == (401, [])
            own = {"x-api-key": "gateway-key", "Authorization": "Bearer own-key"}
            await gateway.ask(CHAT, ASK, own)
    assert "gateway-key" not in str(script.requests)
    assert script.requests[0][1]["authorization"] == "Bearer own-key"


async def test_a_foreign_page_is_refused(tmp_path):
    script = Scripted(headers=JSON, chunks=[b"{}"])
    async with scripted_gateway(tmp_path, script, allowed_origins=["https://good.example"]) as gateway:
        for origin in ("https://evil.example", "null", "http://localhost:5173"):
            status, headers, content = await gateway.ask(CHAT, ASK, {"Origin": origin})
            assert status == 403
            assert "Access-Control-Allow-Origin" not in headers
            assert "allowed_origins" in orjson.loads(content)["error"]["message"]
        assert script.requests == []
        for origin in ("https://good.example", gateway.url):
            status, headers, _ = await gateway.ask(CHAT, ASK, {"Origin": origin})
            assert (status, headers["Access-Control-Allow-Origin"]) == (200, origin)


async def preflight(gateway, origin="https://evil.example"):
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    async with gateway.client.options(gateway.url + CHAT, headers=asked) as response:
        return response.status, response.headers


async def test_preflights(tmp_path):
    async with demo_gateway(tmp_path, allowed_origins=["https://good.example"]) as gateway:
        status, headers = await preflight(gateway)
        assert status == 403
        assert "Access-Control-Allow-Origin" not in headers
        status, headers = await preflight(gateway, "https://good.example")
        assert (status, headers["Access-Control-Allow-Origin"]) == (204, "https://good.example")


async def test_a_page_with_a_key_may(tmp_path):
    async with demo_gateway(tmp_path, api_keys=["k"]) as gateway:
        assert (await preflight(gateway))[0] == 204
        assert (await gateway.ask(CHAT, ASK, FOREIGN))[0] == 401
        status, headers, _ = await gateway.ask(CHAT, ASK, FOREIGN | {"x-api-key": "k"})
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, FOREIGN["Origin"])


async def test_a_foreign_page_with_a_key_of_its_own_may_not(tmp_path):
    """Whoever's key it is: a page that the owner did not name has no business here."""
    script = Scripted(headers=JSON, chunks=[b"{}"])
    async with serving(script.app()) as upstream, gateway_for(settings_for(tmp_path, upstream, {})) as gateway:
        assert (await preflight(gateway))[0] == 403
        status, headers, _ = await gateway.ask(CHAT, ASK, FOREIGN | {"Authorization": "Bearer own"})
        assert (status, headers.get("Access-Control-Allow-Origin")) == (403, None)
    assert script.requests == []


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key", "api-key", "Cookie", "x-goog-api-key"])
async def test_a_secret_in_a_header_of_an_endpoint_is_the_owners(tmp_path, name):
    secret = [{"name": type, "base_url": "http://127.0.0.1:1", "headers": {name: "planted-s"}} for type in PATHS]
    plain = [endpoint | {"headers": {"x-team": "a"}} for endpoint in secret]
    for endpoint, owned in ((secret, True), (plain, False)):
        async with gateway_for(
            settings_for(tmp_path, "http://127.0.0.1:1", {}, endpoint=endpoint, host="0.0.0.0")
        ) as gateway:
            assert gateway.app[RUNTIME].guard.is_open is owned


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_what_a_page_can_send_without_asking_is_no_body(tmp_path, kind):
    script = Scripted()
    async with scripted_gateway(tmp_path, script) as gateway:
        for path in (CHAT, "/v1/messages", "/v1/messages/count_tokens", "/v1/responses"):
            status, _, content = await gateway.ask(path, ASK, {"Content-Type": kind})
            assert status == 415
            assert "application/json" in orjson.loads(content)["error"]["message"]
    assert script.requests == []


async def test_json_with_a_charset_is_json(tmp_path):
    async with demo_gateway(tmp_path) as gateway:
        for kind in ("application/json; charset=utf-8", "application/vnd.api+json"):
            assert (await gateway.ask(CHAT, ASK, {"Content-Type": kind}))[0] == 200


@pytest.mark.parametrize("line", ["Authorization: Bearer test-key\x01", "x-api-key: test-key\x00", "Bearer test-key"])
async def test_a_request_that_cannot_be_read_is_not_quoted_in_the_log(tmp_path, caplog, line):
    async with demo_gateway(tmp_path) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET / HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n".encode())
        assert (await reader.read(12)).endswith(b"400")
        writer.close()
        await writer.wait_closed()
    assert "Error handling request" in caplog.text
    assert "test-key" not in caplog.text


async def test_a_foreign_page_may_not_even_look(tmp_path):
    """By a link, a frame or a picture, which have no Origin; the page at / shows nothing without its own requests."""
    async with demo_gateway(tmp_path, allowed_origins=["https://good.example"]) as gateway:
        for path in ("/v1/models", "/status", "/status/setups", "/api/hello", "/metrics"):
            assert (await gateway.get(path, {"Sec-Fetch-Site": "cross-site"}))[0] == 403
            assert (await gateway.get(path, {"Sec-Fetch-Site": "same-origin"}))[0] != 403
        for path in ("/", "/health"):
            assert (await gateway.get(path, {"Sec-Fetch-Site": "cross-site"}))[0] == 200
        allowed = {"Sec-Fetch-Site": "cross-site", "Origin": "https://good.example"}
        assert (await gateway.get("/v1/models", allowed))[0] == 200


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost/health", "localhost", 200),
        ("http://evil.example/health", "localhost", 403),
        ("HTTP://evil.example/health", "localhost", 403),
        ("http://localhost@evil.example/health", "localhost", 403),
        ("http://localhost/health", "evil.example", 200),
        ("http://localhost:99/v1/models?x=1", "evil.example", 200),
        ("/health", "evil.example", 403),
    ],
)
async def test_the_host_of_a_whole_url_wins(tmp_path, target, host, status):
    """RFC 9112, 3.2.2: an origin server must ignore Host then."""
    async with demo_gateway(tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert int((await reader.read()).split()[1]) == status
        writer.close()
