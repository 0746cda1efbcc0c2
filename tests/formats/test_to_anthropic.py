"""Requests for an Anthropic upstream: translated from each client, and with the model's settings in the relay lane."""

import re
from dataclasses import replace

import pytest

from droid2api.errors import RequestError
from droid2api.formats import anthropic as anthropic_format
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import State
from droid2api.hub.profiles import Profile, profile_of
from droid2api.hub.request import Target
from droid2api.hub.tools import safe_name

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

BUDGET = target("anthropic", "claude-sonnet-4-5", max_tokens=64000)
ADAPTIVE = target("anthropic", "claude-opus-5")
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}


def spoken(*blocks):
    return assistant(list(blocks))


def heard(*blocks):
    return user(list(blocks))


# name: (client's format, its body, target, fields of the upstream's body; None for absent)
CASES = {
    "settings of chat": (
        "chat",
        chat(
            max_tokens=90000,
            temperature=1.5,
            top_p=0.5,
            stop="A",
            user="u",
            service_tier="default",
            seed=1,
            stream=True,
        ),
        BUDGET,
        {
            "model": "claude-sonnet-4-5",
            "max_tokens": 64000,
            "temperature": 1,
            "top_p": None,
            "stop_sequences": ["A"],
            "metadata": {"user_id": "u"},
            "service_tier": "standard_only",
            "seed": None,
            "stream": True,
            "thinking": None,
        },
    ),
    "there is always a limit": (
        "chat",
        chat(service_tier="flex"),
        ADAPTIVE,
        {"max_tokens": 32000, "service_tier": None},
    ),
    "the newest models take no sampling": (
        "chat",
        chat(temperature=0.5, top_p=1),
        ADAPTIVE,
        {"temperature": None, "top_p": None},
    ),
    "effort as a budget": (
        "chat",
        chat(reasoning_effort="low", max_tokens=2000, temperature=0.5),
        BUDGET,
        {
            "thinking": {"type": "enabled", "budget_tokens": 4096},
            "max_tokens": 6096,
            "temperature": None,
            "output_config": None,
        },
    ),
    "effort of an adaptive model": (
        "responses",
        responses(reasoning={"effort": "xhigh"}),
        ADAPTIVE,
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}, "max_tokens": 32000},
    ),
    "the least effort": (
        "responses",
        responses(reasoning={"effort": "minimal"}),
        ADAPTIVE,
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
    ),
    "no effort": ("chat", chat(reasoning_effort="none"), BUDGET, {"thinking": None}),
    "system and developer anywhere": (
        "chat",
        chat(system("A"), developer([text("B")]), user("hi"), system("C"), user("go")),
        BUDGET,
        {
            "system": [text("A"), text("B"), text("C")],
            "messages": [heard(text("hi"), text("go"))],
        },
    ),
    "parts": (
        "chat",
        chat(
            user(
                [
                    text("a"),
                    {"type": "image_url", "image_url": {"url": f"data:image/jpg;base64,{PNG}", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                    {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}},
                ]
            )
        ),
        BUDGET,
        {
            "messages": [
                heard(
                    text("a"),
                    IMAGE,
                    {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                    {
                        "type": "document",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                        "title": "a.pdf",
                    },
                )
            ]
        },
    ),
    "cache breakpoints": (
        "chat",
        chat(
            system([text("A", cache_control={"type": "ephemeral", "ttl": "5m"})]),
            user([text("hi", prompt_cache_breakpoint={"mode": "explicit"})]),
        ),
        BUDGET,
        {
            "system": [text("A", cache_control={"type": "ephemeral", "ttl": "5m"})],
            "messages": [heard(text("hi", cache_control={"type": "ephemeral"}))],
        },
    ),
    "tools of chat": (
        "chat",
        chat(
            tools=[chat_tool(description="d"), {"type": "function", "function": {"name": "g"}}],
            tool_choice={"type": "function", "function": {"name": "g"}},
            parallel_tool_calls=False,
        ),
        BUDGET,
        {
            "tools": [
                anthropic_tool(description="d"),
                {"name": "g", "description": "", "input_schema": {"type": "object", "properties": {}}},
            ],
            "tool_choice": {"type": "tool", "name": "g", "disable_parallel_tool_use": True},
        },
    ),
    "tools of responses": (
        "responses",
        responses(
            tools=[responses_tool(), {"type": "web_search"}, {"type": "custom", "name": "p", "description": "d"}],
            tool_choice="required",
        ),
        BUDGET,
        {
            "tools": [
                anthropic_tool(description=""),
                {"type": "web_search_20250305", "name": "web_search"},
                {
                    "name": "p",
                    "description": "d",
                    "input_schema": {
                        "type": "object",
                        "properties": {"input": {"type": "string"}},
                        "required": ["input"],
                    },
                },
            ],
            "tool_choice": {"type": "any"},
        },
    ),
    "no tool shall be called": (
        "chat",
        chat(tools=[chat_tool()], tool_choice="none", parallel_tool_calls=False),
        BUDGET,
        {"tool_choice": {"type": "none"}},
    ),
    "calls in parallel are the default": (
        "chat",
        chat(tools=[chat_tool()], parallel_tool_calls=True),
        BUDGET,
        {"tool_choice": None},
    ),
    "one call at a time": (
        "chat",
        chat(tools=[chat_tool()], parallel_tool_calls=False),
        BUDGET,
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ),
    "the newest models cannot be forced": (
        "chat",
        chat(tools=[chat_tool()], tool_choice="required"),
        ADAPTIVE,
        {
            "tool_choice": {"type": "auto"},
            "system": None,
            "messages": [heard(text("hi"), text("Call one of the tools now."))],
        },
    ),
    "nor one that thinks": (
        "chat",
        chat(tools=[chat_tool()], tool_choice="required", reasoning_effort="low"),
        BUDGET,
        {"tool_choice": {"type": "auto"}},
    ),
    "allowed tools": (
        "responses",
        responses(
            tools=[responses_tool("f"), responses_tool("g")],
            tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]},
        ),
        BUDGET,
        {"tools": [anthropic_tool("g", description="")], "tool_choice": {"type": "auto"}},
    ),
    "calls and results of chat": (
        "chat",
        chat(
            user("go"),
            assistant("on it", tool_calls=[chat_call("a"), chat_call("b", arguments="")]),
            chat_result("b", "2"),
            chat_result("a", [text("1")]),
            user("so?"),
        ),
        BUDGET,
        {
            "messages": [
                heard(text("go")),
                spoken(text("on it"), anthropic_call("a"), anthropic_call("b", input={})),
                heard(anthropic_result("b", [text("2")]), anthropic_result("a", [text("1")]), text("so?")),
            ]
        },
    ),
    "calls and results of responses": (
        "responses",
        responses(
            responses_call("a"),
            responses_call("b", "g", "{}", namespace="mcp"),
            responses_result(
                "a", [input_text("1"), {"type": "input_image", "image_url": f"data:image/jpeg;base64,{PNG}"}]
            ),
            responses_result("b"),
        ),
        BUDGET,
        {
            "messages": [
                spoken(anthropic_call("a"), anthropic_call("b", "mcp__g", input={})),
                heard(anthropic_result("a", [text("1"), IMAGE]), anthropic_result("b", [text("1")])),
            ]
        },
    ),
    "ids and names outside of the alphabet": (
        "chat",
        chat(assistant(tool_calls=[chat_call("call:1", "f")]), chat_result("call:1")),
        BUDGET,
        {
            "messages": [
                spoken(anthropic_call(safe_name("call:1"))),
                heard(anthropic_result(safe_name("call:1"), [text("1")])),
            ]
        },
    ),
    "text of nothing but white space": (
        "chat",
        chat(user("go"), assistant("\n", tool_calls=[chat_call("a")]), chat_result("a", ""), user("so?")),
        BUDGET,
        {"messages": [heard(text("go")), spoken(anthropic_call("a")), heard(anthropic_result("a", []), text("so?"))]},
    ),
    "structured output": (
        "chat",
        chat(
            response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
            reasoning_effort="low",
        ),
        ADAPTIVE,
        {"output_config": {"format": {"type": "json_schema", "schema": CLOSED}, "effort": "low"}},
    ),
    "any JSON": (
        "chat",
        chat(response_format={"type": "json_object"}),
        BUDGET,
        {"output_config": None, "system": [text("Answer with one JSON object and nothing else.")]},
    ),
    "refusal": (
        "chat",
        chat(user("hi"), assistant(refusal="no"), user("why")),
        BUDGET,
        {"messages": [heard(text("hi")), spoken(text("no")), heard(text("why"))]},
    ),
    "reasoning of this very model comes back": (
        "chat",
        chat(
            assistant(
                "ok",
                reasoning_content="hm",
                reasoning_details=[
                    {
                        "type": "reasoning.text",
                        "signature": State("anthropic", "claude", {"signature": "S", "text": "hm"}).pack(),
                    },
                    {"type": "reasoning.encrypted", "data": State("anthropic", "claude", {"data": "D"}).pack()},
                ],
            ),
            user("?"),
        ),
        BUDGET,
        {
            "messages": [
                spoken(
                    {"type": "thinking", "thinking": "hm", "signature": "S"},
                    {"type": "redacted_thinking", "data": "D"},
                    text("ok"),
                ),
                heard(text("?")),
            ]
        },
    ),
    "but no other": (
        "responses",
        responses(
            user("a"),
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "E"},
            user("b"),
        ),
        BUDGET,
        {"messages": [heard(text("a"), text("b"))]},
    ),
    "no thinking in the middle of a tool loop that began without": (
        "chat",
        chat(assistant(tool_calls=[chat_call("a")]), chat_result("a"), reasoning_effort="high"),
        BUDGET,
        {"thinking": None},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_encode_request(name):
    client, body, target, expected = CASES[name]
    assert part_of(convert(client, body, "anthropic", target).body, expected) == expected


@pytest.mark.parametrize("media_type", ["text/csv", "text/plain", "text/markdown"])
def test_a_text_file_is_a_document_of_plain_text(media_type):
    file = {"filename": "a.csv", "file_data": f"data:{media_type};base64,YSxiCjEsw6k="}
    encoded = convert("chat", chat(user([{"type": "file", "file": file}])), "anthropic", BUDGET)
    source = {"type": "text", "media_type": "text/plain", "data": "a,b\n1,é"}
    assert encoded.body["messages"][0]["content"] == [{"type": "document", "source": source, "title": "a.csv"}]


@pytest.mark.parametrize("upstream", ["chat", "anthropic"])
def test_a_text_file_that_a_tool_gave_is_text(upstream):
    document = {"type": "document", "source": {"type": "base64", "media_type": "text/csv", "data": "YSxi"}}
    file = {"type": "input_file", "filename": "a.csv", "file_data": "data:text/csv;base64,YSxi"}
    client, body = "responses", responses(user("hi"), responses_call("a"), responses_result("a", [file]))
    if upstream == "chat":
        history = [user("hi"), assistant([anthropic_call("a")]), user([anthropic_result("a", [document])])]
        client, body = "anthropic", anthropic(*history)
    model = target(upstream, "m")
    model = replace(model, profile=replace(model.profile, media=("image/*",)))
    encoded = convert(client, body, upstream, model)
    assert "a,b" in str(encoded.body["messages"][-1])
    assert not any("tool_result" in path for path in encoded.dropped)


def test_dropped_and_repaired_are_named():
    body = chat(user("hi"), system("S"), user("go"), seed=1, temperature=2, top_p=1)
    encoded = convert("chat", body, "anthropic", BUDGET)
    assert sorted(encoded.dropped) == ["seed", "top_p"]
    assert dict(encoded.repaired) == {"messages.system_moved": 1, "temperature": 1}


REFUSED = {
    "audio": (chat(user([{"type": "input_audio", "input_audio": {}}])), "messages[0].content[0]"),
    "a file by id": (chat(user([{"type": "file", "file": {"file_id": "f"}}])), "messages[0].content[0]"),
    "a file of another kind": (
        chat(user([{"type": "file", "file": {"file_data": "data:application/zip;base64,YQ=="}}])),
        "messages[0].content[0]",
    ),
    "a text that is none": (
        chat(user([{"type": "file", "file": {"file_data": "data:text/csv;base64,/w=="}}])),
        "messages[0].content[0]",
    ),
    "a call without a result": (chat(assistant(tool_calls=[chat_call("a")])), "messages[0].tool_calls[0]"),
    "a result without a call": (chat(user("hi"), chat_result("a")), "messages[1]"),
    "no user message": (chat(system("S")), "messages"),
    "one name for two tools": (chat(tools=[chat_tool(), chat_tool(description="d")]), "tools"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    body, param = REFUSED[name]
    with pytest.raises(RequestError) as raised:
        convert("chat", body, "anthropic", BUDGET)
    assert raised.value.param == param
    assert param in raised.value.message


WRONG = [
    (anthropic(messages=None), "messages"),
    (anthropic({"role": "tool", "content": "x"}), "messages[0].role"),
    (anthropic(user([{"type": "text"}])), "messages[0].content[0].text"),
    (anthropic(user([{"type": "image", "source": {"type": "base64"}}])), "messages[0].content[0].source.media_type"),
    (anthropic(user([{"type": "tool_result"}])), "messages[0].content[0].tool_use_id"),
    (anthropic(assistant([{"type": "tool_use", "id": "a"}])), "messages[0].content[0].name"),
    (anthropic(tools=[{"input_schema": {}}]), "tools[0].name"),
    (anthropic(tool_choice={"type": "maybe"}), "tool_choice.type"),
    (anthropic(tool_choice={"type": "tool"}), "tool_choice.name"),
    (anthropic(thinking={"type": "enabled", "budget_tokens": "many"}), "thinking.budget_tokens"),
    (anthropic(output_config={"format": {"type": "json_schema"}}), "output_config.format.schema"),
    (anthropic(max_tokens="many"), "max_tokens"),
    (anthropic(metadata={"user_id": 5}), "metadata.user_id"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_wrong_bodies(body, param):
    with pytest.raises(RequestError) as raised:
        anthropic_format.decode_request(body)
    assert raised.value.param == param
    assert param in raised.value.message


# -- the relay lane -------------------------------------------------------------------------------------------------

INTERLEAVED = "interleaved-thinking-2025-05-14"
ATTRIBUTION = text("x-anthropic-billing-header: cc_version=1")


def enabled(budget, **fields):
    return {"type": "enabled", "budget_tokens": budget} | fields


# thinking style, reasoning level; client's body and betas; upstream's fields and betas
LEVELS = {
    "auto": ("budget", "auto", anthropic(thinking={"type": "x"}), "a", anthropic(thinking={"type": "x"}), "a"),
    "off": (
        "budget",
        "off",
        anthropic(
            thinking=enabled(2000),
            output_config={"effort": "low"},
            context_management={"edits": [{"type": "clear_thinking_20251015"}]},
        ),
        f"a,{INTERLEAVED}",
        anthropic(),
        "a",
    ),
    "off, and what has nothing to do with it": (
        "adaptive",
        "off",
        anthropic(output_config={"effort": "low", "format": {}}, context_management={"edits": [{"type": "x"}]}),
        "",
        anthropic(output_config={"format": {}}, context_management={"edits": [{"type": "x"}]}),
        "",
    ),
    "low": (
        "budget",
        "low",
        anthropic(max_tokens=9000),
        "",
        anthropic(max_tokens=9000, thinking=enabled(4096)),
        INTERLEAVED,
    ),
    "medium": (
        "budget",
        "medium",
        anthropic(max_tokens=20000, thinking=enabled(2000, display="omitted")),
        f"a, {INTERLEAVED}",
        anthropic(max_tokens=20000, thinking=enabled(12288, display="omitted")),
        f"a,{INTERLEAVED}",
    ),
    "high, with too small a limit": (
        "budget",
        "high",
        anthropic(max_tokens=4096, temperature=0.5, top_k=3),
        "",
        anthropic(max_tokens=28672, thinking=enabled(24576)),
        INTERLEAVED,
    ),
    "low of an adaptive model": (
        "adaptive",
        "low",
        anthropic(thinking=enabled(2000), output_config={"format": {}}),
        "a",
        anthropic(thinking={"type": "adaptive"}, output_config={"format": {}, "effort": "low"}),
        "a",
    ),
    "high of an adaptive model, and a forced tool": (
        "adaptive",
        "high",
        anthropic(tool_choice={"type": "any", "disable_parallel_tool_use": True}),
        "",
        anthropic(
            thinking={"type": "adaptive"},
            output_config={"effort": "high"},
            tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        ),
        "",
    ),
}


@pytest.mark.parametrize("name", LEVELS)
def test_settings_reasoning(name):
    thinking, level, body, betas, expected, expected_betas = LEVELS[name]
    headers = {"anthropic-beta": betas} if betas else {}
    anthropic_format.apply_model_settings(
        Encoded(body), headers, Target("up", level, max_tokens=64000, profile=Profile(thinking=thinking)), ""
    )
    assert body == expected | {"model": "up"}
    assert headers.get("anthropic-beta", "") == expected_betas


SYSTEMS = {
    "none": (None, [text("P")]),
    "empty": ("", [text("P")]),
    "a string": ("S", [text("P"), text("S")]),
    "blocks": ([text("S", cache_control={})], [text("P"), text("S", cache_control={})]),
    "the attribution block stays first": ([ATTRIBUTION, text("S")], [ATTRIBUTION, text("P"), text("S")]),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_settings_system(name):
    given, expected = SYSTEMS[name]
    body = anthropic() | ({} if given is None else {"system": given})
    unchanged = body.copy()
    anthropic_format.apply_model_settings(Encoded(body), {}, Target("m"), "")
    assert body == unchanged
    anthropic_format.apply_model_settings(Encoded(body), {}, Target("m"), "P")
    assert body == unchanged | {"system": expected}


def test_settings_fast():
    body, headers = anthropic(), {"anthropic-beta": "a"}
    anthropic_format.apply_model_settings(Encoded(body), headers, Target("m", fast=True), "")
    assert (body["speed"], headers["anthropic-beta"]) == ("fast", "a,fast-mode-2026-02-01")
    body = anthropic(speed="standard")
    anthropic_format.apply_model_settings(Encoded(body), {}, Target("m", fast=True), "")
    assert body["speed"] == "standard"


def test_settings_leaves_out_reasoning_that_the_upstream_did_not_make():
    packed = State("chat", "qwen", {}).pack()
    own = {"type": "thinking", "thinking": "", "signature": "S"}
    body = anthropic(
        spoken(
            {"type": "thinking", "thinking": "hm", "signature": packed},
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "redacted_thinking", "data": packed},
            own,
            text("ok"),
        ),
        user("?"),
    )
    anthropic_format.apply_model_settings(Encoded(body), {}, Target("m"), "")
    assert body["messages"] == [spoken(own, text("ok")), user("?")]


def test_settings_ids_of_another_service():
    kimi, own = "functions.f:0", "toolu_1"
    claude, kimis = profile_of("", "claude-opus-5-5", "anthropic"), profile_of("", "kimi-k2.6", "anthropic")
    turns = [spoken(anthropic_call(kimi), anthropic_call(own)), user([anthropic_result(kimi), anthropic_result(own)])]
    body = anthropic(*turns)
    anthropic_format.apply_model_settings(Encoded(body), {}, Target("m", profile=claude), "")
    called, answered = (message["content"] for message in body["messages"])
    assert re.fullmatch(r"[\w-]+", called[0]["id"])
    assert called[0]["id"] == answered[0]["tool_use_id"] != own
    assert (called[1], answered[1]) == (anthropic_call(own), anthropic_result(own))
    assert turns[0]["content"][0]["id"] == kimi, "written into"
    body = anthropic(*turns)
    anthropic_format.apply_model_settings(Encoded(body), {}, Target("m", profile=kimis), "")
    assert [block["id"] for block in body["messages"][0]["content"] if "id" in block] == [kimi, own]
