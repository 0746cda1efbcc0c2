"""The page and what it reads, over HTTP: whom it is given to, what it tells, and that it never tells a secret."""

import asyncio
import base64
import contextlib
import hashlib
import re
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import aiohttp
import orjson
import pytest
from aiohttp import web

from droid2api.application import create_app
from droid2api.gateway.exchange import End
from droid2api.hub.events import Usage
from droid2api.observe import page
from droid2api.observe.page import KEPT, KEPT_ERRORS, SHOWN
from droid2api.server.keys import RUNTIME
from tests.conftest import SECRETS
from tests.credentials.service import FIRST_KEY, Service, settled
from tests.harness import (
    BY_TYPE,
    Gateway,
    Scripted,
    demo_gateway,
    gateway_for,
    scripted_gateway,
    serving,
    settings_for,
)
from tests.observe.browser import ended, exchange, feed_of, some_exchanges, tell, write_usage

NOWHERE = "http://127.0.0.1:1"
HTML = (Path(page.__file__).parent / "page.html").read_text(encoding="utf-8")
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
JSON = {"Content-Type": "application/json"}
KEY = {"Authorization": "Bearer planted-gateway-key"}
LOCKED = {"api_keys": ["planted-gateway-key"]}
READ = [
    ("GET", "/status"),
    ("GET", "/status/captures"),
    ("GET", "/status/events"),
    ("GET", "/status/setups"),
    ("POST", "/status/refresh"),
]
each_read = pytest.mark.parametrize(("method", "path"), READ, ids=[path for _, path in READ])


def gateway(folder, environment=None, **config):
    return gateway_for(settings_for(folder, NOWHERE, environment, **config))


async def head(server, method, path, headers=None):
    """The status of the answer; its body may be endless."""
    async with server.client.request(method, server.url + path, headers=JSON | (headers or {})) as response:
        return response.status


async def state_of(server, headers=None):
    status, told, content = await server.get("/status", headers)
    assert (status, told["Content-Type"], told["Cache-Control"]) == (200, "application/json", "no-store")
    return orjson.loads(content)


@asynccontextmanager
async def events_of(server, headers=None):
    """The open stream, after what it begins with: from then on no event is missed."""
    async with server.client.get(server.url + "/status/events", headers=headers) as response:
        assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
        assert await line_of(response) == b":"
        yield response


async def line_of(response):
    """The next line, b"" at the end."""
    async with asyncio.timeout(10):
        while (line := await response.content.readline()) == b"\n":
            pass
    return line.strip()


async def event_of(response):
    line = await line_of(response)
    assert line.startswith(b"data: ")
    return orjson.loads(line.removeprefix(b"data: "))


# -- the page itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "is_page"), [(BROWSER["Accept"], True), ("text/html", True), ("*/*", False), ("application/json", False)]
)
async def test_html_for_a_browser_only(tmp_path, accept, is_page):
    async with gateway(tmp_path) as server:
        status, headers, content = await server.get("/", {"Accept": accept})
        assert status == 200
        if is_page:
            assert (headers["Content-Type"], content.decode()) == ("text/html; charset=utf-8", HTML)
            assert headers["Cache-Control"] == "no-store"
        else:
            assert orjson.loads(content)["name"] == "droid2api"


async def test_who_has_no_key_gets_the_page_and_nothing_else(tmp_path):
    async with gateway(tmp_path, **LOCKED) as server:
        assert (await server.get("/", BROWSER))[2].decode() == HTML
        assert (await server.get("/"))[0] == 401
        assert (await server.get("/", KEY))[0] == 200


