"""`droid2api env service`: the gateway as a service of the user's that starts by itself.

No key is in it: a .env file in the working folder holds those, or config.json's own.
"""

from __future__ import annotations

import plistlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from droid2api.errors import ConfigError
from droid2api.observe.setups import Part, Setup
from droid2api.observe.shells import SHELLS

LABEL = "droid2api"


def service(manager: str | None, arguments: list[str], folder: Path, log: Path) -> Setup:
    """For the service manager named, else this system's. `arguments` are the gateway's; it runs in `folder`, and where
    the manager keeps no log, `log` is one. Raises ConfigError for what a manager cannot hold.
    """
    words = [sys.executable, "-m", "droid2api", *arguments]
    for text in [*words, str(folder), str(log)]:
        if not text.isprintable():
            raise ConfigError(f"service: {text[:100]!r} has characters that no service manager takes.")
    return _MAKERS[manager or _usual()](words, folder, log)


def _usual() -> str:
    return {"darwin": "launchd", "win32": "windows"}.get(sys.platform, "systemd")


def _systemd(words: list[str], folder: Path, log: Path) -> Setup:
    """Exit code 2 is a mistake in the settings: to start again would not mend it."""
    unit = f"""\
[Unit]
Description=droid2api

[Service]
WorkingDirectory={str(folder).replace("%", "%%")}
ExecStart={" ".join(map(_systemd_word, words))}
Restart=on-failure
RestartPreventExitStatus=2
TimeoutStopSec=40

[Install]
WantedBy=default.target
"""
    start = "systemctl --user daemon-reload && systemctl --user enable --now droid2api"
    return Setup("service", "systemd", (Part("~/.config/systemd/user/droid2api.service", "ini", unit),), start)


def _systemd_word(text: str) -> str:
    text = text.replace("%", "%%").replace("$", "$$")
    return text if re.fullmatch(r"[\w./:=+%-]+", text) else '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _launchd(words: list[str], folder: Path, log: Path) -> Setup:
    value = {
        "Label": LABEL,
        "ProgramArguments": words,
        "WorkingDirectory": str(folder),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
    }
    place = f"~/Library/LaunchAgents/{LABEL}.plist"
    start = f"launchctl bootstrap gui/$(id -u) {place}"
    return Setup("service", "launchd", (Part(place, "xml", plistlib.dumps(value, sort_keys=False).decode()),), start)


def _windows(words: list[str], folder: Path, log: Path) -> Setup:
    """schtasks.exe itself takes no working folder."""
    from subprocess import list2cmdline

    word = SHELLS["powershell"].word
    program = re.sub(r"python\.exe$", "pythonw.exe", words[0])  # without a window
    action = f"-Execute {word(program)} -Argument {word(list2cmdline(words[1:]))} -WorkingDirectory {word(str(folder))}"
    line = (
        f"Register-ScheduledTask -TaskName {LABEL} -Trigger (New-ScheduledTaskTrigger -AtLogOn -User $env:USERNAME) "
        f"-Action (New-ScheduledTaskAction {action}) "
        "-Settings (New-ScheduledTaskSettingsSet -ExecutionTimeLimit ([TimeSpan]::Zero) -AllowStartIfOnBatteries)\n"
    )
    start = f"Start-ScheduledTask -TaskName {LABEL}"
    return Setup("service", "Task Scheduler", (Part("", "powershell", line),), start)


_MAKERS: Mapping[str, Callable[[list[str], Path, Path], Setup]] = {
    "systemd": _systemd,
    "launchd": _launchd,
    "windows": _windows,
}
MANAGERS = tuple(_MAKERS)
