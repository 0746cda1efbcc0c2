"""Answers of the Chat Completions format: reading an upstream's, writing a client's."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import orjson

from droid2api.errors import GatewayError, StreamError
from droid2api.formats.chat.request import NAME
from droid2api.formats.decoder import TurnDecoder, read_citation
from droid2api.formats.openai_shared import encode_error
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
from droid2api.hub.turn import fold
from droid2api.wire.fields import Json, count, inner, string
from droid2api.wire.sse import ServerSentEvent

# -- an upstream's --------------------------------------------------------------------------------------------------

THINK, THINK_END = "<think>", "</think>"

_FINISH: dict[str, FinishReason] = {
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def decode_response(body: Json, target: Target) -> list[Event]:
    """A whole answer as events: it is read as a stream of one chunk."""
    decoder = StreamDecoder(target)
    return decoder.feed_values([body]) + decoder.close()


def decode_usage(usage: Json) -> Usage:
    prompt = inner(usage, "prompt_tokens_details")
    return Usage(
        count(usage, "prompt_tokens"),
        count(usage, "completion_tokens"),
        count(prompt, "cached_tokens") or count(usage, "prompt_cache_hit_tokens"),
        count(prompt, "cache_write_tokens"),
        count(inner(usage, "completion_tokens_details"), "reasoning_tokens"),
    )


class StreamDecoder(TurnDecoder):
    """Chunks of an upstream. Reads choice 0 only: this gateway never asks for more."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._family = target.family
        self._reason = ""
        self._usage = Usage()
        self._details: list[Json] = []
        self._reasoning_field = "reasoning_content"
        self._citations: list[Citation] = []
        self._calls: dict[int, tuple[object, str]] = {}
        self._nameless: dict[object, str] = {}
        self._ids: set[str] = set()
        self._id = ""
        self._place = "before"
        self._held = ""

    def read(self, event: ServerSentEvent) -> None:
        if event.data.strip() == b"[DONE]":
            self._finish()
        else:
            super().read(event)

    def read_value(self, value: Json) -> None:
        if value.get("error"):
            self.turn.fail(read_error(value))
            return
        if not self.turn.started and (value.get("model") or value.get("choices")):  # Azure's first chunk has neither
            self._id = string(value, "id") or uuid.uuid4().hex
            self.turn.start(value.get("id") or "", value.get("model") or "")
        if value.get("usage") or value.get("x_groq"):
            usage = inner(value, "usage") or inner(inner(value, "x_groq"), "usage")
            self._usage = decode_usage(usage) if usage else self._usage
        for choice in value.get("choices") or ():
            if choice.get("index"):
                continue
            self._read_delta(choice.get("delta") or choice.get("message") or {})
            if choice.get("finish_reason"):
                self._reason = string(choice, "finish_reason")

    def close(self) -> list[Event]:
        """Without [DONE] the finish reason is the end: some upstreams forget the former."""
        if self._reason and not self.turn.done:
            self._finish()
        return super().close()

    def _finish(self) -> None:
        self._release()
        while self.turn.current is not None:
            self._end(self.turn.current)
        if self._nameless:
            self.turn.fail(StreamError("The upstream sent a tool call without a name."))
            return
        self.turn.finish(Finish(_FINISH.get(self._reason, "stop"), self._reason, self._usage))

    def _read_delta(self, delta: Json) -> None:
        content = delta.get("content")
        if type(content) is str and content and self.turn.current == "text" and len(delta) == 1:
            self.turn.delta("text", content)
            return
        self._read_reasoning(delta)
        if type(content) is str:
            self._write_content(content)
        for part in content if type(content) is list else ():
            if part["type"] == "thinking":
                self._write("reasoning", "".join(item.get("text") or "" for item in part["thinking"]))
            else:
                self._write("text", part.get("text") or "")
        for annotation in delta.get("annotations") or ():
            if citation := read_citation(inner(annotation, "url_citation")):
                self._citations.append(citation)
        if self._held and (delta.get("refusal") or delta.get("tool_calls")):
            self._release()
        self._write("refusal", delta.get("refusal") or "")
        for call in delta.get("tool_calls") or ():
            self._read_call(call)

    def _read_reasoning(self, delta: Json) -> None:
        details = delta.get("reasoning_details") or ()
        text = ""
        for name in ("reasoning_content", "reasoning"):
            if type(delta.get(name)) is str and delta[name]:
                self._reasoning_field, text = name, delta[name]
                break
        else:
            text = "".join(detail.get("text") or detail.get("summary") or "" for detail in details)
        if details and not self.turn.is_open("reasoning"):
            self._switch("reasoning", BlockStart("reasoning"))
        for detail in details:
            self._add_detail(detail)
        self._write("reasoning", text)

    def _add_detail(self, detail: Json) -> None:
        """Put the fragments of a reasoning detail together, so that it can be sent back as it was."""
        last = self._details[-1] if self._details else {}
        if (last.get("type"), last.get("index")) != (detail.get("type"), detail.get("index")):
            self._details.append(dict(detail))
            return
        for name, value in detail.items():
            if name in ("text", "summary", "data", "signature") and value:
                last[name] = (last.get(name) or "") + value
            elif value is not None:
                last[name] = value

    def _write(self, kind: Any, text: str) -> None:
        if text:
            if self.turn.current != kind:
                self._switch(kind, BlockStart(kind))
            self.turn.delta(kind, text)

    def _write_content(self, text: str) -> None:
        """Text, but a <think> element at its very beginning is reasoning. A tag may be split, so its parts are held."""
        text, self._held = self._held + text, ""
        if self._place == "before":
            begun = text.lstrip()
            if len(begun) < len(THINK) and THINK.startswith(begun):
                self._held = text
                return
            self._place = "inside" if begun.startswith(THINK) else "after"
            text = begun.removeprefix(THINK) if self._place == "inside" else text
        if self._place == "inside":
            reasoning, tag, text = text.partition(THINK_END)
            if not tag:
                self._held = next((THINK_END[:n] for n in range(7, 0, -1) if reasoning.endswith(THINK_END[:n])), "")
            self._write("reasoning", reasoning.removesuffix(self._held))
            if not tag:
                return
            self._place, text = "after", text.lstrip("\n")
        self._write("text", text)

    def _release(self) -> None:
        """What was held is no part of a tag, since something else follows."""
        text, self._held = self._held, ""
        if self._place == "inside":
            self._write("reasoning", text)
        elif text:
            self._place = "after"
            self._write("text", text)

    def _switch(self, key: object, start: BlockStart) -> None:
        """Go on with another block. A live function call ends only when whole: fragments of them may alternate."""
        live = self.turn.current
        if live is not None:
            block = self.turn.opened(live)
            if block.kind != "tool_call" or block.custom or _is_json(self.turn.text(live)):
                self._end(live)
        if not self.turn.is_open(key):
            self.turn.open(key, start)

    def _end(self, key: object) -> None:
        kind = self.turn.opened(key).kind
        end = BlockEnd()
        if kind == "reasoning":
            data: Json = {"field": self._reasoning_field} | ({"details": self._details} if self._details else {})
            end.state, self._details = State(NAME, self._family, data), []
        elif kind == "text":
            end.citations, self._citations = self._citations, []
        self.turn.end(key, end)

    def _read_call(self, call: Json) -> None:
        function = call.get("function") or call.get("custom") or {}
        index, id, name = call.get("index"), call.get("id") or "", function.get("name") or ""
        if type(index) is not int:
            index = len(self._calls) if id or not self._calls else max(self._calls)
        key, known_id = self._calls.get(index, (None, ""))
        if key is None or (id and name and known_id and id != known_id):
            key = ("call", index, id)
            self._calls[index] = (key, id)
            self._nameless[key] = ""
        arguments = function.get("arguments") or function.get("input") or ""
        if type(arguments) is not str:
            arguments = orjson.dumps(arguments).decode()
        if key in self._nameless:
            arguments = self._nameless[key] + arguments
            self._nameless[key] = arguments
            if not name:
                return
            del self._nameless[key]
            self._switch(key, BlockStart("tool_call", self._unused_id(id or known_id), name, "custom" in call))
        if arguments:
            self.turn.delta(key, arguments)

    def _unused_id(self, id: str) -> str:
        """The call's id; one of our own where the upstream gave none or the same twice."""
        if not id or id in self._ids:
            id = f"call_{self._id}_{len(self._ids)}"
        self._ids.add(id)
        return id


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


