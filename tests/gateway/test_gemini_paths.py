"""Gemini's paths: what clients ask on, which model and stream they mean, and where an upstream is asked."""

import orjson
import pytest

from droid2api.config import load
from tests.harness import CHUNK, DONE, Scripted, gateway_for, scripted_gateway, serving, settings_for

BODY = {"contents": [{"role": "user", "parts": [{"text": "one two"}]}]}
STREAM_ANSWER = (
    b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"hi"}]},"finishReason":"STOP"}]}\r\n\r\n'
)
WHOLE_ANSWER = b'{"candidates":[{"content":{"role":"model","parts":[{"text":"hi"}]},"finishReason":"STOP"}]}'
JSON = {"Content-Type": "application/json"}
PREFIXES = ("/v1beta", "/v1", "")
each_prefix = pytest.mark.parametrize("prefix", PREFIXES)


def models(kind="common"):
    return [{"id": "org/m 1", "type": kind}]


def script(stream, kind="common"):
    if kind == "google":
        return Scripted(chunks=[STREAM_ANSWER]) if stream else Scripted(headers=JSON, chunks=[WHOLE_ANSWER])
    if stream:
        return Scripted(chunks=[CHUNK, DONE])
    message = {"role": "assistant", "content": "hi"}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return Scripted(headers=JSON, chunks=[orjson.dumps(whole)])


# -- clients --------------------------------------------------------------------------------------------------------


@each_prefix
@pytest.mark.parametrize("kind", ["common", "google"])
@pytest.mark.parametrize("name", ["org/m%201", "models/org/m%201", "org%2Fm%201"])
async def test_a_whole_answer(tmp_path, prefix, kind, name):
    async with scripted_gateway(tmp_path, script(False, kind), models=models(kind)) as gateway:
        status, headers, content = await gateway.ask(f"{prefix}/models/{name}:generateContent", BODY)
    assert (status, headers.getone("Content-Type")) == (200, "application/json"), content
    assert orjson.loads(content)["candidates"][0]["content"]["parts"] == [{"text": "hi"}]


