"""What all stream decoders share: whose fault an error is, limits, ids, and time that grows with the input."""

import copy

import orjson
import pytest

from droid2api.errors import StreamError, WireError
from droid2api.formats import BY_NAME, decoder
from droid2api.hub import turn
from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Failed, Finish
from droid2api.wire import fields
from droid2api.wire.sse import ServerSentEvent
from tests.timing import assert_linear

from . import sdk
from .recordings import OWN, each_format
from .wire import TARGET, read_answer, read_stream

# -- whose fault ----------------------------------------------------------------------------------------------------


@each_format
@pytest.mark.parametrize("bug", [AttributeError, KeyError, TypeError, ValueError, IndexError])
def test_a_mistake_of_ours_passes_through(format, bug, monkeypatch):
    def planted(*arguments):
        raise bug("planted")

    reader = BY_NAME[format].StreamDecoder(TARGET)
    events = sdk.wire_events((OWN / format / "text.sse").read_bytes())
    monkeypatch.setattr(reader.turn, "delta", planted)
    with pytest.raises(bug, match="planted"):
        reader.feed(events)
    monkeypatch.setattr(reader.turn, "fail", planted)
    with pytest.raises(bug, match="planted"):
        reader.close()
    with pytest.raises(bug, match="planted"):
        reader.feed_values([{"type": "error", "error": "x"}])


@each_format
def test_what_cannot_be_read_is_one_failure(format, monkeypatch):
    reader = BY_NAME[format].StreamDecoder(TARGET)

    def unreadable(value):
        raise WireError("a thing that nobody can read")

    monkeypatch.setattr(reader, "read_value", unreadable)
    (_, failed) = reader.feed([ServerSentEvent(b"", b"{}"), ServerSentEvent(b"", b"{}")])
    assert type(failed.error) is StreamError
    assert failed.error.message == "The upstream sent a thing that nobody can read."
    assert reader.close() == []


@each_format
def test_a_failure_of_the_input(format):
    reader = BY_NAME[format].StreamDecoder(TARGET)
    error = StreamError("It broke.")
    assert reader.fail(error)[-1] == Failed(error)
    assert reader.fail(error) == reader.close() == []


DEEP = b'{"a":' * 300 + b"1" + b"}" * 300


@pytest.mark.parametrize(
    ("format", "data"),
    [
        (
            "chat",
            b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":%b}}]}}]}',
        ),
        (
            "responses",
            b'{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","call_id":"a","name":"f","arguments":%b}}',
        ),
        (
            "anthropic",
            b'{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"f","input":%b}}',
        ),
        ("gemini", b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":%b}}]}}]}'),
    ],
)
def test_arguments_that_are_nested_too_deeply_to_be_written(format, data):
    failed = read_stream(format, [b"data: %b\n\n" % (data % DEEP)])[-1]
    assert failed.error.message == "The upstream sent JSON that is nested too deeply."


def test_state_that_is_nested_too_deeply_is_left_out():
    deep = orjson.loads(DEEP)
    assert fields.opaque({"x": deep}, "x") == {}
    assert fields.opaque({"x": {"a": [{"b": 1}]}}, "x") == {"a": [{"b": 1}]}
    body = orjson.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    raw = b'{"choices":[{"index":0,"delta":{"reasoning":"hm","reasoning_details":[{"type":"x","data":%b}]}}]}' % DEEP
    events = read_stream("chat", [b"data: %b\n\n" % raw, b"data: %b\n\n" % body])
    assert events[-2].state.data == {"field": "reasoning"}


# -- odd optional fields --------------------------------------------------------------------------------------------

TEXT_OF = {
    "chat": [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}]}],
    "responses": [
        {"type": "response.created", "response": {"id": "r", "model": "m"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "msg"}},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "msg", "delta": "ok"},
        {"type": "response.completed", "response": {"status": "completed"}},
    ],
    "anthropic": [
        {"type": "message_start", "message": {"id": "m", "model": "m"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ok"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ],
    "gemini": [
        {
            "candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "ok"}]}}],
            "modelVersion": "m",
            "responseId": "r",
        },
        {"candidates": [{"index": 0, "finishReason": "STOP", "finishMessage": "m"}], "usageMetadata": {}},
    ],
}


def said_by_gemini(*parts):
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}}]}


def frames(values):
    return [b"data: %b\n\n" % (value if type(value) is bytes else orjson.dumps(value)) for value in values]


def text_of(events):
    assert type(events[-1]) is Finish, events[-1]
    return "".join(event.text for event in events if hasattr(event, "text"))


