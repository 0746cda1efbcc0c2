"""The embedded upstream itself: the official SDKs accept what it says, and it refuses what the real ones refuse."""

from __future__ import annotations

import time

import aiohttp
import pytest

from droid2api.demo import Demo
from tests.harness import BY_TYPE, serving
from tests.sdk_clients import DRIVERS

MODELS = {"chat": BY_TYPE["common"], "responses": BY_TYPE["openai"], "anthropic": BY_TYPE["anthropic"]}
MODELS["gemini"] = BY_TYPE["google"]
clients = pytest.mark.parametrize("client", sorted(DRIVERS))
modes = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@clients
@modes
async def test_the_sdks_accept_what_it_says(client, stream):
    async with serving(Demo(pace=0).app()) as url:
        driver = DRIVERS[client](url)
        async with driver.client:
            driver.say('call get_weather twice {"city": "你好 🌍"}', image=True)
            answer = await driver.ask(MODELS[client], stream=stream, tools=True, effort="low")
            assert answer.reasoning
            assert [call[2] for call in answer.calls] == [{"city": "你好 🌍"}] * 2
            for id, _, _ in answer.calls:
                driver.result(id, "fine")
            answer = await driver.ask(MODELS[client], stream=stream, tools=True, effort="low")
            assert (answer.text, answer.finish) == ("The tool said: fine; fine", "stop")
            driver.say("please refuse")
            answer = await driver.ask(MODELS[client], stream=stream)
            assert answer.refusal or answer.text
            driver.say("a place")
            assert (await driver.ask(MODELS[client], stream=stream, schema=True)).text == '{"city":"demo"}'
            driver.say("one two three four five six")
            assert (await driver.ask(MODELS[client], stream=stream, max_tokens=3)).finish == "length"


async def test_it_takes_its_time():
    async with serving(Demo(pace=0.05).app()) as url, aiohttp.ClientSession() as session:
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "one two three four"}]}
        started = time.monotonic()
        async with session.post(f"{url}/v1/chat/completions", json=body, headers={"x-api-key": "k"}) as response:
            await response.read()
    assert time.monotonic() - started > 0.15


THINKING = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "x"}]}
REFUSED = {
    "no max_tokens": {},
    "budget above max_tokens": THINKING | {"max_tokens": 2000},
    "budget too small": {"thinking": {"type": "enabled", "budget_tokens": 100}, "max_tokens": 2000},
    "temperature with thinking": THINKING | {"max_tokens": 9000, "temperature": 0.5},
    "forced tool with thinking": THINKING | {"max_tokens": 9000, "tool_choice": {"type": "any"}},
    "tool loop without its thinking": THINKING | {"max_tokens": 9000, "messages": [CALL, RESULT]},
    "empty text": {"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
    "a result without a call": {"max_tokens": 9, "messages": [RESULT]},
    "foreign reasoning": {
        "max_tokens": 9,
        "messages": [
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "a", "signature": "not its own"}]},
        ],
    },
}


@pytest.mark.parametrize("why", sorted(REFUSED))
async def test_what_anthropic_refuses(why):
    first = {"role": "user", "content": "hi"}
    body = {"model": "m"} | REFUSED[why]
    body["messages"] = [first, *REFUSED[why].get("messages", [])]
    async with (
        serving(Demo(pace=0).app()) as url,
        aiohttp.ClientSession(headers={"x-api-key": "k"}) as session,
        session.post(f"{url}/v1/messages", json=body) as response,
    ):
        assert response.status == 400, why
        assert (await response.json())["error"]["type"] == "invalid_request_error"
