"""Routes, the gateway's own pages, and errors in the client's own envelope."""

import asyncio
import contextlib
import io
import itertools
from datetime import UTC, datetime

import anthropic
import anthropic.types
import openai
import openai.types
import orjson
import pytest
from aiohttp import web

from droid2api import __version__
from droid2api.formats import FORMATS
from droid2api.server import body as body_module
from droid2api.server.edge import served_routes
from droid2api.server.keys import RUNTIME
from tests.harness import BODIES, BY_TYPE, FORMAT_OF, MODELS, PATHS, Scripted, demo_gateway, scripted_gateway

each_path = pytest.mark.parametrize("path", PATHS.values())


def error_of(path, content):
    """The error in an envelope of the path's format."""
    body = orjson.loads(content)
    if path.startswith("/v1/messages"):
        assert (body["type"], set(body["error"])) == ("error", {"type", "message"})
    elif path == PATHS["google"]:
        assert set(body["error"]) - {"details"} == {"code", "message", "status"}
    else:
        assert set(body) == {"error"}
        keys = {"code", "message", "status"} if path.endswith("/generate") else {"message", "type", "param", "code"}
        assert set(body["error"]) == keys
    return body["error"]


# -- the gateway's own pages ----------------------------------------------------------------------------------------


async def test_own_pages(tmp_path):
    async with demo_gateway(tmp_path) as gateway:
        status, headers, content = await gateway.get("/")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        index = orjson.loads(content)
        assert (index["name"], index["version"]) == ("droid2api", __version__)
        assert {"/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/v1/models"} <= set(index["endpoints"])
        for path in ("/", "/api/hello"):
            async with gateway.client.head(gateway.url + path) as response:
                assert (response.status, await response.read()) == (200, b"")
        health = orjson.loads((await gateway.get("/health"))[2])
        assert health == {
            "status": "ok",
            "version": __version__,
            "credential": {"source": "FACTORY_API_KEY", "state": "ok"},
            "uptime_seconds": 0,
        }


ODD = [*MODELS, {"id": "org/model:free", "type": "common", "provider": "org", "name": "Free"}]


async def test_models(tmp_path):
    async with demo_gateway(tmp_path, models=ODD) as gateway:
        (tmp_path / "config.json").unlink()  # it is not needed any more
        status, _, content = await gateway.get("/v1/models?limit=1000")
        listed = orjson.loads(content)
        assert (status, listed["object"], listed["has_more"]) == (200, "list", False)
        assert [model["id"] for model in listed["data"]] == [model["id"] for model in ODD]
        assert (listed["first_id"], listed["last_id"]) == (ODD[0]["id"], "org/model:free")
        for model in listed["data"]:
            assert openai.types.Model.model_validate(model, strict=True).object == "model"
            shown = anthropic.types.ModelInfo.model_validate(model)
            assert shown.type == "model"
            assert shown.created_at == datetime.fromtimestamp(model["created"], UTC)
            assert (await gateway.get(f"/v1/models/{model['id']}"))[2] == orjson.dumps(model)
        assert listed["data"][0]["created"] == int(datetime(2025, 9, 29, tzinfo=UTC).timestamp())
        free = listed["data"][-1]
        assert (free["display_name"], free["owned_by"]) == ("Free", "org")


async def test_redirects_that_claude_code_can_show_are_listed(tmp_path):
    """By its own names only, and neither patterns nor what leads nowhere."""
    redirects = {
        "claude-glm": "glm-4.6",
        "claude-haiku-4-5": "claude-haiku-4-5-20251001",
        "claude-3-*": "gpt-5.5",
        "claude-[ab]": "gpt-5.5",
        "claude-opus-5-5": "gpt-5.5",  # a model's own id
        "claude-nowhere": "gpt-9",
        "glm": "glm-4.6",
    }
    async with demo_gateway(tmp_path, model_redirects=redirects) as gateway:
        listed = orjson.loads((await gateway.get("/v1/models?limit=1000"))[2])["data"]
        assert [model["id"] for model in listed[len(MODELS) :]] == ["claude-glm", "claude-haiku-4-5"]
        assert listed[-2]["display_name"] == "glm-4.6 (claude-glm)"
        for model in listed[-2:]:
            assert (await gateway.get(f"/v1/models/{model['id']}"))[2] == orjson.dumps(model)
        assert orjson.loads((await gateway.get("/v1/models/glm"))[2])["id"] == "glm-4.6"
        body = BODIES["/v1/messages"] | {"model": "claude-glm"}
        assert (await gateway.ask("/v1/messages", body))[0] == 200


