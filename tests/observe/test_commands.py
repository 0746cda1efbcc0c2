"""The subcommands of the command line: what they print where, and their exit codes."""

import asyncio
import csv
import io
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest

from droid2api.__main__ import main
from droid2api.observe import commands
from droid2api.observe.completion import SHELL_NAMES
from droid2api.observe.costs import LIST_PRICES, NO_PRICES
from droid2api.observe.service import MANAGERS
from droid2api.observe.shells import SHELLS
from droid2api.observe.tools import TOOLS
from droid2api.observe.usage import CSV_COLUMNS, write
from tests.harness import MODELS, demo_gateway
from tests.services import free_port

ROOT = Path(__file__).parent.parent.parent
OWN = ("FACTORY_API_KEY", "DROID_REFRESH_KEY", "DROID2API_KEYS", "DROID2API_CONFIG", "DROID2API_DATA", "PORT", "HOST")


@dataclass
class Command:
    """Runs the command line in an empty folder with a config.json; `run` gives (exit code, stdout, stderr)."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture

    def configure(self, **config):
        self.folder.joinpath("config.json").write_text(json.dumps({"models": MODELS, "port": free_port()} | config))

    def run(self, *arguments):
        self.monkeypatch.setattr(sys, "argv", ["droid2api", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *self.capsys.readouterr())


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    for name in OWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    command = Command(tmp_path, monkeypatch, capsys)
    command.configure()
    return command


def refused(result):
    """The one line of an error that the owner must mend."""
    code, out, errors = result
    assert (code, out) == (2, "")
    assert errors.count("\n") == 1
    return errors


# -- for all --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [("models",), ("check",), ("env", "claude"), ("usage",), ("explain", "-"), ("run", "claude")]
)
def test_a_wrong_config_is_one_line(command, arguments):
    command.configure(port="x")
    assert "config.json: port: must be an integer" in refused(command.run(*arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",),
        ("env",),
        ("env", "emacs"),
        ("env", "claude", "--shell", "tcsh"),
        ("env", "service", "--manager", "upstart"),
        ("run",),
        ("run", "emacs"),
        ("run", "claude", "--demo", "x.5"),
        ("--demo", "nothing"),
        ("completion", "tcsh"),
        ("explain",),
        ("explain", "-", "--format", "x"),
        ("usage", "--days", "0"),
        ("usage", "--by", "hour"),
        ("usage", "--csv", "--json"),
        ("--demo", "0", "models"),
        ("models", "--demo"),
    ],
)
def test_wrong_usage(command, arguments):
    code, out, errors = command.run(*arguments)
    assert (code, out) == (2, "")
    assert errors.startswith("usage: droid2api")


def test_who_reads_may_have_enough(command):
    """As in `droid2api models | head -1`: no complaint."""
    read, write = os.pipe()
    os.close(read)
    run = [sys.executable, "-m", "droid2api", "models"]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(run, stdout=write, stderr=subprocess.PIPE, env=environment, timeout=60)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, b"")


@pytest.mark.parametrize("before", [True, False])
def test_options_stand_before_or_after_the_command(command, before):
    Path("config.json").rename("other.json")
    options = ("--config", "other.json", "--host", "127.0.0.2", "--port", "4567")
    arguments = (*options, "env", "claude") if before else ("env", *options, "claude")
    code, out, _ = command.run(*arguments)
    assert code == 0
    assert "ANTHROPIC_BASE_URL=http://127.0.0.2:4567\n" in out
    assert "--port: must be from 0 to 65535" in refused(command.run("env", "claude", "--port", "70000", *options[:2]))


def test_a_start_loads_no_command():
    code = """if True:
        import sys
        from droid2api.__main__ import _parser
        assert _parser().parse_args([]).command is None
        print(*(name for name in sys.modules if name.startswith("droid2api.observe.")), "difflib" in sys.modules)
    """
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert result.stdout == "droid2api.observe.commands False\n"


def test_it_runs_as_a_program(command):
    environment = {"HOME": str(command.folder), "PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "droid2api", "models", "--json"]
    result = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (0, "")
    assert [model["id"] for model in json.loads(result.stdout)] == [model["id"] for model in MODELS]


# -- check ----------------------------------------------------------------------------------------------------------


def test_check_finds_a_problem(command):
    gone = f"http://127.0.0.1:{free_port()}"
    endpoints = [{"name": name, "base_url": gone} for name in ("anthropic", "openai", "common", "google")]
    command.configure(endpoint=endpoints)
    code, out, errors = command.run("check")
    assert (code, errors) == (1, "")
    states = [line.split()[0] for line in out.splitlines()]
    assert states == ["ok", "ok", "problem", *["ok"] * len(MODELS), "ok"]
    code, out, _ = command.run("check", "--json")
    found = json.loads(out)
    assert (code, found["ok"]) == (1, False)
    assert [check["ok"] for check in found["checks"]] == [True, True, False, *[True] * len(MODELS), True]
    assert found["checks"][2]["todo"]


def test_check_is_quiet_of_what_it_reports(command):
    """A broken token file is logged by the core, too: once is enough."""
    file = command.folder / "home" / ".factory" / "auth.json"
    file.parent.mkdir(parents=True)
    file.write_text("{broken")
    command.configure(models=[])
    environment = {"HOME": str(command.folder / "home"), "PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "droid2api", "check"]
    result = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (1, "")


async def test_check_with_everything_in_order(tmp_path, command):
    async with demo_gateway(tmp_path, port=free_port()):
        environment = {
            "HOME": str(tmp_path),
            "PATH": os.defpath,
            "PYTHONPATH": str(ROOT),
            "FACTORY_API_KEY": "test-key",
        }
        arguments = [sys.executable, "-m", "droid2api", "check"]
        result = await asyncio.to_thread(
            subprocess.run, arguments, env=environment, capture_output=True, text=True, timeout=30
        )
    assert (result.returncode, result.stderr) == (0, "")
    assert {line.split()[0] for line in result.stdout.splitlines()} == {"ok"}


# -- env ------------------------------------------------------------------------------------------------------------


def test_env_prints_what_can_be_evaluated(command):
    code, out, errors = command.run("env", "claude")
    assert code == 0
    assert all(line.startswith(("export ANTHROPIC_", "export CLAUDE_CODE_")) for line in out.splitlines())
    assert "# Then start it: claude" in errors
    assert "nothing answers at http://127.0.0.1:" in errors
    assert "--port" in errors


def test_env_tells_a_terminal_of_what_is_optional(command):
    """Not whoever evaluates it at each start of a shell."""
    assert "modelPicker" not in command.run("env", "claude")[2]
    command.monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, out, errors = command.run("env", "claude")
    assert (code, "modelPicker" in out) == (0, False)
    assert "# ~/.claude/settings.json (optional):\n{" in errors


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "export OPENAI_API_KEY='it'\"'\"'s %a%'\n"),
        ("fish", "set -gx OPENAI_API_KEY 'it\\'s %a%'\n"),
        ("powershell", "$env:OPENAI_API_KEY = 'it''s %a%'\n"),
        ("cmd", "set OPENAI_API_KEY=it's^ ^%a^%\n"),
    ],
)
def test_env_for_each_shell(command, shell, line):
    command.configure(api_keys=["it's %a%"])
    code, out, _ = command.run("env", "aider", "--shell", shell)
    assert code == 0
    assert line in out
    assert json.loads(command.run("env", "aider", "--shell", shell, "--json")[1])["parts"][0]["language"] == shell


def test_choices_are_what_there_is():
    """They are written down twice, so that a start loads no command's module."""
    assert tuple(TOOLS) == commands.RUNNABLE
    assert tuple(SHELLS) == commands.SHELLS
    assert commands.MANAGERS == MANAGERS
    assert commands.COMPLETED == SHELL_NAMES


