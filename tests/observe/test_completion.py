"""The scripts that complete the command line, in the real shells."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from droid2api.__main__ import _parser
from droid2api.observe.completion import SHELL_NAMES, script

CASES = [
    ("", {"run", "env", "check", "completion", "explain", "models", "usage"}),
    ("en", {"env"}),
    ("--de", {"--demo"}),
    ("run co", {"codex"}),
    ("--port 80 run co", {"codex"}),
    ("env claude --shell p", {"powershell"}),
    ("env service --manager s", {"systemd"}),
    ("usage --b", {"--by"}),
    ("usage --by d", {"day"}),
    ("run claude -- --mo", set()),
]
ASK_BASH = """
COMP_WORDS=(droid2api {words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_droid2api
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def ask(shell: str, code: str, home) -> list[str]:
    program = shutil.which(shell) or pytest.skip(f"{shell} is not installed")  # a developer need not have it
    environment = {"HOME": str(home), "PATH": os.defpath}
    result = subprocess.run([program, "-c", code], env=environment, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.split("\n")


def words_for(typed: str) -> str:
    return " ".join(f"'{word}'" for word in typed.split(" "))


@pytest.mark.parametrize(("typed", "expected"), CASES)
def test_bash(tmp_path, typed, expected):
    said = ask("bash", script(_parser(), "bash") + ASK_BASH.format(words=words_for(typed)), tmp_path)
    assert {word for word in said if word and not (typed == "" and word.startswith("-"))} == expected


@pytest.mark.parametrize(("typed", "expected"), [case for case in CASES if "--" not in case[0].split(" ")])
def test_fish(tmp_path, typed, expected):
    said = ask("fish", script(_parser(), "fish") + f"complete -C 'droid2api {typed}'\n", tmp_path)
    assert {line.split("\t")[0] for line in said if line} == expected


def test_zsh(tmp_path):
    """It takes the script of bash, which must be of its grammar, too."""
    code = script(_parser(), "zsh") + "print ${_comps[droid2api]}\n"
    assert "_droid2api" in ask("zsh", code, tmp_path)[0]


@pytest.mark.parametrize("shell", SHELL_NAMES)
def test_nothing_is_left_out(shell):
    text = script(_parser(), shell)
    dashes = "-l " if shell == "fish" else "--"
    for name in ("run", "env", "usage", f"{dashes}shell", f"{dashes}demo", f"{dashes}refresh"):
        assert name in text
