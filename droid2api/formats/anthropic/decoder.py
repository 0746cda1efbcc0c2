"""An upstream's answers in the Anthropic Messages format.

Theory of operation. The wire has blocks already, each with an index, a beginning, deltas and an end; the index is the
block's key in the turn until it ends, and may then be another's. An index whose end was forgotten is ended by the next
beginning with it. Left out are blocks of tools that the provider runs itself: what they found is in the text and its
citations. Held back until a block's end are its signature and citations, which come in pieces, and the input that a
tool call began with: it counts only if no deltas come, since some services send it twice.

`message_stop` is the end. What `message_delta` told before it says why, and a reason that is not known is a failure.
A turn that the provider only paused is cut, not ended. A whole answer is read as the stream that would have said the
same; it is complete without a reason, since a body cannot be cut.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import orjson

from droid2api.errors import StreamError, WireError
from droid2api.formats.anthropic.request import NAME, is_served
from droid2api.formats.decoder import TurnDecoder, read_citation
from droid2api.formats.endings import Ending, answer_error, finish_reason, half_call, read_ending, unfinished
from droid2api.formats.upstream_error import read_error, tells_error
from droid2api.hub.events import BlockEnd, BlockKind, BlockStart, Citation, Event, Usage
from droid2api.hub.request import Target
from droid2api.hub.turn import refuse
from droid2api.wire.fields import Json, count, inner, inners, json_text, member, members, number, string, text, word
from droid2api.wire.sse import ServerSentEvent


def decode_response(body: Json, target: Target, used_ids: Collection[str] = ()) -> list[Event]:
    """A whole answer as events: it is read as the stream that would have said the same."""
    decoder = StreamDecoder(target, used_ids, whole=True)
    if error := answer_error(body, "content"):
        return decoder.fail(error)
    return decoder.feed_values(_as_stream(body)) + decoder.close()


def _as_stream(body: Json) -> Iterator[Json]:
    yield {"type": "message_start", "message": body}
    content = body["content"]
    blocks = [{"type": "text", "text": content}] if type(content) is str else members(body, "content")
    for index, block in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": body}
    yield {"type": "message_stop"}


def decode_usage(usage: Json) -> Usage:
    read, write = count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens")
    thinking = count(inner(usage, "output_tokens_details"), "thinking_tokens")
    return Usage(count(usage, "input_tokens") + read + write, count(usage, "output_tokens"), read, write, thinking)


def ending(event: ServerSentEvent) -> Ending:
    """What one event, or a whole answer, says of the end. Junk says nothing."""
    return read_ending(event, _ending_of)


def _ending_of(value: Json) -> Ending:
    told = word(inner(value, "delta"), "stop_reason") or word(value, "stop_reason")
    error = read_error(value) if tells_error(value) else unfinished(told) if told else None
    usage = inner(value, "usage") or inner(inner(value, "message"), "usage") or None
    return Ending(error is not None or value.get("type") == "message_stop", usage, error)


_OF_STOP = ("stop_reason", "stop_sequence", "stop_details")


@dataclass(slots=True)
class _Block:
    kind: BlockKind
    signature: list[str] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    input: str = ""


class StreamDecoder(TurnDecoder):
    """Blocks of tools that the provider runs itself are left out; their text and URLs stay."""

    decode_usage = staticmethod(decode_usage)

    def __init__(self, target: Target, used_ids: Collection[str] = (), *, whole: bool = False) -> None:
        super().__init__(target, used_ids)
        self._whole = whole
        self._blocks: dict[int, _Block] = {}
        self._left_out: set[int] = set()
        self._newest = -1
        self._stop: Json = {}

    def read_value(self, value: Json) -> None:
        match value.get("type"):
            case "content_block_delta":
                self._read_delta(value)
            case "content_block_start":
                self._open(value)
            case "content_block_stop":
                self._close(self._index(value))
            case "message_start":
                message = member(value, "message")
                self.turn.start(word(message, "id"), word(message, "model"))
                self._count(inner(message, "usage"))
            case "message_delta":
                self._told_of_stop(value)
                self._told_of_stop(inner(value, "delta"))
                self._count(inner(value, "usage"))
            case "message_stop":
                self._told_of_stop(value)
                self._finish()
            case _:
                self.read_unknown(value)

    def _index(self, value: Json) -> int:
        """Whose event it is: the newest block's where it does not say so."""
        index = number(value, "index")
        return self._newest if index is None else index

    def _count(self, counts: Json) -> None:
        """Later counts replace earlier ones."""
        self.counts |= {name: told for name, told in counts.items() if told is not None}

    def _told_of_stop(self, value: Json) -> None:
        self._stop |= {name: value[name] for name in _OF_STOP if value.get(name) is not None}

    def _read_delta(self, value: Json) -> None:
        index = value.get("index")
        if type(index) is not int:
            index = self._index(value)
        block = self._blocks.get(index)
        if block is None:
            if index not in self._left_out:
                raise WireError("a delta of a block that is not open")
            return
        delta = value.get("delta")
        if type(delta) is not dict:
            raise WireError("an event whose delta is no object")
        kind: BlockKind
        match delta.get("type"):
            case "text_delta":
                kind, name = "text", "text"
            case "thinking_delta":
                kind, name = "reasoning", "thinking"
            case "input_json_delta":
                kind, name = "tool_call", "partial_json"
            case other:
                _read_other_delta(block, other, delta)
                return
        if block.kind != kind:
            raise WireError(f"text of another kind in a {block.kind} block")
        written = delta.get(name)
        self.turn.delta(index, written if type(written) is str else text(delta, name))

    def _open(self, value: Json) -> None:
        index, block = number(value, "index"), member(value, "content_block")
        if index is None:
            index = self._newest + 1
        if index in self._blocks:
            self._close(index)
        self._left_out.discard(index)
        self._newest = index
        match _kind_of(block):
            case "text":
                self._begin(index, BlockStart("text"), string(block, "text"))
                for citation in inners(block, "citations"):
                    _cite(self._blocks[index], citation)
            case "thinking":
                self._begin(index, BlockStart("reasoning"), string(block, "thinking"))
                self._blocks[index].signature.append(string(block, "signature"))
            case "redacted_thinking":
                self.turn.open(index, BlockStart("reasoning"))
                self.turn.end(index, BlockEnd(self.target.state(NAME, {"data": string(block, "data")})))
                self._left_out.add(index)
            case "tool_use":
                self._begin_call(index, block)
            case kind:
                self._left_out.add(index)
                if not is_served(str(kind)):
                    self.left_out = self.left_out or str(kind)

    def _begin(self, index: int, start: BlockStart, written: str = "") -> None:
        self.turn.open(index, start)
        self._blocks[index] = _Block(start.kind)
        self.turn.delta(index, written)

    def _begin_call(self, index: int, block: Json) -> None:
        name, given = string(block, "name"), block.get("input")
        if not name:
            raise WireError("a tool call without a name")
        self._begin(index, BlockStart("tool_call", self.call_ids.assign(word(block, "id")), name))
        if given:
            self._blocks[index].input = given if type(given) is str else json_text(given)

    def _close(self, index: int) -> None:
        block = self._blocks.pop(index, None)
        if block is None:
            if index not in self._left_out:
                raise WireError("the end of a block that is not open")
            return
        if block.input and not self.turn.size(index):
            self.turn.delta(index, block.input)
        end = BlockEnd(citations=block.citations)
        if signature := "".join(block.signature):
            end.state = self.target.state(NAME, {"signature": signature})
        self.turn.end(index, end)

    def _finish(self) -> None:
        is_half = any(self._is_half(index) for index in self._blocks)
        for index in list(self._blocks):
            self._close(index)
        stop = self._stop
        raw = string(stop, "stop_reason")
        if raw and (failure := unfinished(raw)):
            self.turn.fail(failure)
            return
        if explanation := word(inner(stop, "stop_details"), "explanation"):
            refuse(self.turn, explanation)
        if not raw and not self._whole and not self.turn.blocks:
            self.turn.fail(StreamError("The upstream ended its answer before it said anything."))
            return
        if not raw and not self._whole and is_half:
            self.turn.fail(half_call())
            return
        self.finish(finish_reason(raw) or "stop", raw, word(stop, "stop_sequence") or None)

    def _is_half(self, index: int) -> bool:
        """Whether the input of an open call is cut off."""
        if self._blocks[index].kind != "tool_call" or not self.turn.size(index):
            return False
        try:
            orjson.loads(self.turn.text(index))
        except orjson.JSONDecodeError:
            return True
        return False


def _read_other_delta(block: _Block, kind: object, delta: Json) -> None:
    if kind == "signature_delta":
        block.signature.append(string(delta, "signature"))
    elif kind == "citations_delta":
        _cite(block, inner(delta, "citation"))
    elif type(kind) is not str:
        raise WireError("a delta without a type")


def _kind_of(block: Json) -> object:
    """The type of a block; where it does not say so, what its fields make it."""
    if block.get("type") is not None:
        return block["type"]
    fields = {"text": "text", "thinking": "thinking", "name": "tool_use", "data": "redacted_thinking"}
    return next((kind for name, kind in fields.items() if name in block), None)


def _cite(block: _Block, citation: Json) -> None:
    if block.kind == "text" and (found := read_citation(citation)):
        block.citations.append(found)
