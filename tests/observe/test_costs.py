"""What requests cost: by the owner's prices, by published ones, or not known, which is never 0."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import date

import orjson
import pytest

from droid2api.gateway.exchange import Exchange
from droid2api.hub.events import Usage
from droid2api.observe import costs
from droid2api.observe.costs import Pricer, cost
from droid2api.observe.usage import ADD, CREATE, UsageRow, read_days, read_usage, write
from droid2api.settings import Price
from tests.harness import BY_TYPE, PATHS, body_of, demo_gateway, settings_for, until

FULL = Price(input=2, output=10, cache_read=0.2, cache_write=2.5)
TODAY = date.today().isoformat()


@pytest.mark.parametrize(
    ("price", "usage", "expected"),
    [
        (FULL, Usage(1_000_000, 0), 2),
        (FULL, Usage(1_000_000, 100_000), 3),
        (FULL, Usage(1_000_000, 0, cache_read=1_000_000), 0.2),
        (FULL, Usage(1_000_000, 0, cache_read=400_000, cache_write=600_000), 1.58),
        (FULL, Usage(10, 0, cache_read=1_000_000), 0.2),  # an upstream whose counts do not fit together
        (FULL, Usage(0, 100_000, reasoning=90_000), 1),  # reasoning is output
        (Price(2, 10), Usage(1_000_000, 0, cache_read=400_000, cache_write=600_000), 2),
        (Price(0, 0), Usage(5, 5), 0),
    ],
)
def test_a_price_times_the_tokens(price, usage, expected):
    assert cost(price, usage) == pytest.approx(expected)


# -- who has a price ------------------------------------------------------------------------------------------------

MODELS = [
    {"id": "own", "type": "common", "price": {"input": 1, "output": 2}},
    {"id": "claude-opus-4-1-20250805", "type": "anthropic"},
    {"id": "gpt-5", "type": "openai"},
    {"id": "deepseek-chat", "type": "common"},
]
ENDPOINTS = [
    {"name": "anthropic", "base_url": "https://api.anthropic.com/v1/messages", "api_key_env": "K"},
    {"name": "openai", "base_url": "https://api.factory.ai/api/llm/o/v1/responses"},
    {"name": "common", "base_url": "http://192.168.1.7/v1/chat/completions", "api_key_env": "K"},
]


@pytest.fixture
async def pricer(tmp_path):
    pytest.importorskip("genai_prices")
    settings = settings_for(tmp_path, "http://127.0.0.1:9", models=MODELS, endpoint=ENDPOINTS)
    pricer = Pricer(lambda: settings)
    pricer.began(Exchange("id", "c"))
    await until(lambda: pricer._snapshot)
    return pricer


@pytest.mark.parametrize(
    ("model", "used", "known"),
    [
        ("own", Usage(1, 1), True),
        ("claude-opus-4-1-20250805", Usage(1, 1), True),  # by the service
        ("gpt-5", Usage(1, 1), True),  # by the model: Factory passes it on
        ("deepseek-chat", Usage(1, 1), False),  # of a service that nobody knows, whatever its name says
        ("own", None, False),
        ("gone", Usage(1, 1), False),
        ("", Usage(1, 1), False),
    ],
)
async def test_who_has_a_price(pricer, model, used, known):
    exchange = Exchange("id", "c", model=model, usage=used)
    pricer.ended(exchange)
    assert (exchange.cost is not None) == known
    assert exchange.cost != 0


async def test_published_prices_know_the_cache(pricer):
    def of(**tokens):
        exchange = Exchange("id", "c", model="claude-opus-4-1-20250805", usage=Usage(100_000, 0, **tokens))
        pricer.ended(exchange)
        return exchange.cost

    assert of(cache_read=100_000) < of() < of(cache_write=100_000)


async def test_counts_that_do_not_fit_together_have_no_price(pricer):
    exchange = Exchange("id", "c", model="claude-opus-4-1-20250805", usage=Usage(1, 1, cache_read=5))
    pricer.ended(exchange)
    assert exchange.cost is None


async def test_without_the_extra_only_the_owners_count(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "find_spec", lambda name: None)
    settings = settings_for(tmp_path, "http://127.0.0.1:9", models=MODELS)
    pricer = Pricer(lambda: settings)
    pricer.began(Exchange("id", "c"))
    own, published = (Exchange("id", "c", model=id, usage=Usage(1_000_000, 0)) for id in ("own", "gpt-5"))
    for exchange in (own, published):
        pricer.ended(exchange)
    assert (own.cost, published.cost) == (1, None)


# -- where it is told -----------------------------------------------------------------------------------------------


async def test_it_is_told_everywhere(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("droid2api.observe.usage.WRITE_EVERY", 0.01)
    caplog.set_level("INFO")
    models = [{"id": BY_TYPE["common"], "type": "common", "price": {"input": 1_000_000, "output": 0}}]
    file = tmp_path / "data" / "usage.db"
    async with demo_gateway(tmp_path, models=models) as gateway:
        assert (await gateway.ask(PATHS["common"], body_of("common", said="one two three")))[0] == 200
        await until(lambda: file.exists() and read_usage(file, 1, "model"))
        state = orjson.loads((await gateway.get("/status"))[2])
        metrics = (await gateway.get("/metrics"))[2]
    assert state["recent"][0]["cost"] == state["usage"]["days"][0]["cost"] == 3
    assert b'droid2api_cost_dollars_total{model="glm-4.6"} 3.0' in metrics
    assert " $3.000000 " in caplog.text


# -- the file -------------------------------------------------------------------------------------------------------


def test_an_old_file_goes_on(tmp_path):
    file = tmp_path / "usage.db"
    old = (TODAY, "m", "c", 2, 0, 10, 5, 0, 0, 0)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(CREATE)
        database.execute(ADD, old)
    assert read_usage(file, 1, "model") == [UsageRow("m", 2, 0, 10, 5, 0, 0, 0)]
    write(file, {(TODAY, "m", "c"): [1, 0, 1, 1, 0, 0, 0, 0.5, 1, 0]})
    assert read_usage(file, 1, "model") == [UsageRow("m", 3, 0, 11, 6, 0, 0, 0, 0.5, 0)]
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(ADD, old)  # a gateway of before goes on with the new file
    assert read_usage(file, 1, "model")[0].requests == 5


def test_sums_say_what_they_lack(tmp_path):
    file = tmp_path / "usage.db"
    rows = {"a": [0.5, 1, 0], "b": [0.0, 0, 2], "c": [0.25, 1, 1]}
    write(file, {(TODAY, model, "c"): [1, 0, 1, 1, 0, 0, 0, *told] for model, told in rows.items()})
    assert {row.key: (row.cost, row.unpriced) for row in read_usage(file, 1, "model")} == {
        "a": (0.5, 0),
        "b": (None, 2),
        "c": (0.25, 1),
    }
    ((_, first), *_) = read_days(file, 1)
    assert (first.key, first.cost) == ("a", 0.5)
    assert [(row.cost, row.unpriced) for row in read_usage(file, 1, "client")] == [(0.75, 3)]


async def test_a_start_does_not_load_the_prices(tmp_path):
    pricer = Pricer(lambda: settings_for(tmp_path, "http://127.0.0.1:9"))
    await asyncio.sleep(0)
    assert pricer._snapshot is None
