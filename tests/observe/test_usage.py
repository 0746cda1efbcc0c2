"""The usage store: what it counts, and that neither a kill, nor a disk, nor another process loses more than it may."""

import asyncio
import errno
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import astuple
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from droid2api.errors import ConfigError
from droid2api.gateway.exchange import Exchange
from droid2api.hub.events import Usage
from droid2api.observe import usage
from droid2api.observe.usage import UsageRow, UsageStore, add_usage, read_days, read_usage
from tests.harness import serving, until
from tests.timing import assert_quick

ROOT = Path(__file__).parent.parent.parent
TODAY = date.today().isoformat()


def exchange(model="m", client="c", end="finish", used=None, days_ago=0):
    began = datetime.now().timestamp() if not days_ago else noon(days_ago)
    return Exchange("id", client, "chat", model=model, began=began, end=end, usage=used)


def noon(days_ago):
    return datetime.combine(date.today() - timedelta(days_ago), datetime.min.time()).timestamp() + 12 * 3600


def record(store, count=1, **fields):
    for _ in range(count):
        store.ended(exchange(**fields))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data" / "usage.db"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(usage, "WRITE_EVERY", 0.02)


@asynccontextmanager
async def running(store):
    task = asyncio.create_task(store.run())
    try:
        yield store
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await store.close()


async def keep(file, *exchanges):
    """Record and write these."""
    store = UsageStore(lambda: file)
    for each in exchanges:
        store.ended(each)
    await store.close()


def requests(file):
    return sum(row.requests for row in read_usage(file, 30, "model"))


# -- what is counted ------------------------------------------------------------------------------------------------


async def test_sums(file):
    first, second = Usage(100, 20, 30, 40, 5), Usage(1, 2, 3, 4, 5)
    await keep(file, exchange(used=first), exchange(used=second), exchange(used=None))
    assert read_usage(file, 1, "model") == [UsageRow("m", 3, 0, 101, 22, 33, 44, 10, None, 2)]
    await keep(file, exchange(used=second))
    assert read_usage(file, 1, "model") == [UsageRow("m", 4, 0, 102, 24, 36, 48, 15, None, 3)]


@pytest.mark.parametrize(("end", "errors"), [("client left", 0), ("upstream error", 1)])
async def test_errors(file, end, errors):
    await keep(file, exchange(end=end))
    assert read_usage(file, 1, "client") == [UsageRow("c", 1, errors, 0, 0, 0, 0, 0)]


async def test_a_request_without_a_model_is_not_counted(file):
    await keep(file, exchange(model="", end="request error"))
    assert not file.exists()
    assert read_usage(file, 1, "model") == []


async def test_what_no_upstream_can_mean_is_not_believed(file):
    await keep(file, exchange(used=Usage(10**30, -5)), exchange(used=Usage(1, 1)))
    assert read_usage(file, 1, "model") == [UsageRow("m", 2, 0, usage.MOST_TOKENS + 1, 1, 0, 0, 0, None, 2)]


async def test_a_client_that_invents_names(file):
    names = [f"name-{number}" for number in range(usage.MOST_CLIENTS + 50)]
    await keep(file, *(exchange(client=name) for name in [*names, names[0]]))
    rows = {row.key: row.requests for row in read_usage(file, 1, "client")}
    assert len(rows) == usage.MOST_CLIENTS + 1
    assert (rows["name-0"], rows["other"]) == (2, 50)


async def test_recording_takes_microseconds(file):
    store, one = UsageStore(lambda: file), exchange(used=Usage(1, 1, 1, 1, 1))

    def record():
        for _ in range(10_000):
            store.ended(one)

    assert_quick(record, 1)  # 100 microseconds each


# -- reading --------------------------------------------------------------------------------------------------------


async def test_reading_by_model_client_and_day(file):
    await keep(
        file,
        exchange("small", "codex", used=Usage(1, 1)),
        exchange("large", "aider", used=Usage(50, 50), days_ago=1),
        exchange("large", "codex", used=Usage(0, 30), days_ago=2),
        exchange("old", "old", used=Usage(9, 9), days_ago=3),
    )
    days = [(date.today() - timedelta(ago)).isoformat() for ago in range(3)]

    def tokens(days, by):
        return [(row.key, row.input + row.output) for row in read_usage(file, days, by)]

    assert tokens(3, "model") == [("large", 130), ("small", 2)]
    assert tokens(3, "client") == [("aider", 100), ("codex", 32)]
    assert tokens(3, "day") == [(days[2], 30), (days[1], 100), (days[0], 2)]
    assert tokens(1, "model") == [("small", 2)]
    assert tokens(10**9, "model")[-1] == ("small", 2)
    assert [(day, row.key, row.output) for day, row in read_days(file, 2)] == [
        (days[1], "large", 50),
        (days[0], "small", 1),
    ]


@pytest.mark.parametrize("content", [None, b""])
def test_reading_before_anything_was_written(file, content):
    if content is not None:
        file.parent.mkdir()
        file.write_bytes(content)
    assert read_usage(file, 30, "day") == read_days(file, 30) == []
    assert file.exists() == (content is not None)


