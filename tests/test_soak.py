"""The short forms of two long runs; `scripts/soak` and `scripts/fuzz` are the long ones."""

import importlib.util
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def run(module, *arguments):
    command = [sys.executable, "-m", f"tests.{module}", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=110)
    print(ended.stdout, ended.stderr)
    return ended.returncode


def test_soak():
    assert run("soak", "--minutes", "0.33", "--streams", "60", "--hostile", "3") == 0


@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris cannot be had for this Python")
@pytest.mark.parametrize("target", ["sse", "chat", "responses", "anthropic"])
def test_fuzz(target):
    assert run("fuzz", "--seconds", "20", target) == 0
