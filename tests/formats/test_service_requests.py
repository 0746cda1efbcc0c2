"""What services refuse though the client's own takes it: each kind with the right value, from every client's format."""

import pytest

from droid2api.errors import RequestError
from droid2api.formats import BY_NAME
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import State
from droid2api.hub.profiles import profile_of
from droid2api.hub.tools import safe_name
from droid2api.wire.fields import dump

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
    gemini,
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

QWEN = target("chat", "qwen3.5-plus")
OPENAI_CHAT = target("chat", "gpt-5.5", "api.openai.com")
GROQ = target("chat", "llama-3.3-70b-versatile", "api.groq.com")
DEEPSEEK = target("chat", "deepseek-v4-pro", "api.deepseek.com")
KIMI = target("chat", "kimi-k2.6", "api.moonshot.ai")
MISTRAL = target("chat", "mistral-large-latest", "api.mistral.ai")
GEMINI = target("chat", "gemini-3-pro", "generativelanguage.googleapis.com")
ZAI = target("chat", "glm-4.6", "api.z.ai")
GPT = target("responses", "gpt-5.5")
GPT_OLD = target("responses", "gpt-4.1")
GPT_MINI = target("responses", "gpt-5-mini")
HAIKU = target("anthropic", "claude-haiku-4-5")
SONNET_46 = target("anthropic", "claude-sonnet-4-6")
SONNET_5 = target("anthropic", "claude-sonnet-5")
OPUS_48 = target("anthropic", "claude-opus-4-8")
OPUS_5 = target("anthropic", "claude-opus-5")
OPUS_55 = target("anthropic", "claude-opus-5-5")
FABLE_51 = target("anthropic", "claude-fable-5-1")
DEEPSEEK_A = target("anthropic", "deepseek-v4-pro", "api.deepseek.com")


def said(text, role="user"):
    return {"type": "message", "role": role, "content": [input_text(text)]}


def blocks(role, *texts):
    return {"role": role, "content": [text(each) for each in texts]}


CALLED_TWICE = {
    "chat": chat(
        user("go"),
        assistant(tool_calls=[chat_call("call_0")]),
        chat_result("call_0", "1"),
        assistant(tool_calls=[chat_call("call_0")]),
        chat_result("call_0", "2"),
    ),
    "responses": responses(
        user("go"),
        responses_call("call_0"),
        responses_result("call_0", "1"),
        responses_call("call_0"),
        responses_result("call_0", "2"),
    ),
}
CUT = {
    "chat": chat(user("go"), assistant(tool_calls=[chat_call("a", arguments='{"x": 1')]), chat_result("a")),
    "responses": responses(user("go"), responses_call("a", arguments='{"x": 1'), responses_result("a")),
}
FOREIGN_TURN = anthropic(
    user("go"),
    assistant([{"type": "thinking", "thinking": "hm", "signature": "S"}, anthropic_call("a")]),
    user([anthropic_result("a")]),
    assistant([anthropic_call("b")]),
    user([anthropic_result("b")]),
)
FORCED = anthropic(tools=[anthropic_tool()], tool_choice={"type": "tool", "name": "f"})
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
JPEG_CALLED = f"data:image/jpeg;base64,{PNG}"

