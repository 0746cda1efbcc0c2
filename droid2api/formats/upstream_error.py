"""An upstream's error body or event, in whatever shape, as the error that the client is told."""

import re
from collections.abc import Iterator, Mapping

import orjson

from droid2api.errors import UpstreamError
from droid2api.formats.overflow import is_overflow
from droid2api.wire.fields import Json

ERROR_TYPES = {
    400: "invalid_request_error context_length_exceeded",
    401: "authentication_error invalid_api_key",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error model_not_found",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error rate_limit_exceeded insufficient_quota",
    500: "api_error server_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""The words that services have for a status, Anthropic's first."""
_STATUS = {word: status for status, words in ERROR_TYPES.items() for word in words.split()}
_NAMES = ("code", "error_code", "status_code", "error_type", "type", "status")
_WRAPPERS = ("error", "errors", "response", "base_resp")
_WORDS = ("message", "error_message", "errorMessage", "error_msg", "detail", "msg", "status_msg", "Message", "title")
_NO_NAMES = ("error", "failed", "response.failed", "response.cancelled", "cancelled")
_DEEPEST = 8
_MOST = 5
"""Levels, and entries of a list, in which words are looked for."""
_LONGEST = 1000
"""Bytes of an error that is shown as it is."""
MOST_MESSAGE = 10_000
"""Characters of an error's words: nobody reads more, and they are kept, logged, and searched for what they mean."""


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
        told = ", ".join(names) or "no message"
        if not set(_strings(value, 0)) <= {*names, *_NO_NAMES, ""}:  # words in a place that nobody knows
            told = _shown(value)
        message = f"The upstream answered with an error ({told})."
    elif not message:
        message = str(value) if value else "The upstream answered with an error."
    if status is None:
        status = next((_STATUS[name] for name in names if name in _STATUS), None)
        status = status or next((int(name) for name in names if re.fullmatch(r"[45]\d\d", name)), 502)
    code = names[0] if names else None
    if is_overflow(message, names, status):
        code = "context_length_exceeded"
    shown = message if len(message) <= MOST_MESSAGE else f"{message[:MOST_MESSAGE]}..."
    return UpstreamError(shown, status=status, code=code, param=_param(value))


def _shown(value: object) -> str:
    """An error's JSON as far as it is shown."""
    try:
        return orjson.dumps(value)[:_LONGEST].decode(errors="ignore")
    except orjson.JSONEncodeError:
        return "no message"


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


def _strings(value: object, level: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list) and level < _DEEPEST:
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(inner, level + 1)


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
    yield from _words(error.get("error_description"), level + 1)  # OAuth's, beside an error that is a code
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