@each_format
@pytest.mark.parametrize("odd", [5, 1.5, True, [], {}, [1], {"a": 1}], ids=repr)
@pytest.mark.parametrize(
    "name",
    [
        "id",
        "model",
        "usage",
        "created",
        "service_tier",
        "item_id",
        "stop_sequence",
        "usageMetadata",
        "responseId",
        "finishMessage",
    ],
)
def test_an_odd_optional_field_never_fails_an_answer(format, name, odd):
    def with_odd(value):
        if type(value) is not dict:
            return value
        value = {key: with_odd(inner) for key, inner in value.items()}
        return value | {name: odd} if name in value or {"type", "choices", "candidates"} & value.keys() else value

    assert text_of(read_stream(format, frames(map(with_odd, TEXT_OF[format])))) == "ok"


@each_format
@pytest.mark.parametrize("data", [b"", b" ", b"\t"])
def test_data_without_content(format, data):
    values = [value for pair in ((data, each) for each in TEXT_OF[format]) for value in pair]
    assert text_of(read_stream(format, frames(values))) == "ok"


@pytest.mark.parametrize(
    ("format", "value", "words"),
    [
        ("chat", {"choices": "no"}, "an event whose choices are no list"),
        ("chat", {"choices": [5]}, "an event with a choice that is no object"),
        ("chat", {"choices": [{"delta": "no"}]}, "an event whose delta is no object"),
        ("chat", {"choices": [{"delta": {"content": 5}}]}, "content that is no text"),
        ("chat", {"choices": [{"delta": {"content": [5]}}]}, "a part of content that is no object"),
        ("chat", {"choices": [{"delta": {"refusal": 5}}]}, "an event whose refusal is no text"),
        ("chat", {"choices": [{"delta": {}, "finish_reason": 5}]}, "an event whose finish_reason is no text"),
        ("chat", {"choices": [{"delta": {"tool_calls": 5}}]}, "tool calls that are no list"),
        ("chat", {"choices": [{"delta": {"tool_calls": [5]}}]}, "a tool call that is no object"),
        (
            "chat",
            {"choices": [{"delta": {"tool_calls": [{"function": 5}]}}]},
            "a tool call whose function is no object",
        ),
        ("responses", {"output_index": 0}, 'an event without a type: {"output_index":0}'),
        ("responses", {"type": "response.output_item.done", "output_index": 0}, "an event whose item is no object"),
        (
            "responses",
            {"type": "response.output_item.added", "output_index": 0, "item": {"type": "function_call"}},
            "a tool call without a name",
        ),
        ("anthropic", {"index": 0}, 'an event without a type: {"index":0}'),
        ("anthropic", {"type": "message_start"}, "an event whose message is no object"),
        ("anthropic", {"type": "content_block_start", "index": 0}, "an event whose content_block is no object"),
        (
            "anthropic",
            {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "a"}},
            "a tool call without a name",
        ),
        (
            "anthropic",
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
            "a delta of a block that is not open",
        ),
        ("gemini", {"candidates": "no"}, "an event whose candidates is no list of objects"),
        ("gemini", {"candidates": [{"finishReason": 5}]}, "an event whose finishReason is no text"),
        ("gemini", said_by_gemini({"text": 5}), "an event whose text is no text"),
        ("gemini", said_by_gemini(5), "an event whose parts is no list of objects"),
        ("gemini", said_by_gemini({"functionCall": 5}), "an event whose functionCall is no object"),
        ("gemini", said_by_gemini({"functionCall": {"args": {}}}), "a tool call without a name"),
        (
            "gemini",
            said_by_gemini({"inlineData": {"mimeType": "image/png", "data": "aa"}}),
            "a picture or a file in its answer, which cannot be passed on",
        ),
        (
            "gemini",
            said_by_gemini({"functionCall": {"name": "f", "partialArgs": [{"jsonPath": "$[0]", "boolValue": True}]}}),
            "arguments of a tool call in no such place",
        ),
    ],
)
def test_what_an_answer_needs(format, value, words):
    failed = read_stream(format, frames([value, *TEXT_OF[format]]))[-1]
    assert (failed.error.message, failed.error.status) == (f"The upstream sent {words}.", 502)


# -- halves of characters -------------------------------------------------------------------------------------------

HALVES = [
    (["a\\ud83d", "\\ude00b"], "a😀b"),
    (["a\\ud83d", "b"], "a\ufffdb"),
    (["a", "\\ude00b"], "a\ufffdb"),
    (["\\ud83d\\ude00", "\\ud83d"], "😀\ufffd"),
    (["\\ud83d", "\\ud83d", "\\ude00"], "\ufffd😀"),
    (["\\ud83d", "\\ude00\\ud83d", "\\ude00"], "😀😀"),
]


