"""What /metrics tells after exchanges, as Prometheus would read it; the dashboard asks for nothing else."""

import importlib.util
import re
import runpy
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import orjson
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from droid2api.application import build_app
from droid2api.errors import ConfigError
from droid2api.gateway.exchange import Exchange
from droid2api.hub.events import Usage
from droid2api.observe import metrics
from droid2api.observe.prometheus import MOST_FIELDS
from droid2api.server.keys import OBSERVERS, RUNTIME
from tests.credentials.service import settled
from tests.harness import Gateway, serving, settings_for
from tests.timing import assert_quick

ROOT = Path(__file__).parent.parent.parent
NOWHERE = "http://127.0.0.1:1"


def exchange(**fields):
    known = {"model": "glm-4.6", "upstream": "chat", "status": 200, "end": "finish"} | fields
    return Exchange("id", "client", "anthropic", **known)


RICH = {
    "stream": True,
    "first_byte": 0.3,
    "longest_gap": 4.0,
    "usage": Usage(100, 20, 30, 40, 5),
    "end": "upstream error",
    "dropped": ["top_k"],
    "repaired": {"tools.name": 2, "tools.parameters.properties.a.minimum": 1, "tools.parameters.anyOf": 1},
}
"""Of everything something."""


@asynccontextmanager
async def gateway(folder, **config):
    """A gateway and its observer for metrics, where there is one."""
    app = build_app(settings_for(folder, NOWHERE, **config))
    observers = [each for each in app[OBSERVERS] if type(each).__module__.endswith(".prometheus")]
    async with serving(app) as url, aiohttp.ClientSession() as client:
        yield Gateway(url, app, client), *observers


async def scrape(gateway):
    """Each series as (name, labels) with its value."""
    status, _, body = await gateway.get("/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(body.decode())
        for sample in family.samples
    }


def series(found, name, **labels):
    return found[f"droid2api_{name}", tuple(sorted(labels.items()))]


# -- what is counted ------------------------------------------------------------------------------------------------


async def test_the_series_of_an_exchange(tmp_path):
    async with gateway(tmp_path) as (server, observer):
        one = exchange(**RICH)
        observer.began(one)
        observer.ended(one)
        found = await scrape(server)
    asked = {"format": "anthropic", "upstream": "chat", "model": "glm-4.6", "status": "200", "end": "upstream error"}
    assert series(found, "requests_total", **asked) == 1
    assert series(found, "errors_total", kind="upstream error") == 1
    assert series(found, "time_to_first_token_seconds_sum", lane="translate") == 0.3
    assert series(found, "time_to_first_token_seconds_bucket", lane="translate", le="0.25") == 0
    assert series(found, "time_to_first_token_seconds_bucket", lane="translate", le="0.5") == 1
    assert series(found, "inter_event_gap_seconds_sum", lane="translate") == 4
    tokens = [series(found, "tokens_total", kind=kind, model="glm-4.6") for kind in Usage.__slots__]
    assert tokens == [100, 20, 30, 40, 5]
    assert series(found, "repairs_total", kind="tools.name") == 2
    assert series(found, "repairs_total", kind="tools.parameters") == 2
    assert series(found, "drops_total", field="top_k") == 1
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
        assert found[name, ()] > 0
    assert found["python_gc_collections_total", (("generation", "0"),)] >= 0
    assert any(name == "python_info" for name, _ in found)


async def test_what_is_open(tmp_path):
    def opened(found):
        return series(found, "open_requests"), series(found, "open_streams")

    async with gateway(tmp_path) as (server, observer):
        first, second = exchange(end=""), exchange(end="")  # equal, and told apart
        observer.began(first)
        observer.began(second)
        assert opened(await scrape(server)) == (2, 0)
        first.stream = True  # known later than the beginning
        assert opened(await scrape(server)) == (2, 1)
        observer.ended(second)
        assert opened(await scrape(server)) == (1, 1)
        observer.ended(first)
        assert opened(await scrape(server)) == (0, 0)


async def test_errors_begin_at_zero(tmp_path):
    async with gateway(tmp_path) as (server, observer):
        for end in ("finish", "client left", "stopped"):
            observer.ended(exchange(end=end))
        found = await scrape(server)
    errors = {labels: value for (name, labels), value in found.items() if name == "droid2api_errors_total"}
    kinds = ("request error", "credential error", "upstream error", "gateway error")
    assert errors == {(("kind", kind),): 0 for kind in kinds}