def hash_of(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


async def test_content_security_policy(tmp_path):
    async with gateway(tmp_path) as server:
        _, headers, content = await server.get("/", BROWSER)
    [script], [style] = (
        re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", content.decode(), re.S) for tag in ("script", "style")
    )
    parts = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert parts == {
        "default-src": "'none'",
        "script-src": hash_of(script),
        "style-src": hash_of(style),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert not re.search(r"""<[^>]*\s(on\w+|style)=""", content.decode().replace(script, ""))  # it would be refused


def test_a_page_with_the_line_ends_of_windows(tmp_path, monkeypatch):
    (tmp_path / "page.html").write_bytes(HTML.replace("\n", "\r\n").encode())
    html, policy = page._read_page.__wrapped__()
    monkeypatch.setattr(page, "__file__", str(tmp_path / "page.py"))
    assert page._read_page.__wrapped__() == (html, policy)


def test_the_page_loads_nothing_from_elsewhere():
    assert set(re.findall(r"https?://[^\s\"'`)]+", HTML)) == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert not re.search(r"""@import|url\(|["'`(]//|\bsrc=|<(iframe|object|embed|base|form [^>]*action)""", HTML)
    assert re.findall(r'href="(\w+:)', HTML) == ["data:"]
    assert set(re.findall(r"""(?:fetch|ask)\(["'`]([^"'`?]*)""", HTML)) == {
        *(path for _, path in READ),
        "/status/captures/${encodeURIComponent(id)}",
    }


def test_no_text_becomes_html_or_code():
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser", HTML
    )


def texts(language):
    """The names of the page's texts in a language, in their order."""
    found = re.search(rf"^  {language}: {{\n(.*?)^  }},\n", HTML, re.S | re.M)
    bare = re.sub(r'"((?:[^"\\]|\\.)*)"(:?)', lambda text: text[0] if text[2] else '""', found.group(1))
    return re.findall(r'(?:(?<=[{,]) |^ +)"?(\w[\w ]*)"?: ', bare, re.M)


def test_both_languages_have_the_same_texts():
    names = texts("en")
    assert names == texts("zh")
    assert len(names) == len(set(names)) > 80
    assert {*get_args(End), ""} <= {*names, ""}


def test_each_text_is_used_and_each_used_is_there():
    script = re.sub(r"^const TEXT = .*?^};\n", "", HTML, flags=re.S | re.M)
    found = re.findall(r'\btext\.(\w+)|data-text="(\w+)"|\["(\w+)", "(?:n|client|model)?"\]', script)
    used = {name for names in found for name in names if name}
    by_value = {"relay", "translate", *get_args(End)} - {""}
    assert used <= set(texts("en"))
    assert set(texts("en")) == used | by_value


# -- whom it is told ------------------------------------------------------------------------------------------------


@each_read
async def test_the_key_is_wanted(tmp_path, method, path):
    async with gateway(tmp_path, {"DROID_REFRESH_KEY": FIRST_KEY}, **LOCKED) as server:
        assert await head(server, method, path) == 401
        assert await head(server, method, path, {"Authorization": "Bearer other"}) == 401
        assert await head(server, method, path, KEY) == 200
        assert await head(server, method, path, {"x-api-key": "planted-gateway-key"}) == 200


@each_read
async def test_other_sites_are_refused(tmp_path, method, path):
    async with gateway(tmp_path, {"DROID_REFRESH_KEY": FIRST_KEY}) as server:
        assert await head(server, method, path, {"Origin": "https://evil.example"}) == 403
        assert await head(server, method, path, {"Origin": "null"}) == 403
        assert await head(server, method, path, {"Host": "evil.example"}) == 403
        assert await head(server, method, path, {"Origin": server.url}) == 200


async def test_a_form_of_another_site_renews_nothing(tmp_path):
    async with gateway(tmp_path, {"DROID_REFRESH_KEY": FIRST_KEY}) as server:
        assert await head(server, "POST", "/status/refresh", {"Content-Type": "text/plain"}) == 415


# -- what it is told ------------------------------------------------------------------------------------------------


async def test_the_state(tmp_path):
    endpoints = [
        {"name": "anthropic", "base_url": NOWHERE + "/v1/messages?key=planted-query"},
        {"name": "zhipu", "base_url": NOWHERE + "/z", "api_key_env": "ZHIPU_KEY"},
        {"name": "other", "base_url": NOWHERE + "/o", "api_key_env": "OTHER_KEY"},
    ]
    models = [
        {"id": "claude", "type": "anthropic", "name": "Claude", "reasoning": "high"},
        {"id": "glm", "type": "common", "endpoint": "zhipu"},
        {"id": "free", "type": "common", "endpoint": "other"},
    ]
    environment = {"FACTORY_API_KEY": "test-key", "ZHIPU_KEY": "planted-own-key"}
    async with gateway(tmp_path, environment, endpoint=endpoints, models=models) as server:
        told = await state_of(server)
    assert told["credential"] == {"source": "FACTORY_API_KEY", "state": "ok", "refreshes": False}
    assert told["needs_key"] is False
    assert told["endpoints"] == [
        {"name": "anthropic", "url": NOWHERE + "/v1/messages", "key": "", "key_is_set": False},
        {"name": "zhipu", "url": NOWHERE + "/z", "key": "ZHIPU_KEY", "key_is_set": True},
        {"name": "other", "url": NOWHERE + "/o", "key": "OTHER_KEY", "key_is_set": False},
    ]
    assert told["models"][0] == {
        "id": "claude",
        "name": "Claude",
        "type": "anthropic",
        "endpoint": "anthropic",
        "reasoning": "high",
    }
    assert abs(told["now"] - time.time()) < 5
    assert (told["recent"], told["errors"]) == ([], [])
    assert told["usage"] == {"today": date.today().isoformat(), "days": []}


async def test_no_secret_is_told(tmp_path):
    """Not one that an upstream repeats in its error, either."""
    wrong = orjson.dumps({"error": {"message": "Wrong: test-key, planted-header, planted-own-key."}})
    script = Scripted(401, JSON, [wrong])
    async with serving(script.app()) as upstream:
        place = {"base_url": upstream + "/v1/messages?key=planted-query", "headers": {"x-secret": "planted-header"}}
        endpoints = [{"name": "anthropic"} | place, {"name": "common", "api_key_env": "OWN"} | place]
        environment = {"FACTORY_API_KEY": "test-key", "OWN": "planted-own-key"}
        settings = settings_for(tmp_path, upstream, environment, endpoint=endpoints, **LOCKED)
        async with gateway_for(settings) as server, events_of(server, KEY) as events:
            body = {"model": BY_TYPE["anthropic"], "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
            assert (await server.ask("/v1/messages", body, KEY))[0] == 401
            told = [orjson.dumps([await event_of(events), await event_of(events)])]
            for path in ("/status", "/status/setups", "/"):
                told.append((await server.get(path, KEY | BROWSER))[2])
    assert len(script.requests) == 1
    assert b"Wrong: " in told[0]
    assert b"Wrong: " in told[1]
    assert not SECRETS.search(b"".join(told).decode())


async def test_what_is_told_of_an_exchange(tmp_path):
    async with gateway(tmp_path) as server:
        for one in some_exchanges():
            tell(server, one)
        told = await state_of(server)
        last = told["recent"][-1]
        assert (last["id"], last["duration"], last["end"], last["lane"]) == ("l", None, "", "relay")
        assert [each["id"] for each in told["recent"]] == list("abcdefghijkl")
        assert [each["id"] for each in told["errors"]] == ["c", "e", "h"]
        assert told["errors"][0] == told["recent"][2]
        assert all(sorted(each) == sorted(SHOWN) for each in told["recent"])
        assert told["recent"][0]["usage"] == dict(zip(Usage.__slots__, (18_204, 412, 16_900, 640, 96), strict=True))


async def test_what_is_kept_is_bounded(tmp_path):
    """Also where clients and upstreams are not: what is long is cut, and a number is one that JSON can hold."""
    long = {"end": "upstream error", "status": 500, "error": "€" * 100_000, "dropped": ["x" * 1000] * 1000}
    async with gateway(tmp_path) as server:
        feed = feed_of(server.app)
        running = exchange("running")
        feed.began(running)
        for number in range(4 * KEPT):
            one = ended(str(number), usage=Usage(10**30, 10**30), upstream_id="x" * 9000, **long)
            tell(server, one)
        told = await state_of(server)
        assert [each["id"] for each in told["recent"]] == [*(str(id) for id in range(3 * KEPT, 4 * KEPT)), "running"]
        assert len(told["errors"]) == KEPT_ERRORS
        assert max(len(orjson.dumps(each)) for each in told["recent"]) < 4000
        feed.ended(replace(running, duration=1.0, end="finish"))
        assert (await state_of(server))["recent"][-1]["end"] == "finish"


async def test_usage(tmp_path):
    async with gateway(tmp_path) as server:
        write_usage(tmp_path / "data")
        usage = (await state_of(server))["usage"]
    assert usage["today"] == usage["days"][-1]["day"] == date.today().isoformat()
    assert len({row["day"] for row in usage["days"]}) == 30
    names = {"day", "model", "key", "requests", "errors", "input", "output", "cache_read", "cache_write", "reasoning"}
    names |= {"cost", "unpriced"}
    assert all(set(row) == names for row in usage["days"])
    assert {row["model"] for row in usage["days"]} == {
        "claude-sonnet-4-5-20250929",
        "gpt-5.5",
        "claude-haiku-4-5-20251001",
        "glm-4.6",
    }
    assert all(row["input"] == 21_400 * row["requests"] for row in usage["days"])


async def test_an_answer_is_counted_in_usage(tmp_path, monkeypatch):
    monkeypatch.setattr("droid2api.observe.usage.WRITE_EVERY", 0.02)
    async with demo_gateway(tmp_path) as server:
        body = {"model": BY_TYPE["common"], "messages": [{"role": "user", "content": "hi"}]}
        assert (await server.ask("/v1/chat/completions", body))[0] == 200
        async with asyncio.timeout(10):
            while not (days := (await state_of(server))["usage"]["days"]):  # noqa: ASYNC110 - of a thread
                await asyncio.sleep(0.02)
        [row] = days
        assert (row["model"], row["requests"], row["errors"]) == (BY_TYPE["common"], 1, 0)
        assert row["input"] > 0


async def test_usage_that_cannot_be_read_is_a_problem_of_its_own(tmp_path, monkeypatch):
    file = tmp_path / "data" / "usage.db"
    file.parent.mkdir()
    file.write_bytes(b"no database" * 1000)
    async with gateway(tmp_path) as server:
        usage = (await state_of(server))["usage"]
        assert (usage["days"], "not a database" in usage["problem"]) == ([], True)
        monkeypatch.setattr("droid2api.observe.usage.sqlite3", None)
        assert "built without SQLite" in (await state_of(server))["usage"]["problem"]


async def test_setups(tmp_path):
    async with gateway(tmp_path) as server:
        found = orjson.loads((await server.get("/status/setups"))[2])
        assert [each["tool"] for each in found] == [
            "claude",
            "codex",
            "droid",
            "openai",
            "opencode",
            "cline",
            "aider",
            "gemini",
        ]
        assert all("http://" + urlsplit(server.url).netloc in orjson.dumps(each).decode() for each in found)
        assert "ANTHROPIC_AUTH_TOKEN=any\n" in found[0]["parts"][0]["text"]
        asked = (await server.get("/status/setups?model=gpt-5.5&scheme=https", {"Host": "localhost:99"}))[2].decode()
        assert all("https://localhost:99" in part and "gpt-5.5" in part for part in asked.split('"tool"')[1:])
        assert (await server.get("/status/setups?model=none"))[0] == 404


async def test_setups_with_a_key(tmp_path):
    async with gateway(tmp_path, **LOCKED) as server:
        assert b"ANTHROPIC_AUTH_TOKEN=YOUR_KEY" in (await server.get("/status/setups", KEY))[2]
    async with gateway(tmp_path, {}) as server:  # passed on to the upstream
        assert b"ANTHROPIC_AUTH_TOKEN=YOUR_KEY" in (await server.get("/status/setups"))[2]


async def test_setups_without_models(tmp_path):
    async with gateway(tmp_path, models=[]) as server:
        status, _, content = await server.get("/status/setups")
        assert (status, content) == (200, b"[]")
        assert (await state_of(server))["models"] == []


# -- events ---------------------------------------------------------------------------------------------------------


async def test_an_event_at_the_begin_and_one_at_the_end(tmp_path):
    script = Scripted(chunks=[b": alive\n\n"], cut=True)
    async with scripted_gateway(tmp_path, script) as server, events_of(server) as events:
        body = {"model": BY_TYPE["anthropic"], "max_tokens": 9, "stream": True, "messages": []}
        asking = asyncio.create_task(server.ask("/v1/messages", body, {"User-Agent": "claude-cli/2.0"}))
        began = await event_of(events)
        assert (began["client"], began["model"], began["duration"]) == ("claude-cli", BY_TYPE["anthropic"], None)
        end = await event_of(events)
        status, headers, _ = await asking
        assert (end["id"], end["status"], end["end"]) == (headers["x-request-id"], status, "upstream error")
        assert end["id"] == began["id"]
        assert end["duration"] > 0
        assert (await state_of(server))["recent"] == [end]


async def test_a_request_that_is_refused_is_an_exchange_too(tmp_path):
    async with gateway(tmp_path) as server, events_of(server) as events:
        await server.ask("/v1/chat/completions", {"model": "gpt-1"})
        began, end = await event_of(events), await event_of(events)
        assert (began["asked"], began["model"], end["status"], end["end"]) == ("gpt-1", "", 404, "request error")


async def test_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "HEARTBEAT", 0.02)
    async with gateway(tmp_path) as server, events_of(server) as events:
        assert [await line_of(events) for _ in range(3)] == [b":"] * 3
        feed_of(server.app).began(exchange())
        while (line := await line_of(events)) == b":":
            pass
        assert line.startswith(b"data: ")


async def stuck_page(server):
    """The socket of a page that reads nothing after the first bytes."""
    reading = socket.socket()
    reading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reading.setblocking(False)
    loop, place = asyncio.get_running_loop(), urlsplit(server.url)
    await loop.sock_connect(reading, (place.hostname, place.port))
    await loop.sock_sendall(reading, f"GET /status/events HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
    assert (await loop.sock_recv(reading, 12)) == b"HTTP/1.1 200"
    return reading


async def fill(feed, waiting):
    """Events for all pages until the one with this queue is no longer sent any."""
    async with asyncio.timeout(20):
        while waiting.empty():
            feed.began(exchange(error="€" * 1000))
            for _ in range(100):
                await asyncio.sleep(0)


async def test_a_page_that_is_too_slow_is_dropped(tmp_path, monkeypatch):
    async with gateway(tmp_path) as server, events_of(server) as events:
        feed = feed_of(server.app)
        monkeypatch.setattr(page, "WAITING", 8)
        stuck = await stuck_page(server)
        with stuck:
            quick, slow = feed._pages
            reading = asyncio.create_task(drain(events))
            await fill(feed, slow)
            for number in range(8):
                assert slow in feed._pages
                feed.began(exchange(str(number)))
            assert slow not in feed._pages
            assert quick in feed._pages  # and reads on
            await closed(stuck)
        feed.began(exchange("last"))
        async with asyncio.timeout(10):
            assert await reading == "last"


async def drain(events):
    while (event := await event_of(events))["id"] != "last":
        pass
    return event["id"]


async def closed(reading):
    """Until the other side has ended the connection; aborted, so that what was not taken is lost."""
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(10):
            while await asyncio.get_running_loop().sock_recv(reading, 1_000_000):
                pass


async def test_a_page_that_has_left_is_forgotten(tmp_path):
    async with gateway(tmp_path) as server:
        async with events_of(server):
            assert len(feed_of(server.app)._pages) == 1
        async with asyncio.timeout(10):
            while feed_of(server.app)._pages:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)


@asynccontextmanager
async def stoppable(folder):
    """A gateway as the command line runs it, which gives streams 30 seconds to finish."""
    settings = settings_for(folder, NOWHERE, timeouts={"drain": 30})
    runner = await create_app(settings)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as client:
        try:
            yield runner, Gateway(url, runner.app, client)
        finally:
            await runner.cleanup()


async def test_an_open_page_does_not_hold_up_a_stop(tmp_path):
    async with stoppable(tmp_path) as (runner, server), events_of(server) as events:
        feed_of(server.app).began(exchange("last"))
        began = time.monotonic()
        await runner.cleanup()
        assert time.monotonic() - began < 5
        assert (await event_of(events))["id"] == "last"
        assert await line_of(events) == b""


async def test_a_page_that_is_stuck_does_not_either(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "CLOSE_TIMEOUT", 0.05)
    async with stoppable(tmp_path) as (runner, server):
        with await stuck_page(server):
            feed = feed_of(server.app)
            [waiting] = feed._pages
            await fill(feed, waiting)
            began = time.monotonic()
            await runner.cleanup()
            assert time.monotonic() - began < 5


async def test_no_page_is_opened_during_a_stop(tmp_path):
    async with gateway(tmp_path) as server:
        await feed_of(server.app).close(server.app)
        status, _, content = await server.get("/status/events")
        assert (status, "stopping" in content.decode()) == (503, True)


# -- the credential, and settings read again ------------------------------------------------------------------------


async def test_refresh(tmp_path):
    service = Service(lifetime=3600)
    async with (
        serving(service.app()) as upstream,
        gateway_for(settings_for(tmp_path, upstream, {"DROID_REFRESH_KEY": FIRST_KEY})) as server,
    ):
        await settled(server)
        before = (await state_of(server))["credential"]
        service.lifetime = 7200
        status, _, content = await server.ask("/status/refresh", {})
        after = orjson.loads(content)
        assert (status, service.refreshes) == (200, 2)
        assert after == (await state_of(server))["credential"]
        assert after == before | {"expires_at": after["expires_at"]}
        assert abs(after["expires_at"] - time.time() - 7200) < 30
        assert after["refreshes"] is True


async def test_a_refresh_that_fails_is_told(tmp_path):
    async def down():
        return web.json_response({"error": "server_error"}, status=500)

    service = Service()
    async with (
        serving(service.app()) as upstream,
        gateway_for(settings_for(tmp_path, upstream, {"DROID_REFRESH_KEY": FIRST_KEY})) as server,
    ):
        await settled(server)
        service.token_answer = down
        told = [orjson.loads((await server.ask("/status/refresh", {}))[2]), (await state_of(server))["credential"]]
        service.token_answer = None
        mended = orjson.loads((await server.ask("/status/refresh", {}))[2])
    assert told[0] == told[1]
    assert told[0]["state"] == "failing"
    assert "answered 500 (server_error)" in told[0]["problem"]
    assert (mended["state"], "problem" in mended) == ("ok", False)


@pytest.mark.parametrize("environment", [{"FACTORY_API_KEY": "test-key"}, {}])
async def test_what_is_not_renewed(tmp_path, environment):
    async with gateway(tmp_path, environment) as server:
        assert (await server.ask("/status/refresh", {}))[0] == 409


async def test_settings_that_were_read_again(tmp_path):
    async with gateway(tmp_path, {"DROID_REFRESH_KEY": FIRST_KEY}) as server, events_of(server) as events:
        models = [{"id": "new", "type": "openai"}]
        await server.app[RUNTIME].apply(settings_for(tmp_path, NOWHERE, models=models, **LOCKED))
        told = await state_of(server, KEY)
        assert (told["needs_key"], told["credential"]["source"]) == (True, "FACTORY_API_KEY")
        assert [model["id"] for model in told["models"]] == ["new"]
        assert [endpoint["name"] for endpoint in told["endpoints"]] == ["openai"]
        assert b"YOUR_KEY" in (await server.get("/status/setups", KEY))[2]
        feed_of(server.app).began(exchange())
        assert await line_of(events) == b""  # who has no key is told no more


async def test_pages_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST_PAGES", 2)
    async with demo_gateway(tmp_path) as gateway:
        opened = [await gateway.client.get(gateway.url + "/status/events") for _ in range(2)]
        status, _, content = await gateway.get("/status/events")
        assert (status, b"2 pages are open already" in content) == (429, True)
        for response in opened:
            response.close()
