"""GET /metrics, for Prometheus: counted where the package prometheus-client is installed, else an error that says how.

The series are in prometheus.py, which is imported only then. Each process counts for itself: of several gunicorn
workers the one that happens to take the request answers, so scrape each on an address of its own, or run one process.
Who may read it is the guard's business, as for every path: with api_keys Prometheus needs one (`authorization` in its
scrape_config).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from aiohttp import web

from droid2api.credentials.credential import Credential
from droid2api.errors import RequestError
from droid2api.gateway.exchange import Observer

NOT_INSTALLED = (
    "Metrics need the prometheus-client package: pip install 'droid2api[metrics]' "
    "(with start.sh: .venv/bin/pip install prometheus-client), then start again."
)


def add_metrics(app: web.Application, observers: list[Observer], credential: Callable[[], Credential]) -> None:
    """Serve /metrics; `credential` gives the one that the endpoints share at the time of a scrape."""
    if find_spec("prometheus_client") is None:
        app.router.add_get("/metrics", not_installed)
        return
    from droid2api.observe.prometheus import Metrics

    metrics = Metrics(credential)
    observers.append(metrics)
    app.router.add_get("/metrics", metrics.answer)


async def not_installed(request: web.Request) -> web.StreamResponse:
    raise RequestError(NOT_INSTALLED, status=404)
