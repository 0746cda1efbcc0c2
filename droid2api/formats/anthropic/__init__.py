"""Anthropic Messages (https://docs.claude.com/en/api/messages).

The stream is named events, message_start to message_stop, strictly nested. Token counts of `usage` leave the cached
ones out of input_tokens, and those of message_delta replace the earlier ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from droid2api.formats.anthropic.decoder import StreamDecoder as StreamDecoder
from droid2api.formats.anthropic.decoder import decode_response as decode_response
from droid2api.formats.anthropic.decoder import decode_usage as decode_usage
from droid2api.formats.anthropic.decoder import ending as ending
from droid2api.formats.anthropic.encoder import StreamEncoder as StreamEncoder
from droid2api.formats.anthropic.encoder import encode_error as encode_error
from droid2api.formats.anthropic.encoder import encode_response as encode_response
from droid2api.formats.anthropic.encoder import encode_stream_error as encode_stream_error
from droid2api.formats.anthropic.request import NAME as NAME
from droid2api.formats.anthropic.request import decode_request as decode_request
from droid2api.formats.anthropic.request_encoder import encode_request as encode_request
from droid2api.formats.anthropic.settings import apply_model_settings as apply_model_settings
from droid2api.formats.routes import Action, Answer, CountTokens, Route, inner_objects, own_field
from droid2api.formats.routes import read_model as read_model
from droid2api.formats.routes import wants_array as wants_array
from droid2api.formats.routes import wants_stream as wants_stream
from droid2api.formats.upstream_error import read_error as read_error
from droid2api.hub.request import Target
from droid2api.wire.fields import Json


def _encode_count(tokens: int) -> Json:
    return {"input_tokens": tokens}


TYPE = "anthropic"
SHIPPED_URL = "https://api.factory.ai/api/llm/a/v1/messages"
PREFIXES: tuple[str, ...] = ("/v1", "", "/v1/v1")
ROUTES: tuple[Route, ...] = (Answer("/messages"), CountTokens("/messages/count_tokens", _encode_count))
KEY_HEADERS: tuple[str, ...] = ("x-api-key",)
KEY_QUERY = ""
KEY_HEADER = "x-api-key"
KEEPALIVE = b'event: ping\ndata: {"type":"ping"}\n\n'
ANSWER_HEADERS: tuple[str, ...] = ("anthropic-ratelimit-",)
VERSION = "2023-06-01"
"""The API version for clients that name none: later ones refuse temperature and its like."""

_OWN_FIELDS = "system thinking stop_sequences top_k context_management output_config"
_OWN_BLOCKS = ("tool_use", "tool_result", "thinking", "redacted_thinking", "image", "document")


def speaks(path: str, headers: Mapping[str, str]) -> bool:
    return "/messages" in path or "anthropic-version" in headers


def recognize(body: Json) -> str:
    if found := own_field(body, _OWN_FIELDS):
        return found
    items = inner_objects(body, "tools", "messages")
    blocks = [block for item in items for block in inner_objects(item, "content")]
    if any("input_schema" in item for item in items) or any(block.get("type") in _OWN_BLOCKS for block in blocks):
        return "its tools or content blocks are of this format"
    return "it has max_tokens, which this format requires" if "max_tokens" in body else ""


def upstream_url(base_url: str, target: Target, action: Action, stream: bool, body: Json) -> str:
    if action == "answer":
        return base_url
    path, mark, query = base_url.partition("?")
    return f"{path}/count_tokens{mark}{query}"


def upstream_headers(client: Mapping[str, str]) -> dict[str, str]:
    """All of the client's that begin with anthropic-, those that come twice joined."""
    headers: dict[str, str] = {}
    for name, value in client.items():
        lowered = name.lower()
        if lowered.startswith("anthropic-"):
            headers[lowered] = f"{headers[lowered]},{value}" if lowered in headers else value
    return {"anthropic-version": VERSION} | headers
