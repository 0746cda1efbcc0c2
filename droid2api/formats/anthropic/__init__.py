"""Anthropic Messages (https://docs.claude.com/en/api/messages).

The stream is named events, message_start to message_stop, strictly nested. Token counts of `usage` leave the cached
ones out of input_tokens, and those of message_delta replace the earlier ones.
"""

from collections.abc import Mapping

from droid2api.formats import routes
from droid2api.formats.anthropic.decoder import StreamDecoder, decode_response, decode_usage, ending
from droid2api.formats.anthropic.encoder import StreamEncoder, encode_error, encode_response, encode_stream_error
from droid2api.formats.anthropic.request import NAME, decode_request
from droid2api.formats.anthropic.request_encoder import encode_request
from droid2api.formats.anthropic.settings import apply_model_settings
from droid2api.formats.routes import read_model, wants_stream
from droid2api.formats.upstream_error import read_error
from droid2api.hub.request import Target
from droid2api.wire.fields import Json

TYPE = "anthropic"
SHIPPED_URL = "https://api.factory.ai/api/llm/a/v1/messages"
PREFIXES: tuple[str, ...] = ("/v1", "", "/v1/v1")
ROUTES: tuple[routes.Route, ...] = (
    routes.Answer("/messages"),
    routes.CountTokens("/messages/count_tokens", lambda tokens: {"input_tokens": tokens}),
)
KEY_HEADERS: tuple[str, ...] = ("x-api-key",)
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
    if found := routes.own_field(body, _OWN_FIELDS):
        return found
    items = routes.inner_objects(body, "tools", "messages")
    blocks = [block for item in items for block in routes.inner_objects(item, "content")]
    if any("input_schema" in item for item in items) or any(block.get("type") in _OWN_BLOCKS for block in blocks):
        return "its tools or content blocks are of this format"
    return "it has max_tokens, which this format requires" if "max_tokens" in body else ""


def upstream_url(base_url: str, target: Target, action: routes.Action, stream: bool) -> str:
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
