"""What the gateway makes of a request, without sending it: for `droid2api explain`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import orjson

from droid2api.credentials.credential import AUTHORIZATION, key_headers
from droid2api.formats import Format
from droid2api.formats.routes import ClientCall
from droid2api.gateway.prepare import prepare, read_model
from droid2api.gateway.upstream import authorized
from droid2api.hub.fitting import level_of
from droid2api.hub.profiles import profile_of
from droid2api.observe.masking import MASK, masked_url, secret_headers
from droid2api.proxies import without_password
from droid2api.settings import Model, Settings
from droid2api.wire.fields import Json

_IDS = dict.fromkeys(("x-session-id", "x-assistant-message-id"), "(the client's, else a new one)")


@dataclass(slots=True)
class Explanation:
    """One request of a client, and what the upstream would get for it.

    `guess` says why `format` was taken, "" where it was given. `profile` and `note` are of the model, as in
    `profile_of_model` and `note_on`. `headers` hold no secret; those that only a client adds (anthropic-*,
    x-stainless-*) are not there. `proxy` is "" for none. `diff` are the lines of a unified diff between both bodies.
    """

    format: str
    guess: str
    asked: str
    model: str
    profile: Json
    note: str
    upstream: str
    lane: str
    url: str
    headers: dict[str, str]
    body: Json
    proxy: str = ""
    method: str = "POST"
    dropped: list[str] = field(default_factory=list)
    repaired: dict[str, int] = field(default_factory=dict)
    diff: list[str] = field(default_factory=list)


def explain(settings: Settings, body: Json, format: Format | None = None, model: str | None = None) -> Explanation:
    """`model` stands for the body's own. Raises the RequestError that the client would get."""
    guess = ""
    if format is None:
        format, guess = guess_format(settings.formats, body)
    if model is not None:
        body = body | {"model": model}
    before = pretty(body)
    sent = ClientCall(orjson.loads(before), {}, {})  # preparing it may write to the body
    asked = read_model(settings, format, sent)
    chosen = settings.route(asked)
    prepared = prepare(settings, chosen, format, sent, _IDS)
    place = chosen.format.KEY_HEADER if chosen.endpoint.api_key_env else AUTHORIZATION
    headers = authorized(prepared.headers, chosen, key_headers(MASK, place))
    secret = secret_headers(chosen.endpoint)
    return Explanation(
        format=format.NAME,
        guess=guess,
        asked=asked,
        model=chosen.id,
        profile=profile_of_model(chosen),
        note=note_on(chosen),
        upstream=chosen.format.NAME,
        lane="relay" if format is chosen.format else "translate",
        url=masked_url(prepared.url),
        headers={name.lower(): MASK if name.lower() in secret else value for name, value in headers.items()},
        body=prepared.body,
        proxy=without_password(chosen.endpoint.proxy) if chosen.endpoint.proxy else "",
        dropped=prepared.dropped,
        repaired=dict(sorted(prepared.repaired.items())),
        diff=_diff(before, pretty(prepared.body)),
    )


def profile_of_model(model: Model) -> Json:
    """The fields of a model's profile that are not as for a model of its type of which nothing is known."""
    plain = asdict(profile_of("", "", model.format.NAME))
    return {name: value for name, value in asdict(model.target.profile).items() if value != plain[name]}


def note_on(model: Model) -> str:
    """What the owner should know of a model, "" where there is nothing."""
    target = model.target
    if target.reasoning == "off" and target.profile.is_reasoning(level_of(target)):
        return "reasoning is off, but this model cannot be told so: it reasons all the same"
    return ""


def guess_format(formats: Sequence[Format], body: Json) -> tuple[Format, str]:
    """The format that a body is in, and what tells so."""
    for format in formats:
        if reason := format.recognize(body):
            return format, reason
    return formats[0], "nothing in it is of another format alone"


def pretty(body: Json) -> str:
    return orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()


def _diff(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "what came in", "what goes out", lineterm="")
    return list(lines)


# -- for a reader ---------------------------------------------------------------------------------------------------

_RESET = "\x1b[0m"
_COLORS = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}


def profile_to_text(profile: Json) -> str:
    told = {name: value if type(value) is str else orjson.dumps(value).decode() for name, value in profile.items()}
    return ", ".join(f"{name}={value}" for name, value in told.items()) or "plain"


def to_text(explained: Explanation, color: bool) -> str:
    """The request as it would go out, and what became of the client's."""
    guessed = f" (guessed: {explained.guess}; --format names another)" if explained.guess else ""
    redirected = f" (asked for as {_told(explained.asked)})" if explained.asked != explained.model else ""
    lines = [
        f"format    {explained.format}{guessed}",
        f"model     {explained.model}{redirected}",
        f"profile   {profile_to_text(explained.profile)}",
        *([f"note      {explained.note}"] if explained.note else []),
        f"lane      {explained.lane}: {explained.format} -> {explained.upstream}",
        f"dropped   {', '.join(map(_told, explained.dropped)) or 'nothing'}",
        f"repaired  {', '.join(f'{name}={count}' for name, count in explained.repaired.items()) or 'nothing'}",
        *([f"proxy     {explained.proxy}"] if explained.proxy else []),
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
