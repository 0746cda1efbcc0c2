"""What the application and each request carry, by typed keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from aiohttp import web
from multidict import CIMultiDict

from droid2api.formats import Format
from droid2api.gateway.exchange import Capture, Exchange, Notifier, Observer
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
CAPTURE: web.AppKey[Callable[[Exchange, Mapping[str, str]], Capture | None]] = web.AppKey("capture")
"""Gives an exchange, with the headers of its client, what keeps all that passes of it, where somebody inspects it."""
RUNNING: web.AppKey[set[asyncio.Task[Any]]] = web.AppKey("running")
"""The tasks that are answering a client."""
CONNECTIONS = web.AppKey("connections", Connections)
STOPPING = web.AppKey("stopping", asyncio.Event)
"""Set when the gateway has been told to stop and the time for streams to finish is over."""
STARTED = web.AppKey("started", float)
SPEAKERS: web.AppKey[dict[Any, Format]] = web.AppKey("speakers")
"""The handlers that exchanges go over, with the format that their clients speak."""

EXCHANGE = web.RequestKey("exchange", Exchange)


def sent_headers(request: web.Request) -> Mapping[str, str]:
    """A client's headers, with the key among them that some clients put into the URL's query."""
    headers: Mapping[str, str] = request.headers
    for format in request.app[RUNTIME].settings.formats if request.query_string else ():
        if format.KEY_QUERY and (key := request.query.get(format.KEY_QUERY)):
            headers = CIMultiDict([*headers.items(), (format.KEY_HEADERS[0], key)])
    return headers
