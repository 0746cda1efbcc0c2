"""Every recorded answer, written in each format and read again (properties 3, 4 and 6 of the design)."""

import orjson
import pytest

from droid2api.formats import BY_NAME
from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Finish, Start
from tests.timing import assert_quick

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


@pytest.mark.parametrize("format", BY_NAME)
def test_many_citations_of_a_long_text(format):
    """Of all of it or of its last word: what is written is not the product of both."""
    for start in (None, 999_990):
        cited = [Citation("https://example.org", "t", start)] * 4000
        events = [
            Start("id", "m"),
            BlockStart("text"),
            Delta("é" * 1_000_000),
            BlockEnd(citations=cited),
            Finish("stop"),
        ]
        for write in (write_stream, write_answer):
            assert_quick(lambda: write(format, events), 1)  # noqa: B023 - used at once
            written = write(format, events)
            assert len(written if type(written) is bytes else orjson.dumps(written)) < 20_000_000


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
