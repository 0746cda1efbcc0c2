"""Answers of the Responses format: reading an upstream's, writing a client's."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from droid2api.errors import GatewayError
from droid2api.formats.decoder import TurnDecoder, read_citation
from droid2api.formats.responses.native import call_item, native_prefix
from droid2api.formats.responses.request import NAME
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
from droid2api.hub.request import Request, Target
from droid2api.wire import sse
from droid2api.wire.fields import Json, count, inner, string

# -- an upstream's --------------------------------------------------------------------------------------------------

_INCOMPLETE: dict[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}


def decode_response(body: Json, target: Target) -> list[Event]:
    """A whole answer as events: it is read as the stream that would have said the same."""
    decoder = StreamDecoder(target)
    return decoder.feed_values(_as_stream(body)) + decoder.close()


def _as_stream(body: Json) -> Iterator[Json]:
    yield {"type": "response.created", "response": body}
    for index, item in enumerate(body.get("output") or ()):
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{body.get('status') or 'completed'}", "response": body}


class StreamDecoder(TurnDecoder):
    """Events of an upstream. A block's key is (output_index, content_index) or (output_index, -1)."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._family = target.family
        self._seen: set[int] = set()
        self._ended: set[tuple[int, int]] = set()
        self._citations: dict[tuple[int, int], list[Citation]] = {}

    def read_value(self, value: Json) -> None:
        kind = value["type"]
        match kind:
            case "response.output_text.delta":
                self._write(value, "text", value["delta"])
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                self.turn.delta((value["output_index"], -1), value["delta"])
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self._reason(value["output_index"], value["delta"])
            case "response.refusal.delta":
                self._write(value, "refusal", value["delta"])
            case "response.reasoning_summary_part.added":
                if value.get("summary_index"):
                    self._reason(value["output_index"], "\n\n")
            case "response.output_text.annotation.added":
                key = (value["output_index"], value.get("content_index") or 0)
                self._cite(key, value["annotation"])
            case "response.output_item.added":
                self._open(value["output_index"], value["item"])
            case "response.output_item.done":
                self._done(value["output_index"], value["item"])
            case "response.created" | "response.in_progress":
                self._start(value["response"])
            case "response.completed" | "response.incomplete":
                self._finish(value["response"])
            case "response.failed" | "response.cancelled" | "error":
                self.turn.fail(read_error(value))

    def _start(self, response: Json) -> None:
        self.turn.start(response.get("id") or "", response.get("model") or "")

    def _write(self, value: Json, kind: Any, text: str) -> None:
        key = (value["output_index"], value.get("content_index") or 0)
        if key != self.turn.current and not self.turn.is_open(key):
            self._end_parts(value["output_index"])
            self.turn.open(key, BlockStart(kind))
        self.turn.delta(key, text)

    def _reason(self, index: int, text: str) -> None:
        if not self.turn.is_open((index, -1)):
            self.turn.open((index, -1), BlockStart("reasoning"))
        self.turn.delta((index, -1), text)

    def _cite(self, key: tuple[int, int], annotation: Json) -> None:
        if citation := read_citation(annotation):
            self._citations.setdefault(key, []).append(citation)

    def _open(self, index: int, item: Json) -> None:
        self._seen.add(index)
        match item["type"]:
            case "function_call" | "custom_tool_call" as kind:
                custom = kind == "custom_tool_call"
                namespace = item.get("namespace") or ""
                start = BlockStart("tool_call", item["call_id"], item["name"], custom, namespace)
                self.turn.open((index, -1), start)
            case "reasoning":
                self.turn.open((index, -1), BlockStart("reasoning"))

    def _done(self, index: int, item: Json) -> None:
        """The whole item. What the deltas did not say is taken from it."""
        if index not in self._seen:
            self._open(index, item)
        key = (index, -1)
        match item["type"]:
            case "message":
                self._read_parts(index, item.get("content") or [])
                self._end_parts(index)
            case "function_call" | "custom_tool_call" as kind:
                whole = item.get("arguments" if kind == "function_call" else "input") or ""
                if not self.turn.text(key):
                    self.turn.delta(key, whole)
                self.turn.end(key)
            case "reasoning":
                if not self.turn.text(key):
                    texts = item.get("summary") or item.get("content") or ()
                    self.turn.delta(key, "\n\n".join(part.get("text") or "" for part in texts))
                data = {"id": item.get("id"), "encrypted_content": string(item, "encrypted_content")}
                self.turn.end(key, BlockEnd(State(NAME, self._family, data) if data["encrypted_content"] else None))

    def _read_parts(self, index: int, parts: list[Json]) -> None:
        for number, part in enumerate(parts):
            key = (index, number)
            text = part.get("text") or part.get("refusal") or ""
            if not self.turn.is_open(key) and key not in self._ended and text:
                self._end_parts(index)
                self.turn.open(key, BlockStart("refusal" if part["type"] == "refusal" else "text"))
            if self.turn.is_open(key):
                if not self.turn.text(key):
                    self.turn.delta(key, text)
                if key not in self._citations:
                    for annotation in part.get("annotations") or ():
                        self._cite(key, annotation)

    def _end_parts(self, index: int) -> None:
        """End the open parts of a message: its next part has begun, or it is done."""
        for key in self.turn.open_keys():
            if key[0] == index and key[1] >= 0:
                self.turn.end(key, BlockEnd(citations=self._citations.pop(key, [])))
                self._ended.add(key)

    def _finish(self, response: Json) -> None:
        self._start(response)
        for index, item in enumerate(response.get("output") or ()):
            if index not in self._seen:
                self._done(index, item)
        for index in {key[0] for key in self.turn.open_keys()}:
            self._end_parts(index)
        raw = string(inner(response, "incomplete_details"), "reason") or string(response, "status")
        self.turn.finish(Finish(_INCOMPLETE.get(raw, "stop"), raw, decode_usage(inner(response, "usage"))))


