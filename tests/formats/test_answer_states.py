"""Provider state on any block: read from each wire, written in each, and bound to the block it is of."""

import base64
import itertools

import orjson
import pytest

from droid2api.formats import BY_NAME
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Finish, Start, State
from droid2api.hub.request import Target

from . import sdk
from .recordings import each_format
from .wire import new_encoder, read_answer, read_stream, write_answer, write_stream

SIGNED = {"google": {"thought_signature": "S=="}}
OWN = State("chat", "claude", {"extra_content": SIGNED})
FOREIGN = State("gemini", "gemini", {"signature": "G"}, "generativelanguage.googleapis.com")


def frames(*values):
    return [b"data: %b\n\n" % (value if type(value) is bytes else orjson.dumps(value)) for value in values]


def states(events):
    """(kind, state at the start, state at the end) of each block."""
    found = []
    for event in events:
        if type(event) is BlockStart:
            found.append([event.kind, event.state, None])
        elif type(event) is BlockEnd:
            found[-1][2] = event.state
    return [tuple(block) for block in found]


# -- the state itself -----------------------------------------------------------------------------------------------


def test_bound_and_unbound():
    call, text = BlockStart("tool_call", "call_1", "f"), BlockStart("text")
    assert FOREIGN.bound() is None
    assert FOREIGN.for_block(call).bound() == ("tool_call", "call_1")
    assert FOREIGN.for_block(text).bound() == ("text", "")
    assert FOREIGN.for_block(BlockStart("refusal")).bound() == ("text", "")
    for start in (call, text):
        bound = State.unpack(FOREIGN.for_block(start).pack())
        assert bound == FOREIGN.for_block(start)
        assert bound.unbound() == FOREIGN


def test_strings_packed_by_earlier_releases():
    packed = base64.urlsafe_b64encode(orjson.dumps(["anthropic", "claude", {"signature": "S"}])).decode()
    assert State.unpack("droid2api." + packed) == State("anthropic", "claude", {"signature": "S"}, "")


def test_a_decoder_says_which_service_made_the_state():
    decoder = BY_NAME["chat"].StreamDecoder(Target("gemini-3", service="generativelanguage.googleapis.com"))
    message = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}, "extra_content": SIGNED}]}
    events = decoder.feed_values([{"choices": [{"index": 0, "delta": message, "finish_reason": "tool_calls"}]}])
    assert events[1].state == State("chat", "gemini", {"extra_content": SIGNED}, "generativelanguage.googleapis.com")


# -- from an upstream -----------------------------------------------------------------------------------------------


def chunk(call, finish=None):
    return {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": finish}]}


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}, "extra_content": SIGNED}], (OWN, None)),
        (
            [
                {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}},
                {"index": 0, "function": {"arguments": "1}"}, "extra_content": SIGNED},
            ],
            (None, OWN),
        ),
        (
            [
                {"index": 0, "id": "a", "extra_content": SIGNED},
                {"index": 0, "function": {"name": "f", "arguments": "{}"}},
            ],
            (OWN, None),
        ),
        (
            [
                {"index": 0, "id": "a", "function": {"name": "f"}, "extra_content": SIGNED},
                {"index": 0, "function": {"arguments": "{}"}, "extra_content": SIGNED},
            ],
            (OWN, None),
        ),
        ([{"index": 0, "id": "a", "function": {"name": "f"}, "extra_content": "odd"}], (None, None)),
        ([{"index": 0, "id": "a", "function": {"name": "f"}, "extra_content": {}}], (None, None)),
    ],
)
def test_extra_content_of_a_chat_call(calls, expected):
    events = read_stream("chat", frames(*map(chunk, calls), chunk({"index": 0}, "tool_calls"), b"[DONE]"))
    assert states(events) == [("tool_call", *expected)]


