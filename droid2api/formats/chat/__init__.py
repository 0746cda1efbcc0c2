"""OpenAI Chat Completions (https://platform.openai.com/docs/api-reference/chat), and its dialects.

The stream is unnamed `data:` chunks that end with `data: [DONE]`. Every dialect of an upstream is read here: reasoning
as reasoning_content, reasoning, reasoning_details or a thinking part, tool indexes from 1, missing ids, whole calls in
one chunk, usage on any chunk, no [DONE].
"""

from collections.abc import Mapping

from droid2api.formats import routes
from droid2api.formats.chat.decoder import StreamDecoder, decode_response, decode_usage, ending
from droid2api.formats.chat.encoder import StreamEncoder, encode_response, encode_stream_error
from droid2api.formats.chat.models import encode_model, encode_models
from droid2api.formats.chat.request import NAME, decode_request
from droid2api.formats.chat.request_encoder import encode_request
from droid2api.formats.chat.settings import apply_model_settings
from droid2api.formats.openai_shared import ANSWER_HEADERS, encode_error, upstream_headers, upstream_url
from droid2api.formats.routes import read_model, wants_stream
from droid2api.formats.upstream_error import read_error
from droid2api.wire.fields import Json

TYPE = "common"
SHIPPED_URL = "https://api.factory.ai/api/llm/o/v1/chat/completions"
PREFIXES: tuple[str, ...] = ("/v1", "", "/v1/v1")
ROUTES: tuple[routes.Route, ...] = (
    routes.ListModels("/models", encode_models),
    routes.ShowModel("/models/{id:.+}", encode_model),
    routes.Answer("/chat/completions"),
)
KEY_HEADERS: tuple[str, ...] = ()
KEY_HEADER = "authorization"
KEEPALIVE = b": keepalive\n\n"


_OWN_FIELDS = "max_completion_tokens stop n response_format stream_options reasoning_effort seed"
_OWN_ROLES = ("system", "developer", "tool", "function")


def speaks(path: str, headers: Mapping[str, str]) -> bool:
    return "/chat/" in path


def recognize(body: Json) -> str:
    if found := routes.own_field(body, _OWN_FIELDS):
        return found
    for item in routes.inner_objects(body, "tools", "messages"):
        if "function" in item or "tool_calls" in item or item.get("role") in _OWN_ROLES:
            return "its tools or roles are of this format"
    return ""
