"""What the upstream is told, and what the client is told of its answers and failures."""

import asyncio
import re
import socket
import uuid
from urllib.parse import urlsplit

import orjson
import pytest

from droid2api import __version__
from droid2api.formats import BY_NAME
from tests.formats.recordings import each_answer, each_error, each_stream
from tests.gateway.faults import recorded
from tests.harness import (
    BY_TYPE,
    PAIRS,
    PATHS,
    TRANSLATED,
    Scripted,
    body_of,
    gateway_for,
    scripted_gateway,
    serving,
    settings_for,
)
from tests.proxy_server import proxy

JSON = {"Content-Type": "application/json"}

each_type = pytest.mark.parametrize("type", PATHS)
each_pair = pytest.mark.parametrize(("client", "upstream"), PAIRS)
each_translated = pytest.mark.parametrize(("client", "upstream"), TRANSLATED)


async def ask(gateway, client, upstream=None, headers=None, **more):
    return await gateway.ask(PATHS[client], body_of(client, upstream, **more), headers)


def message_of(client, content):
    """The error's message, in an envelope of the client's format."""
    body = orjson.loads(content)
    assert ("type" in body) == (client == "anthropic")
    return body["error"]["message"]


# -- headers to the upstream ----------------------------------------------------------------------------------------


@pytest.fixture
def told(tmp_path):
    """The headers of one request to the upstream. `endpoint` and `model` add to what is configured."""

    async def told(client, upstream, headers=None, endpoint=None, model=None, **config):
        script = Scripted(status=500, headers=JSON, chunks=[b"{}"])
        async with serving(script.app()) as url:
            config["endpoint"] = [{"name": upstream, "base_url": f"{url}/x"} | (endpoint or {})]
            config["models"] = [{"id": BY_TYPE[upstream], "type": upstream} | (model or {})]
            environment = {"FACTORY_API_KEY": "chain", "OWN": "own"}
            async with gateway_for(settings_for(tmp_path, url, environment, **config)) as gateway:
                await ask(gateway, client, upstream, headers)
        ((path, got, _),) = script.requests
        assert path == "/x"
        return got

    return told


CLIENT = {
    "Authorization": "Bearer client-key",
    "Cookie": "session=1",
    "User-Agent": "claude-cli/2.1",
    "X-Stainless-Lang": "js",
    "X-Stainless-Retry-Count": "0",
    "anthropic-beta": "context-1m-2025-08-07,effort-2025-11-24",
    "anthropic-dangerous-direct-browser-access": "true",
    "X-Forwarded-For": "10.0.0.1",
    "Accept-Encoding": "gzip, br",
}


@each_pair
async def test_headers_on_the_gateways_own_chain(told, client, upstream):
    got = await told(client, upstream, CLIENT, model={"provider": "bedrock"})
    assert got["authorization"] == "Bearer chain"
    assert (got["x-factory-client"], got["x-api-provider"]) == ("cli", "bedrock")
    for name in ("x-session-id", "x-assistant-message-id"):
        assert str(uuid.UUID(got[name])) == got[name]
    assert got["user-agent"] == f"droid2api/{__version__}"
    assert {name: value for name, value in got.items() if name.startswith("x-stainless-")} == {
        "x-stainless-lang": "js",
        "x-stainless-retry-count": "0",
    }
    assert got["content-type"] == "application/json"
    assert got["accept-encoding"] == "identity"
    assert not {"cookie", "x-api-key", "x-forwarded-for"} & set(got)
    assert "client-key" not in str(got)
    assert {name: value for name, value in got.items() if name.startswith("anthropic-")} == (
        {
            "anthropic-version": "2023-06-01",
            "anthropic-beta": CLIENT["anthropic-beta"],
            "anthropic-dangerous-direct-browser-access": "true",
        }
        if upstream == "anthropic"
        else {}
    )


