"""Requests in the shape that real clients give them, on models of all three upstream types.

Shapes as measured with Claude Code 2.1, Codex 0.77 to 0.169, Vercel AI SDK 7, opencode 1.18, Cline 3, aider 0.86 and
llm 0.36; the texts are made up.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from droid2api.demo import Demo
from tests.harness import BY_TYPE, Scripted, demo_gateway, scripted_gateway
from tests.sdk_clients import PNG

Json = dict[str, Any]
upstreams = pytest.mark.parametrize("upstream", sorted(BY_TYPE))

PDF = "JVBERi0xLjQKMSAwIG9iago8PD4+CmVuZG9iagp0cmFpbGVyCjw8Pj4K"
FUNCTION: Json = {"name": "shell", "description": "Run it", "parameters": {"type": "object", "properties": {}}}
GRAMMAR: Json = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}


def claude_code() -> Json:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"timeout": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991}},
        "additionalProperties": False,
    }
    cached = {"cache_control": {"type": "ephemeral"}}
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    paper = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
    return {
        "max_tokens": 32000,
        "stream": True,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cc_entrypoint=sdk-cli;"},
            {"type": "text", "text": "You are Claude Code.", **cached},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "<system-reminder>\nhi</system-reminder>"}]},
            {"role": "system", "content": []},
            {"role": "system", "content": "Keep going.", "output_config": {"effort": "high"}},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "", "signature": "from elsewhere"},
                    {"type": "text", "text": "Searching."},
                    {"type": "tool_use", "id": "toolu_1", "name": "ToolSearch", "input": {}},
                    {"type": "tool_use", "id": "toolu_2", "name": "Read", "input": {"file_path": "a.png"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "tool_use_id": "toolu_1",
                        "type": "tool_result",
                        "content": [{"type": "tool_reference", "tool_name": "WebFetch"}],
                    },
                    {"type": "tool_result", "tool_use_id": "toolu_2", "content": [picture, paper], "is_error": False},
                    {"type": "text", "text": "Go on.", **cached},
                ],
            },
            {"role": "system", "content": "Tools changed."},
        ],
        "tools": [
            {"name": "ToolSearch", "description": "Find tools", "input_schema": schema},
            {"name": "Read", "description": "Read", "input_schema": schema, **cached},
            {"name": "WebFetch", "description": "Fetch", "input_schema": schema, "defer_loading": True},
            {"name": "Hidden", "description": "Not found yet", "input_schema": schema, "defer_loading": True},
        ],
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        "metadata": {"user_id": orjson.dumps({"device_id": "d" * 64, "session_id": "s" * 36}).decode()},
    }


def codex() -> Json:
    return {
        "stream": True,
        "input": [
            {"type": "message", "id": "m1", "role": "developer", "content": [{"type": "input_text", "text": "Base."}]},
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rules."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Environment."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Do it."}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "from elsewhere"},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "shell", "arguments": ""},
            {"type": "custom_tool_call", "call_id": "call_2", "name": "apply_patch", "input": "*** Begin Patch"},
            {
                "type": "function_call",
                "call_id": "call_3",
                "name": "spawn",
                "namespace": "multi_agent_v1",
                "arguments": "{}",
            },
            {
                "type": "function_call_output",
                "call_id": "call_1",
                "output": [{"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "original"}],
            },
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"},
            {"type": "function_call_output", "call_id": "call_3", "output": "spawned"},
            {
                "type": "additional_tools",
                "role": "developer",
                "tools": [{"type": "function", **FUNCTION, "name": "wait"}],
            },
        ],
        "tools": [
            {"type": "function", **FUNCTION, "strict": False},
            {"type": "custom", "name": "apply_patch", "description": "Patch files", "format": GRAMMAR},
            {
                "type": "namespace",
                "name": "multi_agent_v1",
                "tools": [{"type": "function", **FUNCTION, "name": "spawn"}],
            },
            {"type": "tool_search", "execution": "client", "parameters": {}},
            {"type": "web_search", "external_web_access": False},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": None,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "6b1f0a3e",
        "text": {"verbosity": "low"},
        "client_metadata": {"a": "b"},
    }


def codex_with_instructions() -> Json:
    message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Do it."}]}
    return {"stream": True, "instructions": "Base.", "input": [message], "tools": [], "include": [], "store": False}


def vercel_chat() -> Json:
    call = {"id": "c1", "type": "function", "function": {"name": "shell", "arguments": "{}"}}
    return {
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "ok"},
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
    }


def vercel_responses() -> Json:
    return {
        "stream": True,
        "input": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]},
            {"role": "user", "content": [{"type": "input_text", "text": "Again"}]},
        ],
    }


def vercel_anthropic() -> Json:
    format = {"type": "json_schema", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}
    return {
        "max_tokens": 128000,
        "stream": True,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "output_config": {"format": format},
    }


def opencode_responses() -> Json:
    return vercel_responses() | {
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "minimal", "summary": "auto"},
        "prompt_cache_key": "ses_1",
        "max_output_tokens": 32000,
    }


def opencode_chat() -> Json:
    return vercel_chat() | {"reasoning_effort": "medium", "max_tokens": 32000, "response_format": {"type": "text"}}


def cline_native() -> Json:
    tools: list[Json] = [
        {"type": "web_search"},
        {"type": "image_generation", "output_format": "png"},
        {"type": "function", **FUNCTION, "strict": False},
    ]
    return vercel_responses() | {
        "tools": tools,
        "include": ["web_search_call.action.sources"],
        "truncation": "auto",
    }


def aider() -> Json:
    turns = [("system", "Edit."), ("user", "Hi"), ("assistant", "Ok."), ("user", "Go"), ("system", "Use diffs.")]
    return {"stream": True, "temperature": 0, "messages": [{"role": role, "content": text} for role, text in turns]}


def aider_anthropic() -> Json:
    message = {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}
    return {"max_tokens": 64000, "temperature": 0, "stream": True, "system": "Edit.", "messages": [message]}


BODIES = [
    ("/v1/messages?beta=true", claude_code()),
    ("/v1/messages", vercel_anthropic()),
    ("/v1/messages", aider_anthropic()),
    ("/v1/responses", codex()),
    ("/v1/responses", codex_with_instructions()),
    ("/v1/responses", vercel_responses()),
    ("/v1/responses", opencode_responses()),
    ("/v1/responses", cline_native()),
    ("/v1/chat/completions", vercel_chat()),
    ("/v1/chat/completions", opencode_chat()),
    ("/v1/chat/completions", aider()),
]
NAMES = "claude-code vercel-a aider-a codex codex-old vercel-r opencode-r cline vercel-c opencode-c aider-c".split()
ENDS = {
    "/v1/messages": b"event: message_stop",
    "/v1/responses": b"event: response.completed",
    "/v1/chat": b"data: [DONE]",
}

RELAYED = {"/v1/messages": "anthropic", "/v1/responses": "openai", "/v1/chat/completions": "common"}


@pytest.mark.parametrize(("path", "body"), BODIES, ids=NAMES)
@upstreams
async def test_is_accepted_and_answered(tmp_path, path, body, upstream):
    demo = Demo(pace=0)
    plain = path.partition("?")[0]
    if RELAYED[plain] == upstream and "from elsewhere" in str(body):
        body = orjson.loads(orjson.dumps(body).replace(b'"from elsewhere"', b'""'))  # the demo knows its own state only
    async with demo_gateway(tmp_path, demo) as gateway:
        for stream in (True, False):
            sent = body | {"model": BY_TYPE[upstream], "stream": stream}
            status, _, content = await gateway.ask(path, sent)
            assert status == 200, content
            if stream:
                assert next(end for start, end in ENDS.items() if plain.startswith(start)) in content
            else:
                assert orjson.loads(content)["usage"]


async def received(tmp_path, path: str, body: Json, upstream: str, **config: Any) -> Json:
    """What the upstream gets; it answers with an error, which does not matter here."""
    script = Scripted(status=500, headers={"Content-Type": "application/json"}, chunks=[b"{}"])
    async with scripted_gateway(tmp_path, script, **config) as gateway:
        status, _, content = await gateway.ask(path, body | {"model": BY_TYPE[upstream]})
        assert status == 500, content
    return script.last


async def test_claude_code_on_an_openai_model(tmp_path):
    sent = await received(tmp_path, "/v1/messages", claude_code(), "openai")
    assert sent["instructions"] == "You are Claude Code."
    assert [tool["name"] for tool in sent["tools"]] == ["ToolSearch", "Read", "WebFetch"]
    assert not any("$schema" in tool["parameters"] or tool["strict"] for tool in sent["tools"])
    kinds = [item.get("role") or item["type"] for item in sent["input"]]
    assert kinds == [
        *("user", "developer", "assistant", "function_call", "function_call"),
        *("function_call_output", "function_call_output", "user", "developer"),
    ]
    outputs = [item["output"] for item in sent["input"] if item["type"] == "function_call_output"]
    assert outputs[0] == "The tool WebFetch can be called now."
    assert [part["type"] for part in outputs[1]] == ["input_image", "input_file"]
    assert sent["reasoning"] == {"effort": "medium", "summary": "auto"}
    assert len(sent["safety_identifier"]) <= 64
    assert sent["store"] is False
    assert "from elsewhere" not in str(sent)


async def test_codex_on_an_anthropic_model(tmp_path):
    sent = await received(tmp_path, "/v1/responses", codex(), "anthropic")
    assert [block["text"] for block in sent["system"]] == ["Base.", "Rules."]
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    calls, results = sent["messages"][1]["content"], sent["messages"][2]["content"]
    assert [(call["name"], call["input"]) for call in calls] == [
        ("shell", {}),
        ("apply_patch", {"input": "*** Begin Patch"}),
        ("multi_agent_v1__spawn", {}),
    ]
    assert [result["tool_use_id"] for result in results] == ["call_1", "call_2", "call_3"]
    assert results[0]["content"][0]["source"]["media_type"] == "image/png"
    names = [tool["name"] for tool in sent["tools"]]
    assert names == ["wait", "shell", "apply_patch", "multi_agent_v1__spawn", "tool_search", "web_search"]
    assert "lark" in sent["tools"][2]["description"]
    assert sent["max_tokens"] > 0


async def test_what_is_left_out_and_mended_is_said(tmp_path):
    body = {
        "model": BY_TYPE["anthropic"],
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "user", "content": "b"},
            {"role": "user", "content": ""},
        ],
        "seed": 7,
        "logit_bias": {"1": 2},
        "temperature": 1.7,
    }
    async with demo_gateway(tmp_path) as gateway:
        _, headers, _ = await gateway.ask("/v1/chat/completions", body)
    assert headers["x-droid2api-dropped"] == "seed, logit_bias"
    assert headers["x-droid2api-repaired"] == "messages.empty_text=1, messages.merged=1, temperature=1"


ORPHAN_CALL: Json = {"id": "c9", "type": "function", "function": {"name": "f", "arguments": "{}"}}
REFUSED = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "n": 2}, "n"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "modalities": ["audio"]}, "audio"),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        "messages[0].content[0]",
    ),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [ORPHAN_CALL]}]},
        "'c9'",
    ),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "a"}, {"role": "tool", "tool_call_id": "c8", "content": "x"}]},
        "'c8'",
    ),
    ("/v1/responses", {"input": "a", "previous_response_id": "resp_1"}, "previous_response_id"),
    ("/v1/responses", {"input": "a", "background": True}, "background"),
    ("/v1/responses", {"input": [{"type": "compaction_trigger"}]}, "compaction_trigger"),
    (
        "/v1/messages",
        {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]},
        "messages[0].content[0]",
    ),
]


@pytest.mark.parametrize(
    ("path", "body", "named", "upstream"),
    [(*case, upstream) for case in REFUSED for upstream in sorted(BY_TYPE) if RELAYED[case[0]] != upstream],
)
async def test_what_cannot_be_represented_is_refused_by_name(tmp_path, path, body, named, upstream):
    """Where the formats differ; an upstream of the same format decides itself."""
    async with demo_gateway(tmp_path) as gateway:
        status, _, content = await gateway.ask(path, body | {"model": BY_TYPE[upstream], "max_tokens": 10})
    assert status == 400
    assert named in orjson.loads(content)["error"]["message"]


OVERFLOW = "This model's maximum context length is 128000 tokens. However, your messages resulted in 130012 tokens."


@pytest.mark.parametrize("upstream", ["openai", "common"])
async def test_an_overflow_is_told_as_claude_code_looks_for_it(tmp_path, upstream):
    error = {"error": {"message": OVERFLOW, "type": "invalid_request_error", "code": "context_length_exceeded"}}
    script = Scripted(status=400, headers={"Content-Type": "application/json"}, chunks=[orjson.dumps(error)])
    async with scripted_gateway(tmp_path, script) as gateway:
        body = {"model": BY_TYPE[upstream], "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}
        status, _, content = await gateway.ask("/v1/messages", body)
    assert status == 400
    assert orjson.loads(content)["error"] == {
        "type": "invalid_request_error",
        "message": "prompt is too long: 130012 tokens > 128000 maximum",
    }


@pytest.mark.parametrize("upstream", ["anthropic", "common"])
async def test_codex_is_told_when_to_come_back(tmp_path, upstream):
    """A 429 without retry-after ends its turn at once."""
    error = {"error": {"message": "Slow down.", "type": "rate_limit_error"}}
    script = Scripted(status=429, headers={"Content-Type": "application/json"}, chunks=[orjson.dumps(error)])
    async with scripted_gateway(tmp_path, script) as gateway:
        body = {"model": BY_TYPE[upstream], "input": "a", "stream": True}
        status, headers, _ = await gateway.ask("/v1/responses", body)
    assert (status, headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize("upstream", ["openai", "common"])
async def test_tokens_are_estimated_where_nobody_counts_them(tmp_path, upstream):
    async with demo_gateway(tmp_path) as gateway:

        async def count(text: str) -> int:
            body = {"model": BY_TYPE[upstream], "messages": [{"role": "user", "content": text}]}
            status, _, content = await gateway.ask("/v1/messages/count_tokens", body)
            assert status == 200, content
            return int(orjson.loads(content)["input_tokens"])

        assert await count("word " * 800) - await count("") == 1000
        body = claude_code() | {"model": BY_TYPE[upstream]}
        _, _, content = await gateway.ask("/v1/messages/count_tokens?beta=true", body)
        assert 3200 < orjson.loads(content)["input_tokens"] < 4000  # mostly its picture and its document