@each_prefix
@pytest.mark.parametrize("kind", ["common", "google"])
async def test_a_stream_of_events(tmp_path, prefix, kind):
    """Data lines and blank lines only."""
    path = f"{prefix}/models/org/m%201:streamGenerateContent?alt=sse"
    async with scripted_gateway(tmp_path, script(True, kind), models=models(kind)) as gateway:
        status, headers, content = await gateway.ask(path, BODY)
    assert (status, headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    assert all(line.startswith(b"data: {") or not line for line in content.split(b"\r\n")), content
    assert content.endswith(b"}\r\n\r\n")


@each_prefix
@pytest.mark.parametrize("kind", ["common", "google"])
@pytest.mark.parametrize("query", ["", "?alt=json", "?key=client-key-1"])
async def test_a_stream_as_one_array(tmp_path, prefix, kind, query):
    path = f"{prefix}/models/org/m%201:streamGenerateContent{query}"
    async with scripted_gateway(tmp_path, script(True, kind), models=models(kind)) as gateway:
        status, headers, content = await gateway.ask(path, BODY)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    chunks = orjson.loads(content)
    texts = [
        part["text"] for chunk in chunks for one in chunk["candidates"] for part in one["content"].get("parts", [])
    ]
    assert "".join(texts).strip() in ("one", "hi")
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


async def test_an_array_whose_upstream_fails_is_whole_json(tmp_path):
    broken = Scripted(chunks=[CHUNK], cut=True)
    async with scripted_gateway(tmp_path, broken, models=models()) as gateway:
        _, _, content = await gateway.ask("/v1beta/models/org/m%201:streamGenerateContent", BODY)
    *_, last = orjson.loads(content)
    assert last["error"]["code"] == 502


@each_prefix
@pytest.mark.parametrize("body", [BODY, {"generateContentRequest": {"model": "models/x", **BODY}}])
async def test_tokens_are_estimated_for_others(tmp_path, prefix, body):
    async with scripted_gateway(tmp_path, Scripted(status=404), models=models()) as gateway:
        status, _, content = await gateway.ask(f"{prefix}/models/org/m%201:countTokens", body)
    assert (status, orjson.loads(content)["totalTokens"] > 0) == (200, True)


@pytest.mark.parametrize("status", [200, 404, 405, 429])
async def test_tokens_are_counted_by_the_service_where_it_counts(tmp_path, status):
    counted = Scripted(status=status, headers=JSON, chunks=[b'{"totalTokens":77}'])
    async with serving(counted.app()) as url:
        endpoint = [{"name": "google", "base_url": f"{url}/v1beta"}]
        async with gateway_for(settings_for(tmp_path, url, endpoint=endpoint, models=models("google"))) as gateway:
            got, _, content = await gateway.ask("/v1beta/models/org/m%201:countTokens", BODY)
    ((path, _, sent),) = counted.requests
    assert path == "/v1beta/models/org/m 1:countTokens"
    assert sent["generateContentRequest"]["contents"] == BODY["contents"]
    total = orjson.loads(content).get("totalTokens")
    assert (got, total == 77) == ((429, True) if status == 429 else (200, status == 200))


@each_prefix
@pytest.mark.parametrize("method", ["embedContent", "batchGenerateContent", "predict"])
async def test_other_methods_are_not_found(tmp_path, prefix, method):
    async with scripted_gateway(tmp_path, Scripted(), models=models()) as gateway:
        status, _, content = await gateway.ask(f"{prefix}/models/org/m%201:{method}", BODY)
    error = orjson.loads(content)["error"]
    assert (status, error["code"], error["status"]) == (404, 404, "NOT_FOUND")
    assert "generateContent" in error["message"]


@pytest.mark.parametrize("prefix", ["/v1beta", "/v1"])
async def test_models_are_listed_and_shown(tmp_path, prefix):
    key = {"x-goog-api-key": "client-key-1"}
    async with scripted_gateway(tmp_path, Scripted(), models=models("google")) as gateway:
        listed = orjson.loads((await gateway.get(f"{prefix}/models", key))[2])
        shown = orjson.loads((await gateway.get(f"{prefix}/models/org/m%201", key))[2])
        unknown, _, content = await gateway.get(f"{prefix}/models/none", key)
    assert [model["name"] for model in listed["models"]] == ["models/org/m 1"]
    assert shown == listed["models"][0]
    assert (unknown, orjson.loads(content)["error"]["status"]) == (404, "NOT_FOUND")


KEYS = [
    ("?key=planted-gateway-key", {}),
    ("", {"x-goog-api-key": "planted-gateway-key"}),
    ("", {"Authorization": "Bearer planted-gateway-key"}),
]


@pytest.mark.parametrize(("query", "headers"), KEYS)
async def test_where_the_key_may_stand(tmp_path, query, headers, caplog):
    path = f"/v1beta/models/org/m%201:generateContent{query}"
    async with scripted_gateway(tmp_path, script(False), models=models(), api_keys=["planted-gateway-key"]) as gateway:
        assert (await gateway.ask(path, BODY, headers))[0] == 200
        status, _, content = await gateway.ask("/v1beta/models/org/m%201:generateContent?key=wrong", BODY)
    assert (status, orjson.loads(content)["error"]["status"]) == (401, "UNAUTHENTICATED")
    assert "planted" not in caplog.text


# -- upstreams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("client", ["/v1beta/models/m:{}", "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("base", "path", "in_body"),
    [
        ("/v1beta", "/v1beta/models/m:{}", False),
        ("", "/v1beta/models/m:{}", False),
        ("/api/llm/g/v1/generate", "/api/llm/g/v1/generate", True),
    ],
)
async def test_where_an_upstream_is_asked(tmp_path, base, path, in_body, client, stream):
    """Below a root the model and the stream are in the path; at a full URL they are in the body."""
    method = "streamGenerateContent" if stream else "generateContent"
    service = script(stream, "google")
    async with serving(service.app()) as url:
        endpoint = [{"name": "google", "base_url": url + base, "api_key_env": "OWN"}]
        config = {"endpoint": endpoint, "models": [{"id": "m", "type": "google"}]}
        async with gateway_for(settings_for(tmp_path, url, {"OWN": "test-key-own"}, **config)) as gateway:
            if client.startswith("/v1beta"):
                body, query = BODY, "?alt=sse" if stream else ""
            else:
                body, query = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "x"}]}, ""
            status, _, content = await gateway.ask(client.format(method) + query, body)
    assert (status, b"hi" in content) == (200, True), content
    ((asked, headers, sent),) = service.requests
    assert asked == path.format(method)
    assert headers["x-goog-api-key"] == "test-key-own"
    assert (sent.get("model"), sent.get("stream")) == (("m", True if stream else None) if in_body else (None, None))


