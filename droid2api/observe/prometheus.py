"""What Prometheus is told: the series of one application, in a registry of its own.

Every value of a label comes from the configuration or from a closed list, but for names of fields that clients send:
those are checked and limited in number, so that no client can fill the memory of whoever scrapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import get_args

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from droid2api.credentials.credential import Credential
from droid2api.credentials.rotating import RotatingCredential
from droid2api.gateway.exchange import End, Exchange

FIRST_TOKEN = (0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300)
GAP = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300)
"""Bounds of the histograms, in seconds: reasoning models think for minutes before they speak."""
FOUND = 1000
"""Series of each metric that are found quickly; prometheus-client's own way takes longer than the counting."""
MOST_FIELDS = 100
FIELD = re.compile(r"[a-z0-9_.\[\] -]{1,60}")


class Metrics:
    """An observer, and the handler of /metrics."""

    def __init__(self, credential: Callable[[], Credential]) -> None:
        self._registry = registry = CollectorRegistry()
        self._open: dict[int, Exchange] = {}
        self._fields: set[str] = set()

        def counter(name: str, help: str, *labels: str) -> Callable[..., Counter]:
            return lru_cache(FOUND)(Counter(f"droid2api_{name}", help, labels, registry=registry).labels)

        def histogram(name: str, help: str, bounds: tuple[float, ...]) -> Callable[..., Histogram]:
            name = f"droid2api_{name}_seconds"
            return lru_cache(FOUND)(Histogram(name, help, ["lane"], registry=registry, buckets=bounds).labels)

        def gauge(name: str, help: str, value: Callable[[], float]) -> None:
            Gauge(f"droid2api_{name}", help, registry=registry).set_function(value)

        labels = ("format", "upstream", "model", "status", "end")
        self._requests = counter("requests", "Requests to the API paths whose answer has ended", *labels)
        self._errors = counter("errors", "Requests that ended in an error, by whose it is", "kind")
        self._first_token = histogram(
            "time_to_first_token", "From a request to the first byte of its streamed answer", FIRST_TOKEN
        )
        self._gap = histogram("inter_event_gap", "The longest wait for the next piece, one for each stream", GAP)
        self._tokens = counter(
            "tokens", "Tokens that upstreams tell of; input includes cache, output reasoning", "kind", "model"
        )
        self._costs = counter("cost_dollars", "What requests cost, as far as their prices are known", "model")
        self._repairs = counter("repairs", "What was mended in requests for their upstream", "kind")
        self._drops = counter("drops", "Fields of requests that their upstream cannot take", "field")
        self._fallbacks = counter("fallbacks", "Requests that another model answered", "model", "used")
        gauge("open_requests", "Requests that are being answered", lambda: len(self._open))
        gauge("open_streams", "Streams among them", lambda: sum(each.stream for each in self._open.values()))
        for end in get_args(End):  # a rate needs a series before its first error
            if Exchange("", "", "", end=end).failed:
                self._errors(end)
        registry.register(_Refreshes(credential))
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def began(self, exchange: Exchange) -> None:
        self._open[id(exchange)] = exchange

    def ended(self, exchange: Exchange) -> None:
        self._open.pop(id(exchange), None)
        self._requests(exchange.format, exchange.upstream, exchange.model, str(exchange.status), exchange.end).inc()
        if exchange.failed:
            self._errors(exchange.end).inc()
        if exchange.stream and exchange.status == 200 and exchange.first_byte is not None:
            self._first_token(exchange.lane).observe(exchange.first_byte)
            self._gap(exchange.lane).observe(exchange.longest_gap)
        if exchange.usage:
            for kind in exchange.usage.__slots__:
                series, tokens = self._tokens(kind, exchange.model), getattr(exchange.usage, kind)
                if tokens > 0:
                    series.inc(tokens)
        if exchange.cost:
            self._costs(exchange.model).inc(exchange.cost)
        if exchange.fallback:
            self._fallbacks(exchange.fallback, exchange.model).inc()
        for kind, count in exchange.repaired.items():
            self._repairs(_series(kind)).inc(count)
        for field in exchange.dropped:
            self._drops(self._known(field)).inc()

    def _known(self, field: str) -> str:
        """The name, or "other" for one that is odd or one too many."""
        if field not in self._fields:
            if len(self._fields) >= MOST_FIELDS or not FIELD.fullmatch(field):
                return "other"
            self._fields.add(field)
        return field

    async def answer(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})


def _series(kind: str) -> str:
    """A repair's path, of a schema without the place in it: those are as many as clients have tools."""
    return next((start for start in ("tools.parameters", "response_format.schema") if kind.startswith(start)), kind)


class _Refreshes(Collector):
    """Read from who counts them."""

    def __init__(self, credential: Callable[[], Credential]) -> None:
        self._credential = credential

    def collect(self) -> Iterable[Metric]:
        credential = self._credential()
        refresher = credential.refresher if isinstance(credential, RotatingCredential) else None
        family = CounterMetricFamily("droid2api_token_refreshes", "Refreshes of the credential", labels=["result"])
        family.add_metric(["done"], refresher.done if refresher else 0)
        family.add_metric(["failed"], refresher.failed if refresher else 0)
        yield family
