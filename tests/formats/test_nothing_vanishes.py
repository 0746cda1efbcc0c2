"""Nothing vanishes unsaid: each documented field of a body is in the upstream's, or its path is in `dropped`.

Fields have values that can be found again. What a field only says to this gateway (types, roles, whether to stream) has
none, and neither has what means the same as its absence.
"""

from collections.abc import Iterator

import orjson
import pytest

from droid2api.formats import BY_NAME
from droid2api.hub.events import State

from .bodies import CLOSED, PNG, anthropic, assistant, chat, convert, responses, target, user

CACHE = {"type": "ephemeral", "ttl": "1h"}
BREAKPOINT = {"mode": "explicit", "ttl": "12h"}
PICTURE = f"data:image/png;base64,{PNG}"
PAPER = "data:application/pdf;base64,JVBERi0x"

CHAT = chat(
    {"role": "system", "content": "M1", "name": "M2"},
    {"role": "developer", "content": [{"type": "text", "text": "M3", "prompt_cache_breakpoint": BREAKPOINT}]},
    {
        "role": "user",
        "name": "M4",
        "content": [
            {"type": "text", "text": "M5", "prompt_cache_breakpoint": BREAKPOINT, "x_new": "M6"},
            {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low", "x_new": "M7"}},
            {"type": "file", "file": {"file_data": PAPER, "filename": "M8", "x_new": "M9"}},
        ],
    },
    {
        "role": "assistant",
        "name": "M10",
        "content": [{"type": "text", "text": "M11"}, {"type": "refusal", "refusal": "M12"}],
        "refusal": "M13",
        "reasoning_content": "M14",
        "reasoning_details": [{"type": "reasoning.text", "text": "M15", "signature": "M16"}],
        "annotations": [{"type": "url_citation", "url_citation": {"url": "M17"}}],
        "tool_calls": [
            {
                "id": "M18",
                "type": "function",
                "function": {"name": "M19", "arguments": '{"a":"M20"}', "x_new": "M21"},
                "extra_content": {"google": {"thought_signature": "M22"}},
                "x_new": "M23",
            },
            {"id": "M24", "type": "custom", "custom": {"name": "M25", "input": "M26", "x_new": "M27"}},
        ],
    },
    {"role": "tool", "tool_call_id": "M18", "content": "M28", "x_new": "M29"},
    {"role": "tool", "tool_call_id": "M24", "content": [{"type": "text", "text": "M30"}]},
    user("M31"),
    tools=[
        {
            "type": "function",
            "function": {
                "name": "M32",
                "description": "M33",
                "parameters": {"type": "object", "properties": {"M34": {"type": "string", "description": "M35"}}},
                "strict": True,
                "x_new": "M36",
            },
            "x_other": "M37",
        },
        {
            "type": "custom",
            "custom": {
                "name": "M38",
                "description": "M39",
                "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "M40", "x_new": "M41"}},
                "x_new": "M42",
            },
        },
    ],
    tool_choice={"type": "function", "function": {"name": "M32"}},
    parallel_tool_calls=False,
    response_format={
        "type": "json_schema",
        "json_schema": {
            "name": "M43",
            "description": "M44",
            "schema": {"type": "object", "properties": {"M45": {"type": "string"}}},
            "strict": True,
            "x_new": "M46",
        },
    },
    max_completion_tokens=4711,
    temperature=0.4712,
    top_p=0.4713,
    frequency_penalty=0.4714,
    presence_penalty=0.4715,
    seed=4716,
    logit_bias={"5": 47},
    logprobs=True,
    top_logprobs=4717,
    stop=["M47"],
    reasoning_effort="high",
    verbosity="M48",
    service_tier="M49",
    store=True,
    metadata={"a": "M50"},
    prediction={"type": "content", "content": "M51"},
    prompt_cache_key="M52",
    prompt_cache_retention="M53",
    prompt_cache_options={"mode": "M54"},
    web_search_options={"search_context_size": "M55"},
    moderation={"model": "M56"},
    safety_identifier="M57",
    user="M957",
    stream_options={"include_usage": True, "include_obfuscation": False},
    top_k=4718,
    min_p=0.4719,
    x_new="M58",
)
RESPONSES = responses(
    {"type": "message", "role": "developer", "content": "M1", "id": "M2", "status": "completed", "x_new": "M3"},
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "M4", "prompt_cache_breakpoint": BREAKPOINT, "x_new": "M5"},
            {"type": "input_image", "image_url": PICTURE, "detail": "low", "x_new": "M6"},
            {"type": "input_file", "file_data": PAPER, "filename": "M7", "x_new": "M8"},
        ],
    },
    {"type": "reasoning", "id": "M9", "summary": [{"type": "summary_text", "text": "M10"}], "encrypted_content": "M11"},
    {
        "type": "message",
        "role": "assistant",
        "id": "M12",
        "phase": "M13",
        "content": [
            {
                "type": "output_text",
                "text": "M14",
                "annotations": [{"type": "url_citation", "url": "M15"}],
                "logprobs": [{"token": "M16"}],
            },
            {"type": "refusal", "refusal": "M17"},
        ],
    },
    {
        "type": "function_call",
        "id": "M18",
        "call_id": "M19",
        "name": "M20",
        "namespace": "M21",
        "arguments": '{"a":"M22"}',
        "status": "completed",
        "caller": {"type": "direct", "x": "M23"},
    },
    {"type": "custom_tool_call", "id": "M24", "call_id": "M25", "name": "M26", "input": "M27"},
    {"type": "function_call_output", "id": "M28", "call_id": "M19", "output": "M29", "status": "completed"},
    {"type": "custom_tool_call_output", "call_id": "M25", "output": [{"type": "input_text", "text": "M30"}]},
    {"type": "web_search_call", "id": "M31", "action": {"type": "search", "query": "M32"}},
    user("M33"),
    instructions="M34",
    tools=[
        {
            "type": "function",
            "name": "M35",
            "description": "M36",
            "parameters": {"type": "object", "properties": {"M37": {"type": "string"}}},
            "strict": True,
            "allowed_callers": ["M38"],
            "output_schema": {"title": "M39"},
        },
        {"type": "custom", "name": "M40", "description": "M41", "format": {"type": "grammar", "definition": "M42"}},
        {
            "type": "namespace",
            "name": "M43",
            "description": "M44",
            "tools": [{"type": "function", "name": "M45", "parameters": CLOSED}],
        },
        {
            "type": "web_search",
            "filters": {"allowed_domains": ["M46"], "blocked_domains": ["M47"]},
            "user_location": {"type": "approximate", "city": "M48"},
            "search_context_size": "M49",
            "external_web_access": False,
            "search_content_types": ["M50"],
            "x_new": "M51",
        },
        {"type": "file_search", "vector_store_ids": ["M52"]},
        {"type": "image_generation", "quality": "M53"},
    ],
    tool_choice={"type": "function", "name": "M35"},
    include=["M54"],
    max_output_tokens=4711,
    max_tool_calls=4712,
    parallel_tool_calls=False,
    reasoning={"effort": "high", "context": "M56", "mode": "M57"},
    text={
        "verbosity": "M58",
        "format": {
            "type": "json_schema",
            "name": "M59",
            "description": "M60",
            "schema": {"type": "object", "properties": {"M61": {"type": "string"}}},
            "strict": True,
            "x_new": "M62",
        },
        "x_new": "M63",
    },
    store=True,
    stream_options={"include_obfuscation": False},
    temperature=0.4713,
    top_p=0.4714,
    top_logprobs=4715,
    truncation="M64",
    metadata={"a": "M65"},
    service_tier="M66",
    prompt_cache_key="M67",
    prompt_cache_options={"mode": "M68"},
    prompt_cache_retention="M69",
    safety_identifier="M70",
    user="M970",
    context_management=[{"type": "compaction", "compact_threshold": 4716}],
    moderation={"model": "M71"},
    background_options={"x": "M72"},
    access_programs=["M73"],
    client_metadata={"a": "M74"},
    x_new="M75",
)
ANTHROPIC = anthropic(
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "M1", "cache_control": CACHE, "x_new": "M2"},
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": PNG, "x_new": "M3"},
                "cache_control": CACHE,
                "x_new": "M4",
            },
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"},
                "title": "M5",
                "context": "M6",
                "citations": {"enabled": True},
                "cache_control": CACHE,
            },
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "M7"}, "title": "M8"},
            {
                "type": "search_result",
                "title": "M9",
                "source": "M10",
                "content": [{"type": "text", "text": "M11"}],
                "citations": {"enabled": True},
                "cache_control": CACHE,
            },
        ],
    },
    {"role": "system", "content": "M12", "clear_at": "M13", "output_config": {"effort": "M14"}},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "M15", "signature": "M16"},
            {"type": "redacted_thinking", "data": "M17"},
            {"type": "text", "text": "M18", "citations": [{"type": "char_location", "cited_text": "M19"}]},
            {"type": "server_tool_use", "id": "M20", "name": "web_search", "input": {"query": "M21"}},
            {"type": "web_search_tool_result", "tool_use_id": "M20", "content": [{"title": "M22"}]},
            {"type": "compaction", "content": "M23", "encrypted_content": "M24", "signature": "M25"},
            {
                "type": "tool_use",
                "id": "M26",
                "name": "M27",
                "input": {"a": "M28"},
                "cache_control": CACHE,
                "caller": {"type": "M29"},
                "toolset_name": "M30",
            },
        ],
    },
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "M26",
                "content": [{"type": "text", "text": "M31", "cache_control": CACHE}],
                "cache_control": CACHE,
                "toolset_name": "M32",
            },
            {"type": "text", "text": "M33"},
        ],
    },
    system=[{"type": "text", "text": "M34", "cache_control": CACHE, "citations": [{"x": "M35"}]}],
    tools=[
        {
            "name": "M36",
            "description": "M37",
            "input_schema": {"type": "object", "properties": {"M38": {"type": "string"}}},
            "strict": True,
            "cache_control": CACHE,
            "eager_input_streaming": True,
            "input_examples": [{"a": "M39"}],
            "allowed_callers": ["M40"],
        },
        {
            "type": "web_search_20250305",
            "name": "web_search",
            "max_uses": 4710,
            "allowed_domains": ["M41"],
            "blocked_domains": ["M42"],
            "user_location": {"type": "approximate", "city": "M43"},
            "allowed_callers": ["M44"],
            "response_inclusion": "M45",
            "cache_control": CACHE,
        },
        {"type": "code_execution_20250522", "name": "code_execution"},
        {"type": "mcp_toolset", "mcp_server_name": "M46"},
    ],
    tool_choice={"type": "tool", "name": "M36", "disable_parallel_tool_use": True},
    max_tokens=4711,
    temperature=0.4712,
    top_p=0.4713,
    top_k=4714,
    stop_sequences=["M47"],
    thinking={"type": "adaptive", "display": "omitted", "block_binding": {"x": "M48"}},
    output_config={
        "effort": "high",
        "format": {"type": "json_schema", "schema": {"type": "object", "properties": {"M49": {"type": "string"}}}},
        "task_budget": {"total": 4715},
    },
    metadata={"user_id": "M50", "x_new": "M51"},
    service_tier="M52",
    speed="M53",
    container="M54",
    inference_geo="M55",
    cache_control=CACHE,
    context_management={"edits": [{"type": "M56"}]},
    mcp_servers=[{"name": "M57"}],
    diagnostics={"previous_message_id": "M58"},
    fallbacks=[{"model": "M59"}],
    x_new="M60",
)
THOUGHT = "M6"
SIGNED = "c2lnbmF0dXJl"
GEMINI = {
    "systemInstruction": {"parts": [{"text": "M1"}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "M2", "videoMetadata": {"fps": 4701}},
                {"inlineData": {"mimeType": "image/png", "data": PNG, "displayName": "M3"}},
                {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0x"}, "mediaResolution": {"level": "M4"}},
            ],
            "xNew": "M5",
        },
        {
            "role": "model",
            "parts": [
                {"text": "M6", "thought": True},
                {"text": "M7", "thoughtSignature": SIGNED},
                {"executableCode": {"language": "PYTHON", "code": "M8"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "M9"}},
                {
                    "functionCall": {"id": "M10", "name": "M11", "args": {"a": "M12"}, "xNew": "M13"},
                    "thoughtSignature": SIGNED,
                },
                {"functionCall": {"id": "M14", "name": "M15", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "M10", "name": "M11", "response": {"output": "M16"}, "scheduling": "M17"}},
                {"functionResponse": {"id": "M14", "name": "M15", "response": {"x": "M18"}}},
                {"text": "M19"},
            ],
        },
    ],
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "M11",
                    "description": "M20",
                    "parameters": {"type": "OBJECT", "properties": {"M21": {"type": "STRING"}}},
                    "behavior": "M22",
                },
                {
                    "name": "M23",
                    "parametersJsonSchema": {"type": "object", "properties": {"M24": {"type": "string"}}},
                    "response": {"type": "M25"},
                },
            ]
        },
        {"googleSearch": {"timeRangeFilter": {"startTime": "M26"}}},
        {"urlContext": {"x": "M27"}},
        {"codeExecution": {"x": "M28"}},
    ],
    "toolConfig": {
        "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["M11"], "streamFunctionCallArguments": True},
        "retrievalConfig": {"languageCode": "M29"},
    },
    "generationConfig": {
        "temperature": 0.4702,
        "topP": 0.4703,
        "topK": 4704,
        "maxOutputTokens": 4705,
        "stopSequences": ["M30"],
        "seed": 4706,
        "presencePenalty": 0.4707,
        "frequencyPenalty": 0.4708,
        "responseLogprobs": True,
        "logprobs": 4709,
        "responseMimeType": "application/json",
        "responseSchema": {"type": "OBJECT", "properties": {"M31": {"type": "STRING"}}},
        "mediaResolution": "M32",
        "speechConfig": {"languageCode": "M33"},
        "thinkingConfig": {"thinkingLevel": "high", "xNew": "M34"},
    },
    "safetySettings": [{"category": "M35", "threshold": "M36"}],
    "serviceTier": "flex",
    "store": True,
    "labels": {"a": "M37"},
    "xNew": "M38",
}
BODIES = {"chat": CHAT, "responses": RESPONSES, "anthropic": ANTHROPIC, "gemini": GEMINI}

