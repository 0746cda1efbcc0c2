"""What goes over the wire: answers made beforehand with the gateway's own encoders, and requests.

The deltas of a paced stream hold the moment of their sending, so that whoever receives them knows how long they took.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

import orjson

from droid2api.formats import Format, anthropic, gemini, responses
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Event, Finish, Start, Usage
from droid2api.hub.request import Request, Target

Json = dict[str, Any]

STAMP = re.compile(rb"t=(\d{10}\.\d{6})")
_EVENT = re.compile(rb".+?(?:\r?\n){2}", re.DOTALL)
_PLACE = b"t=0000000000.000000"


@dataclass(frozen=True)
class Scenario:
    """What the upstream answers: `deltas` of text, then `arguments` of a tool call; `pace` is the seconds between.

    Unpaced, it writes as many events `together`.
    """

    name: str
    stream: bool = True
    deltas: int = 0
    arguments: int = 0
    pace: float = 0.0
    together: int = 1

    def events(self) -> list[Event]:
        words = (f"{_PLACE.decode()} " if self.pace else f"token{number} " for number in range(self.deltas))
        events: list[Event] = [Start("answer-1", "model"), BlockStart("text"), *map(Delta, words), BlockEnd()]
        if self.arguments:
            events.append(BlockStart("tool_call", "call_1", "Edit"))
            parts = ['{"file_path":"/src/main.py","new_string":"', *["value = "] * (self.arguments - 2), '"}']
            events += [*(Delta(part) for part in parts), BlockEnd()]
        return [*events, Finish("tool_calls" if self.arguments else "stop", usage=Usage(1200, 200))]


SHORT = Scenario("short", stream=False, deltas=8)
UNPACED = Scenario("unpaced", deltas=200)
BURST = Scenario("burst", deltas=200, together=10)
BRIEF = Scenario("brief", deltas=3, pace=0.02)
PACED = Scenario("paced", deltas=64, pace=0.02)
SLOW = Scenario("slow", deltas=64, pace=0.5)
TURN = Scenario("turn", deltas=100, arguments=200)
SCENARIOS = {scenario.name: scenario for scenario in (SHORT, UNPACED, BURST, BRIEF, PACED, SLOW, TURN)}


# -- answers --------------------------------------------------------------------------------------------------------


def answer_events(scenario: Scenario, format: Format) -> list[bytes]:
    """The server-sent events of a streamed answer, each by itself."""
    ids = itertools.count()
    encoder = format.StreamEncoder(Request("model", [], stream=True), lambda: 1.7e9, lambda: f"{next(ids):024}")
    return _EVENT.findall(encoder.encode(scenario.events()))


def answer_json(scenario: Scenario, format: Format) -> bytes:
    request = Request("model", [])
    return orjson.dumps(format.encode_response(scenario.events(), request, lambda: 1.7e9, lambda: "0" * 24))


def split_stamp(event: bytes) -> tuple[bytes, bytes] | None:
    """What stands before and after the moment in a stamped event; only the first delta's copy is one."""
    before, found, after = event.partition(_PLACE)
    return (before + b"t=", after) if found and _PLACE not in after else None


# -- requests -------------------------------------------------------------------------------------------------------


def model_id(upstream: Format, scenario: Scenario) -> str:
    return f"{upstream.TYPE}-{scenario.name}"


def small_request(format: Format, model: str, stream: bool) -> bytes:
    text = "Say something short."
    body: Json = {"model": model, "stream": stream}
    if format is responses:
        body["input"] = text
    elif format is gemini:
        body["contents"] = [{"role": "user", "parts": [{"text": text}]}]
    else:
        body["messages"] = [{"role": "user", "content": text}]
    if format is anthropic:
        body["max_tokens"] = 1024
    return orjson.dumps(body)


def agent_request(format: Format, model: str) -> bytes:
    """About 90 KB, of the shape that Claude Code sends: system blocks, two dozen tools, a history with tool results."""
    line = 'The quick brown fox jumps over the lazy dog, and `code` with "quotes" follows.\n'
    schema = {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": line} for name in ("file_path", "old_string", "new_string")
        },
        "required": ["file_path"],
    }
    messages: list[Json] = [{"role": "user", "content": [{"type": "text", "text": line * 4}]}]
    for turn in range(14):
        call = {"type": "tool_use", "id": f"toolu_{turn}", "name": "Read0", "input": {"file_path": f"/src/{turn}.py"}}
        result = {"type": "tool_result", "tool_use_id": f"toolu_{turn}", "content": line * 24}
        messages.append({"role": "assistant", "content": [{"type": "text", "text": line}, call]})
        messages.append({"role": "user", "content": [result]})
    body: Json = {
        "model": model,
        "stream": True,
        "max_tokens": 32000,
        "system": [{"type": "text", "text": line * 180, "cache_control": {"type": "ephemeral"}}],
        "messages": messages,
        "tools": [{"name": f"Read{number}", "description": line * 20, "input_schema": schema} for number in range(22)],
    }
    return _in_format(format, body)


def image_request(format: Format, model: str) -> bytes:
    """10 MB: four images as base64."""
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoA" + "A" * 2_499_988}
    content: list[Json] = [{"type": "image", "source": source} for _ in range(4)]
    content.append({"type": "text", "text": "What do they show?"})
    message = {"role": "user", "content": content}
    return _in_format(format, {"model": model, "stream": False, "max_tokens": 1024, "messages": [message]})


def _in_format(format: Format, body: Json) -> bytes:
    if format is not anthropic:
        asked = {"model": body["model"], "stream": body["stream"]}  # Gemini's encoder leaves both to the path
        body = asked | format.encode_request(anthropic.decode_request(body), Target(body["model"])).body
    return orjson.dumps(body)


def http_request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body
