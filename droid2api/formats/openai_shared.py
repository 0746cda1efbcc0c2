"""What OpenAI's two formats have in common: headers, the error envelope and the mark for a cache breakpoint."""

from __future__ import annotations

from collections.abc import Mapping

from droid2api.errors import GatewayError
from droid2api.formats.routes import Action
from droid2api.hub.encoded import Encoded
from droid2api.hub.fitting import cache_lives
from droid2api.hub.request import Request, Target
from droid2api.wire.fields import Json

BREAKPOINT = "prompt_cache_breakpoint"

ANSWER_HEADERS: tuple[str, ...] = ("x-ratelimit-",)

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def upstream_url(base_url: str, target: Target, action: Action, stream: bool, body: Json) -> str:
    return base_url


def upstream_headers(client: Mapping[str, str]) -> dict[str, str]:
    return {}


def encode_error(error: GatewayError) -> Json:
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


def keep_breakpoints(encoded: Encoded, request: Request, target: Target, contents: list[object]) -> None:
    """Leave as many marks as the model takes, the last ones, in these lists of encoded parts, and note lost ones."""
    lists = [content for content in contents if type(content) is list]
    marked = [part for content in lists for part in content if BREAKPOINT in part]
    kept = target.profile.cache_breakpoints
    for part in marked[: max(0, len(marked) - kept)]:
        del part[BREAKPOINT]
    caches = cache_lives(request)
    if len(caches) > min(len(marked), kept):
        encoded.drop("cache_breakpoints")
    if any(caches):
        encoded.drop("cache_breakpoints.ttl")


def with_breakpoint(block: Json, cache: str | None) -> Json:
    return block if cache is None else block | {BREAKPOINT: {"mode": "explicit"}}
