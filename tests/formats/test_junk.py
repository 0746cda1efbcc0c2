"""Junk on the wire is a failed turn or a refused request, never another exception."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droid2api.errors import RequestError, StreamError, UpstreamError
from droid2api.formats import BY_NAME
from droid2api.formats.upstream_error import read_error
from droid2api.hub.encoded import Encoded
from droid2api.hub.history import normalize
from droid2api.wire import sse

from . import sdk
from .bodies import target
from .carried import is_failed, is_for
from .grammar import check_turn
from .recordings import ANSWERS, REQUESTS, STREAMS, each_format
from .strategies import json_values, mutated
from .test_requests import MODELS, check_refusal
from .test_streams import check_failure, whole_part
from .wire import read_answer, read_stream, write_answer, write_stream


def is_object(body):
    """The gateway takes no other."""
    return type(body) is dict


junk = settings(max_examples=50, deadline=None)
bodies = st.sampled_from(REQUESTS).flatmap(
    lambda recording: st.tuples(st.just(recording.format), mutated(recording.json).filter(is_object))
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
    recording = data.draw(st.sampled_from([recording for recording in STREAMS if recording.format == format]))
    values = [value for value in whole_part(recording.bytes)[0] if value != "[DONE]"]
    if values:  # a recording may be empty
        position = data.draw(st.integers(0, len(values) - 1))
        values[position] = data.draw(mutated(values[position]))
    check_readable(read_stream(format, [*map(frame, values), b"data: [DONE]\n\n"]))


@each_format
@junk
@given(data=st.data())
def test_answers_with_junk_in_them(format, data):
    recording = data.draw(st.sampled_from([recording for recording in ANSWERS if recording.format == format]))
    body = data.draw(mutated(recording.json) | json_values)
    check_readable(read_answer(format, body))


few = st.sampled_from([0, 1, 2, None, "1"])
said = st.sampled_from(["", "a", "b", "ab", "{}", '{"x":1}', '{"x"', ":1}", "<think>", "</think>", " "])
ids = st.sampled_from([None, "", "a", "b", 0])
names = st.sampled_from([None, "", "f", "g"])
reasons = st.sampled_from([None, "stop", "length", "tool_calls", "error", "pause_turn", "end_turn"])


def objects(**fields):
    """Objects with some of these fields, those that are not None."""
    given = st.fixed_dictionaries(fields).map(
        lambda value: {name: each for name, each in value.items() if each is not None}
    )
    return given | given.map(lambda value: dict(list(value.items())[:-1]))


details = st.lists(objects(type=st.just("reasoning.text"), index=few, text=said, signature=said), max_size=2)
calls = st.lists(
    objects(
        index=few,
        id=ids,
        function=objects(name=names, arguments=said),
        custom=st.none() | objects(name=names, input=said),
        extra_content=st.none() | st.just({"google": {"thought_signature": "S"}}),
    ),
    max_size=2,
)
deltas = objects(content=st.none() | said, reasoning=st.none() | said, refusal=st.none() | said, tool_calls=calls)
deltas |= objects(reasoning_details=details, function_call=objects(name=names, arguments=said))
chunks = objects(choices=st.lists(objects(delta=deltas, message=st.none() | deltas, finish_reason=reasons), max_size=2))
parts = st.lists(
    objects(type=st.sampled_from(["output_text", "refusal"]), text=said, refusal=st.none() | said), max_size=3
)
items = objects(
    id=ids,
    type=st.sampled_from([None, "message", "function_call", "custom_tool_call", "reasoning", "web_search_call"]),
    call_id=ids,
    name=names,
    content=parts,
    arguments=said,
    summary=parts,
    phase=st.sampled_from([None, "commentary"]),
    encrypted_content=st.none() | said,
)
events = objects(
    type=st.sampled_from(
        "output_text.delta output_text.done refusal.delta refusal.done content_part.done output_item.added "
        "output_item.done function_call_arguments.delta function_call_arguments.done custom_tool_call_input.delta "
        "custom_tool_call_input.done reasoning_text.delta reasoning_summary_text.delta reasoning_summary_text.done "
        "reasoning_text.done output_text.annotation.added completed incomplete".split()
    ).map("response.{}".format),
    output_index=few,
    item_id=ids,
    content_index=few,
    summary_index=few,
    delta=said,
    text=said,
    refusal=said,
    arguments=said,
    input=said,
    name=names,
    annotation=st.just({"url": "u"}),
    part=parts.map(lambda found: found[0] if found else {}),
    item=items,
    response=objects(id=ids, output=st.lists(items, max_size=3), status=st.sampled_from([None, "completed"])),
)
blocks = objects(
    type=st.sampled_from(["text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", None]),
    id=ids,
    name=names,
    text=said,
    thinking=said,
    data=said,
    input=st.none() | st.just({"x": 1}),
)
message_events = objects(
    type=st.sampled_from(
        "message_start content_block_start content_block_delta content_block_stop message_delta message_stop".split()
    ),
    index=few,
    message=objects(id=ids),
    content_block=blocks,
    delta=objects(
        type=st.sampled_from(
            ["text_delta", "thinking_delta", "input_json_delta", "signature_delta", "citations_delta"]
        ),
        text=said,
        thinking=said,
        partial_json=said,
        signature=said,
        citation=st.just({"url": "u"}),
        stop_reason=reasons,
    ),
)
PIECES = {"chat": chunks, "responses": events, "anthropic": message_events}


@pytest.mark.parametrize("format", PIECES)
@junk
@given(data=st.data())
def test_pieces_of_the_dialects_in_any_order(format, data):
    stream = b"".join(map(frame, data.draw(st.lists(PIECES[format], max_size=12)))) + b"data: [DONE]\n\n"
    check_readable(read_stream(format, [stream]))


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
    BY_NAME[body[0]].apply_model_settings(Encoded(body[1]), {}, model, "Be kind.")
    orjson.dumps(body[1])
