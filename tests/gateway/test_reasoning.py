"""Reasoning levels, system prompt and fast mode, as the upstream received them, in both lanes."""

import pytest

from droid2api.hub.reasoning import BUDGETS, INTERLEAVED_THINKING
from tests.harness import PATHS, Scripted, scripted_gateway

MODELS = {
    "budget": {"id": "claude-haiku-4-5-20251001", "type": "anthropic"},
    "adaptive": {"id": "claude-opus-5-5", "type": "anthropic", "thinking": "adaptive"},
    "openai": {"id": "gpt-5.5", "type": "openai"},
    "common": {"id": "glm-4.6", "type": "common"},
    "google": {"id": "gemini-3.5-flash", "type": "google"},
}
SAID = [{"role": "user", "content": "hi"}]
PLAIN = {
    "anthropic": {"max_tokens": 30000, "messages": SAID},
    "openai": {"input": "hi"},
    "common": {"messages": SAID},
    "google": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
}
ASKS = {  # for medium reasoning, in each client's words
    "anthropic": {"thinking": {"type": "enabled", "budget_tokens": BUDGETS["medium"]}},
    "openai": {"reasoning": {"effort": "medium", "summary": "detailed"}},
    "common": {"reasoning_effort": "medium"},
    "google": {"generationConfig": {"thinkingConfig": {"thinkingLevel": "MEDIUM", "includeThoughts": True}}},
}
FIELDS = ("thinking", "output_config", "reasoning", "reasoning_effort", "generationConfig")
BETAS = "context-1m-2025-08-07,effort-2025-11-24"

each_model = pytest.mark.parametrize("kind", MODELS)
each_client = pytest.mark.parametrize("client", PATHS)
each_claude = pytest.mark.parametrize("kind", ["budget", "adaptive"])
each_fixed_level = pytest.mark.parametrize("level", ["low", "medium", "high"])


@pytest.fixture
def received(tmp_path):
    """Headers and body that the upstream received for what the client sent."""

    async def received(client, kind, sent, headers=None, system_prompt="", **model):
        script = Scripted(headers={"Content-Type": "application/json"}, chunks=[b"{}"])
        config = {"models": [MODELS[kind] | model], "system_prompt": system_prompt}
        async with scripted_gateway(tmp_path, script, **config) as gateway:
            body = {"model": MODELS[kind]["id"]} | sent
            _, _, content = await gateway.ask(PATHS[client], body, headers)
        assert script.requests, content
        return script.requests[0][1:]

    return received


def reasoning_of(body):
    return {name: body[name] for name in FIELDS if name in body and name != "generationConfig"} | {
        name: value for name, value in body.get("generationConfig", {}).items() if name == "thinkingConfig"
    }


def expected(kind, level, client="anthropic", asks=False):
    """Chat clients see the reasoning where there is some to see, Responses clients where they ask for a summary."""
    shown = {"display": "summarized"} if client == "common" or (client in ("openai", "google") and asks) else {}
    thoughts = {"includeThoughts": True} if client != "google" or asks else {}
    return {
        "budget": {"thinking": {"type": "enabled", "budget_tokens": BUDGETS[level]}},
        "adaptive": {"thinking": {"type": "adaptive"} | shown, "output_config": {"effort": level}},
        "openai": {"reasoning": {"effort": level, "summary": "auto"}},
        "common": {"reasoning_effort": level},
        "google": {"thinkingConfig": {"thinkingLevel": level.upper()} | thoughts},
    }[kind]


# -- the table ------------------------------------------------------------------------------------------------------


@each_model
@each_client
@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("level", ["off", "low", "medium", "high"])
async def test_a_level_overrides_the_client(received, client, kind, level, asks):
    _, body = await received(client, kind, PLAIN[client] | (ASKS[client] if asks else {}), reasoning=level)
    told = {"reasoning": {"effort": "none"}} if kind == "openai" else {}  # it would reason all the same
    assert reasoning_of(body) == (told if level == "off" else expected(kind, level, client, asks))


