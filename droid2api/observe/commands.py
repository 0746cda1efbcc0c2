"""The subcommands of the command line: their arguments, and what each prints.

What a command needs is imported when it runs, so that a start of the gateway loads none of it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from droid2api.errors import ConfigError, RequestError
from droid2api.formats import BY_NAME
from droid2api.settings import Model, Settings
from droid2api.wire.fields import Json

TOOLS = ("claude", "codex", "openai", "opencode", "cline", "aider", "gemini")
CONNECT_TIMEOUT = 2.0
"""Seconds that the gateway may take to accept a connection."""


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Without a command the gateway is started. What stands before the command may stand after it, too."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    for option, help in (("--config", "settings"), ("--host", "the gateway's address")):
        common.add_argument(option, help=f"{help} (as without a command)")
    common.add_argument("--port", type=int, help="the gateway's port (as without a command)")
    common.add_argument("--json", action="store_true", default=False, help="print JSON")
    without = "without one, the gateway is started"
    commands = parser.add_subparsers(dest="command", title="commands", description=without, metavar="COMMAND")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help, parents=[common])

    check = add("check", "look whether config, credential, services, port and files are in order")
    check.add_argument("--refresh", action="store_true", help="renew the token, too (else none is touched)")
    env = add("env", "print what to paste into a client so that it uses this gateway")
    env.add_argument("tool", choices=TOOLS)
    env.add_argument("--model", help="model to ask for (default: the first one that fits)")
    explain = add("explain", "show what the gateway would send to the service for a request, without sending it")
    explain.add_argument("file", metavar="request.json", help="body of a request as a client sends it; - is stdin")
    explain.add_argument("--model", help="ask for this model instead")
    explain.add_argument("--format", choices=tuple(BY_NAME), help="of the body (default: guessed from it)")
    add("models", "list the configured models")
    usage = add("usage", "list the tokens that were used")
    usage.add_argument("--days", type=_positive, default=30, help="how far to look back (30)")
    usage.add_argument("--by", choices=("model", "client", "day"), default="model", help="what a line is for (model)")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run the command that was given; gives the exit code. Raises ConfigError."""
    logging.getLogger("droid2api").addHandler(logging.NullHandler())  # what matters is printed
    return _COMMANDS[arguments.command](arguments, settings)


def _print_json(value: object) -> None:
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _note(text: str) -> None:
    """For the reader, and not for a file that the output goes into."""
    print(text, file=sys.stderr)


def _check(arguments: argparse.Namespace, settings: Settings) -> int:
    from droid2api.observe.check import check

    findings = asyncio.run(check(settings, refresh=arguments.refresh))
    ok = all(finding.ok for finding in findings)
    if arguments.json:
        _print_json({"ok": ok, "checks": [asdict(finding) | {"ok": finding.ok} for finding in findings]})
    else:
        print(*findings, sep="\n")
    return 0 if ok else 1


def _env(arguments: argparse.Namespace, settings: Settings) -> int:
    from droid2api.observe.setups import NO_KEY, local_url, setups

    url = local_url(settings)
    key = settings.api_keys[0] if settings.api_keys else NO_KEY
    setup = setups(url, key, settings, arguments.model)[arguments.tool]
    if arguments.json:
        _print_json(asdict(setup))
    else:
        for part in setup.parts:
            place = f"# {part.where or 'in a shell'}:"
            print(place, file=sys.stderr if len(setup.parts) == 1 else sys.stdout, flush=True)
            print(part.text, end="", flush=True)
        if setup.start:
            _note(f"# Then start it: {setup.start}")
    if not _answers(url):
        _note(f"droid2api: nothing answers at {url} now; start the gateway there, or name another --port.")
    return 0


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), CONNECT_TIMEOUT).close()
    except OSError:
        return False
    return True


def _explain(arguments: argparse.Namespace, settings: Settings) -> int:
    from droid2api.observe.explain import explain, to_text

    body = _read_body(arguments.file)
    try:
        explained = explain(settings, body, BY_NAME.get(arguments.format), arguments.model)
    except RequestError as error:
        if arguments.json:
            refused = {"status": error.status, "message": error.message, "param": error.param}
            _print_json({"refused": refused})
        else:
            _note(f"droid2api: the gateway would refuse this request ({error.status}): {error.message}")
        return 1
    if arguments.json:
        _print_json(asdict(explained))
    else:
        color = sys.stdout.isatty() and not settings.environment.get("NO_COLOR")
        print(to_text(explained, color), end="")
    return 0


def _read_body(name: str) -> Json:
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        body = orjson.loads(content)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}.") from None
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{name}: line {error.lineno}, column {error.colno}: {error.msg}.") from None
    if type(body) is not dict:
        raise ConfigError(f"{name}: must be a JSON object.")
    return body


def _models(arguments: argparse.Namespace, settings: Settings) -> int:
    rows = [_describe(model, settings) for model in settings.models.values()]
    if arguments.json:
        _print_json(rows)
    else:
        cells = [[", ".join(value) if type(value) is list else value for value in row.values()] for row in rows]
        _show(["id", "name", "type", "host", "reasoning", "redirects"], cells)
    return 0


def _describe(model: Model, settings: Settings) -> Json:
    return {
        "id": model.id,
        "name": model.name,
        "type": model.format.TYPE,
        "host": urlsplit(model.endpoint.base_url).netloc,
        "reasoning": model.target.reasoning,
        "redirects": [pattern for pattern, id in settings.redirects.items() if id == model.id],
    }


def _usage(arguments: argparse.Namespace, settings: Settings) -> int:
    from droid2api.observe.costs import LIST_PRICES, NO_PRICES
    from droid2api.observe.usage import read_usage

    file = settings.data_folder / "usage.db"
    if not file.exists():
        _note(f"Nothing has been recorded yet: there is no {file}.")
        if arguments.json:
            _print_json([])
        return 0
    rows = [asdict(row) for row in read_usage(file, arguments.days, arguments.by)]
    if arguments.json:
        _print_json(rows)
    elif rows:
        cells = [[*list(row.values())[:-2], _money(row["cost"], row["unpriced"])] for row in rows]
        _show([arguments.by, *list(rows[0])[1:-1]], cells)
        _note(LIST_PRICES if any(row["cost"] is not None for row in rows) else NO_PRICES)
    else:
        _note(f"Nothing has been recorded in the last {arguments.days} days.")
    return 0


def _money(cost: float | None, unpriced: int) -> str:
    """ "-" for what is not known; ">" before a sum that lacks the cost of some requests."""
    if cost is None:
        return "-"
    return f"{'>' if unpriced else ''}${cost:,.{2 if cost >= 1 else 4}f}"


def _show(columns: list[str], rows: list[list[str | int]]) -> None:
    from droid2api.observe.tables import plain_table

    print(plain_table([column.replace("_", " ") for column in columns], rows), end="")


_COMMANDS: dict[str, Callable[[argparse.Namespace, Settings], int]] = {
    "check": _check,
    "env": _env,
    "explain": _explain,
    "models": _models,
    "usage": _usage,
}
