"""What real services send beside the book: each kind with the right values, streamed and whole, in each format.

The kinds have numbers: 1 finish words, 2 errors inside of a 200, 3 every place of a datum, 4 calls that look alike,
8 paused turns, 9 items of a cut answer, 32 one answer in two places, 33 whole answers without an end.
"""

import orjson
import pytest

from droid2api.errors import UpstreamError
from droid2api.formats import BY_NAME
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Failed, Finish, Start, Usage
from droid2api.hub.turn import fold
from droid2api.wire.sse import ServerSentEvent

from . import sdk
from .recordings import each_format
from .wire import read_answer, read_stream, write_answer, write_stream

# -- how a wire says little things ----------------------------------------------------------------------------------


def read(format, *values):
    return read_stream(
        format, [b"data: %b\n\n" % (value if type(value) is bytes else orjson.dumps(value)) for value in values]
    )


def chunk(finish=None, **delta):
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def chat_stream(finish, *said):
    return read("chat", *(chunk(content=text) for text in said), chunk(finish), b"[DONE]")


def chat_whole(finish, *said):
    message = {"role": "assistant", "content": "".join(said)}
    return read_answer("chat", {"choices": [{"index": 0, "message": message, "finish_reason": finish}]})


def anthropic_values(reason, said):
    yield {"type": "message_start", "message": {"id": "m", "model": "c"}}
    for index, text in enumerate(said):
        yield {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": text}}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": {"stop_reason": reason}}
    yield {"type": "message_stop"}


def anthropic_stream(reason, *said):
    return read("anthropic", *anthropic_values(reason, said))


def anthropic_whole(reason, *said):
    content = [{"type": "text", "text": text} for text in said]
    return read_answer("anthropic", {"type": "message", "content": content, "stop_reason": reason})


def responses_end(reason):
    if reason in (None, "completed"):
        return {"status": "completed"}
    return {"status": "incomplete", "incomplete_details": {"reason": reason}}


def responses_output(said):
    return [{"type": "message", "content": [{"type": "output_text", "text": text}]} for text in said]


def responses_stream(reason, *said):
    end = responses_end(reason)
    events = [
        {"type": "response.output_item.done", "output_index": index, "item": item}
        for index, item in enumerate(responses_output(said))
    ]
    return read("responses", *events, {"type": f"response.{end['status']}", "response": end})


def responses_whole(reason, *said):
    return read_answer("responses", {"output": responses_output(said)} | responses_end(reason))


WAYS = {
    "chat": (chat_stream, chat_whole),
    "anthropic": (anthropic_stream, anthropic_whole),
    "responses": (responses_stream, responses_whole),
}
WAY = [(format, way) for format, ways in WAYS.items() for way in ways]
ways = {"argvalues": [way for _, way in WAY], "ids": [f"{way.__name__}" for _, way in WAY]}


def text_of(events):
    return "".join(block.text for block in fold(events).blocks)


def calls_of(events):
    return [(block.start.id, block.start.name, block.text) for block in fold(events).blocks]


# -- 1: finish words ------------------------------------------------------------------------------------------------

FAILURES = ["insufficient_system_resource", "network_error", "error", "abort", "unheard_of", "ERROR", "cancelled"]


@pytest.mark.parametrize("word", FAILURES)
@pytest.mark.parametrize("way", **ways)
def test_an_unknown_end_is_a_failure_with_its_word(way, word):
    failed = way(word, "ok")[-1]
    assert type(failed) is Failed
    assert (failed.error.message, failed.error.status) == (f"The upstream ended its answer with {word!r}.", 502)
    assert failed.error.code == word


REASONS = [
    ("length", "model_context_window_exceeded"),
    ("length", "model_length"),
    ("length", "max_tokens"),
    ("length", "MAX_TOKENS"),
    ("content_filter", "sensitive"),
    ("content_filter", "content_filter"),
    ("content_filter", "refusal"),
    ("stop", "stop"),
    ("stop", "end_turn"),
    ("stop", "eos"),
    ("stop", "stop_sequence"),
    ("stop", "tool_calls"),
]


@pytest.mark.parametrize(("reason", "word"), REASONS)
@pytest.mark.parametrize("way", [chat_stream, chat_whole, anthropic_stream, anthropic_whole])
def test_known_words(way, word, reason):
    finish = way(word, "ok")[-1]
    assert (finish.reason, finish.raw) == (reason, word)


@pytest.mark.parametrize(
    ("reason", "word"),
    [("length", "max_output_tokens"), ("content_filter", "content_filter"), ("length", "max_tool_calls")],
)
@pytest.mark.parametrize("way", [responses_stream, responses_whole])
def test_reasons_of_an_incomplete_response(way, word, reason):
    assert way(word, "ok")[-1].reason == reason


def test_an_incomplete_response_without_a_reason_is_cut():
    end = {"type": "response.incomplete", "response": {"status": "incomplete"}}
    assert read("responses", end)[-1].reason == "length"
    assert read_answer("responses", {"status": "incomplete", "output": []})[-1].reason == "length"


