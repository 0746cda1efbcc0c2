"""The command line: `droid2api`, `python -m droid2api`, `./start.sh`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from droid2api import __version__
from droid2api.config import Settings
from droid2api.errors import ConfigError
from droid2api.gateway.logs import start_logging
from droid2api.server.app import CURRENT, RELOADER, create_app, file_source
from droid2api.server.reload import Source

log = logging.getLogger("droid2api")

OPEN_WARNING = """
  Everyone who can reach this port can use your credential: no key is set.
  Set one, and give it to your clients as their API key:
      DROID2API_KEYS=some-long-secret   (or "api_keys": ["some-long-secret"] in config.json)
  or let only this machine in: host 127.0.0.1; with Docker, publish -p 127.0.0.1:3000:3000.
"""
BACKLOG = 1024
"""Connections that may wait to be accepted: an agent opens dozens at once."""
GARBAGE_THRESHOLD = 10_000
"""New containers between two searches for garbage (700 in Python): one agent's request has thousands, all in use."""


def main() -> None:
    """Exit code 2 for anything that the owner must mend, after one clear message."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.command and arguments.demo is not None:
        parser.error("--demo is for a start of the gateway, not for a command")
    try:
        source = _source(arguments)
        settings = source.read()
        if arguments.command:
            from droid2api.observe.commands import run

            sys.exit(run(arguments, settings))
    except ConfigError as error:
        sys.exit(_refuse(str(error)))
    start_logging(settings)
    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(settings, source, demo=arguments.demo))
    except ConfigError as error:
        sys.exit(_refuse(str(error)))
    except OSError as error:
        # asyncio wraps the reason into a sentence of its own; a negative errno is a name that was not found
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
        where = f"{settings.host} port {settings.port}"
        sys.exit(_refuse(f"Cannot listen on {where}: {reason}. Choose another with --port or PORT (--host or HOST)."))


def _parser() -> argparse.ArgumentParser:
    from droid2api.observe.commands import add_commands

    parser = argparse.ArgumentParser(prog="droid2api", description="A streaming gateway between LLM API formats.")
    parser.add_argument("--config", metavar="FILE", help="settings (default: $DROID2API_CONFIG, then ./config.json)")
    parser.add_argument("--host", help="address to listen on (default: host in config.json, 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: port in config.json, 3000)")
    parser.add_argument(
        "--demo",
        nargs="?",
        const=0.02,
        type=float,
        metavar="PACE",
        help="answer from an embedded upstream, a word each PACE seconds (0.02): no account is needed",
    )
    parser.add_argument("--version", action="version", version=f"droid2api {__version__}")
    add_commands(parser)
    return parser


def _source(arguments: argparse.Namespace) -> Source:
    """The files' settings; the arguments win over them."""
    source = file_source(arguments.config)

    def read() -> Settings:
        settings = source.read()
        port = settings.port if arguments.port is None else arguments.port
        if not 0 <= port <= 65535:
            raise ConfigError(f"--port: must be from 0 to 65535, not {port}.")
        return replace(settings, host=arguments.host or settings.host, port=port)

    return replace(source, read=read)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where the extra `fast` is installed; else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _refuse(message: str) -> int:
    print(f"droid2api: {message}", file=sys.stderr)
    return 2


async def serve(settings: Settings, source: Source | None = None, *, demo: float | None = None) -> None:
    """Listen until SIGINT or SIGTERM; SIGHUP reads `source` again. `demo` is the pace of the embedded upstream, in
    seconds. Raises OSError when the port cannot be had.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop_once() -> None:
        """A second signal is not handled here: it ends the process at once, whatever is still running."""
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
        stop.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl+C comes as KeyboardInterrupt
            loop.add_signal_handler(name, stop_once)
    async with contextlib.AsyncExitStack() as running:
        if demo is not None:
            from droid2api.demo import Demo, point_at, start_demo  # only here, so that a normal start does not load it

            base = await running.enter_async_context(start_demo(Demo(pace=demo)))
            settings = point_at(base, settings)
            if files := source:
                source = replace(files, read=lambda: point_at(base, files.read()))
        runner = await create_app(settings, source)
        app = runner.app
        await runner.setup()
        running.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, settings.host, settings.port, backlog=BACKLOG)
        await site.start()
        port = runner.addresses[0][1]
        print(_banner(settings, app, port, demo is not None), flush=True)
        if source:
            with contextlib.suppress(NotImplementedError, AttributeError):  # Windows
                loop.add_signal_handler(signal.SIGHUP, app[RELOADER].ask)
        if app[CURRENT].guard.is_open and demo is None:
            log.warning(OPEN_WARNING)
        await stop.wait()


def _banner(settings: Settings, app: web.Application, port: int, demo: bool) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    used = {model.endpoint.name: model.endpoint for model in settings.models.values()}
    lines = [
        f"droid2api {__version__} listens on http://{host}:{port}",
        f"  config      {settings.source}",
        f"  credential  {'not needed (demo)' if demo else _credential(settings, app)}",
    ]
    # a query may be a credential
    lines += [f"  endpoint    {name}: {endpoint.base_url.partition('?')[0]}" for name, endpoint in used.items()]
    lines += [f"  model       {model.id} ({model.format.type})" for model in settings.models.values()]
    return "\n".join(lines)


def _credential(settings: Settings, app: web.Application) -> str:
    source = app[CURRENT].shared.source
    own = sorted({m.endpoint.api_key_env for m in settings.models.values() if m.endpoint.api_key_env})
    shared = "each client's own (no credential is configured)" if source == "client" else source
    return ", ".join([shared, *(f"{name} for its endpoint{_unset(settings, name)}" for name in own)])


def _unset(settings: Settings, name: str) -> str:
    return "" if settings.environment.get(name, "").strip() else " (NOT SET)"


if __name__ == "__main__":
    main()
