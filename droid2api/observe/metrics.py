"""GET /metrics, for Prometheus: counted where the package prometheus-client is installed, else an error that says how.

The series are in prometheus.py, which is imported only then. Of several gunicorn workers the one that happens to take
the request answers, for itself; with PROMETHEUS_MULTIPROC_DIR, as deploy/gunicorn.conf.py sets it, for all of them.
Who may read it is the guard's business, as for every path: with api_keys Prometheus needs one (`authorization` in its
scrape_config).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

from aiohttp import web

from droid2api.credentials.credential import Credential
from droid2api.errors import ConfigError, RequestError
from droid2api.gateway.exchange import Observer

NOT_INSTALLED = (
    "Metrics need the prometheus-client package: pip install 'droid2api[metrics]' "
    "(with start.sh: .venv/bin/pip install prometheus-client), then start again."
)

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The variable of the process that prometheus-client itself looks at (also in small letters)."""


def add_metrics(app: web.Application, observers: list[Observer], credential: Callable[[], Credential]) -> None:
    """Serve /metrics; `credential` gives the one that the endpoints share at the time of a scrape.

    Raises ConfigError for a folder that the workers cannot write their counts into.
    """
    if find_spec("prometheus_client") is None:
        app.router.add_get("/metrics", not_installed)
        return
    is_shared = _is_shared()
    from droid2api.observe.prometheus import Metrics

    metrics = Metrics(credential, shared=is_shared)
    observers.append(metrics)
    if is_shared:
        app.cleanup_ctx.append(metrics.looking)
    app.router.add_get("/metrics", metrics.answer)


def _is_shared() -> bool:
    """Whether the counts of several workers are told together. Raises ConfigError."""
    folder = os.environ.get(SHARED, os.environ.get(SHARED.lower()))
    if folder is None:
        return False
    if not os.path.isdir(folder):
        raise ConfigError(
            f"PROMETHEUS_MULTIPROC_DIR: {folder!r} is no folder. Make one, and empty it before each start."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"PROMETHEUS_MULTIPROC_DIR: {folder!r} cannot be written into.")
    return True


async def not_installed(request: web.Request) -> web.StreamResponse:
    raise RequestError(NOT_INSTALLED, status=404)
