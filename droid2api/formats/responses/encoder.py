"""Answers for a client that speaks the Responses format."""

import re
import time
from collections.abc import Callable
from typing import assert_never

import orjson

from droid2api.errors import GatewayError
from droid2api.formats.responses.native import call_item, native_prefix
from droid2api.formats.responses.request import NAME
from droid2api.formats.responses.writing import ItemWriter, NumberedEvents, own_phase
from droid2api.hub.events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start, State, Usage
from droid2api.hub.request import Request
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
    one begins or the answer ends: only then it is known whether it is whole, and whether a message goes on.
    """

    def __init__(
        self, request: Request, clock: Callable[[], float], new_id: Callable[[], str], sequence: int = 0
    ) -> None:
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
        self._out = NumberedEvents(sequence)
        self._block = BlockStart("text")
        self._text: list[str] = []
        self._item: ItemWriter | None = None
        self._after: State | None = None
        """State of the item that has ended, to be sent behind it."""
        self._natives = {tool.name: tool.native for tool in request.tools if tool.native}
        self._native = ""

    def encode(self, events: list[Event]) -> bytes:
        out = self._out
        waiting = out.waiting = []
        for event in events:
            if type(event) is Delta:
                self._text.append(event.text)
                if self._native:
                    continue
                item = self._item
                assert item is not None  # a delta is of a block, and a block of an item
                head = item.head or item.open_summary()
                waiting.append(b'%b%b,"sequence_number":%d}\n\n' % (head, orjson.dumps(event.text), out.next))
                out.next += 1
                continue
            match event:
                case Start():
                    self.response["model"] = event.model or self.response["model"]
                    out.send("response.created", response=self.response)
                    out.send("response.in_progress", response=self.response)
                case BlockStart():
                    self._open(event)
                case BlockEnd():
                    self._end(event)
                case Finish():
                    self._finish(event)
                case Failed():
                    self._fail(event.error)
                case _:
                    assert_never(event)
        return b"".join(waiting)

    def _open(self, block: BlockStart) -> None:
        own = own_phase(block.state) if block.kind == "text" else {}
        item = self._item
        if item is None or self._after or not item.goes_on(block, own):
            item = self._next_item(block, own)
        self._block, self._text = block, []
        if block.kind in ("text", "refusal"):
            item.open_part(block.kind)
        elif block.kind == "tool_call" and not self._native:
            item.open_call()

    def _next_item(self, block: BlockStart, own: Json) -> ItemWriter:
        self._end_item("completed")
        if block.state and block.kind != "reasoning" and not own:
            self._send_carrier(block.state.for_block(block))
        match block.kind:
            case "text" | "refusal":
                message = {"type": "message", "status": "in_progress", "role": "assistant", "content": [], **own}
                return self._add_item("msg", message)
            case "reasoning":
                return self._add_item("rs", {"type": "reasoning", "summary": [], "encrypted_content": None})
            case "tool_call" if native := self._natives.get(block.name):
                self._native = native
                call = {"type": f"{native}_call", "status": "in_progress", "call_id": block.id, **call_item(native, "")}
                return self._add_item(native_prefix(native), call)
            case "tool_call":
                kind, field = ("custom_tool_call", "input") if block.custom else ("function_call", "arguments")
                call = {"type": kind, "status": "in_progress", "call_id": block.id, "name": block.name, field: ""}
                if block.namespace:
                    call["namespace"] = block.namespace
                return self._add_item("ctc" if block.custom else "fc", call)
            case _:
                assert_never(block.kind)

    def _add_item(self, prefix: str, fields: Json) -> ItemWriter:
        fields = {"id": f"{prefix}_{self._new_id()}", **fields}
        self._item = ItemWriter(self._out, len(self.response["output"]), fields)
        return self._item

    def _end(self, end: BlockEnd) -> None:
        text, item = "".join(self._text), self._item
        assert item is not None  # as above
        match self._block.kind:
            case "text" | "refusal":
                item.end_part(self._block.kind, end, text)
            case "reasoning":
                item.end_summary(text)
                if state := self._block.state or end.state:
                    item.fields["encrypted_content"] = _encrypted(state)
            case "tool_call" if self._native:
                item.fields |= call_item(self._native, text)
                self._native = ""
            case "tool_call":
                item.end_call(text)
            case _:
                assert_never(self._block.kind)
        if end.state and self._block.kind != "reasoning":
            own = own_phase(end.state) if self._block.kind == "text" else {}
            item.fields |= own
            self._after = None if own else end.state.for_block(self._block)

    def _end_item(self, status: str) -> None:
        """Announce the open item, if there is one, as done."""
        item, after = self._item, self._after
        if item is None:
            return
        item.end(status)
        self.response["output"].append(item.fields)
        self._item, self._after = None, None
        if after:
            self._send_carrier(after)

    def _send_carrier(self, state: State) -> None:
        """State of an item that has no place for it, as a reasoning item without text beside it."""
        self._add_item("rs", {"type": "reasoning", "summary": [], "encrypted_content": state.pack()})
        self._end_item("completed")

    def _finish(self, finish: Finish) -> None:
        cut = finish.reason in ("length", "content_filter")
        status = "incomplete" if cut else "completed"
        self._end_item(status)
        self.response |= {"usage": _encode_usage(finish.usage), "status": status}
        if cut:
            reason = "max_output_tokens" if finish.reason == "length" else "content_filter"
            self.response["incomplete_details"] = {"reason": reason}
        self._out.send(f"response.{status}", response=self.response)

    def _fail(self, error: GatewayError) -> None:
        code = error.code if error.code == "context_length_exceeded" else _FAILURE_CODES.get(error.status)
        self.response["error"] = {"code": code or "server_error", "message": error.message}
        self.response["status"] = "failed"
        self._out.send("response.failed", response=self.response)


def _encrypted(state: State) -> str:
    """The format's own state of reasoning as it was, another's packed."""
    own = state.format == NAME and "encrypted_content" in state.data
    return str(state.data["encrypted_content"]) if own else state.pack()


def encode_stream_error(error: GatewayError, last: bytes) -> bytes:
    """The error in a stream whose last event was `last`; it goes on with that one's sequence number."""
    number = re.search(rb'"sequence_number":\s*(\d{1,15})(?!\d)', last)
    sequence = int(number.group(1)) + 1 if number else 0
    encoder = StreamEncoder(Request("", []), time.time, lambda: "failed", sequence)
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
