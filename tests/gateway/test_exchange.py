"""An exchange: what is known of a request and its answer, for whoever watches; and that each has its own id."""

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import replace

import orjson
import pytest

from droid2api.errors import RequestError
from droid2api.gateway import exchange
from droid2api.gateway.exchange import LONGEST_ERROR, Exchange, Notifier, client_name
from droid2api.hub.events import Usage
from droid2api.server import body as body_module
from droid2api.server.keys import NOTIFIER, OBSERVERS, RUNNING
from tests.gateway.faults import recorded
from tests.harness import (
    BODIES,
    BOTH_LANES,
    BY_TYPE,
    FORMAT_OF,
    PATHS,
    Scripted,
    body_of,
    gateway_for,
    scripted_gateway,
    settings_for,
    until,
)

each_lane = pytest.mark.parametrize(("client", "upstream"), BOTH_LANES)
JSON = {"Content-Type": "application/json"}
ID = re.compile(r"[0-9a-f]{16}")


class Watcher:
    def __init__(self):
        self.seen = []

    def began(self, exchange):
        self.seen.append(("began", exchange))

    def ended(self, exchange):
        self.seen.append(("ended", exchange))

    @property
    def only(self):
        """The one exchange that there was."""
        (_, began), (_, ended) = self.seen
        assert [what for what, _ in self.seen] == ["began", "ended"]
        assert began is ended
        return ended


@asynccontextmanager
async def watched(folder, script, **config):
    """A gateway with a watcher, who has seen all in the end."""
    watcher = Watcher()
    async with scripted_gateway(folder, script, **config) as gateway:
        gateway.app[OBSERVERS].append(watcher)
        yield gateway, watcher


# -- what is known --------------------------------------------------------------------------------------------------

STREAMED = Usage(33, 12, cache_read=7, cache_write=5)
WHOLE = Usage(100, 33, cache_read=90)
"""Of the recordings named text, in all formats; Responses and Gemini tell of 10 tokens of reasoning too, Gemini of no
writes to a cache."""


@each_lane
@pytest.mark.parametrize(("stream", "streams"), [(True, True), (False, False), (False, True), (True, False)])
async def test_usage_and_end(tmp_path, client, upstream, stream, streams):
    """Whatever the client wants and the upstream gives, a stream or an answer in one piece."""
    suffix, headers = (".sse", {"Content-Type": "text/event-stream"}) if streams else (".response.json", JSON)
    content = recorded(upstream, f"text{suffix}")
    script = Scripted(headers=headers, chunks=[content[:500], content[500:]])
    async with watched(tmp_path, script) as (gateway, watcher):
        status, headers, _ = await gateway.ask(PATHS[client], body_of(client, upstream, stream=stream))
    seen = watcher.only
    assert (seen.status, seen.end, seen.error) == (status, "finish", "")
    assert (seen.asked, seen.model) == (BY_TYPE[upstream], BY_TYPE[upstream])
    assert (seen.format, seen.upstream) == (FORMAT_OF[client].NAME, FORMAT_OF[upstream].NAME)
    assert seen.lane == ("relay" if client == upstream else "translate")
    assert seen.stream == headers["Content-Type"].startswith("text/event-stream")
    assert 0 < seen.first_byte <= seen.duration
    streamed = replace(STREAMED, cache_write=0 if upstream == "google" else 5)
    whole = replace(WHOLE, reasoning=10 if upstream in ("openai", "google") else 0)
    assert seen.usage == (streamed if streams else whole)


@pytest.mark.parametrize("client", ["common", "anthropic"])
async def test_times_of_a_stream(tmp_path, client):
    events = recorded("common", "text.sse").partition(b"\n\n")
    script = Scripted(chunks=[events[0] + b"\n\n", events[2][:300], events[2][300:]], pause=0.15, silence=0.05)
    async with watched(tmp_path, script, timeouts={"keepalive": 0.1}) as (gateway, watcher):
        await gateway.ask(PATHS[client], body_of(client, "common", stream=True))
    seen = watcher.only
    streaming = seen.duration - seen.first_byte
    assert seen.first_byte >= 0.05
    assert streaming >= 0.3
    assert 0.14 < seen.longest_gap < streaming - 0.1  # not both pauses
    assert seen.tokens_per_second == seen.usage.output / streaming


