"""The log: a line for each request, whatever becomes of it, and what is never in a line."""

import asyncio
import contextlib
import io
import json
import logging
import os
import re
import threading
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from functools import partial

import aiohttp
import orjson
import pytest

from droid2api.config import load
from droid2api.errors import ConfigError
from droid2api.gateway import logs, pump
from droid2api.gateway.exchange import Exchange, client_name
from droid2api.gateway.logs import (
    BODY_KEPT,
    BODY_SHOWN,
    LINE_LIMIT,
    JsonFormatter,
    TextFormatter,
    log_body,
    request_line,
    start_logging,
    without_secrets,
)
from droid2api.gateway.pump import OWN_FAULT
from droid2api.hub.events import Usage
from droid2api.server import app
from droid2api.server.app import drain
from droid2api.server.keys import RUNTIME
from tests.conftest import SECRETS
from tests.harness import BODIES, BY_TYPE, CHUNK, Scripted, gateway_for, serving, settings_for
from tests.timing import assert_linear

LANES = {"/v1/chat/completions": "chat>chat relay", "/v1/messages": "anthropic>chat translate"}
each_path = pytest.mark.parametrize("path", LANES)
each_format = pytest.mark.parametrize("log_format", ["text", "json"])

USAGE = b'{"prompt_tokens":20,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":5}}'
DONE = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":%b}\n\ndata: [DONE]\n\n' % USAGE
ERROR = b'data: {"error":{"message":"Overloaded","code":503}}\n\n'


@contextmanager
def written(settings):
    """What a process with these settings writes to stderr, as lines; complete in the end, and without a secret."""
    root, out, lines = logging.getLogger(), io.StringIO(), []
    level = root.level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(root, "handlers", [])
        patch.setattr(logs, "_handler", logging.StreamHandler(out))
        start_logging(settings)
        try:
            yield lines
        finally:
            root.setLevel(level)
    lines += out.getvalue().splitlines()
    assert not SECRETS.search(out.getvalue())


@asynccontextmanager
async def logged(folder, script, environment=None, **config):
    """A gateway and the lines that it has logged in the end."""
    async with serving(script.app()) as upstream:
        settings = settings_for(folder, upstream, environment, **config)
        with written(settings) as lines:
            async with gateway_for(settings) as gateway:
                yield gateway, lines


async def ask(gateway, path, headers=None, **more):
    body = BODIES[path] | {"model": BY_TYPE["common"], "stream": True} | more
    return await gateway.ask(path, body, {"User-Agent": "claude-cli/2.1 (external)"} | (headers or {}))


def requests_in(lines):
    """The lines of requests: as values in JSON, else as they are."""
    if lines and lines[0].startswith("{"):
        return [value for line in lines if (value := json.loads(line))["logger"] == "droid2api.requests"]
    return [line for line in lines if re.match(r"\S+ \S+ [A-Z]+ droid2api\.requests: ", line)]


# -- the line -------------------------------------------------------------------------------------------------------


def streaming(**more):
    headers = {"Content-Type": "text/event-stream", "x-request-id": "req_1"}
    return Scripted(headers=headers, chunks=[CHUNK, CHUNK, DONE], pause=0.02, **more)


@each_path
async def test_a_request_as_text(tmp_path, path):
    async with logged(tmp_path, streaming(), model_redirects={"glm*": "glm-4.6"}) as (gateway, lines):
        _, headers, _ = await ask(gateway, path, model="glm-5")
    (line,) = requests_in(lines)
    moment, _, said = line.partition(" droid2api.requests: ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO", moment)
    assert re.fullmatch(
        rf"{headers['x-request-id']} claude-cli glm-5 -> glm-4\.6 {LANES[path]} 200 "
        r"0\.\d{3}s first 0\.\d{3}s whole tokens 20 in 10 out 5 cached \d+\.\d tokens/s upstream req_1 finish",
        said,
    ), said


@each_path
async def test_a_request_as_json(tmp_path, path):
    config = {"log_format": "json", "model_redirects": {"glm*": "glm-4.6"}}
    async with logged(tmp_path, streaming(), **config) as (gateway, lines):
        _, headers, _ = await ask(gateway, path, model="glm-5")
    (value,) = requests_in(lines)
    assert datetime.fromisoformat(value["time"]).utcoffset() is not None
    first, whole, speed = (value[name] for name in ("first_byte", "duration", "tokens_per_second"))
    assert 0 < first < whole
    assert speed == pytest.approx(10 / (whole - first))
    format, upstream, lane = re.split("[> ]", LANES[path])
    expected = {
        "level": "info",
        "id": headers["x-request-id"],
        "client": "claude-cli",
        "asked": "glm-5",
        "model": "glm-4.6",
        "format": format,
        "upstream": upstream,
        "lane": lane,
        "stream": True,
        "status": 200,
        "upstream_id": "req_1",
        "usage": {"input": 20, "output": 10, "cache_read": 5, "cache_write": 0, "reasoning": 0},
        "end": "finish",
        "error": "",
    }
    assert {name: value[name] for name in expected} == expected


