"""Cache breakpoints of translated requests to Claude: where they stand, and that nothing before them moves."""

from dataclasses import replace

import orjson
import pytest

from droid2api.formats.anthropic.cache import mark_last

from .bodies import (
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
    gemini,
    gemini_call,
    gemini_result,
    gemini_user,
    responses,
    responses_call,
    responses_result,
    responses_tool,
    system,
    target,
    text,
    user,
)

CLAUDE = target("anthropic", "claude-opus-5-5", "api.anthropic.com", cache="auto")
MARK = {"type": "ephemeral"}
LAST, TOOL, SYSTEM = ("messages", -1, "content", -1), ("tools", -1), ("system", -1)
TOOLS = [chat_tool("f"), chat_tool("g")]
NAMED = {"type": "function", "function": {"name": "f"}}


def marks(value, path=()):
    """The paths of all marks."""
    if type(value) is dict:
        found = [path] if "cache_control" in value else []
        return found + [mark for name, item in value.items() for mark in marks(item, (*path, name))]
    items = enumerate(value) if type(value) is list else ()
    return [mark for index, item in items for mark in marks(item, (*path, index))]


def at(body, *paths):
    """The paths with their places counted from the start."""
    found = []
    for path in paths:
        place, value = [], body
        for step in path:
            place.append(step + len(value) if type(step) is int and step < 0 else step)
            value = value[step]
        found.append(tuple(place))
    return sorted(found, key=str)


@pytest.mark.parametrize(
    ("client", "body", "expected"),
    [
        ("chat", chat(), [LAST]),
        ("chat", chat(system("be"), user("hi")), [SYSTEM, LAST]),
        ("chat", chat(system("be"), developer("so"), user("hi")), [SYSTEM, LAST]),
        ("chat", chat(tools=TOOLS), [TOOL, LAST]),
        ("chat", chat(system("be"), user("hi"), tools=TOOLS), [SYSTEM, LAST]),
        ("chat", chat(user("hi"), assistant(tool_calls=[chat_call("a")]), chat_result("a"), tools=TOOLS), [TOOL, LAST]),
        ("responses", responses(instructions="be"), [SYSTEM, LAST]),
        ("responses", responses(user("hi"), responses_call("a"), responses_result("a")), [LAST]),
        ("gemini", gemini(systemInstruction={"parts": [{"text": "be"}]}), [SYSTEM, LAST]),
        ("gemini", gemini(gemini_user("hi"), gemini_call("a"), gemini_result("a")), [LAST]),
        # what the gateway says at the end is not there in the next turn
        ("chat", chat(user("hi"), assistant("so")), [("messages", -2, "content", -1)]),
        ("chat", chat(tools=TOOLS, tool_choice=NAMED, reasoning_effort="high"), [TOOL, ("messages", 0, "content", 0)]),
    ],
)
def test_where_the_marks_stand(client, body, expected):
    encoded = convert(client, body, "anthropic", CLAUDE)
    assert sorted(marks(encoded.body), key=str) == at(encoded.body, *expected)
    assert "cache_breakpoints" not in encoded.dropped


