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
from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Event, Failed, Finish, Start, State, Usage
from droid2api.hub.request import Request
from droid2api.hub.turn import fold
from droid2api.wire.fields import Json
from droid2api.wire.places import bytes_before

MOST_CITED = 1000
"""Characters of cited text that are given with its place: many citations may be of the whole of a long answer."""
_EVENT = b'data: {"candidates":[{"content":{"parts":[%b],"role":"model"},"index":0}],%b\r\n\r\n'
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

    def write(self, event: BlockStart | Delta | BlockEnd) -> list[Json]:
        match event:
            case Delta(text):
                self._pieces.append(text)
                if self._start.kind in ("text", "refusal"):
                    return self._signed({"text": text}) if self._waiting else [{"text": text}]
                return [] if self._start.kind == "tool_call" else [{"text": text, "thought": True}]
            case BlockStart():
                self._start, self._pieces = event, []
                self._refused = self._refused or event.kind == "refusal"
                if event.kind in ("text", "refusal") and event.state:
                    self._waiting.append(encode_state(event.state.for_block(event)))
                return []
            case BlockEnd():
                return self._end(event)
            case _:
                assert_never(event)

    def _end(self, end: BlockEnd) -> list[Json]:
        start, text, state = self._start, "".join(self._pieces), self._start.state or end.state
        if start.kind == "reasoning":
            if state:
                self._waiting.append(encode_state(replace(state, data=state.data | {"text": text})))
            return []
        if start.kind == "tool_call":
            if (given := _input_of(text)) is None:
                self._malformed = self._malformed or start.name
                return []
            call: Json = {"id": start.id, "name": start.name, "args": given}
            bound = state if state is None or state.format == NAME else state.for_block(start)
            return self._signed({"functionCall": call}, bound)
        self._cite(end.citations, text)
        return self._signed({"text": ""}, end.state.for_block(start)) if end.state else []

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

    def _signed(self, part: Json, own: State | None = None) -> list[Json]:
        """The part with its own state, else with the last that waits; each other one has an empty text."""
        signatures, self._waiting = [*self._waiting, *([encode_state(own)] if own else [])], []
        parts: list[Json] = [{"text": "", "thoughtSignature": signature} for signature in signatures]
        return [*parts[:-1], part | {"thoughtSignature": signatures[-1]}] if parts else [part]

    def _cite(self, citations: list[Citation], text: str) -> None:
        """Places are told in bytes of all text that was said."""
        places = [
            (min(citation.start or 0, len(text)), len(text) if citation.end is None else min(citation.end, len(text)))
            for citation in citations
        ]
        sizes = bytes_before(text, {place for both in places for place in both})
        for citation, (start, end) in zip(citations, places, strict=True):
            self._chunks.append({"web": {"uri": citation.url, "title": citation.title}})
            first, last = self._said + sizes[start], self._said + sizes[max(start, end)]
            cited = text[start : min(end, start + MOST_CITED)]
            segment = {"startIndex": first, "endIndex": last, "text": cited}
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
        self._about = b""

    def encode(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            match event:
                case Delta() | BlockStart() | BlockEnd():
                    for part in self._parts.write(event):
                        out.append(_EVENT % (orjson.dumps(part), self._about))
                case Start():
                    about = {"modelVersion": event.model or self._model, "responseId": self._id}
                    self._about = orjson.dumps(about)[1:]
                case Finish():
                    last = {"candidates": [self._parts.finish(event)], "usageMetadata": _encode_usage(event.usage)}
                    out.append(b"data: %b,%b\r\n\r\n" % (orjson.dumps(last)[:-1], self._about))
                case Failed():
                    out.append(encode_stream_error(event.error, b""))
                case _:
                    assert_never(event)
        return b"".join(out)


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
        parts += writer.write(block.start)
        parts += writer.write(Delta(block.text)) if block.text else []
        parts += writer.write(block.end)
    last = writer.finish(turn.finish)
    parts += [part for part in last["content"]["parts"] if part != {"text": ""} or not parts]
    return {
        "candidates": [last | _candidate(parts)],
        "usageMetadata": _encode_usage(turn.finish.usage),
        "modelVersion": turn.start.model or request.model,
        "responseId": new_id(),
    }