def test_what_is_not_known_is_not_told():
    assert request_line(Exchange("1", "unknown", "chat")) == "1 unknown ? chat>? - - - first - whole "


# -- how it ended ---------------------------------------------------------------------------------------------------


async def just_ask(gateway, path, script):
    await ask(gateway, path)


async def bad_json(gateway, path, script):
    await gateway.ask(path, b"{")


async def unknown_model(gateway, path, script):
    await ask(gateway, path, model="nobody")


async def client_left(gateway, path, script):
    async with aiohttp.ClientSession() as session:
        body = BODIES[path] | {"model": BY_TYPE["common"], "stream": True}
        async with session.post(gateway.url + path, json=body) as response:
            await response.content.readany()
            response.close()
    await asyncio.wait_for(script.left.wait(), 2)


async def stopped(gateway, path, script):
    body = BODIES[path] | {"model": BY_TYPE["common"], "stream": True}
    async with gateway.client.post(gateway.url + path, json=body) as response:
        await response.content.readany()
        await drain(gateway.app)
        await response.read()


async def mistake(gateway, path, script):
    async def fail(*_):
        raise KeyError("inner detail")

    gateway.app[RUNTIME].upstream._send = fail
    await ask(gateway, path)


async def late_mistake(gateway, path, script):
    """After the head has been sent, which says 200."""

    async def fail(self):
        raise KeyError("inner detail")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("droid2api.gateway.pump.ClientStream.finish", fail)
        with contextlib.suppress(aiohttp.ClientError):
            await ask(gateway, path)


LONG = {"chunks": [CHUNK] * 200, "pause": 0.02}
REFUSED = {"status": 429, "headers": {"Content-Type": "application/json"}, "chunks": [ERROR[6:]]}
ENDS = [
    ("finish", "", 200, just_ask, {"chunks": [CHUNK, DONE]}),
    ("client left", "", 200, client_left, LONG),
    ("request error", "not valid JSON", 400, bad_json, {}),
    ("request error", "'nobody' is not configured", 404, unknown_model, {}),
    ("credential error", "No credential", 401, just_ask, {}),
    ("upstream error", "Overloaded", 429, just_ask, REFUSED),
    ("upstream error", "Overloaded", 200, just_ask, {"chunks": [CHUNK, ERROR]}),
    ("upstream error", "Overloaded", 200, just_ask, {"chunks": [CHUNK, ERROR + b"data: [DONE]\n\n"]}),
    ("upstream error", "before its end", 200, just_ask, {"chunks": [CHUNK]}),
    ("upstream error", "nothing for 0.2 seconds", 504, just_ask, {"silence": 20}),
    ("stopped", "", 200, stopped, LONG),
    ("gateway error", OWN_FAULT, 500, mistake, {}),
    ("gateway error", OWN_FAULT, 200, late_mistake, {"chunks": [CHUNK, DONE]}),
]


@each_path
@pytest.mark.parametrize(("end", "error", "status", "play", "script"), ENDS)
async def test_how_it_ended(tmp_path, path, end, error, status, play, script):
    upstream = Scripted(**script)
    environment = {} if end == "credential error" else None
    config = {"log_format": "json", "timeouts": {"drain": 0.05, "first_byte": 0.2}}
    async with logged(tmp_path, upstream, environment, **config) as (gateway, lines):
        await play(gateway, path, upstream)
    (value,) = requests_in(lines)
    assert (value["end"], value["status"]) == (end, status)
    assert error in value["error"]
    assert bool(error) == bool(value["error"])
    assert value["level"] == ("info" if end in ("finish", "client left") else "warning")
    assert value["duration"] is not None


@pytest.mark.parametrize("status", [204, 302, 304])
async def test_what_is_no_answer_is_no_finish(tmp_path, status):
    """It is passed on as it is."""
    async with logged(tmp_path, Scripted(status=status, headers={}), log_format="json") as (gateway, lines):
        told, _, content = await gateway.ask("/v1/chat/completions", BODIES["/v1/chat/completions"])
        assert (told, content) == (status, b"")
    (value,) = requests_in(lines)
    assert (value["end"], value["error"]) == ("upstream error", f"The upstream's answer has the status {status}.")