async def test_models_through_the_sdks(tmp_path):
    async with demo_gateway(tmp_path, models=ODD) as gateway:
        checked = {"api_key": "x", "max_retries": 0, "_strict_response_validation": True}
        async with (
            openai.AsyncOpenAI(base_url=gateway.url + "/v1", **checked) as one,
            anthropic.AsyncAnthropic(base_url=gateway.url, **checked) as other,
        ):
            ids = [model["id"] for model in ODD]
            assert [model.id async for model in one.models.list()] == ids
            assert [model.id async for model in other.models.list(limit=1000)] == ids
            assert (await one.models.retrieve("org/model:free")).id == "org/model:free"
            assert (await other.models.retrieve(BY_TYPE["anthropic"])).id == BY_TYPE["anthropic"]


async def test_no_models(tmp_path):
    async with demo_gateway(tmp_path, models=[]) as gateway:
        listed = orjson.loads((await gateway.get("/v1/models"))[2])
        assert (listed["data"], listed["first_id"], listed["has_more"]) == ([], None, False)
        status, _, content = await gateway.ask("/v1/messages", BODIES["/v1/messages"])
        assert (status, "Configured models: none." in content.decode()) == (404, True)


# -- paths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/v1", "", "/v1/v1"])
@each_path
async def test_prefixes(tmp_path, prefix, path):
    async with demo_gateway(tmp_path) as gateway:
        status, _, _ = await gateway.ask(prefix + path.removeprefix("/v1") + "?beta=true", BODIES[path])
        assert status == 200
        assert (await gateway.get(prefix + "/models"))[0] == 200
        assert (await gateway.get(prefix + "/models/gpt-5.5"))[0] == 200


@pytest.mark.parametrize("path", ["/v2/messages", "/v1/embeddings", "/v1/", "/favicon.ico", "/v1/messages/batches"])
async def test_unknown_paths_list_the_routes(tmp_path, path):
    async with demo_gateway(tmp_path) as gateway:
        status, _, content = await gateway.ask(path, {})
        assert status == 404
        for route in served_routes(FORMATS):
            assert route in orjson.loads(content)["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/messages", "POST"),
        ("PUT", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("OPTIONS", "/v1/messages", "POST"),  # a web page of another origin gets no leave
    ],
)
async def test_wrong_methods(tmp_path, method, path, allowed):
    async with demo_gateway(tmp_path) as gateway:
        sent = gateway.client.request(method, gateway.url + path, headers={"Content-Type": "application/json"})
        async with sent as response:
            assert (response.status, response.headers["Allow"]) == (405, allowed)
            assert "Access-Control-Allow-Origin" not in response.headers
            assert allowed in error_of(path, await response.read())["message"]


async def test_websocket_probe(tmp_path):
    async with demo_gateway(tmp_path) as gateway:
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        for headers in (upgrade, {}):
            status, told, content = await gateway.get("/v1/responses", headers)
            assert "Upgrade" in told  # RFC 9110 wants it with 426
            assert (status, error_of("/v1/responses", content)["type"]) == (426, "invalid_request_error")


# -- what is wrong with a request -----------------------------------------------------------------------------------

BROKEN = [
    (b"", 400, "not valid JSON"),
    (b'{"model": ', 400, "not valid JSON: line 1, column"),
    (b'{"model": "\xff"}', 400, "not valid JSON"),
    (b"[" * 5000, 400, "not valid JSON"),
    (b"[]", 400, "must be a JSON object"),
    (b'"text"', 400, "must be a JSON object"),
    (b"null", 400, "must be a JSON object"),
    (b"{}", 400, "model: is required"),
    (b'{"model": null}', 400, "model: is required"),
    (b'{"model": 5}', 400, "model: must be a string, not an integer"),
    (b'{"model": {"id": "gpt"}}', 400, "model: must be a string, not an object"),
    (b'{"model": ""}', 404, "model: '' is not configured"),
    (b'{"model": "gpt-1"}', 404, "model: 'gpt-1' is not configured"),
]


@each_path
@pytest.mark.parametrize(
    ("body", "status", "message"), BROKEN, ids=[body[:20].decode("latin-1") for body, *_ in BROKEN]
)
async def test_broken_bodies(tmp_path, path, body, status, message):
    async with demo_gateway(tmp_path) as gateway:
        told, headers, content = await gateway.ask(path, body)
        error = error_of(path, content)
        assert told == status
        assert message in error["message"]
        if path.endswith("/generate"):
            assert error["code"] == status
        else:
            assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
        assert headers["x-should-retry"] == "false"
        if "model:" in message:
            assert all(model["id"] in error["message"] for model in MODELS)
            assert error.get("param", "model") == "model"