@pytest.mark.parametrize(
    "fields", [{"stream": False}, {"status": 429, "end": "upstream error"}, {"first_byte": None, "end": "client left"}]
)
async def test_only_streams_that_began_have_times(tmp_path, fields):
    async with gateway(tmp_path) as (server, observer):
        observer.ended(exchange(**{"stream": True, "first_byte": 0.3} | fields))
        found = await scrape(server)
    assert not [name for name, _ in found if "first_token" in name or "gap" in name]


async def test_a_request_whose_model_is_unknown(tmp_path):
    async with gateway(tmp_path) as (server, observer):
        observer.ended(exchange(model="", upstream="", asked="invented", status=404, end="request error"))
        status, _, body = await server.get("/metrics")
    assert status == 200
    assert b'status="404",upstream=""' in body
    assert b"invented" not in body


async def test_a_client_cannot_fill_the_memory(tmp_path):
    async with gateway(tmp_path) as (server, observer):
        observer.ended(exchange(dropped=["x" * 61, "Ünknown", 'quote"', "line\n", ""]))
        observer.ended(exchange(dropped=[f"field_{number}" for number in range(MOST_FIELDS + 20)]))
        observer.ended(exchange(dropped=["field_0", "tools.web_search[0]", "input item"]))
        found = await scrape(server)
    drops = {dict(labels)["field"]: value for (name, labels), value in found.items() if name == "droid2api_drops_total"}
    assert len(drops) == MOST_FIELDS + 1
    assert (drops["other"], drops["field_0"]) == (5 + 20 + 2, 2)


async def test_tokens_that_no_upstream_can_mean(tmp_path):
    async with gateway(tmp_path) as (server, observer):
        observer.ended(exchange(usage=Usage(-5, 3)))
        found = await scrape(server)
    assert series(found, "tokens_total", kind="input", model="glm-4.6") == 0
    assert series(found, "tokens_total", kind="output", model="glm-4.6") == 3


async def test_refreshes_are_read_at_the_scrape(tmp_path):
    async with gateway(tmp_path, environment={"DROID_REFRESH_KEY": "demo-refresh-0"}) as (server, _):
        await settled(server)  # it failed, and is not tried again so soon
        refresher = server.app[RUNTIME].shared.refresher
        refresher.done, refresher.failed = 3, 2
        found = await scrape(server)
    assert series(found, "token_refreshes_total", result="done") == 3
    assert series(found, "token_refreshes_total", result="failed") == 2


async def test_applications_count_for_themselves(tmp_path):
    async with gateway(tmp_path) as (one, observer), gateway(tmp_path) as (other, _):
        observer.ended(exchange())
        assert any(name == "droid2api_requests_total" for name, _ in await scrape(one))
        assert not any(name == "droid2api_requests_total" for name, _ in await scrape(other))


async def test_counting_takes_microseconds(tmp_path):
    async with gateway(tmp_path) as (_, observer):
        one = exchange(**RICH)

        def count():
            for _ in range(2000):
                observer.began(one)
                observer.ended(one)

        assert_quick(count, 1)  # 500 microseconds each


# -- how it is asked for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "media_type", "read"),
    [
        (None, "text/plain", parse),
        ("*/*", "text/plain", parse),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.1",
            "application/openmetrics-text",
            parse_openmetrics,
        ),
    ],
)
async def test_the_type_of_the_answer(tmp_path, accept, media_type, read):
    async with gateway(tmp_path) as (server, observer):
        observer.ended(exchange(**RICH))
        status, headers, body = await server.get("/metrics", {"Accept": accept} if accept else None)
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, media_type)
    assert "version=" in headers["Content-Type"]
    assert len(list(read(body.decode()))) > 15
    assert body.endswith(b"# EOF\n") == (read is parse_openmetrics)


async def test_a_key_is_wanted_where_there_are_keys(tmp_path):
    async with gateway(tmp_path, api_keys=["client-key"]) as (server, _):
        assert (await server.get("/metrics"))[0] == 401
        assert (await server.get("/metrics", {"Authorization": "Bearer client-key"}))[0] == 200


