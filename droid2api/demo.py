"""A small upstream that speaks all formats, for trying the gateway without an account, tests and benchmarks.

It echoes the last user text word by word. What else it does, the text and the request say:

    reasoning asked for     it reasons first, with opaque state that it wants back unchanged
    "call" in the text      it calls the tool that the text names, else the first one offered, with the JSON object in
                            the text as arguments, else with arguments made from the schema (or from <<<text>>>, which
                            is the input of a custom tool too); "call twice" makes two
    a tool result           it tells what the result was
    max tokens, stop        cut the answer, as a model's would be
    "refuse"                it refuses
    "fail 429"              it answers with that HTTP status; "break" breaks off in the middle of the answer,
                            "overload" sends the format's error event there

Requests that the real services refuse are refused here too. /oauth/token gives an access token for a refresh token,
and a new refresh token each time: the old one is then worthless.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from aiohttp import web

from droid2api.errors import GatewayError, RequestError, UpstreamError
from droid2api.formats import FORMATS, Format, anthropic, client_keys, gemini, responses
from droid2api.formats.routes import Answer, ClientCall, CountTokens
from droid2api.gateway.prepare import decode
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start, State, Usage
from droid2api.hub.history import normalize
from droid2api.hub.reasoning import SMALLEST_BUDGET
from droid2api.hub.request import Message, Reasoning, Request, Target, Text, Tool, ToolCall, ToolResult
from droid2api.settings import Auth, Settings
from droid2api.wire.fields import Json

KEPT_REASONING = 10000
"""Reasoning blocks that the demo knows again; older ones are refused, as if they were another's."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Demo:
    """`pace` is the seconds between two deltas; `requests` holds what came in, newest last, for tests to look at.

    `change` makes another answer of the answer to a body: services differ, and tests play them.
    """

    pace: float = 0.02
    lifetime: float = 8 * 3600
    refresh_token: str = "demo-refresh-0"  # noqa: S105 - of this demo only
    refreshes: int = 0
    requests: list[tuple[str, dict[str, str], Json]] = field(default_factory=list)
    access_token: str = ""
    keep_requests: int = 100
    change: Callable[[Json, list[Event]], list[Event]] = lambda _, events: events
    _reasoning: dict[str, str] = field(default_factory=dict)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        for format in FORMATS:
            for prefix in format.PREFIXES[:2]:
                for route in format.ROUTES:
                    if isinstance(route, Answer):
                        app.router.add_post(prefix + route.path, self._answerer(format))
                    elif isinstance(route, CountTokens):
                        app.router.add_post(prefix + route.path, self._counter(route))
        app.router.add_post("/oauth/token", self.token)
        return app

    async def token(self, request: web.Request) -> web.Response:
        """OAuth 2.0 refresh with rotation (RFC 6749 section 6)."""
        form = await request.post()
        if form.get("grant_type") != "refresh_token" or not form.get("client_id"):
            return web.json_response({"error": "invalid_request"}, status=400)
        if form.get("refresh_token") != self.refresh_token:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.refreshes += 1
        self.refresh_token = f"demo-refresh-{uuid.uuid4().hex}"
        claims = orjson.dumps({"exp": int(time.time() + self.lifetime), "jti": uuid.uuid4().hex})
        self.access_token = f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.demo"
        return web.json_response({"access_token": self.access_token, "refresh_token": self.refresh_token})

    def _counter(self, route: CountTokens) -> Handler:
        async def count_tokens(request: web.Request) -> web.StreamResponse:
            body = await self._read(request)
            asked = body.get("generateContentRequest") or body
            said = asked.get("messages") or asked.get("contents")
            return web.json_response(route.encode(_count(orjson.dumps(said).decode())))

        return count_tokens

    async def _read(self, request: web.Request) -> Json:
        body: Json = orjson.loads(await request.read())
        self.requests.append((request.path, {name.lower(): value for name, value in request.headers.items()}, body))
        del self.requests[: -self.keep_requests]
        return body

    def _answerer(self, format: Format) -> Handler:
        async def answer(http: web.Request) -> web.StreamResponse:
            headers = {"request-id": "req_demo", "x-request-id": "req_demo"}
            try:
                body = await self._read(http)
                self._check_credential(http)
                request = decode(format, ClientCall(body, http.match_info, http.query))
                _check(format, body)
                self._check_reasoning(format, request)
                request = normalize(request)
                events = self.change(body, _script(request, format))
                self._remember_reasoning(events)
                if not request.stream:
                    whole = format.encode_response(events, request, time.time, _new_id)
                    return web.Response(body=orjson.dumps(whole), content_type="application/json", headers=headers)
            except GatewayError as error:
                return web.json_response(
                    format.encode_error(error), status=error.status, headers=headers | error.headers
                )
            return await self._stream(http, format, request, events, headers)

        return answer

    def _check_credential(self, http: web.Request) -> None:
        """Once it has given an access token, this upstream takes no other that looks like one of its own."""
        token = http.headers.get("Authorization", "").removeprefix("Bearer ")
        if not client_keys(FORMATS, http.headers):
            raise RequestError("No credential.", status=401, code="invalid_api_key")
        if token.endswith(".demo") and token != self.access_token:
            raise RequestError("The token has expired.", status=401, code="invalid_api_key")

    def _remember_reasoning(self, events: list[Event]) -> None:
        for index, event in enumerate(events):
            if isinstance(event, BlockStart) and event.state:
                self._reasoning[_state_key(event.state)] = ""
            if isinstance(event, BlockEnd) and event.state:
                start = max(number for number, earlier in enumerate(events[:index]) if isinstance(earlier, BlockStart))
                words = [delta.text for delta in events[start:index] if isinstance(delta, Delta)]
                self._reasoning[_state_key(event.state)] = "".join(words)
                if len(self._reasoning) > KEPT_REASONING:
                    del self._reasoning[next(iter(self._reasoning))]

    def _check_reasoning(self, format: Format, request: Request) -> None:
        """Opaque state must be this upstream's own and stand with the text that it was given out with."""
        for message in request.messages:
            for part in message.parts:
                kinds = Reasoning | ToolCall if format.NAME == gemini.NAME else Reasoning  # whose state is its own
                if not isinstance(part, kinds) or part.state is None:
                    continue
                text = part.text if isinstance(part, Reasoning) else ""
                if part.state.format != format.NAME or self._reasoning.get(_state_key(part.state)) != text:
                    raise RequestError(
                        "Invalid signature in a reasoning block: it was changed, or is not of this model."
                    )

    async def _stream(
        self, http: web.Request, format: Format, request: Request, events: list[Event], headers: dict[str, str]
    ) -> web.StreamResponse:
        out = web.StreamResponse(headers=headers | {"Content-Type": "text/event-stream; charset=utf-8"})
        await out.prepare(http)
        encoder = format.StreamEncoder(request, time.time, _new_id)
        with contextlib.suppress(ConnectionError):  # who asked has left
            for paced, group in itertools.groupby(events, key=lambda event: isinstance(event, Delta)):
                for batch in [[event] for event in group] if paced and self.pace else [list(group)]:
                    if isinstance(batch[0], Delta) and self.pace:
                        await asyncio.sleep(self.pace)
                    await out.write(encoder.encode(batch))
        if not isinstance(events[-1], Finish | Failed) and http.transport:
            http.transport.abort()
        return out