# -- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({}, ["INFO", "WARNING"]),
        ({"log_level": "info"}, ["INFO", "WARNING"]),
        ({"log_level": "warning"}, ["WARNING"]),
        ({"log_level": "error"}, []),
        ({"log_level": "error", "dev_mode": True}, ["INFO", "WARNING"]),
    ],
)
async def test_levels(tmp_path, config, shown):
    async with logged(tmp_path, Scripted(chunks=[CHUNK, DONE]), **config) as (gateway, lines):
        await ask(gateway, "/v1/messages")
        await ask(gateway, "/v1/messages", model="nobody")
    assert [line.split()[2] for line in requests_in(lines)] == shown


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"log_format": "xml"}, "log_format: must be one of text, json, not 'xml'."),
        ({"log_format": 5}, "log_format: must be a string, not an integer."),
        ({"log_level": "loud"}, "log_level: must be one of debug, info, warning, error, not 'loud'."),
        ({"log_level": ["info"]}, "log_level: must be a string, not a list."),
    ],
)
def test_wrong_settings(tmp_path, config, said):
    file = tmp_path / "config.json"
    file.write_bytes(orjson.dumps(config))
    with pytest.raises(ConfigError, match=re.escape(f"{file}: {said}")):
        load(file, {})


def test_warnings_of_the_settings_are_told(tmp_path):
    with written(settings_for(tmp_path, "http://127.0.0.1:9", colour=1)) as lines:
        pass
    (line,) = lines
    assert line.endswith("config.json: colour: is not a setting, so it is ignored.")


# -- JSON -----------------------------------------------------------------------------------------------------------


async def test_every_line_of_json_is_an_object(tmp_path):
    async with logged(tmp_path, Scripted(), log_format="json", dev_mode=True) as (gateway, lines):
        await mistake(gateway, "/v1/messages", None)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(b"no HTTP\r\n\r\n")  # of which aiohttp logs
        await reader.read()
        writer.close()
    values = [json.loads(line) for line in lines]
    assert {"droid2api", "aiohttp.server", "droid2api.requests"} <= {value["logger"] for value in values}
    (failed,) = [value for value in values if "traceback" in value]
    assert failed["message"] == "POST /v1/messages failed"
    assert "KeyError: 'inner detail'" in failed["traceback"].splitlines()


@pytest.mark.parametrize("text", ["a\udcffb", "\x00\x1b\n\x85\u2028", "你好 🌍"])
def test_no_text_breaks_a_line_of_json(text):
    exchange = Exchange(text, text, asked=text, error=text, upstream_id=text, usage=Usage(1 << 70))
    record = logging.LogRecord("name", logging.INFO, "", 0, "%s", (text,), None)
    record.exchange = exchange
    (line,) = JsonFormatter().format(record).splitlines()
    value = json.loads(line)
    assert [value[name] for name in ("message", "id", "asked", "error", "upstream_id")] == [text] * 5
    assert value["usage"]["input"] == 1 << 70


# -- what cannot be forged ------------------------------------------------------------------------------------------

FORGED = "x\n2026-01-01 00:00:00,000 INFO droid2api.requests: forged\r\x1b[2K\x85\u2028\u202e"


def printable(lines):
    return all(line.isprintable() for line in lines)


@each_format
async def test_a_client_cannot_forge_a_line(tmp_path, monkeypatch, log_format):
    """By a model, a path or the name of a field."""
    monkeypatch.setattr(app, "model_card", lambda *_: 1 / 0)
    monkeypatch.setattr(logging.Formatter, "formatException", lambda *_: "a traceback")
    async with logged(tmp_path, Scripted(chunks=[CHUNK, DONE]), log_format=log_format) as (gateway, lines):
        await ask(gateway, "/v1/messages", model=FORGED)
        await ask(gateway, "/v1/messages", **{FORGED: 1})
        await ask(gateway, "/v1/messages", messages=[{"role": FORGED}])
        status, _, _ = await gateway.get("/v1/models/glm-4.6%0A2026?x=%0Ay")
        assert status == 404
        status, _, _ = await gateway.get("/v1%2fmodels/glm-4.6?x=%0Ay")
        assert status == 404
        assert (await gateway.get("/v1/models/glm-4.6?x=%0Ay"))[0] == 500
    assert len(requests_in(lines)) == 3
    assert len(lines) == (4 if log_format == "json" else 5)  # the traceback
    assert printable(lines)


@pytest.mark.parametrize(
    "user_agent", [FORGED, "\x1b[31mclaude-cli/1", "claude cli\tforged", "\udcff", "клиент/1", "a" * 500]
)
def test_a_user_agent_cannot_forge_a_line(user_agent):
    assert re.fullmatch(r"[\w./-]{1,61}", client_name(user_agent), re.ASCII)