# -- a client's -----------------------------------------------------------------------------------------------------


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
    packed = State(state.format, state.family, state.data | {"text": text}).pack()
    return {"type": "reasoning.text", "signature": packed} | detail


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
            else:
                self._encode_other(event, out)
        return b"".join(out)

    def _encode_other(self, event: Event, out: list[bytes]) -> None:
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
            case Delta():  # pragma: no cover - handled before
                pass

    def _begin(self, start: Start, out: list[bytes]) -> None:
        self._model = start.model or self._request.model
        head = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}
        self._head = b'data: %b,"choices":[{"index":0,"delta":{' % orjson.dumps(head)[:-1]
        usage = b',"usage":null' if self._request.include_usage else b""
        self._plain_tail = b'},"finish_reason":null}]%b}\n\n' % usage
        out.append(b'%b"role":"assistant","content":""%b' % (self._head, self._plain_tail))

    def _open(self, block: BlockStart, out: list[bytes]) -> None:
        self._block, self._text, self._tail = block, [], self._plain_tail
        if block.kind == "tool_call":
            self._calls += 1
            name = {"name": block.name, "input" if block.custom else "arguments": ""}
            kind = "custom" if block.custom else "function"
            call = {"index": self._calls, "id": block.id, "type": kind, kind: name}
            self._chunk({"tool_calls": [call]}, out)
            argument = b"input" if block.custom else b"arguments"
            self._field = b'"tool_calls":[{"index":%d,"%b":{"%b":' % (self._calls, kind.encode(), argument)
            self._tail = b"}}]" + self._plain_tail
        else:
            fields = {"text": b'"content":', "reasoning": b'"reasoning_content":', "refusal": b'"refusal":'}
            self._field = fields[block.kind]

    def _end(self, end: BlockEnd, out: list[bytes]) -> None:
        text = "".join(self._text)
        if end.state:
            self._chunk({"reasoning_details": [_encode_state(text, end.state, self._states)]}, out)
            self._states += 1
        if self._block.kind == "text":
            start, self._length = self._length, self._length + len(text)
            if end.citations:
                self._chunk({"annotations": _encode_citations(end.citations, start, self._length)}, out)

    def _finish(self, finish: Finish, out: list[bytes]) -> None:
        tail = self._plain_tail.replace(b"null", orjson.dumps(finish.reason), 1)
        out.append(self._head + tail)
        if self._request.include_usage:
            head = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}
            chunk = head | {"choices": [], "usage": _encode_usage(finish.usage)}
            out.append(b"data: %b\n\n" % orjson.dumps(chunk))
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
    message: Json = {"role": "assistant", "content": None, "refusal": None}
    texts = ""
    details: list[Json] = []
    calls: list[Json] = []
    citations: list[Json] = []
    for block in turn.blocks:
        match block.start.kind:
            case "text":
                citations += _encode_citations(block.end.citations, len(texts), len(texts) + len(block.text))
                texts += block.text
                message["content"] = texts
            case "refusal":
                message["refusal"] = (message["refusal"] or "") + block.text
            case "reasoning":
                message["reasoning_content"] = message.get("reasoning_content", "") + block.text
                if block.end.state:
                    details.append(_encode_state(block.text, block.end.state, len(details)))
            case "tool_call":
                kind, argument = ("custom", "input") if block.start.custom else ("function", "arguments")
                call = {"name": block.start.name, argument: block.text}
                calls.append({"id": block.start.id, "type": kind, kind: call})
    for field, values in (("reasoning_details", details), ("annotations", citations), ("tool_calls", calls)):
        if values:
            message[field] = values
    return {
        "id": f"chatcmpl-{new_id()}",
        "object": "chat.completion",
        "created": int(clock()),
        "model": turn.start.model or request.model,
        "choices": [{"index": 0, "message": message, "finish_reason": turn.finish.reason, "logprobs": None}],
        "usage": _encode_usage(turn.finish.usage),
    }