def answer_path(format: Format) -> str:
    """Where clients of the format ask with all in the body, and so where the demo answers."""
    answers = [route.path for route in format.ROUTES if isinstance(route, Answer)]
    return format.PREFIXES[0] + next(path for path in answers if "{" not in path)


def _new_id() -> str:
    return uuid.uuid4().hex[:24]


def _state_key(state: State) -> str:
    return str(state.data.get("signature") or state.data.get("encrypted_content"))


# -- what the real services refuse ----------------------------------------------------------------------------------


def _check(format: Format, body: Json) -> None:
    if format.NAME == anthropic.NAME:
        _check_anthropic(body)
    elif format.NAME == gemini.NAME:
        for _, turn in itertools.groupby(body["contents"], key=lambda content: content.get("role")):
            calls = [part for content in turn for part in content["parts"] if "functionCall" in part]
            if calls and not calls[0].get("thoughtSignature"):
                name = calls[0]["functionCall"]["name"]
                raise RequestError(f"Function call `{name}` is missing a thought_signature in functionCall parts.")
    elif format.NAME == responses.NAME:
        for index, tool in enumerate(body.get("tools") or ()):
            if "function" in tool:
                raise RequestError(f"Missing required parameter: 'tools[{index}].name'.", param=f"tools[{index}].name")