SILENT = frozenset(
    "type role model mode stream include_usage syntax required mimeType responseMimeType language outcome "
    "thought".split()
)
"""Keys that say to this gateway how to read the rest, or that have no word of their own in another format."""
RENAMED = {
    "display": "thinking.display",
    "disable_parallel_tool_use": "parallel_tool_calls",
    "ttl": "cache_breakpoints.ttl",
    "cache_control": "cache_breakpoints",
    "prompt_cache_breakpoint": "cache_breakpoints",
    "encrypted_content": "messages.reasoning",
    "summary": "messages.reasoning",
    "reasoning_content": "messages.reasoning",
    "thinking": "messages.reasoning",
    "signature": "messages.reasoning",
    "data": "messages.reasoning",
    "reasoning_effort": "thinking",
    "safety_identifier": "user",
    "user_id": "user",
    "citations": "messages.text.citations",
    "topP": "top_p",
    "filename": "messages.document.title",
    "title": "messages.document.title",
    "max_output_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "thoughtSignature": "messages.text.signature",
    "maxOutputTokens": "max_tokens",
    "topK": "top_k",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "serviceTier": "service_tier",
    "thinkingLevel": "thinking",
}
"""Fields whose paths have other words, since all formats share them."""
OPPOSITE = {
    "parallel_tool_calls": ("disable_parallel_tool_use", True),
    "disable_parallel_tool_use": ("parallel_tool_calls", False),
}
SAID = {
    "reasoning_effort": ("budget_tokens", '"thinkingLevel":"HIGH"', '"thinkingBudget":24576'),
    "effort": ('"thinkingLevel":"HIGH"',),
    "thinkingLevel": ("budget_tokens", '"high"'),
    "media_type": ("M7",),
}
"""Fields that another format has another word for: an effort is a budget, a document of text is that text."""
MODELS = {
    "chat": [target("chat", "qwen3-max"), target("chat", "gpt-5.5", "api.openai.com")],
    "responses": [target("responses", "gpt-5.5"), target("responses", "gpt-4.1")],
    "anthropic": [target("anthropic", "claude-haiku-4-5"), target("anthropic", "claude-opus-5-5")],
    "gemini": [target("gemini", "gemini-2.5-flash"), target("gemini", "gemini-4-neon")],
}
PAIRS = [
    pytest.param(client, upstream, model, id=f"{client}-{upstream}-{model.id}")
    for client in BY_NAME
    for upstream in BY_NAME
    if client != upstream
    for model in MODELS[upstream]
]


