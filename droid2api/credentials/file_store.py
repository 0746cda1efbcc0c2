"""Tokens in a file, auth.json, for the processes of one machine. Redis is in redis_store.py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from droid2api.credentials.tokens import StoreError, Tokens, expiry, key_hash
from droid2api.wire.fields import Json

log = logging.getLogger("droid2api.auth")

LOCK_POLL = 0.05


class FileStore:
    """auth.json: read and replaced as a whole, with mode 0600; fields that are not the gateway's own are kept."""

    remote = False

    def __init__(self, path: Path, key: str = "") -> None:
        self.path = path
        self._key_hash = key_hash(key) if key else ""

    async def read(self) -> Tokens | None:
        return self.load()

    async def write(self, tokens: Tokens) -> None:
        try:
            await asyncio.to_thread(self.save, tokens)  # a disk may take its time
        except OSError as error:
            raise StoreError(f"The new token could not be saved to {self.path}: {error.strerror}.") from None

    async def close(self) -> None:
        pass

    def load(self) -> Tokens | None:
        """None when there is no file, or none that can be used."""
        try:
            value = orjson.loads(self.path.read_bytes())
            modified = self.path.stat().st_mtime
        except FileNotFoundError:
            return None
        except (OSError, orjson.JSONDecodeError) as error:
            log.warning("%s cannot be read (%s).", self.path, type(error).__name__)
            return None
        if type(value) is not dict or (self._key_hash and value.get("key_sha256") != self._key_hash):
            return None
        access, refresh = value.get("access_token") or "", value.get("refresh_token") or ""
        if type(access) is not str or type(refresh) is not str or not (access or refresh):
            return None
        return Tokens(access, refresh, expiry(access, modified) if access else 0, modified)

    def save(self, tokens: Tokens) -> None:
        """A crash leaves the old file or the new one. Raises OSError."""
        try:
            value = orjson.loads(self.path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            value = {}
        fields: Json = value if type(value) is dict else {}
        fields |= {"access_token": tokens.access, "refresh_token": tokens.refresh}
        if self._key_hash:
            fields["key_sha256"] = self._key_hash
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.new")
        temporary.unlink(missing_ok=True)  # of a process that was killed here
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps(fields, option=orjson.OPT_INDENT_2))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """The operating system's lock on a file beside: it ends with the process, however that ends.

        In a folder that cannot be written there is none; nothing can be shared there either.
        """
        with contextlib.ExitStack() as opened:
            if (descriptor := self._open_lock()) is not None:
                opened.callback(os.close, descriptor)  # which unlocks
                while not _try_lock(descriptor):  # noqa: ASYNC110 - another process's: there is no event
                    await asyncio.sleep(LOCK_POLL)
            yield

    def _open_lock(self) -> int | None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return None


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        """True too where the file system has no locks: then it is as it was without."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            log.debug("The file system of the token file has no locks.")
        return True
