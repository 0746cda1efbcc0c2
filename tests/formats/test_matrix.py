"""The sixteen pairs, streaming and not, through the official SDKs with strict validation."""

from __future__ import annotations

import base64
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as gemini

from droid2api.demo import Demo
from tests.harness import BY_TYPE, demo_gateway
from tests.sdk_clients import DRIVERS, PNG

pairs = pytest.mark.parametrize("client", sorted(DRIVERS))
upstreams = pytest.mark.parametrize("upstream", sorted(BY_TYPE))
modes = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
THOUGHT = "The user wants an echo, so I say it back."
TEXT = "Grüße, 你好世界! 🌍 done"


@pytest.fixture
async def demo():
    return Demo(pace=0)


@pytest.fixture
async def driver(client, demo, tmp_path):
    async with demo_gateway(tmp_path, demo) as gateway:
        driver: Any = DRIVERS[client](gateway.url)
        async with driver.client:
            yield driver


@pairs
@upstreams
@modes
async def test_text_with_a_system_prompt(driver, demo, upstream, stream):
    driver.system("Be brief.")
    driver.say(TEXT)
    answer = await driver.ask(BY_TYPE[upstream], stream=stream)
    assert (answer.text, answer.finish, answer.calls) == (TEXT, "stop", [])
    assert answer.tokens[0] > answer.tokens[2] > 0
    assert answer.tokens[1] == 4
    assert b"Be brief." in str(demo.requests[-1][2]).encode()


@pairs
@upstreams
@modes
async def test_parallel_tools_with_reasoning_that_goes_round(driver, demo, upstream, stream):
    """The upstream refuses reasoning state that does not come back exactly as it was given out."""
    driver.say('call get_weather twice {"city": "Bern"}')
    model = BY_TYPE[upstream]
    answer = await driver.ask(model, stream=stream, tools=True, effort="medium")
    assert answer.reasoning == THOUGHT
    assert [call[1] for call in answer.calls] == ["get_weather", "get_weather"]
    assert len({call[0] for call in answer.calls}) == 2
    for number, (id, _, _) in enumerate(answer.calls):
        driver.result(id, f"result {number}")
    answer = await driver.ask(model, stream=stream, tools=True, effort="medium")
    assert answer.text == "The tool said: result 0; result 1"
    assert _carries_reasoning(upstream, demo.requests[-1][2])


def _carries_reasoning(upstream: str, body: dict[str, Any]) -> bool:
    if upstream == "anthropic":
        return any("demo-signature" in str(message["content"]) for message in body["messages"])
    if upstream == "openai":
        return any("demo-encrypted" in str(item.get("encrypted_content")) for item in body["input"])
    if upstream == "google":  # where it is the first call that is signed
        first = next(part for content in body["contents"] for part in content["parts"] if "functionCall" in part)
        return b"demo-signature" in base64.b64decode(first["thoughtSignature"])
    return any(message.get("reasoning_content") == THOUGHT for message in body["messages"])


def _standard(body: dict[str, Any]) -> str:
    """A relayed body of google-genai has base64 in its other alphabet."""
    return str(body).replace("-", "+").replace("_", "/")


@pairs
@upstreams
@modes
async def test_images_in_messages_and_results(driver, client, demo, upstream, stream):
    driver.say('call get_weather {"city": "Bern"}', image=True)
    answer = await driver.ask(BY_TYPE[upstream], stream=stream, tools=True)
    assert PNG in _standard(demo.requests[-1][2])
    driver.result(answer.calls[0][0], "see the picture", image=True)
    await driver.ask(BY_TYPE[upstream], stream=stream, tools=True)
    # a Chat tool message is text only, so there the picture is only in the user's message
    assert _standard(demo.requests[-1][2]).count(PNG) == (1 if client == "chat" else 2)


@pairs
@upstreams
@modes
async def test_structured_output(driver, upstream, stream):
    driver.say("a place")
    answer = await driver.ask(BY_TYPE[upstream], stream=stream, schema=True)
    assert answer.text == '{"city":"demo"}'


@pairs
@upstreams
@modes
async def test_refusal(driver, client, upstream, stream):
    driver.say("please refuse")
    answer = await driver.ask(BY_TYPE[upstream], stream=stream)
    assert "I cannot do that." in (answer.refusal or answer.text)
    if {"anthropic", "gemini", "google"} & {client, upstream}:
        assert answer.finish == "content_filter"


@pairs
@upstreams
@modes
async def test_length(driver, upstream, stream):
    driver.say(" ".join(f"w{number}" for number in range(40)))
    answer = await driver.ask(BY_TYPE[upstream], stream=stream, max_tokens=20)
    assert answer.finish == "length"
    assert answer.text.split() == [f"w{number}" for number in range(20)]


