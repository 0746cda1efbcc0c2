"""What one event says of the end, for whoever passes a stream on unread; and a decoder's usage so far."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droid2api.errors import StreamError
from droid2api.formats import BY_NAME
from droid2api.formats.endings import Ending
from droid2api.hub.events import Failed, Finish, Usage
from droid2api.wire.sse import ServerSentEvent

from . import sdk
from .recordings import OWN, each_answer, each_format, each_stream
from .strategies import json_values
from .wire import TARGET, read_answer, read_recording

ENDING = {name: format.ending for name, format in BY_NAME.items()}


def ending(format, value):
    return ENDING[format](ServerSentEvent(b"", value if type(value) is bytes else orjson.dumps(value)))


def finished(reason, **fields):
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]} | fields


COUNTS = {"prompt_tokens": 3, "completion_tokens": None}
CASES = [
    ("chat", b"[DONE]", True, None),
    ("chat", b" [DONE] ", True, None),
    ("responses", b"[DONE]", True, None),
    ("anthropic", b"[DONE]", True, None),
    ("chat", finished("stop"), True, None),
    ("chat", finished(None), False, None),
    ("chat", finished(""), False, None),
    ("chat", finished(None, usage=COUNTS), False, COUNTS),
    ("chat", finished("stop", usage=COUNTS), True, COUNTS),
    ("chat", {"choices": [], "usage": COUNTS}, True, COUNTS),
    ("chat", {"choices": [], "usage": {}}, False, None),
    ("chat", {"choices": [], "usage": None}, False, None),
    ("chat", finished("stop", x_groq={"usage": COUNTS}), True, COUNTS),
    ("chat", {"choices": [{"index": 0, "delta": {}, "usage": COUNTS}]}, False, COUNTS),
    ("chat", {"choices": [{"delta": {"content": '"finish_reason":"stop"'}}], "error": None}, False, None),
    ("chat", {"object": "chat.completion", **finished("stop", usage=COUNTS)}, True, COUNTS),
    ("responses", {"type": "response.created", "response": {"usage": None}}, False, None),
    ("responses", {"type": "response.output_item.done", "item": {"type": "x"}}, False, None),
    ("responses", {"type": "response.completed", "response": {"usage": COUNTS, "error": None}}, True, COUNTS),
    ("responses", {"type": "response.incomplete", "response": {}}, True, None),
    ("responses", {"object": "response", "status": "completed", "usage": COUNTS, "error": None}, False, COUNTS),
    ("anthropic", {"type": "message_start", "message": {"usage": COUNTS}}, False, COUNTS),
    ("anthropic", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": COUNTS}, False, COUNTS),
    ("anthropic", {"type": "message_stop"}, True, None),
    ("anthropic", {"type": "message_stop", "x": {"type": "error"}}, True, None),
    ("anthropic", {"type": "message", "content": [], "usage": COUNTS}, False, COUNTS),
    ("anthropic", {"type": "ping"}, False, None),
    ("gemini", {"candidates": [{"finishReason": "STOP"}], "usageMetadata": COUNTS}, True, COUNTS),
    ("gemini", {"candidates": [{"content": {"parts": []}}], "usageMetadata": COUNTS}, False, COUNTS),
    ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}}, True, None),
    ("gemini", {"promptFeedback": {}}, False, None),
]


@pytest.mark.parametrize(("format", "value", "done", "usage"), CASES)
def test_regular_events(format, value, done, usage):
    assert ending(format, value) == Ending(done, usage)


ERRORS = [
    ("chat", {"error": {"message": "Overloaded", "code": 503}}, 503),
    ("chat", {"error": "Overloaded"}, 502),
    ("chat", {"choices": [{"index": 0, "delta": {}, "error": {"message": "Overloaded", "code": 529}}]}, 529),
    ("chat", {"object": "error", "message": "Overloaded", "code": 400}, 400),
    ("chat", finished("stop", error={"message": "Overloaded"}), 502),
    ("responses", {"type": "error", "code": "server_error", "message": "Overloaded"}, 500),
    ("responses", {"type": "error", "error": {"type": "server_error", "message": "Overloaded"}}, 500),
    ("responses", {"type": "response.failed", "response": {"error": {"message": "Overloaded"}}}, 502),
    ("anthropic", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529),
    ("gemini", {"candidates": [{"finishReason": "A_WORD", "finishMessage": "Overloaded"}]}, 502),
    ("gemini", {"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}, 503),
]


@pytest.mark.parametrize(("format", "value", "status"), ERRORS)
def test_errors(format, value, status):
    told = ending(format, value)
    assert told.done
    assert (told.error.message, told.error.status) == ("Overloaded", status)


def test_a_cancelled_response_is_an_error_without_words():
    told = ending("responses", {"type": "response.cancelled", "response": {"status": "cancelled"}})
    assert told.done
    assert told.error.message == "The upstream ended its answer with 'cancelled'."


def said_by_responses(kind, **response):
    return {"type": f"response.{kind}", "response": response}


UNKNOWN = [
    ("chat", finished("A_WORD")),
    ("chat", {"object": "chat.completion", **finished("A_WORD")}),
    ("responses", said_by_responses("incomplete", incomplete_details={"reason": "A_WORD"})),
    ("responses", said_by_responses("completed", status="A_WORD")),
    ("responses", {"object": "response", "status": "incomplete", "incomplete_details": {"reason": "A_WORD"}}),
    ("anthropic", {"type": "message_delta", "delta": {"stop_reason": "A_WORD"}}),
    ("anthropic", {"type": "message", "content": [], "stop_reason": "A_WORD"}),
    ("gemini", {"candidates": [{"finishReason": "A_WORD"}]}),
]


@pytest.mark.parametrize(("format", "value"), UNKNOWN)
def test_an_end_that_is_not_known_is_an_error(format, value):
    told = ending(format, value)
    assert told.done
    assert (told.error.message, told.error.code) == ("The upstream ended its answer with 'A_WORD'.", "A_WORD")


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_whole_response_that_failed_is_an_error(status):
    assert f"'{status}'" in ending("responses", {"object": "response", "status": status}).error.message


@pytest.mark.parametrize("status", ["queued", "in_progress", "completed"])
def test_a_whole_response_that_goes_on_is_none(status):
    assert ending("responses", {"object": "response", "status": status}) == Ending()


@each_format
@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"5", b"null", b'[{"type":"error"}]', b"{}", b"\xff", b"[" * 100_000]
)
def test_junk_says_nothing(format, data):
    assert ending(format, data) == Ending()


@each_format
@settings(max_examples=100, deadline=None)
@given(value=json_values)
def test_it_never_raises(format, value):
    assert type(ending(format, value)) is Ending


WORDS = ["choices", "usage", "error", "type", "response", "message", "x_groq", "object", "finish_reason", "delta"]
VALUES = ["error", "message_stop", "response.failed", "response.completed", "message_start", "chat.completion.chunk"]
objects = st.recursive(
    json_values | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=10,
)


@each_format
@settings(max_examples=100, deadline=None)
@given(value=objects)
def test_it_never_raises_for_words_in_the_wrong_places(format, value):
    assert type(ending(format, value)) is Ending


@each_stream
def test_a_recorded_stream_ends_where_its_decoder_ends(recording):
    """The last event says it, the counts of all are those of the decoder, and so is the error."""
    endings = [ENDING[recording.format](event) for event in sdk.wire_events(recording.bytes)]
    last = read_recording(recording)[-1]
    counts = {}
    for told in endings:
        counts |= {name: count for name, count in (told.usage or {}).items() if count is not None}
    errors = [told.error for told in endings if told.error]
    if type(last) is Finish:
        assert endings[-1].done
        assert BY_NAME[recording.format].decode_usage(counts) == last.usage
        assert errors == []
    elif errors:
        assert errors[0].message == last.error.message


@each_answer
def test_the_usage_of_a_recorded_answer(recording):
    told = ENDING[recording.format](ServerSentEvent(b"", recording.bytes))
    if type(read_answer(recording.format, recording.json)[-1]) is Failed or type(recording.json) is list:
        return  # what is no answer, and a stream as an array, which is not relayed
    assert BY_NAME[recording.format].decode_usage(told.usage) == read_answer(recording.format, recording.json)[-1].usage
    assert told.error is None


@pytest.mark.parametrize(
    ("format", "usage"),
    [
        ("chat", None),
        ("responses", None),
        ("anthropic", Usage(33, 1, cache_read=7, cache_write=5)),
        ("gemini", Usage(33, 4, 7)),
    ],
)
def test_a_decoder_knows_the_usage_of_an_answer_that_is_cut(format, usage):
    events = sdk.wire_events((OWN / format / "text.sse").read_bytes())
    decoder = BY_NAME[format].StreamDecoder(TARGET)
    assert decoder.usage is None
    decoder.feed(events[: len(events) // 2])
    assert decoder.usage == usage
    assert type(decoder.close()[-1]) is Failed
    assert decoder.usage == usage


@each_format
def test_a_decoder_knows_the_usage_of_a_whole_answer(format):
    events = sdk.wire_events((OWN / format / "text.sse").read_bytes())
    decoder = BY_NAME[format].StreamDecoder(TARGET)
    finish = (decoder.feed(events) + decoder.close())[-1]
    assert decoder.usage == finish.usage == Usage(33, 12, 7, 0 if format == "gemini" else 5)


@pytest.mark.parametrize(("digits", "following"), [("7", 8), ("9" * 20, 0), ("9" * 5000, 0)])
def test_an_error_goes_on_with_the_number_of_the_last_event(digits, following):
    last = b'data: {"sequence_number": %b}' % digits.encode()
    error = BY_NAME["responses"].encode_stream_error(StreamError("broken"), last)
    assert b'"sequence_number":%d}' % following in error
