"""An upstream's error body or event, in whatever shape, as the error that the client is told."""

from __future__ import annotations

import re
from collections.abc import Mapping

from droid2api.errors import UpstreamError

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


def read_error(value: object, status: int | None = None) -> UpstreamError:
    """An upstream's parsed error body or event, of any format: `{"error": {...}}`, `{"error": "text"}`, `{...}`, text.

    Without a `status` (the stream had begun with 200) it is told from the error's code or type.
    """
    detail = value
    for key in ("error", "response", "error"):
        if isinstance(detail, Mapping) and detail.get(key):
            detail = detail[key]
    if not isinstance(detail, Mapping):
        return UpstreamError(str(detail) if detail else "The upstream answered with an error.", status=status)
    names = [str(detail[key]) for key in ("code", "type") if detail.get(key)]
    message = next((detail[key] for key in ("message", "detail", "msg") if type(detail.get(key)) is str), None)
    if message is None:
        message = f"The upstream answered with an error ({', '.join(names) or 'no message'})."
    if status is None:
        status = next((_STATUS[name] for name in names if name in _STATUS), None)
        status = status or next((int(name) for name in names if re.fullmatch(r"[45]\d\d", name)), 502)
    code = names[0] if names else None
    if re.search(r"prompt is too long|maximum context length|exceeds the context window", message, re.IGNORECASE):
        code = "context_length_exceeded"
    param = detail.get("param")
    return UpstreamError(message, status=status, code=code, param=param if type(param) is str else None)
