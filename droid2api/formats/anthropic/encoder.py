"""Answers for a client that speaks the Anthropic Messages format."""

from collections.abc import Callable
from typing import Any, assert_never

import orjson

from droid2api.errors import GatewayError
from droid2api.formats.anthropic.request import NAME
from droid2api.formats.overflow import overflow_counts
from droid2api.formats.upstream_error import ERROR_TYPES
from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Event, Failed, Finish, Start, State, Usage
from droid2api.hub.request import Request
from droid2api.hub.turn import FoldedTurn, fold
from droid2api.wire import sse
from droid2api.wire.fields import Json

MOST_CITED = 150
"""Characters of cited text that the API gives."""
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
            if state and _is_redacted(state):
                return {"type": "redacted_thinking", "data": state.data["data"]}
            return {"type": "thinking", "thinking": text, "signature": _encode_signature(state)}
        case "tool_call":
            return {"type": "tool_use", "id": start.id, "name": start.name, "input": _input_of(text)}
        case _:
            assert_never(start.kind)


def _is_redacted(state: State) -> bool:
    return state.format == NAME and "data" in state.data


def _carrier(start: BlockStart, state: State | None) -> Json | None:
    """State of a block that has no place for it, as an empty thinking block beside it: clients send those back."""
    if state is None or start.kind == "reasoning":
        return None
    return {"type": "thinking", "thinking": "", "signature": state.for_block(start).pack()}


def _input_of(arguments: str) -> Json:
    """Arguments as an object, wrapped into one if need be; what is cut off in the middle (max_tokens) is left out."""
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {}
    return value if type(value) is dict else {"arguments": value} if value is not None else {}


def _encode_signature(state: State | None) -> str:
    """Opaque state in the place of a signature; an empty one is never accepted as genuine, and left out on replay."""
    if state is None:
        return ""
    return str(state.data["signature"]) if state.format == NAME and "signature" in state.data else state.pack()


def _encode_citation(citation: Citation, text: str) -> Json:
    start = citation.start or 0
    end = start + MOST_CITED if citation.end is None else min(citation.end, start + MOST_CITED)
    return {
        "type": "web_search_result_location",
        "url": citation.url,
        "title": citation.title,
        "cited_text": text[start:end],
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
                continue
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
                case _:
                    assert_never(event)
        return b"".join(out)

    def _open(self, block: BlockStart, out: list[bytes]) -> None:
        self._send_carrier(_carrier(block, block.state), out)
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
        self._held = block.kind == "reasoning" and block.state is None  # only its end tells if it is a redacted one
        if not self._held:
            self._announce(out, block.state)

    def _announce(self, out: list[bytes], state: State | None = None) -> None:
        self._held = False
        block = _encode_block(self._block, "", state if state and _is_redacted(state) else None)
        _send(out, "content_block_start", index=self._index, content_block=block)

    def _end(self, end: BlockEnd, out: list[bytes]) -> None:
        state = self._block.state or end.state
        if self._held:
            self._announce(out, state)
        if state and self._block.kind == "reasoning" and not _is_redacted(state):
            self._send_delta({"type": "signature_delta", "signature": _encode_signature(state)}, out)
        if end.citations:
            text = "".join(self._text)
            for citation in end.citations:
                self._send_delta({"type": "citations_delta", "citation": _encode_citation(citation, text)}, out)
        _send(out, "content_block_stop", index=self._index)
        self._send_carrier(_carrier(self._block, end.state), out)

    def _send_delta(self, delta: Json, out: list[bytes]) -> None:
        _send(out, "content_block_delta", index=self._index, delta=delta)

    def _send_carrier(self, carrier: Json | None, out: list[bytes]) -> None:
        if carrier:
            self._index += 1
            _send(out, "content_block_start", index=self._index, content_block=carrier | {"signature": ""})
            self._send_delta({"type": "signature_delta", "signature": carrier["signature"]}, out)
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
    content: list[Json] = []
    for block in turn.blocks:
        encoded = _encode_block(block.start, block.text, block.state)
        if block.end.citations:
            encoded["citations"] = [_encode_citation(citation, block.text) for citation in block.end.citations]
        around = [_carrier(block.start, block.start.state), encoded, _carrier(block.start, block.end.state)]
        content += [block for block in around if block]
    return content


def encode_error(error: GatewayError) -> Json:
    """The error envelope. An overflow is worded as clients of this format look for it to compact their history."""
    words = ERROR_TYPES.get(error.status) or ERROR_TYPES[400 if error.status < 500 else 500]
    message = error.message
    if error.code == "context_length_exceeded" and not message.startswith("prompt is too long"):
        counts = overflow_counts(message)
        message = "prompt is too long" + (f": {counts[0]} tokens > {counts[1]} maximum" if counts else "")
    return {"type": "error", "error": {"type": words.split()[0], "message": message}, "request_id": None}
