"""Google Gemini's generateContent (https://ai.google.dev/api/generate-content).

The model and whether the answer streams are in the path. The stream is unnamed `data:` events, each a whole answer with
the parts that are new; an error in it is bare JSON. `promptTokenCount` includes the cached tokens and leaves out those
of tools, `candidatesTokenCount` leaves out the thoughts.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from droid2api.errors import RequestError
from droid2api.formats import routes
from droid2api.formats.gemini.decoder import StreamDecoder, decode_response, decode_usage, ending
from droid2api.formats.gemini.encoder import StreamEncoder, encode_response, encode_stream_error
from droid2api.formats.gemini.errors import encode_error, read_error
from droid2api.formats.gemini.request import decode_request
from droid2api.formats.gemini.request_encoder import encode_request
from droid2api.formats.gemini.settings import apply_model_settings
from droid2api.formats.gemini.words import NAME, model_path
from droid2api.hub.request import Target
from droid2api.wire.fields import Json

TYPE = "google"
SHIPPED_URL = "https://api.factory.ai/api/llm/g/v1/generate"
_METHODS = "Of a model's methods this gateway serves generateContent, streamGenerateContent and countTokens only."


def encode_model(card: routes.ModelCard) -> Json:
    limit = {} if card.max_tokens is None else {"outputTokenLimit": card.max_tokens}
    return {
        "name": model_path(card.id),
        "version": card.created.date().isoformat(),
        "displayName": card.name,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    } | limit


PREFIXES: tuple[str, ...] = ("/v1beta", "/v1", "", "/v1/v1")
ROUTES: tuple[routes.Route, ...] = (
    routes.ListModels("/models", lambda cards: {"models": [encode_model(card) for card in cards]}),
    routes.ShowModel("/models/{id:.+}", encode_model),
    routes.Answer("/models/{model:.+}:generateContent"),
    routes.Answer("/models/{model:.+}:{stream:streamGenerateContent}"),
    routes.CountTokens("/models/{model:.+}:countTokens", lambda tokens: {"totalTokens": tokens}),
    routes.Answer("/generate"),
    routes.Refuse("/models/{model:.+}:{method:.+}", lambda: RequestError(_METHODS, status=404), "POST"),
)
"""/generate is Factory's, and that of this gateway's edition for Node: model and stream are in the body."""
_ROOT = re.compile(r"^$|/v\d\w*$|/google$")
"""How the path of an API's root ends: a version, or a publisher of Vertex AI."""
_PATHS = re.compile(r"^/v1beta/|/generate$|/models/.+:(\w+(Contents?|Tokens)|predict\w*)$")
KEY_HEADERS: tuple[str, ...] = ("x-goog-api-key",)
KEY_QUERY = "key"
KEY_HEADER = "x-goog-api-key"
KEEPALIVE = b"\r\n"
ANSWER_HEADERS: tuple[str, ...] = ()


def speaks(path: str, headers: Mapping[str, str]) -> bool:
    return bool(_PATHS.search(path)) or "x-goog-api-key" in headers


def recognize(body: Json) -> str:
    return routes.own_field(body, "contents systemInstruction system_instruction generationConfig generation_config")


def read_model(call: routes.ClientCall) -> str:
    return call.path["model"].removeprefix("models/") if "model" in call.path else routes.read_model(call)


def wants_stream(call: routes.ClientCall) -> bool | None:
    return "stream" in call.path if "model" in call.path else routes.wants_stream(call)


def wants_array(call: routes.ClientCall) -> bool:
    return "stream" in call.path and call.query.get("alt") != "sse"


def upstream_headers(client: Mapping[str, str]) -> dict[str, str]:
    return {}


def upstream_url(base_url: str, target: Target, action: routes.Action, stream: bool, body: Json) -> str:
    """Below the root of an API. Any other URL is the whole one: model and stream go into the body, and nothing counts
    tokens there.
    """
    base, mark, query = base_url.partition("?")
    path = urlsplit(base).path
    for name in ("model", "stream"):
        body.pop(name, None)
    if not _ROOT.search(path):
        body |= {"model": target.id} | ({"stream": True} if stream else {})
        return base_url if action == "answer" else ""
    method = "streamGenerateContent" if stream else "generateContent"
    if action == "count_tokens":
        method, whole = "countTokens", {"model": model_path(target.id), **body}
        body.clear()
        body["generateContentRequest"] = whole
    elif stream:
        query, mark = f"{query}&alt=sse" if query else "alt=sse", "?"
    return f"{base}{'' if path else PREFIXES[0]}/{quote(model_path(target.id))}:{method}{mark}{query}"
