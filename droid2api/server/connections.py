"""The clients' connections: those whose clients keep the gateway waiting are ended, as other servers do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import TypeAlias

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from droid2api.settings import Timeouts

LOOK_EVERY = 1.0
"""Seconds."""

State: TypeAlias = tuple[str, object]
"""What a client is waited for, and how far it is: while nothing changes, the client keeps the gateway waiting."""


class Connections:
    """Looks at all connections once a second, so that nothing has to be done for each piece that is sent.

    A body that does not come is an error with a status, so body.py waits for it.
    """

    def __init__(self) -> None:
        self.runner: web.AppRunner | None = None
        self._writers: dict[web.RequestHandler, AbstractStreamWriter] = {}
        self._answering: set[web.RequestHandler] = set()
        self._waits: dict[web.RequestHandler, tuple[State, float]] = {}

    def began(self, request: web.Request) -> None:
        self._writers[request.protocol] = request.writer
        self._answering.add(request.protocol)

    def ended(self, request: web.Request) -> None:
        self._answering.discard(request.protocol)

    async def run(self, timeouts: Callable[[], Timeouts]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self._look(loop.time(), timeouts())

    def _look(self, now: float, timeouts: Timeouts) -> None:
        server = self.runner.server if self.runner else None
        before, self._waits = self._waits, {}
        for connection in server.connections if server else ():
            if (transport := connection.transport) is None:
                continue
            state, patience = self._state(connection, transport.get_write_buffer_size(), timeouts)
            known, since = before.get(connection, (None, now))
            since = since if state == known else now
            self._waits[connection] = state, since
            if now - since >= patience:
                transport.abort() if state[0] == "send" else transport.close()
        for gone in self._writers.keys() - self._waits.keys():
            del self._writers[gone]

    def _state(self, connection: web.RequestHandler, unsent: int, timeouts: Timeouts) -> tuple[State, float]:
        writer = self._writers.get(connection)
        if unsent:
            return ("send", (writer.output_size if writer else 0) - unsent), timeouts.client_send
        if connection in self._answering:
            return ("answer", None), inf
        return ("idle", writer), timeouts.client_idle if writer else timeouts.client_head


def runner_of(app: web.Application, connections: Connections, shutdown_timeout: float = 5) -> web.AppRunner:
    """Serves the application. Bodies come as they were sent: who may not send one is refused before it is unpacked."""
    connections.runner = web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=shutdown_timeout,
        auto_decompress=False,
    )
    return connections.runner
