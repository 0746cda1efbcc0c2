"""Upstreams that refuse what the real services refuse: the demo, behind the rules of one service."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from droid2api.demo import Demo
from droid2api.hub.events import BlockEnd, BlockStart, Event, State
from tests.harness import PATHS, Gateway, gateway_for, serving, settings_for
from tests.refusals import all_blocks, calls_of, signature_of
from tests.strict_services import SERVICES, Service

Json = dict[str, Any]


@dataclass
class Strict(Demo):
    """The demo as one service. `refused` holds what it said to the bodies that it refused, `answered` the others.

    `reused_ids`: its calls are call_0, call_1 in every answer. `cuts`: so many more calls break off at the limit.
    """

    pace: float = 0
    service: Service = field(default_factory=lambda: SERVICES["openai"])
    reused_ids: bool = False
    cuts: int = 0
    refused: list[str] = field(default_factory=list)
    answered: list[Json] = field(default_factory=list)
    _given: set[str] = field(default_factory=set)
    _bound: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.change = self._as_the_service

    def app(self) -> web.Application:
        app = super().app()
        app.middlewares.append(self._refuse)
        return app

    @web.middleware
    async def _refuse(self, http: web.Request, handler: Any) -> web.StreamResponse:
        if http.path not in PATHS.values():
            return await handler(http)
        body = orjson.loads(await http.read())
        if text := self.service.refusal(body) or self._state_refusal(body):
            self.refused.append(text)
            return web.json_response(self.service.error(text), status=400)
        answer = await handler(http)
        if answer.status == 400:
            self.refused.append(answer.body.decode())
        else:
            self.answered.append(body)
        return answer

    def _state_refusal(self, body: Json) -> str | None:
        """What it gave out must come back as it was, behind what it was made from."""
        if self.service.signs_calls:
            signatures = {signature_of(call) for message in body["messages"] for call in calls_of(message)}
            if signatures - self._given - {None, "skip_thought_signature_validator"}:
                return "Thought signature is not valid."
        if self.service.binds_thinking:
            thinking = [block["signature"] for block in all_blocks(body) if block["type"] == "thinking"]
            if any(self._bound.get(signature) not in (None, _prefix(body)) for signature in thinking):
                return "messages: thinking blocks are bound to `system` and `tools`, which have changed."
        return None

    def _as_the_service(self, body: Json, events: list[Event]) -> list[Event]:
        if not self.service.reasons:
            events = _without_reasoning(events)
        if self.cuts and (cut := _cut_call(events)):
            self.cuts -= 1
            events = cut
        starts = [event for event in events if isinstance(event, BlockStart) and event.kind == "tool_call"]
        for number, start in enumerate(starts):
            changed = replace(start, id=f"call_{number}") if self.reused_ids else start
            if self.service.signs_calls and not number:
                changed = replace(changed, state=State("chat", "", self._sign()))
            events[events.index(start)] = changed
        for event in events:
            if isinstance(event, BlockEnd) and event.state and "signature" in event.state.data:
                self._bound[event.state.data["signature"]] = _prefix(body)
        return events

    def _sign(self) -> Json:
        signature = f"signature-{len(self._given)}"
        self._given.add(signature)
        return {"extra_content": {"google": {"thought_signature": signature}}}


def _cut_call(events: list[Event]) -> list[Event]:
    """The answer up to the middle of its first call; empty if there is none."""
    for index, event in enumerate(events):
        if isinstance(event, BlockStart) and event.kind == "tool_call":
            end = next(place for place in range(index, len(events)) if isinstance(events[place], BlockEnd))
            finish = replace(events[-1], reason="length")
            return [*events[: (index + end) // 2 + 1], events[end], finish]
    return []


def _prefix(body: Json) -> bytes:
    """What thinking is bound to. Tools that wait for a search are not part of it."""
    tools = [tool for tool in body.get("tools") or () if not tool.get("defer_loading")]
    return orjson.dumps([body.get("system"), tools])


def _without_reasoning(events: list[Event]) -> list[Event]:
    kept: list[Event] = []
    inside = False
    for event in events:
        if isinstance(event, BlockStart):
            inside = event.kind == "reasoning"
        if not inside:
            kept.append(event)
        if isinstance(event, BlockEnd):
            inside = False
    return kept


def strict(name: str, **options: Any) -> Strict:
    return Strict(service=SERVICES[name], **options)


@asynccontextmanager
async def strict_gateway(
    folder: Path, patch: pytest.MonkeyPatch, *upstreams: Strict, **config: Any
) -> AsyncIterator[Gateway]:
    """The gateway in front of strict upstreams under the names of the real services, so that it knows them by those."""
    hosts = {upstream.service.host for upstream in upstreams}
    ask = socket.getaddrinfo
    patch.setattr(
        socket, "getaddrinfo", lambda host, *more, **named: ask("127.0.0.1" if host in hosts else host, *more, **named)
    )
    endpoints, models = [], []
    async with AsyncExitStack() as stack:
        for number, upstream in enumerate(upstreams):
            service = upstream.service
            port = (await stack.enter_async_context(serving(upstream.app()))).rpartition(":")[2]
            url = f"http://{service.host}:{port}{PATHS[service.type]}"
            endpoints.append({"name": f"at-{number}", "base_url": url, "api_key_env": "SERVICE_KEY"})
            models += [{"id": id, "type": service.type, "endpoint": f"at-{number}"} for id in service.models]
        settings = settings_for(
            folder,
            "http://127.0.0.1:9",
            {"SERVICE_KEY": "k", "FACTORY_API_KEY": "k"},
            **{"endpoint": endpoints, "models": models} | config,
        )
        yield await stack.enter_async_context(gateway_for(settings))
