"""The inspector: what it keeps of requests, that no secret is in it, and that it has limits."""

import asyncio

import orjson
import pytest

from droid2api.gateway.exchange import Exchange
from droid2api.observe import inspector as inspector_module
from droid2api.observe.explain import explain
from droid2api.observe.inspector import Inspector
from droid2api.server.keys import CAPTURE, RUNTIME
from tests.harness import BY_TYPE, CHUNK, DONE, PATHS, Scripted, body_of, demo_gateway, scripted_gateway

PARTS = ("asked", "sent", "answered", "given")


async def captures(gateway, headers=None):
    status, _, content = await gateway.get("/status/captures", headers)
    assert status == 200
    return orjson.loads(content)


async def newest(gateway, headers=None):
    await until_kept(gateway, 1, headers)
    id = (await captures(gateway, headers))[0]["id"]
    status, got, content = await gateway.get(f"/status/captures/{id}", headers)
    assert (status, got["Cache-Control"]) == (200, "no-store")
    return orjson.loads(content)


async def until_kept(gateway, number, headers=None):
    async with asyncio.timeout(10):
        while len(await captures(gateway, headers)) < number:  # noqa: ASYNC110 - over HTTP there is no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("client", "upstream"), [("common", "common"), ("anthropic", "openai"), ("google", "common")])
async def test_all_four_parts_are_kept(tmp_path, client, upstream, stream):
    async with demo_gateway(tmp_path, capture=3) as gateway:
        body = body_of(client, upstream, said="hello there", stream=stream)
        status, _, content = await gateway.ask(PATHS[client], body)
        assert status == 200
        found = await newest(gateway)
    parts = found["parts"]
    assert orjson.loads(parts["asked"]["body"]) == body
    assert parts["asked"]["head"]["url"] == PATHS[client]
    assert orjson.loads(parts["sent"]["body"])["model"] == BY_TYPE[upstream]
    assert parts["sent"]["head"]["url"].startswith("http://127.0.0.1:")
    assert "hello" in parts["answered"]["body"]
    assert parts["given"]["body"].encode() == content
    assert (parts["answered"]["head"]["status"], parts["given"]["head"]["status"]) == (200, 200)
    assert [parts[part]["size"] for part in ("asked", "given")] == [len(orjson.dumps(body)), len(content)]
    assert (found["cut"], found["model"], found["end"]) == ([], BY_TYPE[upstream], "finish")
    assert (found["answer"] == []) == (client == upstream)


async def test_a_difference_is_told_by_lines(tmp_path):
    async with demo_gateway(tmp_path, capture=1, system_prompt="Be planted.") as gateway:
        await gateway.ask(PATHS["common"], body_of("common"))
        found = await newest(gateway)
    assert any(line.startswith("+") and "Be planted." in line for line in found["request"])
    assert not any("glm-4.6" in line and line[0] in "+-" for line in found["request"])


SECRET_KEYS = {
    "Authorization": "Bearer client-key-planted-1",
    "x-goog-api-key": "client-key-planted-2",
    "Cookie": "client-key-planted-3",
    "x-odd": "client-key-planted-1",
}


async def test_no_secret_is_kept(tmp_path):
    """Keys of headers and of the query, the credential, configured headers, and whatever the upstream repeats."""
    echo = b'{"error":{"message":"bad key client-key-planted-1, test-key-of-config and fk-abcdefghijklmnopqrst"}}'
    script = Scripted(
        status=400, headers={"Content-Type": "application/json", "Set-Cookie": "planted-7"}, chunks=[echo]
    )
    async with scripted_gateway(tmp_path, script, capture=5) as gateway:
        settings = gateway.app[RUNTIME].settings
        endpoint = settings.models[BY_TYPE["common"]].endpoint
        object.__setattr__(endpoint, "headers", {"x-own": "test-key-of-config"})
        gateway.app[RUNTIME].upstream._configured.append("test-key-of-config")
        body = body_of("common", said="my key is client-key-planted-1")
        await gateway.ask(PATHS["common"] + "?key=client-key-planted-4", body, SECRET_KEYS)
        found = orjson.dumps((await newest(gateway))["parts"]).decode()
    assert "planted" not in found
    assert "test-key" not in found
    assert "fk-abc" not in found
    assert found.count("***") >= 8


async def test_headers_that_are_no_utf8_are_masked_and_shown(tmp_path):
    """aiohttp has such bytes as halves of characters, which no JSON can hold."""
    inspector = Inspector(lambda: Runtime(5))
    exchange = Exchange("1", "c")
    record = inspector.open(exchange, {})
    record.head("asked", {"headers": {"x-odd": "caf\udce9", "Cookie": "planted\udcff"}})
    record.body("asked", b'"x"')
    inspector.ended(exchange)
    shown = orjson.loads(orjson.dumps(record.to_json()))["parts"]["asked"]
    assert shown["head"]["headers"] == {"x-odd": "caf\ufffd", "cookie": "***"}
    assert shown["body"] == '"x"'


