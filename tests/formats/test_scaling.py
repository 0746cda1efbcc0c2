"""Work grows with the body, and stops: no small body holds the event loop."""

import orjson
import pytest

from droid2api.errors import RequestError
from droid2api.formats import BY_NAME
from droid2api.hub.events import State
from droid2api.hub.history import normalize
from droid2api.hub.stops import LONGEST_STOP, StopFilter
from droid2api.wire.fields import dump
from tests.timing import assert_linear

from .bodies import (
    anthropic,
    anthropic_call,
    anthropic_result,
    anthropic_tool,
    assistant,
    chat,
    chat_call,
    chat_result,
    chat_tool,
    gemini,
    gemini_call,
    gemini_result,
    gemini_tool,
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

CARRIER = {"type": "redacted_thinking", "data": State("chat", "m", {"block": "text", "x": 1}).pack()}


def unknown(n):
    return {f"f{number}": 1 for number in range(n)}


def names(n):
    return [f"f{number}" for number in range(n)]


GROWING = {
    "unknown fields of chat": ("chat", lambda n: chat(**unknown(n))),
    "unknown fields of responses": ("responses", lambda n: responses(**unknown(n))),
    "unknown fields of anthropic": ("anthropic", lambda n: anthropic(**unknown(n))),
    "unknown fields of a message": ("chat", lambda n: chat(user("hi") | unknown(n))),
    "unknown fields of a tool": ("anthropic", lambda n: anthropic(tools=[anthropic_tool() | unknown(n)])),
    "messages": ("chat", lambda n: chat(*[user("hi"), assistant("ok")] * (n // 2))),
    "system messages": ("anthropic", lambda n: anthropic(*[user("hi"), system("S"), assistant("ok")] * (n // 3))),
    "parts": ("responses", lambda n: responses(user([{"type": "input_text", "text": "a"}] * n))),
    "tools": ("chat", lambda n: chat(tools=[chat_tool(name) for name in names(n)])),
    "one tool often": ("anthropic", lambda n: anthropic(tools=[anthropic_tool()] * n)),
    "allowed tools": (
        "responses",
        lambda n: responses(
            tools=[responses_tool(name) for name in names(n // 2)],
            tool_choice={
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": name} for name in names(n // 2)],
            },
        ),
    ),
    "tools of the service": ("responses", lambda n: responses(tools=[{"type": "mcp", "server_label": "s"}] * n)),
    "found tools": (
        "responses",
        lambda n: responses(
            *[{"type": "additional_tools", "tools": [responses_tool(name)]} for name in names(n)], user("hi")
        ),
    ),
    "tools that come late": (
        "responses",
        lambda n: responses(
            *[user("hi"), assistant("ok")] * n,
            *[{"type": "additional_tools", "tools": [responses_tool(name)]} for name in names(n)],
        ),
    ),
    "items of the service": ("responses", lambda n: responses(*[{"type": "web_search_call"}] * n, user("hi"))),
    "includes": ("responses", lambda n: responses(include=names(n))),
    "calls with one id": (
        "chat",
        lambda n: chat(user("go"), *[assistant(tool_calls=[chat_call("a")]), chat_result("a")] * (n // 2)),
    ),
    "calls at once": (
        "responses",
        lambda n: responses(
            user("go"),
            *[responses_call(name) for name in names(n // 2)],
            *[responses_result(name) for name in names(n // 2)],
        ),
    ),
    "results between texts": (
        "anthropic",
        lambda n: anthropic(
            user("go"),
            assistant([anthropic_call(name) for name in names(n // 3)]),
            user([block for name in names(n // 3) for block in (text("x"), anthropic_result(name))]),
        ),
    ),
    "carried states": (
        "anthropic",
        lambda n: anthropic(user("go"), assistant([text("a"), CARRIER] * (n // 2)), user("?")),
    ),
    "cache breakpoints": (
        "anthropic",
        lambda n: anthropic(user([text("a", cache_control={"type": "ephemeral"}) for _ in range(n)])),
    ),
    "deferred tools": (
        "anthropic",
        lambda n: anthropic(
            user("go"),
            assistant([anthropic_call("a")]),
            user([anthropic_result("a", [{"type": "tool_reference", "tool_name": name} for name in names(n // 2)])]),
            tools=[anthropic_tool(name, defer_loading=True) for name in names(n // 2)],
        ),
    ),
    "responses without ids": (
        "gemini",
        lambda n: gemini(
            gemini_user("go"),
            {"role": "model", "parts": [part for _ in range(n // 2) for part in gemini_call(None)["parts"]]},
            {"role": "user", "parts": [part for _ in range(n // 2) for part in gemini_result(None)["parts"]]},
        ),
    ),
    "a streamed text in the history": (
        "gemini",
        lambda n: gemini(gemini_user("go"), *[{"role": "model", "parts": [{"text": "x"}]}] * n, gemini_user("?")),
    ),
    "stop sequences": ("anthropic", lambda n: anthropic(stop_sequences=names(min(n, 8000)))),
}
SIZE = 1500


@pytest.mark.slow
@pytest.mark.parametrize("name", GROWING)
def test_twice_the_body_is_twice_the_work(name):
    client, body_of = GROWING[name]
    for upstream in BY_NAME:
        if upstream != client:
            model = target(upstream, "claude-opus-4-8" if upstream == "anthropic" else "m")
            assert_linear(lambda size: translating(client, body_of(size), upstream, model), SIZE)  # noqa: B023 - used at once


def translating(client, body, upstream, model):
    def run():
        request = normalize(BY_NAME[client].decode_request(body))
        BY_NAME[upstream].encode_request(request, model)

    return run


@pytest.mark.parametrize(
    ("client", "body", "where"),
    [
        ("chat", chat(stop=list("ABCDE")), "stop"),
        ("chat", chat(stop="x" * (LONGEST_STOP + 1)), "stop[0]"),
        ("chat", chat(stop=["A", "x" * 150_000]), "stop[1]"),
        ("anthropic", anthropic(stop_sequences=["x" * 150_000]), "stop_sequences[0]"),
        ("anthropic", anthropic(stop_sequences=["x"] * 8192), "stop_sequences"),
    ],
)
def test_stop_sequences_have_limits(client, body, where):
    with pytest.raises(RequestError) as raised:
        BY_NAME[client].decode_request(body)
    assert (raised.value.status, raised.value.param) == (400, where)
    assert where in raised.value.message


def test_stop_sequences_at_the_limit_are_taken():
    longest = "x" * LONGEST_STOP
    assert BY_NAME["chat"].decode_request(chat(stop=["A", "B", "C", longest])).stop[-1] == longest
    assert StopFilter([longest]).feed([]) == []


def nested(depth):
    value: object = "x"
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("depth", [260, 900])
@pytest.mark.parametrize("client", BY_NAME)
def test_what_is_nested_too_deep_is_refused(client, depth):
    """Deeper than can be written. A body that deep is no agent's."""
    schema = {"type": "object", "properties": {"a": nested(depth)}}
    call = assistant([anthropic_call("a", input=nested(depth))])
    bodies = {
        "chat": [chat(tools=[chat_tool(parameters=schema)]), chat(metadata=nested(depth))],
        "responses": [responses(tools=[responses_tool(parameters=schema)]), responses(metadata=nested(depth))],
        "anthropic": [
            anthropic(tools=[anthropic_tool(input_schema=schema)]),
            anthropic(user("go"), call, user([anthropic_result("a")])),
        ],
        "gemini": [
            gemini(tools=[gemini_tool(parametersJsonSchema=schema)]),
            gemini(gemini_user("go"), gemini_call("a", args=nested(depth)), gemini_result("a")),
        ],
    }
    for body in bodies[client]:
        for upstream in BY_NAME:
            if not ("metadata" in body and upstream in ("anthropic", "gemini")):  # it is left out there
                with pytest.raises(RequestError) as raised:
                    written(client, body, upstream)
                assert raised.value.status == 400


def written(client, body, upstream):
    request = normalize(BY_NAME[client].decode_request(body))
    return dump(BY_NAME[upstream].encode_request(request, target(upstream, "gpt-5.5", "api.openai.com")).body)


def test_dump():
    assert dump({"a": [1, None]}) == orjson.dumps({"a": [1, None]})
    with pytest.raises(RequestError, match="cannot be written as JSON"):
        dump(nested(300))