def test_extra_content_of_a_whole_chat_answer():
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": SIGNED}
    body = {"choices": [{"index": 0, "message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    assert states(read_answer("chat", body)) == [("tool_call", OWN, None)]


def phase(name):
    return State("responses", "claude", {"phase": name})


def response_item(kind, index, **item):
    return {"type": f"response.output_item.{kind}", "output_index": index, "item": {"type": "message", **item}}


def response_text(index, part, text):
    return {"type": "response.output_text.delta", "output_index": index, "content_index": part, "delta": text}


COMPLETED = {"type": "response.completed", "response": {"status": "completed"}}


def test_the_phase_of_a_message():
    content = [{"type": "output_text", "text": text} for text in ("a", "b")]
    begun = [
        response_item("added", 0, phase="commentary"),
        response_text(0, 0, "a"),
        response_text(0, 1, "b"),
        response_item("done", 0, phase="commentary", content=content),
    ]
    both = [("text", phase("commentary"), None)] * 2
    assert states(read_stream("responses", frames(*begun, COMPLETED))) == both
    late = [response_text(0, 0, "a"), response_item("done", 0, phase="final_answer", content=content[:1])]
    assert states(read_stream("responses", frames(*late, COMPLETED))) == [("text", None, phase("final_answer"))]
    body = {"status": "completed", "output": [{"type": "message", "phase": "commentary", "content": content}]}
    assert states(read_answer("responses", body)) == both


# -- to a client ----------------------------------------------------------------------------------------------------

CALL = BlockStart("tool_call", "call_1", "f")


def turn(*blocks):
    return [
        Start("i", "m"),
        *blocks,
        Finish("tool_calls" if CALL.kind in {b.kind for b in blocks if type(b) is BlockStart} else "stop"),
    ]


def call_of(first=None, last=None):
    return turn(BlockStart("tool_call", "call_1", "f", state=first), Delta("{}"), BlockEnd(last))


def text_of(first=None, last=None):
    return turn(BlockStart("text", state=first), Delta("ok"), BlockEnd(last))


def unpacked(text):
    return State.unpack(text)


@pytest.mark.parametrize("events", [call_of(OWN), call_of(None, OWN)])
def test_chats_own_state_of_a_call_goes_out_as_it_came(events):
    (call,) = write_answer("chat", events)["choices"][0]["message"]["tool_calls"]
    assert call["extra_content"] == SIGNED
    chunks = [orjson.loads(event.data) for event in sdk.wire_events(write_stream("chat", events))[:-1]]
    calls = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", ())]
    assert [call["extra_content"] for call in calls if "extra_content" in call] == [SIGNED]


@pytest.mark.parametrize("events", [call_of(FOREIGN), call_of(None, FOREIGN)])
def test_another_formats_state_of_a_call_is_packed_in_extra_content(events):
    (call,) = write_answer("chat", events)["choices"][0]["message"]["tool_calls"]
    assert call["extra_content"].keys() == {"droid2api"}
    assert unpacked(call["extra_content"]["droid2api"]) == FOREIGN


@pytest.mark.parametrize("events", [text_of(FOREIGN), text_of(None, FOREIGN)])
def test_state_of_text_is_a_reasoning_detail_for_a_chat_client(events):
    message = write_answer("chat", events)["choices"][0]["message"]
    (detail,) = message["reasoning_details"]
    assert detail["type"] == "reasoning.encrypted"
    assert unpacked(detail["data"]).bound() == ("text", "")
    assert unpacked(detail["data"]).unbound() == FOREIGN
    assert "reasoning_content" not in message


RESPONSES_ORDER = [
    (call_of(FOREIGN), ["reasoning", "function_call"], ("tool_call", "call_1")),
    (call_of(None, FOREIGN), ["function_call", "reasoning"], ("tool_call", "call_1")),
    (text_of(FOREIGN), ["reasoning", "message"], ("text", "")),
    (text_of(None, FOREIGN), ["message", "reasoning"], ("text", "")),
]


@pytest.mark.parametrize(("events", "order", "bound"), RESPONSES_ORDER)
def test_state_is_a_reasoning_item_for_a_responses_client(events, order, bound):
    stream = write_stream("responses", events)
    sdk.check_stream("responses", stream)
    streamed = orjson.loads(sdk.wire_events(stream)[-1].data)["response"]["output"]
    for output in (write_answer("responses", events)["output"], streamed):
        assert [item["type"] for item in output] == order
        carrier = output[order.index("reasoning")]
        assert carrier["summary"] == []
        assert unpacked(carrier["encrypted_content"]).bound() == bound
        assert unpacked(carrier["encrypted_content"]).unbound() == FOREIGN


@pytest.mark.parametrize("place", [0, 1])
def test_a_phase_is_written_on_its_message(place):
    events = text_of(*[phase("commentary") if place == number else None for number in (0, 1)])
    (message,) = write_answer("responses", events)["output"]
    assert message["phase"] == "commentary"


def test_texts_of_other_phases_are_other_messages():
    blocks = [
        [BlockStart("text", state=state), Delta("x"), BlockEnd()]
        for state in (phase("commentary"), phase("commentary"), phase("final_answer"), None)
    ]
    output = write_answer("responses", turn(*itertools.chain(*blocks)))["output"]
    assert [(message.get("phase"), len(message["content"])) for message in output] == [
        ("commentary", 2),
        ("final_answer", 1),
        (None, 1),
    ]


@pytest.mark.parametrize(
    ("events", "order", "bound"),
    [
        (call_of(FOREIGN), ["thinking", "tool_use"], ("tool_call", "call_1")),
        (call_of(None, FOREIGN), ["tool_use", "thinking"], ("tool_call", "call_1")),
        (text_of(FOREIGN), ["thinking", "text"], ("text", "")),
        (text_of(None, FOREIGN), ["text", "thinking"], ("text", "")),
        (text_of(phase("commentary")), ["thinking", "text"], ("text", "")),
    ],
)
def test_state_is_a_thinking_block_for_an_anthropic_client(events, order, bound):
    content = write_answer("anthropic", events)["content"]
    assert [block["type"] for block in content] == order
    carrier = content[order.index("thinking")]
    assert carrier["thinking"] == ""
    assert unpacked(carrier["signature"]).bound() == bound
    stream = write_stream("anthropic", events)
    sdk.check_stream("anthropic", stream)
    values = [orjson.loads(event.data) for event in sdk.wire_events(stream)]
    starts = [value["content_block"]["type"] for value in values if value["type"] == "content_block_start"]
    signatures = [
        value["delta"]["signature"] for value in values if value.get("delta", {}).get("type") == "signature_delta"
    ]
    assert (starts, signatures) == (order, [carrier["signature"]])


@each_format
def test_blocks_without_state_have_nothing_beside_them(format):
    stream = new_encoder(format).encode(
        turn(CALL, Delta("{}"), BlockEnd(), BlockStart("text"), Delta("ok"), BlockEnd())
    )
    assert not any(word in stream for word in (b"droid2api.", b'"thinking"', b'"type":"reasoning"', b"extra_content"))
