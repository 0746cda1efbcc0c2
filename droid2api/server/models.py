"""The configured models as the formats' rooms describe them to clients."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from droid2api.formats.routes import ModelCard
from droid2api.settings import Model, Settings

LISTED_NAMES = "claude"
"""What names of redirects begin with that are listed like models: Claude Code's picker drops all others."""


def model_cards(settings: Settings, started: float) -> list[ModelCard]:
    """`started` (seconds since the epoch) is the date of models whose id tells none."""
    return [_card(model, model.id, started) for model in settings.models.values()] + [
        _card(settings.models[id], name, started)
        for name, id in settings.redirects.items()
        if _is_listed(settings, name) and id in settings.models
    ]


def model_card(settings: Settings, asked: str, started: float) -> ModelCard:
    """Of the model that a client would get for this id. Raises RequestError (404)."""
    model = settings.route(asked)
    return _card(model, asked if _is_listed(settings, asked) else model.id, started)


def _is_listed(settings: Settings, name: str) -> bool:
    """Whether it is a redirect's name, and neither a pattern nor a model's own, that clients are told of."""
    is_name = name in settings.redirects and not re.search(r"[*?\[]", name)
    return is_name and name.startswith(LISTED_NAMES) and name not in settings.models


def _card(model: Model, id: str, started: float) -> ModelCard:
    created = _release_date(model.id) or datetime.fromtimestamp(int(started), UTC)
    name = model.name if id == model.id else f"{model.name} ({id})"
    return ModelCard(id, name, created, model.provider, model.target.max_tokens)


def _release_date(id: str) -> datetime | None:
    """The date that many model ids end in."""
    found = re.search(r"20\d\d-?\d\d-?\d\d$", id)
    try:
        return datetime.fromisoformat(found.group()).replace(tzinfo=UTC) if found else None
    except ValueError:
        return None
