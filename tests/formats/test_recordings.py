"""Every recorded answer is read as a plain reader reads it, which shares no code with the product."""

import orjson
import pytest

from droid2api.formats import FORMATS

from .judge import check
from .mending import marks
from .readers import FAILURES, MEANINGS, Answer, Call, read_stream, read_whole
from .recordings import ANSWERS, STREAMS, each_answer, each_stream
from .wire import read_answer, read_recording
from .wire import read_stream as decode_stream


def test_there_is_a_reader_for_each_format():
    assert set(MEANINGS) == set(FORMATS)


@pytest.mark.parametrize("format", MEANINGS)
def test_the_recordings_say_something(format):
    """So that readers which find nothing are not taken for decoders that find the same."""
    answers = [read_stream(format, recording.bytes) for recording in STREAMS if recording.format == format]
    for name in ("text", "reasoning", "calls", "finish", "ended"):
        assert any(getattr(answer, name) for answer in answers), name
    wholes = [read_whole(format, recording.bytes) for recording in ANSWERS if recording.format == format]
    for name in ("text", "finish", "ended"):
        assert any(getattr(answer, name) for answer in wholes), name
    assert any(answer.usage["input"] and answer.usage["output"] for answer in answers + wholes)


@each_stream
def test_streams(recording):
    answer = read_stream(recording.format, recording.bytes)
    check(recording.format, answer, read_recording(recording), may_fail=_is_unclear(recording.format, answer))


@each_answer
def test_whole_answers(recording):
    answer = read_whole(recording.format, recording.bytes)
    unknown = bool(answer.finish) and answer.meaning(recording.format) is None
    check(recording.format, answer, read_recording(recording), may_fail=unknown)


def _is_unclear(format: str, answer: Answer) -> bool:
    """Whether the end is there but no word that says which: a failure is as right as the whole content."""
    return answer.ended and answer.meaning(format) is None