@each_format
@pytest.mark.parametrize(("texts", "whole"), HALVES)
def test_halves_of_a_character(format, texts, whole):
    """In two events that follow on each other they are one character, else U+FFFD."""
    values = [orjson.dumps(value) for value in TEXT_OF[format]]
    if format == "chat":
        values.insert(0, values[0].replace(b'"stop"', b"null"))
        values[1] = values[1].replace(b'"ok"', b'""')
    place = next(number for number, value in enumerate(values) if b'"ok"' in value)
    said = [values[place].replace(b'"ok"', b'"%b"' % text.encode()) for text in texts]
    events = read_stream(format, frames([*values[:place], *said, *values[place + 1 :]]))
    assert text_of(events) == whole
    reader = BY_NAME[format].StreamDecoder(TARGET)
    one_by_one = [
        event
        for value in values[:place] + said + values[place + 1 :]
        for event in reader.feed([ServerSentEvent(b"", value)])
    ]
    assert one_by_one + reader.close() == events


@each_format
def test_a_half_in_the_last_event(format):
    """In a field that nobody reads."""
    values = [orjson.dumps(value) for value in TEXT_OF[format]]
    values[-1] = values[-1][:-1] + b',"x":["\\ud83d",{"y":"\\ude00"},123456789012345678901234567890]}'
    assert text_of(read_stream(format, frames(values))) == "ok"


# -- limits ---------------------------------------------------------------------------------------------------------


@each_format
def test_an_answer_has_a_limit_of_bytes(format, monkeypatch):
    monkeypatch.setattr(decoder, "ANSWER_LIMIT", 5000)
    *begun, last = copy.deepcopy(TEXT_OF[format]) + ([b"[DONE]"] if format == "chat" else [])
    delta = next(value for value in begun if b"ok" in orjson.dumps(value))
    if format == "chat":
        begun[0]["choices"][0]["finish_reason"] = None
    failed = read_stream(format, frames([*begun[: begun.index(delta) + 1], *[delta] * 100, last]))[-1]
    assert failed.error.message == "The upstream sent more than 5000 bytes in one answer."