def test_what_clients_name_is_kept_within_limits():
    seen = Exchange("1", "client")
    seen.changed(["a", *["x" * 100_000] * 1000], {"b": 2} | {f"{number}" * 1000: 1 for number in range(1000)})
    assert (seen.dropped[0], seen.repaired["b"]) == ("a", 2)
    assert sum(map(len, [*seen.dropped, *seen.repaired])) < 100_000
    seen.fail(RequestError(f"messages[1]: the tool result for {'x' * 100_000!r} has no tool call before it."))
    assert (seen.error[:11], len(seen.error)) == ("messages[1]", LONGEST_ERROR)


@pytest.mark.parametrize(
    ("known", "speed"),
    [
        ({"usage": Usage(5, 30), "stream": True, "first_byte": 1.0, "duration": 4.0}, 10),
        ({"usage": Usage(5, 30), "stream": True, "first_byte": 0.0, "duration": 3.0}, 10),
        ({"usage": Usage(5, 30), "stream": False, "first_byte": 1.0, "duration": 4.0}, None),
        ({"usage": None, "stream": True, "first_byte": 1.0, "duration": 4.0}, None),
        ({"usage": Usage(5, 30), "stream": True, "first_byte": 4.0, "duration": 4.0}, None),
        ({"usage": Usage(5, 30), "stream": True, "first_byte": 4.0, "duration": 3.0}, None),  # a clock that was set
        ({"usage": Usage(5, 30), "stream": True, "first_byte": None, "duration": 4.0}, None),
        ({"usage": Usage(5, 30), "stream": True, "first_byte": 1.0, "duration": None}, None),
    ],
)
def test_tokens_per_second(known, speed):
    assert Exchange("1", "client", **known).tokens_per_second == speed


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("claude-cli/2.1.0 (external, cli)", "claude-cli"),
        ("OpenAI/Python 2.8.0", "OpenAI/Python"),
        ("Anthropic/JS 0.70.1", "Anthropic/JS"),
        ("codex_cli_rs/0.60.1 (Debian 12; x86_64) xterm", "codex_cli_rs"),
        ("Mozilla/5.0 (X11; Linux)", "Mozilla"),
        ("curl", "curl"),
        ("", "unknown"),
        (" /1.0", "unknown"),
        ("客户端/1.0", "unknown"),
    ],
)
def test_client_names(user_agent, name):
    assert client_name(user_agent) == name


async def test_the_client_is_known(tmp_path):
    async with watched(tmp_path, Scripted(headers=JSON, chunks=[b"{}"])) as (gateway, watcher):
        agent = {"User-Agent": "claude-cli/2.1.0 (external, cli)"}
        await gateway.ask("/v1/messages", body_of("anthropic", "anthropic"), agent)
    assert watcher.only.client == "claude-cli"


async def test_what_was_left_out_or_mended_is_known(tmp_path):
    said = [{"role": "user", "content": "hi"}] * 2
    body = body_of("common", "anthropic", seed=1, logit_bias={"1": 2}, messages=said)
    async with watched(tmp_path, Scripted(chunks=[recorded("anthropic", "text.sse")])) as (gateway, watcher):
        status, headers, _ = await gateway.ask(PATHS["common"], body)
    assert status == 200
    assert watcher.only.dropped == headers["x-droid2api-dropped"].split(", ") == ["seed", "logit_bias"]
    assert watcher.only.repaired == {"messages.merged": 1}
    assert headers["x-droid2api-repaired"] == "messages.merged=1"


def test_all_that_is_known_is_json():
    seen = Exchange("1", "client", "chat", upstream="chat", usage=Usage(1, 2))
    value = orjson.loads(orjson.dumps(seen.to_json()))
    assert set(value) == {*Exchange.__slots__, "lane", "tokens_per_second"}
    assert value["usage"] == {"input": 1, "output": 2, "cache_read": 0, "cache_write": 0, "reasoning": 0}
    assert value["lane"] == "relay"


@pytest.mark.parametrize(
    ("end", "failed"),
    [("", False), ("finish", False), ("client left", False), ("stopped", False)]
    + [(f"{whose} error", True) for whose in ("request", "credential", "upstream", "gateway")],
)
def test_what_counts_as_failed(end, failed):
    assert Exchange("1", "client", end=end).failed is failed