def _check_anthropic(body: Json) -> None:
    if type(body.get("max_tokens")) is not int:
        raise RequestError("max_tokens: Field required")
    roles = [message["role"] for message in body["messages"]]
    if roles[0] == "assistant":
        raise RequestError("messages: first message must use the user role")
    for index, message in enumerate(body["messages"]):
        blocks = message["content"] if type(message["content"]) is list else []
        if any(block.get("type") == "text" and not block.get("text") for block in blocks):
            raise RequestError(f"messages.{index}: text content blocks must be non-empty")
    answers = [message["content"] for message in body["messages"] if message["role"] == "assistant"]
    last = [block["type"] for block in answers[-1]] if answers and type(answers[-1]) is list else []
    thinking = body.get("thinking") or {}
    if thinking.get("type") == "enabled" and "tool_use" in last and "thinking" not in last[0]:
        raise RequestError("Expected `thinking` or `redacted_thinking`, but found `tool_use`.")
    if thinking.get("type") in ("enabled", "adaptive"):
        if body.get("temperature", 1) != 1 or "top_k" in body:
            raise RequestError("`temperature` may only be set to 1 when thinking is enabled")
        if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
            raise RequestError("Thinking may not be enabled when tool_choice forces tool use.")
    if thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens", 0)
        if not SMALLEST_BUDGET <= budget < body["max_tokens"]:
            raise RequestError("`max_tokens` must be greater than `thinking.budget_tokens` (1024 at least)")


# -- what it says ---------------------------------------------------------------------------------------------------


def _script(request: Request, format: Format) -> list[Event]:
    asked = _last_text(request)
    if status := re.search(r"\bfail (\d{3})\b", asked):
        code = int(status.group(1))
        retry = {"retry-after": "1"} if code == 429 else {}
        raise UpstreamError(f"The demo was asked to fail with {code}.", status=code, headers=retry)
    events: list[Event] = [Start(_new_id(), request.model)]
    target = Target(request.model)
    if request.effort not in (None, "none"):
        events += _reason(format, target)
    results = [part for part in request.messages[-1].parts if isinstance(part, ToolResult)]
    tool = None if results else _wanted_tool(request, asked)
    if re.search(r"\brefuse\b", asked):
        return _refusal(events, request)
    if tool:
        for number in range(2 if re.search(r"\btwice\b", asked) else 1):
            events += _call(tool, asked, number)
        if format is gemini:  # the first call of an answer is signed there
            signature = base64.b64encode(f"demo-signature-{_new_id()}".encode()).decode()
            first = next(event for event in events if isinstance(event, BlockStart) and event.kind == "tool_call")
            first.state = State(format.NAME, target.family, {"signature": signature})
        return _finished(events, request, "tool_calls")
    text = _result_text(results) if results else f"{asked}" or "(nothing)"
    return _say(events, request, text, asked)


def _last_text(request: Request) -> str:
    for message in reversed(request.messages):
        texts = [part.text for part in message.parts if isinstance(part, Text)]
        if message.role == "user" and texts:
            said = [text for text in texts if not text.startswith(_CLIENTS_OWN)]
            return (said or texts)[-1]
    return ""


_CLIENTS_OWN = ("# ", "<")
"""So begin the texts that agents put into a user's turn: what the user said stands beside them."""


def _reason(format: Format, target: Target) -> list[Event]:
    data = {
        "anthropic": {"signature": f"demo-signature-{_new_id()}"},
        "responses": {"id": f"rs_{_new_id()}", "encrypted_content": f"demo-encrypted-{_new_id()}"},
        "chat": {"field": "reasoning_content"},
        "gemini": {},
    }[format.NAME]
    words = [Delta(word) for word in re.findall(r"\S+\s*", "The user wants an echo, so I say it back.")]
    state = State(format.NAME, target.family, data)
    return [BlockStart("reasoning"), *words, BlockEnd(state if format.NAME in ("anthropic", "responses") else None)]


def _wanted_tool(request: Request, asked: str) -> Tool | None:
    tools = [tool for tool in request.tools if tool.kind != "web_search"]
    choice = request.tool_choice
    forced = choice is not None and choice.mode == "required"
    wanted = re.search(r"\bcall\b", asked) and not re.search(r"\bnot call\b", asked, re.IGNORECASE)
    if not tools or (choice and choice.mode == "none") or not (forced or wanted):
        return None
    named = [tool for tool in tools if tool.name == choice.name] if choice else []
    named += [tool for tool in tools if re.search(rf"\b{re.escape(tool.name)}\b", asked)]
    return named[0] if named else tools[0]


