"""OpenAI Chat Completions (https://platform.openai.com/docs/api-reference/chat), and its dialects.

The stream is unnamed `data:` chunks that end with `data: [DONE]`. Every dialect of an upstream is read here: reasoning
as reasoning_content, reasoning, reasoning_details or a thinking part, tool indexes from 1, missing ids, whole calls in
one chunk, usage on any chunk, no [DONE].
"""

from droid2api.formats.chat.answer import (
    StreamDecoder,
    StreamEncoder,
    decode_response,
    decode_usage,
    encode_response,
    encode_stream_error,
)
from droid2api.formats.chat.request import NAME, decode_request
from droid2api.formats.chat.request_encoder import encode_request
from droid2api.formats.chat.settings import apply_model_settings
from droid2api.formats.openai_shared import encode_error

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
