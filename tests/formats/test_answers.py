"""Every recorded answer, written in each format and read again (properties 3, 4 and 6 of the design)."""

from droid2api.formats import BY_NAME

from . import sdk
from .carried import carried, is_failed, is_for, joined, settled
from .recordings import each_answer, each_stream
from .wire import new_encoder, read_answer, read_recording, read_stream, write_answer, write_stream


@each_stream
def test_streams(recording):
    for format in BY_NAME:
        check_all(format, read_recording(recording))


@each_answer
def test_answers(recording):
    for format in BY_NAME:
        check_all(format, read_recording(recording))


def check_all(format, events):
    if is_for(events, format) and not is_failed(events):
        check_stream(format, events)
        check_answer(format, events)


def check_stream(format, events):
    stream = write_stream(format, events)
    sdk.check_stream(format, stream)
    assert settled(read_stream(format, [stream])) == carried(events, format)
    encoder = new_encoder(format)
    assert b"".join(encoder.encode([event]) for event in events) == stream


def check_answer(format, events):
    answer = write_answer(format, events)
    sdk.check_answer(format, answer)
    assert joined(settled(read_answer(format, answer))) == joined(carried(events, format, whole=True))
