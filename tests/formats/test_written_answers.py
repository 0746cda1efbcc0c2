"""One answer with a block of each kind, as clients of Chat and Anthropic get it: each index, place and count."""

from dataclasses import replace

import orjson
import pytest

from droid2api.errors import GatewayError
from droid2api.formats import BY_NAME
from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Finish, Start, State, Usage
from droid2api.hub.request import Request

from . import sdk
from .wire import REQUEST, write_answer, write_stream

OURS = State("gemini", "gemini", {"signature": "G"})
CLAUDES = State("anthropic", "claude", {"signature": "S"})
CALL = BlockStart("tool_call", "b", "g")
USAGE = Usage(10, 7, 3, 2, 5)
TURN = [
    Start("i", "m"),
    *[BlockStart("reasoning"), Delta("hm"), BlockEnd(CLAUDES)],
    *[BlockStart("reasoning", state=OURS), Delta("so"), BlockEnd()],
    *[BlockStart("text"), Delta("ab"), Delta("c"), BlockEnd(citations=[Citation("u", "t"), Citation("v", "w", 1, 2)])],
    *[BlockStart("text", state=OURS), Delta("def"), BlockEnd(citations=[Citation("u", "t", 0)])],
    *[BlockStart("tool_call", "a", "f", state=OURS), Delta("{}"), BlockEnd()],
    *[CALL, Delta('{"x":'), Delta("1}"), BlockEnd(OURS)],
    Finish("tool_calls", usage=USAGE),
]


def simple(*blocks, model="m", **finish):
    return [Start("i", model), *blocks, Finish("stop", **finish)]


# -- chat -----------------------------------------------------------------------------------------------------------


def cited(url, title, start, end):
    told = {"url": url, "title": title, "start_index": start, "end_index": end}
    return {"type": "url_citation", "url_citation": told}


def detail(index, state, text=""):
    told = {"format": "droid2api", "index": index}
    if not text:
        return {"type": "reasoning.encrypted", "data": state.pack()} | told
    packed = replace(state, data=state.data | {"text": text}).pack()
    return {"type": "reasoning.text", "signature": packed} | told


EXTRA = {"extra_content": {"droid2api": OURS.pack()}}
DETAILS = [detail(0, CLAUDES, "hm"), detail(1, OURS, "so"), detail(2, OURS.for_block(BlockStart("text")))]
FIRST, SECOND = [cited("u", "t", 0, 3), cited("v", "w", 1, 2)], [cited("u", "t", 3, 6)]
CHAT_USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 7,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 5},
}


def called(id, name, arguments):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def chunks(events, request=REQUEST):
    stream = BY_NAME["chat"].StreamEncoder(request, lambda: 7.5, lambda: "1").encode(events)
    *values, done = [event.data for event in sdk.wire_events(stream)]
    assert done == b"[DONE]"
    return [orjson.loads(value) for value in values]


def test_the_chunks_of_a_chat_answer():
    *values, last = chunks(TURN)
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    assert last == head | {"choices": [], "usage": CHAT_USAGE}
    deltas = [value["choices"][0].pop("delta") for value in values]
    ends = [None] * (len(values) - 1) + ["tool_calls"]
    assert values == [head | {"choices": [{"index": 0, "finish_reason": end}], "usage": None} for end in ends]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"reasoning_details": DETAILS[:1]},
        {"reasoning_content": "so"},
        {"reasoning_details": DETAILS[1:2]},
        {"content": "ab"},
        {"content": "c"},
        {"annotations": FIRST},
        {"reasoning_details": DETAILS[2:]},
        {"content": "def"},
        {"annotations": SECOND},
        {"tool_calls": [{"index": 0} | called("a", "f", "") | EXTRA]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {"tool_calls": [{"index": 1} | called("b", "g", "")]},
        {"tool_calls": [{"index": 1, "function": {"arguments": '{"x":'}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "1}"}}]},
        {"tool_calls": [{"index": 1} | EXTRA]},
        {},
    ]


def test_a_whole_chat_answer():
    message = {
        "role": "assistant",
        "content": "abcdef",
        "refusal": None,
        "reasoning_content": "hmso",
        "reasoning_details": DETAILS,
        "annotations": FIRST + SECOND,
        "tool_calls": [called("a", "f", "{}") | EXTRA, called("b", "g", '{"x":1}') | EXTRA],
    }
    assert BY_NAME["chat"].encode_response(TURN, REQUEST, lambda: 7.5, lambda: "1") == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": None}],
        "usage": CHAT_USAGE,
    }
    assert type(write_answer("chat", TURN)["created"]) is int


