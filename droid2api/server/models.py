"""The configured models as the formats' rooms describe them to clients."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from droid2api.formats.routes import ModelCard
from droid2api.settings import Model, Settings


def model_cards(settings: Settings, started: float) -> list[ModelCard]:
    """`started` (seconds since the epoch) is the date of models whose id tells none."""
    return [model_card(model, started) for model in settings.models.values()]


def model_card(model: Model, started: float) -> ModelCard:
    created = _release_date(model.id) or datetime.fromtimestamp(int(started), UTC)
    return ModelCard(model.id, model.name, created, model.provider, model.target.max_tokens)


def _release_date(id: str) -> datetime | None:
    """The date that many model ids end in."""
    found = re.search(r"20\d\d-?\d\d-?\d\d$", id)
    try:
        return datetime.fromisoformat(found.group()).replace(tzinfo=UTC) if found else None
    except ValueError:
        return None
