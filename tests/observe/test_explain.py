"""`droid2api explain` tells what the gateway really sends, and no secret."""

import orjson
import pytest

from droid2api.errors import RequestError
from droid2api.formats import BY_NAME, FORMATS
from droid2api.observe.explain import explain, guess_format, to_text
from tests.harness import BY_TYPE, PATHS, Scripted, scripted_gateway, settings_for

USER = [{"role": "user", "content": "hello"}]
BODIES = {
    "chat": {
        "messages": [{"role": "system", "content": "be brief"}, *USER, *USER],
        "temperature": 0.5,
        "seed": 7,
        "stop": ["x"],
        "reasoning_effort": "low",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    },
    "responses": {
        "input": [
            {"role": "user", "content": "hello"},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"role": "user", "content": "too early"},
            {"type": "function_call_output", "call_id": "c1", "output": "done"},
        ],
        "instructions": "be brief",
        "truncation": "auto",
    },
    "anthropic": {
        "system": "be brief",
        "max_tokens": 100,
        "messages": USER,
        "top_k": 3,
        "context_management": {"edits": []},
    },
}
pairs = pytest.mark.parametrize("type_", BY_TYPE)
formats = pytest.mark.parametrize("name", BODIES)
HEADERS = {"anthropic-beta": "a-beta-1", "x-my-key": "planted-in-config"}


def endpoint(upstream, **more):
    return [{"name": "anthropic", "base_url": f"{upstream}/v1/messages?key=planted-1", "headers": HEADERS} | more]


@pairs
@formats
async def test_it_is_what_the_gateway_sends(tmp_path, name, type_):
    """Byte for byte in the body, and in every header but the credential and the ids that are new each time."""
    script = Scripted(status=400, headers={"Content-Type": "application/json"}, chunks=[b"{}"])
    body = BODIES[name] | {"model": BY_TYPE[type_]}
    settings = {"system_prompt": "You are Droid.\n", "user_agent": "me/1"}
    async with scripted_gateway(tmp_path, script, **settings) as gateway:
        await gateway.ask(PATHS[BY_NAME[name].TYPE], body)
    ((path, headers, sent),) = script.requests
    before = orjson.dumps(body)
    explained = explain(settings_for(tmp_path, "http://127.0.0.1:9", **settings), body, BY_NAME[name])
    assert orjson.dumps(body) == before
    assert orjson.dumps(explained.body) == orjson.dumps(sent)
    assert (explained.method, explained.url) == ("POST", f"http://127.0.0.1:9{path}")
    ids = {"x-session-id", "x-assistant-message-id"}
    assert ids <= explained.headers.keys()
    added = {"host", "accept", "content-length"}  # by aiohttp, for every request
    assert explained.headers.keys() == headers.keys() - added
    assert headers["authorization"] == "Bearer test-key"
    assert explained.headers.pop("authorization") == "Bearer ***"
    for header in explained.headers.keys() - ids:
        assert explained.headers[header] == headers[header]
    same = type_ == BY_NAME[name].TYPE
    assert explained.lane == ("relay" if same else "translate")


def test_what_was_dropped_and_repaired_and_how_it_differs(tmp_path):
    settings = settings_for(tmp_path, "http://127.0.0.1:9")
    body = BODIES["responses"] | {"model": BY_TYPE["common"]}
    explained = explain(settings, body)
    assert explained.dropped == ["truncation"]
    assert explained.repaired
    assert '-  "input": [' in explained.diff
    assert '+  "messages": [' in explained.diff
    text = to_text(explained, color=False)
    assert "\x1b" not in text
    assert "responses -> chat" in text
    assert "\ndropped   truncation\n" in text
    colored = to_text(explained, color=True)
    assert '\x1b[31m-  "input": [\x1b[0m\n' in colored
    assert '\x1b[32m+  "messages": [\x1b[0m\n' in colored


def test_a_body_that_passes_as_it_is(tmp_path):
    explained = explain(settings_for(tmp_path, "http://127.0.0.1:9"), {"model": "glm-4.6", "messages": USER})
    assert explained.diff == []
    assert to_text(explained, color=True).endswith("\nThe body goes out as it came in.\n")


@pytest.mark.parametrize("own", [{}, {"api_key_env": "MY_KEY"}])
def test_secrets_are_masked(tmp_path, own):
    settings = settings_for(
        tmp_path,
        "http://127.0.0.1:9",
        {"MY_KEY": "planted-2"},
        endpoint=endpoint("http://h", **own),
        auth={"hosts": ["h"]},
    )
    explained = explain(settings, BODIES["anthropic"] | {"model": BY_TYPE["anthropic"]})
    assert explained.url == "http://h/v1/messages?***"
    assert explained.headers["x-my-key"] == "***"
    assert explained.headers["anthropic-beta"] == "a-beta-1"
    assert explained.headers["x-api-key" if own else "authorization"] == ("***" if own else "Bearer ***")
    assert "planted-" not in to_text(explained, color=False)


