"""Anything at all: on SSE bytes, request bodies, headers and config.json. Found and mended cases stay as examples."""

from __future__ import annotations

import asyncio
import contextlib

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from droid2api.config import load
from droid2api.errors import ConfigError
from droid2api.formats import BY_NAME
from droid2api.settings import Settings
from droid2api.wire import sse
from tests.formats.recordings import OWN, REQUESTS
from tests.formats.strategies import json_values, mutated, texts
from tests.gateway.faults import PATIENCE, Line, check_envelope, outcome, playing
from tests.harness import BY_TYPE, MODELS, PATHS, body_of, gateway_for, settings_for
from tests.timing import assert_linear

fuzzed = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

# -- SSE ------------------------------------------------------------------------------------------------------------

PIECES = [b"data: x", b"data:y", b"data: [DONE]", b"event: e", b": c", b"data", b"\xe4\xbd\xa0", b" ", b":", b"\x00"]
lines = st.lists(st.sampled_from([*PIECES, *[b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r"] * 2]), max_size=30)
streams = lines.map(b"".join) | st.binary(max_size=60)


def split(stream, places):
    places = sorted({place % (len(stream) + 1) for place in places})
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


def read(*chunks):
    decoder = sse.Decoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.close()


each_split = given(stream=streams, places=st.lists(st.integers(0, 200), max_size=6))


@settings(max_examples=250, deadline=None)
@each_split
def test_a_decoder_reads_the_same_however_it_is_split(stream, places):
    assert read(*split(stream, places)) == read(stream)


@settings(max_examples=250, deadline=None)
@each_split
def test_a_cutter_changes_nothing_and_cuts_between_events(stream, places):
    cutter = sse.EventCutter()
    chunks = split(stream, places)
    emitted = [cutter.feed(chunk) for chunk in chunks]
    assert b"".join(emitted) + cutter.rest == stream
    whole = [event for part in emitted if part for event in read(part)]
    if b"\xef\xbb\xbf" not in stream:
        assert whole + read(cutter.rest) == read(stream)
    assert not whole or whole[-1].data.split(b"\n")[-1] in cutter.last


@pytest.mark.parametrize("make", [sse.Decoder, sse.EventCutter])
@pytest.mark.parametrize("line", [b"x", b"data: x\n", b": c\n\n", b"\r", b"data: x\r\n\r\n", b"data: x\n\n"])
def test_time_is_linear(make, line):
    def feeding(size):
        content = (b"data: " + line * (size // len(line)))[:size]
        chunks = [content[start : start + 4096] for start in range(0, size, 4096)]

        def run():
            reader = make()
            for chunk in chunks:
                reader.feed(chunk)

        return run

    assert_linear(feeding, 2_000_000 if line == b"x" else 250_000)


# -- a running gateway ----------------------------------------------------------------------------------------------


async def answer(line: Line):
    with contextlib.suppress(asyncio.IncompleteReadError):
        await line.read_request()
        await line.head(f"Content-Length: {len(line.content)}")
        await line.write(line.content)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Asks a gateway whose upstream always has a good answer; one gateway for all examples."""
    folder = tmp_path_factory.mktemp("fuzz")
    with asyncio.Runner() as runner:
        running = contextlib.AsyncExitStack()

        async def start():
            url = await running.enter_async_context(playing(answer))
            return await running.enter_async_context(gateway_for(settings_for(folder, url, {}, models=MODELS)))

        gateway = runner.run(start())

        async def ask(path, body, headers=()):
            host = [(b"Host", b"127.0.0.1"), (b"Content-Type", b"application/json"), (b"x-api-key", b"key")]
            given = {name.lower() for name, _ in headers}
            every = [(name, value) for name, value in host if name.lower() not in given] + list(headers)
            head = b"".join(b"%b: %b\r\n" % pair for pair in every)
            reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
            writer.write(
                b"POST %b HTTP/1.1\r\nConnection: close\r\n%bContent-Length: %d\r\n\r\n%b"
                % (path.encode(), head, len(body), body)
            )
            try:
                async with asyncio.timeout(PATIENCE):
                    told = await reader.read()
            except ConnectionError:
                told = b""
            finally:
                writer.close()
            return told

        yield lambda *args: runner.run(ask(*args))
        runner.run(running.aclose())


def parsed(told):
    """Status, type and body, with its chunks joined."""
    head, _, body = told.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    lowered = head.lower()
    if b"transfer-encoding: chunked" in lowered:
        rest, body = body, b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    kind = lowered.partition(b"content-type: ")[2].partition(b"\r\n")[0].partition(b";")[0].decode()
    return status, kind, body


FORMAT_PATHS = {format.NAME: PATHS[format.TYPE] for format in BY_NAME.values()}
CLIENTS = {format.NAME: format.TYPE for format in BY_NAME.values()}
OWN_REQUESTS = [recording for recording in REQUESTS if recording.path.is_relative_to(OWN)]


@st.composite
def bodies(draw, format):
    """Requests that were recorded, with junk in them; JSON; bytes."""
    recording = draw(st.sampled_from([recording for recording in OWN_REQUESTS if recording.format == format]))
    body = draw(mutated(recording.json) | json_values)
    if type(body) is dict and draw(st.integers(0, 9)):
        body |= {"model": draw(st.sampled_from(list(BY_TYPE.values()))), "stream": draw(st.booleans())}
    return orjson.dumps(body)


@pytest.mark.parametrize("format", BY_NAME)
@fuzzed
@given(data=st.data())
def test_bodies(asked, format, data):
    body = data.draw(bodies(format) | st.binary(max_size=40))
    status, kind, content = parsed(asked(FORMAT_PATHS[format], body))
    assert status in (200, 400, 404), content
    assert outcome(CLIENTS[format], status, kind, content) == ("regular" if status == 200 else "error")


@fuzzed
@given(body=bodies("anthropic") | st.binary(max_size=40))
def test_bodies_to_be_counted(asked, body):
    status, _, content = parsed(asked("/v1/messages/count_tokens", body))
    assert status in (200, 400, 404), content
    if status != 200:
        check_envelope("anthropic", content)


NAMES = (
    "Host Origin Authorization x-api-key Content-Type Content-Encoding Accept-Encoding Connection Upgrade "
    "Cookie anthropic-version anthropic-beta x-session-id x-assistant-message-id x-stainless-lang User-Agent"
)
VALUES = [b"", b"http://[", b"[::1", b"http://127.0.0.1:99999", b"Bearer ", b"Bearer \xff", b"\xe4\xbd\xa0", b"a\x01b"]
VALUES += [b"application/json; charset=", b"100-continue", b"websocket", b"gzip, br", b"a\tb", b"x" * 9000, b"\x80"]
names = st.sampled_from(NAMES.encode().split()) | st.binary(min_size=1, max_size=8)
headers = st.lists(st.tuples(names, st.sampled_from(VALUES) | st.binary(max_size=12)), max_size=4)


@pytest.mark.parametrize("type", PATHS)
@fuzzed
@given(headers=headers)
@example(headers=[(b"Origin", b"http://[")])
@example(headers=[(b"Host", b"[::1")])
@example(headers=[(b"anthropic-beta", b"\xff")])
@example(headers=[(b"x-session-id", b"\x80")])
@example(headers=[(b"Authorization", b"Bearer \xff")])
@example(headers=[(b"x-api-key", b"\xe4\xbd\xa0")])
@example(headers=[(b"Expect", b"100-continue")])
def test_headers(asked, type, headers):
    told = asked(PATHS[type], orjson.dumps(body_of(type)), headers)
    status, kind, content = parsed(told.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"))
    assert status == 200 or 400 <= status < 500, told
    anthropic = type != "google" and any(name.lower() == b"anthropic-version" for name, _ in headers)
    """Such a client is told in its format."""
    if kind == "application/json":
        outcome("anthropic" if anthropic and status != 200 else type, status, kind, content)


# -- config.json ----------------------------------------------------------------------------------------------------

SHIPPED = orjson.loads((OWN.parents[1] / "config.json").read_bytes())
CONFIG = SHIPPED | {
    "models": list({(*model, model["type"]): model for model in SHIPPED["models"]}.values()),  # one of each kind
    "auth": {"token_url": "https://login.example/token", "client_id": "c"},
    "timeouts": {"connect": 1, "idle": 2.5},
    "user_agent": "a/1",
    "api_keys": ["k"],
    "allowed_hosts": ["h"],
    "allowed_origins": ["https://page.example"],
}
ODD = [-1, 0, 2**31, 2**63, 1e308, 1e-320, "", " ", "\x00", "http://[", "https://a:b@c", "http://h:99999", "好", "../x"]


@settings(fuzzed, max_examples=200)
@given(
    content=mutated(CONFIG).map(orjson.dumps) | json_values.map(orjson.dumps) | st.binary(max_size=40), data=st.data()
)
def test_config(tmp_path, content, data):
    environment = data.draw(
        st.dictionaries(
            st.sampled_from(["HOST", "PORT", "DROID2API_DATA", "DROID2API_KEYS", "HOME"]), texts, max_size=2
        )
    )
    check_config(tmp_path, content, environment)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_odd_values_in_every_place_of_a_config(tmp_path, odd):
    for place in places(CONFIG):
        value = orjson.loads(orjson.dumps(CONFIG))
        *path, last = place
        inner = value
        for key in path:
            inner = inner[key]
        inner[last] = odd
        check_config(tmp_path, orjson.dumps(value), {})


def places(value, path=()):
    for key, inner in value.items() if type(value) is dict else enumerate(value):
        yield (*path, key)
        if type(inner) in (dict, list):
            yield from places(inner, (*path, key))


def check_config(folder, content, environment):
    file = folder / "config.json"
    file.write_bytes(content)
    with contextlib.suppress(ConfigError):
        assert type(load(file, environment)) is Settings
