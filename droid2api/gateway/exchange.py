"""One request and its answer, as whoever watches the gateway sees it: the log, metrics, the usage store, the page.

The pump writes down here what it knows; observers are notified when a request has come in and when its answer has
ended.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Literal, Protocol, TypeAlias

from droid2api.errors import GatewayError
from droid2api.hub.events import Usage
from droid2api.wire.fields import Json

log = logging.getLogger("droid2api")


def random_id(digits: int) -> str:
    """Hexadecimal digits that name something and guard nothing: those of the system's cost a system call each."""
    return f"{random.getrandbits(4 * digits):0{digits}x}"


MOST_PATHS, LONGEST_PATH = 200, 200
"""Of fields that were dropped or repaired: whoever watches keeps exchanges."""
LONGEST_ERROR = 4000
"""Characters of an error's text, which may repeat what a client sent."""

End: TypeAlias = Literal[
    "", "finish", "client left", "request error", "credential error", "upstream error", "stopped", "gateway error"
]
"""How an exchange ended, "" while it goes on. An error is named by whose fault it is, as in errors.py."""


@dataclass(slots=True)
class Exchange:
    """`asked` is the model id as the client sent it, `model` the configured one it means; both are "" while unknown.
    Where that one could not answer, `fallback` is its id and `model` the one that stood by for it.

    `format` is what the client speaks, `upstream` what the model's upstream does (names of formats.FORMATS). Times are
    in seconds: `began` since the epoch, `first_byte` (the answer's first to the client) and `duration` since `began`;
    `longest_gap` is the longest wait for the next piece of a streamed answer. `usage` is None where the upstream told
    of none, `cost` (US dollars) where no price is known.
    """

    id: str
    client: str
    format: str = ""
    asked: str = ""
    model: str = ""
    upstream: str = ""
    upstream_id: str = ""
    fallback: str = ""
    stream: bool = False
    began: float = field(default_factory=time.time)
    first_byte: float | None = None
    duration: float | None = None
    longest_gap: float = 0.0
    status: int = 0
    usage: Usage | None = None
    cost: float | None = None
    end: End = ""
    error: str = ""
    dropped: list[str] = field(default_factory=list)
    repaired: dict[str, int] = field(default_factory=dict)

    @property
    def lane(self) -> str:
        """Which way the answer goes; "" while the model is unknown."""
        return "" if not self.upstream else "relay" if self.format == self.upstream else "translate"

    @property
    def failed(self) -> bool:
        """Whether it ended in an error, whoever's."""
        return self.end not in ("", "finish", "client left", "stopped")

    @property
    def tokens_per_second(self) -> float | None:
        """Output tokens for each second after the first byte of a stream."""
        if not (self.usage and self.stream and self.duration and self.first_byte is not None):
            return None
        seconds = self.duration - self.first_byte
        return self.usage.output / seconds if seconds > 0 else None

    def fail(self, error: GatewayError) -> None:
        """The exchange ends with this error; its message must hold no secret."""
        self.end, self.error = error.fault, error.message[:LONGEST_ERROR]

    def changed(self, dropped: Sequence[str], repaired: Mapping[str, int]) -> None:
        """What the upstream is not told, and what was mended for it, as much as can be kept: clients name the paths."""
        self.dropped = [path[:LONGEST_PATH] for path in dropped[:MOST_PATHS]]
        self.repaired = {path[:LONGEST_PATH]: count for path, count in islice(repaired.items(), MOST_PATHS)}

    def to_json(self) -> Json:
        """All that is known, for the log and the page."""
        value = {name: getattr(self, name) for name in self.__slots__}
        usage = {name: getattr(self.usage, name) for name in Usage.__slots__} if self.usage else None
        return value | {"usage": usage, "lane": self.lane, "tokens_per_second": self.tokens_per_second}


Part: TypeAlias = Literal["asked", "sent", "answered", "given"]
"""What passes: the client's request, the service's, the service's answer, the client's."""


class Capture(Protocol):
    """Keeps what passes of one exchange, for whoever inspects it; it masks what it shows."""

    def head(self, part: Part, head: Json) -> None:
        """Method and URL or status, and `headers`."""

    def body(self, part: Part, content: bytes) -> None:
        """A piece of the body, or all of it."""


NOTIFY_AFTER = 0.005
"""Seconds; what a process that is killed has not passed on yet."""


class Observer(Protocol):
    """Is called on the event loop, so it must not wait; what it raises is logged and harms nobody. An exchange may
    have gone on since, or be over when it is notified of its beginning.
    """

    def began(self, exchange: Exchange) -> None:
        """A request has been read; its `model` is known, unless it is refused."""

    def ended(self, exchange: Exchange) -> None:
        """Its answer has ended, well or not. Each exchange that ends has begun."""


class Notifier:
    """Notifies observers of what has begun and ended: a moment later and of several exchanges at once, so that no
    answer waits for a line of the log. One by one, between answers, an observer costs three times as much.
    """

    def __init__(self, observers: list[Observer]) -> None:
        self._observers = observers
        self._waiting: list[tuple[Literal["began", "ended"], Exchange]] = []

    def notify(self, what: Literal["began", "ended"], exchange: Exchange) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_later(NOTIFY_AFTER, self.flush)
        self._waiting.append((what, exchange))

    def flush(self) -> None:
        """Notify of all that waits, now."""
        waiting, self._waiting = self._waiting, []
        for observer in self._observers:
            for what, exchange in waiting:
                try:
                    getattr(observer, what)(exchange)
                except Exception:  # whatever it is: those who watch must harm no answer, nor each other
                    log.exception("%s failed", type(observer).__name__)


@lru_cache(256)
def client_name(user_agent: str) -> str:
    """The program that a User-Agent names, without its version: "claude-cli", "OpenAI/Python", "unknown"."""
    found = re.match(r"[\w.-]{1,40}(?:/(?!\d)[\w.-]{1,20})?", user_agent, re.ASCII)
    return found.group() if found else "unknown"
