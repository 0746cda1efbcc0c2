"""Another model answers where the one that was asked for cannot; a busy service is tried again; bodies are patched."""

import asyncio
import logging
import time
from types import SimpleNamespace

import orjson
import pytest
from aiohttp import web
from multidict import CIMultiDict

from droid2api.formats import BY_NAME
from droid2api.gateway import pump
from droid2api.gateway.upstream import PATIENCE, retry_after
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Finish, Start, Usage
from droid2api.hub.request import Request
from droid2api.observe.explain import explain
from droid2api.observe.usage import read_usage
from tests.harness import PATHS, Gateway, Scripted, body_of, gateway_for, serving, settings_for, until

JSON = {"Content-Type": "application/json"}
STREAM = {"Content-Type": "text/event-stream"}
CLIENTS = ("common", "anthropic", "openai", "google")


def error_body(type, status, text="busy"):
    if type == "anthropic":
        return {"type": "error", "error": {"type": "overloaded_error", "message": text}}
    if type == "google":
        return {"error": {"code": status, "message": text, "status": "UNAVAILABLE"}}
    return {"error": {"message": text, "type": "server_error", "code": None}}


def event(value, name=""):
    return (f"event: {name}\n" if name else "").encode() + b"data: " + orjson.dumps(value) + b"\n\n"


STREAM_ERRORS = {
    "common": event(error_body("common", 503)),
    "anthropic": event(error_body("anthropic", 529), "error"),
    "openai": event({"type": "error", "code": "server_error", "message": "busy", "param": None}, "error"),
    "google": event(error_body("google", 503)),
}
HEADS = {
    "common": event(
        {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    ),
    "anthropic": event({"type": "message_start", "message": {"id": "m", "model": "m", "usage": {}}}, "message_start"),
    "openai": event({"type": "response.created", "response": {"id": "r", "model": "m"}}, "response.created"),
    "google": event({"responseId": "r", "modelVersion": "m", "candidates": []}),
}
SAID = {
    "common": event({"choices": [{"index": 0, "delta": {"content": "one "}}]}),
    "anthropic": event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "one "}}),
    "openai": event({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "one "}),
    "google": event({"candidates": [{"content": {"parts": [{"text": "one "}]}}]}),
}


class Service:
    """One upstream of all formats: the model "other" says "good", all others fail as `fail` says, `busy` times."""

    def __init__(self, fail):
        self.fail = fail
        self.asked = []
        self.busy = 10**9

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        model = body["model"]
        self.asked.append(model)
        type = next(type for type, path in PATHS.items() if request.path == path)
        if model != "other" and len(self.asked) <= self.busy:
            return await self.fail(request, type)
        good = BY_NAME["chat"].encode_response(*_GOOD)
        return web.json_response(good)


def _good():
    events = [Start("a", "m"), BlockStart("text"), Delta("good"), BlockEnd(), Finish("stop", usage=Usage(3, 2))]
    return events, Request("m", []), time.time, lambda: "0"


_GOOD = _good()


def refusing(status, headers=None):
    async def fail(request, type):
        return web.Response(body=orjson.dumps(error_body(type, status)), status=status, headers=JSON | (headers or {}))

    return fail


def streaming(*parts, pause=0.0):
    """A stream of these parts, each by the upstream's type; it is cut afterwards."""

    async def fail(request, type):
        out = web.StreamResponse(headers=STREAM)
        await out.prepare(request)
        for part in parts:
            content = part if isinstance(part, bytes) else part[type]
            for start in range(0, len(content), 20):
                await out.write(content[start : start + 20])
                await asyncio.sleep(pause)
        return out

    return fail


async def breaking(request, type):
    request.transport.abort()
    return web.Response()


async def failing_whole(request, type):
    return web.json_response(error_body(type, 503))


def fallen(kind, **more):
    return [{"id": "first", "type": kind, "fallback": "other"} | more, {"id": "other", "type": "common"}]


class Running:
    def __init__(self, gateway: Gateway, service: Service):
        self.gateway, self.service = gateway, service

    async def say(self, client, **more):
        body = body_of(client) | {"model": "first"} | more
        return await self.gateway.ask(PATHS[client], body)


async def run(tmp_path, fail, kind, test, models=None, **config):
    service = Service(fail)
    app = web.Application()
    app.router.add_post("/{path:.*}", service.answer)
    async with serving(app) as url:
        settings = settings_for(tmp_path, url, models=models or fallen(kind), **config)
        async with gateway_for(settings) as gateway:
            return await test(Running(gateway, service))


