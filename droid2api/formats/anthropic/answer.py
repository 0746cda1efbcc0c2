"""Answers of the Anthropic Messages format: reading an upstream's, writing a client's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from droid2api.errors import GatewayError
from droid2api.formats.anthropic.request import NAME
from droid2api.formats.decoder import TurnDecoder, read_citation
from droid2api.formats.upstream_error import read_error
from droid2api.hub.events import (
    BlockEnd,
    BlockStart,
    Citation,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    Start,
    State,
    Usage,
)
from droid2api.hub.request import (
    Request,
    Target,
)
from droid2api.hub.turn import FoldedTurn, fold
from droid2api.wire import sse
from droid2api.wire.fields import Json, count, inner, string

# -- an upstream's --------------------------------------------------------------------------------------------------

_FINISH: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def decode_response(body: Json, target: Target) -> list[Event]:
    """A whole answer as events: it is read as the stream that would have said the same."""
    return StreamDecoder(target).feed_values(_as_stream(body))


def _as_stream(body: Json) -> Iterator[Json]:
    yield {"type": "message_start", "message": body}
    for index, block in enumerate(body.get("content") or ()):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": body}
    yield {"type": "message_stop"}


class StreamDecoder(TurnDecoder):
    """Events of an upstream. Blocks of tools that the provider runs itself are left out; their text and URLs stay."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._family = target.family
        self._signature = ""
        self._citations: list[Citation] = []
        self._ignored: set[int] = set()
        self._usage: Json = {}
        self._stop: Json = {}

    def read_value(self, value: Json) -> None:
        match value["type"]:
            case "content_block_delta":
                if value["index"] not in self._ignored:
                    self._read_delta(value["index"], value["delta"])
            case "content_block_start":
                self._open(value["index"], value["content_block"])
            case "content_block_stop":
                self._close(value["index"])
            case "message_start":
                message = value["message"]
                self.turn.start(message.get("id") or "", message.get("model") or "")
                self._usage = dict(inner(message, "usage"))
            case "message_delta":
                self._stop = value["delta"]
                self._usage.update({name: count for name, count in inner(value, "usage").items() if count is not None})
            case "message_stop":
                self._finish()
            case "error":
                self.turn.fail(read_error(value))

    def _read_delta(self, index: int, delta: Json) -> None:
        match delta["type"]:
            case "text_delta":
                self.turn.delta(index, delta["text"])
            case "input_json_delta":
                self.turn.delta(index, delta["partial_json"])
            case "thinking_delta":
                self.turn.delta(index, delta["thinking"])
            case "signature_delta":
                self._signature += delta["signature"]
            case "citations_delta":
                self._cite(delta["citation"])

    def _cite(self, citation: Json) -> None:
        if found := read_citation(citation):
            self._citations.append(found)

    def _open(self, index: int, block: Json) -> None:
        match block["type"]:
            case "text":
                self.turn.open(index, BlockStart("text"))
                self.turn.delta(index, block.get("text") or "")
                for citation in block.get("citations") or ():
                    self._cite(citation)
            case "thinking":
                self.turn.open(index, BlockStart("reasoning"))
                self.turn.delta(index, block.get("thinking") or "")
                self._signature = string(block, "signature")
            case "redacted_thinking":
                self.turn.open(index, BlockStart("reasoning"))
                self.turn.end(index, BlockEnd(State(NAME, self._family, {"data": string(block, "data")})))
                self._ignored.add(index)
            case "tool_use":
                self.turn.open(index, BlockStart("tool_call", block["id"], block["name"]))
                if block.get("input"):
                    self.turn.delta(index, orjson.dumps(block["input"]).decode())
            case _:
                self._ignored.add(index)

    def _close(self, index: int) -> None:
        if index in self._ignored:
            return
        end = BlockEnd(citations=self._citations)
        if self._signature:
            end.state = State(NAME, self._family, {"signature": self._signature})
        self._signature, self._citations = "", []
        self.turn.end(index, end)

    def _finish(self) -> None:
        stop = self._stop
        raw = string(stop, "stop_reason")
        if explanation := string(inner(stop, "stop_details"), "explanation"):
            self.turn.open("refusal", BlockStart("refusal"))
            self.turn.delta("refusal", explanation)
        usage = decode_usage(self._usage)
        self.turn.finish(Finish(_FINISH.get(raw, "stop"), raw, usage, string(stop, "stop_sequence") or None))


def decode_usage(usage: Json) -> Usage:
    read, write = count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens")
    thinking = count(inner(usage, "output_tokens_details"), "thinking_tokens")
    return Usage(count(usage, "input_tokens") + read + write, count(usage, "output_tokens"), read, write, thinking)


# -- a client's -----------------------------------------------------------------------------------------------------

