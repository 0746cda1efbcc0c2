"""Reading and writing whole turns with the formats, with a clock that stands and ids that count."""

import itertools

from droid2api.formats import BY_NAME
from droid2api.hub.events import Event
from droid2api.hub.request import Request, Target
from droid2api.wire import sse
from droid2api.wire.fields import Json

from .recordings import Recording

TARGET = Target("claude-sonnet-4-5")
"""Whoever made a turn: all are read as the same model family's, so that state can be compared."""
REQUEST = Request("model", [], include_usage=True)


def read_stream(format: str, chunks: list[bytes]) -> list[Event]:
    """The events of a stream that comes in `chunks` and then ends."""
    cutter, decoder = sse.Decoder(), BY_NAME[format].StreamDecoder(TARGET)
    events = []
    for chunk in chunks:
        events += decoder.feed(cutter.feed(chunk))
    return events + decoder.feed(cutter.close()) + decoder.close()


def read_answer(format: str, body: Json) -> list[Event]:
    return BY_NAME[format].decode_response(body, TARGET)


def read_recording(recording: Recording) -> list[Event]:
    if recording.path.suffix == ".sse":
        return read_stream(recording.format, [recording.bytes])
    return read_answer(recording.format, recording.json)


def new_encoder(format: str):
    return BY_NAME[format].StreamEncoder(REQUEST, _clock, _new_id())


def write_stream(format: str, events: list[Event]) -> bytes:
    return new_encoder(format).encode(events)


def write_answer(format: str, events: list[Event]) -> Json:
    return BY_NAME[format].encode_response(events, REQUEST, _clock, _new_id())


def _clock() -> float:
    return 1760000000.25


def _new_id():
    numbers = itertools.count(1)
    return lambda: f"{next(numbers):04}"
