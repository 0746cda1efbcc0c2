"""The pumps under fire: clients that leave, upstreams that are silent or break, a gateway that stops."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import orjson
import pytest

from droid2api.server.app import drain
from tests.harness import BODIES, BY_TYPE, CHUNK, DONE, PAIRS, PATHS, Scripted, body_of, scripted_gateway

ERRORS = {
    "/v1/messages": b'event: error\ndata: {"type":"error"',
    "/v1/responses": b"event: response.failed\n",
    "/v1/chat/completions": b'data: {"error"',
}
ENDS = {"/v1/messages": b"message_stop", "/v1/responses": b"response.completed", "/v1/chat/completions": b"[DONE]"}
KEEPALIVES = {
    "/v1/messages": b'event: ping\ndata: {"type":"ping"}\n\n',
    "/v1/responses": b": keepalive\n\n",
    "/v1/chat/completions": b": keepalive\n\n",
}
paths = pytest.mark.parametrize("path", ENDS)
MODEL = BY_TYPE["common"]


@paths
@pytest.mark.parametrize("when", ["before the first byte", "in the stream", "without a stream"])
async def test_a_client_that_leaves_ends_the_upstream_call(tmp_path, path, when):
    script = Scripted(chunks=[CHUNK] * 100, pause=0.05)
    if when != "in the stream":
        script.silence = 20
    async with scripted_gateway(tmp_path, script) as gateway:
        body = BODIES[path] | {"model": MODEL, "stream": when != "without a stream"}
        session = aiohttp.ClientSession()
        asking = asyncio.create_task(session.post(gateway.url + path, json=body))
        await script.reached.wait()
        if when == "in the stream":
            response = await asking
            await response.content.readany()
            response.close()
        asking.cancel()
        await session.close()
        async with asyncio.timeout(10):
            await script.left.wait()


@paths
async def test_a_silent_upstream_is_bridged_and_then_given_up(tmp_path, path):
    script = Scripted(chunks=[CHUNK, CHUNK], pause=20)
    timeouts = {"keepalive": 0.05, "idle": 0.3}
    async with scripted_gateway(tmp_path, script, timeouts=timeouts) as gateway:
        status, _, content = await gateway.ask(path, BODIES[path] | {"model": MODEL, "stream": True})
    assert status == 200
    assert content.count(KEEPALIVES[path]) >= 1
    assert content.count(ERRORS[path]) == 1
    assert b"said nothing for 0.3 seconds" in content
    assert ENDS[path] not in content


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_pings_of_the_upstream_are_no_reason_to_be_silent(tmp_path, path):
    """They are not passed on in the translate lane, and the client must not give up."""
    script = Scripted(chunks=[CHUNK, *[b": ping\n\n"] * 10, CHUNK, DONE], pause=0.03)
    async with scripted_gateway(tmp_path, script, timeouts={"keepalive": 0.1, "idle": 5}) as gateway:
        status, _, content = await gateway.ask(path, BODIES[path] | {"model": MODEL, "stream": True})
    assert status == 200
    assert content.count(KEEPALIVES[path]) >= 2
    assert ENDS[path] in content


@paths
async def test_a_stream_that_breaks_before_its_first_event_has_a_status(tmp_path, path):
    script = Scripted(chunks=[b": hello"], cut=True)
    async with scripted_gateway(tmp_path, script) as gateway:
        status, headers, content = await gateway.ask(path, BODIES[path] | {"model": MODEL, "stream": True})
    assert status == 502
    assert headers["Content-Type"].startswith("application/json")
    assert "error" in orjson.loads(content)


@paths
async def test_a_gateway_that_stops_lets_streams_finish(tmp_path, path):
    script = Scripted(chunks=[CHUNK, CHUNK, DONE], pause=0.1)
    async with scripted_gateway(tmp_path, script) as gateway:
        asking = asyncio.create_task(gateway.ask(path, BODIES[path] | {"model": MODEL, "stream": True}))
        await script.reached.wait()
        await drain(gateway.app)
        _, _, content = await asking
    assert ENDS[path] in content


@paths
async def test_a_gateway_that_stops_tells_streams_that_take_too_long(tmp_path, path):
    script = Scripted(chunks=[CHUNK] * 100, pause=0.1)
    async with scripted_gateway(tmp_path, script, timeouts={"drain": 0.3}) as gateway:
        asking = asyncio.create_task(gateway.ask(path, BODIES[path] | {"model": MODEL, "stream": True}))
        await script.reached.wait()
        await drain(gateway.app)
        _, _, content = await asking
    assert content.count(ERRORS[path]) == 1
    assert b"The gateway was stopped" in content
    assert ENDS[path] not in content


async def test_a_stop_sequence_ends_the_call_of_an_upstream_that_has_none(tmp_path):
    def event(type: str, **fields: object) -> bytes:
        return b"data: %b\n\n" % orjson.dumps({"type": type, **fields})

    words = [event("response.output_text.delta", output_index=0, delta=word) for word in ("one ", "tw", "o ST", "OP ")]
    head = event("response.created", response={"id": "r", "model": "m"})
    script = Scripted(chunks=[head, *words, *[words[0]] * 1000], pause=0.02)
    async with scripted_gateway(tmp_path, script) as gateway:
        body = body_of("common", "openai", stream=True, stop=["STOP"])
        _, _, content = await gateway.ask("/v1/chat/completions", body)
        async with asyncio.timeout(10):
            await script.left.wait()
    deltas = [orjson.loads(line[6:]) for line in content.split(b"\n\n") if line.startswith(b"data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in deltas) == "one two "
    assert deltas[-1]["choices"][0]["finish_reason"] == "stop"
    assert content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
async def test_json_too_deep_to_be_written_is_refused(tmp_path, client, upstream):
    """In both lanes: what is read to 1,024 levels can be written to 254 only."""
    deep = orjson.loads(b"[" * 300 + b"]" * 300)
    async with scripted_gateway(tmp_path, Scripted()) as gateway:
        body = BODIES[PATHS[client]] | {"model": BY_TYPE[upstream], "metadata": {"user_id": "x", "deep": deep}}
        status, _, content = await gateway.ask(PATHS[client], json.dumps(body).encode())
    kept = client == upstream or (client, upstream) == ("common", "openai")  # others have no place for it
    assert status == (400 if kept else 502)
    if kept:
        assert "cannot be written as JSON" in orjson.loads(content)["error"]["message"]
