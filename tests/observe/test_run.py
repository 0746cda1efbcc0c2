"""`droid2api run`: the gateway and the tool, with tools that are played here, and (slow) with the real ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web

from droid2api.application import running
from droid2api.errors import ConfigError
from droid2api.observe.run import Order, run_tool
from droid2api.observe.tools import TOOLS
from tests.harness import demo_gateway, serving, settings_for, until
from tests.services import free_port

ROOT = Path(__file__).parent.parent.parent
KEY = "client-key-1"

FAKE = f"""#!{sys.executable} -SE
import json, os, signal, sys, time, urllib.request
folder = os.environ["FAKE_FOLDER"]
arguments = sys.argv[1:]
settings = json.load(open(arguments[1])) if arguments[:1] == ["--settings"] else None
home = os.environ.get("GEMINI_CLI_HOME")
if home:
    settings = json.load(open(home + "/.gemini/settings.json"))
    open(home + "/.gemini/added", "w").write("by the tool")
    open(home + "/.gemini/known", "w").write("changed")
health = json.load(urllib.request.urlopen(os.environ["FAKE_URL"] + "/health")) if "FAKE_URL" in os.environ else None
report = dict(arguments=arguments, environment=dict(os.environ), settings=settings, health=health, folder=os.getcwd())
heard = []
def hear(number, frame):
    heard.append(number)
    open(folder + "/heard", "w").write(json.dumps(heard))
if "FAKE_WAITS" in os.environ:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hear)
open(folder + "/report.part", "w").write(json.dumps(report))
os.rename(folder + "/report.part", folder + "/report")
while "FAKE_WAITS" in os.environ and not os.path.exists(folder + "/go on"):
    time.sleep(0.01)
if "FAKE_DIES" in os.environ:
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(os.environ.get("FAKE_CODE", "0")))
"""


@dataclass
class Fake:
    """Tools that are played: each writes down how it was started."""

    folder: Path
    settings: dict = field(default_factory=dict)

    def __post_init__(self):
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        self.home = self.folder / "home"
        self.home.mkdir(exist_ok=True)
        for name in TOOLS:
            (self.bin / name).write_text(FAKE)
            (self.bin / name).chmod(0o755)

    @property
    def report(self) -> dict:
        return json.loads((self.folder / "report").read_text())

    @property
    def heard(self) -> list[int]:
        file = self.folder / "heard"
        return json.loads(file.read_text() or "[]") if file.exists() else []

    async def run(self, tool, *arguments, model=None, demo=None, **config) -> int:
        """In this process, with a gateway that is started where none answers."""
        config = {"port": free_port()} | config
        settings = settings_for(self.folder, "http://127.0.0.1:9", **config)

        @contextlib.asynccontextmanager
        async def open_gateway():
            async with running(settings, demo=demo) as runner:
                yield runner.addresses[0][1]

        return await run_tool(Order(tool, model, arguments, demo is not None), settings, open_gateway)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    made = Fake(tmp_path)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "GEMINI_CLI_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(made.bin))
    monkeypatch.setenv("HOME", str(made.home))
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    return made


# -- what a tool is started with ------------------------------------------------------------------------------------


async def test_claude_gets_settings_that_win_over_its_own(fake, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "another")
    port = free_port()
    assert await fake.run("claude", "-p", "hi there", port=port, api_keys=[KEY]) == 0
    report = fake.report
    assert report["arguments"][2:] == ["-p", "hi there"]
    expected = {
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
        "ANTHROPIC_AUTH_TOKEN": KEY,
        "ANTHROPIC_MODEL": "claude-sonnet-4-5-20250929",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "claude-haiku-4-5-20251001",
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
    }
    assert report["settings"]["env"] == expected
    assert report["environment"].items() >= expected.items()
    assert "ANTHROPIC_API_KEY" not in report["environment"]
    listed = [option["model"] for option in report["settings"]["modelPicker"]["options"]]
    assert listed == ["gpt-5.5", "glm-4.6", "gemini-3.5-flash"]


async def test_codex_gets_options(fake):
    port = free_port()
    assert await fake.run("codex", "exec", "hi", model="glm-4.6", port=port, api_keys=[KEY]) == 0
    words = fake.report["arguments"]
    assert words[-2:] == ["exec", "hi"]
    assert set(words[:-2:2]) == {"-c"}
    assert words[1:-2:2][:2] == ['model="glm-4.6"', 'model_provider="droid2api"']
    assert f'model_providers.droid2api.base_url="http://127.0.0.1:{port}/v1"' in words
    assert fake.report["environment"]["DROID2API_KEY"] == KEY


async def test_droid_gets_a_file_without_the_key(fake):
    assert await fake.run("droid", "exec", "hi", model="gpt-5.5", api_keys=[KEY]) == 0
    settings = fake.report["settings"]
    assert settings["sessionDefaultSettings"] == {"model": "custom:gpt-5.5"}
    assert {model["apiKey"] for model in settings["customModels"]} == {"${DROID2API_KEY}"}
    assert fake.report["environment"]["DROID2API_KEY"] == KEY


async def test_opencode_and_aider_get_variables(fake):
    assert await fake.run("opencode", api_keys=[KEY]) == 0
    config = json.loads(fake.report["environment"]["OPENCODE_CONFIG_CONTENT"])
    assert config["model"] == "droid2api/claude-sonnet-4-5-20250929"
    assert len(config["provider"]["droid2api"]["models"]) == 6
    assert config["provider"]["droid2api"]["options"]["apiKey"] == KEY
    assert await fake.run("aider", model="gpt-5.5", api_keys=[KEY]) == 0
    assert fake.report["environment"]["AIDER_MODEL"] == "openai/gpt-5.5"
    assert fake.report["environment"]["OPENAI_API_KEY"] == KEY


async def test_gemini_gets_a_home_that_is_the_users_but_for_the_login(fake):
    """What the tool adds there is the user's in the end; the settings stay as they are."""
    own = fake.home / ".gemini"
    own.mkdir()
    mine = '{"ui": {"theme": "a // b"}, /* mine */ "security": {"auth": {"selectedType": "oauth-personal", "x": 1}}}\n'
    (own / "settings.json").write_text(mine)
    (own / "known").write_text("before")
    assert await fake.run("gemini", "-p", "hi", api_keys=[KEY]) == 0
    report = fake.report
    assert report["settings"] == {
        "ui": {"theme": "a // b"},
        "security": {"auth": {"selectedType": "gemini-api-key", "x": 1}},
    }
    assert report["environment"]["GEMINI_API_KEY"] == KEY
    assert report["environment"]["GEMINI_MODEL"] == "gemini-3.5-flash"
    assert report["environment"]["GEMINI_CLI_HOME"] != str(fake.home)
    assert (own / "settings.json").read_text() == mine
    assert {file.name: file.read_text() for file in own.iterdir() if file.name != "settings.json"} == {
        "known": "changed",
        "added": "by the tool",
    }


