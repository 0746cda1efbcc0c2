"""Errors in Google's envelope: a status word beside the code, and in `details` how long to wait."""

from __future__ import annotations

import math
import re

from droid2api.errors import GatewayError, UpstreamError
from droid2api.formats import upstream_error
from droid2api.formats.overflow import overflow_counts
from droid2api.wire.fields import Json, inner, inners, word

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    504: "DEADLINE_EXCEEDED",
}
_TYPE = "type.googleapis.com/google.rpc."


def encode_error(error: GatewayError) -> Json:
    """The error envelope. Gemini CLI reads how long to wait there only, and that a day's quota is used up."""
    status = _STATUS.get(error.status, "UNAVAILABLE" if error.status >= 500 else "FAILED_PRECONDITION")
    message = error.message
    if error.code == "context_length_exceeded" and (counts := overflow_counts(message)):
        message = "The input token count ({}) exceeds the maximum number of tokens allowed ({}).".format(*counts)
    details: list[Json] = []
    if error.code == "insufficient_quota":
        details.append({"@type": f"{_TYPE}QuotaFailure", "violations": [{"quotaId": "PerDay"}]})
    if re.fullmatch(r"\d+(\.\d+)?", wait := error.headers.get("retry-after", "")):
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{wait}s"})
    told: Json = {"code": error.status, "message": message, "status": status}
    return {"error": told | ({"details": details} if details else {})}


def read_error(value: object, status: int | None = None) -> UpstreamError:
    """An upstream's error. Its status word is the code; the wait that it tells becomes a header."""
    error = upstream_error.read_error(value, status)
    for told in [inner(entry, "error") for entry in (value if type(value) is list else [value]) if type(entry) is dict]:
        if error.code != "context_length_exceeded":
            error.code = word(told, "status") or error.code
        for detail in inners(told, "details"):
            if delay := re.fullmatch(r"(\d{1,6}(?:\.\d+)?)s", word(detail, "retryDelay")):
                error.headers["retry-after"] = str(math.ceil(float(delay.group(1))))
            if any("PerDay" in word(violation, "quotaId") for violation in inners(detail, "violations")):
                error.code, error.headers["x-should-retry"] = "insufficient_quota", "false"
    return error
