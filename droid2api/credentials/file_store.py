"""Tokens in a file, auth.json, for the processes of one machine. Redis is in redis_store.py."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from droid2api.credentials.tokens import NO_LOGIN, StoreError, Tokens, expiry, is_token, key_hash
from droid2api.wire.fields import Json

log = logging.getLogger("droid2api.auth")

LOCK_POLL = 0.05


class FileStore:
    """auth.json: read and replaced as a whole, with mode 0600; fields that are not the gateway's own are kept.

    Its time of change is the time at which the tokens came. With a `key` it is the gateway's own memory of what became
    of that DROID_REFRESH_KEY; without one it is a login that Factory's CLI made, and may end.
    """

    remote = False

    def __init__(self, path: Path, key: str = "") -> None:
        self.path = path
        self._key_hash = key_hash(key) if key else ""
        self._mark: tuple[int, int, int] | None = None  # of the file as it was last read or written

    async def read(self) -> Tokens | None:
        return self.load()

    async def write(self, tokens: Tokens) -> None:
        try:
            await asyncio.to_thread(self.save, tokens)  # a disk may take its time
        except OSError as error:
            raise self._error(error) from None

    def changed(self) -> bool:
        return _mark(self.path) != self._mark

    async def close(self) -> None:
        pass

    def load(self) -> Tokens | None:
        """NO_LOGIN when somebody has logged out; None when the file is of no use, so that it says nothing."""
        self._mark = _mark(self.path)
        try:
            return self._parse(self.path.read_bytes(), self.path.stat().st_mtime)
        except FileNotFoundError:
            return None if self._key_hash else NO_LOGIN
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read (%s).", self.path, type(error).__name__)
            return None

    def _parse(self, content: bytes, modified: float) -> Tokens | None:
        """Raises ValueError for what is no JSON, and for tokens that no header can carry."""
        value = orjson.loads(content)
        if type(value) is not dict or (self._key_hash and value.get("key_sha256") != self._key_hash):
            return None
        access, refresh = value.get("access_token") or "", value.get("refresh_token") or ""
        if not (access or refresh):
            return None if self._key_hash else NO_LOGIN
        if not all(token == "" or is_token(token) for token in (access, refresh)):
            raise ValueError
        return Tokens(access, refresh, expiry(access, modified) if access else 0, modified)

    def save(self, tokens: Tokens) -> None:
        """A crash leaves the old file or the new one; a symbolic link stays one. Raises OSError."""
        try:
            value = orjson.loads(self.path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            value = {}
        fields: Json = value if type(value) is dict else {}
        fields |= {"access_token": tokens.access, "refresh_token": tokens.refresh}
        if self._key_hash:
            fields["key_sha256"] = self._key_hash
        target = self._target()
        temporary = target.with_name(f".{target.name}.new")
        temporary.unlink(missing_ok=True)  # of a process that was killed here
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps(fields, option=orjson.OPT_INDENT_2))
                file.flush()
                os.fsync(file.fileno())
            os.utime(temporary, (tokens.received_at, tokens.received_at))
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._mark = _mark(self.path)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """The operating system's lock on a file beside: it ends with the process, however that ends."""
        try:
            target = self._target()
            descriptor = os.open(target.with_name(f"{target.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._error(error) from None
        try:
            while not _try_lock(descriptor):  # noqa: ASYNC110 - another process's: there is no event
                await asyncio.sleep(LOCK_POLL)
            yield
        finally:
            os.close(descriptor)  # which unlocks

    def _target(self) -> Path:
        """The file itself, in a folder that is there now. Raises OSError."""
        target = Path(os.path.realpath(self.path))
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return target

    def _error(self, error: OSError) -> StoreError:
        return StoreError(f"A new token could not be saved to {self.path}: {error.strerror}.")


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None for one that is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


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
