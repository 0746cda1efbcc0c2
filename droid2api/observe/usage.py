"""How much was used: requests and tokens of each day, model and client, in an SQLite file that outlives the process.

Whoever records adds to sums in memory; once a second a thread writes what there is, so that the event loop never waits
for a disk and a process that is killed loses its last second at most. Several processes may write the same file. It is
opened anew for each batch: so it may be moved, deleted or mended by anyone while the gateway runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from aiohttp import web

from droid2api.errors import ConfigError
from droid2api.gateway.exchange import Exchange, Observer
from droid2api.hub.events import Usage

try:
    import sqlite3
except ImportError:  # some builds of Python are without
    sqlite3 = None  # type: ignore[assignment]  # a module's name cannot be declared optional

log = logging.getLogger("droid2api.usage")

WRITE_EVERY = 1.0
"""Seconds from the first count of a batch to its writing, and to the next try after a failure."""
LOCK_TIMEOUT = 3.0
"""Seconds that a batch waits for another process that writes."""
MOST_CLIENTS = 200
"""Clients name themselves: one that invents names must fill neither memory nor disk. Later ones are "other"."""
MOST_TOKENS = 2**40
"""What an upstream tells of one answer is not believed beyond this: SQLite's integers end somewhere."""

CSV_COLUMNS = "day model requests errors input cache_read cache_write output reasoning cost unpriced".split()
"""Of `usage --csv`; the page saves the same ones."""
A_CENTURY = 36525
"""Days; a calendar does not go back as far as numbers do."""

SUMS = ("requests", "errors", "input", "output", "cache_read", "cache_write", "reasoning")
CREATE = f"""
    CREATE TABLE IF NOT EXISTS usage (
        day TEXT NOT NULL, model TEXT NOT NULL, client TEXT NOT NULL,
        {", ".join(f"{name} INTEGER NOT NULL" for name in SUMS)},
        PRIMARY KEY (day, model, client)
    ) WITHOUT ROWID
"""
ADD = f"""
    INSERT INTO usage VALUES (?, ?, ?, {", ".join("?" * len(SUMS))})
    ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)}
"""  # noqa: S608 - made of the names above
CREATE_COST = """
    CREATE TABLE IF NOT EXISTS cost (
        day TEXT NOT NULL, model TEXT NOT NULL, client TEXT NOT NULL,
        cost REAL NOT NULL, priced INTEGER NOT NULL, unpriced INTEGER NOT NULL,
        PRIMARY KEY (day, model, client)
    ) WITHOUT ROWID
"""
"""A table of its own, so that gateways of 0.1 go on with a file that has it."""
ADD_COST = """
    INSERT INTO cost VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET cost = cost + excluded.cost, priced = priced + excluded.priced,
        unpriced = unpriced + excluded.unpriced
"""
READ = ", ".join(f"sum({name})" for name in SUMS)

Column: TypeAlias = Literal["model", "client", "day"]
Key: TypeAlias = tuple[str, str, str]
"""Day (2026-11-25, by this machine's clock and time zone), model, client."""


@dataclass(slots=True)
class UsageRow:
    """`key` is the model, client or day that the sums are of; tokens are counted as in events.Usage.

    `cost` is in US dollars, None where no price was known; `unpriced` are the requests with tokens that it lacks.
    """

    key: str
    requests: int
    errors: int
    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int
    cost: float | None = None
    unpriced: int = 0


@lru_cache(1)
def _day(minute: int) -> str:
    """Of a minute since the epoch: no time zone begins its days within one."""
    return date.fromtimestamp(minute * 60).isoformat()


class StorageError(Exception):
    """The counts cannot be written now. The text says which file and why."""