def test_a_service_does_not_choose_a_config_that_only_lies_there(command):
    """One that was chosen may decide where a refresh token goes."""
    assert "--config" not in command.run("env", "service", "--manager", "systemd")[1]


def test_env_service(command):
    options = ("--manager", "systemd", "--port", "3456", "--config", "config.json")
    code, out, errors = command.run("env", "service", *options)
    assert code == 0
    assert out.startswith("[Unit]\n")
    assert f"-m droid2api --config {command.folder}/config.json --port 3456\n" in out
    assert "# ~/.config/systemd/user/droid2api.service:" in errors
    assert "# Then start it: systemctl --user" in errors
    assert "nothing answers" not in errors
    launchd = json.loads(command.run("env", "service", "--manager", "launchd", "--json")[1])
    assert f"{command.folder}/data/service.log" in launchd["parts"][0]["text"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("claude", "--manager", "systemd"), "--manager: is for env service, not for env claude."),
        (("service", "--model", "gpt-5.5"), "--model: is for a client, not for env service."),
        (("service", "--shell", "bash"), "--shell: is for a client, not for env service."),
    ],
)
def test_env_with_an_option_of_something_else(command, arguments, said):
    assert refused(command.run("env", *arguments)) == f"droid2api: {said}\n"


def test_env_says_where_a_program_belongs(command):
    assert command.run("env", "openai")[2].startswith("# in a program:\n")