@pytest.mark.parametrize("client", ["chat", "anthropic", "gemini"])  # Responses has no stop sequences
@upstreams
@modes
async def test_stop_sequence(driver, upstream, stream):
    driver.say("one two STOP three")
    answer = await driver.ask(BY_TYPE[upstream], stream=stream, stop="STOP")
    assert (answer.text.strip(), answer.finish) == ("one two", "stop")


@pairs
@upstreams
@modes
async def test_error_before_the_answer(driver, upstream, stream):
    driver.say("fail 429")
    kinds = (openai.RateLimitError, anthropic.RateLimitError, gemini.ClientError)
    with pytest.raises(kinds, match="asked to fail") as caught:
        await driver.ask(BY_TYPE[upstream], stream=stream)
    if isinstance(caught.value, gemini.ClientError):
        assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
        assert caught.value.details["error"]["details"][-1]["retryDelay"] == "1s"
        return
    assert caught.value.response.headers["retry-after"] == "1"
    assert caught.value.response.headers["x-upstream-request-id"] == "req_demo"
    assert caught.value.request_id


@pairs
@upstreams
@pytest.mark.parametrize("how", ["overload", "break"])
async def test_error_in_the_middle_of_a_stream(driver, upstream, how):
    driver.say(f"one two {how} three four five")
    with pytest.raises((openai.APIError, anthropic.APIError, gemini.APIError)) as caught:
        await driver.ask(BY_TYPE[upstream], stream=True)
    assert ("Overloaded" in str(caught.value)) == (how == "overload")


@pairs
@upstreams
async def test_a_conversation(driver, upstream):
    """Three turns with tools and reasoning give the same answers whoever asks whom, by turns whole and streamed."""
    told = []
    for turn in range(3):
        driver.say(f'call get_weather {{"city": "Zürich 🏔 {turn}"}}')
        answer = await driver.ask(BY_TYPE[upstream], stream=turn % 2 == 0, tools=True, effort="low")
        [(id, name, arguments)] = answer.calls
        told.append((answer.reasoning, name, arguments, answer.finish))
        driver.result(id, f"sunny, {turn} °C")
        answer = await driver.ask(BY_TYPE[upstream], stream=turn % 2 == 1, tools=True, effort="low")
        told.append((answer.reasoning, answer.text, answer.finish))
    calls = [(THOUGHT, "get_weather", {"city": f"Zürich 🏔 {turn}"}, "tool_calls") for turn in range(3)]
    texts = [(THOUGHT, f"The tool said: sunny, {turn} °C", "stop") for turn in range(3)]
    assert told == [each for pair in zip(calls, texts, strict=True) for each in pair]


@pairs
async def test_a_conversation_that_changes_its_upstream(driver, demo, client):
    """Five turns with tools and reasoning; each turn another upstream, none is given the reasoning of another."""
    types = sorted(BY_TYPE)
    finals = []
    for first in range(len(types)):
        driver.history.clear()
        for turn in range(5):
            model = BY_TYPE[types[(first + turn) % len(types)]]
            driver.say(f'call get_weather {{"city": "City {turn}"}}')
            answer = await driver.ask(model, stream=turn % 2 == 0, tools=True, effort="low")
            driver.result(answer.calls[0][0], f"weather {turn}")
            model = BY_TYPE[types[(first + turn + 1) % len(types)]]
            answer = await driver.ask(model, stream=turn % 2 == 1, tools=True, effort="low")
        finals.append(answer.text)
    assert finals == ["The tool said: weather 4"] * len(types)


@modes
@pytest.mark.parametrize("level", ["auto", "high"])
async def test_a_chat_client_that_forgets_the_reasoning_can_go_on(tmp_path, stream, level):
    """Claude with a budget refuses to think on in a tool loop whose thinking is missing: then it does not think."""
    demo = Demo(pace=0)
    models = [{"id": "claude-haiku-4-5-20251001", "type": "anthropic", "reasoning": level}]
    async with demo_gateway(tmp_path, demo, models=models) as gateway:
        driver: Any = DRIVERS["chat"](gateway.url)
        async with driver.client:
            driver.say('call get_weather {"city": "Bern"}')
            answer = await driver.ask(BY_TYPE["anthropic"], stream=stream, tools=True, effort="medium")
            assert answer.reasoning == THOUGHT
            driver.history[-1] = {k: v for k, v in driver.history[-1].items() if not k.startswith("reasoning")}
            driver.result(answer.calls[0][0], "sunny")
            answer = await driver.ask(BY_TYPE["anthropic"], stream=stream, tools=True, effort="medium")
            assert (answer.text, answer.reasoning) == ("The tool said: sunny", "")
            driver.say("and now?")
            assert (await driver.ask(BY_TYPE["anthropic"], stream=stream, tools=True, effort="medium")).reasoning