@each_pair
async def test_headers_to_an_endpoint_with_its_own_key(told, client, upstream):
    sent = CLIENT | {"x-session-id": "s", "x-api-key": "client-key", "x-factory-client": "cli"}
    got = await told(client, upstream, sent, {"api_key_env": "OWN"}, {"provider": "bedrock"})
    credential = {name: got.get(name) for name in ("authorization", "x-api-key")}
    if upstream == "anthropic":
        assert credential == {"authorization": None, "x-api-key": "own"}
    elif upstream == "google":
        assert (credential["authorization"], got["x-goog-api-key"]) == (None, "own")
    else:
        assert credential == {"authorization": "Bearer own", "x-api-key": None}
    factory = {"x-factory-client", "x-session-id", "x-assistant-message-id", "x-api-provider", "cookie"}
    assert not factory & set(got)
    assert "client-key" not in str(got)
    assert "chain" not in str(got)


async def test_session_headers_are_the_clients_or_new(told):
    sent = {"X-Session-Id": "session", "X-Assistant-Message-Id": "message"}
    got = await told("openai", "openai", sent)
    assert (got["x-session-id"], got["x-assistant-message-id"]) == ("session", "message")
    assert "x-api-provider" not in got
    one, other = await told("openai", "openai"), await told("openai", "openai")
    assert one["x-session-id"] != other["x-session-id"]
    assert not [name for name in one if name.startswith("x-stainless-")]


async def test_anthropic_headers_are_the_clients(told):
    got = await told("anthropic", "anthropic", {"anthropic-version": "2026-10-21", "anthropic-beta": "a"})
    assert (got["anthropic-version"], got["anthropic-beta"]) == ("2026-10-21", "a")
    got = await told("anthropic", "anthropic")
    assert (got["anthropic-version"], "anthropic-beta" in got) == ("2023-06-01", False)


async def test_repeated_beta_headers_are_joined(tmp_path):
    script = Scripted(headers=JSON, chunks=[b"{}"])
    async with scripted_gateway(tmp_path, script) as gateway:
        headers = [("anthropic-beta", "a"), ("anthropic-beta", "b")]
        url = gateway.url + "/v1/messages"
        async with gateway.client.post(url, json=body_of("anthropic"), headers=headers) as response:
            assert response.status == 200
    assert script.requests[0][1]["anthropic-beta"] == "a,b"


@each_type
async def test_the_endpoints_headers_win(told, type):
    own = {
        "Authorization": "Bearer of-endpoint",
        "User-Agent": "endpoint/1",
        "Anthropic-Version": "2030-01-01",
        "X-Factory-Client": "web",
        "X-Team": "团队",
    }
    got = await told(type, type, endpoint={"headers": own}, user_agent="configured/1")
    assert (got["authorization"], got["user-agent"]) == ("Bearer of-endpoint", "endpoint/1")
    assert (got["anthropic-version"], got["x-factory-client"]) == ("2030-01-01", "web")
    assert got["x-team"].encode("utf-8", "surrogateescape").decode() == "团队"


async def test_user_agent_of_the_config(told):
    assert (await told("common", "common", user_agent="factory-cli/0.40.2"))["user-agent"] == "factory-cli/0.40.2"


# -- the upstream's errors ------------------------------------------------------------------------------------------

ADVICE = {
    "retry-after": "7",
    "retry-after-ms": "7000",
    "x-should-retry": "true",
    "x-ratelimit-remaining-tokens": "0",
    "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:00Z",
    "request-id": "req_1",
}
STATUSES = [400, 401, 429, 529]
SPACED = b'{ "error": {"type": "odd_error",  "message": "it \\u00e9choue", "code": "odd"} , "type":"error" }\n'


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("stream", [False, True])
@each_type
async def test_errors_are_relayed_as_they_are(tmp_path, type, status, stream):
    script = Scripted(status=status, headers=JSON | ADVICE | {"set-cookie": "a=b", "server": "x"}, chunks=[SPACED])
    async with scripted_gateway(tmp_path, script) as gateway:
        told, headers, content = await ask(gateway, type, stream=stream)
    assert (told, content, headers["Content-Type"]) == (status, SPACED, "application/json")
    assert {name: headers.get(name) for name in ADVICE} == ADVICE
    assert "set-cookie" not in headers


