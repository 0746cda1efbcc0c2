"""What each wire says, in events: the repository's recordings by hand, and every dialect in a line or two."""

import orjson
import pytest

from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Failed, Finish, Start, State, Usage

from .recordings import OWN
from .wire import read_answer, read_stream


def text(*deltas, citations=()):
    return [BlockStart("text"), *map(Delta, deltas), BlockEnd(citations=list(citations))]


def reasoning(*deltas, **state):
    format = state.pop("format", "chat")
    end = BlockEnd(State(format, "claude", state) if state else None)
    return [BlockStart("reasoning"), *map(Delta, deltas), end]


def call(id, name, *deltas, custom=False):
    return [BlockStart("tool_call", id, name, custom), *map(Delta, deltas), BlockEnd()]


def tools(raw, *usage):
    return [Finish("tool_calls", raw, Usage(*usage))]


def stop(raw="stop", *usage):
    return [Finish("stop", raw, Usage(*usage))]


def signed(signature, **place):
    return State("gemini", "claude", {"signature": signature} | place)


GREETING = [Delta("你好"), Delta("，世界 👋🏽\n"), Delta("“再见”")]
WEATHER = ('{"city": "Sh', 'anghai 上海"}')
SUMMARY = ("The user asks ", "for the weather.", "\n\n", "A tool knows it.")

