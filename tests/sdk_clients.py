"""One driver for each client format, around its official SDK with strict validation on.

A driver keeps a conversation as a user of that SDK would: what the SDK gave back goes into the next request as it is.
"""

from __future__ import annotations

import base64
import json
import ssl
import zlib
from dataclasses import dataclass, field
from typing import Any, ClassVar

import anthropic
import openai
from google import genai
from google.genai import types

Json = dict[str, Any]


def png() -> str:
    """A valid picture of one pixel, base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = b"\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00"
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\x00\x00")), chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


PNG = png()
SCHEMA: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def strict(sdk: Any) -> Json:
    """What each SDK's client is made with. Certificates take it 20 milliseconds to load, and loopback needs none."""
    http_client = sdk.DefaultAsyncHttpxClient(verify=False)
    options = {"api_key": "client-key", "max_retries": 0, "http_client": http_client}
    return options | {"_strict_response_validation": True}


@dataclass
class Answer:
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[tuple[str, str, Json]] = field(default_factory=list)
    """(id, name, arguments)"""
    finish: str = ""
    tokens: tuple[int, int, int] = (0, 0, 0)
    """input with the cached ones, output, cached"""


class ChatDriver:
    path = "/v1/chat/completions"

    def __init__(self, url: str) -> None:
        self.client = openai.AsyncOpenAI(base_url=f"{url}/v1", **strict(openai))
        self.history: list[Any] = []

    def say(self, text: str, image: bool = False) -> None:
        parts: list[Json] = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]
        self.history.append({"role": "user", "content": [*parts, {"type": "text", "text": text}] if image else text})

    def system(self, text: str) -> None:
        self.history.append({"role": "system", "content": text})

    def result(self, id: str, text: str, image: bool = False) -> None:
        content: Any = [{"type": "text", "text": text}] if image else text
        self.history.append({"role": "tool", "tool_call_id": id, "content": content})

    async def ask(self, model: str, *, stream: bool, **options: Any) -> Answer:
        arguments: Json = {"model": model, "messages": self.history}
        if options.get("tools"):
            function = {"name": "get_weather", "description": "The weather", "parameters": SCHEMA}
            arguments["tools"] = [{"type": "function", "function": function}]
        if effort := options.get("effort"):
            arguments["reasoning_effort"] = effort
        if options.get("schema"):
            named = {"name": "place", "schema": SCHEMA, "strict": True}
            arguments["response_format"] = {"type": "json_schema", "json_schema": named}
        if limit := options.get("max_tokens"):
            arguments["max_completion_tokens"] = limit
        if stop := options.get("stop"):
            arguments["stop"] = [stop]
        if stream:
            message, finish, usage = await self._stream(arguments)
        else:
            completion = await self.client.chat.completions.create(**arguments)
            message = completion.choices[0].message.model_dump(exclude_none=True)
            finish, usage = completion.choices[0].finish_reason, completion.usage
        self.history.append(message)
        calls = [
            (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls") or ()
        ]
        tokens = (usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details.cached_tokens)
        reasoning, text = message.get("reasoning_content") or "", message.get("content") or ""
        return Answer(text, reasoning, message.get("refusal") or "", calls, finish, tokens)

    async def _stream(self, arguments: Json) -> tuple[Json, str, Any]:
        message: Json = {"role": "assistant", "content": None}
        calls: dict[int, Json] = {}
        finish, usage = "", None
        options = {"include_usage": True}
        async for chunk in await self.client.chat.completions.create(**arguments, stream=True, stream_options=options):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                delta = choice.delta.model_dump(exclude_none=True)
                for name in ("content", "reasoning_content", "refusal"):
                    if delta.get(name):
                        message[name] = (message.get(name) or "") + delta[name]
                message.setdefault("reasoning_details", []).extend(delta.get("reasoning_details") or ())
                for call in delta.get("tool_calls") or ():
                    if call["index"] not in calls:
                        calls[call["index"]] = {name: value for name, value in call.items() if name != "index"}
                    else:
                        calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
        if calls:
            message["tool_calls"] = list(calls.values())
        return message, finish, usage


class ResponsesDriver:
    path = "/v1/responses"

    def __init__(self, url: str) -> None:
        self.client = openai.AsyncOpenAI(base_url=f"{url}/v1", **strict(openai))
        self.history: list[Any] = []

    def say(self, text: str, image: bool = False) -> None:
        parts: list[Json] = [{"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}]
        content = [*parts, {"type": "input_text", "text": text}] if image else text
        self.history.append({"role": "user", "content": content})

    def system(self, text: str) -> None:
        self.history.append({"role": "developer", "content": text})

    def result(self, id: str, text: str, image: bool = False) -> None:
        picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
        output: Any = [{"type": "input_text", "text": text}, picture] if image else text
        self.history.append({"type": "function_call_output", "call_id": id, "output": output})

    async def ask(self, model: str, *, stream: bool, **options: Any) -> Answer:
        arguments: Json = {"model": model, "input": self.history, "store": False}
        arguments["include"] = ["reasoning.encrypted_content"]
        if options.get("tools"):
            tool = {"type": "function", "name": "get_weather", "description": "The weather", "parameters": SCHEMA}
            arguments["tools"] = [tool | {"strict": True}]
        if effort := options.get("effort"):
            arguments["reasoning"] = {"effort": effort, "summary": "auto"}
        if options.get("schema"):
            arguments["text"] = {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}}
        if limit := options.get("max_tokens"):
            arguments["max_output_tokens"] = limit
        if stream:
            numbers, response = [], None
            async for event in await self.client.responses.create(**arguments, stream=True):
                numbers.append(event.sequence_number)
                if event.type in ("response.completed", "response.incomplete", "response.failed"):
                    response = event.response
            assert numbers == list(range(len(numbers)))
        else:
            response = await self.client.responses.create(**arguments)
        return self._read(response)

    def _read(self, response: Any) -> Answer:
        answer = Answer()
        if response.error:
            # The HTTP request is not at hand here, and no test reads it.
            raise openai.APIError(response.error.message, request=None, body=None)  # type: ignore[arg-type]
        for item in response.output:
            self.history.append(item.model_dump(exclude_none=True, exclude={"status"}))
            if item.type == "message":
                for part in item.content:
                    if part.type == "output_text":
                        answer.text += part.text
                    else:
                        answer.refusal += part.refusal
            elif item.type == "reasoning":
                answer.reasoning += "".join(part.text for part in item.summary)
            elif item.type == "function_call":
                answer.calls.append((item.call_id, item.name, json.loads(item.arguments)))
        reasons = {"max_output_tokens": "length", "content_filter": "content_filter"}
        answer.finish = "tool_calls" if answer.calls else "stop"
        if response.incomplete_details:
            answer.finish = reasons[response.incomplete_details.reason]
        usage = response.usage
        answer.tokens = (usage.input_tokens, usage.output_tokens, usage.input_tokens_details.cached_tokens)
        return answer


class AnthropicDriver:
    path = "/v1/messages"
    finishes: ClassVar = {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "tool_use": "tool_calls",
        "refusal": "content_filter",
    }
    budgets: ClassVar = {"low": 4096, "medium": 12288, "high": 24576}

    def __init__(self, url: str) -> None:
        self.client = anthropic.AsyncAnthropic(base_url=url, **strict(anthropic))
        self.history: list[Any] = []
        self.prompt = ""

    def say(self, text: str, image: bool = False) -> None:
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        parts: list[Json] = [{"type": "image", "source": source}] if image else []
        self.history.append({"role": "user", "content": [*parts, {"type": "text", "text": text}]})

    def system(self, text: str) -> None:
        self.prompt = text

    def result(self, id: str, text: str, image: bool = False) -> None:
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        parts: list[Json] = [{"type": "image", "source": source}] if image else []
        block = {"type": "tool_result", "tool_use_id": id, "content": [{"type": "text", "text": text}, *parts]}
        last = self.history[-1]
        if last["role"] == "user" and last["content"][0]["type"] == "tool_result":
            last["content"].append(block)
        else:
            self.history.append({"role": "user", "content": [block]})

    async def ask(self, model: str, *, stream: bool, **options: Any) -> Answer:
        arguments: Json = {"model": model, "messages": self.history, "max_tokens": options.get("max_tokens") or 30000}
        if self.prompt:
            arguments["system"] = self.prompt
        if options.get("tools"):
            tool = {"name": "get_weather", "description": "The weather", "input_schema": SCHEMA}
            arguments["tools"] = [tool]
        if effort := options.get("effort"):
            arguments["thinking"] = {"type": "enabled", "budget_tokens": self.budgets[effort]}
        if options.get("schema"):
            arguments["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
        if stop := options.get("stop"):
            arguments["stop_sequences"] = [stop]
        if stream:
            async with self.client.messages.stream(**arguments) as running:
                message = await running.get_final_message()
            assert message.stop_reason, "the stream ended without its end"
        else:
            message = await self.client.with_options(timeout=30).messages.create(**arguments)
        content = [block.model_dump(exclude_none=True) for block in message.content]
        self.history.append({"role": "assistant", "content": content})
        answer = Answer(finish=self.finishes[message.stop_reason])
        for block in message.content:
            if block.type == "text":
                answer.text += block.text
            elif block.type == "thinking":
                answer.reasoning += block.thinking
            elif block.type == "tool_use":
                answer.calls.append((block.id, block.name, block.input))
        usage = message.usage
        read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
        answer.tokens = (usage.input_tokens + read + written, usage.output_tokens, read)
        return answer


def run_example(code: str) -> None:
    """Run a program of the docs, and close its client, which the program leaves to its own end."""
    names: dict[str, Any] = {}
    exec(code, names)
    names["client"].close()


NO_TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""google-genai would read the system's certificates for each client, in 150 milliseconds; loopback needs none."""


class GeminiDriver:
    path = "/v1beta/models/{model}:generateContent"
    finishes: ClassVar = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter"}

    def __init__(self, url: str) -> None:
        trust = {"client_args": {"verify": NO_TRUST}, "async_client_args": {"verify": NO_TRUST, "ssl": NO_TRUST}}
        options = types.HttpOptions(base_url=url, **trust)
        self._sdk = genai.Client(api_key="client-key", http_options=options)  # speaks /v1
        self.client = self._sdk.aio
        self.history: list[Any] = []
        self.prompt = ""

    def say(self, text: str, image: bool = False) -> None:
        picture = [types.Part.from_bytes(data=base64.b64decode(PNG), mime_type="image/png")] if image else []
        self.history.append(types.Content(role="user", parts=[*picture, types.Part.from_text(text=text)]))

    def system(self, text: str) -> None:
        self.prompt = text

    def result(self, id: str, text: str, image: bool = False) -> None:
        name = next(part.function_call.name for part in _parts(self.history) if _is_call(part, id))
        blob = types.FunctionResponseBlob(mime_type="image/png", data=base64.b64decode(PNG))
        media = [types.FunctionResponsePart(inline_data=blob)] if image else None
        response = types.FunctionResponse(id=id, name=name, response={"result": text}, parts=media)
        part = types.Part(function_response=response)
        if self.history[-1].role == "user":
            self.history[-1].parts.append(part)
        else:
            self.history.append(types.Content(role="user", parts=[part]))

    async def ask(self, model: str, *, stream: bool, **options: Any) -> Answer:
        config = types.GenerateContentConfig(system_instruction=self.prompt or None)
        if options.get("tools"):
            function = types.FunctionDeclaration(name="get_weather", description="The weather")
            function.parameters_json_schema = SCHEMA
            config.tools = [types.Tool(function_declarations=[function])]
        if effort := options.get("effort"):
            level = types.ThinkingLevel(effort.upper())
            config.thinking_config = types.ThinkingConfig(thinking_level=level, include_thoughts=True)
        if options.get("schema"):
            config.response_mime_type, config.response_json_schema = "application/json", SCHEMA
        config.max_output_tokens = options.get("max_tokens")
        config.stop_sequences = [options["stop"]] if options.get("stop") else None
        asked: Json = {"model": model, "contents": self.history, "config": config}
        if stream:
            answers = [answer async for answer in await self.client.models.generate_content_stream(**asked)]
        else:
            answers = [await self.client.models.generate_content(**asked)]
        return self._read(answers)

    def _read(self, answers: list[Any]) -> Answer:
        answer = Answer()
        for each in answers:
            sent = each.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"sdk_http_response"})
            types.GenerateContentResponse.model_validate(sent, extra="forbid")
            candidate = each.candidates[0]
            self.history.append(candidate.content)  # one for each event, as the SDK's own chats have it
            for part in candidate.content.parts:
                if part.function_call:
                    call = part.function_call
                    answer.calls.append((call.id, call.name, call.args))
                elif part.thought:
                    answer.reasoning += part.text
                else:
                    answer.text += part.text
        answer.finish = self.finishes[candidate.finish_reason.value]
        if answer.calls and answer.finish == "stop":
            answer.finish = "tool_calls"
        usage = each.usage_metadata
        output = usage.candidates_token_count + (usage.thoughts_token_count or 0)
        answer.tokens = (usage.prompt_token_count, output, usage.cached_content_token_count)
        return answer


def _parts(history: list[Any]) -> list[Any]:
    return [part for content in history for part in content.parts]


def _is_call(part: Any, id: str) -> bool:
    return bool(part.function_call) and part.function_call.id == id


DRIVERS = {"chat": ChatDriver, "responses": ResponsesDriver, "anthropic": AnthropicDriver, "gemini": GeminiDriver}
