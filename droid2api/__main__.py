"""The command line: `droid2api`, `python -m droid2api`, `./start.sh`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import re
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
DEMO_PACE = 0.02
"""Seconds for a word."""


def main() -> None:
    """Exit code 2 for anything that the owner must mend, after one clear message."""
    parser = _parser()
    arguments = _parse(parser, sys.argv[1:])
    command = getattr(arguments, "command", None)
    if command not in (None, "run") and arguments.demo is not None:
        parser.error("--demo is for a start of the gateway and for run, not for another command")
    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        source = _source(arguments)
        if command:
            code = run_command(arguments, source)
            sys.stdout.flush()
            sys.exit(code)
        settings = source.read()
        start_logging(settings)
        with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(settings, source, demo=arguments.demo))
    except BrokenPipeError:  # `droid2api models | head`: who reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ConfigError as error:
        print(f"droid2api: {error}", file=sys.stderr)
        sys.exit(2)


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """What stands after -- is for the tool that `run` starts."""
    end = words.index("--") if "--" in words else len(words)
    arguments, unknown = parser.parse_known_args(_complete_demo(words[:end]))
    if getattr(arguments, "command", None) != "run":
        return parser.parse_args(_complete_demo(words))
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}; those for the tool stand after --")
    arguments.arguments = words[end + 1 :]
    return arguments


def _complete_demo(words: list[str]) -> list[str]:
    """A word after --demo is its pace only if it is a number: in `--demo run claude` it is the command."""
    for index, word in enumerate(words[:-1]):
        if word == "--":
            break
        if word == "--demo" and re.fullmatch(r"[a-z]+", words[index + 1]):
            return [*words[:index], f"--demo={DEMO_PACE}", *words[index + 1 :]]
    return words


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="droid2api", description="A streaming gateway between LLM API formats.")
    parser.add_argument("--config", metavar="FILE", help="settings (default: $DROID2API_CONFIG, then ./config.json)")
    parser.add_argument("--host", help="address to listen on (default: host in config.json, 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: port in config.json, 3000)")
    parser.add_argument(
        "--demo",
        nargs="?",
        const=DEMO_PACE,
        type=float,
        metavar="PACE",
        help=f"answer from an embedded upstream, a word each PACE seconds ({DEMO_PACE}): no account is needed",
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


if __name__ == "__main__":
    main()
