"""OpenAI Chat Completions (https://platform.openai.com/docs/api-reference/chat), and its dialects.

The stream is unnamed `data:` chunks that end with `data: [DONE]`. Every dialect of an upstream is read here: reasoning
as reasoning_content, reasoning, reasoning_details or a thinking part, tool indexes from 1, missing ids, whole calls in
one chunk, usage on any chunk, no [DONE].
"""

from droid2api.formats.chat.decoder import StreamDecoder, decode_response, decode_usage, ending
from droid2api.formats.chat.encoder import StreamEncoder, encode_response, encode_stream_error
from droid2api.formats.chat.request import NAME, decode_request, encode_request
from droid2api.formats.chat.settings import adapt
from droid2api.formats.openai_shared import encode_error

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