@each_model
@each_client
async def test_auto_leaves_it_to_the_client(received, client, kind):
    _, body = await received(client, kind, PLAIN[client])
    thoughts = {
        "google": {"thinkingConfig": {"includeThoughts": True}},
        "adaptive": {"thinking": {"type": "adaptive", "display": "summarized"}},
    }
    shown = thoughts.get(kind, {}) if client == "common" else {}  # such a client sees the reasoning where there is some
    assert reasoning_of(body) == shown
    _, body = await received(client, kind, PLAIN[client] | ASKS[client])
    relayed = client == MODELS[kind]["type"]
    assert reasoning_of(body) == (
        reasoning_of(ASKS[client]) if relayed else expected(kind, "medium", client, asks=True)
    )


EVERYTHING = {
    "anthropic": {
        "max_tokens": 100,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]}
        ],
        "system": "Be kind.",
        "temperature": 0.5,
        "top_k": 3,
        "thinking": {"type": "enabled", "budget_tokens": 5000, "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "xhigh", "task_budget": {"total": 1}},
        "tool_choice": {"type": "any"},
        "a_new_field": [{"nested": None}, 1e-7, "文"],
    },
    "openai": {
        "input": [{"role": "user", "content": "hi"}, {"type": "item_reference", "id": "x"}],
        "instructions": "Be kind.",
        "reasoning": {"effort": "xhigh", "context": "all_turns"},
        "include": ["reasoning.encrypted_content"],
        "service_tier": "flex",
        "a_new_field": {"nested": [None]},
    },
    "common": {
        "messages": [{"role": "user", "content": "hi", "a_new_field": 1}],
        "reasoning_effort": "xhigh",
        "reasoning": {"max_tokens": 5},
        "thinking": {"type": "disabled"},
        "logit_bias": {"5": -100},
        "a_new_field": None,
    },
}


@pytest.mark.parametrize("kind", ["budget", "adaptive", "openai", "common"])
async def test_auto_without_a_prompt_changes_nothing(received, kind):
    type = MODELS[kind]["type"]
    headers, body = await received(type, kind, EVERYTHING[type], {"anthropic-beta": f"{INTERLEAVED_THINKING},{BETAS}"})
    assert body == {"model": MODELS[kind]["id"]} | EVERYTHING[type]
    assert headers.get("anthropic-beta") == (f"{INTERLEAVED_THINKING},{BETAS}" if type == "anthropic" else None)


async def test_off_removes_every_field(received):
    _, body = await received("common", "common", EVERYTHING["common"], reasoning="off")
    assert not {"reasoning_effort", "reasoning", "thinking"} & set(body)
    _, body = await received("openai", "openai", EVERYTHING["openai"], reasoning="off")
    assert body["reasoning"] == {"effort": "none"}
    _, body = await received("anthropic", "adaptive", EVERYTHING["anthropic"], reasoning="off")
    assert not {"thinking", "context_management"} & set(body)
    assert body["output_config"] == {"task_budget": {"total": 1}}
    assert (body["temperature"], body["tool_choice"], body["max_tokens"]) == (0.5, {"type": "any"}, 100)


async def test_off_keeps_other_edits_of_the_context(received):
    edits = [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]
    sent = PLAIN["anthropic"] | {"context_management": {"edits": edits, "other": 1}}
    _, body = await received("anthropic", "budget", sent, reasoning="off")
    assert body["context_management"] == {"edits": edits[1:], "other": 1}
    _, body = await received("anthropic", "budget", sent, reasoning="high")
    assert body["context_management"] == {"edits": edits, "other": 1}


# -- what goes with it on Anthropic ---------------------------------------------------------------------------------

SET = f"{BETAS},{INTERLEAVED_THINKING}"


@each_client
@pytest.mark.parametrize(
    ("kind", "level", "sent", "told"),
    [
        ("budget", "auto", BETAS, BETAS),
        ("budget", "auto", f"{INTERLEAVED_THINKING}, {BETAS}", f"{INTERLEAVED_THINKING}, {BETAS}"),
        ("budget", "off", BETAS, BETAS),
        ("budget", "off", f"{INTERLEAVED_THINKING}, {BETAS}", BETAS),
        ("budget", "off", INTERLEAVED_THINKING, None),
        ("budget", "low", BETAS, SET),
        ("budget", "medium", f"{INTERLEAVED_THINKING},{BETAS}", SET),
        ("budget", "high", None, INTERLEAVED_THINKING),
        ("adaptive", "off", SET, BETAS),
        ("adaptive", "high", BETAS, BETAS),
        ("adaptive", "high", None, None),
    ],
)
async def test_the_interleaved_beta(received, client, kind, level, sent, told):
    headers, _ = await received(client, kind, PLAIN[client], {"anthropic-beta": sent} if sent else {}, reasoning=level)
    assert headers.get("anthropic-beta") == told


