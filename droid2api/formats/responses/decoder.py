"""An upstream's answers in the Responses format.

Theory of operation. The wire has items, told apart by their output_index (one service changes item_id on every event),
where that is missing by their id, else the newest is meant. A reasoning item or a tool call is one block, with the key
(index, -1); a message is a block for each part, with the key (index, content_index), of which one is open at a time.

Everything is said up to four times: in deltas, in the `.done` of a part, in the `.done` of its item and in the response
at the end. Whatever comes first is told; a later place only adds what was missing, as the rest of a text of which
the told one is the beginning. What was told under another content_index or output_index is known by its text, an item
also by its id. Held back are a part's citations until its end, and arguments for a call whose name has not come.

`response.completed` and `response.incomplete` are the ends. A reason or status that is not known is a failure. A whole
answer is read as the stream that would have said the same.
"""

from collections import Counter
from collections.abc import Collection, Iterator

from droid2api.errors import StreamError, UpstreamError, WireError
from droid2api.formats.decoder import TurnDecoder
from droid2api.formats.endings import Ending, answer_error, finish_reason, read_ending, unfinished
from droid2api.formats.responses.calls import Calls
from droid2api.formats.responses.items import Item, Items, kind_of, number_of
from droid2api.formats.responses.message import Messages, cite
from droid2api.formats.responses.reasoning import Reasoning
from droid2api.formats.responses.request import SERVED
from droid2api.formats.upstream_error import find_words, read_error, tells_error
from droid2api.hub.events import Event, Usage
from droid2api.hub.request import Target
from droid2api.wire.fields import Json, count, inner, inners, member, members, string, text, word
from droid2api.wire.sse import ServerSentEvent


def decode_response(body: Json, target: Target, used_ids: Collection[str] = ()) -> list[Event]:
    """A whole answer as events: it is read as the stream that would have said the same."""
    decoder = StreamDecoder(target, used_ids)
    if error := answer_error(body, "output"):
        return decoder.fail(error)
    return decoder.feed_values(_as_stream(body)) + decoder.close()


def _as_stream(body: Json) -> Iterator[Json]:
    yield {"type": "response.created", "response": body}
    for index, item in enumerate(members(body, "output")):
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    status = word(body, "status") or "completed"
    known = status in ("completed", "incomplete")
    yield {"type": f"response.{status}" if known else "response.failed", "response": body}


def decode_usage(usage: Json) -> Usage:
    read = inner(usage, "input_tokens_details")
    return Usage(
        count(usage, "input_tokens"),
        count(usage, "output_tokens"),
        count(read, "cached_tokens"),
        count(read, "cache_write_tokens"),
        count(inner(usage, "output_tokens_details"), "reasoning_tokens"),
    )


_ENDS = frozenset(f"response.{status}" for status in ("completed", "incomplete", "failed", "cancelled"))
_FAILURES = frozenset(("response.failed", "response.cancelled"))


def ending(event: ServerSentEvent) -> Ending:
    """What one event, or a whole answer, says of the end. Junk says nothing."""
    return read_ending(event, _ending_of)


def _ending_of(value: Json) -> Ending:
    kind, response = word(value, "type"), inner(value, "response")
    if not kind:  # a whole answer
        kind, response = f"response.{word(value, 'status')}", value
    error: UpstreamError | None = None
    if tells_error(value):
        error = read_error(value)
    elif kind in _FAILURES:
        error = _failure(value)
    elif kind in _ENDS:
        error = unfinished(_end_word(kind, response))
    usage = inner(response, "usage") or inner(value, "usage") or None
    return Ending(error is not None or (kind in _ENDS and response is not value), usage, error)


def _end_word(kind: str, response: Json) -> str:
    """The upstream's word for its end, "incomplete" or "completed" where it has none."""
    cut, status = word(inner(response, "incomplete_details"), "reason"), word(response, "status")
    return cut or ("incomplete" if kind == "response.incomplete" else status or "completed")