async def test_gemini_with_the_right_login_keeps_its_home(fake):
    (fake.home / ".gemini").mkdir()
    (fake.home / ".gemini" / "settings.json").write_text('{"security": {"auth": {"selectedType": "gemini-api-key"}}}')
    assert await fake.run("gemini") == 0
    assert "GEMINI_CLI_HOME" not in fake.report["environment"]


async def test_what_gemini_adds_and_cannot_be_kept_is_told(fake, monkeypatch, capfd):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("droid2api.observe.tools.shutil.copy2", refuse)
    monkeypatch.setenv("FAKE_CODE", "5")
    assert await fake.run("gemini") == 5
    said = f"droid2api: {fake.home}/.gemini/added: what the tool added is lost: Permission denied.\n"
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]"])
async def test_settings_of_geminis_that_cannot_be_read(fake, content):
    file = fake.home / ".gemini" / "settings.json"
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"settings\.json: must be a JSON object"):
        await fake.run("gemini")
    assert not (fake.folder / "report").exists()


@pytest.mark.parametrize("tool", TOOLS)
async def test_no_file_of_the_users_is_written_and_nothing_is_left(fake, monkeypatch, tool):
    temporary = fake.folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    (fake.bin / tool).write_text(FAKE.replace("if home:", "if False:"))
    assert await fake.run(tool, api_keys=[KEY]) == 0
    assert list(fake.home.iterdir()) == []
    assert list(temporary.iterdir()) == []
    assert KEY not in str(fake.report["arguments"])


async def test_the_gateway_is_reached_past_a_proxy(fake, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "intranet")
    assert await fake.run("aider") == 0
    environment = fake.report["environment"]
    assert (environment["NO_PROXY"], environment["no_proxy"]) == ("intranet,127.0.0.1",) * 2


async def test_a_tool_works_where_the_start_script_was_called(fake, monkeypatch):
    """./start.sh itself runs in the folder of the gateway."""
    project = fake.folder / "project"
    project.mkdir()
    monkeypatch.setenv("DROID2API_CALLED_FROM", str(project))
    assert await fake.run("aider") == 0
    assert fake.report["folder"] == str(project)
    assert "DROID2API_CALLED_FROM" not in fake.report["environment"]


# -- the gateway ----------------------------------------------------------------------------------------------------


async def test_a_gateway_is_started_and_ends_with_the_tool(fake, monkeypatch, capfd):
    port = free_port()
    monkeypatch.setenv("FAKE_URL", f"http://127.0.0.1:{port}")
    assert await fake.run("claude", demo=0, port=port) == 0
    assert fake.report["health"]["credential"]["source"] == "not needed (demo)"
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)
    out, errors = capfd.readouterr()
    assert out == ""
    assert errors == f"# droid2api: gateway at http://127.0.0.1:{port} until claude ends\n"
    log = fake.folder / "data" / "run.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


async def test_without_a_port_one_is_found(fake):
    assert await fake.run("claude", port=0) == 0
    assert not fake.report["environment"]["ANTHROPIC_BASE_URL"].endswith(":0")