RECORDINGS = {
    "chat/text.sse": [
        Start("chatcmpl-A1", "gpt-4.1"),
        *[BlockStart("text"), *GREETING, BlockEnd()],
        *stop("stop", 33, 12, 7, 5),
    ],
    "chat/reasoning_tool.sse": [
        Start("chatcmpl-A1", "deepseek-reasoner"),
        *reasoning("The user asks for ", "the weather.", field="reasoning_content"),
        *text("Let me look."),
        *call("call_A", "get_weather", *WEATHER),
        *tools("tool_calls", 410, 87, 64, 0, 30),
    ],
    "chat/parallel_tools.sse": [
        Start("chatcmpl-A1", "gpt-4.1"),
        *call("call_B", "list_files", "{}"),
        *call("call_C", "get_weather", '{"city":', '"Oslo"}'),
        *tools("tool_calls", 300, 40),
    ],
    "chat/text.response.json": [
        Start("chatcmpl-W", "gpt-4.1"),
        *text("In Oslo 🌧:", citations=[Citation("https://example.org/oslo", "Oslo", 0, 7)]),
        *call("call_D", "get_weather", '{"city":"Oslo"}'),
        *tools("tool_calls", 100, 33, 90),
    ],
    "responses/text.sse": [
        Start("resp_1", "gpt-5"),
        *[BlockStart("text"), *GREETING, BlockEnd()],
        *stop("completed", 33, 12, 7, 5),
    ],
    "responses/reasoning_tool.sse": [
        Start("resp_2", "gpt-5"),
        *reasoning(*SUMMARY, format="responses", id="rs_1", encrypted_content="gAAAAABo=="),
        *text("Let me look."),
        *call("call_A", "get_weather", *WEATHER),
        *tools("completed", 410, 87, 0, 0, 30),
    ],
    "responses/parallel_tools.sse": [
        Start("resp_3", "gpt-5"),
        *call("call_B", "list_files", "{}"),
        *call("call_C", "get_weather", '{"city":', '"Oslo"}'),
        *tools("completed", 300, 40),
    ],
    "responses/text.response.json": [
        Start("resp_4", "gpt-5"),
        *reasoning("Look it up.", format="responses", id="rs_2", encrypted_content="gAAAAABp=="),
        *text("In Oslo 🌧:", citations=[Citation("https://example.org/oslo", "Oslo", 0, 7)]),
        *call("call_D", "get_weather", '{"city":"Oslo"}'),
        *tools("completed", 100, 33, 90, 0, 10),
    ],
    "anthropic/text.sse": [
        Start("msg_01Text", "claude-sonnet-4-5"),
        *text("你好", "，世界 ", "👋🏽\n", "“再见”"),
        *stop("end_turn", 33, 12, 7, 5),
    ],
    "anthropic/reasoning_tool.sse": [
        Start("msg_01Think", "claude-sonnet-4-5"),
        *reasoning("The user asks for ", "the weather.", format="anthropic", signature="EqQBCgIYAhIM0="),
        *reasoning(format="anthropic", data="EmwKAhgBEgy3va3pzix="),
        *text("Let me look."),
        *call("toolu_01A", "get_weather", *WEATHER),
        *tools("tool_use", 410, 87, 0, 0, 30),
    ],
    "anthropic/parallel_tools.sse": [
        Start("msg_01Par", "claude-sonnet-4-5"),
        *call("toolu_01B", "list_files", "{}"),
        *call("toolu_01C", "get_weather", '{"city":"Oslo"}'),
        *tools("tool_use", 300, 40),
    ],
    "anthropic/text.response.json": [
        Start("msg_01Whole", "claude-sonnet-4-5"),
        *reasoning("Look it up.", format="anthropic", signature="EqQBCgIYAhIM2="),
        *text("In Oslo 🌧:", citations=[Citation("https://example.org/oslo", "Oslo")]),
        *call("toolu_01D", "get_weather", '{"city":"Oslo"}'),
        *tools("tool_use", 100, 33, 90),
    ],
    "gemini/text.sse": [
        Start("r1", "gemini-2.5-flash"),
        *[BlockStart("text"), *GREETING, BlockEnd()],
        *stop("STOP", 33, 12, 7),
    ],
    "gemini/reasoning_tool.sse": [
        Start("r2", "gemini-3.1-pro-preview"),
        *[BlockStart("reasoning"), Delta("The user asks for "), Delta("the weather."), BlockEnd()],
        *text("Let me look."),
        BlockStart("tool_call", "8f2a1c3e", "get_weather", state=signed("c2lnbmF0dXJlIDE=")),
        *[Delta('{"city":"Shanghai 上海"}'), BlockEnd()],
        *tools("STOP", 410, 87, 0, 0, 30),
    ],
    "gemini/parallel_tools.sse": [
        Start("r3", "gemini-2.5-flash"),
        *call("call_r3_0", "list_files", "{}"),
        *call("call_r3_1", "get_weather", '{"city":"Oslo"}'),
        *tools("STOP", 300, 40),
    ],
    "gemini/text.response.json": [
        Start("r4", "gemini-3.5-flash"),
        *[BlockStart("reasoning"), Delta("Look it up."), BlockEnd()],
        *[BlockStart("text"), Delta("In Oslo 🌧:")],
        BlockEnd(signed("c2lnbmF0dXJlIDI=", start=0, end=10), [Citation("https://example.org/oslo", "Oslo", 3, 9)]),
        *call("1b2c3d4e", "get_weather", '{"city":"Oslo"}'),
        *tools("STOP", 100, 33, 90, 0, 10),
    ],
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_recording(name):
    format, wire = name.split("/")[0], (OWN / name).read_bytes()
    events = read_stream(format, [wire]) if name.endswith(".sse") else read_answer(format, orjson.loads(wire))
    assert events == RECORDINGS[name]


def test_every_recording_is_here():
    wires = [path for suffix in (".sse", ".response.json") for path in OWN.glob(f"*/*{suffix}")]
    assert {f"{path.parent.name}/{path.name}" for path in wires} == RECORDINGS.keys() | {
        "anthropic/rate_limited.response.json",
        "gemini/rate_limited.response.json",
    }


# -- chat -----------------------------------------------------------------------------------------------------------


def tool(**fields):
    return {"tool_calls": [fields]}


CHAT = {
    "tool indexes from 1": (
        [tool(index=1, id="a", function={"name": "f", "arguments": "{"}), tool(index=1, function={"arguments": "}"})],
        call("a", "f", "{", "}"),
    ),
    "whole call in one chunk, without an index": (
        [tool(id="a", function={"name": "f", "arguments": '{"x":1}'})],
        call("a", "f", '{"x":1}'),
    ),
    "two calls without an index": (
        [
            tool(id="a", function={"name": "f", "arguments": "{"}),
            tool(function={"arguments": "}"}),
            tool(id="b", function={"name": "g", "arguments": "{}"}),
        ],
        call("a", "f", "{", "}") + call("b", "g", "{}"),
    ),
    "<think> in the content": (
        [
            {"content": ""},
            {"content": "<th"},
            {"content": "ink>Hm"},
            {"content": "m.</t"},
            {"content": "hink>\n\nOk <"},
        ],
        reasoning("Hm", "m.", field="reasoning_content") + text("Ok <"),
    ),
    "<think> later on": ([{"content": "Use <think> "}, {"content": "tags."}], text("Use <think> ", "tags.")),
    "only the beginning of a tag": ([{"content": " <thin"}], text(" <thin")),
    "<think> without an end": (
        [{"content": "<think>Hmm</thi"}],
        reasoning("Hmm", "</thi", field="reasoning_content"),
    ),
    "arguments null, then never": (
        [tool(index=0, id="a", function={"name": "f", "arguments": None})],
        call("a", "f", "{}"),
    ),
    "arguments as an object": (
        [tool(index=0, id="a", function={"name": "f", "arguments": {"x": 1}})],
        call("a", "f", '{"x":1}'),
    ),
    "name after the first arguments": (
        [
            tool(index=0, id="a", function={"arguments": "{"}),
            tool(index=0, function={"name": "f", "arguments": "}"}),
        ],
        call("a", "f", "{}"),
    ),
    "all calls at index 0": (
        [
            tool(index=0, id="a", function={"name": "f", "arguments": "{}"}),
            tool(index=0, id="b", function={"name": "f", "arguments": "{}"}),
        ],
        call("a", "f", "{}") + call("b", "f", "{}"),
    ),
    "fragments of two calls in turns": (
        [
            tool(index=0, id="a", function={"name": "f", "arguments": '{"x"'}),
            tool(index=1, id="b", function={"name": "g", "arguments": '{"y"'}),
            tool(index=0, function={"arguments": ":1}"}),
            tool(index=1, function={"arguments": ":2}"}),
        ],
        call("a", "f", '{"x"', ":1}") + call("b", "g", '{"y":2}'),
    ),
    "no ids": (
        [tool(index=0, id="", function={"name": "f", "arguments": "{}"})],
        call("call_c_0", "f", "{}"),
    ),
    "one id for two calls": (
        [
            tool(index=0, id="0", function={"name": "f", "arguments": "{}"}),
            tool(index=1, id="0", function={"name": "g", "arguments": "{}"}),
        ],
        call("0", "f", "{}") + call("call_c_1", "g", "{}"),
    ),
    "a call of a custom tool": (
        [
            tool(index=0, id="a", type="custom", custom={"name": "p", "input": ""}),
            tool(index=0, custom={"input": "*** "}),
            {"content": "ok"},
        ],
        call("a", "p", "*** ", custom=True) + text("ok"),
    ),
    "text after a call": (
        [tool(index=0, id="a", function={"name": "f", "arguments": "{}"}), {"content": "ok"}],
        call("a", "f", "{}") + text("ok"),
    ),
    "reasoning by its other name": (
        [{"reasoning": "hm"}, {"content": "ok"}],
        reasoning("hm", field="reasoning") + text("ok"),
    ),
    "reasoning by both names": (
        [{"reasoning": "hm", "reasoning_content": "hm"}, {"content": "ok"}],
        reasoning("hm", field="reasoning_content") + text("ok"),
    ),
    "reasoning details in fragments": (
        [
            {"reasoning": "h", "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "h"}]},
            {"reasoning": "m", "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "m"}]},
            {"reasoning_details": [{"type": "reasoning.text", "index": 0, "signature": "S"}]},
            {"content": "ok"},
        ],
        reasoning(
            "h",
            "m",
            field="reasoning",
            details=[{"type": "reasoning.text", "index": 0, "text": "hm", "signature": "S"}],
        )
        + text("ok"),
    ),
    "reasoning that is encrypted only": (
        [{"reasoning_details": [{"type": "reasoning.encrypted", "index": 0, "data": "D"}]}, {"content": "ok"}],
        reasoning(
            field="reasoning_content",
            details=[{"type": "reasoning.encrypted", "index": 0, "data": "D"}],
        )
        + text("ok"),
    ),
    "content in parts": (
        [
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
            {"content": [{"type": "text", "text": "ok"}]},
        ],
        reasoning("hm", field="reasoning_content") + text("ok"),
    ),
    "empty deltas and nulls": (
        [{"role": "assistant", "content": ""}, {"content": None, "tool_calls": None}, {"content": "ok"}, {}],
        text("ok"),
    ),
    "white space, which might begin a <think>, before a refusal": (
        [{"content": "\n"}, {"refusal": "no"}],
        [*text("\n"), BlockStart("refusal"), Delta("no"), BlockEnd()],
    ),
    "a refusal": (
        [{"refusal": "I "}, {"refusal": "won't"}],
        [BlockStart("refusal"), Delta("I "), Delta("won't"), BlockEnd()],
    ),
}


def chunk(delta, finish=None, **fields):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "model": "m", "choices": [choice]} | fields


def frames(values):
    return [b"data: %b\n\n" % (value if type(value) is bytes else orjson.dumps(value)) for value in values]


def read(format, *values):
    return read_stream(format, frames(values))


@pytest.mark.parametrize("name", CHAT)
def test_chat_deltas(name):
    deltas, blocks = CHAT[name]
    events = read("chat", *map(chunk, deltas), chunk({}, "stop"), b"[DONE]")
    called = any(block.kind == "tool_call" for block in blocks if type(block) is BlockStart)
    assert events == [Start("c", "m"), *blocks, Finish("tool_calls" if called else "stop", "stop")]


USAGE = {"prompt_tokens": 3, "completion_tokens": 2}
CHAT_ENDS = {
    "usage after the finish": ([chunk({}, "stop"), {"choices": [], "usage": USAGE}, b"[DONE]"], stop("stop", 3, 2)),
    "usage with the finish": ([chunk({}, "stop", usage=USAGE), b"[DONE]"], stop("stop", 3, 2)),
    "usage in x_groq": ([chunk({}, "stop", x_groq={"usage": USAGE}), b"[DONE]"], stop("stop", 3, 2)),
    "no [DONE]": ([chunk({}, "length")], [Finish("length", "length")]),
    "no finish reason": ([b"[DONE]"], stop("")),
    "another choice": ([{"choices": [{"index": 1, "delta": {"content": "no"}}]}, chunk({}, "stop")], stop()),
    "content with the finish": ([chunk({}, "content_filter"), b"[DONE]"], [Finish("content_filter", "content_filter")]),
}


@pytest.mark.parametrize("name", CHAT_ENDS)
def test_chat_ends(name):
    chunks, end = CHAT_ENDS[name]
    assert read("chat", chunk({"content": "ok"}), *chunks) == [Start("c", "m"), *text("ok"), *end]


def test_azure_names_the_model_late():
    first = {"id": "", "model": "", "choices": [], "prompt_filter_results": []}
    assert read("chat", first, chunk({"content": "ok"}), chunk({}, "stop"))[0] == Start("c", "m")


def test_answer_with_everything_in_one_message():
    message = {
        "content": "ok",
        "refusal": "no",
        "reasoning_content": "hm",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}],
    }
    body = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    assert read_answer("chat", body) == [
        Start("c", "m"),
        *reasoning("hm", field="reasoning_content"),
        *text("ok"),
        *[BlockStart("refusal"), Delta("no"), BlockEnd()],
        *call("a", "f", "{}"),
        *tools("stop"),
    ]


