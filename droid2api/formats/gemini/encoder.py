"""Answers for a client that speaks the Gemini format.

To such a client go `data:` lines and blank lines only: a comment or a named event breaks several of them. A signature
stands on the next part that can have one, a call or a text; none is on a thought.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

import orjson

from droid2api.errors import GatewayError
from droid2api.formats.gemini.errors import encode_error
from droid2api.formats.gemini.words import NAME, encode_state
from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Event, Failed, Finish, Start, Usage
from droid2api.hub.request import Request
from droid2api.hub.turn import fold
from droid2api.wire.fields import Json

_FINISH = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}


class _PartWriter:
    """Writes blocks as parts. What is state of a part's own rides on it; that of reasoning, with its text, on the next
    part that can be signed, since clients do not send thoughts back.
    """

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._start = BlockStart("text")
        self._pieces: list[str] = []
        self._said = 0
        self._refused = False
        self._malformed = ""
        """The name of a call whose arguments are cut off, or no JSON: such a client runs what it is given."""
        self._supports: list[Json] = []
        self._chunks: list[Json] = []

    def begin(self, start: BlockStart) -> list[Json]:
        self._start, self._pieces = start, []
        self._refused = self._refused or start.kind == "refusal"
        if start.kind in ("text", "refusal") and start.state:
            self._waiting.append(encode_state(start.state.for_block(start)))
        return []

    def text(self, text: str) -> list[Json]:
        self._pieces.append(text)
        match self._start.kind:
            case "tool_call":
                return []
            case "reasoning":
                return [{"text": text, "thought": True}]
            case "text" | "refusal":
                return self._signed({"text": text}) if self._waiting else [{"text": text}]
            case _:
                assert_never(self._start.kind)

    def end(self, end: BlockEnd) -> list[Json]:
        start, text = self._start, "".join(self._pieces)
        state = start.state or end.state
        match start.kind:
            case "tool_call":
                if (given := _input_of(text)) is None:
                    self._malformed = self._malformed or start.name
                    return []
                call: Json = {"id": start.id, "name": start.name, "args": given}
                bound = state and (state if state.format == NAME else state.for_block(start))
                return self._signed({"functionCall": call}, encode_state(bound) if bound else None)
            case "reasoning":
                if state:
                    self._waiting.append(encode_state(replace(state, data=state.data | {"text": text})))
                return []
            case "text" | "refusal":
                parts: list[Json] = []
                if end.state:
                    parts = self._signed({"text": ""}, encode_state(end.state.for_block(start)))
                self._cite(end.citations, text)
                return parts
            case _:
                assert_never(start.kind)

    def finish(self, finish: Finish) -> Json:
        """The last candidate, with what is still to be told."""
        parts = self._signed({"text": ""}) if self._waiting else [{"text": ""}]
        reason = "SAFETY" if self._refused else _FINISH.get(finish.reason, "STOP")
        candidate = _candidate(parts) | {"finishReason": reason}
        if self._malformed and reason == "STOP":
            words = f"Malformed function call: the arguments of {self._malformed} are not valid JSON."
            candidate |= {"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": words}
        if not self._chunks:
            return candidate
        grounding = {"groundingChunks": self._chunks, "groundingSupports": self._supports}
        return candidate | {"groundingMetadata": grounding}

    def _signed(self, part: Json, own: str | None = None) -> list[Json]:
        """The part with its own signature, else with the last that waits; each other one has an empty text."""
        signatures, self._waiting = [*self._waiting, *([own] if own else [])], []
        carriers = [{"text": "", "thoughtSignature": signature} for signature in signatures[:-1]]
        return [*carriers, part | ({"thoughtSignature": signatures[-1]} if signatures else {})]

    def _cite(self, citations: list[Citation], text: str) -> None:
        """Places are told in bytes of all text that was said."""
        for citation in citations:
            self._chunks.append({"web": {"uri": citation.url, "title": citation.title}})
            cited = text[citation.start or 0 : citation.end]
            start = self._said + len(text[: citation.start or 0].encode())
            segment = {"startIndex": start, "endIndex": start + len(cited.encode()), "text": cited}
            self._supports.append({"segment": segment, "groundingChunkIndices": [len(self._chunks) - 1]})
        self._said += len(text.encode())


def _input_of(arguments: str) -> Json | None:
    """Arguments as an object, other JSON wrapped into one; None for what is cut off in the middle (max_tokens)."""
    try:
        value = orjson.loads(arguments) if arguments.strip() else {}
    except orjson.JSONDecodeError:
        return None
    return value if type(value) is dict else {} if value is None else {"arguments": value}


def _candidate(parts: list[Json]) -> Json:
    return {"content": {"role": "model", "parts": parts}, "index": 0}


def _encode_usage(usage: Usage) -> Json:
    told = {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": max(0, usage.output - usage.reasoning),
        "thoughtsTokenCount": usage.reasoning,
        "cachedContentTokenCount": usage.cache_read,
    }
    return told | {"totalTokenCount": usage.input + max(usage.output, usage.reasoning)}


class StreamEncoder:
    """Events as server-sent events, each with one part. `new_id` gives a fresh id."""

    def __init__(self, request: Request, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._model = request.model
        self._id = new_id()
        self._parts = _PartWriter()
        self._tail = b""

    def encode(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            match event:
                case Delta():
                    self._send(self._parts.text(event.text), out)
                case Start():
                    about = {"modelVersion": event.model or self._model, "responseId": self._id}
                    self._tail = b'],"role":"model"},"index":0}],%b\r\n\r\n' % orjson.dumps(about)[1:]
                case BlockStart():
                    self._send(self._parts.begin(event), out)
                case BlockEnd():
                    self._send(self._parts.end(event), out)
                case Finish():
                    candidates, usage = [self._parts.finish(event)], _encode_usage(event.usage)
                    last = orjson.dumps({"candidates": candidates, "usageMetadata": usage})
                    out.append(b"data: %b,%b" % (last[:-1], self._tail.partition(b"}],")[2]))
                case Failed():
                    out.append(encode_stream_error(event.error, b""))
                case _:
                    assert_never(event)
        return b"".join(out)

    def _send(self, parts: list[Json], out: list[bytes]) -> None:
        for part in parts:
            out.append(b'data: {"candidates":[{"content":{"parts":[%b%b' % (orjson.dumps(part), self._tail))


def encode_stream_error(error: GatewayError, last: bytes) -> bytes:
    """The error in a stream: a bare object after the last event, as Google sends it and its clients look for it."""
    return orjson.dumps(encode_error(error)) + b"\r\n"


def encode_response(
    events: list[Event], request: Request, clock: Callable[[], float], new_id: Callable[[], str]
) -> Json:
    """A whole answer. Raises the error of a failed turn."""
    turn, writer = fold(events), _PartWriter()
    parts: list[Json] = []
    for block in turn.blocks:
        parts += writer.begin(block.start)
        parts += writer.text(block.text) if block.text else []
        parts += writer.end(block.end)
    last = writer.finish(turn.finish)
    parts += [part for part in last["content"]["parts"] if part != {"text": ""} or not parts]
    return {
        "candidates": [last | _candidate(parts)],
        "usageMetadata": _encode_usage(turn.finish.usage),
        "modelVersion": turn.start.model or request.model,
        "responseId": new_id(),
    }