def decode_usage(usage: Json) -> Usage:
    read = inner(usage, "input_tokens_details")
    return Usage(
        count(usage, "input_tokens"),
        count(usage, "output_tokens"),
        count(read, "cached_tokens"),
        count(read, "cache_write_tokens"),
        count(inner(usage, "output_tokens_details"), "reasoning_tokens"),
    )


# -- a client's -----------------------------------------------------------------------------------------------------

_ECHOED: Json = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": None,
    "store": False,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
}
"""The settings that every response object repeats, with what stands for those the client did not send."""

_FAILURE_CODES = {400: "invalid_prompt", 429: "rate_limit_exceeded"}
"""The SDK's types know a closed set of codes; Codex looks for context_length_exceeded, so that one stays."""


def _encode_usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


class StreamEncoder:
    """Events as server-sent events. `clock` gives seconds since the epoch, `new_id` a fresh id.

    `response` is the response object; after the end it is the whole answer.
    """

    def __init__(self, request: Request, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self.response: Json = {
            "id": f"resp_{new_id()}",
            "object": "response",
            "created_at": int(clock()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": request.model,
            "output": [],
            "usage": None,
        }
        for name, default in _ECHOED.items():
            sent = request.body.get(name)
            self.response[name] = default if sent is None else sent
        self._new_id = new_id
        self.sequence = 0
        self._head = b""
        self._block = BlockStart("text")
        self._text: list[str] = []
        self._item: Json = {}
        self._part_open = False
        self._natives = {tool.name: tool.native for tool in request.tools if tool.native}
        self._native = ""

    def encode(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if type(event) is Delta:
                if self._native:
                    self._text.append(event.text)
                    continue
                if not self._part_open:
                    self._open_summary(out)
                text = orjson.dumps(event.text)
                out.append(b'%b%b,"sequence_number":%d}\n\n' % (self._head, text, self.sequence))
                self.sequence += 1
                self._text.append(event.text)
            else:
                self._encode_other(event, out)
        return b"".join(out)

    def _encode_other(self, event: Event, out: list[bytes]) -> None:
        match event:
            case Start():
                self.response["model"] = event.model or self.response["model"]
                self._send(out, "response.created", response=self.response)
                self._send(out, "response.in_progress", response=self.response)
            case BlockStart():
                self._open(event, out)
            case BlockEnd():
                self._end(event, out)
            case Finish():
                self._finish(event, out)
            case Failed():
                self._fail(event.error, out)
            case Delta():  # pragma: no cover - handled before
                pass

    @property
    def _index(self) -> int:
        return len(self.response["output"])

    def _open(self, block: BlockStart, out: list[bytes]) -> None:
        self._block, self._text = block, []
        match block.kind:
            case "text" | "refusal":
                if self._item.get("type") != "message":
                    self._add_item(out, "msg", type="message", status="in_progress", role="assistant", content=[])
                self._open_part(out, block.kind)
                return
            case "reasoning":
                self._end_message(out)
                self._add_item(out, "rs", type="reasoning", summary=[], encrypted_content=None)
                self._part_open = False
                return
            case "tool_call" if native := self._natives.get(block.name):
                self._end_message(out)
                self._native = native
                call = {"status": "in_progress", "call_id": block.id, **call_item(native, "")}
                self._add_item(out, native_prefix(native), type=f"{native}_call", **call)
            case "tool_call":
                self._end_message(out)
                kind, field = ("custom_tool_call", "input") if block.custom else ("function_call", "arguments")
                namespace = {"namespace": block.namespace} if block.namespace else {}
                call = {"status": "in_progress", "call_id": block.id, "name": block.name, field: ""}
                self._add_item(out, "ctc" if block.custom else "fc", type=kind, **call, **namespace)
                self._set_head(f"response.{kind}_{field}.delta")

    def _add_item(self, out: list[bytes], prefix: str, **item: Any) -> None:
        self._item = {"id": f"{prefix}_{self._new_id()}", **item}
        self._send(out, "response.output_item.added", output_index=self._index, item=self._item)

    def _open_part(self, out: list[bytes], kind: str) -> None:
        part: Json = {"type": "refusal", "refusal": ""}
        if kind == "text":
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        number = len(self._item["content"])
        self._send(out, "response.content_part.added", **self._place(content_index=number), part=part)
        extra: Json = {"logprobs": []} if kind == "text" else {}
        name = "response.output_text.delta" if kind == "text" else "response.refusal.delta"
        self._set_head(name, content_index=number, **extra)

    def _open_summary(self, out: list[bytes]) -> None:
        part = {"type": "summary_text", "text": ""}
        self._send(out, "response.reasoning_summary_part.added", **self._place(summary_index=0), part=part)
        self._set_head("response.reasoning_summary_text.delta", summary_index=0)

    def _place(self, **index: int) -> Json:
        return {"item_id": self._item["id"], "output_index": self._index, **index}

    def _set_head(self, name: str, **fields: Any) -> None:
        self._part_open = True
        head = orjson.dumps({"type": name, "item_id": self._item["id"], "output_index": self._index, **fields})
        self._head = b'event: %b\ndata: %b,"delta":' % (name.encode(), head[:-1])

    def _end(self, end: BlockEnd, out: list[bytes]) -> None:
        text, item = "".join(self._text), self._item
        match self._block.kind:
            case "text" | "refusal":
                self._end_part(end, text, out)
                return
            case "reasoning":
                if text:
                    place, part = self._place(summary_index=0), {"type": "summary_text", "text": text}
                    self._send(out, "response.reasoning_summary_text.done", **place, text=text)
                    self._send(out, "response.reasoning_summary_part.done", **place, part=part)
                    item["summary"] = [part]
                if state := end.state:
                    item["encrypted_content"] = (
                        state.data["encrypted_content"] if state.format == NAME else state.pack()
                    )
            case "tool_call" if self._native:
                item |= call_item(self._native, text) | {"status": "completed"}
                self._native = ""
            case "tool_call":
                field = "input" if self._block.custom else "arguments"
                item[field], item["status"] = text, "completed"
                self._send(out, f"response.{item['type']}_{field}.done", **self._place(), **{field: text})
        self._end_item(out)

    def _end_part(self, end: BlockEnd, text: str, out: list[bytes]) -> None:
        place = self._place(content_index=len(self._item["content"]))
        if self._block.kind == "refusal":
            part: Json = {"type": "refusal", "refusal": text}
            self._send(out, "response.refusal.done", **place, refusal=text)
        else:
            annotations = [_encode_citation(citation, len(text)) for citation in end.citations]
            for number, annotation in enumerate(annotations):
                fields = {"annotation_index": number, "annotation": annotation}
                self._send(out, "response.output_text.annotation.added", **place, **fields)
            part = {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}
            self._send(out, "response.output_text.done", **place, text=text, logprobs=[])
        self._send(out, "response.content_part.done", **place, part=part)
        self._item["content"].append(part)

    def _end_message(self, out: list[bytes]) -> None:
        """A message takes all text that comes in a row, so it ends when something else begins."""
        if self._item.get("type") == "message":
            self._item["status"] = "completed"
            self._end_item(out)

    def _end_item(self, out: list[bytes]) -> None:
        self._send(out, "response.output_item.done", output_index=self._index, item=self._item)
        self.response["output"].append(self._item)
        self._item = {}

    def _finish(self, finish: Finish, out: list[bytes]) -> None:
        self._end_message(out)
        self.response["usage"] = _encode_usage(finish.usage)
        self.response["status"] = "completed"
        if finish.reason in ("length", "content_filter"):
            reason = "max_output_tokens" if finish.reason == "length" else "content_filter"
            self.response |= {"status": "incomplete", "incomplete_details": {"reason": reason}}
        self._send(out, f"response.{self.response['status']}", response=self.response)

    def _fail(self, error: GatewayError, out: list[bytes]) -> None:
        code = error.code if error.code == "context_length_exceeded" else _FAILURE_CODES.get(error.status)
        self.response["error"] = {"code": code or "server_error", "message": error.message}
        self.response["status"] = "failed"
        self._send(out, "response.failed", response=self.response)

    def _send(self, out: list[bytes], kind: str, /, **fields: Any) -> None:
        event = {"type": kind, **fields, "sequence_number": self.sequence}
        self.sequence += 1
        out.append(sse.encode(kind.encode(), orjson.dumps(event)))


def _encode_citation(citation: Citation, length: int) -> Json:
    start, end = citation.start or 0, length if citation.end is None else citation.end
    named = {"type": "url_citation", "url": citation.url, "title": citation.title}
    return named | {"start_index": start, "end_index": end}


def encode_stream_error(error: GatewayError, last: bytes) -> bytes:
    """The error in a stream whose last event was `last`; it goes on with that one's sequence number."""
    number = re.search(rb'"sequence_number":\s*(\d+)', last)
    encoder = StreamEncoder(Request("", []), time.time, lambda: "failed")
    encoder.sequence = int(number.group(1)) + 1 if number else 0
    return encoder.encode([Failed(error)])


def encode_response(
    events: list[Event], request: Request, clock: Callable[[], float], new_id: Callable[[], str]
) -> Json:
    """A whole answer. Raises the error of a failed turn."""
    for event in events:
        if isinstance(event, Failed):
            raise event.error
    encoder = StreamEncoder(request, clock, new_id)
    encoder.encode(events)
    return encoder.response
