"""Answers for a client that speaks the Chat Completions format."""

from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

import orjson

from droid2api.errors import GatewayError
from droid2api.formats.chat.request import NAME
from droid2api.formats.openai_shared import encode_error
from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Event, Failed, Finish, Start, State, Usage
from droid2api.hub.request import Request
from droid2api.hub.turn import Block, fold
from droid2api.wire.fields import Json


def _encode_usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def _encode_state(text: str, state: State, index: int) -> Json:
    """Opaque state in the form that OpenRouter made common. `index` keeps clients from joining it with the next one.

    The text is packed with it: it is signed too, and clients would show a second time what stands here in the open.
    """
    detail: Json = {"format": "droid2api", "index": index}
    if not text:
        return {"type": "reasoning.encrypted", "data": state.pack()} | detail
    packed = replace(state, data=state.data | {"text": text}).pack()
    return {"type": "reasoning.text", "signature": packed} | detail


def _encode_extra(state: State) -> Json:
    """A tool call's state: as the format itself has it, or packed where it is another's."""
    if state.format == NAME and "extra_content" in state.data:
        return {"extra_content": state.data["extra_content"]}
    return {"extra_content": {"droid2api": state.pack()}}


def _encode_citations(citations: list[Citation], start: int, end: int) -> list[Json]:
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "url": citation.url,
                "title": citation.title,
                "start_index": start if citation.start is None else start + citation.start,
                "end_index": end if citation.end is None else start + citation.end,
            },
        }
        for citation in citations
    ]


class StreamEncoder:
    """Events as chunks. `clock` gives seconds since the epoch, `new_id` a fresh id."""

    def __init__(self, request: Request, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._request = request
        self._id = f"chatcmpl-{new_id()}"
        self._created = int(clock())
        self._head = self._tail = b""
        self._field = b""
        self._block = BlockStart("text")
        self._text: list[str] = []
        self._length = 0
        self._states = 0
        self._calls = -1

    def encode(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if type(event) is Delta:
                out.append(b"%b%b%b%b" % (self._head, self._field, orjson.dumps(event.text), self._tail))
                self._text.append(event.text)
                continue
            match event:
                case Start():
                    self._begin(event, out)
                case BlockStart():
                    self._open(event, out)
                case BlockEnd():
                    self._end(event, out)
                case Finish():
                    self._finish(event, out)
                case Failed():
                    out.append(encode_stream_error(event.error, b""))
                case _:
                    assert_never(event)
        return b"".join(out)

    def _begin(self, start: Start, out: list[bytes]) -> None:
        model = start.model or self._request.model
        head = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": model}
        self._chunk_head = b"data: %b" % orjson.dumps(head)[:-1]
        self._head = b'%b,"choices":[{"index":0,"delta":{' % self._chunk_head
        usage = b',"usage":null' if self._request.include_usage else b""
        self._plain_tail = b'},"finish_reason":null}]%b}\n\n' % usage
        out.append(b'%b"role":"assistant","content":""%b' % (self._head, self._plain_tail))

    def _open(self, block: BlockStart, out: list[bytes]) -> None:
        self._block, self._text, self._tail = block, [], self._plain_tail
        if block.kind == "tool_call":
            self._calls += 1
            name = {"name": block.name, "input" if block.custom else "arguments": ""}
            kind = "custom" if block.custom else "function"
            call: Json = {"index": self._calls, "id": block.id, "type": kind, kind: name}
            if block.state:
                call |= _encode_extra(block.state)
            self._chunk({"tool_calls": [call]}, out)
            argument = b"input" if block.custom else b"arguments"
            self._field = b'"tool_calls":[{"index":%d,"%b":{"%b":' % (self._calls, kind.encode(), argument)
            self._tail = b"}}]" + self._plain_tail
        else:
            if block.state and block.kind != "reasoning":
                self._tell_state("", block.state.for_block(block), out)
            fields = {"text": b'"content":', "reasoning": b'"reasoning_content":', "refusal": b'"refusal":'}
            self._field = fields[block.kind]

    def _end(self, end: BlockEnd, out: list[bytes]) -> None:
        text, block = "".join(self._text), self._block
        if block.kind == "text":
            start, self._length = self._length, self._length + len(text)
            if end.citations:
                self._chunk({"annotations": _encode_citations(end.citations, start, self._length)}, out)
        if block.kind == "reasoning" and (state := block.state or end.state):
            self._tell_state(text, state, out)
        elif block.kind == "tool_call" and end.state:
            self._chunk({"tool_calls": [{"index": self._calls, **_encode_extra(end.state)}]}, out)
        elif end.state:
            self._tell_state("", end.state.for_block(block), out)

    def _tell_state(self, text: str, state: State, out: list[bytes]) -> None:
        self._chunk({"reasoning_details": [_encode_state(text, state, self._states)]}, out)
        self._states += 1

    def _finish(self, finish: Finish, out: list[bytes]) -> None:
        tail = self._plain_tail.replace(b"null", orjson.dumps(finish.reason), 1)
        out.append(self._head + tail)
        if self._request.include_usage:
            out.append(
                b'%b,"choices":[],"usage":%b}\n\n' % (self._chunk_head, orjson.dumps(_encode_usage(finish.usage)))
            )
        out.append(b"data: [DONE]\n\n")

    def _chunk(self, delta: Json, out: list[bytes]) -> None:
        out.append(self._head + orjson.dumps(delta)[1:-1] + self._plain_tail)


def encode_stream_error(error: GatewayError, last: bytes) -> bytes:
    """The error in a stream whose last event was `last`."""
    return b"data: %b\n\n" % orjson.dumps(encode_error(error))


def encode_response(
    events: list[Event], request: Request, clock: Callable[[], float], new_id: Callable[[], str]
) -> Json:
    """A whole answer. Raises the error of a failed turn."""
    turn = fold(events)
    message = _encode_message(turn.blocks)
    return {
        "id": f"chatcmpl-{new_id()}",
        "object": "chat.completion",
        "created": int(clock()),
        "model": turn.start.model or request.model,
        "choices": [{"index": 0, "message": message, "finish_reason": turn.finish.reason, "logprobs": None}],
        "usage": _encode_usage(turn.finish.usage),
    }


def _encode_message(blocks: list[Block]) -> Json:
    texts: dict[str, list[str]] = {"text": [], "refusal": [], "reasoning": []}
    length = 0
    details: list[Json] = []
    calls: list[Json] = []
    citations: list[Json] = []
    for block in blocks:
        kind, state = block.start.kind, block.state
        if kind == "tool_call":
            calls.append(_encode_call(block))
            continue
        texts[kind].append(block.text)
        if state and kind == "reasoning":
            details.append(_encode_state(block.text, state, len(details)))
        elif state:
            details.append(_encode_state("", state.for_block(block.start), len(details)))
        if kind == "text":
            citations += _encode_citations(block.end.citations, length, length + len(block.text))
            length += len(block.text)
    message: Json = {"role": "assistant", "content": None, "refusal": None}
    for field, kind in (("content", "text"), ("refusal", "refusal"), ("reasoning_content", "reasoning")):
        if texts[kind] and (kind != "reasoning" or any(texts[kind])):
            message[field] = "".join(texts[kind])
    for field, values in (("reasoning_details", details), ("annotations", citations), ("tool_calls", calls)):
        if values:
            message[field] = values
    return message


def _encode_call(block: Block) -> Json:
    kind, argument = ("custom", "input") if block.start.custom else ("function", "arguments")
    call: Json = {"id": block.start.id, "type": kind, kind: {"name": block.start.name, argument: block.text}}
    return call | (_encode_extra(block.state) if block.state else {})
