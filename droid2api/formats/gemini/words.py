"""The names and spellings of the Gemini API, and the signatures that its parts carry.

Its JSON is protobuf's: a client may write each field in camelCase or snake_case and bytes in both alphabets of base64.
A part's signature must be base64, so that state of another provider is packed and encoded once more.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from droid2api.hub.events import PACKED_STATE, State
from droid2api.wire.fields import camel

NAME = "gemini"
SERVED = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")
"""Parts of tools that Google runs itself."""
STAND_IN = "skip_thought_signature_validator"
"""What Gemini takes for the signature of a call that another model made (https://ai.google.dev/gemini-api/docs)."""

_STAND_INS = (STAND_IN.encode(), b"context_engineering_is_the_way_to_go")
_DATA = frozenset(
    "args response parameters parametersJsonSchema responseJsonSchema responseSchema labels partialArgs partMetadata "
    "headers".split()
)
"""Fields whose value is the client's own: no name in it is the API's."""
_DEEPEST = 20
"""Levels of objects and lists that a body has outside of such fields, and more."""


def camelized(value: Any, level: int = 0) -> Any:
    """A body with all names of the API in camelCase; null is what is not there."""
    if level > _DEEPEST or type(value) not in (list, dict):
        return value
    if type(value) is list:
        return [camelized(item, level + 1) for item in value]
    named = ((camel(name), item) for name, item in value.items() if item is not None)
    return {name: item if name in _DATA else camelized(item, level + 1) for name, item in named}


def standard_base64(data: str) -> str:
    """Base64 in the alphabet, and with the padding, that the other services want."""
    data = data.replace("-", "+").replace("_", "/").rstrip("=")
    return data + "=" * (-len(data) % 4)


def encode_state(state: State) -> str:
    """State as a signature: Gemini's own, or another provider's, packed."""
    if state.format == NAME and state.data.keys() == {"signature"}:
        return str(state.data["signature"])
    return base64.b64encode(state.pack().encode()).decode()


def decode_state(signature: str) -> State | None:
    """The state in a signature; None for a stand-in, which holds none."""
    if signature.encode() in _STAND_INS or _content(signature) in _STAND_INS:
        return None
    if is_foreign(signature):
        return State.unpack(_content(signature).decode(errors="replace"))
    return State(NAME, "", {"signature": signature})


def is_foreign(signature: object) -> bool:
    """Whether this gateway packed another provider's state into it."""
    return type(signature) is str and _content(signature).startswith(PACKED_STATE.encode())


def _content(signature: str) -> bytes:
    try:
        return base64.b64decode(standard_base64(signature))
    except (binascii.Error, ValueError):
        return b""


def model_path(id: str) -> str:
    """How a URL and a model's `name` have it."""
    return id if id.startswith(("models/", "tunedModels/")) else f"models/{id}"
