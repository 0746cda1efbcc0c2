"""The composition root: what is optional can be taken away."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import droid2api

PACKAGE = Path(droid2api.__file__).parent
ANSWERS = """
import asyncio, pathlib, sys
from dataclasses import replace
import aiohttp
from aiohttp import web
from droid2api.application import create_app
from droid2api.config import load
from droid2api.demo import point_at, start_demo

async def main():
    async with start_demo() as base:
        settings = point_at(base, load(pathlib.Path(sys.argv[1]), {"HOME": sys.argv[2]}))
        runner = await create_app(settings)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        body = {"model": next(iter(settings.models)), "messages": [{"role": "user", "content": "Hello"}]}
        async with aiohttp.ClientSession() as client:
            async with client.post(f"{url}/v1/chat/completions", json=body) as answer:
                print(answer.status, (await answer.json())["choices"][0]["message"]["content"])
            async with client.get(url, headers={"Accept": "text/html"}) as answer:
                print(answer.status, (await answer.json())["name"])
            async with client.get(f"{url}/metrics") as answer:
                print(answer.status)
        await runner.cleanup()

asyncio.run(main())
"""


@pytest.fixture
def bare(tmp_path):
    """A copy of the package without observe/; gives a function that runs Python with it."""
    ignored = shutil.ignore_patterns("observe", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "droid2api", ignore=ignored)
    config = shutil.copy(PACKAGE.parent / "config.json", tmp_path)

    def run(*arguments):
        environment = {name: value for name, value in os.environ.items() if name != "FACTORY_API_KEY"}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    run.config = str(config)
    return run


def test_the_gateway_answers_without_observe(bare, tmp_path):
    result = bare("-c", ANSWERS, bare.config, str(tmp_path))
    assert result.stdout == "200 Hello\n200 droid2api\n404\n", result.stderr


def test_the_version_is_told_without_observe(bare):
    result = bare("-m", "droid2api", "--version")
    assert (result.stdout, result.returncode) == (f"droid2api {droid2api.__version__}\n", 0), result.stderr


def test_a_command_is_refused_without_observe(bare):
    result = bare("-m", "droid2api", "models")
    assert result.returncode == 2
    assert "unrecognized arguments: models" in result.stderr
