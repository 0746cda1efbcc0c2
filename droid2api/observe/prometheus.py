"""What Prometheus is told: the series of one application, in a registry of its own; or of all workers together, which
each write theirs into files of one folder (prometheus-client's multiprocess mode).

Every value of a label comes from the configuration or from a closed list, but for names of fields that clients send:
those are checked and limited in number, so that no client can fill the memory of whoever scrapes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
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
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from droid2api.credentials.credential import Credential
from droid2api.credentials.rotating import RotatingCredential
from droid2api.errors import GatewayError
from droid2api.gateway.exchange import End, Exchange

FIRST_TOKEN = (0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300)
GAP = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300)
"""Bounds of the histograms, in seconds: reasoning models think for minutes before they speak."""
FOUND = 1000
"""Series of each metric that are found quickly; prometheus-client's own way takes longer than the counting."""
LOOK_EVERY = 1.0
"""Seconds between looks at what is no count, for the other workers, whichever of them is asked."""
MOST_FIELDS = 100
FIELD = re.compile(r"[a-z0-9_.\[\] -]{1,60}")


class Metrics:
    """An observer, and the handler of /metrics."""

    def __init__(self, credential: Callable[[], Credential], *, shared: bool = False) -> None:
        """`shared`: the values are in files, and those of all workers are told."""
        self._registry = registry = CollectorRegistry()
        self._shared = shared
        self._open: dict[int, Exchange] = {}
        self._fields: set[str] = set()
        self._refreshes = _Refreshes(registry, credential)

        def counter(name: str, help: str, *labels: str) -> Callable[..., Counter]:
            return lru_cache(FOUND)(Counter(f"droid2api_{name}", help, labels, registry=registry).labels)

        def histogram(name: str, help: str, bounds: tuple[float, ...]) -> Callable[..., Histogram]:
            name = f"droid2api_{name}_seconds"
            return lru_cache(FOUND)(Histogram(name, help, ["lane"], registry=registry, buckets=bounds).labels)

        def gauge(name: str, help: str) -> Gauge:
            return Gauge(f"droid2api_{name}", help, registry=registry, multiprocess_mode="livesum")

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
        self._open_requests = gauge("open_requests", "Requests that are being answered")
        self._open_streams = gauge("open_streams", "Streams among them")
        for end in get_args(End):  # a rate needs a series before its first error
            if Exchange("", "", "", end=end).failed:
                self._errors(end)
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
        self._look()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(_of_all_workers, encode) if self._shared else encode(self._registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def looking(self, app: web.Application) -> AsyncIterator[None]:
        """While the application runs: what is no count is written down for the other workers."""
        task = asyncio.create_task(self._look_often())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        self._look()

    async def _look_often(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(LOOK_EVERY)

    def _look(self) -> None:
        self._open_requests.set(len(self._open))
        self._open_streams.set(sum(each.stream for each in self._open.values()))
        self._refreshes.look()


def _of_all_workers(encode: Callable[[CollectorRegistry], bytes]) -> bytes:
    """Read from their files, in a thread. Raises GatewayError."""
    registry = CollectorRegistry()
    try:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the package has no types there
        return encode(registry)
    except (OSError, ValueError) as error:
        raise GatewayError(f"PROMETHEUS_MULTIPROC_DIR: the workers' files cannot be read: {error}.") from error


def _series(kind: str) -> str:
    """A repair's path, of a schema without the place in it: those are as many as clients have tools."""
    return next((start for start in ("tools.parameters", "response_format.schema") if kind.startswith(start)), kind)


class _Refreshes:
    """Counted by the credential's refresher; told here what has come since the last look."""

    def __init__(self, registry: CollectorRegistry, credential: Callable[[], Credential]) -> None:
        self._credential = credential
        counter = Counter("droid2api_token_refreshes", "Refreshes of the credential", ["result"], registry=registry)
        self._done, self._failed = counter.labels("done"), counter.labels("failed")
        self._seen: tuple[object, int, int] = (None, 0, 0)

    def look(self) -> None:
        credential = self._credential()
        refresher = credential.refresher if isinstance(credential, RotatingCredential) else None
        if refresher is None:
            return
        known, done, failed = self._seen
        if known is not refresher:  # of other settings: it begins at 0
            done = failed = 0
        self._done.inc(refresher.done - done)
        self._failed.inc(refresher.failed - failed)
        self._seen = (refresher, refresher.done, refresher.failed)
