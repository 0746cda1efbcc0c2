"""OpenAI Responses (https://platform.openai.com/docs/api-reference/responses).

The stream is named events with a sequence number, response.created to response.completed, incomplete or failed. Items
are told apart by their output_index: one upstream changes item_id on every event.
"""

from collections.abc import Mapping

from droid2api.errors import RequestError
from droid2api.formats.openai_shared import ANSWER_HEADERS, encode_error, upstream_headers, upstream_url
from droid2api.formats.responses.decoder import StreamDecoder, decode_response, decode_usage, ending
from droid2api.formats.responses.encoder import StreamEncoder, encode_response, encode_stream_error
from droid2api.formats.responses.request import NAME, decode_request
from droid2api.formats.responses.request_encoder import encode_request
from droid2api.formats.responses.settings import apply_model_settings
from droid2api.formats.routes import Answer, Refuse, Route, own_field, read_model, wants_array, wants_stream
from droid2api.formats.upstream_error import read_error
from droid2api.wire.fields import Json


def _no_websocket() -> RequestError:
    """Codex asks for a WebSocket first; 426 sends it to POST at once (any other answer costs retries or the turn)."""
    return RequestError("WebSocket is not served here: use POST.", status=426, headers={"Upgrade": "http/1.1"})


TYPE = "openai"
SHIPPED_URL = "https://api.factory.ai/api/llm/o/v1/responses"
PREFIXES: tuple[str, ...] = ("/v1", "", "/v1/v1")
ROUTES: tuple[Route, ...] = (Answer("/responses"), Refuse("/responses", _no_websocket))
KEY_HEADERS: tuple[str, ...] = ()
KEY_QUERY = ""
KEY_HEADER = "authorization"
KEEPALIVE = b": keepalive\n\n"


def speaks(path: str, headers: Mapping[str, str]) -> bool:
    return "/responses" in path


def recognize(body: Json) -> str:
    return own_field(body, "input instructions previous_response_id max_output_tokens")