# -- who is told of it ----------------------------------------------------------------------------------------------

COUNT = "/v1/messages/count_tokens"
WATCHED = [
    *((path, body, {}, 200) for path, body in BODIES.items()),
    *((path.removeprefix("/v1"), body, {}, 200) for path, body in BODIES.items()),
    (COUNT, body_of("anthropic", "anthropic"), {}, 200),
    (COUNT, body_of("anthropic", "openai"), {}, 200),  # estimated
    (COUNT, {"model": "nobody"}, {}, 404),
    *((path, b"{", {}, 400) for path in (*BODIES, COUNT)),
    *((path, body | {"model": "nobody"}, {}, 404) for path, body in BODIES.items()),
    *((path, body | {"padding": "x" * 1000}, {}, 413) for path, body in BODIES.items()),
    *((path, body, {"x-api-key": "wrong"}, 401) for path, body in BODIES.items()),
    (COUNT, {}, {"x-api-key": "wrong"}, 401),
    ("/v1/messages", {}, {"Content-Type": "text/plain"}, 415),
    ("/v1/responses", {}, {"Host": "evil.example"}, 403),
    ("/v1/responses", {}, {"Content-Encoding": "gzip"}, 400),
    ("/v1/responses", {}, {"Content-Encoding": "br"}, 415),
]


@pytest.mark.parametrize(("path", "body", "headers", "status"), WATCHED)
async def test_each_exchange_begins_and_ends_once(tmp_path, monkeypatch, path, body, headers, status):
    monkeypatch.setattr(body_module, "BODY_LIMIT", 1000)
    script = Scripted(headers=JSON, chunks=[b"{}"])
    async with watched(tmp_path, script, api_keys=["gateway-key"]) as (gateway, watcher):
        told, answer, _ = await gateway.ask(path, body, {"x-api-key": "gateway-key"} | headers)
    seen = watcher.only
    assert told == status
    assert (seen.status, seen.id) == (status, answer["x-request-id"])
    assert seen.end == {200: "finish", 401: "credential error"}.get(status, "request error")
    assert bool(seen.error) == (status != 200)
    assert seen.format == next(
        FORMAT_OF[type].NAME for type, place in PATHS.items() if place.removeprefix("/v1") in path
    )
    assert seen.duration >= 0


async def test_a_client_that_leaves_before_its_body_is_whole_is_an_exchange(tmp_path):
    async with watched(tmp_path, Scripted()) as (gateway, watcher):
        _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 100\r\n\r\n{")
        await until(lambda: gateway.app[RUNNING])
        writer.transport.abort()
        await until(lambda: len(watcher.seen) == 2)
    assert (watcher.only.end, watcher.only.status, watcher.only.model) == ("client left", 0, "")


UNWATCHED = [
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/nobody"),
    ("GET", "/v1/responses"),  # a WebSocket probe
    ("GET", "/v1/messages"),
    ("POST", "/v1/nothing"),
    ("OPTIONS", "/v1/messages"),
]


@pytest.mark.parametrize(("method", "path"), UNWATCHED)
@pytest.mark.parametrize("key", ["gateway-key", "wrong"])
async def test_what_is_no_exchange(tmp_path, method, path, key):
    async with watched(tmp_path, Scripted(), api_keys=["gateway-key"]) as (gateway, watcher):
        await (await gateway.client.request(method, gateway.url + path, headers={"x-api-key": key} | JSON)).read()
    assert watcher.seen == []


async def test_observers_that_raise_harm_nobody(tmp_path, caplog):
    class Broken:
        def began(self, exchange):
            raise KeyError("inner detail")

        def ended(self, exchange):
            raise BrokenPipeError

    async with watched(tmp_path, Scripted(headers=JSON, chunks=[b"{}"])) as (gateway, watcher):
        gateway.app[OBSERVERS].insert(0, Broken())
        for _ in range(2):
            status, _, content = await gateway.ask("/v1/messages", BODIES["/v1/messages"])
            assert (status, content) == (200, b"{}")
    assert [what for what, _ in watcher.seen] == ["began", "ended"] * 2
    failures = [record for record in caplog.records if record.getMessage() == "Broken failed"]
    assert [record.exc_info[0] for record in failures] == [KeyError, BrokenPipeError] * 2


async def test_observers_are_told_a_moment_later_together_and_in_order(monkeypatch):
    monkeypatch.setattr(exchange, "NOTIFY_AFTER", 0.05)
    watcher, (one, other) = Watcher(), (Exchange(id, "client") for id in "12")
    notifier = Notifier([watcher])
    news = [("began", one), ("began", other), ("ended", other), ("ended", one)]
    for what, which in news:
        notifier.notify(what, which)
    assert watcher.seen == []
    await until(lambda: watcher.seen)
    assert watcher.seen == news
    notifier.notify("began", one)
    notifier.flush()
    assert watcher.seen[4:] == [("began", one)]
    await asyncio.sleep(0.1)
    assert len(watcher.seen) == 5


async def test_what_was_not_told_is_told_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "NOTIFY_AFTER", 60)
    async with watched(tmp_path, Scripted(headers=JSON, chunks=[b"{}"])) as (gateway, watcher):
        await gateway.ask("/v1/messages", BODIES["/v1/messages"])
        assert gateway.app[NOTIFIER]
        assert watcher.seen == []
    assert watcher.only.end == "finish"


