"""The command line and the start scripts, as separate processes in an empty home. Each is ended by its own pid."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.harness import until
from tests.services import free_port

ROOT = Path(__file__).parent.parent
SECRET = "sk-very-secret"
COMMAND = (sys.executable, "-m", "droid2api")


@pytest.fixture
def environment(tmp_path):
    """Nothing of the developer's: no keys, no home. PYTHONPATH is this checkout, whatever is installed."""
    (tmp_path / "home").mkdir()
    return {"HOME": str(tmp_path / "home"), "PATH": os.defpath, "PYTHONPATH": str(ROOT)}


@dataclass
class Running:
    url: str
    banner: list[str]
    process: asyncio.subprocess.Process
    errors: list[str] = field(default_factory=list)

    async def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 15)


@asynccontextmanager
async def started(folder: Path, environment: dict[str, str], *arguments: str, command=COMMAND):
    """A started gateway, once it has printed its banner; `errors` is what it writes to stderr, complete at the end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        *arguments,
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    running = Running("", [], process)

    async def read_errors():
        async for line in process.stderr:
            running.errors.append(line.decode().rstrip("\n"))

    reading = asyncio.create_task(read_errors())
    try:
        async with asyncio.timeout(30):
            running.banner = (await process.stdout.read(1 << 16)).decode().splitlines()  # one write, so one read
        if not running.banner:
            await reading
        assert running.banner, running.errors
        running.url = running.banner[0].rpartition(" ")[2]
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading
        while await process.stdout.read(1 << 16):  # to its end, so that the pipe is closed
            pass


def run(folder: Path, environment: dict[str, str], *arguments: str, command=COMMAND) -> subprocess.CompletedProcess:
    """A start that must end by itself."""
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def refused(result: subprocess.CompletedProcess) -> str:
    """The one line of a start that was refused."""
    lines = result.stderr.splitlines()
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert len(lines) == 1, lines
    return lines[0]


def write_config(folder: Path, **config) -> Path:
    models = [{"id": "gpt-5.5", "type": "openai"}, {"id": "glm-4.6", "type": "common"}]
    file = folder / "config.json"
    file.write_text(json.dumps({"models": models} | config))
    return file


async def get(url: str) -> dict:
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        return await response.json()


# -- what it prints -------------------------------------------------------------------------------------------------


async def test_banner_tells_address_credential_source_models_and_endpoints(tmp_path, environment):
    url = "http://127.0.0.1:9/v1/responses?key=hidden-key"
    write_config(
        tmp_path,
        endpoint=[
            {"name": "openai", "base_url": url, "api_key_env": "MY_KEY"},
            {"name": "common", "base_url": "http://127.0.0.1:9/chat", "api_key_env": "OTHER_KEY"},
        ],
    )
    keys = {"FACTORY_API_KEY": SECRET, "MY_KEY": f"{SECRET}-2"}
    async with started(tmp_path, environment | keys, "--port", "0") as running:
        assert re.fullmatch(r"droid2api \S+ listens on http://127\.0\.0\.1:[1-9]\d*", running.banner[0])
        text = "\n".join(running.banner)
        credential = "FACTORY_API_KEY, MY_KEY for its endpoint, OTHER_KEY for its endpoint (NOT SET)"
        assert f"  credential  {credential}" in running.banner
        assert "  endpoint    openai: http://127.0.0.1:9/v1/responses" in running.banner
        assert "  model       gpt-5.5 (openai)" in running.banner
        assert "  model       glm-4.6 (common)" in running.banner
        assert "config.json" in text
    text += "\n".join(running.errors)
    assert SECRET not in text
    assert "hidden" not in text


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ({"FACTORY_API_KEY": SECRET}, True),
        ({"FACTORY_API_KEY": SECRET, "DROID2API_KEYS": "a-key"}, False),
        ({"FACTORY_API_KEY": SECRET, "HOST": "127.0.0.1"}, False),
        ({}, False),  # without a credential there is nothing to misuse
    ],
)
async def test_an_open_gateway_is_warned_of(tmp_path, environment, more, warned):
    write_config(tmp_path)
    async with started(tmp_path, environment | {"HOST": "0.0.0.0"} | more, "--port", "0") as running:
        assert await running.end() == 0
    text = "\n".join(running.errors)
    assert ("Everyone who can reach this port can use your credential" in text) is warned
    assert ("DROID2API_KEYS=" in text) is warned


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ({}, "each client's own (no credential is configured)"),
        ({"DROID_REFRESH_KEY": SECRET}, "DROID_REFRESH_KEY"),
    ],
)
async def test_banner_names_the_source_of_the_credential(tmp_path, environment, keys, shown):
    write_config(tmp_path, auth={"token_url": "http://127.0.0.1:9/token"})
    async with started(tmp_path, environment | keys, "--port", "0", "--config", "config.json") as running:
        assert f"  credential  {shown}" in running.banner
        health = await get(f"{running.url}/health")
        assert health["status"] == "ok"
    assert SECRET not in "\n".join(running.banner + running.errors)


async def test_factorys_own_login_is_found(tmp_path, environment):
    login = tmp_path / "home" / ".factory"
    login.mkdir()
    (login / "auth.json").write_text(json.dumps({"access_token": SECRET}))
    write_config(tmp_path)
    async with started(tmp_path, environment, "--port", "0") as running:
        assert "  credential  ~/.factory/auth.json" in running.banner


async def test_demo_answers_in_every_format_without_any_account(tmp_path, environment):
    asked = {"/v1/chat/completions": "messages", "/v1/responses": "input", "/v1/messages": "messages"}
    async with started(tmp_path, environment, "--demo", "--port", "0") as running:
        assert "  credential  not needed (demo)" in running.banner
        for path in ("/health", "/status"):
            assert (await get(running.url + path))["credential"]["source"] == "not needed (demo)"
        async with aiohttp.ClientSession() as client:
            for path, name in asked.items():
                body = {"model": "gpt-5.5", "max_tokens": 100, name: [{"role": "user", "content": "早上好"}]}
                async with client.post(running.url + path, json=body) as response:
                    assert response.status == 200
                    assert "早上好" in await response.text()
        assert await running.end() == 0


async def test_demo_touches_no_real_credential(tmp_path, environment):
    write_config(tmp_path)
    async with started(tmp_path, environment | {"DROID_REFRESH_KEY": SECRET}, "--demo", "--port", "0") as running:
        assert (await get(f"{running.url}/health"))["credential"]["source"] != "DROID_REFRESH_KEY"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_success(tmp_path, environment, number):
    async with started(tmp_path, environment, "--port", "0") as running:
        assert await running.end(number) == 0
    assert running.errors == []


async def test_a_second_signal_does_not_wait_for_running_answers(tmp_path, environment):
    write_config(tmp_path, timeouts={"drain": 60})
    async with (
        started(tmp_path, environment, "--demo", "--port", "0") as running,
        aiohttp.ClientSession() as client,
    ):
        body = {"model": "glm-4.6", "stream": True, "messages": [{"role": "user", "content": "word " * 3000}]}
        async with client.post(f"{running.url}/v1/chat/completions", json=body) as response:
            await response.content.readany()
            running.process.send_signal(signal.SIGINT)
            port = int(running.url.rpartition(":")[2])
            await until(lambda: not listens(port))
            assert running.process.returncode is None
            assert await running.end(signal.SIGINT) == 0
    assert "1 running answer(s) have 60 seconds to end. A second Ctrl+C ends them at once." in running.errors[0]


async def test_a_log_that_nobody_reads_holds_nobody_up(tmp_path, environment):
    write_config(tmp_path)
    pipe, command = subprocess.PIPE, [*COMMAND, "--port", "0", "--demo", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe) as process:  # noqa: ASYNC220
        try:
            url = process.stdout.readline().decode().strip().rpartition(" ")[2]
            async with aiohttp.ClientSession() as client, asyncio.timeout(60):
                for _ in range(700):
                    async with client.post(f"{url}/v1/messages", json={"model": "x" * 300}) as response:
                        assert response.status == 404
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()


async def test_only_warns_of_an_unknown_key(tmp_path, environment):
    write_config(tmp_path, frobnicate=1)
    async with started(tmp_path, environment, "--port", "0") as running:
        await running.end()
    assert len(running.errors) == 1
    assert "WARNING" in running.errors[0]
    assert "frobnicate: is not a setting" in running.errors[0]


# -- what it refuses ------------------------------------------------------------------------------------------------


def test_port_in_use_is_one_message(tmp_path, environment):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused(run(tmp_path, environment, "--port", str(port)))
    assert said.startswith(f"droid2api: Cannot listen on 127.0.0.1 port {port}: Address already in use.")
    assert "--port" in said


def test_host_that_is_not_here(tmp_path, environment):
    assert "Cannot listen on 192.0.2.1 port" in refused(run(tmp_path, environment, "--host", "192.0.2.1"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"port": 3000,\n "models": [}', "line 2, column 13"),
        ('{"models": [{"id": "a", "type": "openai", "reasoning": "hi"}]}', "models[0].reasoning: must be one of auto"),
    ],
)
def test_wrong_config_is_refused_by_line_or_field(tmp_path, environment, content, said):
    (tmp_path / "mine.json").write_text(content)
    line = refused(run(tmp_path, environment, "--config", "mine.json"))
    assert line.startswith("droid2api: mine.json: ")
    assert said in line


def test_config_that_is_not_there(tmp_path, environment):
    assert refused(run(tmp_path, environment, "--config", "none.json")).startswith("droid2api: none.json: cannot be")
    variable = environment | {"DROID2API_CONFIG": "gone.json"}
    assert refused(run(tmp_path, variable)).startswith("droid2api: gone.json: cannot be read")


def test_dotenv_that_cannot_be_read(tmp_path, environment):
    (tmp_path / ".env").write_bytes(b"KEY=\xff\xfe")
    assert ".env: cannot be read: it is not UTF-8 text." in refused(run(tmp_path, environment))


def test_a_folder_does_not_decide_where_a_refresh_token_goes(tmp_path, environment):
    write_config(tmp_path, auth={"token_url": "http://127.0.0.1:9/token"})
    (tmp_path / ".env").write_text("DROID2API_CONFIG=config.json\n")
    said = refused(run(tmp_path, environment | {"DROID_REFRESH_KEY": SECRET}, "--port", "0"))
    assert "auth.token_url: a refresh token is sent there only if you chose this file" in said


def test_a_key_with_a_line_break(tmp_path, environment):
    said = refused(run(tmp_path, environment | {"FACTORY_API_KEY": f"{SECRET}\nx"}, "--port", "0"))
    assert said == "droid2api: FACTORY_API_KEY: must not hold control characters."


def test_version_and_help(tmp_path, environment):
    assert re.fullmatch(r"droid2api \d+\.\d+\.\d+\n", run(tmp_path, environment, "--version").stdout)
    assert "--demo" in run(tmp_path, environment, "--help").stdout


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


# -- environment ----------------------------------------------------------------------------------------------------


async def test_variables_win_over_config_and_arguments_over_variables(tmp_path, environment):
    write_config(tmp_path, port=1, host="192.0.2.1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    port = free_port()
    file = str(tmp_path / "config.json")
    variables = environment | {"PORT": str(port), "HOST": "127.0.0.1", "DROID2API_CONFIG": file}
    async with started(elsewhere, variables) as running:
        assert running.url == f"http://127.0.0.1:{port}"
        assert f"  config      {file}" in running.banner
        async with started(
            elsewhere, variables | {"HOST": "192.0.2.1"}, "--port", "0", "--host", "127.0.0.1"
        ) as second:
            assert second.url.startswith("http://127.0.0.1:")
            assert second.url != running.url


async def test_empty_variables_count_as_unset(tmp_path, environment):
    write_config(tmp_path, port=free_port())
    empty = dict.fromkeys(["PORT", "HOST", "DROID2API_CONFIG", "DROID2API_DATA", "FACTORY_API_KEY"], "")
    async with started(tmp_path, environment | empty) as running:
        assert "no credential is configured" in running.banner[2]


async def test_dotenv_is_read_and_set_variables_win(tmp_path, environment):
    write_config(tmp_path)
    port = free_port()
    (tmp_path / ".env").write_text(f"PORT={port}\nFACTORY_API_KEY={SECRET}\nHOST=192.0.2.1\n")
    async with started(tmp_path, environment | {"HOST": "127.0.0.1"}) as running:
        assert running.url == f"http://127.0.0.1:{port}"
        assert "  credential  FACTORY_API_KEY" in running.banner


# -- start.sh -------------------------------------------------------------------------------------------------------

needs_posix = pytest.mark.skipif(os.name == "nt", reason="start.sh is for POSIX; Windows has start.bat")


def copy_checkout(folder: Path) -> Path:
    """What git has, or would have, without the developer's environment."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests", "data", "node_modules"))
    return folder / "start.sh"


