"""An upstream's error body or event, in whatever shape, as the error that the client is told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import orjson

from droid2api.errors import UpstreamError
from droid2api.wire.fields import Json

_STATUS = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_NAMES = ("code", "error_code", "status_code", "error_type", "type", "status")
_WRAPPERS = ("error", "errors", "response", "base_resp")
_WORDS = ("message", "error_message", "errorMessage", "error_msg", "detail", "msg", "status_msg", "Message", "title")
_NO_NAMES = ("error", "failed", "response.failed", "response.cancelled", "cancelled")
_DEEPEST = 8
_MOST = 5
"""Levels, and entries of a list, in which words are looked for."""


def tells_error(value: Json) -> bool:
    """Whether an object inside of an answer is an error, by what only errors have."""
    if value.get("error") or value.get("type") == "error" or value.get("object") == "error":
        return True
    return any(type(value.get(name)) is str and value[name] for name in ("error_message", "error_type", "error_msg"))


def find_words(value: Json) -> str:
    """What an object that is no part of an answer says, if it is an error's text at all."""
    return " ".join(_words(value, 0))


def read_error(value: object, status: int | None = None) -> UpstreamError:
    """An upstream's parsed error body or event, of any format: `{"error": {...}}`, `{"error": "text"}`, `{...}`, a list
    of such, text.

    Without a `status` (the stream had begun with 200) it is told from the error's code or type.
    """
    names = list(dict.fromkeys(_names(value, 0)))
    words = list(dict.fromkeys(_words(value, 0)))
    message = "; ".join(words)
    if not message and (isinstance(value, Mapping) or (isinstance(value, list) and value)):
        message = f"The upstream answered with an error ({', '.join(names) or 'no message'})."
    elif not message:
        message = str(value) if value else "The upstream answered with an error."
    if status is None:
        status = next((_STATUS[name] for name in names if name in _STATUS), None)
        status = status or next((int(name) for name in names if re.fullmatch(r"[45]\d\d", name)), 502)
    code = names[0] if names else None
    if is_overflow(message, names, status):
        code = "context_length_exceeded"
    return UpstreamError(message, status=status, code=code, param=_param(value))


def _entries(value: object) -> list[object]:
    return value[:_MOST] if isinstance(value, list) else [value]


def _names(value: object, level: int) -> Iterator[str]:
    """Codes and types, those of the inner objects first: they are more exact."""
    if level == _DEEPEST:
        return
    for entry in _entries(value):
        if not isinstance(entry, Mapping):
            continue
        for key in (*_WRAPPERS, *_WORDS):
            if isinstance(entry.get(key), Mapping | list):
                yield from _names(entry[key], level + 1)
        for key in _NAMES:
            name = entry.get(key)
            if name and type(name) in (str, int) and name not in _NO_NAMES:
                yield str(name)


def _words(value: object, level: int) -> Iterator[str]:
    """The texts of an error. A wrapped error is all there is to say; a list has a text for each entry."""
    if level == _DEEPEST:
        return
    for entry in _entries(value):
        if isinstance(entry, str):
            if entry.strip():
                yield entry
        elif isinstance(entry, list):
            yield from _words(entry, level + 1)
        elif isinstance(entry, Mapping):
            yield from _words_of(entry, level)


def _words_of(error: Mapping[str, object], level: int) -> Iterator[str]:
    for key in (*_WRAPPERS, *_WORDS):
        if found := list(_words(error.get(key), level + 1)):
            break
    else:
        return
    place = error.get("loc")
    if isinstance(place, list):
        found[0] = f"{'.'.join(str(step) for step in place[:20])}: {found[0]}"
    yield from found
    metadata = error.get("metadata")
    if isinstance(metadata, Mapping) and isinstance(raw := metadata.get("raw"), str):  # OpenRouter: the provider's own
        yield from _words(_parsed(raw), level + 1)


