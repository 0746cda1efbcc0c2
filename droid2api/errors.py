"""Errors, named by whose fault they are.

    GatewayError            the gateway's own, where it is no other
    ├── RequestError        the client's: its body, path or headers
    ├── CredentialError     the credential's: none found, or it cannot be renewed
    └── UpstreamError       the upstream's: its own error answer, unreachable (502) or silent (504)
        └── StreamError     the stream's: it broke, or ended before its end
    WireError               the upstream's: what it sent cannot be read; the stream's decoder makes a StreamError of it
    ConfigError             the owner's: config.json or the environment; only at the start

A GatewayError knows everything that any format's error envelope needs; it knows no format itself.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias

Fault: TypeAlias = Literal["request error", "credential error", "upstream error", "gateway error"]


class GatewayError(Exception):
    """An error that a client is told of.

    `status` is the HTTP status, `code` the most exact machine-readable name known (an upstream's own where there is
    one), `param` the path of the field at fault, `headers` what must go out with it (retry-after and such).
    """

    fault: ClassVar[Fault] = "gateway error"
    default_status: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = self.default_status if status is None else status
        self.code = code
        self.param = param
        self.headers = dict(headers or {})


class RequestError(GatewayError):
    fault = "request error"
    default_status = 400


class CredentialError(GatewayError):
    fault = "credential error"
    default_status = 401


class UpstreamError(GatewayError):
    fault = "upstream error"
    default_status = 502


class StreamError(UpstreamError):
    pass


class WireError(Exception):
    """The text goes on after "The upstream sent": "a tool call without a name"."""


class ConfigError(Exception):
    """The text says which file, line or field is wrong and how to mend it."""
