"""The subcommands of the command line: their arguments, and what each prints.

What a command needs is imported when it runs, so that a start of the gateway loads none of it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

import orjson

from droid2api.errors import ConfigError, RequestError
from droid2api.formats import BY_NAME
from droid2api.settings import Model, Settings
from droid2api.wire.fields import Json

if TYPE_CHECKING:
    from droid2api.observe.run import OpenGateway
    from droid2api.observe.setups import Setup
    from droid2api.observe.usage import Column

CLIENTS = ("claude", "codex", "droid", "openai", "opencode", "cline", "aider", "gemini")
"""What `env` knows, besides `service`."""
RUNNABLE = ("claude", "codex", "droid", "gemini", "opencode", "aider")
SHELLS = ("bash", "fish", "powershell", "cmd")
MANAGERS = ("systemd", "launchd", "windows")
COMPLETED = ("bash", "zsh", "fish")
Read: TypeAlias = Callable[[], Settings]
_FORMULA = re.compile(r"^[=+\-@\t\r]")
"""What a spreadsheet would run, so that an apostrophe comes before it."""
CONNECT_TIMEOUT = 2.0
"""Seconds that the gateway may take to accept a connection."""


class _Commands:
    """The subcommands of a parser. What stands before a command may stand after it, too."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        without = "without one, the gateway is started"
        self._added = parser.add_subparsers(dest="command", title="commands", description=without, metavar="COMMAND")
        self._place = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
        for option, help in (("--config", "settings"), ("--host", "the gateway's address")):
            self._place.add_argument(option, help=f"{help} (as without a command)")
        self._place.add_argument("--port", type=int, help="the gateway's port (as without a command)")

    def add(self, name: str, help: str, *, json: bool = False) -> argparse.ArgumentParser:
        command = self._added.add_parser(name, help=help, description=help, parents=[self._place])
        if json:
            command.add_argument("--json", action="store_true", help="print JSON")
        return command


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Without a command the gateway is started."""
    commands = _Commands(parser)
    _add_run(commands)
    check = commands.add("check", "look whether config, credential, services, port and files are in order", json=True)
    check.add_argument("--refresh", action="store_true", help="renew the token, too (else none is touched)")
    _add_env(commands)
    what = "show what the gateway would send to the service for a request, without sending it"
    explain = commands.add("explain", what, json=True)
    explain.add_argument("file", metavar="request.json", help="body of a request as a client sends it; - is stdin")
    explain.add_argument("--model", help="ask for this model instead")
    explain.add_argument("--format", choices=tuple(BY_NAME), help="of the body (default: guessed from it)")
    models = commands.add("models", "list the configured models", json=True)
    offers = "list what the service behind this endpoint offers, as lines for config.json"
    models.add_argument("--upstream", metavar="NAME", help=offers)
    _add_usage(commands)
    completion = commands.add("completion", "print a script with which a shell completes this command line")
    completion.add_argument("shell", choices=COMPLETED)
    completion.set_defaults(parser=parser)


def _add_run(commands: _Commands) -> None:
    run = commands.add("run", "start a tool on this gateway, and the gateway where none answers")
    run.add_argument("tool", choices=RUNNABLE)
    run.epilog = 'Arguments for the tool stand after --, such as: droid2api run claude -- -p "Hello"'
    run.add_argument("--model", help="model to ask for (default: the first one that fits)")
    demo = run.add_argument("--demo", nargs="?", type=float, const=0.02, metavar="PACE", help="as without a command")
    demo.default = argparse.SUPPRESS  # what stands before the command holds


def _add_env(commands: _Commands) -> None:
    env = commands.add("env", "print what to paste into a client so that it uses this gateway", json=True)
    env.add_argument("tool", choices=(*CLIENTS, "service"), help="service: start the gateway with the computer")
    env.add_argument("--model", help="model to ask for (default: the first one that fits)")
    env.add_argument("--shell", choices=SHELLS, help="of the lines (default: bash; on Windows powershell)")
    env.add_argument("--manager", choices=MANAGERS, help="of the service (default: this system's)")


def _add_usage(commands: _Commands) -> None:
    usage = commands.add("usage", "list the tokens that were used")
    form = usage.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument(
        "--csv", action="store_true", help="print CSV, as the page saves it: a line for each day and model"
    )
    usage.add_argument("--days", type=_positive, default=30, help="how far to look back (30)")
    usage.add_argument("--by", choices=("model", "client", "day"), help="what a line is for (model)")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def run(arguments: argparse.Namespace, read: Read, open_gateway: OpenGateway) -> int:
    """Run the command that was given; gives the exit code. `read` gives the settings, `open_gateway` starts a gateway
    on them. Raises ConfigError.
    """
    logging.getLogger("droid2api").addHandler(logging.NullHandler())  # what matters is printed
    if arguments.command == "completion":  # for the start of a shell, whatever is wrong with the settings
        return _completion(arguments)
    if arguments.command == "run":
        return _run(arguments, read(), open_gateway)
    return _COMMANDS[arguments.command](arguments, read())


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


def _run(arguments: argparse.Namespace, settings: Settings, open_gateway: OpenGateway) -> int:
    from droid2api.observe.run import Order, run_tool

    order = Order(arguments.tool, arguments.model, arguments.arguments, demo=arguments.demo is not None)
    try:
        return asyncio.run(run_tool(order, settings, open_gateway))
    except KeyboardInterrupt:  # before the tool was there, or after it
        return 130


def _completion(arguments: argparse.Namespace) -> int:
    from droid2api.observe.completion import script

    print(script(arguments.parser, arguments.shell), end="")
    return 0


def _env(arguments: argparse.Namespace, settings: Settings) -> int:
    from droid2api.observe.setups import local_url

    setup = _service(arguments, settings) if arguments.tool == "service" else _setup(arguments, settings)
    if arguments.json:
        _print_json(asdict(setup))
    else:
        _print_setup(setup)
    url = local_url(settings)
    if arguments.tool != "service" and not _answers(url):
        _note(f"droid2api: nothing answers at {url} now; start the gateway there, or name another --port.")
    return 0


def _setup(arguments: argparse.Namespace, settings: Settings) -> Setup:
    from droid2api.observe.setups import NO_KEY, local_url, setup
    from droid2api.observe.shells import SHELLS, usual_shell

    if arguments.manager:
        raise ConfigError(f"--manager: is for env service, not for env {arguments.tool}.")
    key = settings.api_keys[0] if settings.api_keys else NO_KEY
    shell = SHELLS[arguments.shell] if arguments.shell else usual_shell()
    return setup(arguments.tool, local_url(settings), key, settings, arguments.model, shell)


def _service(arguments: argparse.Namespace, settings: Settings) -> Setup:
    from droid2api.observe.service import service

    for option in ("model", "shell"):
        if getattr(arguments, option):
            raise ConfigError(f"--{option}: is for a client, not for env service.")
    words = ["--config", str(settings.source.resolve())] if settings.own else []  # else it is found in the folder
    words += ["--host", arguments.host] if arguments.host else []
    words += ["--port", str(arguments.port)] if arguments.port is not None else []
    return service(arguments.manager, words, Path.cwd(), settings.data_folder.resolve() / "service.log")


def _print_setup(setup: Setup) -> None:
    """One part, or the one that is needed, can be evaluated: what else there is to say goes to stderr, and what is
    optional to a terminal only.
    """
    needed = [part for part in setup.parts if not part.optional]
    for part in needed:
        place = f"# {part.where or ('in a program' if part.language == 'python' else 'in a shell')}:"
        print(place, file=sys.stderr if len(needed) == 1 else sys.stdout, flush=True)
        print(part.text, end="", flush=True)
    for part in setup.parts:
        if part.optional and sys.stdout.isatty():
            _note(f"# {part.where} (optional):\n{part.text}")
    if setup.start:
        _note(f"# Then start it: {setup.start}")


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
    if arguments.upstream is not None:
        return _offers(arguments, settings)
    rows = [_describe(model, settings) for model in settings.models.values()]
    if arguments.json:
        _print_json(rows)
    else:
        cells = [[", ".join(value) if type(value) is list else value for value in row.values()] for row in rows]
        _show(["id", "name", "type", "host", "reasoning", "redirects"], cells)
    return 0


def _offers(arguments: argparse.Namespace, settings: Settings) -> int:
    from droid2api.observe.offers import offered

    offers = offered(settings, arguments.upstream)
    if arguments.json:
        _print_json(offers)
        return 0
    for offer in offers:
        print(f"{orjson.dumps(offer['line']).decode()},")
    configured = sum(offer["configured"] for offer in offers)
    many = "1 model" if len(offers) == 1 else f"{len(offers)} models"
    _note(f"# {many}, {configured} configured already. Copy what you want into `models`.")
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

    if arguments.csv and arguments.by:
        raise ConfigError("--csv: has a line for each day and model, so it takes no --by.")
    file = settings.data_folder / "usage.db"
    if not file.exists():
        _note(f"Nothing has been recorded yet: there is no {file}.")
    if arguments.csv:
        return _usage_csv(file, arguments.days)
    by: Column = arguments.by or "model"
    rows = [asdict(row) for row in read_usage(file, arguments.days, by)]
    if arguments.json:
        _print_json(rows)
    elif rows:
        cells = [[*list(row.values())[:-2], _money(row["cost"], row["unpriced"])] for row in rows]
        _show([by, *list(rows[0])[1:-1]], cells)
        _note(LIST_PRICES if any(row["cost"] is not None for row in rows) else NO_PRICES)
    elif file.exists():
        _note(f"Nothing has been recorded in the last {arguments.days} days.")
    return 0


def _usage_csv(file: Path, days: int) -> int:
    """As the page saves it: what no price is known for is empty."""
    import csv

    from droid2api.observe.usage import CSV_COLUMNS, read_days

    writer = csv.writer(sys.stdout, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for day, row in read_days(file, days):
        values = asdict(row) | {"day": day, "model": _FORMULA.sub(r"'\g<0>", row.key)}
        writer.writerow([values[column] for column in CSV_COLUMNS])
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
