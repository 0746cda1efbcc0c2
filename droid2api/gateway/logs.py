"""The log: one line for each request, as text or JSON, and with dev_mode the bodies.

No line holds a credential: bodies are masked before they are cut.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from aiohttp.http import HttpProcessingError

from droid2api.gateway.exchange import Exchange
from droid2api.settings import Settings
from droid2api.wire.fields import Json

log = logging.getLogger("droid2api")
requests = logging.getLogger("droid2api.requests")

BODY_SHOWN = 4000
"""Characters of a body that dev_mode shows."""
BODY_KEPT = 64_000
"""Bytes of a body that are enough for that, with keys and pictures to be taken out."""

_KEY = re.compile(r"\b(?:sk|fk|pk|rk|gh[opsu]|xox[abp]|AKIA|AIza)[-_]?[\w-]{16,}|\beyJ[\w-]{10,}(\.[\w-]+\.[\w-]*)?")
"""What a key begins with, and a signed token. Three parts make a token, but what looks like its first one is matched
without the others too: a search that went on inside of it would take the square of a run of such beginnings.
"""
_BASE64 = re.compile(r"[A-Za-z0-9+/]{200,}={0,2}")

LINE_LIMIT = 64_000
"""Characters of a line of JSON: who collects lines cuts longer ones, and then they are no JSON."""
FIELD_LIMIT = 1000
"""Characters of each text in a line that would be longer."""
WAITING_LIMIT = 4_000_000
"""Characters of lines that may wait for who reads the log; who is too slow loses those after them."""


class BackgroundHandler(logging.Handler):
    """Writes to stderr from a thread of its own: when nobody reads there, the gateway goes on, and counts the lines
    that it had to drop.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ready = threading.Condition()
        self._lines: list[str] = []
        self._size = 0
        self._dropped = 0
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record) + "\n"
        with self._ready:
            if self._size + len(line) > WAITING_LIMIT:
                self._dropped += 1
                return
            self._lines.append(line)
            self._size += len(line)
            self._ready.notify()
        if not self._thread:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Wait until all is written, a second at the most."""
        with self._ready:
            self._ready.wait_for(lambda: not self._size, 1)

    def _run(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._lines)
                lines, self._lines = self._lines, []
                dropped, self._dropped = self._dropped, 0
            if dropped:
                said = f"{dropped} lines of the log were dropped: nobody read them."
                lines.append(self.format(logging.LogRecord(log.name, logging.WARNING, "", 0, said, None, None)) + "\n")
            with contextlib.suppress(OSError, ValueError):  # it is closed: there is nobody to be told
                _write(2, "".join(lines).encode(sys.stderr.encoding, "backslashreplace"))
            with self._ready:
                self._size = sum(map(len, self._lines))
                self._ready.notify_all()


def _write(number: int, content: bytes) -> None:
    """Past sys.stderr: a thread that waits for a reader would hold its lock, and the end of the process would crash."""
    while content:
        content = content[os.write(number, content) :]


_handler: logging.Handler = BackgroundHandler()


def start_logging(settings: Settings) -> None:
    """To stderr, where nobody has set up other (gunicorn's --log-config). Can be called again when settings change."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(_handler)
        # no line tells of these, and to find them out takes longer than to write it
        logging.logThreads = logging.logMultiprocessing = False  # gunicorn's lines tell of the process
        logging._srcfile = None
    _handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    root.setLevel(logging.DEBUG if settings.dev_mode else settings.log_level.upper())
    logging.getLogger("asyncio").setLevel(logging.INFO)
    for warning in settings.warnings:
        log.warning("%s: %s", settings.source, warning)


class TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return f"{_second(int(record.created))},{int(record.msecs):03}"


@lru_cache(1)
def _second(since_epoch: int) -> str:
    """By this machine's clock and time zone; many lines are of one second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since_epoch))


class JsonFormatter(logging.Formatter):
    """An object for each line; a request's has all fields of exchange.Exchange."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        value: Json = {"time": moment, "level": record.levelname.lower(), "logger": record.name}
        value["message"] = record.getMessage()
        if exchange := getattr(record, "exchange", None):
            value |= exchange.to_json()
        if record.exc_info:
            value["traceback"] = self.formatException(record.exc_info)
        line = json.dumps(value, default=str)  # ASCII: no text can fail, or be taken for a second line
        return line if len(line) <= LINE_LIMIT else json.dumps(_cut(value) | {"cut": len(line)}, default=str)


def _cut(value: Json) -> Json:
    """Without lists, and with the beginnings of texts."""
    short = {name: field[:FIELD_LIMIT] if type(field) is str else field for name, field in value.items()}
    return {name: field for name, field in short.items() if name == "usage" or type(field) not in (list, dict)}


class RequestLog:
    """The observer that writes the line."""

    def began(self, exchange: Exchange) -> None:
        pass

    def ended(self, exchange: Exchange) -> None:
        level = logging.INFO if exchange.end in ("finish", "client left") else logging.WARNING
        if requests.isEnabledFor(level):
            requests.log(level, "%s", request_line(exchange), extra={"exchange": exchange})


def request_line(exchange: Exchange) -> str:
    """`id client asked -> model format>upstream lane status first-byte duration tokens tokens/s end: error`"""
    model = exchange.model if exchange.asked == exchange.model else f"{exchange.asked} -> {exchange.model or '?'}"
    parts = [exchange.id, exchange.client, _printable(model) or "?", f"{exchange.format}>{exchange.upstream or '?'}"]
    parts += [exchange.lane or "-", str(exchange.status or "-")]
    parts += [f"{_seconds(exchange.first_byte)} first", f"{_seconds(exchange.duration)} whole"]
    if usage := exchange.usage:
        parts.append(f"tokens {usage.input} in {usage.output} out {usage.cache_read} cached")
    if exchange.cost is not None:
        parts.append(f"${exchange.cost:.6f}")
    if speed := exchange.tokens_per_second:
        parts.append(f"{speed:.1f} tokens/s")
    if exchange.fallback:
        parts.append(f"fallback for {exchange.fallback}")
    if exchange.upstream_id:
        parts.append(f"upstream {_printable(exchange.upstream_id)}")
    return " ".join(parts) + f" {exchange.end}" + (f": {_printable(exchange.error)}" if exchange.error else "")


def masked(text: str, secrets: Iterable[str]) -> str:
    """Without the secrets, as they are and as JSON may write them."""
    for secret in secrets:
        text = text.replace(secret, "***")
        if "\\" in text:
            text = re.sub("".join(map(_spellings, secret)), "***", text)
    return text


def _spellings(char: str) -> str:
    return rf"(?:\\?{re.escape(char)}|\\u(?i:{ord(char):04x}))"


def without_secrets(content: bytes, secrets: Iterable[str], *, whole: bool = True) -> str:
    """A body as text, without what is a key or looks like one. One that is not `whole` ends before its last quote, so
    that it does not end in the middle of a key.
    """
    if not whole:
        content = content[: content.rfind(b'"') + 1]
    return _KEY.sub(_mask, masked(content.decode(errors="replace"), secrets))


def _mask(found: re.Match[str]) -> str:
    is_part = found.group().startswith("eyJ") and not found.group(1)
    return found.group() if is_part else "***"


def log_body(what: str, id: str, content: bytes, secrets: Iterable[str]) -> None:
    """A body on its way, for dev_mode: on one line, without credentials and pictures, and cut."""
    whole = len(content) <= BODY_KEPT
    text = without_secrets(content[:BODY_KEPT], secrets, whole=whole)
    text = _BASE64.sub(lambda found: f"<{len(found.group())} characters of base64>", text)
    size = f"{len(text)}" if whole else f"more than {BODY_KEPT}"
    cut = "" if whole and len(text) <= BODY_SHOWN else f" ... ({size} characters)"
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[:BODY_SHOWN])
    log.debug("%s %s: %s%s", id, what, shown, cut)


def without_request_bytes(record: logging.LogRecord) -> bool:
    """aiohttp quotes a request that it cannot read, with whatever key stands in it: the kind of error must do."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.msg, record.args = f"{record.getMessage()}: {type(record.exc_info[1]).__name__}", ()
        record.exc_info = record.exc_text = None
    return True


logging.getLogger("aiohttp.server").addFilter(without_request_bytes)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}s"


def _printable(text: str) -> str:
    """On one line, whatever a client or an upstream wrote."""
    text = text[:500]
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)
