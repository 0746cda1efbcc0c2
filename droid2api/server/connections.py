"""The clients' connections, and how the application is served on them."""

from __future__ import annotations

from aiohttp import web


def runner_of(app: web.Application, shutdown_timeout: float = 5) -> web.AppRunner:
    """Serves the application. Bodies come as they were sent: who may not send one is refused before it is unpacked."""
    return web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=shutdown_timeout,
        auto_decompress=False,
    )
