"""The formats by name: what each is called where, and what it can do."""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from droid2api.errors import GatewayError
from droid2api.formats import anthropic, chat, responses
from droid2api.formats.decoder import TurnDecoder
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import Event, Usage
from droid2api.hub.request import Request, Target
from droid2api.wire.fields import Json

Clock: TypeAlias = Callable[[], float]
NewId: TypeAlias = Callable[[], str]


class StreamEncoder(Protocol):
    def encode(self, events: list[Event]) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Format:
    """One API format: `type` is its name in config.json, `path` where clients speak it to this gateway.

    `end` finds in a stream's last event that the stream is whole: its regular end, or an error of its own; `keepalive`
    may stand between any two events.
    """

    name: str
    type: str
    path: str
    end: re.Pattern[bytes]
    keepalive: bytes
    decode_request: Callable[[Json], Request]
    encode_request: Callable[[Request, Target], Encoded]
    apply_model_settings: Callable[[Json, MutableMapping[str, str], Target, str], None]
    decode_response: Callable[[Json, Target], list[Event]]
    decode_usage: Callable[[Json], Usage]
    encode_response: Callable[[list[Event], Request, Clock, NewId], Json]
    stream_decoder: Callable[[Target], TurnDecoder]
    stream_encoder: Callable[[Request, Clock, NewId], StreamEncoder]
    encode_error: Callable[[GatewayError], Json]
    encode_stream_error: Callable[[GatewayError, bytes], bytes]


_DONE = rb"(^|[\r\n])data:\s*\[DONE\]"

CHAT = Format(
    name="chat",
    type="common",
    path="/v1/chat/completions",
    # not every upstream of this format sends [DONE]; then a finish reason is the end, or usage without an answer
    end=re.compile(
        _DONE + rb'|"finish_reason":\s*"|"error":\s*["{]'
        rb'|"choices":\s*\[\].*"usage":\s*\{|"usage":\s*\{.*"choices":\s*\[\]'
    ),
    keepalive=b": keepalive\n\n",
    decode_request=chat.decode_request,
    encode_request=chat.encode_request,
    apply_model_settings=chat.apply_model_settings,
    decode_response=chat.decode_response,
    decode_usage=chat.decode_usage,
    encode_response=chat.encode_response,
    stream_decoder=chat.StreamDecoder,
    stream_encoder=chat.StreamEncoder,
    encode_error=chat.encode_error,
    encode_stream_error=chat.encode_stream_error,
)

RESPONSES = Format(
    name="responses",
    type="openai",
    path="/v1/responses",
    end=re.compile(_DONE + rb'|"type":\s*"(response\.(completed|incomplete|failed|cancelled)|error)"'),
    keepalive=b": keepalive\n\n",
    decode_request=responses.decode_request,
    encode_request=responses.encode_request,
    apply_model_settings=responses.apply_model_settings,
    decode_response=responses.decode_response,
    decode_usage=responses.decode_usage,
    encode_response=responses.encode_response,
    stream_decoder=responses.StreamDecoder,
    stream_encoder=responses.StreamEncoder,
    encode_error=responses.encode_error,
    encode_stream_error=responses.encode_stream_error,
)

ANTHROPIC = Format(
    name="anthropic",
    type="anthropic",
    path="/v1/messages",
    end=re.compile(_DONE + rb'|"type":\s*"(message_stop|error)"'),
    keepalive=b'event: ping\ndata: {"type":"ping"}\n\n',
    decode_request=anthropic.decode_request,
    encode_request=anthropic.encode_request,
    apply_model_settings=anthropic.apply_model_settings,
    decode_response=anthropic.decode_response,
    decode_usage=anthropic.decode_usage,
    encode_response=anthropic.encode_response,
    stream_decoder=anthropic.StreamDecoder,
    stream_encoder=anthropic.StreamEncoder,
    encode_error=anthropic.encode_error,
    encode_stream_error=anthropic.encode_stream_error,
)

FORMATS = {format.name: format for format in (CHAT, RESPONSES, ANTHROPIC)}
BY_TYPE = {format.type: format for format in FORMATS.values()}
