"""`droid2api run TOOL`: a gateway, where none answers yet, and the tool on it; both end with the tool.

The gateway lives in this process, so that nothing is left when the process ends, however it does. The tool has this
process's terminal and its group: it hears Ctrl+C and changes of the window's size from the terminal itself. Signals
that are sent to this process are passed on, and when the tool is stopped (Ctrl+Z) this process is, too, so that the
shell gets its terminal back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from droid2api.credentials.credential import CLIENT, DEMO
from droid2api.errors import ConfigError
from droid2api.gateway.logs import TextFormatter, start_logging
from droid2api.observe.check import read_health
from droid2api.observe.setups import NO_KEY, Wanted, local_url, model_for
from droid2api.observe.shells import usual_shell
from droid2api.observe.tools import TOOLS, Launch
from droid2api.settings import Settings, is_loopback
from droid2api.wire.fields import Json

OpenGateway: TypeAlias = Callable[[], AbstractAsyncContextManager[int]]
"""Starts the gateway; gives the port that it listens on. Raises ConfigError."""

PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to run: a tool of TOOLS, the model or None, the user's own arguments, and whether a demo is wanted."""

    tool: str
    model: str | None
    arguments: Sequence[str]
    demo: bool


async def run_tool(order: Order, settings: Settings, open_gateway: OpenGateway) -> int:
    """The tool's exit code; 128 and its number where a signal ended it. Raises ConfigError."""
    tool = TOOLS[order.tool]
    program = shutil.which(order.tool)
    if not program:
        raise ConfigError(f"{order.tool} is not installed, or not in PATH. Install it: {tool.install}")
    model = model_for(order.tool, settings, order.model)
    async with contextlib.AsyncExitStack() as running:
        url = await _reach_gateway(order, settings, open_gateway, model, running)
        key = settings.api_keys[0] if settings.api_keys else NO_KEY
        made = tempfile.TemporaryDirectory(prefix="droid2api-", ignore_cleanup_errors=True)
        folder = Path(running.enter_context(made))
        launch = tool.launch(Wanted(url, key, settings, model, usual_shell()), folder)
        running.callback(launch.end)
        environment = _environment(os.environ, launch, urlsplit(url).hostname or "")
        return await _supervise([program, *launch.arguments, *order.arguments], environment)


def _environment(own: Mapping[str, str], launch: Launch, host: str) -> dict[str, str]:
    """The user's, with the tool's variables; the way to the gateway leads through no proxy."""
    environment = {name: value for name, value in own.items() if name not in launch.without} | dict(launch.variables)
    if any(own.get(name) for name in PROXIES):
        direct = ",".join(filter(None, [own.get("NO_PROXY") or own.get("no_proxy"), host]))
        environment |= {"NO_PROXY": direct, "no_proxy": direct}
    return environment


# -- the gateway ----------------------------------------------------------------------------------------------------


async def _reach_gateway(
    order: Order, settings: Settings, open_gateway: OpenGateway, model: str, running: contextlib.AsyncExitStack
) -> str:
    """The URL of one that answers already, else of one that is started and ends with `running`. Raises ConfigError."""
    url = local_url(settings)
    health = await read_health(url) if settings.port else None
    if health == {}:
        where = f"{settings.host} port {settings.port}"
        raise ConfigError(f"{where} is taken by another program. Choose another port with --port or PORT.")
    if health is None:
        running.enter_context(_log_in_file(settings))
        url = local_url(replace(settings, port=await running.enter_async_context(open_gateway())))
        health = await read_health(url) or {}
        print(f"# droid2api: gateway at {url} until {order.tool} ends", file=sys.stderr)
    elif order.demo and not _is_demo(health):
        raise ConfigError(f"--demo: a gateway that is no demo runs at {url}. End it, or choose another --port.")
    elif _is_demo(health) and not order.demo:
        print(f"droid2api: the gateway at {url} is a demo: it says your words back.", file=sys.stderr)
    endpoint = settings.route(model).endpoint
    needs_credential = not (endpoint.api_key_env or endpoint.holds_secret or is_loopback(endpoint.host))
    if _source(health) == CLIENT and needs_credential:
        print(
            f"droid2api: no credential is configured, so {endpoint.host} will refuse this. Set FACTORY_API_KEY; "
            f"or try it without an account: droid2api --demo run {order.tool}",
            file=sys.stderr,
        )
    return url


def _source(health: Json) -> object:
    credential = health.get("credential")
    return credential.get("source") if type(credential) is dict else None


def _is_demo(health: Json) -> bool:
    return _source(health) == DEMO


@contextlib.contextmanager
def _log_in_file(settings: Settings) -> Iterator[None]:
    """The terminal is the tool's: the log of this session is a file beside usage.db, which only its owner may read."""
    file = settings.data_folder / "run.log"
    handler: logging.Handler = logging.NullHandler()
    with contextlib.suppress(OSError):  # without a place for it there is none
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    start_logging(settings)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


# -- the tool -------------------------------------------------------------------------------------------------------


async def _supervise(words: list[str], environment: dict[str, str]) -> int:
    """Run the program until it ends. Raises ConfigError when it cannot be started."""
    folder = environment.pop("DROID2API_CALLED_FROM", None)  # from a start script, which runs in its own folder
    try:
        process = subprocess.Popen(words, env=environment, cwd=folder)  # noqa: S603, ASYNC220 - the user's own tool; it only forks
    except OSError as error:
        raise ConfigError(f"{words[0]}: cannot be started: {error.strerror}.") from None
    with _passing_signals_to(process.pid):
        code = await asyncio.to_thread(_wait, process)
    return 128 - code if code < 0 else code


def _wait(process: subprocess.Popen[bytes]) -> int:
    if os.name != "posix":
        return process.wait()
    while True:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode
        if _in_foreground():
            os.kill(os.getpid(), signal.SIGSTOP)  # the shell goes on; its `fg` continues us
            os.kill(process.pid, signal.SIGCONT)


@contextlib.contextmanager
def _passing_signals_to(pid: int) -> Iterator[None]:
    """While the tool runs, signals are for it."""
    if os.name != "posix":
        before = signal.signal(signal.SIGINT, lambda *_: None)  # Windows tells everyone in the console
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, _send, pid, number)
    for number in (signal.SIGINT, signal.SIGQUIT):
        loop.add_signal_handler(number, _send_unless_heard, pid, number)
    loop.add_signal_handler(signal.SIGTSTP, lambda: None)  # the tool decides whether it is stopped
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
            loop.remove_signal_handler(number)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, number)


def _send_unless_heard(pid: int, number: signal.Signals) -> None:
    """From the terminal (Ctrl+C) the tool has got it already, and a second one often means more than the first."""
    if not _in_foreground():
        _send(pid, number)


def _in_foreground() -> bool:
    """Whether this process and the tool are what the terminal's keys reach."""
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    except OSError:  # there is no terminal
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