@pytest.mark.parametrize("asked", [False, True])
async def test_the_first_bytes_decide_whether_it_is_a_stream(tmp_path, asked):
    """Factory's endpoint may answer either way, whatever was asked and whatever it calls it."""
    for answer in (STREAM_ANSWER, WHOLE_ANSWER, b"[" + WHOLE_ANSWER + b"]"):
        service = Scripted(headers={"Content-Type": "text/plain"}, chunks=[answer])
        async with serving(service.app()) as url:
            endpoint = [{"name": "google", "base_url": f"{url}/generate"}]
            config = {"endpoint": endpoint, "models": [{"id": "m", "type": "google"}]}
            async with gateway_for(settings_for(tmp_path, url, **config)) as gateway:
                body = {"model": "m", "stream": asked, "messages": [{"role": "user", "content": "x"}]}
                status, headers, content = await gateway.ask("/v1/chat/completions", body)
        assert (status, b"hi" in content) == (200, True), content
        assert headers["Content-Type"].startswith("text/event-stream" if asked else "application/json")


def test_the_node_editions_newest_config_starts(tmp_path):
    """Its endpoints, a google one among them, its models and its proxies."""
    file = tmp_path / "config.json"
    base = "https://api.factory.ai/api/llm"
    value = {
        "port": 3000,
        "model_redirects": {"claude-3-5-haiku-20241022": "claude-haiku-4-5-20251001"},
        "endpoint": [
            {"name": "openai", "base_url": f"{base}/o/v1/responses"},
            {"name": "anthropic", "base_url": f"{base}/a/v1/messages"},
            {"name": "common", "base_url": f"{base}/o/v1/chat/completions"},
            {"name": "google", "base_url": f"{base}/g/v1/generate"},
        ],
        "proxies": [],
        "models": [
            {
                "name": "Haiku",
                "id": "claude-haiku-4-5-20251001",
                "type": "anthropic",
                "reasoning": "auto",
                "provider": "anthropic",
            },
            {
                "name": "Flash",
                "id": "gemini-3-flash-preview",
                "type": "google",
                "reasoning": "auto",
                "provider": "google",
            },
            {
                "name": "Pro",
                "id": "gemini-3.1-pro-preview",
                "type": "google",
                "reasoning": "high",
                "provider": "google",
            },
        ],
        "dev_mode": False,
        "user_agent": "factory-cli/0.40.2",
        "system_prompt": "You are Droid.\n\n",
    }
    file.write_bytes(orjson.dumps(value))
    settings = load(file, {})
    assert [model.format.NAME for model in settings.models.values()] == ["anthropic", "gemini", "gemini"]
    assert settings.warnings == ("proxies: is not a setting, so it is ignored.",)


async def test_an_error_does_not_repeat_the_key_of_a_url(tmp_path):
    """The relay lane passes the service's words on, but for the key."""
    said = b'{"error": {"code": 400, "message": "API key not valid: client-key-1"}}'
    refused = Scripted(status=400, headers={"Content-Type": "application/json"}, chunks=[said])
    async with scripted_gateway(tmp_path, refused, models=models("google"), environment={}) as gateway:
        path = "/v1beta/models/org/m%201:generateContent?key=client-key-1"
        status, _, content = await gateway.ask(path, BODY)
    assert refused.requests[0][1].get("x-goog-api-key") or refused.requests[0][1]["authorization"]
    assert (status, b"not valid: ***" in content, b"client-key-1" in content) == (400, True, False)