def test_usage_is_in_the_chunks_of_those_who_ask_for_it():
    text = [BlockStart("text"), Delta("null"), BlockEnd()]
    values = chunks(simple(*text, usage=USAGE), Request("m", []))
    assert not any("usage" in value for value in values)
    assert [choice["finish_reason"] for value in values for choice in value["choices"]] == [None, None, "stop"]


@pytest.mark.parametrize(
    ("blocks", "fields"),
    [
        ([], {}),
        ([BlockStart("text"), BlockEnd()], {"content": ""}),
        ([BlockStart("refusal"), Delta("no"), BlockEnd()], {"refusal": "no"}),
        ([BlockStart("refusal"), BlockEnd()], {"refusal": ""}),
        ([BlockStart("reasoning"), BlockEnd()], {}),
        (
            [BlockStart("tool_call", "a", "f", custom=True), Delta("x"), BlockEnd()],
            {"tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}]},
        ),
    ],
)
def test_what_a_chat_message_has(blocks, fields):
    message = write_answer("chat", simple(*blocks))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": None, "refusal": None} | fields


def test_the_chunks_of_a_custom_call():
    call = [BlockStart("tool_call", "a", "f", custom=True), Delta("x"), BlockEnd()]
    deltas = [value["choices"][0]["delta"] for value in chunks(simple(*call))[1:3]]
    assert deltas == [
        {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": ""}}]},
        {"tool_calls": [{"index": 0, "custom": {"input": "x"}}]},
    ]


@pytest.mark.parametrize("format", ["chat", "anthropic"])
@pytest.mark.parametrize(("told", "model"), [("upstreams", "upstreams"), ("", "model")])
def test_the_model_that_a_client_is_told(format, told, model):
    """The one that it asked for, where the upstream names none."""
    first = orjson.loads(sdk.wire_events(write_stream(format, simple(model=told)))[0].data)
    for value in (write_answer(format, simple(model=told)), first.get("message", first)):
        assert value["model"] == model


# -- anthropic ------------------------------------------------------------------------------------------------------


def quoted(url, title, text):
    told = {"url": url, "title": title, "cited_text": text, "encrypted_index": ""}
    return {"type": "web_search_result_location"} | told


def carrier(start):
    return {"type": "thinking", "thinking": "", "signature": OURS.for_block(start).pack()}


CONTENT = [
    {"type": "thinking", "thinking": "hm", "signature": "S"},
    {"type": "thinking", "thinking": "so", "signature": OURS.pack()},
    {"type": "text", "text": "abc", "citations": [quoted("u", "t", "abc"), quoted("v", "w", "b")]},
    carrier(BlockStart("text")),
    {"type": "text", "text": "def", "citations": [quoted("u", "t", "def")]},
    carrier(BlockStart("tool_call", "a")),
    {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    {"type": "tool_use", "id": "b", "name": "g", "input": {"x": 1}},
    carrier(BlockStart("tool_call", "b")),
]
NONE = dict.fromkeys(("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"), 0)
NONE |= {"output_tokens_details": {"thinking_tokens": 0}}
CLAUDE_USAGE = {
    "input_tokens": 5,
    "output_tokens": 7,
    "cache_read_input_tokens": 3,
    "cache_creation_input_tokens": 2,
    "output_tokens_details": {"thinking_tokens": 5},
}
MESSAGE = {"id": "msg_0001", "type": "message", "role": "assistant", "model": "m"}


def test_a_whole_anthropic_answer():
    stop = {"stop_reason": "tool_use", "stop_sequence": None}
    assert write_answer("anthropic", TURN) == MESSAGE | {"content": CONTENT, "usage": CLAUDE_USAGE} | stop


def test_the_events_of_an_anthropic_answer():
    """What they add up to is the whole answer."""
    begin, *values, delta, end = [orjson.loads(each.data) for each in sdk.wire_events(write_stream("anthropic", TURN))]
    unsaid = {"content": [], "usage": NONE, "stop_reason": None, "stop_sequence": None}
    assert begin == {"type": "message_start", "message": MESSAGE | unsaid}
    stop = {"stop_reason": "tool_use", "stop_sequence": None}
    assert (delta, end) == ({"type": "message_delta", "delta": stop, "usage": CLAUDE_USAGE}, {"type": "message_stop"})
    content, given = [], {"thinking": "", "signature": "", "text": "", "input": {}}
    for value in values:
        match value["type"]:
            case "content_block_start":
                block = value["content_block"]
                assert all(block[field] == empty for field, empty in given.items() if field in block)
                content.append(block | ({"input": ""} if "input" in block else {}))
            case "content_block_delta":
                (field, added), *more = [item for item in value["delta"].items() if item[0] != "type"]
                assert more == []
                assert value["delta"]["type"].startswith("input" if field == "partial_json" else field)
                if field == "citation":
                    content[-1].setdefault("citations", []).append(added)
                else:
                    content[-1][{"partial_json": "input"}.get(field, field)] += added
            case kind:
                assert kind == "content_block_stop"
        assert value["index"] == len(content) - 1
    assert [
        block | ({"input": orjson.loads(block["input"])} if "input" in block else {}) for block in content
    ] == CONTENT


@pytest.mark.parametrize("state", [(OURS, None), (None, OURS)])
def test_reasoning_that_ends_as_it_began_says_its_signature_once(state):
    stream = write_stream("anthropic", simple(BlockStart("reasoning", state=state[0]), Delta("hm"), BlockEnd(state[1])))
    assert stream.count(OURS.pack().encode()) == 1
    assert stream.count(b'"content_block_start"') == stream.count(b'"content_block_stop"') == 1


@pytest.mark.parametrize("place", [0, 1])
def test_redacted_thinking_is_written_as_such(place):
    redacted = State("anthropic", "claude", {"data": "D"})
    state = [redacted if place == number else None for number in (0, 1)]
    events = simple(BlockStart("reasoning", state=state[0]), BlockEnd(state[1]))
    block = {"type": "redacted_thinking", "data": "D"}
    assert write_answer("anthropic", events)["content"] == [block]
    started = [orjson.loads(each.data) for each in sdk.wire_events(write_stream("anthropic", events))[1:3]]
    assert started == [
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
    ]


@pytest.mark.parametrize(
    "state", [State("gemini", "gemini", {"data": "D"}), State("gemini", "gemini", {"signature": "G"})]
)
def test_state_of_other_formats_is_packed_whatever_it_holds(state):
    (block,) = write_answer("anthropic", simple(BlockStart("reasoning"), Delta("hm"), BlockEnd(state)))["content"]
    assert block == {"type": "thinking", "thinking": "hm", "signature": state.pack()}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('{"x":1}', {"x": 1}),
        ('{"x":', {}),
        ("[1]", {"arguments": [1]}),
        ("0", {"arguments": 0}),
        ("null", {}),
        ("", {}),
    ],
)
def test_arguments_become_an_object(written, value):
    (block,) = write_answer("anthropic", simple(CALL, Delta(written), BlockEnd()))["content"]
    assert block["input"] == value


LONG = "".join(map(chr, range(1000, 1400)))


@pytest.mark.parametrize(
    ("start", "end", "cited_text"),
    [
        (None, None, LONG[:150]),
        (10, None, LONG[10:160]),
        (10, 20, LONG[10:20]),
        (10, 300, LONG[10:160]),
        (200, 300, LONG[200:300]),
        (None, 5, LONG[:5]),
    ],
)
def test_the_cited_text(start, end, cited_text):
    cite = BlockEnd(citations=[Citation("u", "t", start, end)])
    (block,) = write_answer("anthropic", simple(BlockStart("text"), Delta(LONG), cite))["content"]
    assert block["citations"] == [quoted("u", "t", cited_text)]


@pytest.mark.parametrize(
    ("reason", "kinds", "sequence", "told"),
    [
        ("stop", ["text"], None, "end_turn"),
        ("stop", ["text"], "END", "stop_sequence"),
        ("length", ["text"], None, "max_tokens"),
        ("content_filter", ["text"], None, "refusal"),
        ("stop", ["refusal", "text"], None, "refusal"),
        ("stop", ["text", "refusal"], None, "refusal"),
    ],
)
def test_why_an_anthropic_answer_ends(reason, kinds, sequence, told):
    blocks = [each for kind in kinds for each in (BlockStart(kind), Delta("x"), BlockEnd())]
    events = [Start("i", "m"), *blocks, Finish(reason, stop_sequence=sequence)]
    whole = write_answer("anthropic", events)
    delta = orjson.loads(sdk.wire_events(write_stream("anthropic", events))[-2].data)["delta"]
    assert delta == {"stop_reason": told, "stop_sequence": sequence}
    assert {name: whole[name] for name in delta} == delta


def test_more_cached_tokens_than_there_were_are_not_less_than_none():
    assert write_answer("anthropic", simple(usage=Usage(4, 1, 3, 2)))["usage"]["input_tokens"] == 0


@pytest.mark.parametrize(
    ("status", "type"),
    [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
    ],
)
def test_an_anthropic_error(status, type):
    error = {"type": type, "message": "It broke."}
    told = BY_NAME["anthropic"].encode_error(GatewayError("It broke.", status=status))
    assert told == {"type": "error", "error": error, "request_id": None}