ROOM = [
    (100, None, "{budget} + 100", "{budget}"),
    (4096, None, "{budget} + 4096", "{budget}"),
    (30000, None, "30000", "{budget}"),
    (100, 64000, "{budget} + 100", "{budget}"),
    (2000, 4000, "4000", "2976"),
]


@each_fixed_level
@pytest.mark.parametrize(
    ("client", "asked", "most", "max_tokens", "budget"),
    [
        *[(client, *case) for client in ("anthropic", "common") for case in ROOM],
        ("common", None, 64000, "64000", "{budget}"),  # Anthropic's own clients must say max_tokens
    ],
)
async def test_room_for_the_answer(received, client, level, asked, most, max_tokens, budget):
    """max_tokens is raised above the budget, or the budget lowered below what the model gives."""
    if level == "low" and asked == 4096:
        max_tokens = "4096 + 4096"
    sent = {"max_tokens": asked, "messages": SAID}
    _, body = await received(client, "budget", sent, reasoning=level, max_tokens=most)
    values = {"budget": BUDGETS[level]}
    assert body["max_tokens"] == sum(int(number) for number in max_tokens.format(**values).split(" + "))
    assert body["thinking"]["budget_tokens"] == int(budget.format(**values))
    assert 1024 <= body["thinking"]["budget_tokens"] < body["max_tokens"]


@each_claude
@each_fixed_level
@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ({"type": "any", "disable_parallel_tool_use": True}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"type": "tool", "name": "f"}, {"type": "auto"}),
        ({"type": "auto"}, {"type": "auto"}),
        ({"type": "none"}, {"type": "none"}),
    ],
)
async def test_what_thinking_does_not_go_with(received, kind, level, choice, kept):
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 3}
    sent = PLAIN["anthropic"] | sampling | {"tools": tools, "tool_choice": choice}
    _, body = await received("anthropic", kind, sent, reasoning=level)
    assert (body["tool_choice"], body["tools"]) == (kept, tools)
    assert not set(sampling) & set(body)
    _, body = await received("anthropic", kind, sent, reasoning="off")
    assert body["tool_choice"] == choice
    assert set(sampling) <= set(body)


@each_fixed_level
async def test_what_thinking_does_not_go_with_translated(received, level):
    sent = PLAIN["common"] | {"temperature": 0.5, "max_tokens": 100, "tool_choice": "required"}
    sent["tools"] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    _, body = await received("common", "budget", sent, reasoning=level)
    assert (body["tool_choice"], "temperature" in body) == ({"type": "auto"}, False)
    _, body = await received("common", "budget", sent | ASKS["common"], reasoning="off")
    assert (body["tool_choice"], body["temperature"], body["max_tokens"]) == ({"type": "any"}, 0.5, 100)


@each_claude
async def test_display_and_other_settings_are_the_clients(received, kind):
    schema = {"format": {"type": "json_schema", "schema": {}}}
    sent = {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "max"} | schema}
    _, body = await received("anthropic", kind, PLAIN["anthropic"] | sent, reasoning="low")
    assert body["thinking"]["display"] == "omitted"
    assert body["output_config"] == schema | ({"effort": "low"} if kind == "adaptive" else {})


# -- the system prompt ----------------------------------------------------------------------------------------------

PROMPT = "You are Droid.\n\n"
BILLING = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli;"}
OURS, KIND = {"type": "text", "text": PROMPT}, {"type": "text", "text": "Be kind."}
CACHED = KIND | {"cache_control": {"type": "ephemeral"}}