class UsageStore:
    """An observer. `run` writes what it has counted into the file that `place` gives, until it is cancelled; then
    `close` writes the rest.
    """

    def __init__(self, place: Callable[[], Path]) -> None:
        self._place = place
        self._sums: dict[Key, list[float]] = {}
        self._clients: set[str] = set()
        self._counted = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._problem = ""

    def began(self, exchange: Exchange) -> None:
        pass

    def ended(self, exchange: Exchange) -> None:
        if not exchange.model:
            return
        client = exchange.client
        if client not in self._clients:
            if len(self._clients) < MOST_CLIENTS:
                self._clients.add(client)
            else:
                client = "other"
        used = exchange.usage or Usage()
        tokens = (used.input, used.output, used.cache_read, used.cache_write, used.reasoning)
        day = _day(int(exchange.began // 60))
        believed = [min(max(count, 0), MOST_TOKENS) for count in tokens]
        priced = exchange.cost is not None
        costs = [exchange.cost or 0.0, int(priced), int(not priced and exchange.usage is not None)]
        self._add((day, exchange.model, client), [1, int(exchange.failed), *believed, *costs])
        if exchange.fallback:
            self._add((day, exchange.fallback, client), [1, 1, *[0] * (len(tokens) + len(costs))])

    def _add(self, key: Key, counts: list[float]) -> None:
        if sums := self._sums.get(key):
            counts = [known + count for known, count in zip(sums, counts, strict=True)]
        self._sums[key] = counts
        self._counted.set()

    async def run(self) -> None:
        while True:
            await self._counted.wait()
            await asyncio.sleep(WRITE_EVERY)
            self._writing = asyncio.create_task(self._write())
            await asyncio.shield(self._writing)  # else what is being written would be lost or written twice

    async def close(self) -> None:
        """Write the rest. To be called when `run` has ended."""
        if self._writing:
            await self._writing
        await self._write()
        if self._sums:
            log.warning("%s: the last counts of usage could not be written.", self._place())

    async def _write(self) -> None:
        """What has been counted so far; what cannot be written is kept for the next time."""
        batch, self._sums = self._sums, {}
        self._counted.clear()
        if not batch:
            return
        try:
            await asyncio.to_thread(write, self._place(), batch)
        except StorageError as error:
            for key, counts in batch.items():
                self._add(key, counts)
            self._note(str(error))
        else:
            self._note("")

    def _note(self, problem: str) -> None:
        """One line in the log when writing begins to fail, and one when it works again."""
        if problem and not self._problem:
            log.warning("%s Until it can be written, usage is counted in memory only.", problem)
        elif self._problem and not problem:
            log.info("%s: usage is written again.", self._place())
        self._problem = problem


def add_usage(app: web.Application, observers: list[Observer], place: Callable[[], Path]) -> None:
    """Record the usage of this application, for as long as it runs."""
    store = UsageStore(place)
    observers.append(store)

    async def writing(app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(store.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await store.close()

    app.cleanup_ctx.append(writing)


# -- the file, in a thread ------------------------------------------------------------------------------------------


def write(file: Path, batch: dict[Key, list[float]]) -> None:
    """Add the sums of a batch, all or none; a file that is damaged is put aside for a new one. Raises StorageError."""
    if sqlite3 is None:
        raise StorageError(f"{file}: cannot be written: this Python was built without SQLite.")
    try:
        identity = _create(file)
        try:
            _add_all(file, batch)
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what SQLite adds to say which kind
            if code not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise
            _put_aside(file, identity, str(error))
            _create(file)
            _add_all(file, batch)
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StorageError(f"{file}: cannot be written: {reason}.") from None


def _create(file: Path) -> int:
    """The file, with the mode that SQLite then gives to those it puts beside. Gives what identifies it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def _add_all(file: Path, batch: dict[Key, list[float]]) -> None:
    with closing(sqlite3.connect(file, timeout=LOCK_TIMEOUT, isolation_level=None)) as database:
        with suppress(sqlite3.OperationalError):  # another process sets it now: that one is not waited for, but below
            database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("BEGIN IMMEDIATE")
        database.execute(CREATE)
        database.execute(CREATE_COST)
        database.executemany(ADD, [(*key, *counts[: len(SUMS)]) for key, counts in batch.items()])
        costs = [(*key, *counts[len(SUMS) :]) for key, counts in batch.items() if any(counts[len(SUMS) :])]
        database.executemany(ADD_COST, costs)
        database.execute("COMMIT")


def _put_aside(file: Path, identity: int, reason: str) -> None:
    """Unless another process has done so already, and has begun a new file."""
    if file.stat().st_ino != identity:
        return
    aside = file.with_name(f"{file.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for ending in ("-wal", "-shm", ""):  # the file last: a log that stayed would be taken for the new one's
        with suppress(FileNotFoundError):
            os.replace(f"{file}{ending}", f"{aside}{ending}")
    log.error("%s: is damaged (%s). It was moved to %s, and a new one is begun.", file, reason, aside.name)


# -- reading --------------------------------------------------------------------------------------------------------


def read_usage(file: Path, days: int, by: Column) -> list[UsageRow]:
    """The sums of the last `days` days (today is one) of each model, client or day; none where there is no file.

    Days come in their order, the others by their tokens, most first. Raises ConfigError for a file that cannot be read.
    """
    order = "day" if by == "day" else f"sum(input + output) DESC, {by}"
    return [UsageRow(*row) for row in _read(file, days, by, order)]


def read_days(file: Path, days: int) -> list[tuple[str, UsageRow]]:
    """Each of those days with the sums of each model, in the order of days and names. Raises ConfigError."""
    return [(day, UsageRow(*row)) for day, *row in _read(file, days, "day, model", "day, model")]


def _read(file: Path, days: int, by: str, order: str) -> list[tuple[Any, ...]]:
    if sqlite3 is None:
        raise ConfigError(f"{file}: cannot be read: this Python was built without SQLite.")
    if not file.exists():
        return []
    since = (date.today() - timedelta(min(days, A_CENTURY) - 1)).isoformat()
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'usage'").fetchone():
                return []  # another process is about to make the table
            has_cost = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'cost'").fetchone()
            costs = "sum(CASE WHEN priced THEN cost END), coalesce(sum(unpriced), 0)" if has_cost else "NULL, 0"
            tables = "usage LEFT JOIN cost USING (day, model, client)" if has_cost else "usage"
            query = f"SELECT {by}, {READ}, {costs} FROM {tables} WHERE day >= ? GROUP BY {by} ORDER BY {order}"  # noqa: S608 - names
            return database.execute(query, [since]).fetchall()
    except sqlite3.Error as error:
        raise ConfigError(f"{file}: cannot be read: {error}.") from None