# -- errors in the stream -------------------------------------------------------------------------------------------

ERRORS = {
    "chat": [
        ({"error": {"message": "Overloaded", "code": 429}}, 429, "429", "Overloaded"),
        ({"error": "Overloaded"}, 502, None, "Overloaded"),
        ({"error": {"message": "Bad", "type": "invalid_request_error"}}, 400, "invalid_request_error", "Bad"),
        (chunk({}, error={"message": "Gone", "code": "server_error"}), 500, "server_error", "Gone"),
        (b"{", 502, None, "The upstream sent an event that is not JSON: {."),
        (b"[]", 502, None, "The upstream sent an event that is no JSON object: []."),
        (b"Overloaded", 502, None, "The upstream sent an event that is not JSON: Overloaded."),
        (b'"Overloaded"', 502, None, 'The upstream sent an event that is no JSON object: "Overloaded".'),
        (b"x" * 5000, 502, None, f"The upstream sent an event that is not JSON: {'x' * 200}."),
        (chunk(tool(index=0, function={})), 502, None, "The upstream sent a tool call without a name."),
    ],
    "responses": [
        (
            {"type": "error", "error": {"code": "rate_limit_exceeded", "message": "Slow"}},
            429,
            "rate_limit_exceeded",
            "Slow",
        ),
        ({"type": "error", "code": "server_error", "message": "Broken"}, 500, "server_error", "Broken"),
        (
            {"type": "response.failed", "response": {"error": {"code": "insufficient_quota", "message": "Empty"}}},
            429,
            "insufficient_quota",
            "Empty",
        ),
        (
            {"type": "response.output_text.delta"},
            502,
            None,
            "The upstream sent an event whose delta is no text.",
        ),
    ],
    "anthropic": [
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            529,
            "overloaded_error",
            "Overloaded",
        ),
        (
            {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 5 > 4"}},
            400,
            "context_length_exceeded",
            "prompt is too long: 5 > 4",
        ),
        (
            {"type": "content_block_stop", "index": 4},
            502,
            None,
            "The upstream sent the end of a block that is not open.",
        ),
    ],
}