def leaves(value: object, keys: tuple = (), types: tuple = ()) -> Iterator[tuple[tuple, tuple, object]]:
    """Every value in a body that is no container, with the keys on the way, and the types of the objects there."""
    if type(value) is dict:
        kind = str(value.get("type", ""))
        for key, inner in value.items():
            yield from leaves(inner, (*keys, key), (*types, kind))
    elif type(value) is list:
        for inner in value:
            yield from leaves(inner, keys, types)
    else:
        yield keys, types, value


def is_found(value: object, key: str, written: str) -> bool:
    if type(value) is str and value.startswith("{"):  # arguments
        return all(str(inner) in written for inner in orjson.loads(value).values())
    if type(value) is bool:
        name, told = OPPOSITE.get(key, (key, value))
        return f'"{key}":{str(value).lower()}' in written or f'"{name}":{str(told).lower()}' in written
    return str(value).rpartition(";base64,")[2] in written


@pytest.mark.parametrize(("client", "upstream", "model"), PAIRS)
def test_every_documented_field_is_carried_or_named(client, upstream, model):
    body = BODIES[client]
    encoded = convert(client, orjson.loads(orjson.dumps(body)), upstream, model)
    written = orjson.dumps([encoded.body, encoded.local_stop]).decode()
    told = {*encoded.dropped, *encoded.repaired}
    last = {path.rpartition(".")[2] for path in told}
    lost = []
    for keys, types, value in leaves(body):
        named = last & {*keys, *types, str(value)} or {RENAMED[key] for key in keys if key in RENAMED} & told
        served = any(kind.startswith("web_search_") for kind in types) and "web_search" in last
        said = any(word in written for word in SAID.get(keys[-1], ()))
        said = said or (value == "web_search" and "googleSearch" in written)
        said = said or (keys[-1] == "thinkingLevel" and "reasoning_effort" in told)
        said = said or (value == THOUGHT and "messages.reasoning" in told)
        if not (keys[-1] in SILENT or is_found(value, keys[-1], written) or named or served or said):
            lost.append(f"{'.'.join(keys)} = {value}")
    assert lost == []


