"""The composition root: puts the gateway together with what is optional, and runs it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from aiohttp import web

from droid2api import __version__
from droid2api.config import find_config, is_own, load, read_environment
from droid2api.credentials.credential import Credential
from droid2api.errors import ConfigError
from droid2api.gateway.logs import start_logging
from droid2api.proxies import without_password
from droid2api.server.app import build_core, drain
from droid2api.server.connections import runner_of
from droid2api.server.keys import CONNECTIONS, RELOADER, RUNTIME
from droid2api.server.reload import Source as Source
from droid2api.settings import Settings

log = logging.getLogger("droid2api")

HAS_OBSERVE = find_spec("droid2api.observe") is not None
"""Whether the optional parts are there: page, metrics, usage, commands."""


OPEN_WARNING = """
  Everyone who can reach this port can use your credential: no key is set.
  Set one, and give it to your clients as their API key:
      DROID2API_KEYS=some-long-secret   (or "api_keys": ["some-long-secret"] in config.json)
  or let only this machine in: host 127.0.0.1; with Docker, publish -p 127.0.0.1:3000:3000.
"""
BACKLOG = 1024
"""Connections that may wait to be accepted: an agent opens dozens at once."""


async def create_app(
    settings: Settings | None = None,
    source: Source | None = None,
    credentials: Mapping[str, Credential] | None = None,
) -> web.AppRunner:
    """The gateway as a server: its listener is stopped first, then running answers may finish.

    Without settings they are read as the command line does: `gunicorn droid2api.application:create_app`. From `source`
    they are read again when its files change. `credentials`, by names of endpoints, win over what the settings say.
    Raises ConfigError.
    """
    own_server = settings is not None
    if settings is None:
        source = file_source()
        settings = source.read()
        start_logging(settings)
    app = build_app(settings, source, credentials)
    app.on_shutdown.append(drain)
    if not own_server:
        app.on_startup.append(_warn_without_keys)
    return runner_of(app, app[CONNECTIONS])


def build_app(
    settings: Settings, source: Source | None = None, credentials: Mapping[str, Credential] | None = None
) -> web.Application:
    """The application with all that is installed."""
    app = build_core(settings, source, credentials)
    if HAS_OBSERVE:
        from droid2api.observe import register

        register(app)
    return app


def file_source(config: str | None = None) -> Source:
    """Settings from config.json (or the file `config`), .env and the environment. Raises ConfigError."""
    env_file = Path.cwd() / ".env"
    path = find_config(config, read_environment(env_file))
    own = is_own(path, config)
    return Source(lambda: load(path, read_environment(env_file), own=own), (path, env_file))


async def _warn_without_keys(app: web.Application) -> None:
    """Where another server listens is not known here."""
    if app[RUNTIME].guard.is_unlocked:
        log.warning("No key is set (DROID2API_KEYS): everyone who can reach this server can use your credential.")


# -- commands -------------------------------------------------------------------------------------------------------


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Give the command line the commands that are installed; the one that was chosen is `arguments.command`."""
    if HAS_OBSERVE:
        from droid2api.observe import commands

        commands.add_commands(parser)


def run_command(arguments: argparse.Namespace, source: Source) -> int:
    """Run the command that was chosen; gives the exit code. Raises ConfigError."""
    from droid2api.observe import commands

    @contextlib.asynccontextmanager
    async def open_gateway() -> AsyncIterator[int]:
        async with running(source.read(), source, demo=arguments.demo) as runner:
            yield runner.addresses[0][1]

    return commands.run(arguments, source.read, open_gateway)


# -- running --------------------------------------------------------------------------------------------------------


async def serve(settings: Settings, source: Source | None = None, *, demo: float | None = None) -> None:
    """Listen until SIGINT or SIGTERM; SIGHUP reads `source` again. Raises ConfigError as `running` does."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop_once() -> None:
        """A second signal is not handled here: it ends the process at once, whatever is still running."""
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
        stop.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl+C comes as KeyboardInterrupt
            loop.add_signal_handler(name, stop_once)
    async with running(settings, source, demo=demo) as runner:
        app = runner.app
        print(_banner(app[RUNTIME].settings, app, runner.addresses[0][1]), flush=True)
        if source:
            with contextlib.suppress(NotImplementedError, AttributeError):  # Windows
                loop.add_signal_handler(signal.SIGHUP, app[RELOADER].ask)
        if app[RUNTIME].guard.is_open and demo is None:
            log.warning(OPEN_WARNING)
        await stop.wait()


@contextlib.asynccontextmanager
async def running(
    settings: Settings, source: Source | None = None, *, demo: float | None = None
) -> AsyncIterator[web.AppRunner]:
    """The gateway, listening. `demo` is the pace of the embedded upstream, in seconds.

    Raises ConfigError, also when the port cannot be had.
    """
    async with contextlib.AsyncExitStack() as stack:
        if demo is not None:
            from droid2api.demo import Demo, point_at, start_demo  # only here, so that a normal start does not load it

            base = await stack.enter_async_context(start_demo(Demo(pace=demo)))
            settings = point_at(base, settings)
            if files := source:
                source = replace(files, read=lambda: point_at(base, files.read()))
        runner = await create_app(settings, source)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        try:
            await web.TCPSite(runner, settings.host, settings.port, backlog=BACKLOG).start()
        except OSError as error:
            # asyncio wraps the reason into a sentence of its own; a negative errno is a name that was not found
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else error.strerror or str(error)
            where = f"{settings.host} port {settings.port}"
            raise ConfigError(
                f"Cannot listen on {where}: {reason}. Choose another with --port or PORT (--host or HOST)."
            ) from None
        yield runner


def _banner(settings: Settings, app: web.Application, port: int) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    used = {model.endpoint.name: model.endpoint for model in settings.models.values()}
    lines = [
        f"droid2api {__version__} listens on http://{host}:{port}",
        f"  config      {settings.source}",
        f"  credential  {_credential(settings, app)}",
    ]
    # a query may be a credential
    for name, endpoint in used.items():
        lines.append(f"  endpoint    {name}: {endpoint.base_url.partition('?')[0]}{_through(endpoint.proxy)}")
    lines += [f"  model       {model.id} ({model.format.TYPE})" for model in settings.models.values()]
    return "\n".join(lines)


def _through(proxy: str) -> str:
    return f" through {without_password(proxy)}" if proxy else ""


def _credential(settings: Settings, app: web.Application) -> str:
    source = app[RUNTIME].shared.source
    own = sorted({m.endpoint.api_key_env for m in settings.models.values() if m.endpoint.api_key_env})
    shared = "each client's own (no credential is configured)" if source == "client" else source
    return ", ".join([shared, *(f"{name} for its endpoint{_unset(settings, name)}" for name in own)])


def _unset(settings: Settings, name: str) -> str:
    return "" if settings.environment.get(name, "").strip() else " (NOT SET)"
