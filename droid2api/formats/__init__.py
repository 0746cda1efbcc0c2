"""The formats that clients and upstreams speak, and what each must give.

A format is one room: a package below this one that implements `Format`. Whatever is peculiar to it is said there, once:
nothing outside knows a format by its name or its words. A new format is a new room and a word in FORMATS.
"""

from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from functools import lru_cache
from typing import Protocol, TypeAlias

from droid2api.errors import GatewayError, UpstreamError
from droid2api.formats import anthropic, chat, gemini, responses
from droid2api.formats.decoder import TurnDecoder
from droid2api.formats.endings import Ending
from droid2api.formats.routes import Action, ClientCall, Route
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import Event, Usage
from droid2api.hub.request import Request, Target
from droid2api.wire.fields import Json
from droid2api.wire.sse import ServerSentEvent

Clock: TypeAlias = Callable[[], float]
"""Seconds since the epoch."""
NewId: TypeAlias = Callable[[], str]


class TurnEncoder(Protocol):
    def encode(self, events: list[Event], /) -> bytes:
        """The bytes of the next events of one turn."""


class ClientFormat(Protocol):
    """What a room gives for the clients that speak it. Errors of a client's body are RequestErrors."""

    # -- a client's call

    PREFIXES: tuple[str, ...]
    """What may stand before the paths of ROUTES; the documented one first."""
    ROUTES: tuple[Route, ...]
    KEY_HEADERS: tuple[str, ...]
    """Headers that clients send their key in, beside Authorization: Bearer."""
    KEY_QUERY: str
    """The name in the URL's query that clients send their key in, "" for none."""

    def speaks(self, path: str, headers: Mapping[str, str], /) -> bool:
        """Whether a client at this path, or with these headers, surely understands this format's errors."""

    def recognize(self, body: Json, /) -> str:
        """Why a body whose path is not known is of this format, "" if nothing says so."""

    def read_model(self, call: ClientCall, /) -> str:
        """The id of the model that is asked for. Raises RequestError."""

    def wants_stream(self, call: ClientCall, /) -> bool | None:
        """None where the client does not say. Raises RequestError."""

    def wants_array(self, call: ClientCall, /) -> bool:
        """Whether the client wants a stream as one JSON array of its events, not as server-sent events."""

    def decode_request(self, body: Json, /) -> Request:
        """What a body means. Raises RequestError that names the wrong field."""

    # -- a client's answer

    KEEPALIVE: bytes
    """What may stand between any two events of a stream."""

    def StreamEncoder(self, request: Request, clock: Clock, new_id: NewId, /) -> TurnEncoder:
        """Writes one answer as a stream."""

    def encode_response(self, events: list[Event], request: Request, clock: Clock, new_id: NewId, /) -> Json:
        """A whole answer. Raises the error of a failed turn."""

    def encode_error(self, error: GatewayError, /) -> Json:
        """The body of an answer with an error's status."""

    def encode_stream_error(self, error: GatewayError, last: bytes, /) -> bytes:
        """The error in a stream whose last event was `last`."""


class UpstreamFormat(Protocol):
    """What a room gives for the upstreams that speak it."""

    SHIPPED_URL: str
    """Factory's endpoint for it, "" where there is none."""

    # -- an upstream's request

    KEY_HEADER: str
    """Where an endpoint's own key goes: "authorization" (as Bearer), or a header that is the key."""

    def upstream_url(self, base_url: str, target: Target, action: Action, stream: bool, body: Json, /) -> str:
        """Where the configured `base_url` takes such a request, "" where it does not. What that place wants in the body
        instead of the URL is put there."""

    def upstream_headers(self, client: Mapping[str, str], /) -> dict[str, str]:
        """What this format's upstreams are told besides the credential; `client` are the client's own headers."""

    def encode_request(self, request: Request, target: Target, /) -> Encoded:
        """The body for an upstream. Raises RequestError for content that it cannot express."""

    def apply_model_settings(
        self, encoded: Encoded, headers: MutableMapping[str, str], target: Target, system_prompt: str, /
    ) -> None:
        """Put model, system prompt and reasoning level into a body of this format, in place, and name what is lost."""

    # -- an upstream's answer

    ANSWER_HEADERS: tuple[str, ...]
    """Beginnings of the names of headers that clients act on."""

    def StreamDecoder(self, target: Target, used_ids: Collection[str] = (), /) -> TurnDecoder:
        """Reads one answer; no call of it gets one of `used_ids`."""

    def decode_response(self, body: Json, target: Target, used_ids: Collection[str] = (), /) -> list[Event]:
        """A whole answer as events."""

    def decode_usage(self, usage: Json, /) -> Usage:
        """The counts that an upstream tells."""

    def read_error(self, value: object, status: int, /) -> UpstreamError:
        """An error answer: its parsed JSON, else its text."""

    def ending(self, event: ServerSentEvent, /) -> Ending:
        """What one event of a relayed stream, or a whole answer, says of its end."""


class Format(ClientFormat, UpstreamFormat, Protocol):
    """One API format: all that a room gives."""

    NAME: str
    """What logs, metrics and errors call it."""
    TYPE: str
    """What config.json calls it (`models[].type`, and the endpoint's name)."""


# -- the formats ----------------------------------------------------------------------------------------------------

FORMATS: tuple[Format, ...] = (chat, responses, anthropic, gemini)
"""The first one is spoken to those who do not show what they speak."""
BY_NAME: dict[str, Format] = {format.NAME: format for format in FORMATS}


def spoken(formats: Sequence[Format], path: str, headers: Mapping[str, str]) -> Format:
    """The format that the sender of a request surely understands an error in.

    Headers are surer than paths: the formats that have such signs stand behind OpenAI's, so they are asked first.
    """
    return next((format for format in reversed(formats) if format.speaks(path, headers)), formats[0])


def client_keys(formats: tuple[Format, ...], headers: Mapping[str, str]) -> list[str]:
    """The keys that a client sends, wherever its format has them."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    sent = [token if scheme.lower() == "bearer" else "", *(headers.get(name, "") for name in _key_headers(formats))]
    return [key.strip() for key in sent if key.strip()]


@lru_cache
def _key_headers(formats: tuple[Format, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for format in formats for name in format.KEY_HEADERS))