def _parsed(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _param(value: object) -> str | None:
    for _ in range(_DEEPEST):
        if not isinstance(value, Mapping):
            return None
        param = value.get("param")
        if type(param) is str and param:
            return param
        value = value.get("error") or value.get("response")
    return None


# -- an overflow of the context -------------------------------------------------------------------------------------

_OVERFLOW = re.compile(
    "|".join(
        (
            r"(prompt|input|request|conversation|messages?) (is|are|was) too (long|large) for",
            r"(prompt|input) is too long|prompt too long|reduce the length",
            r"maximum context|available context|context[ _](length|window|size|limit)",
            r"max(imum)? (model|prompt|input) length|max(imum)? size: [\d,]+ tokens",
            r"exceed\w* (the )?(model('s)? |max(imum)? )*(token|length|prompt) ?(limit|length)",
            r"exceed\w* max(imum)? (message )?(length|tokens)",
            r"maximum number of (input )?tokens allowed|token count .{0,60}exceeds",
            r"(input|prompt) (length|tokens?) .{0,40}(exceed|too (long|large)|should be)",
            r"too many (input |total )?tokens",
            r"max_new_tokens. must be|must have less than [\d,]+ tokens",
        )
    ),
    re.IGNORECASE,
)
_THROTTLED = re.compile(r"rate.?limit|per[ -](min|day|hour)|quota|please wait|\bTPM\b", re.IGNORECASE)
_OVERFLOW_NAMES = frozenset(
    "context_length_exceeded context_window_exceeded exceed_context_size_error model_max_prompt_tokens_exceeded "
    "tokens_limit_reached context_too_long context_limit_exceeded".split()
)


def is_overflow(message: str, names: list[str], status: int) -> bool:
    """Whether the request was too long for the model's context, in any of the wordings that services have for it."""
    if not _OVERFLOW_NAMES.isdisjoint(names):
        return True
    if status in (401, 402, 403, 404, 429) or _THROTTLED.search(message):
        return False
    return _OVERFLOW.search(message) is not None


_N = r"\(?(\d[\d,_]*)"
_LIMITS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"exceeds? context limit: [\d,]+ \+ [\d,]+ > {_N}",
        rf"context (?:length|window|size|limit)(?: of this model)?(?: \w+){{0,3}}? (?:is|of)(?: only)? {_N}",
        rf"context (?:length|window|size|limit):? {_N}",
        rf"{_N} (?:tokens? )?max(?:imum)? context",
        rf"max(?:imum)? (?:model |prompt |input |sequence )?length(?: of the model)?(?: is| of|:)? {_N}",
        rf"tokens allowed:? {_N}",
        rf"token limit: ?{_N}",
        rf"must be <= {_N}",
        rf"less than {_N} tokens",
        rf"should be \[\d+, ?{_N}\]",
        rf"> {_N}",
        rf"limit (?:is|of|for this model is) {_N}",
    )
]
_TOTALS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (rf"requested (?:about |a total of )?{_N} tokens", rf"requested: ?{_N}", rf"{_N} tokens in total")
]
_INPUTS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_N} tokens? > ",
        rf"context limit: {_N} \+",
        rf"(?:resulted in|contains?|passed|has|have|request|input|inputs|prompt|sent|got) {_N} (?:\w+ )?tokens",
        rf"(?:prompt|input|request) \(length {_N}",
        rf"token count(?: of)? {_N}",
        rf"too long: {_N}",
        rf"(?:current length is|length|given:|using) {_N}(?! tokens? max)",
        rf"first {_N} tokens",
    )
]
_OUTPUTS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"requested {_N} output tokens",
        rf"and {_N} .max_new_tokens",
        rf"is too large: {_N}",
        rf"context limit: [\d,]+ \+ {_N}",
    )
]
_EXCESSES = [re.compile(rf"exceed\w* by {_N} tokens", re.IGNORECASE)]


def overflow_counts(message: str) -> tuple[int, int] | None:
    """(tokens sent, tokens allowed) as an overflow's message tells them; None when it does not, or not clearly."""
    limit, total = _first(_LIMITS, message), _first(_TOTALS, message)
    if total is None and (total := _first(_INPUTS, message)) is not None:
        total += _first(_OUTPUTS, message) or 0
    if limit is not None and (excess := _first(_EXCESSES, message)) is not None:
        return limit + excess, limit
    if limit is not None and total is not None:
        return (total, limit) if total > limit else None
    counts = sorted({_count(found) for found in re.findall(r"(?<![\w.:/-])\d[\d,_]*(?![\w:/-]|\.\d)", message)})
    if len(counts) == 2 and counts[0] >= 100 and "token" in message.lower():
        return counts[1], counts[0]
    return None


def _first(patterns: list[re.Pattern[str]], message: str) -> int | None:
    return next((_count(found.group(1)) for pattern in patterns if (found := pattern.search(message))), None)


def _count(digits: str) -> int:
    return int(re.sub(r"\D", "", digits)[:18])