def test_env_with_several_parts_says_where_each_belongs(command):
    code, out, _ = command.run("env", "codex")
    assert code == 0
    assert out.startswith("# ~/.codex/config.toml:\nmodel = ")
    assert "\n# in a shell:\nexport DROID2API_KEY=any\n" in out


def test_env_as_json(command):
    code, out, _ = command.run("env", "opencode", "--json")
    setup = json.loads(out)
    assert code == 0
    assert setup.keys() == {"tool", "title", "parts", "start"}
    assert json.loads(setup["parts"][0]["text"])["provider"]


def test_env_gives_the_key_of_the_gateway(command):
    command.configure(api_keys=["client-key-1", "client-key-2"])
    assert "export ANTHROPIC_AUTH_TOKEN=client-key-1\n" in command.run("env", "claude")[1]


def test_env_with_a_gateway_that_runs(command):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code, _, errors = command.run("env", "aider", "--port", str(listener.getsockname()[1]))
    assert code == 0
    assert "nothing answers" not in errors


def test_env_for_a_model_that_is_not_there(command):
    errors = refused(command.run("env", "aider", "--model", "gpt-9"))
    assert "--model: 'gpt-9' is not configured. Configured models: " in errors


# -- completion -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_whatever_is_wrong_with_the_settings(command, shell):
    command.configure(port="x")
    code, out, errors = command.run("completion", shell)
    assert (code, errors) == (0, "")
    assert "droid2api" in out


# -- explain --------------------------------------------------------------------------------------------------------

BODY = {"model": "glm-4.6", "max_tokens": 99, "messages": [{"role": "user", "content": "hi"}], "top_k": 3}


def test_explain_a_file(command):
    Path("request.json").write_text(json.dumps(BODY))
    code, out, errors = command.run("explain", "request.json")
    assert (code, errors) == (0, "")
    assert out.startswith("format    anthropic (guessed: only this format has 'top_k'")
    assert "\x1b" not in out


def test_explain_stdin_as_json(command):
    command.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(BODY).encode())))
    code, out, _ = command.run("explain", "-", "--json", "--format", "anthropic", "--model", "gpt-5.5")
    explained = json.loads(out)
    assert code == 0
    assert (explained["guess"], explained["lane"], explained["model"]) == ("", "translate", "gpt-5.5")
    assert (explained["body"]["max_output_tokens"], explained["dropped"]) == (99, ["top_k"])


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_explain_in_colors_on_a_terminal(command, no_color, colored):
    Path("request.json").write_text(json.dumps(BODY))
    command.monkeypatch.setenv("NO_COLOR", no_color)
    command.monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert ("\x1b[32m+" in command.run("explain", "request.json")[1]) is colored


def test_explain_a_request_that_would_be_refused(command):
    Path("request.json").write_text(json.dumps(BODY | {"messages": 3}))
    code, out, errors = command.run("explain", "request.json")
    assert (code, out) == (1, "")
    assert "would refuse this request (400): messages: must be a list" in errors
    code, out, _ = command.run("explain", "request.json", "--json")
    assert (code, json.loads(out)["refused"]["param"]) == (1, "messages")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "request.json: cannot be read: No such file"),
        ("{", "request.json: line 1, column"),
        ("[]", "must be a JSON object"),
    ],
)
def test_explain_what_cannot_be_read(command, content, said):
    if content is not None:
        Path("request.json").write_text(content)
    assert said in refused(command.run("explain", "request.json"))


# -- models ---------------------------------------------------------------------------------------------------------