async def test_a_gateway_that_runs_is_used_and_left(fake, capfd):
    async with demo_gateway(fake.folder, port=0) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        assert await fake.run("claude", port=port) == 0
        assert (await gateway.get("/health"))[0] == 200
    assert fake.report["environment"]["ANTHROPIC_BASE_URL"] == gateway.url
    assert capfd.readouterr() == ("", "")


async def test_another_program_on_the_port(fake):
    app = web.Application()
    async with serving(app) as url:
        with pytest.raises(
            ConfigError, match=r"port \d+ is taken by another program\. Choose another port with --port"
        ):
            await fake.run("claude", port=int(url.rpartition(":")[2]))
    assert not (fake.folder / "report").exists()


async def test_a_program_that_says_nothing_has_the_port(fake, monkeypatch):
    monkeypatch.setattr("droid2api.observe.check.HEALTH_TIMEOUT", 0.1)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(ConfigError, match="is taken by another program"),
    ):
        await fake.run("claude", port=server.getsockname()[1])


async def test_a_demo_is_told_from_a_gateway(fake, capfd):
    async with demo_gateway(fake.folder, port=0) as gateway:
        with pytest.raises(ConfigError, match=f"--demo: a gateway that is no demo runs at {gateway.url}"):
            await fake.run("claude", demo=0, port=int(gateway.url.rpartition(":")[2]))
    settings = settings_for(fake.folder, "http://127.0.0.1:9", port=free_port())
    async with running(settings, demo=0):
        assert await fake.run("claude", port=settings.port) == 0
    assert "is a demo: it says your words back" in capfd.readouterr().err


@pytest.mark.parametrize(("host", "told"), [("service.example", True), ("127.0.0.1:9", False)])
async def test_without_a_credential_the_demo_is_offered(fake, monkeypatch, capfd, host, told):
    endpoint = [{"name": "anthropic", "base_url": f"http://{host}/v1/messages"}]
    more = {"auth": {"hosts": ["service.example"]}}
    settings = replace(settings_for(fake.folder, "http://127.0.0.1:9", {}, endpoint=endpoint, **more), port=free_port())

    @contextlib.asynccontextmanager
    async def open_gateway():
        async with running(settings) as runner:
            yield runner.addresses[0][1]

    assert await run_tool(Order("claude", None, (), demo=False), settings, open_gateway) == 0
    errors = capfd.readouterr().err
    assert ("no credential is configured, so service.example will refuse this" in errors) is told
    assert ("droid2api --demo run claude" in errors) is told


# -- what is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_tool_that_is_not_installed(fake, tool):
    (fake.bin / tool).unlink()
    with pytest.raises(ConfigError) as refused:
        await fake.run(tool)
    assert str(refused.value).startswith(f"{tool} is not installed, or not in PATH. Install it: ")
    assert str(refused.value).endswith(TOOLS[tool].install)


async def test_a_model_that_is_not_known(fake):
    with pytest.raises(ConfigError, match=r"--model: 'gpt-9' is not configured\. Configured models: claude"):
        await fake.run("claude", model="gpt-9")


async def test_a_tool_that_cannot_be_started(fake):
    (fake.bin / "claude").write_bytes(b"\x7fELF nothing")
    with pytest.raises(ConfigError, match=r"bin/claude: cannot be started: Exec format error\."):
        await fake.run("claude")


# -- signals and exit codes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value", "code"), [("FAKE_CODE", "7", 7), ("FAKE_DIES", "1", 137)])
async def test_the_exit_code_is_the_tools(fake, monkeypatch, name, value, code):
    monkeypatch.setenv(name, value)
    assert await fake.run("claude") == code


async def test_signals_are_the_tools(fake, monkeypatch):
    monkeypatch.setenv("FAKE_WAITS", "1")
    run = asyncio.create_task(fake.run("claude"))
    await until((fake.folder / "report").exists)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(os.getpid(), number)
        await until(lambda number=number: number in fake.heard)
    (fake.folder / "go on").touch()
    assert await run == 0


def test_as_a_program(fake):
    """The command line, with arguments of the tool that look like our own; one line for what is wrong."""
    (fake.folder / "config.json").write_text((ROOT / "config.json").read_text())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DROID2API_DATA": str(fake.folder), "FAKE_CODE": "3"}

    def run(*words):
        command = [sys.executable, "-m", "droid2api", "--port", str(free_port()), *words]
        return subprocess.run(command, cwd=fake.folder, env=environment, capture_output=True, text=True, timeout=60)

    for words in (["--demo", "run", "codex"], ["--demo=0", "run", "codex"], ["run", "codex", "--demo"]):
        result = run(*words, "--model", "gpt-5.5", "--", "exec", "--model", "other", "hi")
        assert (result.returncode, result.stdout) == (3, ""), result.stderr
        assert fake.report["arguments"][-4:] == ["exec", "--model", "other", "hi"]
    (fake.bin / "codex").unlink()
    result = run("run", "codex", "exec", "--last")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.endswith("unrecognized arguments: exec --last; those for the tool stand after --\n")
    result = run("--demo", "run", "codex")
    install = "codex is not installed, or not in PATH. Install it: npm install -g @openai/codex"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"droid2api: {install}\n")
