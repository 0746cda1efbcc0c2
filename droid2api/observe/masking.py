"""What may be a secret in the owner's settings, and how it is told without it."""

from __future__ import annotations

from droid2api.settings import Endpoint

MASK = "***"

_HARMLESS = ("accept", "anthropic-", "content-", "openai-beta", "user-agent", "x-api-provider", "x-factory-client")


def secret_headers(endpoint: Endpoint) -> set[str]:
    """Names, in lower case, of its configured headers that are not known to be harmless."""
    return {name.lower() for name in endpoint.headers if not name.lower().startswith(_HARMLESS)}


def masked_url(url: str) -> str:
    """A query may be a credential; a user or password is refused by config.py."""
    path, mark, _ = url.partition("?")
    return path + mark + MASK if mark else path