def test_reading_what_cannot_be_read(file):
    file.parent.mkdir()
    file.write_bytes(b"no database " * 1000)
    with pytest.raises(ConfigError, match=r"usage\.db: cannot be read: file is not a database\."):
        read_usage(file, 30, "day")


async def test_a_name_with_signs_of_a_url(tmp_path):
    file = tmp_path / "a ?b#c%20" / "usage.db"
    await keep(file, exchange())
    assert requests(file) == 1


# -- writing --------------------------------------------------------------------------------------------------------


async def test_batches(file, monkeypatch, quick):
    batches = []

    def write(file, batch):
        batches.append({key: list(counts) for key, counts in batch.items()})
        real(file, batch)

    real = usage.write
    monkeypatch.setattr(usage, "write", write)
    async with running(UsageStore(lambda: file)) as store:
        record(store, 100)
        await until(lambda: file.exists() and requests(file) == 100)
        await asyncio.sleep(0.1)
        assert [sums[0] for batch in batches for sums in batch.values()] == [100]  # nothing new, nothing to write
        record(store, 5, client="d")
    assert requests(file) == 105
    assert [list(batch) for batch in batches] == [[(TODAY, "m", "c")], [(TODAY, "m", "d")]]


async def test_what_comes_in_during_a_write_is_for_the_next(file, monkeypatch, quick):
    store, real = UsageStore(lambda: file), usage.write

    def write(file, batch):
        loop.call_soon_threadsafe(record, store, 1 if first.pop() else 0)
        time.sleep(0.05)
        real(file, batch)

    loop, first = asyncio.get_running_loop(), [False, False, True]
    monkeypatch.setattr(usage, "write", write)
    async with running(store):
        record(store)
        await until(lambda: requests(file) == 2)


async def test_only_the_owner_can_read_it(file):
    before = os.umask(0)
    try:
        await keep(file, exchange())
        with closing(sqlite3.connect(file)) as held:
            held.execute("SELECT * FROM usage").fetchall()  # a log that stays, as after a kill
            await keep(file, exchange())
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"usage.db": 0o600, "usage.db-wal": 0o600, "usage.db-shm": 0o600}
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


RECORDER = """
import asyncio, sys
from pathlib import Path
from droid2api.gateway.exchange import Exchange
from droid2api.observe import usage

async def main(file, count, seconds):
    store = usage.UsageStore(lambda: Path(file))
    task = asyncio.create_task(store.run())
    for _ in range(int(count)):
        store.ended(Exchange("id", "c", "chat", model="m", end="finish"))
        await asyncio.sleep(float(seconds))
    task.cancel()
    await store.close()

{before}
asyncio.run(main(*sys.argv[1:]))
"""


def recorder(file, count, seconds, before=""):
    command = [sys.executable, "-c", RECORDER.replace("{before}", before), str(file), str(count), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT)


async def test_processes_that_write_the_same_file(file):
    """Each writes every 2 milliseconds, from before there is a file."""
    processes = [recorder(file, 150, 0.003, "usage.WRITE_EVERY = 0.002") for _ in range(3)]
    try:
        for process in processes:
            await asyncio.to_thread(process.wait, timeout=60)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert read_usage(file, 2, "client") == [UsageRow("c", 450, 0, 0, 0, 0, 0, 0)]


async def test_a_kill_loses_the_last_second_only(file):
    """What was counted is written while the process runs, batch after batch."""
    assert usage.WRITE_EVERY == 1
    process = recorder(file, 100_000, 0.001, "usage.WRITE_EVERY = 0.05")
    try:
        for _ in range(3):
            written = requests(file)
            await until(lambda: requests(file) > written, 30)  # noqa: B023 - it is over before the next
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = requests(file)
    assert left > written
    await keep(file, exchange())  # and it can be written again
    assert requests(file) == left + 1


async def test_another_process_that_holds_the_file_holds_nobody_up(file, quick, caplog, monkeypatch):
    monkeypatch.setattr(usage, "LOCK_TIMEOUT", 60)
    await keep(file, exchange())
    async with running(UsageStore(lambda: file)) as store:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            record(store)
            await until(lambda: store._writing is not None)
            await asyncio.sleep(0.1)  # a loop that waited too would not come back: nobody lets go of the file
            assert not store._writing.done()
            assert requests(file) == 1  # and readers need not
            other.execute("ROLLBACK")
        await until(lambda: requests(file) == 2)
    assert [line for line in caplog.records if line.levelno >= logging.WARNING] == []


