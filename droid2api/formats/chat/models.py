"""The list of models, for OpenAI's clients and Anthropic's: both ask on this path, so each finds its own fields."""

from collections.abc import Sequence

from droid2api.formats.routes import ModelCard
from droid2api.wire.fields import Json


def encode_models(cards: Sequence[ModelCard]) -> Json:
    data = [encode_model(card) for card in cards]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, "has_more": False, **ends}


def encode_model(card: ModelCard) -> Json:
    return {
        "id": card.id,
        "object": "model",
        "type": "model",
        "created": int(card.created.timestamp()),
        "created_at": card.created.isoformat().replace("+00:00", "Z"),
        "owned_by": card.provider or "droid2api",
        "display_name": card.name,
        "lifecycle": "active",
        "max_tokens": card.max_tokens,
    }