@pytest.mark.parametrize("where", ["asked", "model", "error", "upstream_id"])
def test_no_field_breaks_the_line_of_text(where):
    exchange = Exchange("1", "curl", **{where: FORGED})
    assert "forged" in request_line(exchange)
    assert request_line(exchange).isprintable()


async def test_an_upstream_cannot_forge_a_line(tmp_path):
    """Of its answer dev_mode shows all."""
    error = orjson.dumps({"error": {"message": FORGED}})
    script = Scripted(status=503, headers={"Content-Type": "text/plain"}, chunks=[error, FORGED.encode()])
    async with logged(tmp_path, script, dev_mode=True) as (gateway, lines):
        for path in LANES:
            await ask(gateway, path)
    assert printable(lines)
    assert sum("answered: " in line for line in lines) == 1  # the relayed one
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: ", line) for line in lines)
    assert len(requests_in(lines)) == 2


# -- bodies ---------------------------------------------------------------------------------------------------------


@each_path
@pytest.mark.parametrize("stream", [True, False])
async def test_dev_mode_shows_bodies(tmp_path, path, stream):
    script = Scripted(chunks=[CHUNK, DONE])
    async with logged(tmp_path, script, dev_mode=True) as (gateway, lines):
        _, headers, content = await ask(gateway, path, stream=stream, max_tokens=77)
    shown = {}
    for line in lines:
        if found := re.search(rf" DEBUG droid2api: {headers['x-request-id']} (\w+): (.*)", line):
            shown[found[1]] = found[2]
    assert list(shown) == ["asked", "sent", "answered"]
    assert '"max_tokens":77' in shown["asked"]
    assert orjson.loads(shown["sent"]) == script.last
    assert shown["answered"] == content.decode().replace("\n", "\\n")


async def test_without_dev_mode_no_body_is_shown(tmp_path):
    async with logged(tmp_path, Scripted(chunks=[CHUNK, DONE]), log_level="debug") as (gateway, lines):
        await ask(gateway, "/v1/messages", messages=[{"role": "user", "content": "private words"}])
    assert requests_in(lines)
    assert not [line for line in lines if "private words" in line or "one " in line]


async def test_what_is_only_logged_is_cut_while_it_comes(tmp_path, monkeypatch):
    logged_sizes = []
    monkeypatch.setattr(pump, "log_body", lambda *body: logged_sizes.append(len(body[2])))
    script = Scripted(chunks=[CHUNK, *[b'data: {"choices":[]}\n\n' * 1000] * 20, DONE])
    async with logged(tmp_path, script, dev_mode=True) as (gateway, _):
        _, _, content = await ask(gateway, "/v1/chat/completions")
    assert len(content) > 400_000
    assert logged_sizes[-1] < 200_000