@each_error
async def test_recorded_errors_are_relayed(tmp_path, recording):
    script = Scripted(status=recording.status, headers=JSON, chunks=[recording.bytes])
    async with scripted_gateway(tmp_path, script) as gateway:
        status, _, content = await ask(gateway, BY_NAME[recording.format].TYPE)
    assert (status, content) == (recording.status, recording.bytes)


@pytest.mark.parametrize("status", STATUSES)
@each_translated
async def test_errors_are_translated(tmp_path, client, upstream, status):
    script = Scripted(status=status, headers=JSON | ADVICE, chunks=[SPACED])
    async with scripted_gateway(tmp_path, script) as gateway:
        for stream in (False, True):
            told, headers, content = await ask(gateway, client, upstream, stream=stream)
            assert (told, message_of(client, content)) == (status, "it échoue")
            assert {name: headers.get(name) for name in ADVICE} == ADVICE
            assert headers["x-upstream-request-id"] == "req_1"
            assert headers["x-request-id"] not in ("", "req_1")  # our own: it is in the log


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>Bad Gateway</html>", "<html>Bad Gateway</html>"),
        (b"", "The upstream answered with an error."),
        (b"[]", "The upstream answered with an error."),
        (b'{"error": "quota"}', "quota"),
        (b'{"detail": "no"}', "no"),
        (b'{"error": {"type": "overloaded_error"}}', "The upstream answered with an error (overloaded_error)."),
        (b"\xff", "\ufffd"),
    ],
)
async def test_odd_errors_are_translated(tmp_path, body, message):
    script = Scripted(status=502, headers={"Content-Type": "text/html"}, chunks=[body])
    async with scripted_gateway(tmp_path, script) as gateway:
        status, _, content = await ask(gateway, "common", "anthropic")
    assert (status, message_of("common", content)) == (502, message)


# -- no answer ------------------------------------------------------------------------------------------------------


