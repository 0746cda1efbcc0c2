"""What each format says of its clients' paths, headers and bodies, of its upstream's URL, and of a list of models."""

from datetime import UTC, datetime

import pytest

from droid2api.formats import BY_NAME, FORMATS, spoken
from droid2api.formats.chat import encode_model, encode_models
from droid2api.formats.gemini import encode_model as encode_gemini_model
from droid2api.formats.routes import ClientCall, ModelCard, Refuse
from droid2api.hub.request import Target

TARGET = Target("m/a b")


@pytest.mark.parametrize(
    ("path", "headers", "name"),
    [
        ("/v1/chat/completions", {}, "chat"),
        ("/v1/responses", {}, "responses"),
        ("/v1/messages", {}, "anthropic"),
        ("/v1/models", {"anthropic-version": "2023-06-01"}, "anthropic"),
        ("/v1/chat/completions", {"anthropic-version": "2023-06-01"}, "anthropic"),
        ("/v1beta/models", {}, "gemini"),
        ("/generate", {}, "gemini"),
        ("/v1/models/m:generateContent", {}, "gemini"),
        ("/v1/models/m:batchEmbedContents", {}, "gemini"),
        ("/v1/models/m:embedContent", {}, "gemini"),
        ("/v1/models/m:countTokens", {}, "gemini"),
        ("/v1/models/m:predictLongRunning", {}, "gemini"),
        ("/v1/models", {"x-goog-api-key": "k"}, "gemini"),
        ("/v1/models", {}, "chat"),
        ("/", {}, "chat"),
    ],
)
def test_the_format_of_a_call(path, headers, name):
    assert spoken(FORMATS, path, headers) is BY_NAME[name]
    others = [format.NAME for format in FORMATS if format is not BY_NAME[name] and format.speaks(path, {})]
    assert others == (["chat"] if "chat" in path and name != "chat" else [])


FIELDS = {
    "chat": "max_completion_tokens stop n response_format stream_options reasoning_effort seed",
    "responses": "input instructions previous_response_id max_output_tokens",
    "anthropic": "system thinking stop_sequences top_k context_management output_config",
    "gemini": "contents systemInstruction system_instruction generationConfig generation_config",
}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name in FIELDS for field in FIELDS[name].split()])
def test_a_field_that_only_one_format_has(name, field):
    body = {"model": "m", field: None}
    found = {format.NAME: reason for format in FORMATS if (reason := format.recognize(body))}
    assert found == {name: f"only this format has {field!r}"}


def said(**message):
    return {"messages": [None, {"role": "user"}, message]}


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"tools": [{"function": {}}]}, "chat"),
        (said(tool_calls=[]), "chat"),
        *((said(role=role), "chat") for role in ("system", "developer", "tool", "function")),
        ({"tools": [{"input_schema": {}}]}, "anthropic"),
        *(
            (said(content=[{"type": type}]), "anthropic")
            for type in ("tool_use", "tool_result", "thinking", "redacted_thinking", "image", "document")
        ),
        ({"max_tokens": 1}, "anthropic"),
    ],
)
def test_tools_and_messages_that_only_one_format_has(body, name):
    assert [format.NAME for format in FORMATS if format.recognize(body)] == [name]


@pytest.mark.parametrize(
    "body", [{}, said(role="assistant", content=[{"type": "text"}]), {"tools": 5, "messages": "x"}, {"tools": [{}]}]
)
def test_a_body_that_any_format_could_have(body):
    assert not any(format.recognize(body) for format in FORMATS)


# -- models ---------------------------------------------------------------------------------------------------------

MADE = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
CARD = ModelCard("a", "Model A", MADE, "acme", 5)


def test_a_model_as_openais_and_anthropics_clients_ask_for_it():
    assert encode_model(CARD) == {
        "id": "a",
        "object": "model",
        "type": "model",
        "created": 1767323045,
        "created_at": "2026-01-02T03:04:05.000600Z",
        "owned_by": "acme",
        "display_name": "Model A",
        "lifecycle": "active",
        "max_tokens": 5,
    }
    assert type(encode_model(CARD)["created"]) is int
    assert encode_model(ModelCard("b", "B", MADE, "", None))["owned_by"] == "droid2api"


