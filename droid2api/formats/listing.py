"""The lists of models that services give: where, and in whose words."""

from droid2api.errors import WireError
from droid2api.wire.fields import Json, members, text, word

_ENDINGS = ("/chat/completions", "/responses", "/messages")
"""How the URLs end that requests are posted to; a root has none of them."""


def list_url(base_url: str) -> str:
    """Where a service lists its models: beside the path for requests, or below the root of its API."""
    base = base_url.partition("?")[0]
    ending = next((ending for ending in _ENDINGS if base.endswith(ending)), "")
    return base.removesuffix(ending) + "/models"


def _answers(methods: object) -> bool:
    """Whether a model of these methods can be asked for answers: one that does not list them can."""
    return type(methods) is not list or "generateContent" in methods


def read_list(value: Json) -> tuple[list[Json], dict[str, str]]:
    """The models of one page, {"id", "name"} each, and the query for the next page, {} where this is the last.

    OpenAI's shape ({"data": [{"id"}]}), Anthropic's (with "display_name", "has_more", "last_id"), and Gemini's
    ({"models": [{"name": "models/ID", "displayName"}], "nextPageToken"}). Raises WireError.
    """
    if "models" in value and "data" not in value:
        models = [
            {"id": text(item, "name").removeprefix("models/"), "name": word(item, "displayName")}
            for item in members(value, "models")
            if _answers(item.get("supportedGenerationMethods"))
        ]
        token = word(value, "nextPageToken")
        return models, {"pageToken": token} if token else {}
    if "data" not in value:
        raise WireError("a list of models that has none")
    models = [{"id": text(item, "id"), "name": word(item, "display_name")} for item in members(value, "data")]
    last = word(value, "last_id") if value.get("has_more") is True else ""
    return models, {"after_id": last} if last else {}
