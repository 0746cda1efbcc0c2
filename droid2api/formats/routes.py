"""What a room says of its clients' paths, and what a call on one of them holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from droid2api.errors import RequestError
from droid2api.wire.fields import Json, optional, required

Action: TypeAlias = Literal["answer", "count_tokens"]
"""What a client asks an upstream for."""


@dataclass(frozen=True, slots=True)
class ClientCall:
    """What a client sent: `path` holds the parts that its route's pattern names."""

    body: Json
    path: Mapping[str, str]
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A configured model, as clients may ask for it. `max_tokens` is None where it is not configured."""

    id: str
    name: str
    created: datetime
    provider: str
    max_tokens: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Where clients ask for answers. `path` is a pattern of aiohttp's, below each prefix."""

    path: str
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class CountTokens:
    """Where they have tokens counted; `encode` writes an estimate for upstreams that do not count."""

    path: str
    encode: Callable[[int], Json]
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class ListModels:
    path: str
    encode: Callable[[Sequence[ModelCard]], Json]
    method: str = "GET"


@dataclass(frozen=True, slots=True)
class ShowModel:
    """The pattern has a part `id`."""

    path: str
    encode: Callable[[ModelCard], Json]
    method: str = "GET"


@dataclass(frozen=True, slots=True)
class Refuse:
    """What clients of the format try first, and must be told not to."""

    path: str
    error: Callable[[], RequestError]
    method: str = "GET"


Route: TypeAlias = Answer | CountTokens | ListModels | ShowModel | Refuse


# -- for the formats whose clients say both in the body


def read_model(call: ClientCall) -> str:
    """Raises RequestError."""
    return required(call.body, "model", str)


def wants_stream(call: ClientCall) -> bool | None:
    """Raises RequestError."""
    return optional(call.body, "stream", bool)


def wants_array(call: ClientCall) -> bool:
    return False


# -- for telling formats apart by a body alone


def own_field(body: Json, fields: str) -> str:
    """The reason for a format that alone has one of these `fields` (names with spaces between), "" without one."""
    found = next((name for name in body if name in fields.split()), None)
    return f"only this format has {found!r}" if found else ""


def inner_objects(body: Json, *lists: str) -> list[Json]:
    """The objects in these lists of a body, whatever else is wrong with it."""
    values = [body.get(name) for name in lists]
    return [item for value in values if type(value) is list for item in value if type(item) is dict]