_STOP = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def _encode_usage(usage: Usage) -> Json:
    return {
        "input_tokens": max(0, usage.input - usage.cache_read - usage.cache_write),
        "output_tokens": usage.output,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": usage.cache_write,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }


def _encode_stop(finish: Finish, refused: bool) -> Json:
    reason = _STOP.get(finish.reason, "stop_sequence" if finish.stop_sequence else "end_turn")
    return {"stop_reason": "refusal" if refused else reason, "stop_sequence": finish.stop_sequence}


def _encode_block(start: BlockStart, text: str, state: State | None) -> Json:
    """A block as its start announces it, or whole where `text` and `state` are given."""
    match start.kind:
        case "text" | "refusal":
            return {"type": "text", "text": text}
        case "reasoning":
            if state and state.format == NAME and "data" in state.data:
                return {"type": "redacted_thinking", "data": state.data["data"]}
            return {"type": "thinking", "thinking": text, "signature": _encode_signature(state)}
        case "tool_call":
            return {"type": "tool_use", "id": start.id, "name": start.name, "input": _input_of(text)}


def _input_of(arguments: str) -> Json:
    """Arguments as an object; what is cut off in the middle (max_tokens) is left out."""
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {}
    return value if type(value) is dict else {}


def _encode_signature(state: State | None) -> str:
    """Opaque state in the place of a signature; an empty one is never accepted as genuine, and left out on replay."""
    if state is None:
        return ""
    return str(state.data["signature"]) if state.format == NAME else state.pack()


def _encode_citation(citation: Citation, text: str) -> Json:
    return {
        "type": "web_search_result_location",
        "url": citation.url,
        "title": citation.title,
        "cited_text": text[citation.start or 0 : citation.end],
        "encrypted_index": "",
    }


class StreamEncoder:
    """Events as server-sent events. `clock` gives seconds since the epoch, `new_id` a fresh id."""

    def __init__(self, request: Request, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._model = request.model
        self._id = f"msg_{new_id()}"
        self._index = -1
        self._head = b""
        self._block = BlockStart("text")
        self._text: list[str] = []
        self._held = False
        self._refused = False

    def encode(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if type(event) is Delta:
                if self._held:
                    self._announce(out)
                out.append(b"%b%b}}\n\n" % (self._head, orjson.dumps(event.text)))
                self._text.append(event.text)
            else:
                self._encode_other(event, out)
        return b"".join(out)

    def _encode_other(self, event: Event, out: list[bytes]) -> None:
        match event:
            case Start():
                message = _encode_message(self._id, event.model or self._model, [], Usage())
                _send(out, "message_start", message=message | {"stop_reason": None, "stop_sequence": None})
            case BlockStart():
                self._open(event, out)
            case BlockEnd():
                self._end(event, out)
            case Finish():
                delta, usage = _encode_stop(event, self._refused), _encode_usage(event.usage)
                _send(out, "message_delta", delta=delta, usage=usage)
                _send(out, "message_stop")
            case Failed():
                out.append(encode_stream_error(event.error, b""))
            case Delta():  # pragma: no cover - handled before
                pass

    def _open(self, block: BlockStart, out: list[bytes]) -> None:
        self._block, self._text = block, []
        self._index += 1
        self._refused = self._refused or block.kind == "refusal"
        name, field = {
            "text": ("text_delta", "text"),
            "refusal": ("text_delta", "text"),
            "reasoning": ("thinking_delta", "thinking"),
            "tool_call": ("input_json_delta", "partial_json"),
        }[block.kind]
        self._head = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'
            % (self._index, name.encode(), field.encode())
        )
        self._held = block.kind == "reasoning"  # only its end tells whether it is a redacted one
        if not self._held:
            self._announce(out)

    def _announce(self, out: list[bytes], state: State | None = None) -> None:
        self._held = False
        block = _encode_block(self._block, "", state if state and "data" in state.data else None)
        _send(out, "content_block_start", index=self._index, content_block=block)

    def _end(self, end: BlockEnd, out: list[bytes]) -> None:
        if self._held:
            self._announce(out, end.state)
        redacted = end.state and end.state.format == NAME and "data" in end.state.data
        if end.state and not redacted:
            delta: Json = {"type": "signature_delta", "signature": _encode_signature(end.state)}
            _send(out, "content_block_delta", index=self._index, delta=delta)
        for citation in end.citations:
            delta = {"type": "citations_delta", "citation": _encode_citation(citation, "".join(self._text))}
            _send(out, "content_block_delta", index=self._index, delta=delta)
        _send(out, "content_block_stop", index=self._index)


def _send(out: list[bytes], kind: str, /, **fields: Any) -> None:
    out.append(sse.encode(kind.encode(), orjson.dumps({"type": kind, **fields})))


def _encode_message(id: str, model: str, content: list[Json], usage: Usage) -> Json:
    message = {"id": id, "type": "message", "role": "assistant", "model": model, "content": content}
    return message | {"usage": _encode_usage(usage)}


def encode_stream_error(error: GatewayError, last: bytes) -> bytes:
    """The error in a stream whose last event was `last`."""
    return sse.encode(b"error", orjson.dumps(encode_error(error)))


def encode_response(
    events: list[Event], request: Request, clock: Callable[[], float], new_id: Callable[[], str]
) -> Json:
    """A whole answer. Raises the error of a failed turn."""
    turn = fold(events)
    message = _encode_message(f"msg_{new_id()}", turn.start.model or request.model, _content(turn), turn.finish.usage)
    return message | _encode_stop(turn.finish, any(block.start.kind == "refusal" for block in turn.blocks))


def _content(turn: FoldedTurn) -> list[Json]:
    content = []
    for block in turn.blocks:
        encoded = _encode_block(block.start, block.text, block.end.state)
        if block.end.citations:
            encoded["citations"] = [_encode_citation(citation, block.text) for citation in block.end.citations]
        content.append(encoded)
    return content


_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def encode_error(error: GatewayError) -> Json:
    """The error envelope. An overflow is worded as clients of this format look for it to compact their history."""
    kind = _ERROR_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    message = error.message
    if error.code == "context_length_exceeded" and not message.startswith("prompt is too long"):
        counts = sorted(int(count.replace(",", "")) for count in re.findall(r"\d[\d,]{3,}", message))
        limits = f": {counts[-1]} tokens > {counts[0]} maximum" if len(counts) > 1 else ""
        message = f"prompt is too long{limits}"
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}
