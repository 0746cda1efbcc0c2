"""Junk on the wire is a failed turn or a refused request, never another exception."""

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from droid2api.errors import RequestError, StreamError, UpstreamError
from droid2api.formats import BY_NAME
from droid2api.formats.upstream_error import read_error
from droid2api.hub.history import normalize
from droid2api.wire import sse

from . import sdk
from .bodies import target
from .carried import is_failed, is_for
from .grammar import check_turn
from .recordings import ANSWERS, REQUESTS, STREAMS, each_format
from .strategies import json_values, mutated
from .test_requests import MODELS, check_refusal
from .test_streams import check_failure
from .wire import read_answer, read_stream, write_answer, write_stream

junk = settings(max_examples=50, deadline=None)
bodies = st.sampled_from(REQUESTS).flatmap(
    lambda recording: st.tuples(st.just(recording.format), mutated(recording.json))
)


def check_readable(events):
    """Whatever was read obeys the grammar, and can be written for every client."""
    check_turn(events)
    for format in BY_NAME:
        if is_failed(events):
            check_failure(format, events)
        elif is_for(events, format):
            sdk.check_stream(format, write_stream(format, events))
            sdk.check_answer(format, write_answer(format, events))


@each_format
@junk
@given(stream=st.binary() | st.lists(json_values).map(lambda values: b"".join(map(frame, values))))
def test_random_streams(format, stream):
    check_readable(read_stream(format, [stream]))


def frame(value):
    return b"data: %b\n\n" % orjson.dumps(value)


@each_format
@junk
@given(data=st.data())
def test_recorded_streams_with_junk_in_them(format, data):
    recording = data.draw(
        st.sampled_from([recording for recording in STREAMS if recording.format == format and recording.bytes])
    )
    events = [event.data for event in sdk.wire_events(recording.bytes) if event.data.strip() != b"[DONE]"]
    position = data.draw(st.integers(0, len(events) - 1))
    events[position] = orjson.dumps(data.draw(mutated(orjson.loads(events[position]))))
    check_readable(read_stream(format, [b"data: %b\n\n" % event for event in events] + [b"data: [DONE]\n\n"]))


@each_format
@junk
@given(data=st.data())
def test_answers_with_junk_in_them(format, data):
    recording = data.draw(st.sampled_from([recording for recording in ANSWERS if recording.format == format]))
    body = data.draw(mutated(recording.json) | json_values)
    check_readable(read_answer(format, body))


@junk
@given(body=json_values)
def test_errors(body):
    error = read_error(body)
    assert type(error) is UpstreamError
    assert error.message
    for format in BY_NAME.values():
        orjson.dumps(format.encode_error(error))


@junk
@given(st.lists(st.binary(max_size=20)))
def test_sse(chunks):
    decoder = sse.Decoder(limit=30)
    try:
        for chunk in chunks:
            decoder.feed(chunk)
    except StreamError:
        pass


@each_format
@junk
@given(body=bodies, model=st.sampled_from(MODELS))
def test_requests_with_junk_in_them(format, body, model):
    try:
        request = normalize(BY_NAME[body[0]].decode_request(body[1]))
        orjson.dumps(BY_NAME[format].encode_request(request, target(format, model)).body)
    except RequestError as error:
        check_refusal(error)


@junk
@given(
    body=bodies,
    reasoning=st.sampled_from(["auto", "off", "low", "high"]),
    model=st.sampled_from(MODELS),
)
def test_settings_of_requests_with_junk_in_them(body, reasoning, model):
    """What a client gets wrong is for the upstream to say: the relay lane passes it on."""
    model = target(body[0], model, reasoning=reasoning, fast=True, max_tokens=64000)
    BY_NAME[body[0]].apply_model_settings(body[1], {}, model, "Be kind.")
    orjson.dumps(body[1])
