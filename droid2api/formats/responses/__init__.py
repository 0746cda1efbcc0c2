"""OpenAI Responses (https://platform.openai.com/docs/api-reference/responses).

The stream is named events with a sequence number, response.created to response.completed, incomplete or failed. Items
are told apart by their output_index: one upstream changes item_id on every event.
"""

from droid2api.formats.openai_shared import encode_error
from droid2api.formats.responses.answer import (
    StreamDecoder,
    StreamEncoder,
    decode_response,
    decode_usage,
    encode_response,
    encode_stream_error,
)
from droid2api.formats.responses.request import NAME, decode_request
from droid2api.formats.responses.request_encoder import encode_request
from droid2api.formats.responses.settings import apply_model_settings

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
