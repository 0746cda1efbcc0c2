"""What the strict upstreams refuse, each rule of each service, and what they let pass."""

from __future__ import annotations

import aiohttp
import pytest

from tests.harness import PATHS, serving
from tests.strict import strict
from tests.strict_services import SERVICES

PNG, PDF = "iVBORw0KGgo=", "JVBERi0x"
USER = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
CLOSED = SCHEMA | {"additionalProperties": False}
FORCED = {"type": "tool", "name": "f"}


def chat(*messages, **fields):
    return {"model": "m", "messages": [USER, *messages]} | fields


def chat_call(id="c", arguments="{}", **fields):
    return {"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}} | fields


def chat_turn(*calls, **fields):
    calls = calls or (chat_call(),)
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in calls]
    return [{"role": "assistant", "content": None, "tool_calls": list(calls)} | fields, *results]


def chat_tool(schema=SCHEMA, name="f", **fields):
    return {"tools": [{"type": "function", "function": {"name": name, "parameters": schema} | fields}]}


def chat_image(media_type):
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{PNG}"}}]}


def responses(*items, **fields):
    return {"model": "m", "input": [USER, *items]} | fields


def responses_tool(schema=SCHEMA, name="f", strict=False):
    return {"tools": [{"type": "function", "name": name, "parameters": schema, "strict": strict}]}


def item_call(id="c"):
    return {"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"}


def item_output(id="c"):
    return {"type": "function_call_output", "call_id": id, "output": "ok"}


def item_image(media_type):
    return {
        "role": "user",
        "content": [{"type": "input_image", "detail": "auto", "image_url": f"data:{media_type};base64,{PNG}"}],
    }


def claude(*messages, **fields):
    return {"model": "m", "max_tokens": 99, "messages": [USER, *messages]} | fields


def use(id="c", **fields):
    return {"type": "tool_use", "id": id, "name": "f", "input": {}} | fields