def test_a_list_of_models():
    other = ModelCard("b", "B", MADE, "", None)
    cards = [encode_model(card) for card in (CARD, other)]
    assert encode_models([CARD, other]) == {
        "object": "list",
        "data": cards,
        "has_more": False,
        "first_id": "a",
        "last_id": "b",
    }
    assert encode_models([]) == {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}


def test_a_model_as_geminis_clients_ask_for_it():
    told = {
        "name": "models/a",
        "version": "2026-01-02",
        "displayName": "Model A",
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }
    assert encode_gemini_model(CARD) == told | {"outputTokenLimit": 5}
    assert encode_gemini_model(ModelCard("a", "Model A", MADE, "", None)) == told


# -- calls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "path", "query", "model", "stream", "array"),
    [
        ({}, {"model": "models/a"}, {}, "a", False, False),
        ({}, {"model": "a", "stream": "streamGenerateContent"}, {}, "a", True, True),
        ({}, {"model": "a", "stream": "streamGenerateContent"}, {"alt": "sse"}, "a", True, False),
        ({"model": "b", "stream": True}, {}, {}, "b", True, False),
        ({"model": "b"}, {}, {}, "b", None, False),
    ],
)
def test_what_a_gemini_client_says_in_the_path(body, path, query, model, stream, array):
    call, gemini = ClientCall(body, path, query), BY_NAME["gemini"]
    assert (gemini.read_model(call), gemini.wants_stream(call), gemini.wants_array(call)) == (model, stream, array)


def test_codex_is_told_not_to_open_a_websocket():
    (refused,) = [route for route in BY_NAME["responses"].ROUTES if type(route) is Refuse]
    assert refused.error().status == 426


@pytest.mark.parametrize(
    ("url", "action", "stream", "expected", "body"),
    [
        ("http://a", "answer", False, "http://a/v1beta/models/m/a%20b:generateContent", {"x": 1}),
        ("http://a/v1", "answer", True, "http://a/v1/models/m/a%20b:streamGenerateContent?alt=sse", {"x": 1}),
        ("http://a/v1?k=1", "answer", True, "http://a/v1/models/m/a%20b:streamGenerateContent?k=1&alt=sse", {"x": 1}),
        ("http://a/x/google", "answer", False, "http://a/x/google/models/m/a%20b:generateContent", {"x": 1}),
        (
            "http://a/v1",
            "count_tokens",
            False,
            "http://a/v1/models/m/a%20b:countTokens",
            {"generateContentRequest": {"model": "models/m/a b", "x": 1}},
        ),
        ("http://a/run", "answer", True, "http://a/run", {"model": "m/a b", "stream": True, "x": 1}),
        ("http://a/run", "answer", False, "http://a/run", {"model": "m/a b", "x": 1}),
        ("http://a/run", "count_tokens", False, "", {"model": "m/a b", "x": 1}),
    ],
)
def test_geminis_url(url, action, stream, expected, body):
    sent = {"model": "other", "stream": False, "x": 1}
    assert BY_NAME["gemini"].upstream_url(url, TARGET, action, stream, sent) == expected
    assert sent == body


def test_anthropics_url():
    url = BY_NAME["anthropic"].upstream_url
    assert url("http://a/v1/messages?k=1", TARGET, "answer", True, {}) == "http://a/v1/messages?k=1"
    assert url("http://a/v1/messages?k=1", TARGET, "count_tokens", False, {}) == "http://a/v1/messages/count_tokens?k=1"


def test_anthropics_headers():
    headers = BY_NAME["anthropic"].upstream_headers
    assert headers({"x-other": "1"}) == {"anthropic-version": "2023-06-01"}
    told = {"Anthropic-Version": "2024-01-01", "anthropic-beta": "a", "Anthropic-Beta": "b"}
    assert headers(told) == {"anthropic-version": "2024-01-01", "anthropic-beta": "a,b"}
