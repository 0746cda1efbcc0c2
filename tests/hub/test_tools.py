"""Names, ids and kinds of tools: there and back."""

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droid2api.errors import RequestError
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Finish, Start
from droid2api.hub.request import Tool, ToolCall
from droid2api.hub.tools import (
    CallIds,
    ToolRestorer,
    name_tools,
    safe_name,
    unwrapped_input,
    wrapped_arguments,
    wrapped_tool,
)


@pytest.mark.parametrize("name", ["f", "get_weather", "a-b", "x" * 64, "0"])
def test_safe_names_stay(name):
    assert safe_name(name) == name


@given(st.text(max_size=100), st.text(max_size=100))
def test_safe_names(one, other):
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", safe_name(one))
    assert safe_name(safe_name(one)) == safe_name(one)
    assert (safe_name(one) == safe_name(other)) == (one == other)


def test_safe_name_says_where_it_comes_from():
    assert re.fullmatch(r"read_file_[0-9a-f]{8}", safe_name("read.file"))
    assert len(safe_name("x" * 100)) == 64


def named(*tools):
    encoded = Encoded({})
    return encoded, name_tools(encoded, list(tools))


def test_names_of_tools():
    f, dotted, custom, spaced = Tool("f"), Tool("a.b"), Tool("p", kind="custom"), Tool("f", namespace="mcp")
    encoded, pairs = named(f, dotted, custom, spaced)
    names = [name for name, _ in pairs]
    assert names == ["f", safe_name("a.b"), "p", "mcp__f"]
    assert encoded.tool_names == dict(zip(names, [f, dotted, custom, spaced], strict=True))
    assert dict(encoded.repaired) == {"tools.name": 1}


def test_one_name_for_two_tools():
    assert named(Tool("f"), Tool("f"))[1] == [("f", Tool("f"))], "the same tool goes out once"
    with pytest.raises(RequestError, match="'f' is given twice"):
        named(Tool("f"), Tool("f", "other"))
    with pytest.raises(RequestError, match="given twice"):
        named(Tool("mcp__f"), Tool("f", namespace="mcp"))


def test_wrapped_tool():
    plain = Tool("f", "d", {})
    assert wrapped_tool(plain) is plain
    tool = wrapped_tool(Tool("p", "d", kind="custom", grammar={"syntax": "lark", "definition": "start: A"}))
    assert (tool.kind, tool.name) == ("function", "p")
    assert tool.description == "d\n\nThe input must follow this lark grammar:\nstart: A"
    assert tool.parameters["required"] == ["input"]


@given(st.text())
def test_wrapped_input_comes_back(text):
    arguments = wrapped_arguments(ToolCall("a", "p", text, custom=True))
    assert type(orjson.loads(arguments)) is dict
    assert unwrapped_input(arguments) == text


@pytest.mark.parametrize("arguments", ["", "***", '"x"', "[1]", '{"patch":"x"}', '{"input":5}'])
def test_what_was_never_wrapped_stays(arguments):
    assert unwrapped_input(arguments) == arguments


def test_arguments_of_functions_stay():
    assert wrapped_arguments(ToolCall("a", "f", '{"x": 1}')) == '{"x": 1}'
    assert wrapped_arguments(ToolCall("a", "f", " ")) == "{}"


def restored(events, *tools, at_once):
    restorer = ToolRestorer(named(*tools)[0].tool_names)
    if at_once:
        return restorer.feed(events)
    return [restored for event in events for restored in restorer.feed([event])]


def called(name, *deltas, **fields):
    return [BlockStart("tool_call", "a", name, **fields), *map(Delta, deltas), BlockEnd()]


@pytest.mark.parametrize(
    "other", [Tool("f"), Tool("f", cache=""), Tool("f", cache="1h"), Tool("f", strict=False), Tool("f", strict=None)]
)
def test_the_same_tool_given_twice_is_one(other):
    """What is said of it beside what it is makes no other one."""
    encoded = Encoded({})
    assert name_tools(encoded, [Tool("f"), other]) == [("f", Tool("f"))]


@pytest.mark.parametrize("other", [Tool("f", "d"), Tool("f", strict=True), Tool("f", parameters={"type": "object"})])
def test_another_tool_of_the_same_name_is_refused(other):
    with pytest.raises(RequestError):
        name_tools(Encoded({}), [Tool("f"), other])


ANSWERS = {
    "as it is": (called("f", "{", "}"), [Tool("f"), Tool("a.b")], called("f", "{", "}")),
    "a name of another alphabet": (called(safe_name("a.b"), "{}"), [Tool("a.b")], called("a.b", "{}")),
    "a namespace": (called("mcp__f", "{}"), [Tool("f", namespace="mcp")], called("f", "{}", namespace="mcp")),
    "a wrapped custom tool": (
        called("p", '{"inp', 'ut":"***"}'),
        [Tool("p", kind="custom")],
        called("p", "***", custom=True),
    ),
    "a custom tool of an upstream that knows them": (
        called("p", "*", "**", custom=True),
        [Tool("p", kind="custom")],
        called("p", "*", "**", custom=True),
    ),
    "a tool that nobody named": (called("g", "{}"), [Tool("a.b")], called("g", "{}")),
}


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("name", ANSWERS)
def test_restorer(name, at_once):
    answer, tools, expected = ANSWERS[name]
    text = [BlockStart("text"), Delta("ok"), BlockEnd()]
    head, tail = [Start("i", "m"), *text], [*text, Finish("tool_calls")]
    assert restored([*head, *answer, *tail], *tools, at_once=at_once) == [*head, *expected, *tail]


def ids_of(style, ids):
    """What goes out for calls that are answered one by one."""
    given, sent = CallIds(style), []
    for id in ids:
        sent.append(given.of_call(id))
        assert given.of_result(id) == sent[-1]
    return sent


@pytest.mark.parametrize("style", ["kept", "safe", "nine"])
@given(ids=st.lists(st.text(max_size=50), max_size=12))
def test_ids_of_calls(style, ids):
    """Each result follows its call, and has its id; who needs ids of their own gets them."""
    sent, again = ids_of(style, ids), ids_of(style, ids)
    assert sent == again, "the same in every turn"
    if style == "kept":
        assert all(wire == id for id, wire in zip(ids, sent, strict=True) if id)
    else:
        assert len(set(sent)) == len(ids)
        pattern = r"[a-zA-Z0-9_-]{1,64}" if style == "safe" else r"[a-zA-Z0-9]{9}"
        assert all(re.fullmatch(pattern, id) for id in sent)


@pytest.mark.parametrize("style", ["kept", "safe", "nine"])
def test_one_id_twice_in_one_answer(style):
    ids = CallIds(style)
    sent = [ids.of_call("a"), ids.of_call("a")]
    assert sent[0] != sent[1]
    assert [ids.of_result("a"), ids.of_result("a")] == sent


def test_ids_that_are_fine_stay():
    assert CallIds("safe").of_call("call_1") == "call_1"
    assert CallIds("nine").of_call("D681PevKs") == "D681PevKs"
    assert CallIds("kept").of_call("functions.x:0") == "functions.x:0"