@each_pair
async def test_unreachable(tmp_path, client, upstream):
    with socket.socket() as taken:  # but nobody listens there
        taken.bind(("127.0.0.1", 0))
        async with gateway_for(settings_for(tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}")) as gateway:
            status, headers, content = await ask(gateway, client, upstream)
    assert status == 502
    assert re.search(r"127\.0\.0\.1:\d+ could not be reached", message_of(client, content))
    assert headers["x-should-retry"] == "false"  # it was tried three times here


@each_pair
@pytest.mark.parametrize("stream", [True, False])
async def test_silent(tmp_path, client, upstream, stream):
    script = Scripted(silence=60)
    async with scripted_gateway(tmp_path, script, timeouts={"first_byte": 0.2}) as gateway:
        status, _, content = await ask(gateway, client, upstream, stream=stream)
        assert status == 504
        assert "said nothing for 0.2 seconds" in message_of(client, content)
        await asyncio.wait_for(script.left.wait(), 10)


@pytest.mark.parametrize("upstream", PATHS)
async def test_silent_in_the_middle_of_an_answer(tmp_path, upstream):
    script = Scripted(headers=JSON, chunks=[b'{"id":', b"1}"], pause=60)
    async with scripted_gateway(tmp_path, script, timeouts={"idle": 0.1}) as gateway:
        status, _, content = await ask(gateway, "common", upstream)
        assert (status, "nothing for 0.1 seconds" in message_of("common", content)) == (504, True)


@each_pair
async def test_no_http_at_all(tmp_path, client, upstream):
    async def talk(reader, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, gateway_for(settings_for(tmp_path, url)) as gateway:
        status, _, content = await ask(gateway, client, upstream)
        assert (status, "could not be reached" in message_of(client, content)) == (502, True)


@each_pair
async def test_redirects_are_not_followed(tmp_path, client, upstream):
    script = Scripted(status=307, headers={"Location": "/elsewhere", "Content-Type": "text/plain"}, chunks=[b"there"])
    async with scripted_gateway(tmp_path, script) as gateway:
        status, headers, content = await ask(gateway, client, upstream)
    assert len(script.requests) == 1
    assert (status, "Location" in headers) == (307 if client == upstream else 502, False)
    assert b"there" in content


# -- relayed answers ------------------------------------------------------------------------------------------------


def pieces(content, sizes=(1, 7, 100, 3, 2000)):
    """Cut into odd sizes: inside lines, events and characters."""
    start, cut = 0, []
    while start < len(content):
        size = sizes[len(cut) % len(sizes)]
        cut.append(content[start : start + size])
        start += size
    return cut


@each_stream
async def test_recorded_streams_are_relayed_byte_for_byte(tmp_path, recording):
    script = Scripted(chunks=pieces(recording.bytes))
    async with scripted_gateway(tmp_path, script) as gateway:
        status, _, content = await ask(gateway, BY_NAME[recording.format].TYPE, stream=True)
    if not recording.bytes:
        assert status == 502
        return
    assert (status, content) == (200, recording.bytes)


@each_answer
async def test_recorded_answers_are_relayed_byte_for_byte(tmp_path, recording):
    script = Scripted(headers=JSON | {"request-id": "req_1"}, chunks=pieces(recording.bytes))
    async with scripted_gateway(tmp_path, script) as gateway:
        status, headers, content = await ask(gateway, BY_NAME[recording.format].TYPE)
    assert (status, content, headers["request-id"]) == (200, recording.bytes, "req_1")


@each_type
async def test_a_stream_arrives_while_it_is_made(tmp_path, type):
    """The first event is there, and the others do not come at all."""
    events = recorded(type, "text.sse").split(b"\n\n")
    script = Scripted(chunks=[events[0] + b"\n\n", b"\n\n".join(events[1:])], pause=60)
    async with scripted_gateway(tmp_path, script) as gateway:
        body = body_of(type, stream=True)
        async with gateway.client.post(gateway.url + PATHS[type], json=body) as response:
            async with asyncio.timeout(10):
                assert await response.content.readany() == events[0] + b"\n\n"


@each_pair
@pytest.mark.parametrize("streams", [False, True])
async def test_without_stream_the_upstream_decides(tmp_path, client, upstream, streams):
    suffix, headers = (".sse", {"Content-Type": "text/event-stream"}) if streams else (".response.json", JSON)
    script = Scripted(headers=headers, chunks=[recorded(upstream, f"text{suffix}")])
    async with scripted_gateway(tmp_path, script) as gateway:
        status, headers, content = await ask(gateway, client, upstream)
    assert "stream" not in script.last
    assert (status, headers["Content-Type"].startswith("text/event-stream")) == (200, streams)
    assert content.startswith(b"{") != streams


# -- streams that break ---------------------------------------------------------------------------------------------


def read_events(content):
    """The data of each event; b"[DONE]" stays as it is."""
    content = content.replace(b"\r\n", b"\n").strip()
    data = [re.sub(rb"(?m)^(event: .*\n|data: )", b"", event) for event in content.split(b"\n\n")]
    return [text if text == b"[DONE]" else orjson.loads(text) for text in data]


def is_end(event):
    if event != b"[DONE]" and any(candidate.get("finishReason") for candidate in event.get("candidates") or ()):
        return True
    return event == b"[DONE]" or event.get("type") in ("message_stop", "response.completed", "response.incomplete")


def is_error(event):
    return event != b"[DONE]" and bool(event.get("error") or event.get("type") == "response.failed")


LAST_EVENT = {
    "anthropic": b'{"type":"message_stop"',
    "openai": b'{"type":"response.completed","response":{"id":"resp_1","object":',
    "common": b'"finish_reason":"',
    "google": b'"finishReason": "',
}


@each_pair
@pytest.mark.parametrize("cut", [False, True], ids=["ends", "aborts"])
@pytest.mark.parametrize("part", [0.4, 0.7, 1])
async def test_a_stream_that_breaks(tmp_path, client, upstream, cut, part):
    """Whole events as far as they came, then one error in the client's format and no regular end."""
    whole = recorded(upstream, "text.sse")
    inside = whole.index(LAST_EVENT[upstream]) + len(LAST_EVENT[upstream])
    sent = whole[: inside if part == 1 else int(len(whole) * part)]
    script = Scripted(chunks=pieces(sent), cut=cut)
    async with scripted_gateway(tmp_path, script) as gateway:
        status, _, content = await ask(gateway, client, upstream, stream=True)
    events = read_events(content)
    if client == "google" and part < 0.5 and status == 502:  # nothing was said yet in this format
        return
    assert status == 200
    assert is_error(events[-1])
    assert not any(is_error(event) or is_end(event) for event in events[:-1])
    if client == upstream:
        boundary = b"\r\n\r\n" if upstream == "google" else b"\n\n"
        came = sent[: sent.rindex(boundary) + len(boundary)]
        assert content.startswith(came)
        assert len(events) == len(read_events(came)) + 1
    elif part > 0.5:
        assert "你好" in content.decode()


OVERLOADED = {
    "anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    "openai": {
        "type": "error",
        "error": {"type": "server_error", "code": "rate_limit_exceeded", "message": "Overloaded"},
    },
    "common": {"error": {"message": "Overloaded", "code": 503}},
    "google": {"error": {"message": "Overloaded", "code": 503, "status": "UNAVAILABLE"}},
}
STATUS_OF = {"anthropic": 529, "openai": 429, "common": 503, "google": 503}


@each_translated
async def test_an_error_as_the_first_event_has_a_status(tmp_path, client, upstream):
    event = b"event: error\ndata: " + orjson.dumps(OVERLOADED[upstream]) + b"\n\n"
    script = Scripted(headers={"Content-Type": "text/event-stream", "retry-after": "3"}, chunks=[event])
    async with scripted_gateway(tmp_path, script) as gateway:
        for stream in (False, True):
            status, headers, content = await ask(gateway, client, upstream, stream=stream)
            assert (status, headers["retry-after"]) == (STATUS_OF[upstream], "3")
            assert message_of(client, content) == "Overloaded"


@each_pair
async def test_an_error_in_the_middle(tmp_path, client, upstream):
    begun = recorded(upstream, "text.sse")
    begun = begun[: begun.index("👋".encode())]
    boundary = b"\r\n\r\n" if upstream == "google" else b"\n\n"
    begun = begun[: begun.rindex(boundary) + len(boundary)]
    event = b"event: error\ndata: " + orjson.dumps(OVERLOADED[upstream]) + b"\n\n"
    script = Scripted(chunks=[begun + event])
    async with scripted_gateway(tmp_path, script) as gateway:
        status, _, content = await ask(gateway, client, upstream, stream=True)
    if client == upstream:
        assert content == begun + event
    events = read_events(content)
    assert (status, [is_error(event) for event in events].count(True)) == (200, 1)
    assert is_error(events[-1])
    assert "Overloaded" in str(events[-1])


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("how", ["status", "stream"])
async def test_an_upstream_that_repeats_the_credential_is_not_quoted(tmp_path, stream, how):
    """In the translate lane; where formats are equal its words go through as they are."""
    error = {"message": "Bad key test-key-of-the-owner, or test-key-of-the-client", "code": "server_error"}
    body = orjson.dumps({"error": error})
    script = Scripted(status=401, headers={"Content-Type": "application/json"}, chunks=[body])
    if how == "stream":
        script = Scripted(chunks=[b"data: %b\n\n" % body])
    async with serving(script.app()) as upstream:
        environment = {"FACTORY_API_KEY": "test-key-of-the-owner"}
        async with gateway_for(settings_for(tmp_path, upstream, environment)) as gateway:
            sent = {"model": BY_TYPE["common"], "input": "hi", "stream": stream}
            headers = {"x-api-key": "test-key-of-the-client"}
            status, _, content = await gateway.ask("/v1/responses", sent, headers)
    assert status >= 400
    assert b"Bad key ***, or ***" in content


ESCAPED = [
    ("test-key-of/mine", r"test-key-of\/mine"),
    ("test-key-of/mine", r"test\u002Dkey-of\u002fmine"),
    ('test-key-"of"-mine', r"test-key-\"of\"-mine"),
    ("test-key-of-mine", "test-key-of-mine"),
]


@pytest.mark.parametrize(("key", "said"), ESCAPED)
@pytest.mark.parametrize("client", PATHS)
@pytest.mark.parametrize("status", [401, 500])
async def test_an_error_that_repeats_a_key_is_passed_on_without_it(tmp_path, client, key, said, status):
    """In both lanes, in whatever spelling of JSON; every other byte of a relayed one is as it was."""
    body = b'{"error":{"message":"No: %b.","x":"\xff\\u00e9"}}' % said.encode()
    script = Scripted(status=status, headers={"Content-Type": "application/json"}, chunks=[body])
    async with serving(script.app()) as upstream:
        settings = settings_for(tmp_path, upstream, {"FACTORY_API_KEY": key})
        async with gateway_for(settings) as gateway:
            told, _, content = await gateway.ask(PATHS[client], body_of(client, "common"))
            assert told == status
            assert b"***" in content
            assert key.encode() not in content
            assert said.encode() not in content
            if client == "common":
                assert content == body.replace(said.encode(), b"***")


async def test_a_key_in_a_header_of_the_owners_is_masked_without_its_scheme(tmp_path):
    script = Scripted(status=401, headers={"Content-Type": "application/json"}, chunks=[b'{"error":"planted-secret"}'])
    async with serving(script.app()) as upstream:
        endpoint = [{"name": "common", "base_url": upstream, "headers": {"Authorization": "Bearer planted-secret"}}]
        async with gateway_for(settings_for(tmp_path, upstream, endpoint=endpoint)) as gateway:
            _, _, content = await gateway.ask(PATHS["common"], body_of("common"))
    assert content == b'{"error":"***"}'


@pytest.mark.parametrize("host", ["api.factory.ai", "api.example.com"])
@pytest.mark.parametrize(("client", "upstream"), [("common", "common"), ("anthropic", "common")])
async def test_a_403_of_factorys_has_a_hint(tmp_path, caplog, host, client, upstream):
    """In the log and, where the error is translated, for the client; relayed bytes stay as they are."""
    body = b'{"error":{"message":"Forbidden","type":"permission_error"}}'
    script = Scripted(status=403, headers=JSON, chunks=[body])
    async with serving(script.app()) as url, proxy(urlsplit(url).port) as server:
        endpoint = [{"name": "common", "base_url": f"http://{host}/v1/chat/completions", "api_key_env": "OWN"}]
        config = {"endpoint": endpoint, "proxy": f"http://127.0.0.1:{server.port}"}
        async with gateway_for(settings_for(tmp_path, url, {"OWN": "test-key"}, **config)) as gateway:
            status, _, content = await ask(gateway, client, upstream)
    factorys = host == "api.factory.ai"
    assert (status, "does not rewrite prompts" in caplog.text) == (403, factorys)
    assert (content == body) == (client == upstream)
    assert (b"does not rewrite prompts" in content) == (factorys and client != upstream)
