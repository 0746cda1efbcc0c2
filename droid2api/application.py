"""The composition root: puts the gateway's application together with what is optional."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path

from aiohttp import web

from droid2api.config import Settings, find_config, load, read_environment
from droid2api.gateway.logs import start_logging
from droid2api.server.app import build_core, drain
from droid2api.server.keys import CURRENT
from droid2api.server.reload import Source

log = logging.getLogger("droid2api")

HAS_OBSERVE = find_spec("droid2api.observe") is not None
"""Whether the optional parts are there: page, metrics, usage, commands."""


async def create_app(settings: Settings | None = None, source: Source | None = None) -> web.AppRunner:
    """The gateway as a server: its listener is stopped first, then running answers may finish.

    Without settings they are read as the command line does: `gunicorn droid2api.application:create_app`. From `source`
    they are read again when its files change. Raises ConfigError.
    """
    own_server = settings is not None
    if settings is None:
        source = file_source()
        settings = source.read()
        start_logging(settings)
    app = build_app(settings, source)
    app.on_shutdown.append(drain)
    if not own_server:
        app.on_startup.append(_warn_without_keys)
    return web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=5)


def build_app(settings: Settings, source: Source | None = None) -> web.Application:
    """The application with all that is installed."""
    app = build_core(settings, source)
    if HAS_OBSERVE:
        from droid2api.observe import register

        register(app)
    return app


def file_source(config: str | None = None) -> Source:
    """Settings from config.json (or the file `config`), .env and the environment. Raises ConfigError."""
    env_file = Path.cwd() / ".env"
    path = find_config(config, read_environment(env_file))
    return Source(lambda: load(path, read_environment(env_file)), (path, env_file))


async def _warn_without_keys(app: web.Application) -> None:
    """Where another server listens is not known here."""
    if app[CURRENT].guard.is_unlocked:
        log.warning("No key is set (DROID2API_KEYS): everyone who can reach this server can use your credential.")