async def test_it_is_behind_the_gateways_key(tmp_path):
    async with demo_gateway(tmp_path, capture=1, api_keys=["planted-gateway-key"]) as gateway:
        assert (await gateway.get("/status/captures"))[0] == 401
        assert (await gateway.get("/status/captures/x"))[0] == 401
        key = {"x-api-key": "planted-gateway-key"}
        await gateway.ask(PATHS["common"], body_of("common"), key)
        assert "planted" not in str(await newest(gateway, key))


async def test_the_last_are_kept(tmp_path):
    async with demo_gateway(tmp_path, capture=2) as gateway:
        for word in ("one", "two", "three"):
            await gateway.ask(PATHS["common"], body_of("common", said=word))
        await until_kept(gateway, 2)
        kept = await captures(gateway)
        assert len(kept) == 2
        assert (await gateway.get("/status/captures/gone"))[0] == 404
        assert "three" in str(await newest(gateway))


async def test_a_refused_request_is_kept_too(tmp_path):
    async with demo_gateway(tmp_path, capture=2) as gateway:
        assert (await gateway.ask(PATHS["common"], b'{"model": '))[0] == 400
        found = await newest(gateway)
    assert (found["parts"]["asked"]["body"], found["end"]) == ('{"model": ', "request error")
    assert found["parts"]["sent"] == {"head": None, "body": "", "size": 0}
    assert "not valid JSON" in found["error"]


async def test_nothing_is_kept_unless_it_is_asked_for(tmp_path):
    async with demo_gateway(tmp_path) as gateway:
        await gateway.ask(PATHS["common"], body_of("common"))
        assert await captures(gateway) == []
        assert gateway.app[CAPTURE](Exchange("id", "c"), {}) is None


# -- limits ---------------------------------------------------------------------------------------------------------


class Runtime:
    def __init__(self, capture):
        self.settings = self
        self.upstream = self
        self.capture = capture

    def secrets(self, headers):
        return []


def test_memory_has_a_limit(monkeypatch):
    monkeypatch.setattr(inspector_module, "MOST_MEMORY", 1000)
    monkeypatch.setattr(inspector_module, "MOST_BODY", 400)
    inspector = Inspector(lambda: Runtime(50))
    records = []
    for number in range(20):
        exchange = Exchange(str(number), "c")
        record = inspector.open(exchange, {})
        for _ in range(100):
            record.body("given", b'"x"' * 10)
            assert sum(one.memory for one in inspector._records) <= 1000
        records.append(exchange)
        if number % 2:
            inspector.ended(exchange)
    assert 1 <= len(inspector._records) <= 3
    assert inspector._memory == sum(one.memory for one in inspector._records)


def test_a_long_body_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr(inspector_module, "MOST_BODY", 10)
    inspector = Inspector(lambda: Runtime(5))
    exchange = Exchange("1", "c")
    record = inspector.open(exchange, {})
    record.body("asked", b'"a" "b" and a long rest')
    inspector.ended(exchange)
    shown = record.to_json()
    assert (shown["parts"]["asked"]["body"], shown["cut"]) == ('"a" "b"', ["asked"])
    assert shown["parts"]["asked"]["size"] == 23


def test_what_is_switched_off_is_forgotten():
    runtime = Runtime(2)
    inspector = Inspector(lambda: runtime)
    inspector.open(Exchange("1", "c"), {}).body("asked", b"x")
    runtime.capture = 0
    assert inspector.open(Exchange("2", "c"), {}) is None
    assert (len(inspector._records), inspector._memory) == (0, 0)


def test_two_long_bodies_are_not_compared(monkeypatch):
    monkeypatch.setattr(inspector_module, "MOST_LINES", 3)
    assert inspector_module._difference("[1,2,3,4]", "[1]") is None
    assert inspector_module._difference("[1]", "[2]") == ["@@ -1,3 +1,3 @@", " [", "-  1", "+  2", " ]"]


async def test_a_saved_request_is_one_for_explain(tmp_path):
    script = Scripted(chunks=[CHUNK, DONE])
    async with scripted_gateway(tmp_path, script, capture=1) as gateway:
        await gateway.ask(PATHS["anthropic"], body_of("anthropic", "common", said="hi", stream=True))
        found = await newest(gateway)
        explained = explain(gateway.app[RUNTIME].settings, orjson.loads(found["parts"]["asked"]["body"]))
    assert orjson.dumps(explained.body) == found["parts"]["sent"]["body"].encode()


async def test_of_two_models_the_one_that_answered_is_shown(tmp_path):
    script = Scripted(
        status=503, headers={"Content-Type": "application/json"}, chunks=[b'{"error":{"message":"busy"}}']
    )
    models = [{"id": "a", "type": "common", "fallback": "b"}, {"id": "b", "type": "common"}]
    async with scripted_gateway(tmp_path, script, capture=1, models=models) as gateway:
        await gateway.ask(PATHS["common"], body_of("common") | {"model": "a"})
        found = await newest(gateway)
    assert orjson.loads(found["parts"]["sent"]["body"])["model"] == "b"
    assert (found["fallback"], found["parts"]["answered"]["size"]) == ("a", 28)