def _call(tool: Tool, asked: str, number: int) -> list[Event]:
    quoted = re.search(r"<<<\n?(.*?)>>>", asked, re.DOTALL)
    given = re.search(r"\{.*\}", asked, re.DOTALL)
    custom = tool.kind == "custom"
    if custom:
        arguments = quoted.group(1) if quoted else asked
    elif given and not quoted:
        arguments = given.group()
    else:
        example = _example(tool.parameters or {}, quoted.group(1) if quoted else "demo")
        arguments = orjson.dumps(example).decode()
    pieces = [Delta(arguments[start : start + 8]) for start in range(0, len(arguments), 8)]
    start = BlockStart("tool_call", f"call_{number}_{_new_id()[:12]}", tool.name, custom, tool.namespace)
    return [start, *pieces, BlockEnd()]


def _example(schema: Json, text: str = "demo") -> Any:
    """The smallest value that a JSON schema allows, nearly always; strings are `text`."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if type(kind) is list else kind
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: _example(properties.get(name) or {}, text) for name in schema.get("required") or ()}
    return {"string": text, "integer": 1, "number": 1, "boolean": True, "array": [], "null": None}.get(kind)


def _result_text(results: list[ToolResult]) -> str:
    texts = []
    for result in results:
        shown = [part.text if isinstance(part, Text) else f"[{type(part).__name__.lower()}]" for part in result.content]
        texts.append(("an error: " if result.is_error else "") + " ".join(shown))
    return f"The tool said: {'; '.join(texts)}"


def _say(events: list[Event], request: Request, text: str, asked: str) -> list[Event]:
    stop = min((s for s in request.stop if s in text), key=text.index, default=None)
    if stop is not None:
        text = text[: text.index(stop)]
    words: list[Event] = [Delta(word) for word in re.findall(r"\s*\S+\s*?(?=\s|$)|\s+", text)]
    if request.output:
        example = _example(request.output.schema or {"type": "object"})
        words = [Delta(piece) for piece in re.findall(r".{1,8}", orjson.dumps(example).decode())]
    events.append(BlockStart("text"))
    limit = request.max_tokens
    if limit is not None and limit < len(words):
        return _finished([*events, *words[:limit], BlockEnd()], request, "length")
    if re.search(r"\bbreak\b", asked):
        return events + words[: len(words) // 2 or 1]
    if re.search(r"\boverload\b", asked):
        error = UpstreamError("Overloaded", status=529, code="overloaded_error")
        return [*events, *words[: len(words) // 2 or 1], Failed(error)]
    events = [*events, *words, BlockEnd()]
    return _finished(events, request, "stop", stop)


def _refusal(events: list[Event], request: Request) -> list[Event]:
    events += [BlockStart("refusal"), Delta("I cannot "), Delta("do that."), BlockEnd()]
    return _finished(events, request, "stop")


def _finished(events: list[Event], request: Request, reason: Any, stop: str | None = None) -> list[Event]:
    said = sum(isinstance(event, Delta) for event in events)
    kinds = [event.kind for event in events if isinstance(event, BlockStart)]
    reasoned = 0
    if "reasoning" in kinds:
        end = next(index for index, event in enumerate(events) if isinstance(event, BlockEnd))
        reasoned = sum(isinstance(event, Delta) for event in events[:end])
    asked = sum(_count(_text_of(message)) for message in request.messages)
    usage = Usage(asked, said, asked // 2, 0, reasoned)
    return [*events, Finish(reason, "", usage, stop)]


def _text_of(message: Message) -> str:
    return " ".join(part.text for part in message.parts if isinstance(part, Text | Reasoning))


def _count(text: str) -> int:
    return len(text.split())


# -- beside the gateway ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def start_demo(demo: Demo | None = None) -> AsyncIterator[str]:
    """Run the demo on a free loopback port; gives its URL."""
    runner = web.AppRunner((demo or Demo()).app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def point_at(base: str, settings: Settings) -> Settings:
    """The settings with every model at the demo. No real credential is used, none touched: it has one of its own."""
    models = {}
    for id, model in settings.models.items():
        url = base + answer_path(model.format)
        models[id] = replace(model, endpoint=replace(model.endpoint, base_url=url, api_key_env="", proxy=""))
    environment = {"FACTORY_API_KEY": "demo"}
    auth = Auth(f"{base}/oauth/token", settings.auth.client_id)
    return replace(settings, models=models, environment=environment, auth=auth, demo=True)