@pytest.fixture
def tools(tmp_path):
    """A PATH with only what start.sh calls, and no Python."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("sh", "dirname", "cat", "cksum", "rm"):
        (folder / name).symlink_to(shutil.which(name))
    return folder


def put_python(folder: Path, script: str, name: str = "python3") -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def start_sh(folder: Path, tools: Path) -> str:
    script = copy_checkout(folder)
    line = refused(run(folder.parent, {"PATH": str(tools), "HOME": str(folder)}, command=("sh", str(script))))
    assert not (folder / ".venv").exists()
    assert line.startswith("start.sh: ")
    return line


def test_start_bat_has_the_line_ends_of_windows():
    """With others cmd.exe may miss a label."""
    script = (ROOT / "start.bat").read_bytes()
    assert script.count(b"\r\n") == script.count(b"\n") > 50


@needs_posix
def test_start_without_python(tmp_path, tools):
    assert "there is no python3: install Python 3.11 or newer" in start_sh(tmp_path / "copy", tools)


@needs_posix
def test_start_with_an_old_python(tmp_path, tools):
    put_python(tools, 'case "$2" in *version_info*) exit 1;; *) echo 3.9.2;; esac')
    line = start_sh(tmp_path / "copy", tools)
    assert "python3 is 3.9.2, but droid2api needs Python 3.11 or newer" in line


@needs_posix
def test_start_with_a_python_that_does_not_run(tmp_path, tools):
    put_python(tools, "echo no version is chosen >&2; exit 127")
    assert "python3 is not working" in start_sh(tmp_path / "copy", tools)


@needs_posix
def test_start_without_the_venv_module(tmp_path, tools):
    put_python(tools, "case \"$2\" in *venv*) echo 'No module named ensurepip' >&2; exit 1;; *) exit 0;; esac")
    assert "python3 has no venv module: install it" in start_sh(tmp_path / "copy", tools)


@needs_posix
def test_start_takes_a_newer_python_beside_an_old_one(tmp_path, tools):
    put_python(tools, 'case "$2" in *version_info*) exit 1;; *) echo 3.9.2;; esac')
    put_python(tools, 'case "$2" in *venv*) exit 1;; *) exit 0;; esac', "python3.12")
    assert "python3.12 has no venv module" in start_sh(tmp_path / "copy", tools)


@needs_posix
def test_start_where_no_environment_can_be_made(tmp_path, tools):
    put_python(tools, '[ "$2" != venv ] || { echo "Permission denied" >&2; exit 1; }')
    script = copy_checkout(tmp_path / "copy")
    result = run(tmp_path, {"PATH": str(tools), "HOME": str(tmp_path)}, command=("sh", str(script)))
    assert result.returncode == 2
    reason, line = result.stderr.splitlines()
    assert (reason, line.split(",")[0]) == ("Permission denied", f"start.sh: .venv cannot be made in {script.parent}")


@needs_posix
def test_start_repeats_an_installation_that_failed(tmp_path, tools):
    """A fake Python makes an environment whose pip fails the first time."""
    fake = """
