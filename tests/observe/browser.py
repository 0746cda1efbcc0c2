"""A real browser for slow tests, and a gateway whose page has something to show."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta

import pytest

from droid2api.demo import Demo
from droid2api.gateway.exchange import Exchange
from droid2api.hub.events import Usage
from droid2api.observe.page import Feed
from droid2api.observe.usage import write
from droid2api.server.keys import OBSERVERS
from tests.credentials.service import FIRST_KEY, settled
from tests.harness import MODELS, Gateway, gateway_for, serving, settings_for

SWITCHES = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run --no-proxy-server --hide-scrollbars"
).split()


def find_chromium() -> str:
    """Its path. A machine without one still has the fast tests of the page; CI installs it."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return found or pytest.skip("chromium is not installed")  # a developer need not have it: .ci/run installs it


@asynccontextmanager
async def browser_page(folder, problems=None, **context) -> AsyncIterator:
    """A page of a new Chromium; `problems` collects what its console complains of. `context` as Playwright's."""
    playwright = pytest.importorskip("playwright.async_api")
    async with playwright.async_playwright() as driver:
        window = await driver.chromium.launch_persistent_context(
            folder / "browser", executable_path=find_chromium(), args=SWITCHES, **context
        )
        try:
            page = await window.new_page()
            page.set_default_timeout(15_000)
            if problems is not None:
                page.on("console", lambda message: problems.append(message.text) if message.type != "log" else None)
                page.on("pageerror", lambda error: problems.append(str(error)))
            yield page
        finally:
            await window.close()


# -- something to show ----------------------------------------------------------------------------------------------

FACTORY = "https://api.factory.ai/api/llm"
ENDPOINTS = [
    {"name": "anthropic", "base_url": f"{FACTORY}/a/v1/messages"},
    {"name": "openai", "base_url": f"{FACTORY}/o/v1/responses"},
    {
        "name": "zhipu",
        "base_url": "https://open.bigmodel.cn/api/coding/paas/v4/chat/completions",
        "api_key_env": "ZHIPU_KEY",
    },
]
SHOWN_MODELS = [*MODELS[:4], {"id": "glm-4.6", "type": "common", "endpoint": "zhipu", "name": "GLM 4.6"}]


@asynccontextmanager
async def gateway_at_work(folder) -> AsyncIterator[Gateway]:
    """A month behind it, several clients; nobody asks its upstreams, which are real names."""
    environment = {"DROID_REFRESH_KEY": FIRST_KEY, "ZHIPU_KEY": "planted-own-key"}
    async with serving(Demo().app()) as service:
        settings = settings_for(folder, service, environment, endpoint=ENDPOINTS, models=SHOWN_MODELS)
        write_usage(settings.data_folder)
        async with gateway_for(settings) as gateway:
            await settled(gateway)
            for each in some_exchanges():
                tell(gateway, each)
            yield gateway


def feed_of(app) -> Feed:
    return next(observer for observer in app[OBSERVERS] if type(observer) is Feed)


def tell(gateway, exchange) -> None:
    feed = feed_of(gateway.app)
    feed.began(exchange)
    if exchange.end:
        feed.ended(exchange)


def write_usage(folder) -> None:
    """A month's work with four models, one of them without a price: quiet at weekends, the same at each call."""
    shares = {
        "claude-sonnet-4-5-20250929": (61, 1.1e-6),
        "gpt-5.5": (29, 1.3e-6),
        "claude-haiku-4-5-20251001": (17, 0.4e-6),
        "glm-4.6": (9, 0),
    }
    batch = {}
    for back in range(30):
        day = date.today() - timedelta(days=back)
        for number, (model, (share, dollars)) in enumerate(shares.items()):
            busy = 1 + (back * 7 + number * 5) % 11
            if requests := share * busy // (14 if day.weekday() > 4 else 3):
                tokens = requests * 21_400
                counts = [requests, requests // 40, tokens, tokens // 27, tokens * 7 // 9, tokens // 11, tokens // 80]
                counts += [tokens * dollars, requests, 0] if dollars else [0, 0, requests]
                batch[day.isoformat(), model, "claude-cli"] = counts
    write(folder / "usage.db", batch)


def exchange(id="1", **values) -> Exchange:
    """One that runs, of Claude Code."""
    known = {"asked": "claude-haiku-4-5", "model": "claude-haiku-4-5-20251001", "upstream": "anthropic", "stream": True}
    return Exchange(id, **{"client": "claude-cli", "format": "anthropic"} | known | values)


def ended(id="1", seconds=2.0, **values) -> Exchange:
    """One that was answered well, unless `values` say other."""
    usage = Usage(18_204, 412, 16_900, 640, 96)
    known = {"status": 200, "end": "finish", "first_byte": 0.412, "duration": seconds, "usage": usage}
    return exchange(id, **known | values)


def some_exchanges() -> list[Exchange]:
    """Of several clients: good ones, failed ones, and one that still runs."""
    now = time.time()
    sonnet = {"asked": "claude-sonnet-4-5-20250929", "model": "claude-sonnet-4-5-20250929"}
    gpt = {"client": "codex_cli_rs", "format": "responses", "upstream": "responses", "asked": "gpt-5.5"}
    gpt |= {"model": "gpt-5.5"}
    glm = {"client": "opencode", "format": "chat", "upstream": "chat", "asked": "glm-4.6", "model": "glm-4.6"}
    aider = {"client": "aider", "format": "chat"} | sonnet | {"asked": "claude-sonnet-4-5"}
    nothing = {"usage": None, "first_byte": None}
    unknown = {"client": "OpenAI/Python", "format": "chat", "asked": "gpt-4o", "model": "", "upstream": ""} | nothing
    unknown |= {"status": 404, "end": "request error", "stream": False}
    limit = {"status": 429, "end": "upstream error", "error": "Rate limit reached. Try again in 20 s."} | nothing
    away = {"status": 502, "end": "upstream error", "error": "The upstream is not reachable: connection refused."}
    known = "model: 'gpt-4o' is not configured. Configured models: claude-sonnet-4-5-20250929, gpt-5.5, glm-4.6."
    return [
        ended("a", 12.41, began=now - 312, **sonnet),
        ended("b", 3.02, began=now - 288, **glm | {"usage": Usage(4_810, 233)}),
        ended("c", 0.81, began=now - 251, **gpt | limit),
        ended("d", 41.7, began=now - 230, **gpt, usage=Usage(88_120, 3_912, 80_640, 0, 2_204), first_byte=2.91),
        ended("e", 0.004, began=now - 171, **unknown, error=known),
        ended("f", 1.37, began=now - 140, usage=Usage(2_104, 96)),
        ended("g", 2.44, began=now - 121, **aider),
        ended("h", 10.02, began=now - 96, **glm | away | nothing),
        ended("i", 19.8, began=now - 64, **sonnet, usage=Usage(122_904, 1_877, 121_300, 900, 640), first_byte=1.204),
        ended("j", 5.11, began=now - 33, **sonnet, end="client left", usage=None),
        ended("k", 8.9, began=now - 21, **gpt, usage=Usage(91_040, 740, 88_064, 0, 320), first_byte=1.77),
        exchange("l", began=now - 7, **sonnet),
    ]