def turn(*blocks):
    ids = [block["id"] for block in blocks if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": id, "content": "ok"} for id in ids]
    return [{"role": "assistant", "content": list(blocks)}, {"role": "user", "content": results}]


def claude_tool(schema=SCHEMA, name="f"):
    return {"tools": [{"name": name, "input_schema": schema}]}


def claude_image(media_type):
    source = {"type": "base64", "media_type": media_type, "data": PNG}
    return {"role": "user", "content": [{"type": "image", "source": source}]}


def format_of(schema):
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


THOUGHT = {"type": "thinking", "thinking": "so", "signature": "s"}
MARKED = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
SIGNED = {"extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}}
SYSTEM = {"role": "system", "content": "be brief"}
SAID = {"role": "assistant", "content": "so "}

OPENAI_SCHEMAS = {
    "a schema without type": ({"properties": {}}, 'type: "object"'),
    "an object without properties": ({"type": "object"}, "missing properties"),
    "an array without items": ({"type": "object", "properties": {"a": {"type": "array"}}}, "missing items"),
    "lookaround": ({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(?!x)"}}}, "lookaround"),
    "a null": (SCHEMA | {"type": "object", "properties": None}, "None"),
}
CLAUDES = {
    "an unknown field": (claude(store=True), "store: Extra inputs"),
    "a call without result": (claude({"role": "assistant", "content": [use()]}, USER), "without `tool_result`"),
    "a result without call": (claude(turn(use())[1]), "unexpected `tool_use_id`"),
    "ids used twice": (claude(*turn(use()), *turn(use())), "must be unique"),
    "an id of other letters": (claude(*turn(use("f:0"))), "tool_use.id"),
    "an input that is no object": (claude(*turn(use(input=[]))), "valid dictionary"),
    "a tool's name": (claude(**claude_tool(name="a.b")), "a.b: String should match"),
    "a tool twice": (claude(tools=claude_tool()["tools"] * 2), "unique"),
    "a union as parameters": (claude(**claude_tool(SCHEMA | {"anyOf": []})), "anyOf at the top"),
    "parameters without type": (claude(**claude_tool({"properties": {}})), "type: Field required"),
    "an open output": (claude(**format_of(SCHEMA)), "additionalProperties"),
    "a bound in an output": (claude(**format_of(CLOSED | {"properties": {"x": {"minLength": 1}}})), "minLength"),
    "a blank stop sequence": (claude(stop_sequences=["\n"]), "non-whitespace"),
    "a picture of another type": (claude(claude_image("image/jpeg")), "image/jpeg, but it is image/png"),
    "too many breakpoints": (claude({"role": "user", "content": [MARKED] * 5}), "Found 5"),
    "unsigned thinking": (claude(*turn(THOUGHT | {"signature": ""}, use())), "signature"),
}

REFUSED = {
    "openai": {
        "an unknown field": (responses(stop=["a"]), "'stop'"),
        "a field inside": (responses({"role": "user", "content": "a", "name": "x"}), "name"),
        "a tool's name": (responses(**responses_tool(name="a.b")), "a.b"),
        "half a strict schema": (responses(**responses_tool(SCHEMA, strict=True)), "every key"),
        "a long user": (responses(user="u" * 65), "'user'"),
        "sampling": (responses(temperature=1), "temperature"),
        "an effort": (responses(reasoning={"effort": "max"}), "max"),
        "a call without output": (responses(item_call()), "No tool output"),
        "an output without call": (responses(item_output()), "No tool call"),
        "a long id": (responses(item_call("c" * 65), item_output("c" * 65)), "64"),
        "no word json": (responses(text={"format": {"type": "json_object"}}), "'json'"),
        "an answer's content": (
            responses({"role": "assistant", "content": [{"type": "input_text", "text": "a"}]}),
            "input_text",
        ),
        "a choice that is not there": (responses(tool_choice={"type": "function", "name": "web"}), "not found"),
        "a picture of another type": (responses(item_image("image/jpeg")), "but it is image/png"),
        **{name: (responses(**responses_tool(schema)), words) for name, (schema, words) in OPENAI_SCHEMAS.items()},
    },
    "openai chat": {
        "an unknown field": (chat(top_k=1, enable_thinking=True), "enable_thinking"),
        "a field inside": (chat({"role": "user", "content": "a", "cache": 1}), "cache"),
        "a tool's name": (chat(**chat_tool(name="a.b")), "a.b"),
        "half a strict schema": (chat(**chat_tool(strict=True)), "every key"),
        "a long key": (chat(prompt_cache_key="u" * 65), "prompt_cache_key"),
        "sampling": (chat(top_p=1), "top_p"),
        "an effort": (chat(reasoning_effort="max"), "max"),
        "an effort beside tools": (chat(reasoning_effort="low", **chat_tool()), "/v1/responses"),
        "the old limit": (chat(max_tokens=9), "max_completion_tokens"),
        "a stop sequence": (chat(stop=["a"]), "stop"),
        "a long id": (chat(*chat_turn(chat_call("c" * 41))), "messages[1]"),
        "a call without result": (chat(chat_turn()[0]), "did not have"),
        "one id twice": (chat(*chat_turn(chat_call(), chat_call())), "Duplicate"),
        "a picture of another type": (chat(chat_image("image/jpeg")), "but it is image/png"),
        **{name: (chat(**chat_tool(schema)), words) for name, (schema, words) in OPENAI_SCHEMAS.items()},
    },
    "claude": CLAUDES
    | {
        "a prefill": (claude(SAID), "prefill"),
        "a budget": (claude(thinking={"type": "enabled", "budget_tokens": 1024}), "thinking.type.enabled"),
        "thinking switched off": (claude(thinking={"type": "disabled"}), "thinking.type.disabled"),
        "sampling": (claude(top_k=1), "top_k"),
        "a forced tool": (claude(tool_choice=FORCED, **claude_tool()), "forced"),
        "an effort": (claude(output_config={"effort": "minimal"}), "minimal"),
        "system first": (claude(SAID, SYSTEM), "messages.2"),
    },
    "old claude": CLAUDES
    | {
        "space at the end": (claude(SAID), "whitespace"),
        "adaptive thinking": (claude(thinking={"type": "adaptive"}), "adaptive"),
        "an effort": (claude(output_config={"effort": "low"}), "effort"),
        "system between turns": (claude(SYSTEM), "messages.1.role"),
        "two kinds of sampling": (claude(temperature=1, top_p=1), "both"),
    },
    "groq": {
        "an unknown field": (chat(prompt_cache_key="k"), "'prompt_cache_key' is unsupported"),
        "reasoning_content": (chat(*chat_turn(reasoning_content="so")), "'reasoning_content' is unsupported"),
        "an effort": (chat(reasoning_effort="xhigh"), "xhigh"),
        "a tier": (chat(service_tier="priority"), "service_tier"),
        "a result without call": (chat(chat_turn()[1]), "did not have"),
    },
    "qwen": {
        "a late system message": (chat(SYSTEM), "at the beginning"),
        "no user": ({"model": "m", "messages": [SYSTEM]}, "No user query"),
        "arguments that are no object": (chat(*chat_turn(chat_call(arguments='"a"'))), "mapping"),
        "half a JSON": (chat(*chat_turn(chat_call(arguments='{"a'))), "mapping"),
        "a call without result": (chat(chat_turn()[0], USER), "did not have"),
    },
    "deepseek": {
        "no reasoning": (chat(*chat_turn()), "reasoning_content"),
        "empty reasoning": (chat(*chat_turn(reasoning_content="")), "reasoning_content"),
        "a forced tool": (chat(tool_choice="required", **chat_tool()), "tool_choice"),
        "a file": (chat({"role": "user", "content": [{"type": "file", "file": {}}]}), "`file`"),
        "a call without result": (chat(chat_turn(reasoning_content="so")[0]), "did not have"),
    },
    "deepseek messages": {
        "no thinking": (claude(*turn(use())), "content[].thinking"),
        "a forced tool": (claude(tool_choice=FORCED, **claude_tool()), "tool_choice"),
        "a picture": (claude(claude_image("image/png")), "`image`"),
        "a call without result": (claude(turn(THOUGHT, use())[0]), "without `tool_result`"),
    },
    "kimi": {
        "no reasoning": (chat(*chat_turn()), "at index 1"),
        "a forced tool": (chat(tool_choice={"type": "function", "function": {"name": "f"}}), "incompatible"),
        "sampling": (chat(temperature=0.5), "only 1"),
        "both kinds of reasoning": (chat(thinking={"type": "disabled"}, reasoning_effort="low"), "both"),
        "a call without result": (chat(chat_turn(reasoning_content="so")[0]), "did not have"),
        "one id twice": (chat(*chat_turn(chat_call(), chat_call(), reasoning_content="so")), "Duplicate"),
    },
    "gemini": {
        "an unknown field": (chat(store=True), 'Unknown name "store"'),
        "no signature": (chat(*chat_turn()), "`default_api:f`"),
        "an effort": (chat(reasoning_effort="max"), "max"),
        "arguments that are no object": (chat(*chat_turn(chat_call(arguments="[]", **SIGNED))), "arguments"),
        "a call without result": (chat(chat_turn(chat_call(**SIGNED))[0]), "did not have"),
    },
}
TAKEN = {
    "openai": [
        responses(item_call(), item_output(), **responses_tool(CLOSED, strict=True), reasoning={"effort": "xhigh"}),
        responses(SYSTEM, {"role": "user", "content": "as json"}, text={"format": {"type": "json_object"}}),
        responses(item_image("image/png"), tool_choice={"type": "function", "name": "f"}, **responses_tool()),
    ],
    "openai chat": [
        chat(SYSTEM, *chat_turn(), **chat_tool(), store=True, reasoning_effort="none", max_completion_tokens=9),
        chat(chat_image("image/png"), reasoning_effort="high"),
        chat(temperature=0, reasoning_effort="none"),
    ],
    "claude": [
        claude(SYSTEM, *turn(THOUGHT, use()), *turn(use("d")), **claude_tool(SCHEMA)),
        claude(claude_image("image/png"), thinking={"type": "adaptive"}, **format_of(CLOSED)),
    ],
    "old claude": [
        claude({"role": "assistant", "content": "so"}, system=[MARKED], stop_sequences=["\n\nHuman:"]),
        claude(tool_choice=FORCED, temperature=0.5, **claude_tool()),
    ],
    "groq": [chat(SYSTEM, *chat_turn(reasoning="so"), reasoning_effort="low", service_tier="on_demand")],
    "qwen": [{"model": "m", "messages": [SYSTEM, USER, *chat_turn()]}],
    "deepseek": [
        chat(*chat_turn(reasoning_content=" "), reasoning_effort="max", **chat_tool()),
        chat(*chat_turn(), thinking={"type": "disabled"}, tool_choice="required", **chat_tool()),
    ],
    "deepseek messages": [claude(*turn(THOUGHT | {"signature": ""}, use()), **claude_tool())],
    "kimi": [chat(*chat_turn(chat_call("functions.f:0"), reasoning_content=" "), **chat_tool())],
    "gemini": [chat(SYSTEM, *chat_turn(chat_call(**SIGNED), chat_call("d")), reasoning_effort="minimal")],
}
ROWS = [(service, name) for service, rows in REFUSED.items() for name in rows]


@pytest.mark.parametrize(("service", "name"), ROWS)
def test_it_refuses(service, name):
    body, words = REFUSED[service][name]
    assert words in (SERVICES[service].refusal(body) or "it takes it")


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_it_takes(service):
    assert [SERVICES[service].refusal(body) for body in TAKEN[service]] == [None] * len(TAKEN[service])


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_rule_has_a_row(service):
    bodies = [body for body, _ in REFUSED[service].values()]
    idle = [rule.says for rule in SERVICES[service].rules if not any(rule.refusal(body) for body in bodies)]
    assert idle == []


async def post(session, url, body):
    async with session.post(url, json=body, headers={"authorization": "Bearer k"}) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("service", sorted(SERVICES))
async def test_with_status_and_words_of_its_own(service):
    upstream = strict(service)
    body, words = next(iter(REFUSED[service].values()))
    async with serving(upstream.app()) as url, aiohttp.ClientSession() as session:
        url += PATHS[upstream.service.type]
        status, answer = await post(session, url, body)
        assert (status, answer) == (400, upstream.service.error(upstream.refused[0]))
        assert words in upstream.refused[0]
        status, answer = await post(session, url, TAKEN[service][-1])
        assert status == 200, answer
        assert (len(upstream.refused), len(upstream.answered)) == (1, 1)


async def test_gemini_wants_its_own_signature_back():
    upstream = strict("gemini")
    async with serving(upstream.app()) as url, aiohttp.ClientSession() as session:
        url += PATHS["common"]
        _, answer = await post(session, url, chat({"role": "user", "content": "call f"}, **chat_tool()))
        (call,) = answer["choices"][0]["message"]["tool_calls"]
        assert (await post(session, url, chat(*chat_turn(call))))[0] == 200
        call["extra_content"]["google"]["thought_signature"] += "x"
        assert (await post(session, url, chat(*chat_turn(call))))[0] == 400


async def test_claude_binds_its_thinking_to_system_and_tools():
    upstream = strict("claude")
    body = claude(thinking={"type": "adaptive"}, system="be brief", **claude_tool())
    async with serving(upstream.app()) as url, aiohttp.ClientSession() as session:
        url += PATHS["anthropic"]
        _, answer = await post(session, url, body)
        again = body | {"messages": [USER, {"role": "assistant", "content": answer["content"]}, USER]}
        assert (await post(session, url, again))[0] == 200
        assert (await post(session, url, again | {"system": "be long"}))[0] == 400
        assert (await post(session, url, again | claude_tool(name="g")))[0] == 400
        later = claude_tool(name="g")["tools"][0] | {"defer_loading": True}
        assert (await post(session, url, again | {"tools": [*body["tools"], later]}))[0] == 200


async def test_calls_with_ids_of_every_answer_and_calls_that_are_cut():
    upstream = strict("qwen", reused_ids=True, cuts=1)
    async with serving(upstream.app()) as url, aiohttp.ClientSession() as session:
        asked = chat({"role": "user", "content": 'call f {"x": "a long argument"}'}, **chat_tool())
        _, cut = await post(session, url + PATHS["common"], asked)
        _, whole = await post(session, url + PATHS["common"], asked)
    assert cut["choices"][0]["finish_reason"] == "length"
    arguments = [answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] for answer in (cut, whole)]
    assert arguments[0] == arguments[1][: len(arguments[0])] != arguments[1]
    assert whole["choices"][0]["message"]["tool_calls"][0]["id"] == "call_0"