class StreamDecoder(TurnDecoder):
    """Finds the item of an event, and lets the reader of such items take what it says."""

    decode_usage = staticmethod(decode_usage)

    def __init__(self, target: Target, used_ids: Collection[str] = ()) -> None:
        super().__init__(target, used_ids)
        self._items = Items(self.turn)
        self._messages = Messages(self.turn, target, self._items)
        self._reasoning = Reasoning(self.turn, target, self._items)
        self._calls = Calls(self.turn, self.call_ids, self._items)

    def read_value(self, value: Json) -> None:
        match value.get("type"):
            case "response.output_text.delta":
                written = value.get("delta")
                if type(written) is not str:
                    written = text(value, "delta")
                if (value.get("output_index"), value.get("content_index")) == self.turn.current:
                    self.turn.delta(self.turn.current, written)
                else:
                    self._messages.write(self._items.find(value), number_of(value), "text", written)
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                self._calls.add_arguments(self._items.find(value), text(value, "delta"))
            case "response.reasoning_summary_text.delta":
                self._reasoning.add(
                    self._items.find(value), "summary", number_of(value, "summary"), text(value, "delta")
                )
            case "response.reasoning_text.delta":
                self._reasoning.add(self._items.find(value), "content", number_of(value), text(value, "delta"))
            case "response.refusal.delta":
                self._messages.write(self._items.find(value), number_of(value), "refusal", text(value, "delta"))
            case "response.output_item.added":
                item = member(value, "item")
                self._begin(self._items.find(value, word(item, "id"), ()), item)
            case "response.output_item.done":
                item = member(value, "item")
                self._end(self._items.find(value, word(item, "id"), ("", kind_of(item))), item)
            case "response.created" | "response.in_progress":
                response = inner(value, "response")
                self.turn.start(word(response, "id"), word(response, "model"))
            case "response.completed" | "response.incomplete" as kind:
                self._finish(kind, inner(value, "response"))
            case "response.failed" | "response.cancelled":
                self.turn.fail(_failure(value))
            case kind:
                self._read_other(kind, value)

    def _read_other(self, kind: object, value: Json) -> None:
        """What most answers could be read without."""
        match kind:
            case "response.output_text.done":
                self._messages.complete(self._items.find(value), number_of(value), "text", string(value, "text"))
            case "response.refusal.done":
                self._messages.complete(self._items.find(value), number_of(value), "refusal", string(value, "refusal"))
            case "response.content_part.done":
                item, part = self._items.find(value), inner(value, "part")
                self._messages.read_part(item, number_of(value), part)
                if part.get("type") == "reasoning_text":
                    self._reasoning.complete(item, "content", number_of(value), word(part, "text"))
            case "response.output_text.annotation.added":
                cite(self._items.find(value), inner(value, "annotation"))
            case "response.function_call_arguments.done":
                self._calls.complete(self._items.find(value), value, "function_call")
            case "response.custom_tool_call_input.done":
                self._calls.complete(self._items.find(value), value, "custom_tool_call")
            case "response.reasoning_summary_text.done":
                self._reasoning.complete(
                    self._items.find(value), "summary", number_of(value, "summary"), word(value, "text")
                )
            case "response.reasoning_text.done":
                self._reasoning.complete(self._items.find(value), "content", number_of(value), word(value, "text"))
            case _:
                self.read_unknown(value)

    # -- items ------------------------------------------------------------------------------------------------------

    def _begin(self, item: Item, told: Json) -> None:
        if item.kind:
            return
        self._items.begin(item, told)
        match item.kind:
            case "message":
                self._messages.begin(item, told)
            case "function_call" | "custom_tool_call":
                self._calls.begin(item, told)
            case "reasoning":
                self._reasoning.begin(item)

    def _end(self, item: Item, told: Json) -> None:
        """The whole item. What was not said before is taken from it."""
        if item.done:
            return
        self._begin(item, told)
        match item.kind:
            case "message":
                self._messages.end(item, told)
            case "function_call" | "custom_tool_call":
                self._calls.end(item, told)
            case "reasoning":
                self._reasoning.end(item, told)
            case kind if kind not in SERVED or kind == "image_generation_call":  # a picture is an answer
                self.left_out = self.left_out or kind
        item.done = True

    # -- the end ----------------------------------------------------------------------------------------------------

    def _finish(self, kind: str, response: Json) -> None:
        self.turn.start(word(response, "id"), word(response, "model"))
        if response.get("error"):
            self.turn.fail(read_error(response))
            return
        self._read_output(inners(response, "output") if self._items else members(response, "output"))
        for item in self._items:
            if not item.kind and any(item.arguments):
                raise WireError("a tool call without a name")
            self._end(item, item.announced)  # its end was forgotten, or cut off
        if not self.turn.blocks and (said := word(response, "output_text")):  # what SDKs make of the items
            self._end(self._items.new(None, ""), {"type": "message", "content": said})
        told = _end_word(kind, response)
        self.counts = inner(response, "usage") or self.counts
        if failure := unfinished(told):
            self.turn.fail(failure)
        else:
            raw = word(inner(response, "incomplete_details"), "reason") or word(response, "status")
            self.finish(finish_reason(told) or "stop", raw)

    def _read_output(self, output: list[Json]) -> None:
        """The items of the whole response. They may have other numbers than before, where some are left out: one that
        is not found is new only if there are more of its kind than were told."""
        told = Counter(item.kind for item in self._items)
        there = Counter(kind_of(entry) for entry in output)
        for index, entry in enumerate(output):
            item, kind = self._items.by_id.get(word(entry, "id")) or self._items.at(index), kind_of(entry)
            if item and item.kind in ("", kind):
                self._end(item, entry)
            elif there[kind] > told[kind]:
                told[kind] += 1
                self._end(self._items.new(index if item is None else None, word(entry, "id")), entry)


def _failure(value: Json) -> UpstreamError:
    """The error of a response that failed or was cancelled."""
    response = inner(value, "response") or value
    if response.get("error") or find_words(value):
        return read_error(value)
    status = word(response, "status") or word(value, "type").removeprefix("response.")
    return StreamError(f"The upstream ended its answer with {status!r}.", code=status)