@pytest.mark.parametrize("piece", [b"-eyJ", b"eyJ-", b"sk-", b".eyJ", b"eyJhbGciOiJI.", b"AIza ", b"a" * 199 + b" "])
def test_time_to_mask_grows_with_the_body(piece):
    assert_linear(lambda size: partial(without_secrets, piece * (size // len(piece)), ["test-key-planted"]), 16_000)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-", "-***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.", "***"),
        ("eyJhbGciOiJIUzI1NiJ9 is no token", "eyJhbGciOiJIUzI1NiJ9 is no token"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0"),
        ("eyJ eyJhbGciOiJIUzI1NiJ9.e.s", "eyJ ***"),
    ],
)
def test_a_signed_token_is_masked_and_its_beginning_alone_is_not(text, shown):
    assert without_secrets(text.encode(), []) == shown


def test_a_long_body_costs_no_more_than_what_is_shown(caplog):
    secret = "a-secret-of-mine"
    for before in range(BODY_KEPT - 20, BODY_KEPT):
        content = (
            b'{"a": "' + b"iVBO" * (before // 4) + b"A" * (before % 4) + f'","{secret}'.encode() + b"x" * 40_000_000
        )
        log_body("asked", "1", content, [secret])
        assert not any(secret[:length] in caplog.messages[-1] for length in range(4, 16))
        assert len(caplog.messages[-1]) < 200
        assert caplog.messages[-1].endswith(f"... (more than {BODY_KEPT} characters)")


KEYS = [
    "sk-ant-api03-0123456789abcdef",
    "fk-0123456789abcdefghij",
    "ghp_0123456789abcdefghij",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.c2ln",
]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("a" * (BODY_SHOWN + 5), "a" * BODY_SHOWN + f" ... ({BODY_SHOWN + 5} characters)"),
        ("a" * BODY_SHOWN, "a" * BODY_SHOWN),
        ("[a-secret-of-mine]", "[***]"),
        (r"[a-secret\u002Dof-min\u0065]", "[***]"),
        ("a" * (BODY_SHOWN - 5) + "a-secret-of-mine", "a" * (BODY_SHOWN - 5) + "***"),  # masked before it is cut
        *((f'{{"key": "{key}"}}', '{"key": "***"}') for key in KEYS),
        ('"iVBORw0KGgo' + "A" * 500 + '=="', '"<513 characters of base64>"'),
        ("sk-short, task-force-of-the-whole-team", "sk-short, task-force-of-the-whole-team"),
        ("\xff", "\xff"),
    ],
)
def test_bodies_are_masked_and_cut(caplog, content, shown):
    content = content.replace("a" * 100, "a b " * 25)  # else it would be base64
    log_body("asked", "1", content.encode(), ["a-secret-of-mine"])
    assert caplog.messages == [f"1 asked: {shown.replace('a' * 100, 'a b ' * 25)}"]


@each_format
@each_path
@pytest.mark.parametrize("script", [{"status": 401}, {}])
async def test_no_key_is_in_a_line(tmp_path, path, log_format, script):
    """Not one in a header, the body or the URL, nor one that the upstream repeats; `written` looks for them."""
    said = b'{"error":{"message":"Bad key test-key or client-key-1"}}'
    kind = {"Content-Type": "application/json"} if script else {"Content-Type": "text/event-stream"}
    upstream = Scripted(headers=kind, chunks=[said] if script else [CHUNK, b"data: %b\n\n" % said], **script)
    async with logged(tmp_path, upstream, log_format=log_format, dev_mode=True) as (gateway, lines):
        headers = {"Authorization": "Bearer client-key-1", "x-api-key": "client-key-2"}
        body = BODIES[path] | {"model": BY_TYPE["common"], "stream": True}
        body["messages"] = [{"role": "user", "content": "test-key client-key-1 client-key-2"}]
        await gateway.ask(f"{path}?key=client-key-3", body, headers)
        await gateway.ask(f"{path}?key=client-key-3", body | {"model": "nobody"}, headers)
        await mistake(gateway, path, upstream)
    assert len(requests_in(lines)) == 3
    assert any("Bad key *** or ***" in line for line in lines)


def test_text_has_time_level_and_name():
    record = logging.LogRecord("droid2api.auth", logging.WARNING, "", 0, "said %s", ("this",), None)
    assert re.fullmatch(r"[\d-]{10} [\d:,]{12} WARNING droid2api\.auth: said this", TextFormatter().format(record))


# -- who reads it ---------------------------------------------------------------------------------------------------


def test_who_reads_nothing_loses_lines_and_is_told_how_many(monkeypatch):
    """The lines that are dropped are those after what may wait; nobody waits for the reader."""
    reading, written_lines = threading.Event(), []

    def write(number, content):
        reading.wait(10)
        written_lines.extend(content.decode().splitlines())
        return len(content)

    monkeypatch.setattr(logs, "WAITING_LIMIT", 1000)
    monkeypatch.setattr(os, "write", write)
    handler = logs.BackgroundHandler()
    handler.setFormatter(JsonFormatter())
    for number in range(50):
        handler.emit(logging.LogRecord("droid2api", logging.INFO, "", 0, "line %d", (number,), None))
    reading.set()
    handler.flush()
    handler.emit(logging.LogRecord("droid2api", logging.INFO, "", 0, "later", (), None))
    handler.flush()
    messages = [json.loads(line)["message"] for line in written_lines]
    (told,) = [message for message in messages if "dropped" in message]
    kept = len(messages) - 2
    assert told == f"{50 - kept} lines of the log were dropped: nobody read them."
    assert messages[:3] == ["line 0", "line 1", "line 2"]
    assert "later" in messages


def test_a_line_of_json_is_cut():
    """Who collects them cuts longer ones, and then they are no JSON."""
    exchange = Exchange("1", "c", asked="a" * 5000, error="\U0001f30d" * 90_000, usage=Usage(7))
    exchange.dropped = [f"field-{number}" for number in range(50_000)]
    record = logging.LogRecord("name", logging.INFO, "", 0, "%s", ("m" * 90_000,), None)
    record.exchange = exchange
    line = JsonFormatter().format(record)
    value = json.loads(line)
    assert len(line) < LINE_LIMIT
    assert (value["id"], value["usage"]["input"], value["asked"]) == ("1", 7, "a" * 1000)
    assert value["cut"] > 1_000_000