def test_models(command):
    command.configure(model_redirects={"glm*": "glm-4.6", "zhipu": "glm-4.6"})
    code, out, _ = command.run("models")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["id", "name", "type", "host", "reasoning", "redirects"]
    assert lines[-2].split() == ["glm-4.6", "glm-4.6", "common", "api.factory.ai", "auto", "glm*,", "zhipu"]
    models = json.loads(command.run("models", "--json")[1])
    assert models[-2]["redirects"] == ["glm*", "zhipu"]


# -- usage ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(command):
    """Usage of today and of last week."""
    for back, requests in ((0, 3), (6, 1)):
        day = (date.today() - timedelta(back)).isoformat()
        write(Path("data/usage.db"), {(day, "gpt-5.5", "claude-cli"): [requests, 0, 12345, 0, 0, 0, 0]})


def test_usage(command, recorded):
    code, out, errors = command.run("usage")
    assert (code, errors) == (0, f"{NO_PRICES}\n")
    header, row = (line.split() for line in out.splitlines())
    assert header == "model requests errors input output cache read cache write reasoning cost".split()
    assert row == ["gpt-5.5", "4", "0", "24,690", "0", "0", "0", "0", "-"]
    (row,) = json.loads(command.run("usage", "--json", "--days", "6", "--by", "client")[1])
    assert (row["key"], row["requests"]) == ("claude-cli", 3)


@pytest.mark.parametrize(
    ("costs", "shown"),
    [((0.5, 1, 0), "$0.5000"), ((1234.5, 1, 0), "$1,234.50"), ((0.5, 1, 1), ">$0.5000"), ((0, 1, 0), "$0.0000")],
)
def test_usage_with_costs(command, costs, shown):
    write(Path("data/usage.db"), {(date.today().isoformat(), "m", "c"): [2, 0, 1, 1, 0, 0, 0, *costs]})
    code, out, errors = command.run("usage")
    assert (code, errors, out.split()[-1]) == (0, f"{LIST_PRICES}\n", shown)
    (row,) = json.loads(command.run("usage", "--json")[1])
    assert (row["cost"], row["unpriced"]) == (costs[0], costs[2])


def test_usage_as_csv(command):
    """The columns of the page's; a name that a spreadsheet would run as a formula is none."""
    day = date.today().isoformat()
    write(Path("data/usage.db"), {(day, '=m,"x', "c"): [2, 1, 5, 4, 3, 2, 1, 0.25, 1, 1]})
    write(Path("data/usage.db"), {(day, "gpt-5.5", "c"): [3, 0, 12345, 0, 0, 0, 0, 0, 0, 3]})
    code, out, errors = command.run("usage", "--csv", "--days", "6")
    assert (code, errors) == (0, "")
    header, priced, unpriced = csv.reader(io.StringIO(out))
    assert header == CSV_COLUMNS
    assert priced == [day, "'=m,\"x", "2", "1", "5", "3", "2", "4", "1", "0.25", "1"]
    assert unpriced == [day, "gpt-5.5", "3", "0", "12345", "0", "0", "0", "0", "", "3"]
    page = (ROOT / "droid2api/observe/page.html").read_text()
    assert f"const names = {json.dumps(CSV_COLUMNS)};" in page
    assert command.run("usage", "--csv", "--by", "day")[0] == 2


def test_usage_as_csv_of_nothing(command):
    code, out, errors = command.run("usage", "--csv")
    assert (code, out.splitlines()) == (0, [",".join(f'"{column}"' for column in CSV_COLUMNS)])
    assert errors.startswith("Nothing has been recorded yet")


def test_usage_of_days_without_any(command):
    write(Path("data/usage.db"), {("2020-01-01", "gpt-5.5", "claude-cli"): [1, 0, 1, 1, 0, 0, 0]})
    code, out, errors = command.run("usage", "--by", "day", "--days", "2")
    assert (code, out, errors) == (0, "", "Nothing has been recorded in the last 2 days.\n")
    assert command.run("usage", "--by", "day", "--json")[1] == "[]\n"


def test_usage_before_anything_was_recorded(command):
    code, out, errors = command.run("usage")
    assert (code, out) == (0, "")
    assert errors.startswith("Nothing has been recorded yet")
    assert command.run("usage", "--json")[:2] == (0, "[]\n")