@pytest.mark.parametrize(
    ("format", "value", "status", "code", "message"),
    [(format, *row) for format, rows in ERRORS.items() for row in rows],
)
def test_error_in_a_stream(format, value, status, code, message):
    *_, failed = read(format, value, b"[DONE]")
    assert type(failed) is Failed
    assert (failed.error.status, failed.error.code, failed.error.message) == (status, code, message)


# -- responses ------------------------------------------------------------------------------------------------------

CREATED = {"type": "response.created", "response": {"id": "r", "model": "m"}}


def item(index, **fields):
    return {"type": "response.output_item.added", "output_index": index, "item": fields}


def done(index, **fields):
    return {"type": "response.output_item.done", "output_index": index, "item": fields}


def ended(status="completed", **fields):
    return {"type": f"response.{status}", "response": {"status": status} | fields}


def delta(kind, index, **fields):
    return {"type": f"response.{kind}.delta", "output_index": index} | fields


FUNCTION = {"type": "function_call", "call_id": "a", "name": "f"}
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "ok"}]}
RESPONSES = {
    "arguments only when done": (
        [item(0, **FUNCTION), done(0, **FUNCTION, arguments='{"x":1}'), ended()],
        call("a", "f", '{"x":1}') + tools("completed"),
    ),
    "items only when done": ([done(0, **FUNCTION, arguments="{}"), ended()], call("a", "f", "{}") + tools("completed")),
    "items only at the end": ([ended(output=[MESSAGE])], text("ok") + stop("completed")),
    "never any arguments": ([item(0, **FUNCTION), ended()], call("a", "f", "{}") + tools("completed")),
    "interleaved items": (
        [
            item(0, **FUNCTION),
            item(1, **FUNCTION | {"call_id": "b"}),
            delta("function_call_arguments", 1, delta="{}"),
            delta("function_call_arguments", 0, delta="{"),
            delta("function_call_arguments", 0, delta="}"),
            done(1, **FUNCTION, arguments="{}"),
            done(0, **FUNCTION, arguments="{}"),
            ended(),
        ],
        call("a", "f", "{", "}") + call("b", "f", "{}") + tools("completed"),
    ),
    "raw reasoning": (
        [
            item(0, type="reasoning"),
            delta("reasoning_text", 0, delta="hm", content_index=0),
            done(0, type="reasoning", summary=[], content=[{"type": "reasoning_text", "text": "hm"}]),
            ended(output=[]),
        ],
        reasoning("hm") + stop("completed"),
    ),
    "text and refusal in one message": (
        [
            item(0, type="message"),
            delta("output_text", 0, content_index=0, delta="ok"),
            delta("refusal", 0, content_index=1, delta="no"),
            done(0, **MESSAGE),
            ended(),
        ],
        [*text("ok"), BlockStart("refusal"), Delta("no"), BlockEnd(), *stop("completed")],
    ),
    "citations": (
        [
            item(0, type="message"),
            delta("output_text", 0, content_index=0, delta="ok"),
            {
                "type": "response.output_text.annotation.added",
                "output_index": 0,
                "content_index": 0,
                "annotation": {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 2},
            },
            ended(),
        ],
        text("ok", citations=[Citation("u", "t", 0, 2)]) + stop("completed"),
    ),
    "tools of the provider": (
        [item(0, type="web_search_call"), done(0, type="web_search_call"), done(1, **MESSAGE), ended()],
        text("ok") + stop("completed"),
    ),
    "incomplete": (
        [
            done(0, **MESSAGE),
            ended("incomplete", incomplete_details={"reason": "max_output_tokens"}, usage={"output_tokens": 4}),
        ],
        [*text("ok"), Finish("length", "max_output_tokens", Usage(output=4))],
    ),
    "unknown events": ([{"type": "keepalive"}, done(0, **MESSAGE), ended()], text("ok") + stop("completed")),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_responses(name):
    values, events = RESPONSES[name]
    assert read("responses", CREATED, *values) == [Start("r", "m"), *events]


# -- anthropic ------------------------------------------------------------------------------------------------------

MESSAGE_START = {
    "type": "message_start",
    "message": {"id": "m", "model": "c", "usage": {"input_tokens": 9, "output_tokens": 1}},
}
MESSAGE_STOP = {"type": "message_stop"}


def block(index, **fields):
    return {"type": "content_block_start", "index": index, "content_block": fields}


def block_stop(index):
    return {"type": "content_block_stop", "index": index}


def message_delta(usage=None, **fields):
    return {"type": "message_delta", "delta": fields} | ({"usage": usage} if usage else {})


ANTHROPIC = {
    "input in the block's start": (
        [
            block(0, type="tool_use", id="a", name="f", input={"x": 1}),
            block_stop(0),
            message_delta(stop_reason="tool_use"),
        ],
        call("a", "f", '{"x":1}') + tools("tool_use", 9, 1),
    ),
    "counts replace the earlier ones": (
        [message_delta({"input_tokens": 8, "cache_read_input_tokens": 2, "output_tokens": 5}, stop_reason="end_turn")],
        stop("end_turn", 10, 5, 2),
    ),
    "counts that are null do not": (
        [message_delta({"input_tokens": None, "output_tokens": 5}, stop_reason="end_turn")],
        stop("end_turn", 9, 5),
    ),
    "tools of the provider": (
        [
            block(0, type="server_tool_use", id="s", name="web_search", input={}),
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{"}},
            block_stop(0),
            block(1, type="web_search_tool_result", tool_use_id="s", content=[]),
            block_stop(1),
            block(2, type="text", text="ok"),
            block_stop(2),
            message_delta(stop_reason="end_turn"),
        ],
        text("ok") + stop("end_turn", 9, 1),
    ),
    "signature without text": (
        [
            block(0, type="thinking", thinking="", signature=""),
            {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "S"}},
            block_stop(0),
            message_delta(stop_reason="end_turn"),
        ],
        reasoning(format="anthropic", signature="S") + stop("end_turn", 9, 1),
    ),
    "stop sequence": (
        [message_delta(stop_reason="stop_sequence", stop_sequence="END")],
        [Finish("stop", "stop_sequence", Usage(9, 1), "END")],
    ),
    "refusal with an explanation": (
        [message_delta(stop_reason="refusal", stop_details={"type": "refusal", "explanation": "no"})],
        [BlockStart("refusal"), Delta("no"), BlockEnd(), Finish("content_filter", "refusal", Usage(9, 1))],
    ),
    "full context": (
        [message_delta(stop_reason="model_context_window_exceeded")],
        [Finish("length", "model_context_window_exceeded", Usage(9, 1))],
    ),
}


@pytest.mark.parametrize("name", ANTHROPIC)
def test_anthropic(name):
    values, events = ANTHROPIC[name]
    assert read("anthropic", MESSAGE_START, *values, MESSAGE_STOP) == [Start("m", "c"), *events]


def test_nothing_is_read_after_the_end():
    events = read("anthropic", MESSAGE_START, message_delta(stop_reason="end_turn"), MESSAGE_STOP, {"type": "junk"})
    assert events == [Start("m", "c"), *stop("end_turn", 9, 1)]
