"""What the application and each request carry, by typed keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from aiohttp import web

from droid2api.formats import Format
from droid2api.gateway.exchange import Exchange, Notifier, Observer
from droid2api.server.connections import Connections
from droid2api.server.reload import Reloader, Runtime

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

RUNTIME = web.AppKey("runtime", Runtime)
"""The settings and what is made from them; from the app's startup on."""
RELOADER = web.AppKey("reloader", Reloader)
OBSERVERS: web.AppKey[list[Observer]] = web.AppKey("observers")
NOTIFIER = web.AppKey("notifier", Notifier)
PAGE: web.AppKey[Callable[[], web.Response]] = web.AppKey("page")
"""What a browser is given at /, where there is something for it."""
RUNNING: web.AppKey[set[asyncio.Task[Any]]] = web.AppKey("running")
"""The tasks that are answering a client."""
CONNECTIONS = web.AppKey("connections", Connections)
STOPPING = web.AppKey("stopping", asyncio.Event)
"""Set when the gateway has been told to stop and the time for streams to finish is over."""
STARTED = web.AppKey("started", float)
SPEAKERS: web.AppKey[dict[Any, Format]] = web.AppKey("speakers")
"""The handlers that exchanges go over, with the format that their clients speak."""

EXCHANGE = web.RequestKey("exchange", Exchange)