def test_the_check_finds_a_loss():
    """A marker that is nowhere is a loss: the check above can fail."""
    assert not is_found("M99", "x", '{"x":"M1"}')
    assert not is_found(True, "strict", '{"strict":false}')
    assert [keys for keys, _, value in leaves({"a": [{"type": "t", "b": "M1"}]}) if value == "M1"] == [("a", "b")]


def test_what_says_nothing_is_not_named():
    quiet = {"name": None, "annotations": [], "logprobs": [], "cache_control": None, "x": "", "y": {}}
    body = chat(user("hi"), assistant("ok") | quiet, user("?"), tools=[], stop=None, metadata=None)
    assert convert("chat", body, "anthropic", target("anthropic", "claude-haiku-4-5")).dropped == []
    parts = [{"type": "output_text", "text": "ok", "annotations": [], "logprobs": []}]
    body = responses(user("hi"), {"role": "assistant", "content": parts}, user("?"), reasoning=None, text=None)
    assert convert("responses", body, "anthropic", target("anthropic", "claude-haiku-4-5")).dropped == []


def test_state_of_another_service_is_named():
    state = State("chat", "gemini", {"extra_content": {"google": {}}})
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    marked = call | {"extra_content": {"droid2api": state.pack()}}
    body = chat(user("go"), assistant(tool_calls=[marked]), {"role": "tool", "tool_call_id": "a", "content": "1"})
    encoded = convert("chat", body, "responses", target("responses", "gpt-5.5"))
    assert encoded.dropped == ["messages.tool_call.extra_content"]
