"""What the gateway makes of a request, without sending it: for `droid2api explain`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

import orjson

from droid2api.config import Settings
from droid2api.credentials.credential import AUTHORIZATION, key_headers
from droid2api.formats import ANTHROPIC, CHAT, RESPONSES, Format
from droid2api.gateway.upstream import authorized, key_header, request_headers
from droid2api.hub.history import repair
from droid2api.observe.masking import MASK, masked_url, secret_headers
from droid2api.wire.fields import Json, required

_IDS = dict.fromkeys(("x-session-id", "x-assistant-message-id"), "(the client's, else a new one)")
_SIGNS = (
    (RESPONSES, frozenset("input instructions previous_response_id max_output_tokens".split())),
    (ANTHROPIC, frozenset("system thinking stop_sequences top_k context_management output_config".split())),
    (CHAT, frozenset("max_completion_tokens stop n response_format stream_options reasoning_effort seed".split())),
)
"""Fields that one format alone has at the top of a body."""


@dataclass(slots=True)
class Explanation:
    """One request of a client, and what the upstream would get for it.

    `guess` says why `format` was taken, "" where it was given. `headers` hold no secret; those that only a client adds
    (anthropic-*, x-stainless-*) are not there. `diff` are the lines of a unified diff between both bodies.
    """

    format: str
    guess: str
    asked: str
    model: str
    upstream: str
    lane: str
    url: str
    headers: dict[str, str]
    body: Json
    method: str = "POST"
    dropped: list[str] = field(default_factory=list)
    repaired: dict[str, int] = field(default_factory=dict)
    diff: list[str] = field(default_factory=list)


def explain(settings: Settings, body: Json, format: Format | None = None, model: str | None = None) -> Explanation:
    """`model` stands for the body's own. Raises the RequestError that the client would get."""
    guess = ""
    if format is None:
        format, guess = guess_format(body)
    if model is not None:
        body = body | {"model": model}
    before = pretty(body)
    sent: Json = orjson.loads(before)  # what follows changes it
    asked = required(sent, "model", str)
    chosen = settings.route(asked)
    headers = request_headers(settings, chosen, _IDS)
    dropped: list[str] = []
    repaired: dict[str, int] = {}
    if format is not chosen.format:
        request = format.decode_request(sent)
        repair(request)
        sent = chosen.format.encode_request(request, chosen.target)
        dropped, repaired = list(request.dropped), dict(sorted(request.repaired.items()))
    chosen.format.adapt(sent, headers, chosen.target, settings.system_prompt)
    place = key_header(chosen) if chosen.endpoint.api_key_env else AUTHORIZATION
    headers = authorized(headers, chosen, key_headers(MASK, place))
    secret = secret_headers(chosen.endpoint)
    return Explanation(
        format=format.name,
        guess=guess,
        asked=asked,
        model=chosen.id,
        upstream=chosen.format.name,
        lane="relay" if format is chosen.format else "translate",
        url=masked_url(chosen.endpoint.base_url),
        headers={name.lower(): MASK if name.lower() in secret else value for name, value in headers.items()},
        body=sent,
        dropped=dropped,
        repaired=repaired,
        diff=_diff(before, pretty(sent)),
    )


def guess_format(body: Json) -> tuple[Format, str]:
    """The format that a body is in, and what tells so."""
    for format, fields in _SIGNS:
        if found := next((name for name in body if name in fields), None):
            return format, f"only this format has {found!r}"
    blocks = list(_objects(body.get("tools"))) + list(_objects(body.get("messages")))
    if any("function" in block or "tool_calls" in block or block.get("role") in _CHAT_ROLES for block in blocks):
        return CHAT, "its tools or roles are of this format"
    contents = [part for block in blocks for part in _objects(block.get("content"))]
    if any("input_schema" in block for block in blocks) or any(part.get("type") in _BLOCKS for part in contents):
        return ANTHROPIC, "its tools or content blocks are of this format"
    if "max_tokens" in body:
        return ANTHROPIC, "it has max_tokens, which this format requires, and nothing of Chat Completions alone"
    return CHAT, "it has messages, and no max_tokens"


_CHAT_ROLES = ("system", "developer", "tool", "function")
_BLOCKS = ("tool_use", "tool_result", "thinking", "redacted_thinking", "image", "document")


def _objects(value: object) -> list[Json]:
    return [item for item in value if type(item) is dict] if type(value) is list else []


def pretty(body: Json) -> str:
    return orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()


def _diff(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "what came in", "what goes out", lineterm="")
    return list(lines)


# -- for a reader ---------------------------------------------------------------------------------------------------

_RESET = "\x1b[0m"
_COLORS = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}


def to_text(explained: Explanation, color: bool) -> str:
    """The request as it would go out, and what became of the client's."""
    guessed = f" (guessed: {explained.guess}; --format names another)" if explained.guess else ""
    redirected = f" (asked for as {_told(explained.asked)})" if explained.asked != explained.model else ""
    lines = [
        f"format    {explained.format}{guessed}",
        f"model     {explained.model}{redirected}",
        f"lane      {explained.lane}: {explained.format} -> {explained.upstream}",
        f"dropped   {', '.join(map(_told, explained.dropped)) or 'nothing'}",
        f"repaired  {', '.join(f'{name}={count}' for name, count in explained.repaired.items()) or 'nothing'}",
        "",
        f"{explained.method} {explained.url}",
        *(f"{name}: {value}" for name, value in explained.headers.items()),
        "",
        pretty(explained.body),
        "",
    ]
    diff = explained.diff or ["The body goes out as it came in."]
    lines += [_colored(line) for line in diff] if color else diff
    return "\n".join(lines) + "\n"


def _colored(line: str) -> str:
    begin = _COLORS.get(line[:1])
    return f"{begin}{line}{_RESET}" if begin else line


def _told(text: str) -> str:
    """Names come from the request, so they may hold anything."""
    return text if text.isprintable() else ascii(text)
