"""Bodies that cost more than they weigh: nobody else waits for them, and who has no key cannot send one."""

import asyncio
import gc
import gzip
import threading
import time
from functools import partial

import orjson
import pytest

from droid2api.gateway.prepare import prepare
from droid2api.server import app as app_module
from droid2api.server import body as body_module
from droid2api.server.body import MOST_VALUES, parse_body
from tests.harness import BODIES, BY_TYPE, PATHS, Scripted, body_of, demo_gateway, scripted_gateway
from tests.server.test_app import error_of
from tests.timing import assert_quick

GZIP = {"Content-Encoding": "gzip"}


async def test_nothing_is_unpacked_for_who_has_no_key(tmp_path, monkeypatch):
    unpacked = []
    monkeypatch.setattr(body_module, "_unpack", lambda encoding, content: unpacked.append(content) or b"{}")
    bomb = gzip.compress(b" " * 50_000_000, 1)
    async with demo_gateway(tmp_path, api_keys=["gateway-key"]) as gateway:
        for path in PATHS.values():
            assert (await gateway.ask(path, bomb, GZIP))[0] == 401
            assert (await gateway.ask(path, bomb, GZIP | {"x-api-key": "gateway-key", "Host": "evil.example"}))[
                0
            ] == 403
            assert unpacked == []
        assert (await gateway.ask(path, bomb, GZIP | {"x-api-key": "gateway-key"}))[0] == 400
        assert unpacked == [bomb]


async def is_served(gateway, work) -> bool:
    """Whether /health answers all the time while `work` is being done: within half a second, or a third of the time
    that the work takes. It is this process's CPU time: what else a busy machine does is not counted.
    """
    gc.collect()
    gc.freeze()  # what the other tests left is not walked through meanwhile
    longest, started, task = 0.0, time.process_time(), asyncio.ensure_future(work)
    while not task.done():
        began = time.process_time()
        assert (await gateway.get("/health"))[0] == 200
        longest = max(longest, time.process_time() - began)
    await task
    return longest < max(0.5, (time.process_time() - started) / 3)


@pytest.mark.parametrize("piece", [b"{},", b"[],", b"[", b"1,", b'"a",'])
async def test_a_body_of_countless_values_is_refused_at_once(tmp_path, piece):
    path = "/v1/messages"
    content = b'{"model": "glm-4.6", "messages": [%b1]}' % (piece * (20_000_000 // len(piece)))
    packed = gzip.compress(content, 1)
    async with demo_gateway(tmp_path) as gateway:

        async def work():
            status, _, answer = await gateway.ask(path, packed, GZIP)
            assert (status, f"{MOST_VALUES} brackets" in error_of(path, answer)["message"]) == (413, True)

        assert await is_served(gateway, work())


def test_the_most_values_take_about_a_second_at_most():
    for piece in (b"{},", b'"a",', b'{"a":1},'):
        content = b'{"a":[%b1]}' % (piece * ((MOST_VALUES - 3) // (piece.count(b",") + piece.count(b"{"))))
        assert_quick(partial(parse_body, content), 2)


@pytest.mark.parametrize("client", ["common", "openai"])
async def test_many_messages_are_read_beside_the_others(tmp_path, client):
    """Tens of thousands take seconds in the translate lane."""
    upstream = "common" if client != "common" else "anthropic"
    messages = [{"role": role, "content": "a"} for role in ("user", "assistant")] * 30_000
    more = {"input" if client == "openai" else "messages": messages}
    body = BODIES[PATHS[client]] | {"model": BY_TYPE[upstream]} | more
    content = gzip.compress(orjson.dumps(body))
    async with scripted_gateway(tmp_path, Scripted(status=500, headers={}, chunks=[b"{}"])) as gateway:

        async def work():
            assert (await gateway.ask(PATHS[client], content, GZIP))[0] == 500

        assert await is_served(gateway, work())


async def test_one_long_value_is_read_beside_the_others(tmp_path):
    """It has few brackets, but each of its escapes makes an object."""
    url = "data:text/plain," + "%41" * 8_000_000
    said = [{"type": "image_url", "image_url": {"url": url}}]
    content = gzip.compress(orjson.dumps(body_of("common", "anthropic", said)), 1)
    async with scripted_gateway(tmp_path, Scripted(status=500, headers={}, chunks=[b"{}"])) as gateway:

        async def work():
            assert (await gateway.ask(PATHS["common"], content, GZIP))[0] in (400, 500)

        assert await is_served(gateway, work())


async def test_tokens_are_counted_beside_the_others(tmp_path, monkeypatch):
    """In the client's own format too, where the body for the service is made."""
    path = f"/v1beta/models/{BY_TYPE['google']}:countTokens"
    contents = [{"role": "user", "parts": [{"text": "a"}]}] * 70_000
    endpoints = [{"name": "google", "base_url": "http://127.0.0.1:9/v1beta"}]
    prepared_in = []

    def noted(*args):
        prepared_in.append(threading.current_thread())
        return prepare(*args)

    monkeypatch.setattr(app_module, "prepare", noted)
    async with demo_gateway(tmp_path, endpoint=endpoints) as gateway:
        await gateway.ask(path, gzip.compress(orjson.dumps({"contents": contents}), 1), GZIP)
    assert prepared_in[0] is not threading.main_thread()
