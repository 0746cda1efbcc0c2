"""The command line: `droid2api`, `python -m droid2api`, `./start.sh`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import replace

from droid2api import __version__
from droid2api.application import Source, add_commands, file_source, run_command, serve
from droid2api.errors import ConfigError
from droid2api.gateway.logs import start_logging
from droid2api.settings import Settings

GARBAGE_THRESHOLD = 10_000
"""New containers between two searches for garbage (700 in Python): one agent's request has thousands, all in use."""


def main() -> None:
    """Exit code 2 for anything that the owner must mend, after one clear message."""
    parser = _parser()
    arguments = parser.parse_args()
    command = getattr(arguments, "command", None)
    if command and arguments.demo is not None:
        parser.error("--demo is for a start of the gateway, not for a command")
    try:
        source = _source(arguments)
        settings = source.read()
        if command:
            sys.exit(run_command(arguments, settings))
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


if __name__ == "__main__":
    main()
