"""Anthropic Messages (https://docs.claude.com/en/api/messages).

The stream is named events, message_start to message_stop, strictly nested. Token counts of `usage` leave the cached
ones out of input_tokens, and those of message_delta replace the earlier ones.
"""

from droid2api.formats.anthropic.decoder import StreamDecoder, decode_response, decode_usage, ending
from droid2api.formats.anthropic.encoder import StreamEncoder, encode_error, encode_response, encode_stream_error
from droid2api.formats.anthropic.request import NAME, decode_request, encode_request
from droid2api.formats.anthropic.settings import adapt

__all__ = [
    "NAME",
    "StreamDecoder",
    "StreamEncoder",
    "adapt",
    "decode_request",
    "decode_response",
    "decode_usage",
    "encode_error",
    "encode_request",
    "encode_response",
    "encode_stream_error",
    "ending",
]