FALLS = {
    "429": refusing(429),
    "500": refusing(500),
    "503": refusing(503),
    "529": refusing(529),
    "no connection": breaking,
    "an error in a whole answer": failing_whole,
    "an error as the first event": streaming(STREAM_ERRORS),
    "an error behind a comment": streaming(b": hi\n\n", STREAM_ERRORS),
    "an error behind the head": streaming(HEADS, STREAM_ERRORS),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", FALLS)
@pytest.mark.parametrize(
    ("client", "kind"), [(c, c) for c in CLIENTS] + [("common", "anthropic"), ("anthropic", "openai")]
)
async def test_it_falls_over(tmp_path, client, kind, name, stream):
    async def test(running):
        status, headers, content = await running.say(client, stream=stream)
        assert (status, b"good" in content, b"busy" in content) == (200, True, False), content
        assert headers["x-droid2api-fallback"] == "first -> other"
        assert running.service.asked[-1] == "other"

    await run(tmp_path, FALLS[name], kind, test)


STAYS = {
    "400": (refusing(400), 400),
    "401": (refusing(401), 401),
    "403": (refusing(403), 403),
    "404": (refusing(404), 404),
    "413": (refusing(413), 413),
    "422": (refusing(422), 422),
}


@pytest.mark.parametrize("name", STAYS)
@pytest.mark.parametrize("client", ["common", "anthropic"])
async def test_what_is_wrong_with_the_request_stays(tmp_path, client, name):
    fail, expected = STAYS[name]

    async def test(running):
        status, headers, _ = await running.say(client)
        assert (status, "x-droid2api-fallback" in headers) == (expected, False)
        assert "other" not in running.service.asked

    await run(tmp_path, fail, "common", test)


@pytest.mark.parametrize("client", CLIENTS)
async def test_after_the_first_word_nothing_falls_over(tmp_path, client):
    async def test(running):
        status, headers, content = await running.say(client, stream=True)
        assert (status, b"one" in content, b"good" in content) == (200, True, False), content
        assert "x-droid2api-fallback" not in headers

    await run(tmp_path, streaming(HEADS, SAID, STREAM_ERRORS), client, test)


@pytest.mark.parametrize("client", ["common", "anthropic"])
async def test_a_sign_of_life_begins_the_answer(tmp_path, client):
    """A client that has waited so long must be told something, and then it has a status."""

    async def test(running):
        status, _, content = await running.say(client, stream=True)
        assert (status, b"busy" in content, b"good" in content) == (200, True, False), content

    timeouts = {"keepalive": 0.05}
    await run(tmp_path, streaming(HEADS, STREAM_ERRORS, pause=0.2), client, test, timeouts=timeouts)


@pytest.mark.parametrize("client", ["common", "anthropic"])
async def test_pings_are_not_waited_for_in_silence(tmp_path, client):
    async def test(running):
        status, _, content = await running.say(client, stream=True)
        assert (status, b"busy" in content, b"good" in content) == (200, True, False), content

    pings = [b": ping, ping, ping\n\n"] * 10
    await run(tmp_path, streaming(HEADS, *pings, STREAM_ERRORS, pause=0.04), client, test, timeouts={"keepalive": 0.3})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("client", "kind"), [("common", "common"), ("anthropic", "common"), ("google", "anthropic")])
async def test_where_both_fail_it_is_one_clean_error(tmp_path, client, kind, stream):
    async def test(running):
        status, headers, content = await running.say(client, stream=stream)
        assert status == 503
        error = orjson.loads(content)["error"]
        assert "busy" in error["message"]
        assert "first failed: busy" in error["message"] or client == "common"
        assert headers["x-droid2api-fallback"] == "first -> second"
        assert running.service.asked == ["first", "second"]  # one hop

    models = [{"id": "first", "type": kind, "fallback": "second"}, {"id": "second", "type": kind, "fallback": "first"}]

    await run(tmp_path, refusing(503), kind, test, models)


async def test_both_are_named(tmp_path, caplog):
    caplog.set_level(logging.INFO)

    async def test(running):
        await running.say("common")
        await until(lambda: "fallback for first" in caplog.text)
        _, _, content = await running.gateway.get("/status")
        (shown,) = orjson.loads(content)["recent"]
        assert (shown["asked"], shown["fallback"], shown["model"]) == ("first", "first", "other")
        _, _, metrics = await running.gateway.get("/metrics")
        assert b'droid2api_fallbacks_total{model="first",used="other"} 1.0' in metrics

    await run(tmp_path, refusing(503), "common", test)
    rows = {row.key: (row.requests, row.errors) for row in read_usage(tmp_path / "data" / "usage.db", 1, "model")}
    assert rows == {"first": (1, 1), "other": (1, 0)}


