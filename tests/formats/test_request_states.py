"""Opaque provider state on any block: carried through each client's format, and sent back to who made it only."""

import base64

import pytest

from droid2api.formats import BY_NAME
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import State
from droid2api.hub.history import attach_states, normalize
from droid2api.hub.request import Message, Reasoning, Target, Text, ToolCall

from .bodies import (
    anthropic,
    anthropic_call,
    anthropic_result,
    assistant,
    chat,
    chat_call,
    chat_result,
    convert,
    part_of,
    responses,
    responses_call,
    responses_result,
    text,
    user,
)

EXTRA = {"google": {"thought_signature": "T"}}
SERVICE = "generativelanguage.googleapis.com"
OF_CALL = State("chat", "gemini", {"block": "tool_call", "call_id": "a", "extra_content": EXTRA}, SERVICE)
OF_TEXT = State("responses", "gpt", {"block": "text", "phase": "commentary"}, "api.openai.com")
GEMINI = Target("gemini-3-pro", service=SERVICE)
GPT = Target("gpt-5.5", service="api.openai.com")


def redacted(state):
    return {"type": "redacted_thinking", "data": state.pack()}


def thinking(state):
    return {"type": "thinking", "thinking": "", "signature": state.pack()}


def item(state):
    return {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": state.pack()}


def detail(state):
    return {"type": "reasoning.encrypted", "data": state.pack(), "format": "droid2api", "index": 0}


# a conversation whose call has state, as each client sends it back
WITH_CALL = {
    "anthropic, before": ("anthropic", anthropic(user("go"), assistant([redacted(OF_CALL), anthropic_call("a")]))),
    "anthropic, behind": ("anthropic", anthropic(user("go"), assistant([anthropic_call("a"), thinking(OF_CALL)]))),
    "responses": ("responses", responses(user("go"), item(OF_CALL), responses_call("a"))),
    "chat": (
        "chat",
        chat(
            user("go"),
            assistant(tool_calls=[chat_call("a") | {"extra_content": {"droid2api": OF_CALL.unbound().pack()}}]),
        ),
    ),
    "chat, among the details": (
        "chat",
        chat(user("go"), assistant(tool_calls=[chat_call("a")], reasoning_details=[detail(OF_CALL)])),
    ),
}
RESULTS = {
    "anthropic": ("messages", user([anthropic_result("a")])),
    "responses": ("input", responses_result("a")),
    "chat": ("messages", chat_result("a")),
}


def answered(client, body):
    name, result = RESULTS[client]
    return body | {name: [*body[name], result]}


@pytest.mark.parametrize("name", WITH_CALL)
def test_state_of_a_call_goes_back_to_its_service(name):
    client, body = WITH_CALL[name]
    encoded = convert(client, answered(client, body), "chat", GEMINI)
    assert encoded.body["messages"][1] == assistant(None, tool_calls=[chat_call("a") | {"extra_content": EXTRA}])


@pytest.mark.parametrize(
    "target", [Target("gemini-3-pro", service="other.example"), Target("qwen3-max", service=SERVICE)]
)
@pytest.mark.parametrize("name", WITH_CALL)
def test_state_of_a_call_goes_to_nobody_else(name, target):
    client, body = WITH_CALL[name]
    encoded = convert(client, answered(client, body), "chat", target)
    assert encoded.body["messages"][1] == assistant(None, tool_calls=[chat_call("a")])
    for other in ("responses", "anthropic"):
        assert "droid2api" not in str(convert(client, answered(client, body), other, target).body)


WITH_TEXT = {
    "anthropic, behind": ("anthropic", anthropic(user("go"), assistant([text("hm"), redacted(OF_TEXT)]), user("?"))),
    "anthropic, before": ("anthropic", anthropic(user("go"), assistant([redacted(OF_TEXT), text("hm")]), user("?"))),
    "chat": ("chat", chat(user("go"), assistant("hm", reasoning_details=[detail(OF_TEXT)]), user("?"))),
}


@pytest.mark.parametrize("name", WITH_TEXT)
def test_the_phase_of_a_message_goes_back(name):
    client, body = WITH_TEXT[name]
    said = {"type": "message", "role": "assistant", "content": "hm"}
    assert convert(client, body, "responses", GPT).body["input"][1] == said | {"phase": "commentary"}
    assert convert(client, body, "responses", Target("grok-4.7")).body["input"][1] == said


def test_a_clients_own_state_is_on_its_block():
    body = responses(user("go"), {"role": "assistant", "content": "hm", "phase": "commentary"}, user("?"))
    decoded = BY_NAME["responses"].decode_request(body)
    assert decoded.messages[1].parts == [Text("hm", state=State("responses", "", {"phase": "commentary"}))]
    call = chat_call("a") | {"extra_content": EXTRA}
    decoded = BY_NAME["chat"].decode_request(chat(user("go"), assistant(tool_calls=[call]), chat_result("a")))
    (found,) = decoded.messages[1].parts
    assert found == ToolCall("a", "f", '{"x":1}', state=State("chat", "", {"extra_content": EXTRA}))
    assert "extra_content" not in str(BY_NAME["chat"].encode_request(normalize(decoded), GEMINI).body)


def state(number, **bound):
    return State("chat", "m", {"n": number} | bound)


def carrier(number, call_id=None):
    return Reasoning(
        "", state(number, **({"block": "tool_call", "call_id": call_id} if call_id else {"block": "text"}))
    )


def call(id, **fields):
    return ToolCall(id, "f", "{}", **fields)


OWN = Reasoning("hm", state(9))
ATTACHED = {
    "behind its text": ([Text("a"), carrier(1), Text("b")], [Text("a", state=state(1)), Text("b")]),
    "before its text": ([OWN, carrier(1), Text("a")], [OWN, Text("a", state=state(1))]),
    "one behind each text": (
        [Text("a"), carrier(1), Text("b"), carrier(2)],
        [Text("a", state=state(1)), Text("b", state=state(2))],
    ),
    "one before each text": (
        [carrier(1), Text("a"), carrier(2), Text("b")],
        [Text("a", state=state(1)), Text("b", state=state(2))],
    ),
    "with something between": ([Text("a"), call("c"), carrier(1)], [Text("a", state=state(1)), call("c")]),
    "calls by their ids": (
        [carrier(2, "d"), call("c"), carrier(1, "c"), call("d")],
        [call("c", state=state(1)), call("d", state=state(2))],
    ),
    "a call that is gone": ([Text("a"), carrier(1, "c")], [Text("a")]),
    "no text at all": ([OWN, carrier(1)], [OWN]),
    "reasoning's own state stays": ([OWN, Text("a")], [OWN, Text("a")]),
}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", ATTACHED)
def test_attach_states(name, whole):
    parts, expected = ATTACHED[name]
    messages = [Message("assistant", parts)] if whole else [Message("assistant", [part]) for part in parts]
    question = Message("user", [Text("?")])
    attached = attach_states([question, *messages, question])
    assert attached[0] == attached[-1] == question
    assert [part for message in attached[1:-1] for part in message.parts] == expected
    assert all(message.parts for message in attached)


def test_state_does_not_wander_to_another_answer():
    first, second = Message("assistant", [carrier(1)]), Message("assistant", [Text("b")])
    question = Message("user", [Text("?")])
    assert attach_states([first, question, second]) == [question, second]


# -- the relay lane -------------------------------------------------------------------------------------------------


def test_the_relay_lane_takes_out_what_this_gateway_marked():
    marked = chat_call("a") | {"extra_content": {"droid2api": OF_CALL.unbound().pack()}}
    mixed = chat_call("b") | {"extra_content": {"droid2api": OF_CALL.unbound().pack()} | EXTRA}
    own = chat_call("c") | {"extra_content": EXTRA}
    body = chat(user("go"), assistant(tool_calls=[marked, mixed, own], reasoning_details=[detail(OF_CALL)]))
    encoded = Encoded(body)
    BY_NAME["chat"].apply_model_settings(encoded, {}, GEMINI, "")
    assert encoded.dropped == ["messages.reasoning", "messages.tool_call.extra_content.droid2api"]
    kept = [chat_call("a"), chat_call("b") | {"extra_content": EXTRA}, own]
    assert body["messages"][1] == assistant(tool_calls=kept)
    body = anthropic(user("go"), assistant([text("hm"), redacted(OF_TEXT), thinking(OF_CALL)]))
    encoded = Encoded(body)
    BY_NAME["anthropic"].apply_model_settings(encoded, {}, Target("claude-opus-5"), "")
    assert encoded.dropped == ["messages.reasoning"]
    assert body["messages"][1] == assistant([text("hm")])
    body = responses(user("go"), item(OF_CALL), responses_call("a"))
    encoded = Encoded(body)
    BY_NAME["responses"].apply_model_settings(encoded, {}, GPT, "")
    assert encoded.dropped == ["messages.reasoning"]
    assert part_of(body, {"input": []}) == {"input": [user("go"), responses_call("a")]}
    body = {
        "contents": [
            {
                "role": "model",
                "parts": [{"text": "a", "thoughtSignature": base64.b64encode(OF_TEXT.pack().encode()).decode()}],
            }
        ]
    }
    encoded = Encoded(body)
    BY_NAME["gemini"].apply_model_settings(encoded, {}, Target("gemini-3-pro"), "")
    assert encoded.dropped == ["messages.text.signature"]
    assert body["contents"] == [{"role": "model", "parts": [{"text": "a"}]}]


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_the_relay_lane_names_what_a_reasoning_level_leaves_no_room_for(name):
    encoded = Encoded(anthropic(user("go")) | {name: 1, "tool_choice": {"type": "any"}})
    BY_NAME["anthropic"].apply_model_settings(encoded, {}, Target("claude-opus-5", "high"), "")
    assert name not in encoded.body
    assert (encoded.dropped, dict(encoded.repaired)) == ([name], {"tool_choice": 1, "max_tokens": 1})


@pytest.mark.parametrize("format", BY_NAME)
def test_the_relay_lane_names_nothing_where_it_loses_nothing(format):
    bodies = {"chat": chat, "responses": responses, "anthropic": anthropic, "gemini": lambda *_: {"contents": []}}
    encoded = Encoded(bodies[format](user("go"), assistant("ok"), user("on")))
    BY_NAME[format].apply_model_settings(encoded, {}, Target("m"), "Be kind.")
    assert (encoded.dropped, dict(encoded.repaired)) == ([], {})
