"""How many tokens a request has, roughly, for upstreams that do not count them.

Four bytes of UTF-8 are taken as one token and a picture or document as 1600 (about what a large picture costs on
Anthropic). Real tokenizers differ by a fifth or so: good enough for a client to know when to compact its history.
"""

from typing import assert_never

from droid2api.hub import request as hub
from droid2api.wire.fields import dump

BYTES_PER_TOKEN = 4
MEDIA_TOKENS = 1600


def estimate_tokens(request: hub.Request) -> int:
    """Raises RequestError for tools that are nested too deep to be written."""
    parts = [part for message in request.messages for part in message.parts]
    tools = [dump([tool.name, tool.description, tool.parameters]) for tool in request.tools]
    size = sum(len(tool) for tool in tools) + sum(_bytes(part) for part in parts)
    return size // BYTES_PER_TOKEN + 4 * len(request.messages)


def _bytes(part: hub.Part) -> int:
    match part:
        case hub.Image() | hub.Document() | hub.Foreign():
            return MEDIA_TOKENS * BYTES_PER_TOKEN
        case hub.ToolCall():
            return len(part.name) + len(part.arguments.encode())
        case hub.ToolResult():
            return sum(_bytes(item) for item in part.content)
        case hub.Text() | hub.Refusal() | hub.Reasoning():
            return len(part.text.encode())
        case _:
            assert_never(part)
