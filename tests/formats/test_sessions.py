"""What a session needs to go on, where a real client's came to an end at a strict upstream."""

import orjson
import pytest

from droid2api.errors import RequestError
from droid2api.formats import BY_NAME
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import State

from .bodies import (
    PDF,
    PNG,
    anthropic,
    anthropic_call,
    anthropic_result,
    assistant,
    chat,
    chat_call,
    chat_result,
    convert,
    input_text,
    responses,
    responses_call,
    responses_result,
    responses_tool,
    target,
    text,
    user,
)

OPENAI_CHAT = target("chat", "gpt-5.4", "api.openai.com")
GPT = target("responses", "gpt-5.5")
HAIKU = target("anthropic", "claude-haiku-4-5")
OPUS_48 = target("anthropic", "claude-opus-4-8")
OPUS_55 = target("anthropic", "claude-opus-5-5")
GROQ = target("chat", "openai/gpt-oss-120b", "api.groq.com")
DEEPSEEK = target("chat", "deepseek-v4-pro", "api.deepseek.com")
DEEPSEEK_A = target("anthropic", "deepseek-v4-pro", "api.deepseek.com")

STAND_IN = {"type": "thinking", "thinking": " ", "signature": ""}


def test_deepseeks_messages_have_thinking_with_every_call():
    body = responses(user("go"), responses_call("a"), responses_result("a"), assistant("done"), user("on"))
    encoded = convert("responses", body, "anthropic", DEEPSEEK_A)
    assert encoded.body["messages"][1]["content"] == [STAND_IN, anthropic_call("a")]
    assert encoded.body["messages"][3]["content"] == [text("done")]
    assert convert("responses", body, "anthropic", HAIKU).body["messages"][1]["content"] == [anthropic_call("a")]


def test_so_they_have_in_the_relay_lane():
    thought = {"type": "thinking", "thinking": "", "signature": State("chat", "glm", {}).pack()}
    turns = [assistant([anthropic_call("a")]), assistant([thought, anthropic_call("b")]), assistant([text("so")])]
    body = anthropic(user("go"), *turns)
    BY_NAME["anthropic"].apply_model_settings(Encoded(body), {}, DEEPSEEK_A, "")
    sent = [message["content"] for message in body["messages"][1:]]
    assert sent == [[STAND_IN, anthropic_call("a")], [STAND_IN, anthropic_call("b")], [text("so")]]


def thought(signature):
    state = State("anthropic", "claude", {"signature": signature})
    summary = [{"type": "summary_text", "text": signature}]
    return {"type": "reasoning", "id": "rs", "summary": summary, "encrypted_content": state.pack()}


def search(id, *found):
    call = {"type": "tool_search_call", "call_id": id, "execution": "client", "arguments": {"query": "mail"}}
    output = {"type": "tool_search_output", "call_id": id, "execution": "client", "tools": list(found)}
    return [call, output]


@pytest.mark.parametrize(
    ("model", "found", "kept"),
    [
        (OPUS_55, [[responses_tool("f")], []], ["b", "c"]),
        (OPUS_55, [[responses_tool("f")], [responses_tool("f")]], ["b", "c"]),
        (OPUS_55, [[responses_tool("f")], [responses_tool("g")]], ["c"]),
        (OPUS_55, [[], []], ["a", "b", "c"]),
        (OPUS_48, [[responses_tool("f")], []], ["a", "b", "c"]),
    ],
)
def test_tools_that_are_found_outdate_the_thinking_before_them(model, found, kept):
    """Where thinking is bound to the tools, what was thought under others would be refused in every later turn."""
    items = [user("go"), thought("a"), *search("s", *found[0]), thought("b"), *search("t", *found[1]), thought("c")]
    tools = [{"type": "tool_search", "execution": "client", "parameters": {"type": "object", "properties": {}}}]
    encoded = convert("responses", responses(*items, assistant("so"), user("on"), tools=tools), "anthropic", model)
    blocks = [block for message in encoded.body["messages"] for block in message["content"]]
    assert [block["signature"] for block in blocks if block["type"] == "thinking"] == kept
    assert ("messages.reasoning" in encoded.dropped) == (len(kept) < 3)


def document(media_type, data):
    return {"type": "document", "source": {"type": "base64", "media_type": media_type, "data": data}}


def image(data=PNG):
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


READ = anthropic(user("read it"), assistant([anthropic_call("a")]))


@pytest.mark.parametrize(
    ("upstream", "model", "media", "kind"),
    [
        ("chat", DEEPSEEK, document("application/pdf", PDF), "application/pdf"),
        ("chat", GROQ, document("application/pdf", PDF), "application/pdf"),
        ("anthropic", DEEPSEEK_A, image(), "image/png"),
        ("anthropic", HAIKU, document("application/msword", "0M8R"), "application/msword"),
    ],
)
def test_media_in_a_result_that_the_model_does_not_take(upstream, model, media, kind):
    """The tool has run, and its result is in the history from now on: the model is told, the client by name."""
    result = anthropic_result("a", [text("here it is"), media])
    body = READ | {"messages": [*READ["messages"], user([result])]}
    encoded = convert("anthropic", body, upstream, model)
    written = orjson.dumps(encoded.body["messages"]).decode()
    assert "here it is" in written
    assert f"[{kind} left out: this model cannot read it]" in written
    assert "base64" not in written
    assert f"messages.tool_result.{kind}" in encoded.dropped
    with pytest.raises(RequestError, match=kind):
        convert("anthropic", anthropic(user([media])), upstream, model)


def test_media_in_a_result_that_it_takes():
    output = [input_text("here"), {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}]
    body = responses(user("go"), responses_call("a"), responses_result("a", output))
    assert convert("responses", body, "anthropic", HAIKU).body["messages"][2]["content"][0]["content"][1] == image()
    assert f"data:image/png;base64,{PNG}" in str(convert("responses", body, "chat", DEEPSEEK).body)


def test_long_ids_of_calls_to_openais_chat():
    id = "ws_689e2d4880a0819d98acca37694989b00b15d90494fc6b87"
    body = anthropic(user("go"), assistant([anthropic_call(id)]), user([anthropic_result(id)]))
    _, called, came = convert("anthropic", body, "chat", OPENAI_CHAT).body["messages"]
    assert called["tool_calls"][0]["id"] == came["tool_call_id"]
    assert 0 < len(came["tool_call_id"]) <= 40
    assert [item["call_id"] for item in convert("anthropic", body, "responses", GPT).body["input"][1:]] == [id, id]
    same = chat(user("go"), assistant(tool_calls=[chat_call("i" * 40)]), chat_result("i" * 40))
    assert convert("chat", same, "chat", OPENAI_CHAT).body["messages"][2]["tool_call_id"] == "i" * 40
