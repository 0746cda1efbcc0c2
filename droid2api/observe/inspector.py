"""The last requests whole, for the page: asked, sent, answered by the service, given to the client; with `capture` in
config.json, in memory only.

    GET  /status/captures        the requests that are kept, the newest first
    GET  /status/captures/{id}   one of them, with the differences

Nothing is shown before it is masked: when its exchange has ended.
"""

from __future__ import annotations

import asyncio
import difflib
from collections import deque
from collections.abc import Callable, Mapping

import orjson
from aiohttp import web

from droid2api.errors import RequestError
from droid2api.gateway.exchange import Exchange, Part
from droid2api.gateway.logs import without_secrets
from droid2api.server.keys import CAPTURE, OBSERVERS, RUNTIME
from droid2api.server.reload import Runtime
from droid2api.settings import SECRET_HEADERS
from droid2api.wire.fields import Json

MASK = "***"
MOST_BODY = 256 * 1024
"""Bytes of one body that are kept."""
MOST_MEMORY = 32 * 1024 * 1024
"""Bytes of all bodies that are kept: the oldest requests go when there are more."""
MOST_LINES = 3000
"""Lines of two bodies each whose difference is looked for: it may take their product in time."""
PARTS: tuple[Part, ...] = ("asked", "sent", "answered", "given")
_MASKED = SECRET_HEADERS | frozenset(("set-cookie", "proxy-authorization"))
_SHOWN = "id client format asked fallback model upstream began duration status end error".split()


class Record:
    """What passes of one exchange, the beginning of each body; texts from its end on."""

    def __init__(self, exchange: Exchange, secrets: list[str], grew: Callable[[int], None]) -> None:
        self.exchange = exchange
        self.is_open = True
        self.heads: dict[Part, Json] = {}
        self.sizes: dict[Part, int] = dict.fromkeys(PARTS, 0)
        self.texts: dict[Part, str] = {}
        self._bodies: dict[Part, bytearray] = {}
        self._secrets = secrets
        self._grew = grew

    @property
    def memory(self) -> int:
        return sum(map(len, self._bodies.values())) + sum(map(len, self.texts.values()))

    def head(self, part: Part, head: Json) -> None:
        """What follows is the body; one that was told before (of a model that could not answer) is forgotten."""
        self.heads[part] = head
        self.sizes[part] = 0
        self._grew(-len(self._bodies.pop(part, b"")))

    def body(self, part: Part, content: bytes) -> None:
        self.sizes[part] += len(content)
        kept = self._bodies.setdefault(part, bytearray())
        piece = content[: MOST_BODY - len(kept)]
        if piece and self.is_open:
            kept += piece
            self._grew(len(piece))

    def close(self) -> None:
        """The exchange has ended: what was kept becomes text without secrets."""
        self.is_open = False
        self.heads = {part: self._without_secrets(head) for part, head in self.heads.items()}
        for part, body in self._bodies.items():
            self.texts[part] = without_secrets(bytes(body), self._secrets, whole=len(body) == self.sizes[part])
        self._bodies, self._secrets = {}, []

    def _without_secrets(self, head: Json) -> Json:
        def shown(name: str, value: str) -> str:
            if name.lower() in _MASKED:
                return MASK
            return without_secrets(value.encode(errors="surrogateescape"), self._secrets)  # it may be no UTF-8

        return head | {"headers": {name.lower(): shown(name, value) for name, value in head["headers"].items()}}

    def summary(self) -> Json:
        return {name: value for name, value in self.exchange.to_json().items() if name in _SHOWN}

    def to_json(self) -> Json:
        parts = {
            part: {"head": self.heads.get(part), "body": self.texts.get(part, ""), "size": self.sizes[part]}
            for part in PARTS
        }
        cut = [part for part in PARTS if self.sizes[part] > MOST_BODY]
        return self.summary() | {
            "parts": parts,
            "cut": cut,
            "request": _difference(self.texts.get("asked", ""), self.texts.get("sent", "")),
            "answer": _difference(self.texts.get("answered", ""), self.texts.get("given", "")),
        }


class Inspector:
    """An observer, and what gives each exchange its record."""

    def __init__(self, current: Callable[[], Runtime]) -> None:
        self._current = current
        self._records: deque[Record] = deque()
        self._memory = 0

    def open(self, exchange: Exchange, headers: Mapping[str, str]) -> Record | None:
        """A record for an exchange with a client that sent these headers; None while nothing is captured."""
        current = self._current()
        most = current.settings.capture
        while self._records and len(self._records) >= max(most, 1):
            self._drop()
        if not most:
            self._records.clear()
            self._memory = 0
            return None
        record = Record(exchange, current.upstream.secrets(headers), self._grew)
        self._records.append(record)
        return record

    def began(self, exchange: Exchange) -> None:
        pass

    def ended(self, exchange: Exchange) -> None:
        for record in self._records:
            if record.exchange is exchange:
                record.close()
        self._memory = sum(record.memory for record in self._records)

    def _grew(self, size: int) -> None:
        self._memory += size
        while self._memory > MOST_MEMORY and len(self._records) > 1:
            self._drop()

    def _drop(self) -> None:
        gone = self._records.popleft()
        self._memory -= gone.memory
        gone.is_open = False

    async def list(self, request: web.Request) -> web.Response:
        return _json([record.summary() for record in reversed(self._records) if not record.is_open])

    async def show(self, request: web.Request) -> web.Response:
        for record in self._records:
            if record.exchange.id == request.match_info["id"] and not record.is_open:
                return _json(await asyncio.to_thread(record.to_json))
        raise RequestError("This request is not kept: capture in config.json says how many are.", status=404)


def add_inspector(app: web.Application) -> None:
    """Keep requests where the settings say so, and show them."""
    inspector = Inspector(lambda: app[RUNTIME])
    app[CAPTURE] = inspector.open
    app[OBSERVERS].append(inspector)
    app.router.add_get("/status/captures", inspector.list)
    app.router.add_get("/status/captures/{id}", inspector.show)


def _json(value: object) -> web.Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=orjson.dumps(value), content_type="application/json", headers=headers)


def pretty(text: str) -> str:
    """JSON with a line for each value; anything else as it is."""
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, TypeError):
        return text


def _difference(before: str, after: str) -> list[str] | None:
    """The lines of a unified diff; None where it would take too long."""
    one, other = pretty(before).splitlines(), pretty(after).splitlines()
    if max(len(one), len(other)) > MOST_LINES:
        return None
    return list(difflib.unified_diff(one, other, lineterm="", n=2))[2:]
