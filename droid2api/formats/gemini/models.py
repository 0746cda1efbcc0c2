"""The list of models, and how many tokens there are, in Google's words."""

from __future__ import annotations

from collections.abc import Sequence

from droid2api.formats.gemini.words import model_path
from droid2api.formats.routes import ModelCard
from droid2api.wire.fields import Json


def encode_models(cards: Sequence[ModelCard]) -> Json:
    return {"models": [encode_model(card) for card in cards]}


def encode_model(card: ModelCard) -> Json:
    limit = {} if card.max_tokens is None else {"outputTokenLimit": card.max_tokens}
    return {
        "name": model_path(card.id),
        "version": card.created.date().isoformat(),
        "displayName": card.name,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    } | limit


def encode_count(tokens: int) -> Json:
    return {"totalTokens": tokens}