@pytest.mark.parametrize("status", ["in_progress", "queued", "cancelled", "failed", "unheard_of"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_response_of_another_status_is_a_failure(status, whole):
    """Whatever the event at the end of a stream is called."""
    body = {"status": status, "output": responses_output(["ok"])}
    end = {"type": "response.completed", "response": body}
    failed = (read_answer("responses", body) if whole else read("responses", end))[-1]
    assert failed.error.message == f"The upstream ended its answer with {status!r}."


# -- 2: errors inside of a 200 --------------------------------------------------------------------------------------

SHAPES = [
    ({"object": "error", "message": "boom", "code": 400}, 400, "400", "boom"),
    ({"object": "error", "message": "boom", "type": "BadRequestError", "param": None, "code": 400}, 400, "400", "boom"),
    (
        {"error_type": "context_length_exceeded", "error_message": "boom"},
        400,
        "context_length_exceeded",
        "boom",
    ),
    ({"error": {"message": "boom", "code": "server_error"}}, 500, "server_error", "boom"),
    ({"error": "boom"}, 502, None, "boom"),
    ({"error": True, "message": "boom"}, 502, None, "boom"),
    ({"error": [{"message": "boom"}]}, 502, None, "boom"),
    ({"detail": "boom"}, 502, None, "boom"),
    ({"detail": [{"loc": ["body", "x"], "msg": "boom"}]}, 502, None, "body.x: boom"),
    ({"code": 500, "msg": "boom", "success": False}, 500, "500", "boom"),
    ({"base_resp": {"status_code": 1004, "status_msg": "boom"}}, 502, "1004", "boom"),
]


@pytest.mark.parametrize("format", ["chat", "responses", "anthropic"])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(("value", "status", "code", "message"), SHAPES)
def test_an_error_in_a_stream(format, begun, value, status, code, message):
    first = {
        "chat": [chunk(content="ok")],
        "responses": [{"type": "response.created", "response": {"id": "r", "model": "m"}}],
        "anthropic": [{"type": "message_start", "message": {"id": "m", "model": "c"}}],
    }
    failed = read(format, *(first[format] if begun else ()), value, b"[DONE]")[-1]
    assert type(failed) is Failed
    assert (failed.error.message, failed.error.status, failed.error.code) == (message, status, code)


@each_format
@pytest.mark.parametrize(("value", "status", "code", "message"), SHAPES)
def test_an_error_for_a_whole_answer(format, value, status, code, message):
    (_, failed) = read_answer(format, value)
    assert (failed.error.message, failed.error.status, failed.error.code) == (message, status, code)


@pytest.mark.parametrize("whole", [False, True])
def test_an_error_beside_a_choice(whole):
    body = chunk("stop", content="ok") | {"error": {"message": "boom"}}
    body["choices"][0]["message"] = {"content": "ok"}
    events = read_answer("chat", body) if whole else read("chat", body, b"[DONE]")
    assert [type(event) for event in events] == [Start, Failed]


@pytest.mark.parametrize("whole", [False, True])
def test_an_error_of_a_choice(whole):
    choice = {"index": 0, "finish_reason": "error", "error": {"message": "boom", "code": 429}}
    body = {"id": "c", "choices": [choice | {"message" if whole else "delta": {"content": "ok"}}]}
    failed = (read_answer("chat", body) if whole else read("chat", body, b"[DONE]"))[-1]
    assert (failed.error.message, failed.error.status) == ("boom", 429)


@pytest.mark.parametrize(
    "events",
    [
        lambda: read("chat", b"[DONE]"),
        lambda: read("chat", chunk(role="assistant", content=""), b"[DONE]"),
        lambda: read("anthropic", *anthropic_values(None, [])),
    ],
)
def test_an_end_before_anything_was_said(events):
    assert events()[-1].error.message == "The upstream ended its answer before it said anything."


def answer_of(format, kind, end):
    """A whole answer with one part of a kind that no client is given, and the word for its end."""
    match format:
        case "anthropic":
            return {"content": [{"type": kind}], "stop_reason": end}
        case "responses":
            incomplete = {"status": "incomplete", "incomplete_details": {"reason": end}}
            return {"output": [{"type": kind, "id": "i"}]} | (incomplete if end == "max_tokens" else {"status": end})
        case "gemini":
            return {"candidates": [{"content": {"parts": [{kind: {"x": 1}}]}, "finishReason": end}]}


LEFT_OUT = [
    ("anthropic", "hologram", "end_turn"),
    ("responses", "computer_call", "completed"),
    ("responses", "image_generation_call", "completed"),
    ("responses", "hologram", "completed"),
    ("gemini", "hologram", "STOP"),
]


@pytest.mark.parametrize(("format", "kind", "end"), LEFT_OUT)
def test_an_answer_of_nothing_that_is_known_is_no_success(format, kind, end):
    failed = read_answer(format, answer_of(format, kind, end))[-1]
    assert failed.error.message == f"The upstream's answer has nothing but {kind!r}."
    cut = read_answer(format, answer_of(format, kind, "max_tokens"))[-1]
    assert cut.reason == "length"


@pytest.mark.parametrize(
    ("format", "kind", "end"),
    [
        ("anthropic", "server_tool_use", "end_turn"),
        ("anthropic", "web_search_tool_result", "end_turn"),
        ("responses", "web_search_call", "completed"),
        ("gemini", "executableCode", "STOP"),
    ],
)
def test_a_search_without_a_word_is_an_empty_answer(format, kind, end):
    assert read_answer(format, answer_of(format, kind, end))[-1].reason == "stop"


def test_what_is_not_known_beside_a_text_is_left_out():
    body = {"content": [{"type": "hologram"}, {"type": "text", "text": "Hi"}], "stop_reason": "end_turn"}
    assert fold(read_answer("anthropic", body)).blocks[0].text == "Hi"


UNKNOWN = {"ok": False, "why": "boom"}
SAID_UNKNOWN = '{"ok":false,"why":"boom"}'


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("format", "value", "message"),
    [
        ("chat", UNKNOWN, f"The upstream answered with an error ({SAID_UNKNOWN})."),
        ("responses", UNKNOWN, f"The upstream sent an event without a type: {SAID_UNKNOWN}."),
        ("anthropic", UNKNOWN, f"The upstream sent an event without a type: {SAID_UNKNOWN}."),
        ("chat", {"type": "exception", "message": "boom"}, "boom"),
        ("responses", {"type": "exception", "message": "boom"}, "boom"),
        ("anthropic", {"type": "exception", "message": "boom"}, "boom"),
    ],
)
def test_an_error_in_a_shape_that_nobody_knows(format, value, message, begun):
    first = {
        "chat": [chunk(content="ok")],
        "responses": [{"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "ok"}],
        "anthropic": list(anthropic_values(None, ["ok"]))[:2],
    }
    failed = read(format, *(first[format] if begun else ()), value, b"[DONE]")[-1]
    assert failed.error.message == message


@pytest.mark.parametrize("format", ["chat", "responses", "anthropic", "gemini"])
@pytest.mark.parametrize("body", [UNKNOWN, {"err": {"msg": "boom"}}, {"fault": {"faultstring": "boom"}, "id": "x"}])
def test_a_whole_answer_in_a_shape_that_nobody_knows(format, body):
    told = orjson.dumps(body).decode()
    assert read_answer(format, body)[-1].error.message == f"The upstream answered with an error ({told})."


@pytest.mark.parametrize("begun", [False, True])
def test_an_error_of_a_gemini_stream_in_a_shape_that_nobody_knows(begun):
    first = {"candidates": [{"content": {"parts": [{"text": "ok"}]}}]}
    failed = read("gemini", *([first] if begun else []), UNKNOWN)[-1]
    assert failed.error.message == f"The upstream answered with an error ({SAID_UNKNOWN})."
    end = {"candidates": [{"content": {"parts": [{"text": "ok"}]}, "finishReason": "STOP"}]}
    assert read("gemini", UNKNOWN, end)[-1] == Finish("stop", "STOP")


HALF = '{"x":'
HALF_CALLS = {
    "chat": [chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": HALF}}]), b"[DONE]"],
    "anthropic": [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "a", "name": "f"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": HALF}},
        {"type": "message_stop"},
    ],
}


@pytest.mark.parametrize("format", HALF_CALLS)
@pytest.mark.parametrize(("whole", "failed"), [(HALF, True), ('{"x":1}', False), ("", False)])
def test_an_end_without_a_reason_in_the_middle_of_a_call(format, whole, failed):
    values = orjson.loads(orjson.dumps([value for value in HALF_CALLS[format] if type(value) is dict]))
    values = orjson.loads(orjson.dumps(values).replace(orjson.dumps(HALF), orjson.dumps(whole)))
    last = read(format, *values, *([b"[DONE]"] if format == "chat" else []))[-1]
    assert (type(last) is Failed) is failed
    if failed:
        assert last.error.message == "The upstream ended its answer in the middle of a tool call."


def test_what_is_no_chunk_does_not_fail_a_whole_stream():
    assert read("chat", {"type": "ping"}, chunk("stop", content="ok"), UNKNOWN, b"[DONE]")[-1] == Finish("stop", "stop")


def test_a_regular_end_may_follow_on_nothing():
    """A model may have nothing to say, when it says so."""
    assert chat_stream("stop")[-1] == Finish("stop", "stop")
    assert anthropic_stream("end_turn")[-1] == Finish("stop", "end_turn")
    assert responses_stream("completed")[-1] == Finish("stop", "completed")


@each_format
@pytest.mark.parametrize("body", [{}, {"id": "x"}, {"model": "m", "usage": {}}])
def test_a_whole_answer_without_a_message(format, body):
    assert read_answer(format, body)[-1].error.message == "The upstream's answer has no message."


# -- 3: every place of a datum --------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("said", "blocks"),
    [
        ({"text": "ok"}, [("text", "ok")]),
        ({"text": "ok", "delta": None, "message": None}, [("text", "ok")]),
        ({"text": "no", "delta": {"content": "ok"}}, [("text", "ok")]),
        (
            {"delta": {"content": [{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": "ok"}]}},
            [("reasoning", "hm"), ("text", "ok")],
        ),
        ({"delta": {"content": [{"type": "refusal", "refusal": "no"}]}}, [("refusal", "no")]),
    ],
)
def test_every_place_of_a_chat_answer(said, blocks, whole):
    body = {"choices": [{"index": 0, "finish_reason": "stop", **said}]}
    turn = fold(read_answer("chat", body) if whole else read("chat", body, b"[DONE]"))
    assert [(block.start.kind, block.text) for block in turn.blocks] == blocks


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "delta",
    [
        {"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
        {"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
        {"audio": {"id": "a", "data": "AA", "transcript": "ok"}},
    ],
)
def test_media_of_a_chat_answer_are_a_failure(delta, whole):
    """As Gemini's: a success would be one with less."""
    choice = {"index": 0, "finish_reason": "stop", "message" if whole else "delta": {"content": "ok"} | delta}
    body = {"choices": [choice]}
    failed = (read_answer("chat", body) if whole else read("chat", body, b"[DONE]"))[-1]
    assert "a picture or a file in its answer, which cannot be passed on" in failed.error.message


def test_no_media_are_none():
    body = {"choices": [{"index": 0, "finish_reason": "stop", "delta": {"content": "ok", "images": [], "audio": None}}]}
    assert text_of(read("chat", body, b"[DONE]")) == "ok"


def test_usage_that_comes_in_pieces():
    first = chunk(content="ok") | {"usage": {"prompt_tokens": 5, "completion_tokens": 1}}
    last = chunk("stop") | {"usage": {"prompt_tokens": None, "completion_tokens": 7}}
    assert read("chat", first, last, b"[DONE]")[-1].usage == Usage(5, 7)


@pytest.mark.parametrize(
    "values",
    [
        [{"type": "message_delta", "stop_reason": "max_tokens"}, {"type": "message_stop"}],
        [{"type": "message_delta", "delta": {}}, {"type": "message_stop", "stop_reason": "max_tokens"}],
        [
            {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "stop_reason": None},
            {"type": "message_stop"},
        ],
    ],
)
def test_every_place_of_an_anthropic_reason(values):
    assert read("anthropic", *list(anthropic_values(None, ["ok"]))[:-2], *values)[-1].reason == "length"


def test_what_only_the_beginning_of_a_responses_item_says():
    message = {"type": "message", "content": [{"type": "output_text", "text": "ok"}]}
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    begun = [event("output_item.added", output_index=i, item=item) for i, item in enumerate((thought, message))]
    turn = fold(read("responses", *begun, event("completed", response={"status": "completed"})))
    assert [block.text for block in turn.blocks] == ["hm", "ok"]
    values = [begun[1] | {"output_index": 0}, event("output_text.delta", output_index=0, content_index=0, delta="ok")]
    assert text_of(read("responses", *values, event("completed", response={"status": "completed"}))) == "ok"


@pytest.mark.parametrize("output", [None, []])
def test_the_text_of_a_response_without_items(output):
    body = {"status": "completed", "output": output, "output_text": "ok"}
    assert text_of(read_answer("responses", body)) == "ok"


def test_usage_of_a_choice():
    value = chunk("stop", content="ok")
    value["choices"][0]["usage"] = {"prompt_tokens": 3, "completion_tokens": 2}
    assert read("chat", value)[-1].usage == Usage(3, 2)


def test_a_message_instead_of_deltas():
    message = {"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}
    for choice in (message, message | {"delta": None}, message | {"delta": {}}):
        assert text_of(read("chat", {"choices": [choice]}, b"[DONE]")) == "ok"


def event(kind, **fields):
    return {"type": f"response.{kind}", **fields}


def added(**item):
    return event("output_item.added", item=item)


def done(**item):
    return event("output_item.done", item=item)


FUNCTION = {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f"}
COMPLETED = event("completed", response={"status": "completed"})
PLACES = {
    "text of a part's end": [
        [event("output_text.done", output_index=0, content_index=0, text="ok")],
        [event("content_part.done", output_index=0, content_index=0, part={"type": "output_text", "text": "ok"})],
        [event("output_text.delta", output_index=0, delta="o"), event("output_text.done", output_index=0, text="ok")],
    ],
    "arguments of a call's end": [
        [
            event("output_item.added", output_index=0, item=FUNCTION),
            event("function_call_arguments.done", output_index=0, arguments='{"x":1}'),
        ],
        [
            event("output_item.added", output_index=0, item=FUNCTION),
            event("function_call_arguments.delta", output_index=0, delta='{"x"'),
            event("function_call_arguments.done", output_index=0, arguments='{"x":1}'),
        ],
        [event("output_item.added", output_index=0, item=FUNCTION | {"arguments": '{"x":1}'})],
        [event("output_item.added", output_index=0, item=FUNCTION), done(**FUNCTION, arguments={"x": 1})],
        [
            event("function_call_arguments.delta", output_index=0, delta='{"x":1}'),
            event("output_item.done", output_index=0, item=FUNCTION),
        ],
    ],
    "no output_index": [
        [
            added(**FUNCTION),
            event("function_call_arguments.delta", item_id="fc_1", delta='{"x":'),
            event("function_call_arguments.delta", item_id="fc_1", delta="1}"),
            done(**FUNCTION, arguments='{"x":1}'),
        ],
        [
            added(**FUNCTION),
            event("function_call_arguments.delta", delta='{"x":1}'),
            done(type="function_call", call_id="a", name="f", arguments='{"x":1}'),
        ],
        [done(**FUNCTION, arguments='{"x":1}')],
    ],
    "an item without a type": [
        [done(call_id="a", name="f", arguments='{"x":1}')],
    ],
    "items of the end": [
        [event("completed", response={"output": [FUNCTION | {"arguments": '{"x":1}'}]})],
        [added(**FUNCTION), event("completed", response={"output": [FUNCTION | {"arguments": '{"x":1}'}]})],
        [
            event("output_item.added", output_index=0, item={"type": "reasoning", "id": "rs"}),
            event("output_item.done", output_index=0, item={"type": "reasoning", "id": "rs"}),
            event("completed", response={"output": [FUNCTION | {"arguments": '{"x":1}'}]}),
        ],
    ],
}


@pytest.mark.parametrize("values", [values for rows in PLACES.values() for values in rows])
def test_every_place_in_a_responses_stream(values):
    blocks = [block for block in fold(read("responses", *values, COMPLETED)).blocks if block.start.kind != "reasoning"]
    (block,) = blocks
    assert (block.start.kind, block.text) in (("text", "ok"), ("tool_call", '{"x":1}'))
    assert block.start.kind == "text" or (block.start.id, block.start.name) == ("a", "f")


def test_two_items_without_an_output_index():
    values = [
        added(type="message", id="msg"),
        event("output_text.delta", item_id="msg", content_index=0, delta="ok"),
        done(type="message", id="msg", content=[{"type": "output_text", "text": "ok"}]),
        added(**FUNCTION),
        added(**FUNCTION | {"id": "fc_2", "call_id": "b"}),
        event("function_call_arguments.delta", item_id="fc_2", delta='{"b":1}'),
        event("function_call_arguments.delta", item_id="fc_1", delta='{"a":1}'),
        done(**FUNCTION | {"id": "fc_2", "call_id": "b"}, arguments='{"b":1}'),
        done(**FUNCTION, arguments='{"a":1}'),
    ]
    events = read("responses", *values, COMPLETED)
    assert calls_of(events) == [("", "", "ok"), ("a", "f", '{"a":1}'), ("b", "f", '{"b":1}')]


def test_reasoning_of_a_parts_end():
    texts = [
        event("reasoning_summary_text.done", output_index=0, summary_index=n, text=text) for n, text in enumerate("ab")
    ]
    (block,) = fold(read("responses", *texts, COMPLETED)).blocks
    assert (block.start.kind, block.text) == ("reasoning", "a\n\nb")


def test_an_anthropic_stream_without_indexes():
    values = [*anthropic_values("end_turn", ["o", "k"])]
    for value in values:
        value.pop("index", None)
    assert text_of(read("anthropic", *values)) == "ok"


def test_an_anthropic_index_that_is_used_again():
    server = {"type": "server_tool_use", "id": "s", "name": "web_search"}
    values = [*anthropic_values("end_turn", ["o", "k"])]
    values[1:1] = [
        {"type": "content_block_start", "index": 0, "content_block": server},
        {"type": "content_block_stop", "index": 0},
    ]
    assert text_of(read("anthropic", *[value | ({"index": 0} if "index" in value else {}) for value in values])) == "ok"


def test_an_anthropic_block_whose_end_is_forgotten():
    values = [value for value in anthropic_values("end_turn", ["o", "k"]) if value["type"] != "content_block_stop"]
    assert text_of(read("anthropic", *values)) == "ok"
    assert text_of(read("anthropic", *[v | ({"index": 0} if "index" in v else {}) for v in values])) == "ok"


def test_an_anthropic_block_without_a_type():
    values = [*anthropic_values("end_turn", ["ok"])]
    del values[1]["content_block"]["type"]
    assert text_of(read("anthropic", *values)) == "ok"


def test_anthropic_content_that_is_a_text():
    assert text_of(read_answer("anthropic", {"content": "ok", "stop_reason": "end_turn"})) == "ok"


# -- 4: calls that look alike ---------------------------------------------------------------------------------------


def f(name=None, arguments=None, **fields):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {"function": function} | fields


X, Y = '{"x":1}', '{"y":2}'
ALIKE = {
    "a new name after whole JSON": (
        [[f("f", X, index=0)], [f("g", Y, index=0)]],
        [("f", X), ("g", Y)],
    ),
    "the same name after whole JSON": (
        [[f("f", X, index=0)], [f("f", Y, index=0)]],
        [("f", X), ("f", Y)],
    ),
    "in fragments": (
        [[f("f", '{"x"', index=0)], [f(None, ":1}", index=0)], [f("g", "", index=0)], [f(None, Y, index=0)]],
        [("f", X), ("g", Y)],
    ),
    "in one chunk": ([[f("f", X, index=0), f("g", Y, index=0)]], [("f", X), ("g", Y)]),
    "in one chunk, without an index": ([[f("f", X), f("g", Y), f("f", X)]], [("f", X), ("g", Y), ("f", X)]),
    "calls without arguments": ([[f("f", "{}", index=0)], [f("g", "{}", index=0)]], [("f", "{}"), ("g", "{}")]),
    "nothing, then another": ([[f("f", "", index=0)], [f("g", "", index=0)]], [("f", "{}"), ("g", "{}")]),
    "brackets in texts": (
        [[f("f", '{"x":"}', index=0)], [f("f", '\\\\\\"{"}', index=0)], [f("g", Y, index=0)]],
        [("f", '{"x":"}\\\\\\"{"}'), ("g", Y)],
    ),
    "a placeholder": ([[f("f", "{}", index=0, id="a")], [f(None, X, index=0)]], [("f", X)]),
    "null is one too": (
        [[f("f", "null", index=0, id="a")], [f(None, X, index=0)], [f("g", "null", index=1, id="b")]],
        [("f", X), ("g", "{}")],
    ),
    "an empty text is one": ([[f("f", '""', index=0, id="a")], [f(None, X, index=0)]], [("f", X)]),
    "an empty list is one": ([[f("f", "[]", index=0, id="a")], [f(None, X, index=0)]], [("f", X)]),
    "one index for all, told apart by their ids": (
        [
            [f("f", "", index=0, id="a"), f("g", "", index=0, id="b")],
            [f(None, X[:3], index=0, id="a"), f(None, Y[:3], index=0, id="b")],
            [f(None, Y[3:], index=0, id="b"), f(None, X[3:], index=0, id="a")],
        ],
        [("f", X), ("g", Y)],
    ),
    "a placeholder in fragments": (
        [[f("f", "{}", index=0, id="a")], [f(None, '{"x"', index=0)], [f(None, ":1}", index=0)]],
        [("f", X)],
    ),
    "a placeholder, then the name again": (
        [[f("f", "{}", index=0, id="a")], [f("f", X, index=0, id="a")]],
        [("f", X)],
    ),
    "placeholders of two calls": (
        [[f("f", "{}", index=0, id="a"), f("g", "{}", index=1, id="b")], [f(None, X, index=0)], [f(None, Y, index=1)]],
        [("f", X), ("g", Y)],
    ),
    "the name in each fragment": (
        [[f("f", "", index=0)], [f("f", '{"x"', index=0)], [f("f", ":1}", index=0)], [f("f", "", index=0)]],
        [("f", X)],
    ),
    "said again at its end": ([[f("f", X, index=0, id="a")], [f("f", X, index=0, id="a")]], [("f", X)]),
    "one id for all": ([[f("f", X, id="call_0")], [f("f", Y, id="call_0")]], [("f", X), ("f", Y)]),
    "the id in each fragment, without an index": (
        [[f("f", '{"x"', id="a")], [f("g", '{"y"', id="b")], [f(None, ":1}", id="a")], [f(None, ":2}", id="b")]],
        [("f", X), ("g", Y)],
    ),
    "an index that is text": ([[f("f", '{"x"', index="0")], [f(None, ":1}", index="0")]], [("f", X)]),
    "without a function": ([[{"index": 0, "id": "a", "name": "f", "arguments": X}]], [("f", X)]),
}


@pytest.mark.parametrize("name", ALIKE)
def test_calls_that_look_alike(name):
    chunks, calls = ALIKE[name]
    events = read("chat", *[chunk(tool_calls=calls) for calls in chunks], chunk("tool_calls"), b"[DONE]")
    assert [call[1:] for call in calls_of(events)] == calls


def test_whole_answers_have_a_call_in_each_entry():
    calls = [f("f", "{}"), f("f", "{}"), f("f", '{"x":', id="a"), f("f", X, id="a", index=0)]
    body = {"choices": [{"message": {"tool_calls": calls}, "finish_reason": "length"}]}
    assert [call[1:] for call in calls_of(read_answer("chat", body))] == [
        ("f", "{}"),
        ("f", "{}"),
        ("f", '{"x":'),
        ("f", X),
    ]


def test_a_legacy_function_call():
    deltas = [{"name": "f", "arguments": '{"x"'}, {"arguments": ":1}"}]
    events = read("chat", *[chunk(function_call=delta) for delta in deltas], chunk("function_call"))
    body = {
        "choices": [{"message": {"function_call": {"name": "f", "arguments": X}}, "finish_reason": "function_call"}]
    }
    for each in (events, read_answer("chat", body)):
        assert [call[1:] for call in calls_of(each)] == [("f", X)]
        assert each[-1].reason == "tool_calls"


@pytest.mark.parametrize("deltas", [[], ['{"x":1}'], ['{"x"', ":1}"]])
def test_anthropic_input_that_comes_twice(deltas):
    values = [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        },
        *[
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": delta}}
            for delta in ["", *deltas]
        ],
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop"},
    ]
    assert calls_of(read("anthropic", *values)) == [("a", "f", X)]


# -- 8: a paused turn -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["chat", "responses", "anthropic"])
@pytest.mark.parametrize("way", [anthropic_stream, anthropic_whole])
def test_a_paused_turn_is_cut(format, way):
    events = way("pause_turn", "ok")
    assert (events[-1].reason, events[-1].raw) == ("length", "pause_turn")
    answer = write_answer(format, events)
    word = {
        "chat": lambda: answer["choices"][0]["finish_reason"],
        "responses": lambda: answer["status"],
        "anthropic": lambda: answer["stop_reason"],
    }[format]()
    assert word == {"chat": "length", "responses": "incomplete", "anthropic": "max_tokens"}[format]


# -- 9: the items of a cut answer -----------------------------------------------------------------------------------

CALL = [BlockStart("tool_call", "a", "f"), Delta('{"x"'), BlockEnd()]
TEXT = [BlockStart("text"), Delta("ok"), BlockEnd()]
THOUGHT = [BlockStart("reasoning"), Delta("hm"), BlockEnd()]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
@pytest.mark.parametrize("last", [CALL, TEXT, THOUGHT])
def test_the_last_item_of_an_incomplete_response_is_incomplete(reason, last):
    events = [Start("i", "m"), *TEXT, *CALL, *last, Finish(reason)]
    stream = write_stream("responses", events)
    sdk.check_stream("responses", stream)
    values = [orjson.loads(event.data) for event in sdk.wire_events(stream)]
    finished = [value["item"]["status"] for value in values if value["type"] == "response.output_item.done"]
    for output in (values[-1]["response"]["output"], write_answer("responses", events)["output"]):
        assert [item["status"] for item in output] == finished == ["completed", "completed", "incomplete"]


def test_the_items_of_a_complete_response_are_complete():
    output = write_answer("responses", [Start("i", "m"), *TEXT, *CALL, *THOUGHT, Finish("tool_calls")])["output"]
    assert [item.get("status") for item in output] == ["completed", "completed", None]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [("[1]", {"arguments": [1]}), ('"x"', {"arguments": "x"}), ("null", {}), ('{"x":1}', {"x": 1}), ('{"x":', {})],
)
def test_arguments_that_are_no_object_for_an_anthropic_client(arguments, given):
    call = [BlockStart("tool_call", "a", "f"), Delta(arguments), BlockEnd()]
    (block,) = write_answer("anthropic", [Start("i", "m"), *call, Finish("tool_calls")])["content"]
    assert block["input"] == given


@pytest.mark.parametrize(
    ("arguments", "reason", "given", "told"),
    [
        ('{"x":1}', "tool_calls", {"x": 1}, "STOP"),
        ("[1]", "tool_calls", {"arguments": [1]}, "STOP"),
        ('"x"', "tool_calls", {"arguments": "x"}, "STOP"),
        ("null", "tool_calls", {}, "STOP"),
        ('{"x":', "length", None, "MAX_TOKENS"),
        ('{"x":', "content_filter", None, "SAFETY"),
        ('{"x":', "tool_calls", None, "MALFORMED_FUNCTION_CALL"),
    ],
)
def test_half_a_call_is_none_for_a_gemini_client(arguments, reason, given, told):
    """It runs each call that it is given."""
    call = [BlockStart("tool_call", "a", "f"), Delta(arguments), BlockEnd()]
    events = [Start("i", "m"), *TEXT, *call, Finish(reason)]
    streamed = [orjson.loads(event.data) for event in sdk.wire_events(write_stream("gemini", events))]
    for answers in ([write_answer("gemini", events)], streamed):
        candidates = [candidate for answer in answers for candidate in answer["candidates"]]
        calls = [
            part["functionCall"] for each in candidates for part in each["content"]["parts"] if "functionCall" in part
        ]
        assert [each["args"] for each in calls] == ([] if given is None else [given])
        assert candidates[-1]["finishReason"] == told


def test_a_response_that_failed_has_no_half_item_that_is_done():
    stream = write_stream("responses", [Start("i", "m"), *CALL[:2], Failed(UpstreamError("boom"))])
    assert b"output_item.done" not in stream


# -- 32: one answer in two places -----------------------------------------------------------------------------------


def part(index, text):
    return event("content_part.done", output_index=0, content_index=index, part={"type": "output_text", "text": text})


def delta(index, text):
    return event("output_text.delta", output_index=0, content_index=index, delta=text)


def text_done(index, text):
    return event("output_text.done", output_index=0, content_index=index, text=text)


def message_done(*texts):
    content = [{"type": "output_text", "text": text} for text in texts]
    return event("output_item.done", output_index=0, item={"type": "message", "content": content})


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([delta(0, "ok"), text_done(1, "ok"), part(1, "ok"), message_done("ok")], ["ok"]),
        ([delta(1, "o"), delta(1, "k"), text_done(0, "ok"), message_done("ok")], ["ok"]),
        ([delta(1, "o"), delta(1, "k"), text_done(1, "ok"), message_done("ok")], ["ok"]),
        ([delta(0, "ok"), part(1, "ok"), message_done("", "ok")], ["ok"]),
        ([delta(0, "a"), delta(1, "b"), message_done("ab")], ["a", "b"]),
        ([delta(0, "a"), text_done(0, "a"), delta(1, "a"), text_done(1, "a"), message_done("a", "a")], ["a", "a"]),
        ([message_done("a", "a")], ["a", "a"]),
        ([delta(0, "a"), message_done("a", "b")], ["a", "b"]),
        ([delta(0, "a"), message_done("ab")], ["ab"]),
        ([delta(3, ""), delta(0, "a"), text_done(1, "a"), part(1, "a"), message_done("", "a")], ["", "a"]),
    ],
)
@pytest.mark.parametrize("again", [False, True])
def test_one_answer_in_two_places(values, texts, again):
    output = [values[-1]["item"]] if again else []
    end = event("completed", response={"status": "completed", "output": output})
    assert [block.text for block in fold(read("responses", *values, end)).blocks] == texts


def begun(index, kind="message", **fields):
    return event("output_item.added", output_index=index, item={"type": kind, **fields})


def ended(index, kind, **fields):
    return event("output_item.done", output_index=index, item={"type": kind, **fields})


def called(index, name, id, arguments, kind="function_call"):
    """A call whose end has another index than its beginning."""
    field = "arguments" if kind == "function_call" else "input"
    return [
        begun(index, kind, name=name, call_id=id),
        event(f"{kind}_{field}.delta", output_index=index, delta=arguments),
        event(f"{kind}_{field}.done", output_index=index + 1, **{field: arguments}),
        ended(index + 1, kind, name=name, call_id=id, **{field: arguments}),
    ]


def reasoned(source, index, text, part=0, done=False):
    fields = {f"{'summary' if source == 'reasoning_summary' else 'content'}_index": part}
    fields |= {"text": text} if done else {"delta": text}
    return event(f"{source}_text.{'done' if done else 'delta'}", output_index=index, **fields)


HM = {"kind": "reasoning", "id": "r", "encrypted_content": "E", "summary": [{"type": "summary_text", "text": "hm"}]}
OK = {"kind": "message", "content": [{"type": "output_text", "text": "ok"}]}
IN_ANOTHER_PLACE = {
    "text": ([delta(0, "ok"), text_done(0, "ok") | {"output_index": 1}, ended(1, **OK)], ["ok"]),
    "text, in another part too": (
        [
            delta(0, "ok"),
            text_done(1, "ok") | {"output_index": 1},
            ended(1, "message", content=[{"text": ""}, {"text": "ok"}]),
        ],
        ["ok"],
    ),
    "text by its id": (
        [
            begun(0, id="m"),
            delta(0, "o"),
            text_done(0, "ok") | {"output_index": 1, "item_id": "m"},
            ended(1, **OK, id="m"),
        ],
        ["ok"],
    ),
    "only the item": ([begun(0), delta(0, "ok"), text_done(0, "ok"), ended(1, **OK)], ["ok"]),
    "a refusal": (
        [
            event("refusal.delta", output_index=0, content_index=0, delta="no"),
            event("refusal.done", output_index=1, content_index=0, refusal="no"),
            ended(1, "message", content=[{"type": "refusal", "refusal": "no"}]),
        ],
        ["no"],
    ),
    "text after reasoning": (
        [
            begun(0, "reasoning"),
            reasoned("reasoning", 0, "hm"),
            ended(0, **HM),
            delta(0, "ok") | {"output_index": 1},
            text_done(0, "ok") | {"output_index": 2},
            ended(2, **OK),
        ],
        ["hm", "ok"],
    ),
    "reasoning": ([begun(0, "reasoning"), reasoned("reasoning_summary", 0, "hm"), ended(1, **HM)], ["hm"]),
    "the end of reasoning's content": (
        [begun(0, "reasoning"), reasoned("reasoning", 0, "hm"), reasoned("reasoning", 0, "hm", 1, done=True)],
        ["hm"],
    ),
    "the end of reasoning's summary": (
        [
            begun(0, "reasoning"),
            reasoned("reasoning_summary", 0, "hm"),
            reasoned("reasoning_summary", 0, "hm", 1, True),
        ],
        ["hm"],
    ),
    "the end of reasoning's second part": (
        [
            begun(0, "reasoning"),
            reasoned("reasoning", 0, "a"),
            reasoned("reasoning", 0, "b", 1),
            reasoned("reasoning", 0, "b", 2, done=True),
            ended(1, "reasoning", content=[{"text": "a"}, {"text": "b"}]),
        ],
        ["a\n\nb"],
    ),
    "a call": (called(0, "f", "a", '{"x":1}'), ['{"x":1}']),
    "a call without an id": (called(0, "f", None, '{"x":1}'), ['{"x":1}']),
    "a custom call": (called(0, "p", "a", "***", "custom_tool_call"), ["***"]),
    "arguments by the id of their item": (
        [
            begun(1, "function_call", name="f", call_id="a", id="fc"),
            event("function_call_arguments.delta", output_index=0, item_id="fc", delta="{}"),
            ended(1, "function_call", name="f", call_id="a", id="fc", arguments="{}"),
        ],
        ["{}"],
    ),
    "parallel calls": (
        [
            begun(0, "function_call", name="f", call_id="a"),
            begun(1, "function_call", name="g", call_id="b"),
            ended(2, "function_call", name="f", call_id="a", arguments='{"x":1}'),
            ended(3, "function_call", name="g", call_id="b", arguments='{"y":2}'),
        ],
        ['{"x":1}', '{"y":2}'],
    ),
    "parts, one further on": (
        [delta(0, "a"), delta(1, "b"), text_done(1, "a"), text_done(2, "b"), message_done("", "a", "b")],
        ["a", "b"],
    ),
    "parts, one further on, in turns": (
        [delta(0, "a"), text_done(1, "a"), delta(1, "b"), text_done(2, "b"), message_done("", "a", "b")],
        ["a", "b"],
    ),
    "parts, one further back": (
        [delta(1, "a"), delta(2, "b"), text_done(0, "a"), text_done(1, "b"), message_done("a", "b")],
        ["a", "b"],
    ),
    # what is another's: none gets lost
    "two messages that say the same": ([delta(0, "ok"), message_done("ok"), ended(1, **OK)], ["ok", "ok"]),
    "two ends of text without deltas": ([text_done(0, "ok"), text_done(0, "ok") | {"output_index": 1}], ["ok", "ok"]),
    "two parts of reasoning that say the same": (
        [begun(0, "reasoning"), reasoned("reasoning", 0, "a", 0, True), reasoned("reasoning", 0, "a", 1, True)],
        ["a\n\na"],
    ),
    "other text": ([delta(0, "a"), text_done(0, "b") | {"output_index": 1}], ["a", "b"]),
    "another function": (
        [*called(0, "f", "a", "{}")[:3], ended(1, "function_call", name="g", call_id="b", arguments="{}")],
        ["{}", "{}"],
    ),
    "another function with the same id": (
        [*called(0, "f", "a", "{}")[:2], ended(1, "function_call", name="g", call_id="a", arguments="{}")],
        ["{}", "{}"],
    ),
    "other arguments with the same id": (
        [*called(0, "f", "a", '{"x":1}')[:2], ended(1, "function_call", name="f", call_id="a", arguments='{"y":2}')],
        ['{"x":1}', '{"y":2}'],
    ),
    "one id for all messages": (
        [begun(0, id="m"), delta(0, "a"), begun(1, id="m"), delta(0, "b") | {"output_index": 1}],
        ["a", "b"],
    ),
}


@pytest.mark.parametrize("name", IN_ANOTHER_PLACE)
@pytest.mark.parametrize("again", [False, True])
def test_an_end_in_another_place_than_its_deltas(name, again):
    """Under another output_index, or another part's number; `again`: with the items in the response too."""
    values, texts = IN_ANOTHER_PLACE[name]
    output = [value["item"] for value in values if value["type"] == "response.output_item.done"] if again else []
    end = event("completed", response={"status": "completed", "output": output})
    assert [block.text for block in fold(read("responses", *values, end)).blocks] == texts


def test_reasoning_that_ends_in_another_place_keeps_its_state():
    values = IN_ANOTHER_PLACE["reasoning"][0]
    (block,) = fold(read("responses", *values, event("completed", response={}))).blocks
    assert block.state.data == {"id": "r", "encrypted_content": "E"}


def test_items_of_the_end_under_other_numbers():
    """The reasoning of the first item is not in the response, so its message has another number there."""
    values = [
        event("output_item.added", output_index=0, item={"type": "reasoning", "id": "x1"}),
        event("output_item.done", output_index=0, item={"type": "reasoning", "id": "x2"}),
        event("output_item.added", output_index=1, item={"type": "message", "id": "x3"}),
        event("output_text.delta", output_index=1, content_index=0, delta="ok"),
        event("output_item.done", output_index=1, item={"type": "message", "id": "x5", "content": []}),
        event("completed", response={"output": [{"type": "message", "id": "x6", "content": [{"text": "ok"}]}]}),
    ]
    assert text_of(read("responses", *values)) == "ok"


@pytest.mark.parametrize("delta", [{}, {"content": ""}, {"role": "assistant", "content": ""}, None])
def test_a_whole_answer_is_its_message(delta):
    choice = {"index": 0, "delta": delta, "message": {"content": "ok"}, "finish_reason": "stop"}
    assert text_of(read_answer("chat", {"choices": [choice]})) == "ok"


def test_a_stream_is_its_deltas():
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": text}, "message": {"content": whole}, "finish_reason": finish}]}
        for text, whole, finish in (("o", "o", None), ("k", "ok", None), ("", "ok", "stop"))
    ]
    assert text_of(read("chat", *chunks, b"[DONE]")) == "ok"


# -- 33: whole answers without an end -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [chat_whole, anthropic_whole, responses_whole])
def test_a_whole_answer_without_a_reason_is_complete(way):
    events = way(None, "ok")
    assert text_of(events) == "ok"
    assert events[-1].reason == "stop"


def test_a_stream_without_an_end_is_not():
    values = {
        "chat": [chunk(content="ok")],
        "anthropic": [*anthropic_values("end_turn", ["ok"])][:-2],
        "responses": [delta(0, "ok"), message_done("ok")],
    }
    for format, begun in values.items():
        assert read(format, *begun)[-1].error.message == "The upstream closed the stream before its end."


@each_format
@pytest.mark.parametrize("whole", [True, False])
def test_a_list_of_errors_has_their_words(format, whole):
    errors = [{"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}]
    failed = (read_answer(format, errors) if whole else read(format, errors))[-1]
    assert (failed.error.status, failed.error.message) == (429, "slow down")
    ended = BY_NAME[format].ending(ServerSentEvent(b"", orjson.dumps(errors)))
    assert (ended.error.status, ended.error.message) == (429, "slow down")


@each_format
@pytest.mark.parametrize("junk", [[], [1], "text", None])
def test_other_things_in_the_place_of_an_answer_are_failures(format, junk):
    assert type(read_answer(format, junk)[-1]) is Failed
    assert type(read(format, junk)[-1]) is Failed
