"""The order of a conversation that every provider takes."""

import copy
from collections import Counter
from dataclasses import replace

import pytest

from droid2api.errors import RequestError
from droid2api.hub.history import normalize
from droid2api.hub.request import Message, Refusal, Request, Text, ToolCall, ToolResult


def user(*parts):
    return Message("user", [Text(part) if type(part) is str else part for part in parts])


def assistant(*parts):
    return Message("assistant", [Text(part) if type(part) is str else part for part in parts])


def system(*parts):
    return Message("system", [Text(part) for part in parts])


def call(id, **fields):
    return ToolCall(id, "f", "{}", where=f"call {id}", **fields)


def result(id, *texts, **fields):
    return ToolResult(id, [Text(text) for text in texts], where=f"result {id}", **fields)


CASES = {
    "nothing to do": (
        [system("s"), user("a"), assistant("b"), user("c")],
        [system("s"), user("a"), assistant("b"), user("c")],
        {},
    ),
    "turns of one role": (
        [user("a"), user("b"), assistant("c"), assistant("d"), user("e")],
        [user("a", "b"), assistant("c", "d"), user("e")],
        {"messages.merged": 2},
    ),
    "system messages stay apart": (
        [system("a"), system("b"), user("c"), system("d"), user("e")],
        [system("a"), system("b"), user("c"), system("d"), user("e")],
        {},
    ),
    "empty text": (
        [user(""), assistant("", call("a")), user(result("a", ""), "x", "")],
        [assistant(call("a")), user(result("a"), "x")],
        {"messages.empty_text": 4},
    ),
    "results apart from each other are one turn": (
        [assistant(call("a")), assistant(call("b")), user(result("a")), user(result("b"))],
        [assistant(call("a"), call("b")), user(result("a"), result("b"))],
        {},
    ),
    "results keep their order and come first": (
        [assistant(call("a"), call("b")), user("x", result("b")), user("y", result("a"))],
        [assistant(call("a"), call("b")), user(result("b"), result("a"), "x", "y")],
        {"messages.result_order": 2, "messages.merged": 1},
    ),
    "a system message before the result": (
        [assistant(call("a")), system("s"), user(result("a"), "x")],
        [assistant(call("a")), user(result("a")), system("s"), user("x")],
        {"messages.result_order": 1},
    ),
    "an id that is used again later": (
        [assistant(call("a")), user(result("a", "1")), assistant(call("a")), user(result("a", "2"))],
        [assistant(call("a")), user(result("a", "1")), assistant(call("a")), user(result("a", "2"))],
        {},
    ),
    "one id twice in one answer": (
        [assistant(call("a"), call("a", custom=True)), user(result("a", "1"), result("a", "2"))],
        [assistant(call("a"), call("a", custom=True)), user(result("a", "1"), result("a", "2", custom=True))],
        {},
    ),
    "a result of a custom tool": (
        [assistant(call("a", custom=True)), user(result("a"))],
        [assistant(call("a", custom=True)), user(result("a", custom=True))],
        {},
    ),
    "a refusal": ([user("a"), assistant(Refusal("no"))], [user("a"), assistant(Refusal("no"))], {}),
}


@pytest.mark.parametrize("name", CASES)
def test_normalize(name):
    messages, expected, repaired = CASES[name]
    request = Request("m", messages)
    before = copy.deepcopy(request)
    normalized = normalize(request)
    assert normalized.messages == expected
    assert dict(normalized.repaired) == repaired
    assert request == before, "the request that was given is written to"
    again = normalize(replace(normalized, repaired=Counter()))
    assert again.messages == expected, "normalized twice"


REFUSED = {
    "no result at all": ([assistant(call("a"))], "call a", "'a' has no tool result"),
    "no result before the next answer": (
        [assistant(call("a")), user("x"), assistant("b"), user(result("a"))],
        "call a",
        "'a' has no tool result",
    ),
    "one of two results": (
        [assistant(call("a"), call("b")), user(result("a"))],
        "call b",
        "'b' has no tool result",
    ),
    "one of two results of one id": ([assistant(call("a"), call("a")), user(result("a"))], "call a", "'a' has no tool"),
    "no call": ([user("x"), user(result("a"))], "result a", "'a' has no tool call"),
    "two results": ([assistant(call("a")), user(result("a"), result("a"))], "result a", "'a' has no tool call"),
    "a result before its call": (
        [user(result("a")), assistant(call("a"))],
        "result a",
        "'a' has no tool call",
    ),
    "nothing in it": ([user(""), system()], "messages", "empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    messages, param, words = REFUSED[name]
    with pytest.raises(RequestError) as raised:
        normalize(Request("m", messages))
    assert raised.value.param == param
    assert words in raised.value.message
