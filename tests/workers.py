"""Real gunicorn workers, for slow tests."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from tests.credentials.service import FIRST_KEY
from tests.harness import settings_for, until
from tests.services import Server, free_port, running

ROOT = Path(__file__).parent.parent
COMMAND = "-k aiohttp.GunicornWebWorker --graceful-timeout 40 --timeout 60"
SHIPPED = f"-c {ROOT / 'deploy' / 'gunicorn.conf.py'}"


@asynccontextmanager
async def gunicorn(folder, upstream, workers=4, options=COMMAND, variables=None, **config):
    """The command of the manual. Its settings come from the folder and the environment, as for the command line."""
    settings_for(folder, upstream, {}, **config)
    (folder / ".env").write_text(f"DROID_REFRESH_KEY={FIRST_KEY}\n")
    (folder / "home").mkdir()
    environment = {"HOME": str(folder / "home"), "PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    environment["DROID2API_CONFIG"] = "config.json"  # so that its token_url counts
    port = free_port()
    words = f"{options} -w {workers} -b 127.0.0.1:{port}"
    command = [sys.executable, "-m", "gunicorn", "droid2api.application:create_app", *words.split()]
    async with running(Server(command, port, folder, environment | (variables or {}))) as server:
        await until(lambda: len(workers_of(server)) == workers)
        try:
            yield server
        finally:
            if server.process.returncode is None:
                await server.stop()  # with its workers, which a kill would leave behind
    assert FIRST_KEY not in server.log


def workers_of(server):
    path = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]