def system(content, role="system"):
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("client", "field", "sent", "got"),
    [
        ("openai", "instructions", None, PROMPT),
        ("openai", "instructions", "Be kind.", PROMPT + "Be kind."),
        ("anthropic", "system", None, [OURS]),
        ("anthropic", "system", "", [OURS]),
        ("anthropic", "system", [], [OURS]),
        ("anthropic", "system", "Be kind.", [OURS, KIND]),
        ("anthropic", "system", [CACHED], [OURS, CACHED]),
        ("anthropic", "system", [BILLING], [BILLING, OURS]),
        ("anthropic", "system", [BILLING, CACHED], [BILLING, OURS, CACHED]),
        ("common", "messages", SAID, [system(PROMPT), *SAID]),
        ("common", "messages", [system("Be kind."), *SAID], [system(PROMPT + "Be kind."), *SAID]),
        ("common", "messages", [system([KIND]), *SAID], [system([OURS, KIND]), *SAID]),
        ("common", "messages", [system("A", "developer"), *SAID], [system(PROMPT + "A", "developer"), *SAID]),
        ("common", "messages", [*SAID, system("Late.")], [system(PROMPT), *SAID, system("Late.")]),
    ],
)
async def test_the_system_prompt_is_first(received, client, field, sent, got):
    kind = "budget" if client == "anthropic" else client
    body = PLAIN[client] | ({} if sent is None else {field: sent})
    _, received_body = await received(client, kind, body, system_prompt=PROMPT)
    assert received_body == {"model": MODELS[kind]["id"]} | body | {field: got}
    _, received_body = await received(client, kind, body)
    assert received_body == {"model": MODELS[kind]["id"]} | body


@pytest.mark.parametrize("client", PATHS)
@each_model
async def test_the_system_prompt_is_first_translated(received, client, kind):
    spoken = {"anthropic": {"system": "Be kind."}, "openai": {"instructions": "Be kind."}}
    spoken["google"] = {"systemInstruction": {"parts": [{"text": "Be kind."}]}}
    body = PLAIN[client] | spoken.get(client, {"messages": [system("Be kind."), *SAID]})
    _, got = await received(client, kind, body, system_prompt=PROMPT)
    if kind in ("budget", "adaptive"):
        assert got["system"] == [
            OURS,
            KIND if client == "anthropic" else KIND | {"cache_control": {"type": "ephemeral"}},
        ]
    elif kind == "openai":
        assert (got.get("instructions") or "").startswith(PROMPT)
        assert "Be kind." in str(got)
    elif kind == "google":
        assert got["systemInstruction"]["parts"] == [{"text": PROMPT}, {"text": "Be kind."}]
    else:
        assert got["messages"][0]["content"] == PROMPT + "Be kind."


@each_model
async def test_the_attribution_block_stays_out_of_other_formats(received, kind):
    _, got = await received("anthropic", kind, PLAIN["anthropic"] | {"system": [BILLING, KIND]}, system_prompt=PROMPT)
    assert ("billing" in str(got)) == (MODELS[kind]["type"] == "anthropic")


# -- fast -----------------------------------------------------------------------------------------------------------

FAST = "fast-mode-2026-02-01"


@each_client
@each_model
async def test_fast(received, client, kind):
    headers, body = await received(client, kind, PLAIN[client], {"anthropic-beta": BETAS}, fast=True)
    if MODELS[kind]["type"] == "anthropic":
        assert (headers["anthropic-beta"], "service_tier" in body) == (f"{BETAS},{FAST}", False)
    else:
        tier = body["serviceTier" if kind == "google" else "service_tier"]
        assert (tier, "anthropic-beta" in headers) == ("priority", False)
    headers, body = await received(client, kind, PLAIN[client])
    assert ("service_tier" in body, "speed" in body, "anthropic-beta" in headers) == (False, False, False)


@pytest.mark.parametrize(
    ("kind", "sent", "headers"),
    [
        ("openai", {"service_tier": "flex"}, {}),
        ("common", {"service_tier": "default"}, {}),
        ("budget", {"speed": "standard"}, {}),
        ("budget", {"speed": "fast"}, {"anthropic-beta": FAST}),
        ("budget", {}, {"anthropic-beta": FAST}),
    ],
)
async def test_fast_unless_the_client_chose(received, kind, sent, headers):
    type = MODELS[kind]["type"]
    got, body = await received(type, kind, PLAIN[type] | sent, headers, fast=True)
    assert {name: body.get(name) for name in ("service_tier", "speed")} == {"service_tier": None, "speed": None} | sent
    assert got.get("anthropic-beta") == headers.get("anthropic-beta")
