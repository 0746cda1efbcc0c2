"""A file that no crash can break, and what is done when the disk fails."""

import asyncio
import logging
import os
import random
import signal
import stat
import subprocess
import sys
import time

import pytest

from droid2api.credentials import kept_tokens, rotating
from droid2api.credentials.file_store import FileStore
from droid2api.credentials.tokens import Tokens
from droid2api.errors import CredentialError
from droid2api.server.keys import RUNTIME
from tests.credentials.service import (
    KEY,
    ROOT,
    Service,
    access,
    accesses,
    credential_state,
    needs_posix,
    read_json,
    rotating_for,
    say,
    script,
    settled,
)
from tests.harness import gateway_for, serving, settings_for, until

WRITER = """
import itertools, os, signal, sys
from pathlib import Path
from droid2api.credentials.file_store import FileStore, Tokens
store = FileStore(Path(sys.argv[1]), "key")
if len(sys.argv) > 2:
    original = getattr(os, sys.argv[2])
    def dies(*arguments, **named):
        if sys.argv[3] == "after":
            original(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(os, sys.argv[2], dies)
print("ready", flush=True)
for number in itertools.count(1):
    store.save(Tokens(f"access-{number}" * 1200, f"refresh-{number}"))
"""


def check_whole(file):
    tokens = FileStore(file, "key").load()
    assert tokens is not None
    assert tokens.access == tokens.refresh.replace("refresh", "access") * (1 if tokens.refresh == "refresh-0" else 1200)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {path.name for path in file.parent.iterdir()} <= {"auth.json", ".auth.json.new"}
    return tokens


@needs_posix
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["open", "fdopen", "fsync", "replace"])
def test_killed_at_each_step(tmp_path, call, when):
    file = tmp_path / "auth.json"
    FileStore(file, "key").save(Tokens("access-0", "refresh-0"))
    command = [sys.executable, "-c", WRITER, str(file), call, when]
    ended = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, timeout=30)
    assert ended.returncode == -signal.SIGKILL
    assert check_whole(file).refresh == ("refresh-1" if (call, when) == ("replace", "after") else "refresh-0")
    FileStore(file, "key").save(Tokens("access-0", "refresh-0"))
    assert [path.name for path in tmp_path.iterdir()] == ["auth.json"]


@needs_posix
async def test_killed_at_any_instant(tmp_path):
    file = tmp_path / "auth.json"
    FileStore(file, "key").save(Tokens("access-0", "refresh-0"))
    for _ in range(8):
        async with script(WRITER, file) as process:
            await process.stdout.readline()
            end = time.monotonic() + random.uniform(0.01, 0.1)
            while time.monotonic() < end:
                assert FileStore(file, "key").load()
            process.kill()
        check_whole(file)


SAVE = FileStore.save


def full_since_the_rehearsal(store, tokens):
    """A disk that has become full while the token endpoint was asked."""
    if tokens.access:
        raise OSError(28, "No space left on device")
    SAVE(store, tokens)


async def test_a_token_that_was_not_saved_is_saved_later(tmp_path, monkeypatch, caplog):
    """The next process needs it: the old one is used up."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(rotating, "SYNC_EVERY", 0.02)
    monkeypatch.setattr(rotating, "TICK", 0.02)
    service = Service()

    async with serving(service.app()) as upstream:
        settings = settings_for(tmp_path, upstream, KEY)
        with monkeypatch.context() as patched:
            patched.setattr(FileStore, "save", full_since_the_rehearsal)
            async with gateway_for(settings) as gateway:
                await settled(gateway)
                await asyncio.sleep(0.1)
                assert "No space left" in (await credential_state(gateway))["problem"]
                assert (await say(gateway))[0] == 200
                patched.undo()
                await until(lambda: not gateway.app[RUNTIME].shared._kept.problem)
                assert (await credential_state(gateway))["state"] == "ok"
        assert read_json(tmp_path / "data" / "auth.json")["refresh_token"] == service.refresh_token
    assert service.refreshes == 1
    assert [record.levelname for record in caplog.records if "saved" in record.message] == ["ERROR"]


async def test_it_is_saved_at_the_end_at_the_latest(tmp_path, monkeypatch):
    service = Service()
    with monkeypatch.context() as patched:
        async with rotating_for(tmp_path, service, 1) as rotatings:
            patched.setattr(FileStore, "save", full_since_the_rehearsal)
            await accesses(rotatings)
            patched.undo()
    assert read_json(tmp_path / "data" / "auth.json")["refresh_token"] == service.refresh_token


async def test_a_folder_that_cannot_be_made(tmp_path):
    service = Service()
    (tmp_path / "file").touch()
    environment = KEY | {"DROID2API_DATA": str(tmp_path / "file" / "data")}
    async with rotating_for(tmp_path, service, 1, environment) as rotatings:
        with pytest.raises(CredentialError, match="could not be saved"):
            await accesses(rotatings)
        assert "could not be saved" in rotatings[0].describe()["problem"]
    assert service.calls == []


async def test_a_token_is_stored_before_it_is_used(tmp_path, monkeypatch):
    service, save, waiting = Service(), FileStore.save, []
    async with rotating_for(tmp_path, service, 1) as [rotating]:

        def slow_save(store, tokens):
            time.sleep(0.2)
            waiting.append(asking.done())
            save(store, tokens)

        monkeypatch.setattr(FileStore, "save", slow_save)
        asking = asyncio.create_task(access(rotating))
        token = await asking
        assert waiting == [False, False]  # the rehearsal too
        assert read_json(tmp_path / "data" / "auth.json")["access_token"] == token


async def test_a_disk_that_hangs_holds_nobody_for_long(tmp_path, monkeypatch):
    write = FileStore.write

    async def hang(store, tokens):
        await (asyncio.sleep(60) if tokens.access else write(store, tokens))

    monkeypatch.setattr(FileStore, "write", hang)
    monkeypatch.setattr(kept_tokens, "SAVE_TIMEOUT", 0.1)
    monkeypatch.setattr(kept_tokens, "CLOSE_TIMEOUT", 0.1)
    async with rotating_for(tmp_path, Service(), 1) as [rotating]:
        async with asyncio.timeout(2):
            assert await access(rotating)
        assert "could not be stored in 0.1 seconds" in rotating.describe()["problem"]


@needs_posix
def test_only_the_owner_may_read_the_folder_and_its_files(tmp_path):
    before = os.umask(0)  # as open as a shell can set it
    try:
        store = FileStore(tmp_path / "data" / "auth.json", "key")
        store.save(Tokens("access", "refresh"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "data").iterdir()} == {0o600}


def test_a_file_of_another_key(tmp_path):
    file = FileStore(tmp_path / "auth.json", "one")
    file.save(Tokens("access", "refresh"))
    assert file.load().refresh == "refresh"
    assert FileStore(tmp_path / "auth.json", "two").load() is None