async def test_the_standby_gets_what_the_client_sent(tmp_path):
    """The relay lane writes into the body; the other model's request is made of the one that came."""
    script = Scripted(status=503, headers=JSON, chunks=[b"{}"])
    models = [
        {"id": "first", "type": "common", "fallback": "other", "body": {"seed": 1}},
        {"id": "other", "type": "common", "reasoning": "off"},
    ]
    async with serving(script.app()) as url:
        settings = settings_for(tmp_path, url, models=models, system_prompt="Be.")
        async with gateway_for(settings) as gateway:
            await gateway.ask(PATHS["common"], body_of("common") | {"model": "first", "x": 1})
    (_, _, first), (_, _, other) = script.requests
    assert first["seed"] == 1
    assert "seed" not in other
    assert (other["model"], other["x"], first["messages"]) == ("other", 1, other["messages"])


async def test_a_model_without_a_standby_holds_nothing_back(tmp_path, monkeypatch):
    monkeypatch.setattr(pump, "Beginning", None)

    async def test(running):
        assert (await running.say("common", stream=True))[0] == 200

    await run(tmp_path, streaming(HEADS["common"], SAID["common"]), "common", test, [{"id": "first", "type": "common"}])


# -- retries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "before", "expected"),
    [
        (429, {}, 0, 0.5),
        (429, {}, 1, 1),
        (429, {}, 9, PATIENCE),
        (503, {"retry-after": "3"}, 0, 3),
        (529, {"Retry-After-Ms": "1500", "retry-after": "9"}, 0, 1.5),
        (503, {"retry-after": "junk"}, 0, 0.5),
        (503, {"retry-after": "-1"}, 0, 0),
        (429, {"retry-after": "10"}, 0, 10),
        (429, {"retry-after": "11"}, 0, None),
        (429, {"retry-after": "inf"}, 0, None),
        (429, {"retry-after": "nan"}, 0, 0.5),
        (429, {"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}, 0, None),
        (429, {"retry-after": "Fri, 01 Jan 2010 00:00:00 GMT"}, 0, 0),
        (429, {"x-should-retry": "false"}, 0, None),
        (500, {}, 0, None),
        (400, {"retry-after": "1"}, 0, None),
    ],
)
def test_when_a_busy_service_is_tried_again(status, headers, before, expected):
    found = retry_after(SimpleNamespace(status=status, headers=CIMultiDict(headers)), before)
    assert found == (None if expected is None else pytest.approx(expected, rel=0.21))


SOON = {"retry-after-ms": "5"}


@pytest.mark.parametrize(("status", "tries"), [(429, 3), (503, 3), (529, 3), (500, 1), (400, 1)])
async def test_a_busy_service_is_tried_again(tmp_path, status, tries):
    async def test(running):
        got, _, _ = await running.say("common")
        assert (got, running.service.asked) == (status, ["first"] * tries)

    models = [{"id": "first", "type": "common", "retries": 2}]
    await run(tmp_path, refusing(status, SOON), "common", test, models)


async def test_a_try_that_succeeds_ends_the_tries(tmp_path):
    async def test(running):
        running.service.busy = 1
        status, headers, _ = await running.say("common")
        assert (status, running.service.asked, "x-droid2api-fallback" in headers) == (200, ["first"] * 2, False)

    await run(tmp_path, refusing(503, SOON), "common", test, fallen("common", retries=5))


async def test_retries_come_before_the_fallback(tmp_path):
    async def test(running):
        assert (await running.say("common"))[0] == 200
        assert running.service.asked == ["first", "first", "first", "other"]

    await run(tmp_path, refusing(429, SOON), "common", test, fallen("common", retries=2))


async def test_a_client_that_leaves_ends_the_tries(tmp_path):
    async def test(running):
        asked = asyncio.ensure_future(running.say("common"))
        await until(lambda: running.service.asked)
        asked.cancel()
        await asyncio.sleep(0.3)
        assert running.service.asked == ["first"]

    models = [{"id": "first", "type": "common", "retries": 10}]
    await run(tmp_path, refusing(503, {"retry-after-ms": "200"}), "common", test, models)


# -- the body -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
def test_the_body_is_patched_last(tmp_path, client):
    patch = {"temperature": 0.5, "metadata": {"a": {"b": 1}, "c": None}, "top_p": None, "max_tokens": None}
    models = [{"id": "first", "type": "common", "body": patch}]
    settings = settings_for(tmp_path, "http://127.0.0.1:9", models=models)
    body = body_of(client) | {"model": "first"}
    if client == "common":
        body |= {"temperature": 1, "top_p": 0.9, "metadata": {"a": {"x": 2}, "c": 3}, "max_tokens": 7}
    sent = explain(
        settings, body, BY_NAME[{"common": "chat", "google": "gemini", "openai": "responses"}.get(client, client)]
    ).body
    assert (sent["temperature"], "top_p" in sent, "max_tokens" in sent) == (0.5, False, False)
    assert sent["metadata"] == ({"a": {"x": 2, "b": 1}} if client == "common" else {"a": {"b": 1}})
    assert settings.models["first"].body == patch