TRANSLATED = {  # each path with a model of another format
    "/v1/messages": BY_TYPE["openai"],
    "/v1/responses": BY_TYPE["common"],
    "/v1/chat/completions": BY_TYPE["anthropic"],
    "/v1/generate": BY_TYPE["openai"],
}
TOOL_CALL = {"id": "a", "type": "function"}
WRONG = [
    ("/v1/chat/completions", {"messages": "hi"}, "messages"),
    ("/v1/chat/completions", {"messages": None}, "messages"),
    ("/v1/chat/completions", {"messages": ["hi"]}, "messages[0]"),
    ("/v1/chat/completions", {"messages": [{"content": "hi"}]}, "messages[0].role"),
    ("/v1/chat/completions", {"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages[0].content[0]"),
    ("/v1/chat/completions", {"messages": [{"role": "assistant", "tool_calls": [TOOL_CALL]}]}, "tool_calls[0]"),
    ("/v1/chat/completions", {"max_tokens": "many"}, "max_tokens"),
    ("/v1/chat/completions", {"temperature": "hot"}, "temperature"),
    ("/v1/chat/completions", {"stream": "yes"}, "stream"),
    ("/v1/chat/completions", {"tools": {}}, "tools"),
    ("/v1/chat/completions", {"tools": [{"type": "function"}]}, "tools[0].function"),
    ("/v1/chat/completions", {"response_format": "json"}, "response_format"),
    ("/v1/messages", {"messages": {}}, "messages"),
    ("/v1/messages", {"messages": [{"role": "user"}, 5]}, "messages[1]"),
    ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ("/v1/messages", {"system": 5}, "system"),
    ("/v1/messages", {"tools": [{"name": 5}]}, "tools[0].name"),
    ("/v1/messages", {"tool_choice": {"type": "some"}}, "tool_choice.type"),
    ("/v1/messages", {"thinking": "yes"}, "thinking"),
    ("/v1/messages", {"stop_sequences": "end"}, "stop_sequences"),
    ("/v1/responses", {"input": 5}, "input"),
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
    ("/v1/responses", {"input": [{"type": "function_call", "call_id": "a"}]}, "input[0].name"),
    ("/v1/responses", {"tools": [{"type": "function"}]}, "tools[0].name"),
    ("/v1/responses", {"reasoning": "high"}, "reasoning"),
    ("/v1/responses", {"text": []}, "text"),
    ("/v1/responses", {"max_output_tokens": 1.5}, "max_output_tokens"),
]


@pytest.mark.parametrize(("path", "wrong", "field"), WRONG, ids=[f"{path} {wrong}"[:70] for path, wrong, _ in WRONG])
async def test_wrong_types_name_the_field(tmp_path, path, wrong, field):
    async with demo_gateway(tmp_path) as gateway:
        status, _, content = await gateway.ask(path, BODIES[path] | {"model": TRANSLATED[path]} | wrong)
        error = error_of(path, content)
        assert status == 400, content
        assert field in error["message"]
        assert field in error.get("param", field)


JUNK = [
    None,
    True,
    5,
    -1.5,
    "text",
    [],
    {},
    ["a"],
    [None],
    [[]],
    [{}],
    {"type": "text"},
    {"type": 5},
    [{"type": "text"}],
]


@pytest.mark.slow
@pytest.mark.parametrize("reasoning", ["auto", "off", "high"])
@each_path
async def test_no_value_makes_the_gateway_fail(tmp_path, path, reasoning):
    """Whatever a field holds, in both lanes: an answer, or an error that blames the client."""
    fields = (
        "messages input system instructions tools tool_choice thinking output_config context_management reasoning "
        "max_tokens stream stop stop_sequences metadata service_tier temperature response_format text speed "
        "parallel_tool_calls reasoning_effort output_format n user stream_options"
    ).split()
    models = [{"id": type, "type": type, "reasoning": reasoning} for type in FORMAT_OF]
    script, wrong = Scripted(headers={"Content-Type": "application/json"}, chunks=[b"{}"]), []
    async with scripted_gateway(tmp_path, script, models=models) as gateway:
        for type in FORMAT_OF:
            for field, junk in itertools.product(fields, JUNK):
                body = BODIES[path] | {"model": type, field: junk}
                status, _, content = await gateway.ask(path, body)
                if status not in (200, 400, 502):
                    wrong.append((type, field, junk, content))
    assert not wrong


@each_path
async def test_a_body_that_is_too_large(tmp_path, path, monkeypatch):
    monkeypatch.setattr(body_module, "BODY_LIMIT", 1000)
    async with demo_gateway(tmp_path) as gateway:
        status, _, content = await gateway.ask(path, BODIES[path] | {"padding": "x" * 1000})
        assert (status, "1000 bytes" in error_of(path, content)["message"]) == (413, True)


async def test_large_bodies_pass(tmp_path):
    """aiohttp's own limit is 1 MiB; images are larger."""
    async with demo_gateway(tmp_path) as gateway:
        body = orjson.dumps(BODIES["/v1/messages"] | {"padding": "x" * 20_000_000})
        sent = {"data": io.BytesIO(body), "headers": {"Content-Type": "application/json"}}
        async with gateway.client.post(gateway.url + "/v1/messages", **sent) as response:
            assert response.status == 200


# -- answers --------------------------------------------------------------------------------------------------------


@each_path
@pytest.mark.parametrize("type", BY_TYPE)
async def test_headers_of_a_stream(tmp_path, path, type):
    async with demo_gateway(tmp_path) as gateway:
        body = BODIES[path] | {"model": BY_TYPE[type], "stream": True}
        status, headers, _ = await gateway.ask(path, body, {"Accept-Encoding": "gzip, deflate, br, zstd"})
        assert (status, headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        assert (headers["X-Accel-Buffering"], "Content-Encoding" in headers) == ("no", False)
        assert "no-cache" in headers["Cache-Control"]
        assert "Content-Length" not in headers


async def test_count_tokens(tmp_path):
    script = Scripted(headers={"Content-Type": "application/json"}, chunks=[b'{"input_tokens": 3}'])
    models = [{"id": "claude", "type": "anthropic", "reasoning": "high", "fast": True}]
    async with scripted_gateway(tmp_path, script, models=models, system_prompt="Be Droid. ") as gateway:
        asked = {"model": "claude", "messages": [{"role": "user", "content": "hi"}], "system": "Be kind.", "tools": []}
        beta = {"anthropic-beta": "token-counting-2024-11-01"}
        status, _, content = await gateway.ask("/v1/messages/count_tokens?beta=true", asked, beta)
        assert (status, content) == (200, b'{"input_tokens": 3}')
        path, headers, body = script.requests[0]
        assert (path, headers["anthropic-beta"]) == ("/v1/messages/count_tokens", "token-counting-2024-11-01")
        system = [{"type": "text", "text": "Be Droid. "}, {"type": "text", "text": "Be kind."}]
        assert body == asked | {"system": system}


@pytest.mark.parametrize(("status", "answered"), [(404, 200), (405, 200), (403, 403), (500, 500)])
async def test_tokens_that_the_upstream_does_not_count_are_estimated(tmp_path, status, answered):
    script = Scripted(status=status, headers={"Content-Type": "application/json"}, chunks=[b'{"error": "no"}'])
    async with scripted_gateway(tmp_path, script) as gateway:
        got, _, content = await gateway.ask("/v1/messages/count_tokens", BODIES["/v1/messages"])
        assert (got, b"input_tokens" in content) == (answered, answered == 200)


# -- what must never happen -----------------------------------------------------------------------------------------


@each_path
async def test_a_mistake_in_the_gateway(tmp_path, path, monkeypatch, caplog):
    async def fail(*_):
        raise KeyError("inner detail")

    async with demo_gateway(tmp_path) as gateway:
        monkeypatch.setattr(gateway.app[RUNTIME].upstream, "_send", fail)
        status, _, content = await gateway.ask(path, BODIES[path])
        error_of(path, content)
        assert (status, b"detail" in content, "inner detail" in caplog.text) == (500, False, True)


@pytest.mark.parametrize("written", [b"data: 1\n\n", b""])
async def test_a_mistake_in_the_middle_of_a_stream(tmp_path, written, caplog):
    """The stream breaks: an error with a head of its own would look like a part of it."""

    async def begin_and_fail(request):
        out = web.StreamResponse()
        await out.prepare(request)
        await out.write(written)
        raise KeyError("inner detail")

    async with demo_gateway(tmp_path) as gateway:
        gateway.app.router._frozen = False
        gateway.app.router.add_get("/begin", begin_and_fail)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(b"GET /begin HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        content = b""
        with contextlib.suppress(ConnectionResetError):
            content = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert b" 500 " not in content
        assert b"\r\n0\r\n" not in content
        assert [record.name for record in caplog.records if record.levelname == "ERROR"] == ["droid2api"]