async def test_a_lock_that_is_held_for_too_long(file, quick, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(usage, "LOCK_TIMEOUT", 0.05)
    await keep(file, exchange())
    async with running(UsageStore(lambda: file)) as store:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            record(store)
            await until(lambda: store._problem)
            other.execute("ROLLBACK")
        await until(lambda: requests(file) == 2 and not store._problem)
    assert [line.levelname for line in caplog.records if line.name == "droid2api.usage"] == ["WARNING", "INFO"]
    assert "cannot be written: database is locked." in caplog.text


# -- what goes wrong ------------------------------------------------------------------------------------------------


def _no_folder(file, patched):
    """A file where the folder should be."""
    file.parent.write_text("")
    return file.parent.unlink


def _read_only_system(file, patched):
    real = os.open

    def refuse(path, *more):
        if path == file:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, *more)

    patched.setattr(os, "open", refuse)
    return patched.undo


def _read_only(file, patched):
    """As SQLite sees a file that it may not write: modes do not bind root."""
    connect = sqlite3.connect
    patched.setattr(sqlite3, "connect", lambda file, **more: connect(f"{file.as_uri()}?mode=ro", uri=True, **more))
    return patched.undo


def _full(file, patched):
    """SQLite says so where the file may have no more pages."""
    connect = sqlite3.connect

    def small(*arguments, **named):
        database = connect(*arguments, **named)
        database.execute("PRAGMA max_page_count = 1")
        return database

    patched.setattr(sqlite3, "connect", small)
    return patched.undo


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_no_folder, "File exists"),
        (_read_only_system, "Read-only file system"),
        (_read_only, "attempt to write a readonly database"),
        (_full, "database or disk is full"),
    ],
)
async def test_a_disk_that_does_not_take_it(file, quick, caplog, spoil, reason):
    """One line when it begins, one when it works again, and nothing is lost."""
    caplog.set_level(logging.INFO)
    with pytest.MonkeyPatch.context() as patched:
        mend = spoil(file, patched)
        async with running(UsageStore(lambda: file)) as store:
            record(store, 3, used=Usage(2, 1))
            await until(lambda: store._problem)
            record(store, 4)
            await asyncio.sleep(0.1)  # several tries
            assert len(store._sums) <= 1  # 0 during a try
            mend()
            await until(lambda: not store._problem)
            record(store)
    assert read_usage(file, 1, "model") == [UsageRow("m", 8, 0, 6, 3, 0, 0, 0, None, 3)]
    lines = [(line.levelname, line.message) for line in caplog.records if line.name == "droid2api.usage"]
    assert lines == [
        (
            "WARNING",
            f"{file}: cannot be written: {reason}. Until it can be written, usage is counted in memory only.",
        ),
        ("INFO", f"{file}: usage is written again."),
    ]


async def test_a_disk_that_fails_to_the_end(file, caplog):
    file.parent.write_text("")  # where the folder should be
    await keep(file, exchange())
    assert caplog.messages[-1] == f"{file}: the last counts of usage could not be written."


async def test_a_python_without_sqlite(file, monkeypatch, caplog):
    monkeypatch.setattr(usage, "sqlite3", None)
    await keep(file, exchange())
    assert "this Python was built without SQLite." in caplog.text


def _garbage(file):
    file.write_bytes(b"no database " * 1000)


def _malformed(file):
    """The head is good, the table is not."""
    content = bytearray(file.read_bytes())
    content[200:] = b"\xa5" * (len(content) - 200)
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [_garbage, _malformed])
async def test_a_damaged_file_is_put_aside(file, caplog, damage):
    await keep(file, exchange())
    damage(file)
    damaged = file.read_bytes()
    file.with_name("usage.db-wal").write_bytes(b"the log of the damaged file")
    await keep(file, exchange(), exchange())
    assert requests(file) == 2
    (aside,) = file.parent.glob("usage.db.damaged-*[0-9]")
    assert aside.read_bytes() == damaged
    (error,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert error.startswith(f"{file}: is damaged (")
    assert error.endswith(f"). It was moved to {aside.name}, and a new one is begun.")


async def test_a_new_file_of_another_process_is_not_put_aside(file, monkeypatch):
    """Both saw the damage; the other was quicker."""
    file.parent.mkdir()
    _garbage(file)
    put_aside = usage._put_aside

    def late(*arguments):
        file.rename(file.with_name("moved by the other"))
        usage.write(file, {(TODAY, "m", "other"): [1] * 7})
        put_aside(*arguments)

    monkeypatch.setattr(usage, "_put_aside", late)
    await keep(file, exchange())
    assert {row.key for row in read_usage(file, 1, "client")} == {"c", "other"}
    assert list(file.parent.glob("*damaged*")) == []


async def test_a_file_that_is_deleted_is_begun_anew(file, quick):
    async with running(UsageStore(lambda: file)) as store:
        record(store, 2)
        await until(lambda: requests(file) == 2)
        file.unlink()
        record(store)
        await until(lambda: requests(file) == 1)


# -- in the application ---------------------------------------------------------------------------------------------


async def test_it_lives_as_long_as_the_application(file, quick):
    app, observers = web.Application(), []
    add_usage(app, observers, lambda: file)
    async with serving(app):
        (store,) = observers
        store.began(exchange(end=""))
        record(store)
        await until(lambda: requests(file) == 1)
        record(store)
    assert requests(file) == 2
    assert astuple(read_days(file, 1)[0][1])[:2] == ("m", 2)
