"""OpenAI Responses (https://platform.openai.com/docs/api-reference/responses).

The stream is named events with a sequence number, response.created to response.completed, incomplete or failed. Items
are told apart by their output_index: one upstream changes item_id on every event.
"""

from droid2api.formats.openai_shared import encode_error
from droid2api.formats.responses.decoder import StreamDecoder, decode_response, decode_usage, ending
from droid2api.formats.responses.encoder import StreamEncoder, encode_response, encode_stream_error
from droid2api.formats.responses.request import NAME, decode_request, encode_request
from droid2api.formats.responses.settings import adapt

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
