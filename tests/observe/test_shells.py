"""Values come through each shell as they are: in the real shells where they are installed, else by their rules."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from droid2api.errors import ConfigError
from droid2api.observe.shells import SHELLS, usual_shell

HOSTILE = [
    "plain-1.2:/=",
    "",
    'it\'s "quoted" \\ back\\\\',
    "$HOME ${HOME} $(x) `x` %PATH% %%a ^% !x!",
    "a&b|c<d>e (f) [g] {h} *?~#;,@",
    "\u2018typographic\u2019 \u201equotes\u201c \u201b",
    " spaces \t around ",
    "模型 \U0001f600",
    "-dash --x",
    "trailing\\",
]
SHOW = "import json, os, sys; print(json.dumps([os.environ['DROID_TEST'], sys.argv[1:]]))"


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("shell", ["bash", "sh", "fish", "zsh"])
def test_the_real_shell_gives_back_what_was_quoted(tmp_path, shell, value):
    program = shutil.which(shell) or pytest.skip(f"{shell} is not installed")  # a developer need not have it
    lines = SHELLS["fish" if shell == "fish" else "bash"]
    text = lines.variables({"DROID_TEST": value}) + lines.command([sys.executable, "-c", SHOW, value, "x"]) + "\n"
    environment = {"HOME": str(tmp_path), "PATH": os.defpath, "LC_ALL": "C.UTF-8"}
    result = subprocess.run([program, "-c", text], env=environment, capture_output=True, text=True, timeout=30)
    assert json.loads(result.stdout) == [value, [value, "x"]], result.stderr


@pytest.mark.parametrize("value", HOSTILE)
def test_powershell_reads_one_literal_string(value):
    """In single quotes only quotes mean something, of whatever kind: two are one (about_Quoting_Rules)."""
    line = SHELLS["powershell"].variable("X", value)
    found = re.fullmatch(r"\$env:X = '((?:[^'\u2018\u2019\u201a\u201b]|(['\u2018\u2019\u201a\u201b])\2)*)'", line)
    assert found
    assert re.sub("(['\u2018\u2019\u201a\u201b])\\1", r"\1", found.group(1)) == value


@pytest.mark.parametrize("value", [value for value in HOSTILE if value.isprintable()])
def test_cmd_reads_no_character_as_its_own(value):
    """A caret makes the next character a plain one; a variable's name that ends in a caret is none (help set)."""
    line = SHELLS["cmd"].variable("X", value)
    assert re.search(r"%(?=\w)[^%]*(?<!\^)%", line) is None
    assert re.sub(r"\^(.)", r"\1", line) == f"set X={value}"
    assert re.fullmatch(r"set X=(?:\^.|[^\s\"%&|<>^()!])*", line)


def test_cmd_quotes_arguments_for_the_program(tmp_path):
    """What is left when cmd has taken its carets is what the C runtime splits."""
    assert SHELLS["cmd"].command(["cline", "-k", 'a "b" & c']) == 'cline -k ^"a^ \\^"b\\^"^ ^&^ c^"'


def test_what_cmd_cannot_hold():
    with pytest.raises(ConfigError, match=r"--shell cmd: 'a\\nb' has characters that cmd cannot hold"):
        SHELLS["cmd"].variable("X", "a\nb")


@pytest.mark.parametrize(("system", "name"), [("posix", "bash"), ("nt", "powershell")])
def test_the_usual_shell(monkeypatch, system, name):
    monkeypatch.setattr("droid2api.observe.shells.os", type("os", (), {"name": system}))
    assert usual_shell().name == name
