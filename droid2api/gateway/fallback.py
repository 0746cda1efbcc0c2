"""An answer by the model that was asked for, or by the one that stands by for it.

One hop, and only before the first byte: when the service cannot be reached, says nothing, answers 429 or 5xx, or begins
its stream with an error. What is wrong with the request itself would be wrong for the other model too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from droid2api.errors import GatewayError, RequestError, UpstreamError
from droid2api.gateway.prepare import Prepared
from droid2api.gateway.pump import FALLBACK, Call, answer, may_fall_over

Prepare = Callable[[Call], Awaitable[Prepared]]
"""Makes the upstream's request; it may write to the body that the client sent."""


async def answer_or_fall_back(call: Call, prepare: Prepare) -> web.StreamResponse:
    """Raises GatewayError for what can still be a status: where both models fail it is the second one's error."""
    standby = call.settings.models.get(call.model.fallback)
    if standby is None:
        return await answer(call, await prepare(call))
    kept = replace(call.sent, body=dict(call.sent.body))
    try:
        return await answer(call, await prepare(call), standby=True)
    except UpstreamError as error:
        if not may_fall_over(error):
            raise
        first = error
    exchange, tried = call.exchange, call.model.id
    exchange.fallback = tried
    exchange.model, exchange.upstream = standby.id, standby.format.NAME
    exchange.upstream_id, exchange.usage = "", None
    other = replace(call, model=standby, sent=kept)
    try:
        return await answer(other, await prepare(other))
    except RequestError:  # the other model cannot be told this: it is no help
        raise first from None
    except GatewayError as second:
        second.message += f" Before that, {tried} failed: {first.message}"
        second.headers.setdefault(FALLBACK, f"{tried} -> {standby.id}")
        raise
