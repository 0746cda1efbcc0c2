"""Requests for a Chat upstream: translated from each client, and with the model's settings in the relay lane."""

import copy
import re

import pytest

from droid2api.errors import RequestError
from droid2api.formats import chat as chat_format
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import State
from droid2api.hub.profiles import profile_of
from droid2api.hub.request import Target
from droid2api.hub.tools import safe_name

from .bodies import (
    CLOSED,
    PDF,
    PNG,
    anthropic,
    anthropic_call,
    anthropic_result,
    anthropic_tool,
    assistant,
    chat,
    chat_call,
    chat_result,
    chat_tool,
    convert,
    developer,
    input_text,
    part_of,
    responses,
    responses_call,
    responses_result,
    responses_tool,
    system,
    target,
    text,
    user,
)

TARGET = target("chat", "qwen3-max")
OPENAI = target("chat", "gpt-5-mini", max_tokens=4000)

DATA_URL = f"data:image/png;base64,{PNG}"
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
FILES_LINE = "Files from the tool result a:"
FILES_NOTE = "The files of this result are in the next user message."

# name: (client's format, its body, target, fields of the upstream's body; None for absent)
CASES = {
    "settings of anthropic": (
        "anthropic",
        anthropic(temperature=0.5, top_k=4, stop_sequences=["A"], metadata={"user_id": "u@x"}, stream=True),
        TARGET,
        {
            "model": "qwen3-max",
            "max_tokens": 500,
            "max_completion_tokens": None,
            "temperature": 0.5,
            "top_k": 4,
            "stop": ["A"],
            "user": safe_name("u@x"),
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    ),
    "settings of responses": (
        "responses",
        responses(max_output_tokens=500, text={"verbosity": "low"}, reasoning={"effort": "high"}, service_tier="flex"),
        OPENAI,
        {
            "max_completion_tokens": 500,
            "verbosity": "low",
            "reasoning_effort": "high",
            "service_tier": "flex",
            "stream": None,
        },
    ),
    "no sampling for a reasoning model, and its limit by the new name": (
        "anthropic",
        anthropic(temperature=0.5, stop_sequences=["A"], max_tokens=9000),
        OPENAI,
        {"temperature": None, "stop": None, "max_tokens": None, "max_completion_tokens": 4000},
    ),
    "five stop sequences": (
        "anthropic",
        anthropic(stop_sequences=list("ABCDE")),
        TARGET,
        {"stop": None},
    ),
    "system of anthropic, first and in between": (
        "anthropic",
        anthropic(
            user("hi"), system("Be brief."), system=[text("x-anthropic-billing-header: 1"), text("A"), text("B")]
        ),
        TARGET,
        {"messages": [system("A\n\nB"), user([text("hi"), text("Be brief.")])]},
    ),
    "instructions and developer of responses": (
        "responses",
        responses(developer("B"), user([input_text("hi")]), instructions="A"),
        TARGET,
        {"messages": [system("A\n\nB"), user("hi")]},
    ),
    "parts": (
        "responses",
        responses(
            user(
                [
                    input_text("a"),
                    {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
                    {"type": "input_image", "image_url": DATA_URL},
                    {"type": "input_file", "filename": "a.pdf", "file_data": PDF},
                ]
            )
        ),
        TARGET,
        {
            "messages": [
                user(
                    [
                        text("a"),
                        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                        {"type": "image_url", "image_url": {"url": DATA_URL}},
                        {
                            "type": "file",
                            "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
                        },
                    ]
                )
            ]
        },
    ),
    "tools of anthropic": (
        "anthropic",
        anthropic(
            tools=[anthropic_tool(description="d"), anthropic_tool("read.file")],
            tool_choice={"type": "tool", "name": "read.file", "disable_parallel_tool_use": True},
        ),
        TARGET,
        {
            "tools": [chat_tool(description="d"), chat_tool(safe_name("read.file"), description="")],
            "tool_choice": {"type": "function", "function": {"name": safe_name("read.file")}},
            "parallel_tool_calls": False,
        },
    ),
    "tools of responses": (
        "responses",
        responses(
            tools=[
                responses_tool(parameters=CLOSED, strict=True),
                {"type": "web_search"},
                {"type": "custom", "name": "patch", "description": "d"},
                {"type": "namespace", "name": "mcp", "tools": [responses_tool("f")]},
            ],
            tool_choice="required",
        ),
        TARGET,
        {
            "tools": [
                chat_tool(description="", parameters=CLOSED, strict=True),
                {
                    "type": "function",
                    "function": {
                        "name": "patch",
                        "description": "d",
                        "parameters": {
                            "type": "object",
                            "properties": {"input": {"type": "string"}},
                            "required": ["input"],
                        },
                    },
                },
                chat_tool("mcp__f", description=""),
            ],
            "tool_choice": "required",
            "parallel_tool_calls": None,
        },
    ),
    "only allowed tools are offered": (
        "responses",
        responses(
            tools=[responses_tool("f"), responses_tool("g")],
            tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]},
        ),
        TARGET,
        {"tools": [chat_tool("g", description="")], "tool_choice": "auto"},
    ),
    "no choice without tools": (
        "responses",
        responses(tool_choice="auto"),
        TARGET,
        {"tools": None, "tool_choice": None},
    ),
    "calls and results of anthropic": (
        "anthropic",
        anthropic(
            user("go"),
            assistant([text("on it"), anthropic_call("a"), anthropic_call("b", input={})]),
            user(
                [anthropic_result("b", [text("2"), text("3")]), anthropic_result("a", "no", is_error=True), text("so?")]
            ),
        ),
        TARGET,
        {
            "messages": [
                user("go"),
                assistant("on it", tool_calls=[chat_call("a"), chat_call("b", arguments="{}")]),
                chat_result("b", "2\n\n3"),
                chat_result("a", "Error: no"),
                user("so?"),
            ]
        },
    ),
    "calls and results of responses": (
        "responses",
        responses(
            user("go"),
            responses_call("a"),
            responses_call("b", "g", "", namespace="mcp"),
            responses_result("a", [input_text("1")]),
            responses_result("b"),
        ),
        TARGET,
        {
            "messages": [
                user("go"),
                assistant(None, tool_calls=[chat_call("a"), chat_call("b", "mcp__g", "{}")]),
                chat_result("a"),
                chat_result("b"),
            ]
        },
    ),
    "a call of a custom tool": (
        "responses",
        responses(
            {"type": "custom_tool_call", "call_id": "a", "name": "patch", "input": "***"},
            {"type": "custom_tool_call_output", "call_id": "a", "output": "1"},
        ),
        TARGET,
        {"messages": [assistant(None, tool_calls=[chat_call("a", "patch", '{"input":"***"}')]), chat_result("a")]},
    ),
    "an image in a result": (
        "anthropic",
        anthropic(
            user("go"), assistant([anthropic_call("a")]), user([anthropic_result("a", [text("1"), IMAGE]), text("so?")])
        ),
        TARGET,
        {
            "messages": [
                user("go"),
                assistant(None, tool_calls=[chat_call("a")]),
                chat_result("a", f"1\n\n{FILES_NOTE}"),
                user([text(FILES_LINE), {"type": "image_url", "image_url": {"url": DATA_URL}}, text("so?")]),
            ]
        },
    ),
    "structured output of responses": (
        "responses",
        responses(text={"format": {"type": "json_schema", "name": "n", "schema": CLOSED, "strict": True}}),
        TARGET,
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": CLOSED, "strict": True},
            }
        },
    ),
    "structured output of anthropic": (
        "anthropic",
        anthropic(output_config={"format": {"type": "json_schema", "schema": CLOSED}}),
        TARGET,
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "output", "schema": CLOSED, "strict": True},
            }
        },
    ),
    "any JSON": (
        "responses",
        responses(text={"format": {"type": "json_object"}}),
        TARGET,
        {"response_format": {"type": "json_object"}},
    ),
    "refusal": (
        "responses",
        responses(user("hi"), assistant([{"type": "refusal", "refusal": "no"}]), user("why")),
        TARGET,
        {"messages": [user("hi"), assistant("no"), user("why")]},
    ),
    "thinking with a budget": (
        "anthropic",
        anthropic(thinking={"type": "enabled", "budget_tokens": 5000}),
        TARGET,
        {"reasoning_effort": "medium"},
    ),
    "foreign reasoning is left out": (
        "anthropic",
        anthropic(
            user("hi"), assistant([{"type": "thinking", "thinking": "hm", "signature": "S"}, text("ok")]), user("?")
        ),
        TARGET,
        {"messages": [user("hi"), assistant("ok"), user("?")]},
    ),
    "reasoning of this very upstream comes back": (
        "anthropic",
        anthropic(
            user("hi"),
            assistant(
                [
                    {
                        "type": "thinking",
                        "thinking": "hm",
                        "signature": State("chat", "qwen", {"field": "reasoning_content"}).pack(),
                    },
                    anthropic_call("a"),
                ]
            ),
            user([anthropic_result("a")]),
        ),
        TARGET,
        {
            "messages": [
                user("hi"),
                assistant(None, reasoning_content="hm", tool_calls=[chat_call("a")]),
                chat_result("a"),
            ]
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_encode_request(name):
    client, body, target, expected = CASES[name]
    assert part_of(convert(client, body, "chat", target).body, expected) == expected


def test_stop_sequences_are_applied_here_when_the_upstream_does_not():
    encoded = convert("anthropic", anthropic(stop_sequences=list("ABCDE")), "chat", TARGET)
    assert encoded.local_stop == list("ABCDE")


def test_what_is_dropped_is_named():
    body = anthropic(top_k=4, service_tier="auto", speed="fast", thinking={"type": "disabled"})
    encoded = convert("anthropic", body, "chat", TARGET)
    assert encoded.dropped == ["speed", "service_tier"]
    assert encoded.body["reasoning_effort"] == "none"


REFUSED = {
    "a document by URL": (
        "anthropic",
        anthropic(user([{"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}}])),
        "messages[0].content[0]",
    ),
    "a file by id": (
        "responses",
        responses(user([{"type": "input_file", "file_id": "file-1"}])),
        "input[0].content[0]",
    ),
    "state that the upstream would have to keep": (
        "responses",
        responses(previous_response_id="r"),
        "previous_response_id",
    ),
    "an item that only OpenAI knows": ("responses", responses({"type": "item_reference", "id": "x"}), "input[0]"),
    "an image in a system message": ("anthropic", anthropic(user("hi"), system([IMAGE])), "messages[1].content[0]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    client, body, param = REFUSED[name]
    with pytest.raises(RequestError) as raised:
        convert(client, body, "chat", TARGET)
    assert raised.value.param == param
    assert param in raised.value.message


WRONG = [
    ({}, "model"),
    ({"model": 1}, "model"),
    (chat(n=2), "n"),
    (chat(messages=[]), "messages"),
    (chat(messages="hi"), "messages"),
    (chat("hi"), "messages[0]"),
    (chat({"content": "hi"}), "messages[0].role"),
    (chat({"role": "robot", "content": "hi"}), "messages[0].role"),
    (chat(user(5)), "messages[0].content"),
    (chat(user([{"text": "hi"}])), "messages[0].content[0].type"),
    (chat(user([{"type": "image_url", "image_url": {}}])), "messages[0].content[0].image_url.url"),
    (chat({"role": "tool", "content": "1"}), "messages[0].tool_call_id"),
    (chat(assistant(tool_calls=[{"id": "a", "function": {}}])), "messages[0].tool_calls[0].function.name"),
    (chat(tools=[{"type": "function"}]), "tools[0].function"),
    (chat(tool_choice="f"), "tool_choice"),
    (chat(temperature="hot"), "temperature"),
    (chat(max_tokens=1.5), "max_tokens"),
    (chat(response_format={"type": "xml"}), "response_format"),
    (chat(response_format={"type": "json_schema", "json_schema": {"name": "n"}}), "response_format.json_schema.schema"),
    (chat(modalities=["audio"]), "audio"),
    (chat(functions=[{}]), "functions"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_wrong_bodies(body, param):
    with pytest.raises(RequestError) as raised:
        chat_format.decode_request(body)
    assert raised.value.param == param
    assert raised.value.status == 400


# -- the relay lane -------------------------------------------------------------------------------------------------

# reasoning level, system prompt, fast; client's body; upstream's fields
SETTINGS = {
    "nothing to do": ("auto", "", False, chat(reasoning_effort="low", x=1), chat(reasoning_effort="low", x=1)),
    "off": (
        "off",
        "",
        False,
        chat(reasoning_effort="low", reasoning={}, thinking={}, enable_thinking=True),
        chat(),
    ),
    "low": ("low", "", False, chat(), chat(reasoning_effort="low")),
    "medium": ("medium", "", False, chat(reasoning={"effort": "high"}), chat(reasoning_effort="medium")),
    "high": ("high", "", False, chat(reasoning_effort="low"), chat(reasoning_effort="high")),
    "system prompt alone": ("auto", "P", False, chat(), chat(system("P"), user("hi"))),
    "system prompt before the client's": (
        "auto",
        "P",
        False,
        chat(system("S"), user("hi")),
        chat(system("PS"), user("hi")),
    ),
    "system prompt before the client's parts": (
        "auto",
        "P",
        False,
        chat(developer([text("S", cache_control={})]), user("hi")),
        chat(developer([text("P"), text("S", cache_control={})]), user("hi")),
    ),
    "a later system message stays": (
        "auto",
        "P",
        False,
        chat(user("hi"), system("S")),
        chat(system("P"), user("hi"), system("S")),
    ),
    "fast": ("auto", "", True, chat(), chat(service_tier="priority")),
    "fast, but the client chose": ("auto", "", True, chat(service_tier="flex"), chat(service_tier="flex")),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name):
    reasoning, prompt, fast, body, expected = SETTINGS[name]
    chat_format.apply_model_settings(Encoded(body), {}, Target("up", reasoning, fast=fast), prompt)
    assert body == expected | {"model": "up"}


@pytest.mark.parametrize(
    ("model", "sent", "taken"),
    [
        ("mistral-large", "call_1", r"[a-zA-Z0-9]{9}"),
        ("mistral-large", "abcdefgh1", "abcdefgh1"),
        ("gpt-5.5", "functions.f:0", r"functions_f_0_[0-9a-f]{8}"),
        ("gpt-5.5", "call_1", "call_1"),
        ("kimi-k2.6", "functions.f:0", r"functions\.f:0"),
        ("gpt-5.5", "", ""),
    ],
)
def test_settings_ids_of_another_service(model, sent, taken):
    body = chat(assistant(tool_calls=[chat_call(sent)]), chat_result(sent))
    unchanged = copy.deepcopy(body)
    target = Target(model, profile=profile_of("", model, "chat"))
    messages = body["messages"]
    chat_format.apply_model_settings(Encoded(body), {}, target, "")
    call, result = body["messages"]
    assert re.fullmatch(taken, call["tool_calls"][0]["id"])
    assert result["tool_call_id"] == call["tool_calls"][0]["id"]
    assert messages == unchanged["messages"], "written into"
