"""Requests for a Responses upstream: translated from each client, and with the model's settings in the relay lane."""

import pytest

from droid2api.errors import RequestError
from droid2api.formats import responses as responses_format
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import State
from droid2api.hub.request import Target

from .bodies import (
    CLOSED,
    PDF,
    PNG,
    SCHEMA,
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

TARGET = target("responses", "gpt-5.2", max_tokens=4000)
PLAIN = target("responses", "gpt-4.1")
DATA_URL = f"data:image/png;base64,{PNG}"


def message(role, *parts):
    return {"type": "message", "role": role, "content": list(parts)}


def said(text):
    return {"type": "message", "role": "assistant", "content": text}


# name: (client's format, its body, target, fields of the upstream's body; None for absent)
CASES = {
    "settings of chat": (
        "chat",
        chat(
            max_tokens=9000,
            temperature=0.5,
            user="u",
            seed=1,
            stream=True,
            stop="A",
            verbosity="low",
            metadata={"a": "b"},
        ),
        TARGET,
        {
            "model": "gpt-5.2",
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "max_output_tokens": 4000,
            "temperature": 0.5,
            "safety_identifier": "u",
            "seed": None,
            "stop": None,
            "stream": True,
            "text": {"verbosity": "low"},
            "metadata": {"a": "b"},
            "reasoning": None,
        },
    ),
    "a model without reasoning": (
        "chat",
        chat(max_completion_tokens=5, temperature=0.5, top_p=0.9, reasoning_effort="low", service_tier="flex"),
        PLAIN,
        {
            "include": None,
            "max_output_tokens": 16,
            "temperature": 0.5,
            "top_p": 0.9,
            "reasoning": None,
            "service_tier": "flex",
        },
    ),
    "effort": ("chat", chat(reasoning_effort="high"), TARGET, {"reasoning": {"effort": "high", "summary": "auto"}}),
    "no thinking": ("anthropic", anthropic(thinking={"type": "disabled"}), TARGET, {"reasoning": {"effort": "none"}}),
    "a budget": (
        "anthropic",
        anthropic(thinking={"type": "enabled", "budget_tokens": 1024}),
        TARGET,
        {"reasoning": {"effort": "low", "summary": "auto"}},
    ),
    "system and developer anywhere": (
        "chat",
        chat(system("A"), developer("B"), user("hi"), system("C"), developer([text("D"), text("E")])),
        TARGET,
        {
            "instructions": "A\n\nB",
            "input": [
                message("user", input_text("hi")),
                message("developer", input_text("C")),
                message("developer", input_text("D"), input_text("E")),
            ],
        },
    ),
    "a system message alone": (
        "chat",
        chat(system("A")),
        TARGET,
        {"instructions": None, "input": [{"type": "message", "role": "developer", "content": "A"}]},
    ),
    "parts": (
        "chat",
        chat(
            user(
                [
                    text("a"),
                    {"type": "image_url", "image_url": {"url": DATA_URL}},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                    {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}},
                ]
            )
        ),
        TARGET,
        {
            "input": [
                message(
                    "user",
                    input_text("a"),
                    {"type": "input_image", "image_url": DATA_URL, "detail": "auto"},
                    {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
                    {
                        "type": "input_file",
                        "filename": "a.pdf",
                        "file_data": f"data:application/pdf;base64,{PDF}",
                    },
                )
            ]
        },
    ),
    "documents": (
        "anthropic",
        anthropic(
            user(
                [
                    {"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}},
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "t"}},
                ]
            )
        ),
        TARGET,
        {"input": [message("user", {"type": "input_file", "file_url": "https://x/a.pdf"}, input_text("t"))]},
    ),
    "tools of chat": (
        "chat",
        chat(
            tools=[
                chat_tool(description="d"),
                chat_tool("g", parameters=CLOSED, strict=True),
                {
                    "type": "custom",
                    "custom": {
                        "name": "p",
                        "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: A"}},
                    },
                },
            ],
            tool_choice={"type": "function", "function": {"name": "g"}},
            parallel_tool_calls=False,
        ),
        TARGET,
        {
            "tools": [
                responses_tool(description="d", strict=False),
                responses_tool("g", description="", parameters=CLOSED, strict=True),
                {
                    "type": "custom",
                    "name": "p",
                    "description": "",
                    "format": {"type": "grammar", "syntax": "lark", "definition": "start: A"},
                },
            ],
            "tool_choice": {"type": "function", "name": "g"},
            "parallel_tool_calls": False,
        },
    ),
    "tools of anthropic": (
        "anthropic",
        anthropic(
            tools=[anthropic_tool(), {"type": "web_search_20250305", "name": "web_search"}],
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
        ),
        TARGET,
        {
            "tools": [responses_tool(description="", strict=False), {"type": "web_search"}],
            "tool_choice": "required",
            "parallel_tool_calls": False,
        },
    ),
    "allowed tools": (
        "chat",
        chat(
            tools=[chat_tool("f"), chat_tool("g")],
            tool_choice={
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]},
            },
        ),
        TARGET,
        {"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]}},
    ),
    "calls and results of chat": (
        "chat",
        chat(
            user("go"),
            assistant("on it", tool_calls=[chat_call("a"), chat_call("b", arguments="")]),
            chat_result("a"),
            chat_result("b", [text("2")]),
        ),
        TARGET,
        {
            "input": [
                message("user", input_text("go")),
                said("on it"),
                responses_call("a"),
                responses_call("b", arguments="{}"),
                responses_result("a"),
                responses_result("b", "2"),
            ]
        },
    ),
    "text after a call keeps its place": (
        "anthropic",
        anthropic(user("go"), assistant([anthropic_call("a"), text("wait")]), user([anthropic_result("a")])),
        TARGET,
        {
            "input": [
                message("user", input_text("go")),
                responses_call("a"),
                said("wait"),
                responses_result("a"),
            ]
        },
    ),
    "an error and an image in results": (
        "anthropic",
        anthropic(
            assistant([anthropic_call("a"), anthropic_call("b")]),
            user(
                [
                    anthropic_result("a", "no", is_error=True),
                    anthropic_result(
                        "b", [text("1"), {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}]
                    ),
                ]
            ),
        ),
        TARGET,
        {
            "input": [
                responses_call("a"),
                responses_call("b"),
                responses_result("a", "Error: no"),
                responses_result(
                    "b",
                    [input_text("1"), {"type": "input_image", "image_url": "https://x/y.png", "detail": "auto"}],
                ),
            ]
        },
    ),
    "a call of a custom tool": (
        "chat",
        chat(
            assistant(tool_calls=[{"id": "a", "type": "custom", "custom": {"name": "p", "input": "***"}}]),
            chat_result("a"),
        ),
        TARGET,
        {
            "input": [
                {"type": "custom_tool_call", "call_id": "a", "name": "p", "input": "***"},
                {"type": "custom_tool_call_output", "call_id": "a", "output": "1"},
            ]
        },
    ),
    "structured output": (
        "chat",
        chat(
            response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "description": "d"}}
        ),
        TARGET,
        {
            "text": {
                "format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": False, "description": "d"}
            }
        },
    ),
    "any JSON": (
        "chat",
        chat(response_format={"type": "json_object"}),
        TARGET,
        {"text": {"format": {"type": "json_object"}}},
    ),
    "refusal": (
        "chat",
        chat(user("hi"), assistant(refusal="no"), user("why")),
        TARGET,
        {"input": [message("user", input_text("hi")), said("no"), message("user", input_text("why"))]},
    ),
    "reasoning of this very model comes back": (
        "anthropic",
        anthropic(
            assistant(
                [
                    {
                        "type": "thinking",
                        "thinking": "hm",
                        "signature": State("responses", "gpt", {"id": "rs_1", "encrypted_content": "E"}).pack(),
                    },
                    text("ok"),
                ]
            ),
            user("?"),
        ),
        TARGET,
        {
            "input": [
                {
                    "type": "reasoning",
                    "summary": [{"type": "summary_text", "text": "hm"}],
                    "id": "rs_1",
                    "encrypted_content": "E",
                },
                said("ok"),
                message("user", input_text("?")),
            ]
        },
    ),
    "but not another model's, nor another format's, nor with nothing after it": (
        "anthropic",
        anthropic(
            assistant(
                [
                    {
                        "type": "thinking",
                        "thinking": "hm",
                        "signature": State("responses", "grok", {"encrypted_content": "E"}).pack(),
                    },
                    {"type": "thinking", "thinking": "hm", "signature": "S"},
                    text("ok"),
                    {
                        "type": "redacted_thinking",
                        "data": State("responses", "gpt", {"id": "rs_1", "encrypted_content": "E"}).pack(),
                    },
                ]
            ),
            user("?"),
        ),
        TARGET,
        {"input": [said("ok"), message("user", input_text("?"))]},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_encode_request(name):
    client, body, target, expected = CASES[name]
    assert part_of(convert(client, body, "responses", target).body, expected) == expected


def test_stop_sequences_are_applied_here():
    encoded = convert("chat", chat(stop=["A", "B"], seed=1, top_k=4), "responses", TARGET)
    assert "stop" not in encoded.body
    assert encoded.local_stop == ["A", "B"]
    assert sorted(encoded.dropped) == ["seed", "top_k"]


WRONG = [
    (responses(input=[]), "input"),
    (responses(input=5), "input"),
    (responses("hi"), "input[0]"),
    (responses({"role": "robot", "content": "hi"}), "input[0].role"),
    (responses(user(5)), "input[0].content"),
    (responses(user([{"type": "input_text"}])), "input[0].content[0].text"),
    (responses({"type": "function_call", "name": "f"}), "input[0].call_id"),
    (responses(tools=[{"type": "function"}]), "tools[0].name"),
    (responses(tool_choice="f"), "tool_choice"),
    (responses(text={"format": {"type": "xml"}}), "text.format.type"),
    (responses(reasoning={"effort": 5}), "reasoning.effort"),
    (responses(stream="yes"), "stream"),
    (responses(conversation="c"), "conversation"),
    (responses(background=True), "background"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_wrong_bodies(body, param):
    with pytest.raises(RequestError) as raised:
        responses_format.decode_request(body)
    assert raised.value.param == param
    assert param in raised.value.message


# -- the relay lane -------------------------------------------------------------------------------------------------

FOREIGN = {"type": "reasoning", "summary": [], "encrypted_content": State("anthropic", "claude", {}).pack()}
OWN = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}

# reasoning level, system prompt, fast; client's body; upstream's fields
SETTINGS = {
    "nothing to do": (
        "auto",
        "",
        False,
        responses(reasoning={"effort": "low"}, x=1),
        responses(reasoning={"effort": "low"}, x=1),
    ),
    "off": ("off", "", False, responses(reasoning={"effort": "low"}), responses()),
    "low": ("low", "", False, responses(), responses(reasoning={"effort": "low", "summary": "auto"})),
    "medium": ("medium", "", False, responses(), responses(reasoning={"effort": "medium", "summary": "auto"})),
    "high": (
        "high",
        "",
        False,
        responses(reasoning={"effort": "low", "summary": "detailed"}),
        responses(reasoning={"effort": "high", "summary": "auto"}),
    ),
    "system prompt": ("auto", "P", False, responses(), responses(instructions="P")),
    "system prompt before instructions": (
        "auto",
        "P",
        False,
        responses(instructions="I"),
        responses(instructions="PI"),
    ),
    "fast": ("auto", "", True, responses(), responses(service_tier="priority")),
    "foreign reasoning": ("auto", "", False, responses(user("a"), FOREIGN, OWN), responses(user("a"), OWN)),
    "input as a string": ("auto", "P", False, responses(input="hi"), responses(input="hi", instructions="P")),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name):
    reasoning, prompt, fast, body, expected = SETTINGS[name]
    responses_format.apply_model_settings(Encoded(body), {}, Target("up", reasoning, fast=fast), prompt)
    assert body == expected | {"model": "up"}
