"""Anthropic Messages (https://docs.claude.com/en/api/messages).

The stream is named events, message_start to message_stop, strictly nested. Token counts of `usage` leave the cached
ones out of input_tokens, and those of message_delta replace the earlier ones.
"""

from droid2api.formats.anthropic.answer import (
    StreamDecoder,
    StreamEncoder,
    decode_response,
    decode_usage,
    encode_error,
    encode_response,
    encode_stream_error,
)
from droid2api.formats.anthropic.request import NAME, decode_request
from droid2api.formats.anthropic.request_encoder import encode_request
from droid2api.formats.anthropic.settings import apply_model_settings

__all__ = [
    "NAME",
    "StreamDecoder",
    "StreamEncoder",
    "apply_model_settings",
    "decode_request",
    "decode_response",
    "decode_usage",
    "encode_error",
    "encode_request",
    "encode_response",
    "encode_stream_error",
]