# kind and name: (client, body, target, fields of the upstream's body with None for absent, dropped, repaired)
CASES = {
    # 11, 35: system messages
    "instructions and developer are one system message": (
        "responses",
        responses(developer("B"), user("hi"), instructions="A"),
        QWEN,
        {"messages": [system("A\n\nB"), user("hi")]},
        [],
        {},
    ),
    "a system message between turns is said by the user": (
        "anthropic",
        anthropic(user("hi"), assistant("ok"), system("Be brief."), user("go"), system="A"),
        QWEN,
        {"messages": [system("A"), user("hi"), assistant("ok"), user([text("Be brief."), text("go")])]},
        [],
        {"messages.system_moved": 1},
    ),
    "and one at the end stays at the end": (
        "responses",
        responses(user("hi"), developer("Now.")),
        MISTRAL,
        {"messages": [user("hi"), system("Now.")]},
        [],
        {},
    ),
    "one after results follows them": (
        "anthropic",
        anthropic(user("go"), assistant([anthropic_call("a")]), user([anthropic_result("a")]), system("Be brief.")),
        QWEN,
        {"messages": [user("go"), assistant(tool_calls=[chat_call("a")]), chat_result("a"), user("Be brief.")]},
        [],
        {"messages.system_moved": 1},
    ),
    "who takes system messages anywhere gets them there": (
        "anthropic",
        anthropic(user("hi"), system("Be brief."), system="A"),
        OPENAI_CHAT,
        {"messages": [system("A"), user("hi"), system("Be brief.")]},
        [],
        {},
    ),
    "Claude where its documentation says so": (
        "chat",
        chat(user("hi"), system("S"), assistant("ok"), user("go")),
        OPUS_48,
        {
            "system": None,
            "messages": [blocks("user", "hi"), blocks("system", "S"), blocks("assistant", "ok"), blocks("user", "go")],
        },
        [],
        {},
    ),
    "two in a row are one": (
        "responses",
        responses(user("hi"), developer("A"), developer("B"), assistant("ok"), user("go")),
        OPUS_55,
        {
            "system": None,
            "messages": [
                blocks("user", "hi"),
                blocks("system", "A", "B"),
                blocks("assistant", "ok"),
                blocks("user", "go"),
            ],
        },
        [],
        {},
    ),
    "behind an answer at the end it does not change what is before": (
        "chat",
        chat(user("hi"), assistant("ok"), system("S")),
        OPUS_55,
        {
            "system": None,
            "messages": [
                blocks("user", "hi"),
                blocks("assistant", "ok"),
                blocks("user", "Continue."),
                blocks("system", "S"),
            ],
        },
        [],
        {"messages.prefill": 1},
    ),
    "but not Sonnet 5, which ignores them": (
        "chat",
        chat(user("hi"), system("S"), assistant("ok"), user("go")),
        SONNET_5,
        {"system": [text("S")], "messages": [blocks("user", "hi"), blocks("assistant", "ok"), blocks("user", "go")]},
        [],
        {"messages.system_moved": 1},
    ),
    # 12, 36: what only some services have
    "OpenAI's extras stop at strict services": (
        "responses",
        responses(
            store=True, prompt_cache_key="k", metadata={"a": "b"}, text={"verbosity": "low"}, service_tier="flex"
        ),
        GROQ,
        {"store": None, "prompt_cache_key": None, "metadata": None, "verbosity": None, "service_tier": "flex"},
        ["store", "prompt_cache_key", "metadata", "verbosity"],
        {},
    ),
    "and go to OpenAI": (
        "responses",
        responses(
            store=True, prompt_cache_key="k", metadata={"a": "b"}, text={"verbosity": "low"}, service_tier="flex"
        ),
        OPENAI_CHAT,
        {"store": True, "prompt_cache_key": "k", "metadata": {"a": "b"}, "verbosity": "low", "service_tier": "flex"},
        [],
        {},
    ),
    "a field that only this service refuses": (
        "anthropic",
        anthropic(metadata={"user_id": "u"}, top_k=4, stream=True),
        MISTRAL,
        {"user": None, "top_k": None, "stream": True, "stream_options": None},
        ["top_k", "user"],
        {},
    ),
    "reasoning that the service gives and does not take": (
        "anthropic",
        anthropic(
            user("hi"),
            assistant(
                [
                    {
                        "type": "thinking",
                        "thinking": "hm",
                        "signature": State("chat", "mistral", {"field": "reasoning_content"}).pack(),
                    },
                    text("ok"),
                ]
            ),
            user("go"),
        ),
        MISTRAL,
        {"messages": [user("hi"), assistant("ok"), user("go")]},
        ["messages.reasoning"],
        {},
    ),
    "OpenAI has no top_k": ("anthropic", anthropic(top_k=4), target("chat", "gpt-4.1"), {"top_k": None}, ["top_k"], {}),
    "Groq's own effort": (
        "chat",
        chat(reasoning_effort="default"),
        GPT,
        {"reasoning": None},
        ["reasoning_effort"],
        {},
    ),
    "Groq's own tier": ("chat", chat(service_tier="on_demand"), GPT, {"service_tier": None}, ["service_tier"], {}),
    "Groq's own tier to Claude": (
        "chat",
        chat(service_tier="on_demand"),
        HAIKU,
        {"service_tier": None},
        ["service_tier"],
        {},
    ),
    # 13: stop sequences
    "white space to Claude": (
        "chat",
        chat(stop=["\n\n", "END", ""]),
        HAIKU,
        {"stop_sequences": ["END"]},
        [],
        {"stop": 1},
    ),
    "white space to a Chat service": ("anthropic", anthropic(stop_sequences=["\n"]), QWEN, {"stop": ["\n"]}, [], {}),
    "more than the service takes": ("chat", chat(stop=["A", "B"]), GPT, {"stop": None}, [], {}),
    # 14: prefill
    "prefill for a model that refuses it": (
        "anthropic",
        anthropic(user("hi"), assistant("The answer is")),
        MISTRAL,
        {"messages": [user("hi"), assistant("The answer is"), user("Continue.")]},
        [],
        {"messages.prefill": 1},
    ),
    "a system message behind a prefill": (
        "anthropic",
        anthropic(user("hi"), assistant("The answer is"), system("S")),
        MISTRAL,
        {"messages": [user("hi"), assistant("The answer is"), system("S"), user("Continue.")]},
        [],
        {"messages.prefill": 1},
    ),
    "prefill for Claude since 4.6": (
        "chat",
        chat(user("hi"), assistant("The answer is ")),
        SONNET_46,
        {"messages": [blocks("user", "hi"), blocks("assistant", "The answer is "), blocks("user", "Continue.")]},
        [],
        {"messages.prefill": 1},
    ),
    "white space at the end of a prefill": (
        "chat",
        chat(user("hi"), assistant("The answer is \n")),
        HAIKU,
        {"messages": [blocks("user", "hi"), blocks("assistant", "The answer is")]},
        [],
        {"messages.prefill": 1},
    ),
    "prefill for others": (
        "anthropic",
        anthropic(user("hi"), assistant("A ")),
        QWEN,
        {"messages": [user("hi"), assistant("A ")]},
        [],
        {},
    ),
    # 15: schemas
    "a tool's schema for Claude has no union at its root": (
        "responses",
        responses(
            tools=[responses_tool(parameters={"anyOf": [{"type": "object", "properties": {"a": {"type": "string"}}}]})]
        ),
        HAIKU,
        {},
        [],
        {"tools.parameters.anyOf": 1},
    ),
    "bounds in structured output for Claude": (
        "responses",
        responses(
            text={
                "format": {
                    "type": "json_schema",
                    "name": "output",
                    "schema": {
                        "type": "object",
                        "properties": {"n": {"type": "integer", "minimum": 1}},
                        "required": ["n"],
                    },
                }
            }
        ),
        OPUS_5,
        {
            "output_config": {
                "format": {
                    "type": "json_schema",
                    "schema": {
                        "type": "object",
                        "properties": {"n": {"type": "integer", "description": "{minimum: 1}"}},
                        "required": ["n"],
                        "additionalProperties": False,
                    },
                }
            }
        },
        [],
        {"response_format.schema.properties.n.minimum": 1},
    ),
    "an object without properties for OpenAI": (
        "anthropic",
        anthropic(tools=[anthropic_tool(input_schema={"type": "object", "properties": None})]),
        GPT,
        {"tools": [responses_tool(description="", parameters={"type": "object", "properties": {}}, strict=False)]},
        [],
        {"tools.parameters.properties": 1},
    ),
    "strict where the schema obeys": (
        "chat",
        chat(tools=[chat_tool(parameters=CLOSED, strict=True)]),
        GPT,
        {"tools": [responses_tool(description="", parameters=CLOSED, strict=True)]},
        [],
        {},
    ),
    "not strict where it does not": (
        "chat",
        chat(tools=[chat_tool(strict=True)]),
        GPT,
        {"tools": [responses_tool(description="", strict=False)]},
        [],
        {"tools.strict": 1},
    ),
    "and it is said where the format need not say it": (
        "chat",
        chat(tools=[chat_tool(strict=True)]),
        QWEN,
        {"tools": [chat_tool(description="", strict=False)]},
        [],
        {"tools.strict": 1},
    ),
    "not strict where the client says so": (
        "chat",
        chat(tools=[chat_tool(parameters=CLOSED, strict=False)]),
        QWEN,
        {"tools": [chat_tool(description="", parameters=CLOSED, strict=False)]},
        [],
        {},
    ),
    "no strict tools, but strict output": (
        "chat",
        chat(
            tools=[chat_tool(parameters=CLOSED, strict=True)],
            response_format={"type": "json_schema", "json_schema": {"name": "o", "schema": CLOSED, "strict": True}},
        ),
        KIMI,
        {
            "tools": [chat_tool(description="", parameters=CLOSED)],
            "response_format": {"type": "json_schema", "json_schema": {"name": "o", "schema": CLOSED, "strict": True}},
        },
        ["tools.strict"],
        {},
    ),
    "the draft of a schema is not said": (
        "chat",
        chat(tools=[chat_tool(parameters={"$schema": "http://json-schema.org/draft-07/schema#"} | SCHEMA)]),
        QWEN,
        {"tools": [chat_tool(description="")]},
        [],
        {"tools.parameters.$schema": 1},
    ),
    "a function without parameters": (
        "chat",
        chat(tools=[{"type": "function", "function": {"name": "f"}}]),
        QWEN,
        {"tools": [chat_tool(description="", parameters={"type": "object", "properties": {}})]},
        [],
        {},
    ),
    "strict structured output that is not": (
        "anthropic",
        anthropic(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
        GPT,
        {"text": {"format": {"type": "json_schema", "name": "output", "schema": SCHEMA, "strict": False}}},
        [],
        {"response_format.strict": 1},
    ),
    # 29: strict to Claude
    "strict of tools to Claude": (
        "chat",
        chat(tools=[chat_tool(parameters=CLOSED, strict=True)]),
        OPUS_5,
        {"tools": [{"name": "f", "description": "", "input_schema": CLOSED, "strict": True}]},
        [],
        {},
    ),
    "a strict tool's reference at the root": (
        "responses",
        responses(tools=[responses_tool(parameters={"$ref": "#/$defs/X", "$defs": {"X": SCHEMA}}, strict=True)]),
        OPUS_5,
        {
            "tools": [
                {"name": "f", "description": "", "input_schema": CLOSED | {"$defs": {"X": CLOSED}}, "strict": True}
            ]
        },
        [],
        {"tools.parameters.$ref": 1},
    ),
    "a strict tool's union at the root": (
        "chat",
        chat(tools=[chat_tool(parameters={"oneOf": [SCHEMA, SCHEMA | {"minProperties": 1}]}, strict=True)]),
        OPUS_5,
        {
            "tools": [
                {
                    "name": "f",
                    "description": "",
                    "input_schema": CLOSED
                    | {"description": "{oneOf: " + dump([SCHEMA, SCHEMA | {"minProperties": 1}]).decode() + "}"},
                    "strict": True,
                }
            ]
        },
        [],
        {"tools.parameters.oneOf": 1},
    ),
    "and not to services that only speak its format": (
        "chat",
        chat(tools=[chat_tool(parameters=CLOSED, strict=True)]),
        DEEPSEEK_A,
        {"tools": [{"name": "f", "description": "", "input_schema": CLOSED}]},
        ["tools.strict"],
        {},
    ),
    # 16: effort
    "no effort for a model without": (
        "anthropic",
        anthropic(thinking={"type": "enabled", "budget_tokens": 9000}),
        GPT_OLD,
        {"reasoning": None, "include": None},
        ["reasoning_effort"],
        {},
    ),
    "the nearest effort": (
        "responses",
        responses(reasoning={"effort": "max"}),
        target("chat", "gpt-5-mini"),
        {"reasoning_effort": "high"},
        [],
        {"reasoning_effort": 1},
    ),
    "xhigh for Sonnet 4.6": (
        "chat",
        chat(reasoning_effort="xhigh"),
        SONNET_46,
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
        [],
        {"reasoning_effort": 1},
    ),
    "no reasoning where that cannot be": (
        "anthropic",
        anthropic(thinking={"type": "disabled"}),
        GPT_MINI,
        {"reasoning": {"effort": "minimal", "summary": "auto"}},
        [],
        {"reasoning_effort": 1},
    ),
    "effort beside tools": (
        "anthropic",
        anthropic(thinking={"type": "adaptive"}, output_config={"effort": "high"}, tools=[anthropic_tool()]),
        target("chat", "gpt-5.4", "api.openai.com"),
        {"reasoning_effort": "none"},
        [],
        {"reasoning_effort": 1},
    ),
    "none to Claude that thinks by default": (
        "chat",
        chat(reasoning_effort="none"),
        OPUS_5,
        {"thinking": {"type": "disabled"}, "output_config": None},
        [],
        {},
    ),
    "none to Claude that always thinks": (
        "responses",
        responses(reasoning={"effort": "none"}),
        OPUS_55,
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        [],
        {"reasoning_effort": 1},
    ),
    "none to DeepSeek": (
        "responses",
        responses(reasoning={"effort": "none"}),
        DEEPSEEK,
        {"thinking": {"type": "disabled"}, "reasoning_effort": None},
        [],
        {},
    ),
    # 29: what shows the thinking
    "a Chat client sees summaries": (
        "chat",
        chat(reasoning_effort="low"),
        OPUS_5,
        {"thinking": {"type": "adaptive", "display": "summarized"}},
        [],
        {},
    ),
    "a Responses client that asks for them": (
        "responses",
        responses(reasoning={"effort": "low", "summary": "auto"}),
        OPUS_48,
        {"thinking": {"type": "adaptive", "display": "summarized"}},
        [],
        {},
    ),
    "one that does not": (
        "responses",
        responses(reasoning={"effort": "low"}),
        OPUS_48,
        {"thinking": {"type": "adaptive"}},
        [],
        {},
    ),
    "an older model shows them anyway": (
        "chat",
        chat(reasoning_effort="low"),
        SONNET_46,
        {"thinking": {"type": "adaptive"}},
        [],
        {},
    ),
    "a Chat client that names no effort, with a model that thinks unasked": (
        "chat",
        chat(),
        SONNET_5,
        {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": None},
        [],
        {},
    ),
    "a Responses client that names none but wants summaries": (
        "responses",
        responses(reasoning={"summary": "concise"}),
        FABLE_51,
        {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": None},
        [],
        {},
    ),
    "a Gemini client that wants thoughts": (
        "gemini",
        gemini(generationConfig={"thinkingConfig": {"includeThoughts": True}}),
        OPUS_55,
        {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": None},
        [],
        {},
    ),
    "one that does not say": ("gemini", gemini(), OPUS_55, {"thinking": None}, [], {}),
    "a Gemini client that wants thoughts of OpenAI's": (
        "gemini",
        gemini(generationConfig={"thinkingConfig": {"includeThoughts": True, "thinkingBudget": -1}}),
        GPT,
        {"reasoning": {"summary": "auto"}},
        [],
        {},
    ),
    "of a model that does not reason": (
        "gemini",
        gemini(generationConfig={"thinkingConfig": {"includeThoughts": True}}),
        GPT_OLD,
        {"reasoning": None},
        [],
        {},
    ),
    "a Chat client without an effort is not in need of summaries of OpenAI's": (
        "chat",
        chat(),
        GPT,
        {"reasoning": None},
        [],
        {},
    ),
    "a model that thinks only when asked": ("chat", chat(), OPUS_48, {"thinking": None, "output_config": None}, [], {}),
    "a Chat client that wants no thinking": (
        "chat",
        chat(reasoning_effort="none"),
        OPUS_5,
        {"thinking": {"type": "disabled"}},
        [],
        {},
    ),
    "a place without its type": (
        "responses",
        responses(tools=[{"type": "web_search", "user_location": {"country": "CH"}}]),
        OPUS_5,
        {
            "tools": [
                {
                    "type": "web_search_20250305",
                    "name": "web_search",
                    "user_location": {"type": "approximate", "country": "CH"},
                }
            ]
        },
        [],
        {},
    ),
    # 17: reasoning that must be there
    "DeepSeek wants reasoning with every call": (
        "anthropic",
        FOREIGN_TURN,
        DEEPSEEK,
        {
            "messages": [
                user("go"),
                assistant(reasoning_content="hm", tool_calls=[chat_call("a")]),
                chat_result("a"),
                assistant(reasoning_content=" ", tool_calls=[chat_call("b")]),
                chat_result("b"),
            ]
        },
        [],
        {},
    ),
    "a turn of nothing but another's reasoning is left out": (
        "anthropic",
        anthropic(user("a"), assistant([{"type": "thinking", "thinking": "hm", "signature": "S"}]), user("b")),
        MISTRAL,
        {"messages": [user("a"), user("b")]},
        ["messages.reasoning"],
        {},
    ),
    "nobody else does": (
        "anthropic",
        FOREIGN_TURN,
        QWEN,
        {
            "messages": [
                user("go"),
                assistant(tool_calls=[chat_call("a")]),
                chat_result("a"),
                assistant(tool_calls=[chat_call("b")]),
                chat_result("b"),
            ]
        },
        ["messages.reasoning"],
        {},
    ),
    "its Messages endpoint takes unsigned thinking": (
        "chat",
        chat(user("go"), assistant(reasoning_content="hm", tool_calls=[chat_call("a")]), chat_result("a")),
        DEEPSEEK_A,
        {
            "messages": [
                blocks("user", "go"),
                assistant([{"type": "thinking", "thinking": "hm", "signature": ""}, anthropic_call("a")]),
                user([anthropic_result("a", [text("1")])]),
            ]
        },
        [],
        {},
    ),
    "Gemini wants a signature with every turn's first call": (
        "responses",
        responses(user("go"), responses_call("a"), responses_call("b"), responses_result("a"), responses_result("b")),
        GEMINI,
        {
            "messages": [
                user("go"),
                assistant(
                    tool_calls=[
                        chat_call("a")
                        | {"extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}},
                        chat_call("b"),
                    ]
                ),
                chat_result("a"),
                chat_result("b"),
            ]
        },
        [],
        {"messages.tool_call.signature": 1},
    ),
    # 18: any JSON
    "the word stands in the input": (
        "chat",
        chat(system("Answer in JSON."), user("hi"), response_format={"type": "json_object"}),
        GPT,
        {
            "instructions": None,
            "input": [{"type": "message", "role": "developer", "content": "Answer in JSON."}, said("hi")],
            "text": {"format": {"type": "json_object"}},
        },
        [],
        {},
    ),
    "it is added where it stands nowhere": (
        "chat",
        chat(user("hi"), response_format={"type": "json_object"}),
        GPT,
        {"input": [said("hi"), {"type": "message", "role": "developer", "content": "Answer in JSON."}]},
        [],
        {"response_format": 1},
    ),
    "it stands in the messages of Chat": (
        "responses",
        responses(user("give json"), text={"format": {"type": "json_object"}}),
        QWEN,
        {"messages": [user("give json")], "response_format": {"type": "json_object"}},
        [],
        {},
    ),
    "it is added to the messages of Chat": (
        "responses",
        responses(user("hi"), text={"format": {"type": "json_object"}}),
        QWEN,
        {"messages": [user("hi"), user("Answer in JSON.")], "response_format": {"type": "json_object"}},
        [],
        {"response_format": 1},
    ),
    # 19: arguments that are no object
    **{
        f"an input that is no object, {given!r}": (
            "anthropic",
            anthropic(user("go"), assistant([anthropic_call("a") | {"input": given}]), user([anthropic_result("a")])),
            QWEN,
            {"messages": [user("go"), assistant(tool_calls=[chat_call("a", arguments=sent)]), chat_result("a")]},
            [],
            {"messages.tool_call.arguments": 1},
        )
        for given, sent in [([1], '{"arguments":[1]}'), ('{"x', '{"arguments":"{\\"x"}'), (7, '{"arguments":7}')]
    },
    **{
        f"a call that was cut, {client} to {name}": (
            client,
            CUT[client],
            upstream,
            {field: part},
            [],
            {"messages.tool_call.arguments": 1},
        )
        for client, name, upstream, field, part in [
            (
                "chat",
                "Claude",
                HAIKU,
                "messages",
                [
                    blocks("user", "go"),
                    assistant([anthropic_call("a", input={"arguments": '{"x": 1'})]),
                    user([anthropic_result("a", [text("1")])]),
                ],
            ),
            (
                "responses",
                "Chat",
                QWEN,
                "messages",
                [
                    user("go"),
                    assistant(tool_calls=[chat_call("a", arguments='{"arguments":"{\\"x\\": 1"}')]),
                    chat_result("a"),
                ],
            ),
            (
                "chat",
                "Responses",
                GPT,
                "input",
                [said("go"), responses_call("a", arguments='{"arguments":"{\\"x\\": 1"}'), responses_result("a")],
            ),
        ]
    },
    "arguments that are null are none": (
        "responses",
        responses(user("go"), responses_call("a", arguments="null"), responses_result("a")),
        QWEN,
        {"messages": [user("go"), assistant(tool_calls=[chat_call("a", arguments="{}")]), chat_result("a")]},
        [],
        {"messages.tool_call.arguments": 1},
    ),
    # 20: media types
    "a picture is what its bytes say": (
        "chat",
        chat(user([{"type": "image_url", "image_url": {"url": JPEG_CALLED}}])),
        HAIKU,
        {"messages": [user([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}])]},
        [],
        {"messages.media_type": 1},
    ),
    "in a result too": (
        "anthropic",
        anthropic(
            user("go"),
            assistant([anthropic_call("a")]),
            user(
                [
                    anthropic_result(
                        "a",
                        [
                            {
                                "type": "image",
                                "source": {"type": "base64", "media_type": "image/jpg", "data": "/9j/4AAQ"},
                            }
                        ],
                    )
                ]
            ),
        ),
        GPT,
        {
            "input": [
                said("go"),
                responses_call("a"),
                responses_result(
                    "a", [{"type": "input_image", "image_url": "data:image/jpeg;base64,/9j/4AAQ", "detail": "auto"}]
                ),
            ]
        },
        [],
        {"messages.media_type": 1},
    ),
    # 21: tools of the service
    "a forced web search": (
        "anthropic",
        anthropic(tools=[SEARCH], tool_choice={"type": "tool", "name": "web_search"}),
        GPT,
        {"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}},
        [],
        {},
    ),
    "a forced web search for Claude": (
        "responses",
        responses(tools=[{"type": "web_search"}], tool_choice={"type": "web_search"}),
        HAIKU,
        {"tools": [SEARCH], "tool_choice": {"type": "tool", "name": "web_search"}},
        [],
        {},
    ),
    "nothing is forced where the tool was dropped": (
        "anthropic",
        anthropic(tools=[SEARCH, anthropic_tool()], tool_choice={"type": "tool", "name": "web_search"}),
        QWEN,
        {"tools": [chat_tool(description="")], "tool_choice": "auto"},
        ["tools.web_search", "tool_choice"],
        {},
    ),
    "nor where no tool is left": (
        "anthropic",
        anthropic(tools=[SEARCH], tool_choice={"type": "tool", "name": "web_search"}),
        QWEN,
        {"tools": None, "tool_choice": None},
        ["tools.web_search", "tool_choice"],
        {},
    ),
    "nor a tool that only OpenAI runs": (
        "responses",
        responses(
            tools=[{"type": "file_search", "vector_store_ids": ["v"]}, responses_tool()],
            tool_choice={"type": "file_search"},
        ),
        HAIKU,
        {"tools": [anthropic_tool(description="")], "tool_choice": {"type": "auto"}},
        ["tools.file_search", "tool_choice"],
        {},
    ),
    "allowed tools without those that were dropped": (
        "responses",
        responses(
            tools=[{"type": "mcp", "server_label": "s"}, responses_tool("f"), responses_tool("g")],
            tool_choice={
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "mcp", "server_label": "s"}, {"type": "function", "name": "g"}],
            },
        ),
        HAIKU,
        {"tools": [anthropic_tool("g", description="")], "tool_choice": {"type": "auto"}},
        ["tools.mcp", "tool_choice.allowed_tools"],
        {},
    ),
    # forced tools
    "a model that cannot be forced is told": (
        "anthropic",
        FORCED,
        KIMI,
        {"tool_choice": "auto", "messages": [user("hi"), user("Call the tool f now.")]},
        [],
        {"tool_choice": 1},
    ),
    "one that can when it does not think": (
        "chat",
        chat(tools=[chat_tool()], tool_choice="required", reasoning_effort="none"),
        OPUS_5,
        {"tool_choice": {"type": "any"}, "thinking": {"type": "disabled"}},
        [],
        {},
    ),
    # 22: ids
    "Kimi's ids go back as they came": (
        "responses",
        responses(user("go"), responses_call("functions.x:0"), responses_result("functions.x:0")),
        KIMI,
        {
            "messages": [
                user("go"),
                assistant(reasoning_content=" ", tool_calls=[chat_call("functions.x:0")]),
                chat_result("functions.x:0"),
            ]
        },
        [],
        {},
    ),
    "who refuses an alphabet gets another": (
        "chat",
        chat(user("go"), assistant(tool_calls=[chat_call("functions.x:0")]), chat_result("functions.x:0")),
        GPT,
        {
            "input": [
                said("go"),
                responses_call(safe_name("functions.x:0")),
                responses_result(safe_name("functions.x:0")),
            ]
        },
        [],
        {},
    ),
    # 6: ids used twice
    "an id used twice, to Claude": (
        "chat",
        CALLED_TWICE["chat"],
        HAIKU,
        {
            "messages": [
                blocks("user", "go"),
                assistant([anthropic_call("call_0")]),
                user([anthropic_result("call_0", [text("1")])]),
                assistant([anthropic_call("call_0_2")]),
                user([anthropic_result("call_0_2", [text("2")])]),
            ]
        },
        [],
        {},
    ),
    "an id used twice, to a Chat service": (
        "responses",
        CALLED_TWICE["responses"],
        QWEN,
        {
            "messages": [
                user("go"),
                assistant(tool_calls=[chat_call("call_0")]),
                chat_result("call_0", "1"),
                assistant(tool_calls=[chat_call("call_0")]),
                chat_result("call_0", "2"),
            ]
        },
        [],
        {},
    ),
    # 23: prefix binding
    "what is said for one turn does not change the prefix": (
        "chat",
        chat(system("S"), user("hi"), tools=[chat_tool()], tool_choice="required"),
        OPUS_55,
        {
            "system": [text("S")],
            "messages": [blocks("user", "hi", "Call one of the tools now.")],
            "tool_choice": {"type": "auto"},
        },
        [],
        {"tool_choice": 1},
    ),
    "the tool list stays whole": (
        "responses",
        responses(
            tools=[responses_tool("f"), responses_tool("g")],
            tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]},
        ),
        FABLE_51,
        {
            "tools": [anthropic_tool("f", description=""), anthropic_tool("g", description="")],
            "messages": [blocks("user", "hi", "Call no other tools than: g.")],
            "tool_choice": {"type": "auto"},
        },
        [],
        {"tool_choice": 1},
    ),
    "any JSON is asked for at the end": (
        "chat",
        chat(system("S"), user("hi"), response_format={"type": "json_object"}),
        OPUS_55,
        {
            "system": [text("S")],
            "messages": [blocks("user", "hi", "Answer with one JSON object and nothing else.")],
        },
        [],
        {},
    ),
    # 28: web search
    "how to search, to OpenAI": (
        "anthropic",
        anthropic(
            tools=[
                SEARCH
                | {
                    "max_uses": 3,
                    "allowed_domains": ["a.example"],
                    "user_location": {"type": "approximate", "city": "Bern"},
                }
            ]
        ),
        GPT,
        {
            "tools": [
                {
                    "type": "web_search",
                    "filters": {"allowed_domains": ["a.example"]},
                    "user_location": {"type": "approximate", "city": "Bern"},
                }
            ],
            "max_tool_calls": 3,
        },
        [],
        {},
    ),
    "blocked domains are named": (
        "anthropic",
        anthropic(tools=[SEARCH | {"blocked_domains": ["b.example"]}]),
        GPT,
        {"tools": [{"type": "web_search"}]},
        ["tools.web_search.blocked_domains"],
        {},
    ),
    "how to search, to Claude": (
        "responses",
        responses(
            tools=[
                {
                    "type": "web_search",
                    "filters": {"allowed_domains": ["a.example"]},
                    "user_location": {"type": "approximate", "country": "CH"},
                    "search_context_size": "low",
                    "external_web_access": False,
                }
            ],
            max_tool_calls=2,
        ),
        HAIKU,
        {
            "tools": [
                SEARCH
                | {
                    "allowed_domains": ["a.example"],
                    "user_location": {"type": "approximate", "country": "CH"},
                    "max_uses": 2,
                }
            ]
        },
        ["tools.web_search.search_context_size", "tools.web_search.external_web_access"],
        {},
    ),
    # 34: the same tool twice
    "the same tool in both places goes out once": (
        "responses",
        responses(
            {"type": "additional_tools", "role": "developer", "tools": [responses_tool()]},
            user("hi"),
            tools=[responses_tool()],
        ),
        QWEN,
        {"tools": [chat_tool(description="")]},
        [],
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_services(name):
    client, body, model, expected, dropped, repaired = CASES[name]
    encoded = convert(client, body, format_of(model), model)
    assert part_of(encoded.body, expected) == expected
    assert sorted(encoded.dropped) == sorted(dropped)
    assert dict(encoded.repaired) == repaired


def format_of(model):
    """The format whose row made the target's profile."""
    return next(format for format in BY_NAME if profile_of(model.service, model.id, format) == model.profile)


def test_stop_sequences_that_the_gateway_applies():
    assert convert("chat", chat(stop=["\n\n", "END"]), "anthropic", HAIKU).local_stop == ["\n\n"]
    assert convert("chat", chat(stop=["A", ""]), "responses", GPT).local_stop == ["A"]
    assert convert("anthropic", anthropic(stop_sequences=["A", "B"]), "chat", ZAI).local_stop == ["A", "B"]


def test_nine_letters_for_mistral():
    encoded = convert("responses", CALLED_TWICE["responses"], "chat", MISTRAL)
    calls = [m["tool_calls"][0]["id"] for m in encoded.body["messages"] if m["role"] == "assistant"]
    results = [m["tool_call_id"] for m in encoded.body["messages"] if m["role"] == "tool"]
    assert calls == results
    assert len(set(calls)) == 2
    assert all(len(id) == 9 and id.isalnum() for id in calls)


OFFICE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.mark.parametrize(
    ("client", "body", "upstream", "model", "where", "kind"),
    [
        (
            "responses",
            responses(user([{"type": "input_file", "file_data": "UEsDBA==", "filename": "a.docx"}])),
            "anthropic",
            HAIKU,
            "input[0].content[0]",
            OFFICE,
        ),
        (
            "responses",
            responses(
                user([{"type": "input_file", "file_data": f"data:{OFFICE};base64,UEsDBA==", "filename": "a.docx"}])
            ),
            "anthropic",
            HAIKU,
            "input[0].content[0]",
            OFFICE,
        ),
        (
            "chat",
            chat(user([{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}])),
            "anthropic",
            HAIKU,
            "messages[0].content[0]",
            "input_audio",
        ),
        (
            "anthropic",
            anthropic(
                user([{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}])
            ),
            "chat",
            GROQ,
            "messages[0].content[0]",
            "application/pdf",
        ),
        (
            "chat",
            chat(user([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}])),
            "anthropic",
            DEEPSEEK_A,
            "messages[0].content[0]",
            "image",
        ),
    ],
)
def test_media_that_the_model_does_not_take(client, body, upstream, model, where, kind):
    with pytest.raises(RequestError) as raised:
        convert(client, body, upstream, model)
    assert (raised.value.status, raised.value.param) == (400, where)
    assert kind in raised.value.message


# -- the levels of config.json, in both lanes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "id", "host", "level", "expected"),
    [
        ("anthropic", "claude-opus-5", "", "off", {"thinking": {"type": "disabled"}}),
        ("anthropic", "claude-sonnet-5-5", "", "off", {"thinking": {"type": "between_tools"}}),
        ("anthropic", "claude-opus-5-5", "", "off", {"thinking": None, "output_config": None}),
        ("anthropic", "claude-haiku-4-5", "", "off", {"thinking": None}),
        ("responses", "gpt-5.5", "", "off", {"reasoning": {"effort": "none"}}),
        ("responses", "gpt-5-mini", "", "off", {"reasoning": None}),
        ("responses", "gpt-4.1", "", "high", {"reasoning": None}),
        ("chat", "deepseek-v4-pro", "api.deepseek.com", "off", {"thinking": {"type": "disabled"}}),
        ("chat", "deepseek-v4-pro", "api.deepseek.com", "medium", {"reasoning_effort": "high", "thinking": None}),
        ("chat", "qwen3-max", "", "off", {"reasoning_effort": None, "thinking": None}),
    ],
)
def test_levels(format, id, host, level, expected):
    model = target(format, id, host, reasoning=level)
    relayed = {"chat": chat(), "responses": responses(), "anthropic": anthropic()}[format]
    BY_NAME[format].apply_model_settings(Encoded(relayed), {}, model, "")
    assert part_of(relayed, expected) == expected
    client = "chat" if format != "chat" else "responses"
    asking = chat(reasoning_effort="low") if client == "chat" else responses(reasoning={"effort": "low"})
    translated = convert(client, asking, format, model).body
    BY_NAME[format].apply_model_settings(Encoded(translated), {}, model, "")
    if level == "off":
        assert part_of(translated, expected) == expected


BUDGET = {"type": "enabled", "budget_tokens": 10000}
ADAPTIVE = {"type": "adaptive"}
REDIRECTED = [
    ("claude-opus-5-5", {"thinking": BUDGET}, {"thinking": ADAPTIVE, "output_config": {"effort": "medium"}}),
    (
        "claude-opus-5",
        {"thinking": BUDGET | {"display": "omitted"}, "output_config": {"effort": "low", "x": 1}},
        {"thinking": ADAPTIVE | {"display": "omitted"}, "output_config": {"effort": "low", "x": 1}},
    ),
    ("claude-haiku-4-5-20251001", {"thinking": BUDGET}, {"thinking": BUDGET, "max_tokens": 32000}),
    ("claude-haiku-4-5-20251001", {"thinking": ADAPTIVE}, {"thinking": {"type": "enabled", "budget_tokens": 24576}}),
    (
        "claude-haiku-4-5-20251001",
        {"thinking": ADAPTIVE, "output_config": {"effort": "low"}},
        {"thinking": {"type": "enabled", "budget_tokens": 4096}, "output_config": None},
    ),
    (
        "claude-sonnet-4-6",
        {"thinking": ADAPTIVE, "output_config": {"effort": "xhigh"}},
        {"thinking": ADAPTIVE, "output_config": {"effort": "max"}},
    ),
    ("claude-opus-5-5", {"thinking": {"type": "disabled"}}, {"thinking": None}),
    ("claude-opus-5", {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
    ("claude-opus-5", {}, {"thinking": None, "output_config": None}),
    ("claude-opus-5", {"thinking": "odd"}, {"thinking": "odd"}),
]


@pytest.mark.parametrize(("id", "sent", "expected"), REDIRECTED)
def test_a_redirect_asks_its_model_for_thinking_as_that_is_asked(id, sent, expected):
    asked = anthropic(user("go"), max_tokens=32000) | sent
    body = asked | {"model": "claude-haiku-4-5" if "haiku" not in id else "claude-opus-5"}
    BY_NAME["anthropic"].apply_model_settings(Encoded(body), {}, target("anthropic", id), "")
    assert part_of(body, expected) == expected
    again = dict(body)
    BY_NAME["anthropic"].apply_model_settings(Encoded(again), {}, target("anthropic", id), "")
    assert again == body
    own = asked | {"model": id}
    BY_NAME["anthropic"].apply_model_settings(Encoded(own), {}, target("anthropic", id), "")
    assert own == asked | {"model": id}


def test_the_relay_lane_keeps_what_the_service_wants():
    marked = {"type": "reasoning.text", "signature": State("anthropic", "claude", {"signature": "S"}).pack()}
    body = chat(
        user("go"),
        assistant(reasoning_content="hm", reasoning_details=[marked], tool_calls=[chat_call("a")]),
        chat_result("a"),
        assistant(tool_calls=[chat_call("b")]),
        chat_result("b"),
        assistant("ok"),
    )
    BY_NAME["chat"].apply_model_settings(Encoded(body), {}, DEEPSEEK, "")
    kept = [{name: m[name] for name in m if name.startswith("reasoning")} for m in body["messages"]]
    assert kept == [{}, {"reasoning_content": "hm"}, {}, {"reasoning_content": " "}, {}, {}]
    body = anthropic(
        user("go"),
        assistant(
            [
                {"type": "thinking", "thinking": "own", "signature": ""},
                {"type": "thinking", "thinking": "hm", "signature": State("chat", "kimi", {}).pack()},
                anthropic_call("a"),
            ]
        ),
        user([anthropic_result("a")]),
    )
    BY_NAME["anthropic"].apply_model_settings(Encoded(body), {}, DEEPSEEK_A, "")
    thoughts = [block for block in body["messages"][1]["content"] if block["type"] == "thinking"]
    assert thoughts == [{"type": "thinking", "thinking": each, "signature": ""} for each in ("own", "hm")]


@pytest.mark.parametrize(("count", "rest"), [(50, 30), (21, 1), (20, None)])
def test_paths_in_a_schema_are_named_and_the_rest_is_counted(count, rest):
    properties = {f"p{number}": {"type": "integer", "minimum": number} for number in range(count)}
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    format = {"type": "json_schema", "name": "output", "schema": schema}
    repaired = convert("responses", responses(text={"format": format}), "anthropic", OPUS_5).repaired
    assert repaired.pop("response_format.schema", None) == rest
    assert set(repaired) == {f"response_format.schema.properties.p{number}.minimum" for number in range(20)}
