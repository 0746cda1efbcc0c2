"""The gateway as a service: what each service manager is given."""

from __future__ import annotations

import plistlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from droid2api.errors import ConfigError
from droid2api.observe import service as module
from droid2api.observe.service import service

HOSTILE = "a \"b\" $HOME %h \\ 'c' & d"
FOLDER = Path("/srv/my gateway 100%")
ARGUMENTS = ["--config", f"/srv/{HOSTILE}/config.json", "--port", "3000"]
LOG = Path("/srv/service.log")


def text_of(manager, folder=FOLDER):
    (part,) = service(manager, ARGUMENTS, folder, LOG).parts
    return part.text


def test_systemd(tmp_path):
    text = text_of("systemd")
    assert f"WorkingDirectory={str(FOLDER).replace('%', '%%')}\n" in text
    line = re.search("^ExecStart=(.*)", text, re.MULTILINE).group(1)
    words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]
    assert words == [sys.executable, "-m", "droid2api", *ARGUMENTS]


def test_systemd_itself_takes_it(tmp_path):
    verify = shutil.which("systemd-analyze") or pytest.skip("systemd is not installed")  # nor has every developer it
    folder = tmp_path / "my gateway 100%"
    folder.mkdir()
    file = tmp_path / "droid2api.service"
    file.write_text(text_of("systemd", folder))
    result = subprocess.run([verify, "verify", "--man=no", str(file)], capture_output=True, text=True, timeout=60)
    assert [line for line in result.stderr.splitlines() if "droid2api.service" in line] == []


def test_launchd():
    value = plistlib.loads(text_of("launchd").encode())
    assert value["ProgramArguments"] == [sys.executable, "-m", "droid2api", *ARGUMENTS]
    assert (value["WorkingDirectory"], value["StandardErrorPath"]) == (str(FOLDER), str(LOG))


def test_windows(monkeypatch):
    monkeypatch.setattr(module.sys, "executable", r"C:\Program Files\Python\python.exe")
    text = text_of("windows")
    words = re.findall(r"'((?:[^']|'')*)'", text)
    assert words[0] == r"C:\Program Files\Python\pythonw.exe"
    assert words[1].replace("''", "'") == subprocess.list2cmdline(["-m", "droid2api", *ARGUMENTS])
    assert words[2] == str(FOLDER)
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("platform", "title"), [("linux", "systemd"), ("darwin", "launchd"), ("win32", "Task Scheduler")]
)
def test_without_a_choice_it_is_this_systems(monkeypatch, platform, title):
    monkeypatch.setattr(module.sys, "platform", platform)
    made = service(None, ARGUMENTS, FOLDER, LOG)
    assert (made.title, made.tool) == (title, "service")
    assert made.start


def test_a_folder_that_no_manager_takes():
    with pytest.raises(ConfigError, match=r"service: '/srv/a\\nb' has characters that no service manager takes"):
        service("systemd", [], Path("/srv/a\nb"), LOG)