def many_blocks(format, number):
    """The values of a stream with so many blocks, none of which is ended."""
    match format:
        case "chat":
            deltas = [{"tool_calls": [{"index": n, "id": f"c{n}", "function": {"name": "f"}}]} for n in range(number)]
            return [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas] + [b"[DONE]"]
        case "responses":
            items = [{"type": "function_call", "call_id": f"c{n}", "name": "f"} for n in range(number)]
            added = [
                {"type": "response.output_item.added", "output_index": n, "item": item} for n, item in enumerate(items)
            ]
            return [*added, {"type": "response.completed", "response": {"output": items}}]
        case "gemini":
            calls = [{"functionCall": {"id": f"c{n}", "name": "f"}} for n in range(number)]
            return [*map(said_by_gemini, calls), {"candidates": [{"finishReason": "STOP"}]}]
        case "anthropic":
            blocks = [{"type": "tool_use", "id": f"c{n}", "name": "f"} for n in range(number)]
            begun = [
                {"type": "content_block_start", "index": n, "content_block": block} for n, block in enumerate(blocks)
            ]
            return [*begun, {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, {"type": "message_stop"}]


@each_format
def test_an_answer_has_a_limit_of_blocks(format, monkeypatch):
    monkeypatch.setattr(turn, "MOST_BLOCKS", 50)
    assert type(read_stream(format, frames(many_blocks(format, 50)))[-1]) is Finish
    failed = read_stream(format, frames(many_blocks(format, 51)))[-1]
    assert failed.error.message == "The upstream sent more than 50 blocks in one answer."


# -- ids ------------------------------------------------------------------------------------------------------------


def ids_of(events):
    assert type(events[-1]) is Finish, events[-1]
    return [event.id for event in events if type(event) is BlockStart]


@each_format
def test_an_id_that_the_conversation_holds_becomes_another(format):
    values = many_blocks(format, 3)
    reader = BY_NAME[format].StreamDecoder(TARGET, {"c1", "call_x_0"})
    events = reader.feed(
        ServerSentEvent(b"", value if type(value) is bytes else orjson.dumps(value)) for value in values
    )
    first, second, third = ids_of(events)
    assert (first, third) == ("c0", "c2")
    assert second not in ("c0", "c1", "c2", "call_x_0")


CALLS = [{"id": "call_0", "function": {"name": "f", "arguments": "{}"}}, {"id": "call_0", "function": {"name": "g"}}]
WHOLE = {
    "chat": {"id": "x", "choices": [{"message": {"tool_calls": CALLS}, "finish_reason": "tool_calls"}]},
    "responses": {
        "id": "x",
        "output": [{"type": "function_call", "call_id": "call_0", "name": name, "arguments": "{}"} for name in "fg"],
    },
    "anthropic": {"id": "x", "content": [{"type": "tool_use", "id": "call_0", "name": name} for name in "fg"]},
    "gemini": {
        "responseId": "x",
        "candidates": [
            {
                "content": {"parts": [{"functionCall": {"id": "call_0", "name": name}} for name in "fg"]},
                "finishReason": "STOP",
            }
        ],
    },
}


@each_format
def test_ids_of_a_whole_answer(format):
    used = {"call_0", "call_x_0", "call_x_2"}
    assert ids_of(BY_NAME[format].decode_response(WHOLE[format], TARGET, used)) == ["call_x_1", "call_x_3"]
    assert ids_of(read_answer(format, WHOLE[format])) == ["call_0", "call_x_1"]


# -- time -----------------------------------------------------------------------------------------------------------


def chat_chunks(deltas):
    return [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]


def response_deltas(kind, number, **fields):
    return [{"type": f"response.{kind}.delta", "delta": "x", **fields} for _ in range(number)]


SCALING = {
    "chat blocks": lambda n: ("chat", many_blocks("chat", n)),
    "chat blocks in turns": lambda n: ("chat", chat_chunks([{"content": "x"}, {"reasoning": "y"}] * (n // 2))),
    "chat white space": lambda n: ("chat", chat_chunks([{"content": " "}] * n)),
    "chat details": lambda n: (
        "chat",
        chat_chunks([{"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "x" * 50}]}] * n),
    ),
    "chat arguments without a name": lambda n: (
        "chat",
        chat_chunks([{"tool_calls": [{"index": 0, "function": {"arguments": "x" * 50}}]}] * n),
    ),
    "chat fragments without an index": lambda n: (
        "chat",
        chat_chunks(
            [
                {"tool_calls": [{"id": f"c{i}", "function": {"name": "f"}}, {"function": {"arguments": " "}}]}
                for i in range(n)
            ]
        ),
    ),
    "chat names in every fragment": lambda n: (
        "chat",
        chat_chunks([{"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"'}}]}] * n),
    ),
    "chat calls said again": lambda n: (
        "chat",
        chat_chunks(
            [
                {
                    "tool_calls": [
                        {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"x":"%s"}' % ("x" * 2000)}}
                    ]
                }
            ]
            + [{"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}] * n
        ),
    ),
    "responses blocks": lambda n: ("responses", many_blocks("responses", n)),
    "responses parts": lambda n: (
        "responses",
        [
            {"type": "response.output_text.delta", "output_index": 0, "content_index": i, "delta": f"x{i}"}
            for i in range(n)
        ]
        + [
            {"type": "response.output_text.done", "output_index": 0, "content_index": i + n, "text": f"x{i}"}
            for i in range(n)
        ],
    ),
    "responses parts said again": lambda n: (
        "responses",
        [
            {"type": kind, "output_index": 0, "content_index": 0, "delta": "x" * 50, "text": "x"}
            for _ in range(n)
            for kind in ("response.output_text.delta", "response.output_text.done")
        ],
    ),
    "responses items without an index": lambda n: (
        "responses",
        [
            {"type": "response.output_item.added", "item": {"type": "function_call", "name": "f", "call_id": f"c{i}"}}
            for i in range(n)
        ],
    ),
    "gemini blocks": lambda n: ("gemini", many_blocks("gemini", n)),
    "gemini texts with signatures": lambda n: (
        "gemini",
        [said_by_gemini({"text": "x", "thoughtSignature": "c2ln"})] * n,
    ),
    "gemini citations": lambda n: (
        "gemini",
        [
            said_by_gemini({"text": "é" * n}),
            {
                "candidates": [
                    {
                        "finishReason": "STOP",
                        "citationMetadata": {"citations": [{"uri": "u", "endIndex": i} for i in range(n)]},
                    }
                ]
            },
        ],
    ),
    "gemini streamed arguments": lambda n: (
        "gemini",
        [
            said_by_gemini(
                {"functionCall": {"name": "f" if i == 0 else None, "willContinue": True, "partialArgs": [piece]}}
            )
            for i in range(n)
            for piece in [{"jsonPath": f"$.a.b{i % 9}", "stringValue": "x" * 50}]
        ],
    ),
    "gemini pieces of a long text": lambda n: (
        "gemini",
        [
            said_by_gemini({"functionCall": {"name": None if i else "f", "willContinue": True, "partialArgs": [piece]}})
            for i in range(n)
            for piece in [{"jsonPath": "$.a", "stringValue": "x" if i else "x" * (500 * n)}]
        ],
    ),
    "gemini places of a search": lambda n: (
        "gemini",
        [
            said_by_gemini({"text": "x"}),
            {
                "candidates": [
                    {
                        "finishReason": "STOP",
                        "groundingMetadata": {
                            "groundingChunks": [{"web": {"uri": "u"} | {f"f{i}": 1 for i in range(n)}}],
                            "groundingSupports": [{"groundingChunkIndices": [0] * n}],
                        },
                    }
                ]
            },
        ],
    ),
    "anthropic blocks": lambda n: ("anthropic", many_blocks("anthropic", n)),
    "anthropic signatures": lambda n: (
        "anthropic",
        [{"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}}]
        + [{"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "x" * 50}}]
        * n,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCALING)
def test_time_grows_with_the_input(name, monkeypatch):
    monkeypatch.setattr(turn, "MOST_BLOCKS", 1 << 30)
    assert_linear(lambda size: reading(*SCALING[name](size)), 4000)


def reading(format, values):
    events = [ServerSentEvent(b"", value if type(value) is bytes else orjson.dumps(value)) for value in values]

    def run():
        reader = BY_NAME[format].StreamDecoder(TARGET)
        for event in events:
            reader.feed([event])
        reader.close()

    return run


def test_a_search_that_cites_one_page_without_end():
    """What is cited is written once for each place, so that numbers could become gigabytes."""
    page = {"web": {"uri": "https://example.org", "title": "t" * 1_000_000}}
    support = {"segment": {"endIndex": 2}, "groundingChunkIndices": [0] * 200_000}
    odd = [{"web": {"uri": "u" * 100_000}}]
    grounding = {"groundingChunks": [page, *odd], "groundingSupports": [support]}
    events = BY_NAME["gemini"].decode_response(
        said_by_gemini({"text": "ok"})
        | {
            "candidates": [
                {"content": {"parts": [{"text": "ok"}]}, "finishReason": "STOP", "groundingMetadata": grounding}
            ]
        },
        TARGET,
    )
    cited = next(event for event in events if type(event) is BlockEnd).citations
    assert cited == [Citation("https://example.org", "t" * 1000, 0, 2)] * 5000


# -- a call whose arguments Gemini streams ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "arguments"),
    [
        ([("$.a", "x"), ("$.a", "y")], {"a": "xy"}),
        ([("$.a.b", "x"), ("$.a.c", True)], {"a": {"b": "x", "c": True}}),
        ([("$.a[0]", "x"), ("$.a[0]", "y"), ("$.a[1]", 2)], {"a": ["xy", 2]}),
        ([("$.a[0].b", "x"), ("$.a[0].c[0]", "y"), ("$.a[1].b", "z")], {"a": [{"b": "x", "c": ["y"]}, {"b": "z"}]}),
        ([("$['a b'].c", "x"), ('$["d.e"]', "y")], {"a b": {"c": "x"}, "d.e": "y"}),
        ([("$.a", None)], {"a": None}),
        ([("$.a[1]", "x")], None),  # there is no place 0
        ([("$.a[999999999]", "x")], None),
        ([("$.a", "x"), ("$.a.b", "y")], None),
        ([("$[0]", "x")], None),
        ([("$", "x")], None),
        ([("a", "x")], None),
        ([("$..a", "x")], None),
        ([("$.a[x]", "x")], None),
    ],
)
def test_streamed_arguments_go_where_their_path_says(pieces, arguments):
    kinds = {str: "stringValue", int: "numberValue", bool: "boolValue", type(None): "nullValue"}
    calls = [{"name": "f", "willContinue": True}]
    calls += [
        {"partialArgs": [{"jsonPath": path, kinds[type(value)]: value}], "willContinue": True} for path, value in pieces
    ]
    values = [said_by_gemini({"functionCall": call}) for call in [*calls, {}]]
    values.append({"candidates": [{"finishReason": "STOP"}]})
    events = read_stream("gemini", frames(values))
    if arguments is None:
        assert "in no such place" in events[-1].error.message
    else:
        assert orjson.loads("".join(event.text for event in events if type(event) is Delta)) == arguments
        assert type(events[-1]) is Finish
