"""The error envelope that OpenAI's two formats share."""

from __future__ import annotations

from droid2api.errors import GatewayError
from droid2api.fields import Json

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def encode_error(error: GatewayError) -> Json:
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