def test_another_model_and_a_redirect(tmp_path):
    settings = settings_for(tmp_path, "http://127.0.0.1:9", model_redirects={"fast*": "glm-4.6"})
    explained = explain(settings, BODIES["chat"] | {"model": "unknown"}, model="fast-1")
    assert (explained.asked, explained.model, explained.lane) == ("fast-1", "glm-4.6", "relay")
    assert "glm-4.6 (asked for as fast-1)" in to_text(explained, color=False)


def test_the_profile_of_the_model(tmp_path):
    """Only what is not as for any model of its type: known facts, and what config.json says."""
    models = [
        {"id": "gpt-5", "type": "openai"},
        {"id": "house-model", "type": "common"},
        {"id": "mine", "type": "common", "profile": {"efforts": [], "most_stops": None, "strict_tools": False}},
    ]
    settings = settings_for(tmp_path, "http://127.0.0.1:9", models=models)
    known = explain(settings, {"model": "gpt-5", "input": "hello"})
    assert known.profile["efforts"] == ("minimal", "low", "medium", "high")
    assert known.profile["reasons"] == "always"
    assert "system_messages" not in known.profile  # as for all of its type
    assert '\nprofile   efforts=["minimal","low","medium","high"], off=weakest, ' in to_text(known, color=False)
    assert "\nprofile   plain\n" in to_text(explain(settings, BODIES["chat"] | {"model": "house-model"}), color=False)
    mine = explain(settings, BODIES["chat"] | {"model": "mine"})
    assert mine.profile == {"efforts": (), "most_stops": None, "strict_tools": False}
    assert "\nprofile   efforts=[], strict_tools=false, most_stops=null\n" in to_text(mine, color=False)


@pytest.mark.parametrize(
    ("model", "level", "reasons"),
    [
        ({"id": "gpt-5", "type": "openai"}, "off", True),  # always
        ({"id": "gpt-5", "type": "openai"}, "auto", False),  # nothing was asked
        ({"id": "gpt-5.5", "type": "openai"}, "off", False),  # can be told
        ({"id": "glm-4.6", "type": "common"}, "off", False),  # does not unless it is asked to
        ({"id": "claude-opus-5-5", "type": "anthropic"}, "off", True),
        ({"id": "x", "type": "common", "profile": {"reasons": "unless_off", "off": "omit"}}, "off", True),
    ],
)
def test_a_model_that_reasons_although_it_is_off(tmp_path, model, level, reasons):
    settings = settings_for(tmp_path, "http://127.0.0.1:9", models=[model | {"reasoning": level}])
    explained = explain(settings, BODIES["chat"] | {"model": model["id"]})
    assert ("reasons all the same" in explained.note) is reasons
    assert ("\nnote      " in to_text(explained, color=False)) is reasons


def test_names_of_a_request_do_not_reach_the_terminal_raw(tmp_path):
    settings = settings_for(tmp_path, "http://127.0.0.1:9")
    body = {"model": "gpt-5.5", "messages": USER, "\x1b]0;x\x07": 1}
    assert "\x1b" not in to_text(explain(settings, body), color=False)


@pytest.mark.parametrize("body", [{"messages": USER}, {"model": "unknown", "messages": USER}, {"model": "gpt-5.5"}])
def test_what_the_gateway_refuses(tmp_path, body):
    with pytest.raises(RequestError):
        explain(settings_for(tmp_path, "http://127.0.0.1:9"), body)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        *((body, name) for name, body in BODIES.items()),
        ({"messages": USER}, "chat"),
        ({"messages": USER, "max_tokens": 5}, "anthropic"),
        ({"messages": USER, "max_tokens": 5, "stream_options": {}}, "chat"),
        ({"messages": [{"role": "system", "content": "x"}, *USER], "max_tokens": 5}, "chat"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "chat"),
        ({"messages": [{"role": "assistant", "tool_calls": []}], "max_tokens": 5}, "chat"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "anthropic"),
        ({"messages": USER, "tools": [{"name": "f", "input_schema": {}}]}, "anthropic"),
        ({"messages": USER, "tools": [{"type": "function", "function": {}}], "max_tokens": 5}, "chat"),
        ({"input": "hello"}, "responses"),
        ({"messages": "junk", "tools": 3}, "chat"),
    ],
)
def test_a_guess_of_the_format(body, name):
    format, why = guess_format(FORMATS, body)
    assert name == format.NAME
    assert why