def test_a_clients_own_mark_is_the_only_one():
    marked = {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
    body = chat(system("be"), user([marked, {"type": "text", "text": "b"}]), tools=TOOLS)
    assert marks(convert("chat", body, "anthropic", CLAUDE).body) == [("messages", 0, "content", 0)]


def test_off_and_a_service_without_marks_have_none():
    body = chat(system("be"), user("hi"), tools=TOOLS)
    off = target("anthropic", "claude-opus-5-5", "api.anthropic.com", cache="off")
    assert marks(convert("chat", body, "anthropic", off).body) == []
    for client, sent, format in (
        ("anthropic", anthropic(system="be"), "chat"),
        ("chat", body, "responses"),
        ("chat", body, "gemini"),
    ):
        other = target(format, "claude-opus-5-5", cache="auto")
        assert b"cache_control" not in orjson.dumps(convert(client, sent, format, other).body)


def test_a_service_that_takes_one_gets_the_last():
    one = replace(CLAUDE, profile=replace(CLAUDE.profile, cache_breakpoints=1))
    encoded = convert("chat", chat(system("be"), user("hi")), "anthropic", one)
    assert marks(encoded.body) == at(encoded.body, LAST)
    assert encoded.dropped == []


@pytest.mark.parametrize("most", range(7))
def test_of_too_many_marks_the_last_ones_stay(most):
    """In the order in which the service reads: tools, system, messages, and what is in a result before the result."""
    result = anthropic_result("a", [text("1", cache_control=MARK)], cache_control=MARK)
    body = anthropic(
        user([text("go", cache_control=MARK)]),
        assistant([anthropic_call("a")]),
        user([result]),
        system=[text("be", cache_control=MARK)],
        tools=[anthropic_tool(cache_control=MARK)],
    )
    upstream = replace(CLAUDE, profile=replace(CLAUDE.profile, cache_breakpoints=most))
    encoded = convert("anthropic", body, "anthropic", upstream)
    given = ("messages", 2, "content", 0)
    places = [("tools", 0), ("system", 0), ("messages", 0, "content", 0), (*given, "content", 0), given]
    assert sorted(marks(encoded.body), key=str) == sorted(places[max(0, 5 - most) :], key=str)
    assert ("cache_breakpoints" in encoded.dropped) is (most < 5)


@pytest.mark.parametrize(("ttl", "repaired"), [(None, 0), ("5m", 0), ("1h", 0), ("30m", 1)])
def test_a_life_that_the_service_does_not_have(ttl, repaired):
    marked = text("hi", prompt_cache_breakpoint={"mode": "explicit", "ttl": ttl})
    encoded = convert("chat", chat(user([marked])), "anthropic", CLAUDE)
    assert encoded.repaired.get("cache_breakpoints.ttl", 0) == repaired


def test_thinking_takes_no_mark():
    blocks = [text("a"), {"type": "thinking"}, {"type": "redacted_thinking"}]
    assert mark_last(blocks)
    assert marks(blocks) == [(0,)]
    assert not mark_last(blocks[1:])


# -- five turns -----------------------------------------------------------------------------------------------------

DATA = f"data:image/png;base64,{PNG}"
FILE = {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}
PICTURE = {"type": "image_url", "image_url": {"url": DATA}}
CHAT_TURNS = [
    [user("look")],
    [
        assistant("I look.", reasoning_content="hm", tool_calls=[chat_call("a b"), chat_call("c", "g")]),
        chat_result("a b"),
        chat_result("c", "two"),
    ],
    [assistant("Both are there."), user([PICTURE, {"type": "text", "text": "and this?"}])],
    [assistant(tool_calls=[chat_call("a b")]), chat_result("a b", "")],
    [assistant("A dot."), user([{"type": "file", "file": FILE}])],
]
RESPONSES_TURNS = [
    [user("look")],
    [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        responses_call("c1"),
        responses_call("c2", "g"),
        responses_result("c1"),
        responses_result("c2", "two"),
    ],
    [assistant([{"type": "output_text", "text": "Both."}]), user([{"type": "input_image", "image_url": DATA}])],
    [responses_call("c1"), responses_result("c1", [{"type": "input_text", "text": "again"}])],
    [assistant("So."), user("thanks")],
]


def of_chat(items):
    return chat(system("be"), *items, tools=TOOLS, reasoning_effort="high")


def of_responses(items):
    tools = [responses_tool("f"), responses_tool("g")]
    return responses(*items, instructions="be", tools=tools, reasoning={"effort": "high"})


TURNS = [("chat", of_chat, CHAT_TURNS), ("responses", of_responses, RESPONSES_TURNS)]


def unmarked(value):
    if type(value) is dict:
        return {name: unmarked(item) for name, item in value.items() if name != "cache_control"}
    return [unmarked(item) for item in value] if type(value) is list else value


def prefix(body):
    """What the service caches up to the last mark, in its order: tools, system, messages."""
    *_, (_, message, _, block) = [path for path in marks(body) if path[0] == "messages"]
    last = body["messages"][message]
    messages = [*body["messages"][:message], last | {"content": last["content"][: block + 1]}]
    parts = [body["tools"], body["system"], [[each["role"], part] for each in messages for part in each["content"]]]
    return [orjson.dumps(unmarked(part)) for part in parts]


@pytest.mark.parametrize(("client", "make", "turns"), TURNS, ids=["chat", "responses"])
@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-opus-4-1", "claude-haiku-4-5"])
def test_what_stands_before_a_mark_does_not_move_in_five_turns(client, make, turns, model):
    upstream = target("anthropic", model, "api.anthropic.com", cache="auto")
    before = None
    for count in range(1, len(turns) + 1):
        items = [item for turn in turns[:count] for item in turn]
        body = convert(client, make(items), "anthropic", upstream).body
        assert len(marks(body)) == 2
        tools, prompt, said = prefix(body)
        if before:
            assert (tools, prompt) == before[:2]
            assert said.startswith(before[2][:-1])
        before = tools, prompt, said
