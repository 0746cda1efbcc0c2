"""Answers for a client that speaks the Responses format."""

import re
import time
from collections.abc import Callable
from typing import Any, assert_never

import orjson

from droid2api.errors import GatewayError
from droid2api.formats.responses.native import call_item, native_prefix
from droid2api.formats.responses.request import NAME
from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Event, Failed, Finish, Start, State, Usage
from droid2api.hub.request import Request
from droid2api.wire import sse
from droid2api.wire.fields import Json

_ECHOED: Json = {
    **dict.fromkeys("instructions max_output_tokens previous_response_id prompt_cache_key service_tier".split()),
    **dict.fromkeys(("temperature", "top_p")),
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "store": False,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
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

    `response` is the response object; after the end it is the whole answer. An item is announced as done when the next
    one begins or the answer ends: only then it is known whether it is whole, and whether a message goes on. There is a
    method for each kind of event that the format has.
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
        self._after: State | None = None
        """State of the item that has ended, to be sent behind it."""
        self._natives = {tool.name: tool.native for tool in request.tools if tool.native}
        self._native = ""

    def encode(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if type(event) is Delta:
                self._text.append(event.text)
                if self._native:
                    continue
                if not self._part_open:
                    self._open_summary(out)
                text = orjson.dumps(event.text)
                out.append(b'%b%b,"sequence_number":%d}\n\n' % (self._head, text, self.sequence))
                self.sequence += 1
                continue
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
                case _:
                    assert_never(event)
        return b"".join(out)

    @property
    def _index(self) -> int:
        return len(self.response["output"])

    def _open(self, block: BlockStart, out: list[bytes]) -> None:
        own = _own_phase(block.state) if block.kind == "text" else {}
        if not self._goes_on(block, own):
            self._end_item(out, "completed")
            if block.state and block.kind != "reasoning" and not own:
                self._send_carrier(block.state.for_block(block), out)
        self._block, self._text = block, []
        match block.kind:
            case "text" | "refusal":
                if not self._item:
                    self._add_item(
                        out, "msg", type="message", status="in_progress", role="assistant", content=[], **own
                    )
                self._open_part(out, block.kind)
            case "reasoning":
                self._add_item(out, "rs", type="reasoning", summary=[], encrypted_content=None)
                self._part_open = False
            case "tool_call" if native := self._natives.get(block.name):
                self._native = native
                call = {"status": "in_progress", "call_id": block.id, **call_item(native, "")}
                self._add_item(out, native_prefix(native), type=f"{native}_call", **call)
            case "tool_call":
                kind, field = ("custom_tool_call", "input") if block.custom else ("function_call", "arguments")
                namespace = {"namespace": block.namespace} if block.namespace else {}
                call = {"status": "in_progress", "call_id": block.id, "name": block.name, field: ""}
                self._add_item(out, "ctc" if block.custom else "fc", type=kind, **call, **namespace)
                self._set_head(f"response.{kind}_{field}.delta")
            case _:
                assert_never(block.kind)

    def _goes_on(self, block: BlockStart, own: Json) -> bool:
        """Whether a block is a part of the message before it: a message takes all text that comes in a row, but for
        text that has other state."""
        if self._item.get("type") != "message" or self._after:
            return False
        if block.kind == "refusal":
            return block.state is None
        return block.kind == "text" and bool(block.state) == bool(own) and own.get("phase") == self._item.get("phase")

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
            case "reasoning":
                if text:
                    place, part = self._place(summary_index=0), {"type": "summary_text", "text": text}
                    self._send(out, "response.reasoning_summary_text.done", **place, text=text)
                    self._send(out, "response.reasoning_summary_part.done", **place, part=part)
                    item["summary"] = [part]
                if state := self._block.state or end.state:
                    item["encrypted_content"] = _encrypted(state)
            case "tool_call" if self._native:
                item |= call_item(self._native, text)
                self._native = ""
            case "tool_call":
                field = "input" if self._block.custom else "arguments"
                item[field] = text
                self._send(out, f"response.{item['type']}_{field}.done", **self._place(), **{field: text})
            case _:
                assert_never(self._block.kind)
        if end.state and self._block.kind != "reasoning":
            own = _own_phase(end.state) if self._block.kind == "text" else {}
            item |= own
            self._after = None if own else end.state.for_block(self._block)

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

    def _end_item(self, out: list[bytes], status: str) -> None:
        """Announce the open item, if there is one, as done. Reasoning has a status only where it was cut."""
        item, after = self._item, self._after
        if not item:
            return
        if "status" in item or status != "completed":
            item["status"] = status
        self._send(out, "response.output_item.done", output_index=self._index, item=item)
        self.response["output"].append(item)
        self._item, self._after = {}, None
        if after:
            self._send_carrier(after, out)

    def _send_carrier(self, state: State, out: list[bytes]) -> None:
        """State of an item that has no place for it, as a reasoning item without text beside it."""
        self._add_item(out, "rs", type="reasoning", summary=[], encrypted_content=state.pack())
        self._end_item(out, "completed")

    def _finish(self, finish: Finish, out: list[bytes]) -> None:
        cut = finish.reason in ("length", "content_filter")
        status = "incomplete" if cut else "completed"
        self._end_item(out, status)
        self.response |= {"usage": _encode_usage(finish.usage), "status": status}
        if cut:
            reason = "max_output_tokens" if finish.reason == "length" else "content_filter"
            self.response["incomplete_details"] = {"reason": reason}
        self._send(out, f"response.{status}", response=self.response)

    def _fail(self, error: GatewayError, out: list[bytes]) -> None:
        code = error.code if error.code == "context_length_exceeded" else _FAILURE_CODES.get(error.status)
        self.response["error"] = {"code": code or "server_error", "message": error.message}
        self.response["status"] = "failed"
        self._send(out, "response.failed", response=self.response)

    def _send(self, out: list[bytes], kind: str, /, **fields: Any) -> None:
        event = {"type": kind, **fields, "sequence_number": self.sequence}
        self.sequence += 1
        out.append(sse.encode(kind.encode(), orjson.dumps(event)))


def _own_phase(state: State | None) -> Json:
    """The field that a message has for the format's own state of text; nothing for another's."""
    own = state and state.format == NAME and "phase" in state.data
    return {"phase": state.data["phase"]} if state and own else {}


def _encrypted(state: State) -> str:
    """The format's own state of reasoning as it was, another's packed."""
    own = state.format == NAME and "encrypted_content" in state.data
    return str(state.data["encrypted_content"]) if own else state.pack()


def _encode_citation(citation: Citation, length: int) -> Json:
    start, end = citation.start or 0, length if citation.end is None else citation.end
    named = {"type": "url_citation", "url": citation.url, "title": citation.title}
    return named | {"start_index": start, "end_index": end}


def encode_stream_error(error: GatewayError, last: bytes) -> bytes:
    """The error in a stream whose last event was `last`; it goes on with that one's sequence number."""
    number = re.search(rb'"sequence_number":\s*(\d{1,15})(?!\d)', last)
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
