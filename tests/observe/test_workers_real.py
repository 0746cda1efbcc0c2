"""Two real gunicorn workers with the shipped configuration: /metrics tells of both, whichever is asked."""

import asyncio
import re
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.credentials.service import Service
from tests.harness import BY_TYPE, serving, until
from tests.workers import SHIPPED, gunicorn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(90),
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc"),
]
ASKED = {"model": BY_TYPE["common"], "messages": [{"role": "user", "content": "one two three four"}]}


@asynccontextmanager
async def workers(folder, count=2, pace=0.0, **more):
    async with (
        serving(Service(pace=pace).app()) as upstream,
        gunicorn(folder, upstream, count, SHIPPED, **more) as server,
    ):
        yield server


@asynccontextmanager
async def connections(server, count=1):
    """Sessions that keep a connection each, so that one stays with its worker."""
    base, sessions = f"http://127.0.0.1:{server.port}", []
    try:
        for _ in range(count):
            connector = aiohttp.TCPConnector(limit=1)
            sessions.append(aiohttp.ClientSession(base, connector=connector))
        yield sessions
    finally:
        for session in sessions:
            await session.close()


async def ask(session, body=ASKED):
    async with session.post("/v1/chat/completions", json=body) as response:
        assert response.status == 200
        await response.read()
        return response.headers["x-request-id"]


async def scrape(session):
    async with session.get("/metrics") as response:
        text = await response.text()
        assert response.status == 200, text
    return {name: float(value) for name, value in re.findall(r"^(\S+) (\S+)$", text, re.M)}


def total(series, name):
    return sum(value for key, value in series.items() if key.partition("{")[0] == f"droid2api_{name}")


# -- metrics --------------------------------------------------------------------------------------------------------


def folders():
    return set(Path(tempfile.gettempdir()).glob("droid2api-metrics-*"))


async def test_one_scrape_counts_both_workers(tmp_path):
    before = folders()
    async with workers(tmp_path) as server:
        async with connections(server, 12) as sessions:
            await asyncio.gather(*(ask(session) for session in sessions for _ in range(2)))
            await asyncio.sleep(0.1)
            scrapes = [await scrape(session) for session in sessions]
            counts = Counter(total(each, "requests_total") for each in scrapes)
            assert counts == {24: 12}
            assert {total(each, "tokens_total") for each in scrapes} != {0}
            await until(lambda: len(list(next(iter(folders() - before)).glob("counter_*.db"))) == 2)
        await asyncio.sleep(1.2)  # a worker looks once a second
        async with connections(server) as (session,):
            assert total(await scrape(session), "token_refreshes_total") == 1
    assert folders() == before