async def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "find_spec", lambda name: None if "prometheus" in name else pytest.fail(name))
    async with gateway(tmp_path) as (server, *observers):
        status, headers, body = await server.get("/metrics")
    assert observers == []
    error = orjson.loads(body)["error"]
    assert (status, headers["Content-Type"].partition(";")[0]) == (404, "application/json")
    assert "pip install 'droid2api[metrics]'" in error["message"]
    assert ".venv/bin/pip install prometheus-client" in error["message"]


def test_nothing_is_loaded_before_it_is_wanted():
    script = "import sys, droid2api.observe.metrics; print('prometheus_client' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (told.stdout, told.stderr) == ("False\n", "")
    assert importlib.util.find_spec("prometheus_client")


# -- of several workers: test_workers_real.py has them -----------------------------------------------------------


@pytest.mark.parametrize("name", [metrics.SHARED, metrics.SHARED.lower()])
@pytest.mark.parametrize(
    ("folder", "problem"), [("", "is no folder"), ("missing", "is no folder"), (__file__, "is no folder")]
)
def test_a_folder_for_the_workers_that_is_none(tmp_path, monkeypatch, name, folder, problem):
    monkeypatch.setenv(name, folder)
    with pytest.raises(ConfigError, match=f"PROMETHEUS_MULTIPROC_DIR: '{folder}' {problem}"):
        build_app(settings_for(tmp_path, NOWHERE))


def test_a_folder_for_the_workers_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv(metrics.SHARED, str(tmp_path))
    monkeypatch.setattr(metrics.os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match=r"PROMETHEUS_MULTIPROC_DIR: '.*' cannot be written into\."):
        build_app(settings_for(tmp_path, NOWHERE))


# -- the dashboard --------------------------------------------------------------------------------------------------


def dashboard():
    return orjson.loads((ROOT / "deploy" / "grafana-dashboard.json").read_bytes())


EXPRESSIONS = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("expression", EXPRESSIONS)
async def test_what_the_dashboard_asks_for_is_told(tmp_path, expression):
    """The series, and the labels that it sums by."""
    async with gateway(tmp_path) as (server, observer):
        observer.ended(exchange(**RICH))
        found = await scrape(server)
    (name,) = re.findall(r"\w+(?=\{)", expression)
    labels = {label for known, pairs in found if known == name for label, _ in pairs}
    assert name in {known for known, _ in found}
    for names in re.findall(r"by \(([^)]*)\)", expression):
        assert set(names.split(", ")) <= labels


def test_the_dashboard_shows_every_series_of_the_gateway():
    asked = {name for expression in EXPRESSIONS for name in re.findall(r"droid2api_(\w+)\{", expression)}
    assert asked == {
        *("requests_total", "errors_total", "time_to_first_token_seconds_bucket", "inter_event_gap_seconds_bucket"),
        *("open_streams", "open_requests", "tokens_total", "token_refreshes_total", "repairs_total", "drops_total"),
    }


def test_the_dashboard_can_be_imported():
    """No panel over another, each legend made of labels that its expression leaves, every variable defined."""
    board = dashboard()
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in board["panels"]})
    for panel in board["panels"]:
        for target in panel["targets"]:
            kept = "".join(re.findall(r"by \(([^)]*)\)", target["expr"])) or "instance"
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= set(kept.split(", "))
    used = set(re.findall(rb"\$\{?(?!__)(\w+)", orjson.dumps(board)))
    assert used == {variable["name"].encode() for variable in board["templating"]["list"]}


def test_the_shipped_hook_ends_what_a_dead_worker_had_open(tmp_path, monkeypatch):
    monkeypatch.setenv(metrics.SHARED, str(tmp_path))
    for name in ("gauge_livesum_7.db", "gauge_livesum_8.db", "counter_7.db"):
        (tmp_path / name).touch()
    hooks = runpy.run_path(str(ROOT / "deploy" / "gunicorn.conf.py"))
    hooks["child_exit"](None, SimpleNamespace(pid=7))
    hooks["on_exit"](None)  # a folder of the owner's stays
    assert {file.name for file in tmp_path.iterdir()} == {"gauge_livesum_8.db", "counter_7.db"}