# -- its id ---------------------------------------------------------------------------------------------------------

ANSWERS = [
    ("GET", "/", {}, 200),
    ("GET", "/", {"Accept": "text/html"}, 200),
    ("HEAD", "/", {}, 200),
    ("GET", "/health", {}, 200),
    ("GET", "/api/hello", {}, 200),
    ("GET", "/v1/models", {}, 200),
    ("HEAD", "/v1/models", {}, 200),
    ("GET", "/v1/models/nobody", {}, 404),
    ("GET", "/nothing", {}, 404),
    ("HEAD", "/nothing", {}, 404),
    ("PUT", "/v1/messages", JSON, 405),
    ("GET", "/v1/responses", {}, 426),
    ("POST", "/v1/messages", {}, 415),
    ("POST", "/v1/messages", JSON, 400),
    ("POST", "/v1/messages", JSON | {"Expect": "100-continue"}, 400),
    ("POST", "/v1/messages", JSON | {"Expect": "a-miracle"}, 417),
    ("OPTIONS", "/v1/messages", {"Origin": "http://page.example"}, 204),
    ("GET", "/v1/models", {"Host": "evil.example"}, 403),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), ANSWERS)
async def test_every_answer_has_an_id(tmp_path, method, path, headers, status):
    allowed = {"allowed_origins": ["http://page.example"]}
    async with scripted_gateway(tmp_path, Scripted(), **allowed) as gateway:
        ids = set()
        for _ in range(2):
            sent = {"data": b""} if method in ("POST", "PUT") else {}
            async with gateway.client.request(method, gateway.url + path, headers=headers, **sent) as answer:
                assert answer.status == status
                assert answer.headers.getall("x-request-id") == answer.headers.getall("request-id")
                ids.add(answer.headers["x-request-id"])
    assert len(ids) == 2
    assert all(ID.fullmatch(id) for id in ids)


@each_lane
@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize("header", ["request-id", "x-request-id"])
async def test_the_upstreams_id_is_beside_it(tmp_path, client, upstream, status, header):
    headers, content = {"Content-Type": "text/event-stream"}, recorded(upstream, "text.sse")
    if status != 200:
        headers, content = JSON, b'{"error":{"message":"no"}}'
    script = Scripted(status=status, headers=headers | {header: "req_1"}, chunks=[content])
    async with watched(tmp_path, script) as (gateway, watcher):
        told, answer, _ = await gateway.ask(PATHS[client], body_of(client, upstream, stream=True))
    assert told == status
    assert answer["x-request-id"] == watcher.only.id
    assert (answer["x-upstream-request-id"], watcher.only.upstream_id) == ("req_1", "req_1")
    assert answer["request-id"] == "req_1"  # where Anthropic's SDKs look


async def test_an_upstreams_id_that_is_no_text(tmp_path):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        writer.write(head + b"request-id: a\xff\xe9b\r\n\r\n{}")
        await writer.drain()
        writer.close()

    watcher = Watcher()
    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with gateway_for(settings_for(tmp_path, url)) as gateway:
            gateway.app[OBSERVERS].append(watcher)
            assert (await gateway.ask("/v1/messages", BODIES["/v1/messages"]))[0] == 200
    assert watcher.only.upstream_id == "a??b"