case "$1 $2 $3" in
  "-m venv --clear") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "-m pip --version") exit 0 ;;
  "-m pip install") echo try >>pip.log; [ "$(cat pip.log)" != try ] || { echo "no network" >&2; exit 1; } ;;
  "-m droid2api"*) echo "started $3 from $DROID2API_CALLED_FROM" ;;
  *) echo 1 ;;
esac"""
    for name in ("mkdir", "cp"):
        (tools / name).symlink_to(shutil.which(name))
    put_python(tools, fake)
    folder = tmp_path / "copy with a space"
    script = copy_checkout(folder)
    environment = {"PATH": str(tools), "HOME": str(tmp_path)}
    first, second, third = (run(tmp_path, environment, "--demo", command=("sh", str(script))) for _ in range(3))
    assert first.returncode == 2
    assert "no network\nstart.sh: pip failed for the reason above." in first.stderr
    assert second.stdout == third.stdout == f"started --demo from {tmp_path}\n"
    assert third.stderr == ""
    assert (folder / "pip.log").read_text().split() == ["try"] * 4  # failed, packages, droid2api itself, uvloop
    with (folder / "pyproject.toml").open("a") as file:
        file.write("# other dependencies\n")
    assert "installing" in run(tmp_path, environment, command=("sh", str(script))).stderr


async def install(folder: Path, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess:
    """A step of an installation, with the package index that this machine is set to."""
    index = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=folder, env=environment | index, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    return done


@needs_posix
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_start_installs_once_and_is_offline_afterwards(tmp_path, environment):
    """The real thing; the first start takes the dependencies from the package index."""
    script = copy_checkout(tmp_path / "copy")
    path = {"PATH": os.pathsep.join([str(Path(sys.base_prefix) / "bin"), os.defpath])}
    environment = {"HOME": environment["HOME"]} | path
    assert "installing" in (await install(tmp_path, environment, "sh", str(script), "--version")).stderr
    offline = environment | {
        "PIP_NO_INDEX": "1",
        "PIP_INDEX_URL": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    began = time.monotonic()
    async with started(tmp_path, offline, "--demo", "--port", "0", command=("sh", str(script))) as running:
        took = time.monotonic() - began
        assert (await get(f"{running.url}/v1/models"))["data"]
        assert await running.end() == 0  # exec: the signal reaches the gateway itself
    assert took < 4, "2 s are promised; twice that is for a busy machine"
    assert running.errors == []


# -- Dockerfile -----------------------------------------------------------------------------------------------------


def instructions(name: str) -> list[str]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def test_image_is_given_all_that_it_copies():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for line in instructions("COPY") for source in line.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


@needs_posix
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_dockerfile_steps_by_hand(tmp_path, environment):
    """No Docker engine is needed: the same files, pip commands, ENV, CMD and HEALTHCHECK, in a venv."""
    image, venv = tmp_path / "app", tmp_path / "venv"
    for line in instructions("COPY"):
        *sources, target = line.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, image / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                image.mkdir(exist_ok=True)
                shutil.copy(ROOT / source, image / target)
    await install(tmp_path, environment, sys.executable, "-m", "venv", str(venv))
    path = {"HOME": environment["HOME"], "PATH": f"{venv / 'bin'}{os.pathsep}{os.defpath}"}
    installs = [command.split() for command in instructions("RUN")[0].split("&&") if "pip install" in command]
    assert ["--require-hashes" in command for command in installs] == [True, False]
    for command in installs:
        await install(image, path, *command)

    given = dict(pair.split("=", 1) for line in instructions("ENV") for pair in line.split())
    own = {"DROID2API_DATA": "/app/data", "DROID2API_CONFIG": "/app/config.json"}
    assert given == {"HOST": "0.0.0.0", "PORT": "3000"} | own
    given |= {"HOST": "127.0.0.1", "PORT": str(free_port())}
    given |= {"DROID2API_DATA": str(image / "data"), "DROID2API_CONFIG": str(image / "config.json")}
    healthcheck = json.loads(instructions("HEALTHCHECK")[0].split(" CMD ")[1])
    command = json.loads(instructions("CMD")[0])
    async with started(image, path | given, command=[str(venv / "bin" / command[0]), *command[1:]]) as running:
        assert f"  config      {image / 'config.json'}" in running.banner
        assert (await asyncio.to_thread(run, image, path | given, command=healthcheck)).returncode == 0
        assert await running.end() == 0
    assert (await asyncio.to_thread(run, image, path | given, command=healthcheck)).returncode == 1

    with_extras = instructions("RUN")[1]
    await install(image, path, "sh", "-c", with_extras)  # without the argument it installs nothing
    imports = [str(venv / "bin" / "python"), "-c", "import gunicorn, redis"]
    assert "ModuleNotFoundError" in (await asyncio.to_thread(run, image, path, command=imports)).stderr
    await install(image, path | {"EXTRAS": "replicas"}, "sh", "-c", with_extras)
    assert (await asyncio.to_thread(run, image, path, command=imports)).returncode == 0
