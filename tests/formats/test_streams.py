"""Every recorded stream: split anywhere, in the grammar, cut off anywhere (properties 1, 2 and 5 of the design)."""

import random
import re

import orjson
import pytest

from droid2api.errors import GatewayError
from droid2api.formats import BY_NAME
from droid2api.formats.upstream_error import read_error
from droid2api.hub.events import Failed, Finish

from . import sdk
from .carried import is_failed
from .grammar import check_turn
from .recordings import STREAMS, each_answer, each_error, each_stream
from .wire import read_recording, read_stream, write_answer, write_stream


def test_there_are_recordings_of_each_format():
    assert {recording.format for recording in STREAMS} == set(BY_NAME)


@each_stream
def test_split_into_single_bytes(recording):
    stream = recording.bytes
    single = [stream[position : position + 1] for position in range(len(stream))]
    assert same(read_stream(recording.format, single), read_stream(recording.format, [stream]))


@each_stream
def test_split_at_random_and_with_other_line_ends(recording):
    stream = recording.bytes
    expected = read_stream(recording.format, [stream])
    for newline in (b"\n", b"\r\n", b"\r"):
        mended = stream.replace(b"\r\n", b"\n").replace(b"\n", newline)
        for largest in (3, 40, 2000):
            assert same(read_stream(recording.format, split(mended, largest)), expected)


def split(stream, largest):
    chunks, position = [], 0
    while position < len(stream):
        size = random.randint(1, largest)
        chunks.append(stream[position : position + size])
        position += size
    return chunks


def same(one, other):
    """Equal events; errors are told apart by what they say."""
    if type(one[-1]) is type(other[-1]) is Failed:
        return one[:-1] == other[:-1] and vars(one[-1].error) == vars(other[-1].error)
    return one == other


@each_stream
def test_streams_obey_the_grammar(recording):
    check_turn(read_recording(recording))


@each_answer
def test_answers_obey_the_grammar(recording):
    check_turn(read_recording(recording))


@each_stream
def test_cut_off(recording):
    """At every boundary of an event, and somewhere inside of each."""
    stream = recording.bytes
    for cut in cuts(stream):
        check_cut(recording.format, stream[:cut])


def check_cut(format, part):
    events = read_stream(format, [part])
    check_turn(events)
    values, whole = whole_part(part)
    if not has_end(format, values):
        assert type(events[-1]) is Failed
    elif whole and not any(error_of(value) for value in values):
        assert type(events[-1]) is Finish


def cuts(stream):
    boundaries = [0, *(found.end() for found in re.finditer(rb"\r?\n\r?\n", stream))]
    for start, end in zip(boundaries, [*boundaries[1:], len(stream)], strict=True):
        yield start
        if end > start:
            yield random.randrange(start, end)


def whole_part(part):
    """The JSON of the events that came whole, and whether nothing is left over."""
    values = []
    for event in sdk.wire_events(part):
        try:
            values.append("[DONE]" if event.data.strip() == b"[DONE]" else orjson.loads(event.data))
        except orjson.JSONDecodeError:
            return values, False
    return values, True


def has_end(format, values):
    """Whether the end of a turn is there, as the format itself marks it."""
    if format == "gemini":
        finished = [value.get("candidates", [{}])[0].get("finishReason") for value in values if type(value) is dict]
        return bool({"STOP", "MAX_TOKENS", "SAFETY"}.intersection(finished))
    if format == "chat":
        return any(
            value == "[DONE]" or any(choice.get("finish_reason") for choice in value.get("choices") or ())
            for value in values
        )
    ends = {"message_stop", "response.completed", "response.incomplete"}
    return any(value["type"] in ends for value in values if type(value) is dict)


def error_of(value):
    return type(value) is dict and (value.get("error") or value.get("type") in ("error", "response.failed"))


SUCCESS = (
    b"[DONE]",
    b'"type":"message_stop"',
    b'"type":"response.completed"',
    b'"type":"response.incomplete"',
    b'"finishReason":',
)


@each_stream
def test_failure_reaches_the_client_as_one_error(recording):
    stream = recording.bytes
    places = list(cuts(stream))
    for cut in random.sample(places, min(5, len(places))):
        events = read_stream(recording.format, [stream[:cut]])
        for format in BY_NAME if is_failed(events) else ():
            check_failure(format, events)


def check_failure(format, events):
    error = events[-1].error
    check_failed_stream(format, write_stream(format, events), error)
    with pytest.raises(GatewayError) as raised:
        write_answer(format, events)
    assert raised.value is error


def check_failed_stream(format, stream, error):
    assert not any(end in stream for end in SUCCESS)
    *before, last = sdk.wire_events(stream)
    value = orjson.loads(last.data)
    assert not any(event.event in (b"error", b"response.failed") or b'"error":{' in event.data for event in before)
    match format:
        case "chat":
            assert last.event == b""
            assert value["error"]["message"] == error.message
        case "anthropic":
            assert last.event == b"error"
            assert (value["type"], type(value["error"]["type"])) == ("error", str)
            assert value["error"]["message"]
        case "gemini":
            assert stream.endswith(last.data + b"\r\n")  # and it is no event
            assert not stream.endswith(b"data: " + last.data + b"\r\n")
            assert value["error"]["code"] == error.status
            assert value["error"]["message"] == error.message
        case "responses":
            assert last.event == b"response.failed"
            assert value["response"]["status"] == "failed"
            assert value["response"]["error"]["message"] == error.message


@each_error
def test_error_answers(recording):
    """A recorded error keeps its message, and its status, in every format."""
    error = read_error(recording.json, recording.status)
    assert error.status == recording.status
    assert orjson.dumps(error.message)[1:-1] in recording.bytes
    for format in BY_NAME.values():
        encoded = orjson.loads(orjson.dumps(format.encode_error(error)))
        assert encoded["error"]["message"]
        assert encoded["error"].get("type") or encoded["error"]["status"]
