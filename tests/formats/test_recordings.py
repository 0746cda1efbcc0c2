"""Every recorded answer is read as a plain reader reads it, which shares no code with the product."""

import orjson
import pytest

from droid2api.formats import BY_NAME

from . import reader_gemini, readers
from .judge import check
from .readers import Answer, Call
from .recordings import ANSWERS, STREAMS, each_answer, each_stream
from .wire import read_answer, read_recording

MEANINGS = readers.MEANINGS
MEANINGS["gemini"] = reader_gemini.MEANINGS


def read_stream(format, stream):
    return (
        reader_gemini.read(reader_gemini.values_of(stream))
        if format == "gemini"
        else readers.read_stream(format, stream)
    )


def read_whole(format, body):
    return read_stream(format, body) if format == "gemini" else readers.read_whole(format, body)


def test_there_is_a_reader_for_each_format():
    assert {*MEANINGS} == {*BY_NAME}


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


# -- whole answers that services were seen to give ------------------------------------------------------------------

CHAT_TOKENS = {"prompt_tokens": 3, "completion_tokens": 2}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
NO_TOKENS = {"input": 0, "output": 0, "cache_read": 0, "cache_write": 0, "reasoning": 0}
TOKENS = NO_TOKENS | {"input": 3, "output": 2}


def chat(message, finish="stop", **more):
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"id": "c", "model": "m", "choices": [choice | more], "usage": CHAT_TOKENS}


def said(finish="stop", usage=TOKENS, **more):
    return Answer(finish=finish, usage=usage, ended=True, **more)


WHOLES = {
    "chat": (0, "chat", chat({"content": "hi"}), said(text="hi")),
    "empty delta beside the message": (
        32,
        "chat",
        chat({"content": "hi"}, delta={"role": "assistant", "content": ""}),
        said(text="hi"),
    ),
    "no finish reason": (33, "chat", chat({"content": "hi"}, finish=None), said("", text="hi")),
    "no finish reason beside a call": (
        33,
        "chat",
        chat({"content": None, "tool_calls": [CALL]}, finish=None),
        said("", calls=[Call("a", "f", {"x": 1})]),
    ),
    "nothing said": (0, "chat", chat({"content": ""}, finish="length"), said("length")),
    "legacy call": (
        4,
        "chat",
        chat({"content": None, "function_call": CALL["function"]}, finish="function_call"),
        said("function_call", calls=[Call("", "f", {"x": 1})]),
    ),
    "parallel calls without ids or indexes": (
        4,
        "chat",
        chat({"tool_calls": [{"function": {"name": name, "arguments": "{}"}} for name in "fg"]}, finish="tool_calls"),
        said("tool_calls", calls=[Call("", "f", {}), Call("", "g", {})]),
    ),
    "think tags": (
        0,
        "chat",
        chat({"content": "<think>\nhm</think>\n\nhi"}),
        said(text="hi", reasoning=["\nhm"]),
    ),
    "a chat error": (
        0,
        "chat",
        {"error": {"message": "Boom", "code": 429}},
        Answer(error="Boom"),
    ),
    "an error that is the object": (
        2,
        "chat",
        {"object": "error", "message": "Boom", "code": 400},
        Answer(error="Boom"),
    ),
    "an error in a choice": (2, "chat", chat({}, error={"message": "Boom"}), Answer(error="Boom")),
    "a finish that is a failure": (
        1,
        "chat",
        chat({"content": "h"}, finish="network_error"),
        said("network_error", text="h", error=""),
    ),
    "no choices": (0, "chat", {"id": "c", "choices": [], "usage": CHAT_TOKENS}, Answer(usage=TOKENS)),
    "an anthropic error": (
        2,
        "anthropic",
        {"type": "error", "error": {"type": "overloaded_error", "message": "Boom"}},
        Answer(error="Boom"),
    ),
    "no stop reason": (
        0,
        "anthropic",
        {"type": "message", "content": [{"type": "text", "text": "hi"}], "stop_reason": None},
        said("", NO_TOKENS, text="hi"),
    ),
    "no status": (
        0,
        "responses",
        {"output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]},
        said("completed", NO_TOKENS, text="hi"),
    ),
    "a failed response": (
        0,
        "responses",
        {"status": "failed", "error": {"code": "server_error", "message": "Boom"}, "output": []},
        Answer(error="Boom"),
    ),
    "a response that goes on": (0, "responses", {"status": "in_progress", "output": []}, Answer(error="")),
    "raw reasoning": (
        0,
        "responses",
        {"output": [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}]},
        said("completed", NO_TOKENS, raw_reasoning=["hm"]),
    ),
}


@pytest.mark.parametrize("name", WHOLES)
def test_readers_of_whole_answers(name):
    _, format, body, answer = WHOLES[name]
    assert read_whole(format, orjson.dumps(body)) == answer


@pytest.mark.parametrize("name", WHOLES)
def test_whole_answers_of_dialects(name):
    _, format, body, answer = WHOLES[name]
    check(format, answer, read_answer(format, body))
