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
from typing import Literal, TypeAlias

from droid2api.errors import StreamError, UpstreamError, WireError
from droid2api.formats.decoder import (
    Ending,
    TurnDecoder,
    answer_error,
    finish_reason,
    read_citation,
    read_ending,
    unfinished,
)
from droid2api.formats.responses.items import (
    Item,
    Items,
    Said,
    arguments_of,
    kind_of,
    number_of,
)
from droid2api.formats.responses.request import NAME, SERVED
from droid2api.formats.upstream_error import find_words, read_error, tells_error
from droid2api.hub.events import BlockEnd, BlockStart, Event, State, Usage
from droid2api.hub.request import Target
from droid2api.wire.fields import Json, count, inner, inners, member, members, string, text, word
from droid2api.wire.sse import ServerSentEvent

PartKind: TypeAlias = Literal["text", "refusal"]


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
    """There is a method for each thing that an event may say of an item, a part or the response."""

    decode_usage = staticmethod(decode_usage)

    def __init__(self, target: Target, used_ids: Collection[str] = ()) -> None:
        super().__init__(target, used_ids)
        self._items = Items(self.turn)

    def read_value(self, value: Json) -> None:
        match value.get("type"):
            case "response.output_text.delta":
                written = value.get("delta")
                if type(written) is not str:
                    written = text(value, "delta")
                if (value.get("output_index"), value.get("content_index")) == self.turn.current:
                    self.turn.delta(self.turn.current, written)
                else:
                    self._write(self._items.find(value), value, "text", written)
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                self._add_arguments(self._items.find(value), text(value, "delta"))
            case "response.reasoning_summary_text.delta":
                self._reason(self._items.find(value), "summary", number_of(value, "summary"), text(value, "delta"))
            case "response.reasoning_text.delta":
                self._reason(self._items.find(value), "content", number_of(value), text(value, "delta"))
            case "response.refusal.delta":
                self._write(self._items.find(value), value, "refusal", text(value, "delta"))
            case "response.output_item.added":
                item = member(value, "item")
                self._begin(self._items.find(value, word(item, "id"), ()), item)
            case "response.output_item.done":
                item = member(value, "item")
                self._end(self._items.find(value, word(item, "id"), ("", kind_of(item))), item)
            case "response.created" | "response.in_progress":
                self.start(inner(value, "response"))
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
                self._complete_part(self._items.find(value), number_of(value), "text", string(value, "text"))
            case "response.refusal.done":
                self._complete_part(self._items.find(value), number_of(value), "refusal", string(value, "refusal"))
            case "response.content_part.done":
                self._read_part(self._items.find(value), number_of(value), inner(value, "part"))
            case "response.output_text.annotation.added":
                self._cite(self._items.find(value), inner(value, "annotation"))
            case "response.function_call_arguments.done":
                self._complete_call(self._items.find(value), value, "function_call")
            case "response.custom_tool_call_input.done":
                self._complete_call(self._items.find(value), value, "custom_tool_call")
            case "response.reasoning_summary_text.done":
                self._complete_reasoning(
                    self._items.find(value), "summary", number_of(value, "summary"), word(value, "text")
                )
            case "response.reasoning_text.done":
                self._complete_reasoning(self._items.find(value), "content", number_of(value), word(value, "text"))
            case _:
                self.read_unknown(value)

    # -- items ------------------------------------------------------------------------------------------------------

    def _begin(self, item: Item, told: Json) -> None:
        if item.kind:
            return
        item.kind, item.announced = kind_of(told), told
        if id := word(told, "id"):
            self._items.by_id[id] = item
        match item.kind:
            case "message":
                if phase := word(told, "phase"):
                    item.state = self.state(NAME, {"phase": phase})
            case "function_call" | "custom_tool_call":
                self._begin_call(item, told)
            case "reasoning":
                self.open(item.key, BlockStart("reasoning"))

    def _begin_call(self, item: Item, told: Json) -> None:
        name, custom = string(told, "name"), item.kind == "custom_tool_call"
        if not name:
            raise WireError("a tool call without a name")
        item.call_id = word(told, "call_id")
        if item.call_id:
            self._items.by_id.setdefault(item.call_id, item)
        id = item.call_id or word(told, "id") or word(told, "item_id")
        self.open(item.key, BlockStart("tool_call", self.unused_id(id), name, custom, word(told, "namespace")))
        held, item.arguments = item.arguments, [arguments_of(told, item.kind)]
        for arguments in held:
            self.turn.delta(item.key, arguments)

    def _end(self, item: Item, told: Json) -> None:
        """The whole item. What was not said before is taken from it."""
        if item.done:
            return
        self._begin(item, told)
        match item.kind:
            case "message":
                self._read_parts(item, told)
            case "function_call" | "custom_tool_call" as kind:
                self._complete(item.key, arguments_of(told, kind) or "".join(item.arguments))
                self.turn.end(item.key)
            case "reasoning":
                if not self.turn.size(item.key):
                    texts = inners(told, "summary") or inners(told, "content")
                    self.turn.delta(item.key, "\n\n".join(word(part, "text") for part in texts))
                id, encrypted = word(told, "id") or None, string(told, "encrypted_content")
                data = {"id": id, "encrypted_content": encrypted}
                self.turn.end(item.key, BlockEnd(self.state(NAME, data) if encrypted else None))
            case kind if kind not in SERVED or kind == "image_generation_call":  # a picture is an answer
                self.left_out = self.left_out or kind
        item.done = True

    def _complete(self, key: tuple[int, int], whole: str) -> None:
        """Add what an open block misses of its whole text."""
        size = self.turn.size(key)
        if len(whole) > size and whole.startswith(self.turn.text(key)):
            self.turn.delta(key, whole[size:])

    # -- the parts of a message -------------------------------------------------------------------------------------

    def _write(self, item: Item, value: Json, kind: PartKind, written: str) -> None:
        place = number_of(value)
        if item.kind not in ("", "message"):
            raise WireError(f"text in a {item.kind} item")
        if not item.done:
            self._switch_part(item, place, kind)
            self.turn.delta(item.key, written)

    def _switch_part(self, item: Item, place: int, kind: PartKind) -> None:
        if not item.kind:
            self._begin(item, {"type": "message"})
        if item.part != place:
            self._end_part(item)
            self.open((item.index, place), BlockStart(kind, state=item.state if kind == "text" else None))
            item.part, item.is_sure, item.alias = place, False, None

    def _end_part(self, item: Item, state: State | None = None) -> None:
        if item.part is None:
            return
        item.told.add(item.part)
        said = self.turn.text(item.key)
        item.said.add(said)
        if not item.is_sure:
            item.texts.add(item.part, said)
        is_text = self.turn.opened(item.key).kind == "text"
        self.turn.end(item.key, BlockEnd(state, item.citations) if is_text else None)
        item.part, item.citations = None, []

    def _complete_part(self, item: Item, place: int, kind: PartKind, whole: str) -> None:
        """The whole text of a part: told already, maybe under another number; the rest of it; or all of it."""
        if item.done or item.kind not in ("", "message") or not whole:
            return
        if item.part == place and (item.is_sure or self._items.begins(item, whole) or not item.texts.take(whole)):
            self._complete(item.key, whole)
            item.is_sure = True
        elif item.part == place:
            pass  # the end of an earlier part, which had another number
        elif place in item.told:
            item.texts.remove(place)
        elif self._has_told(item, place, whole):
            item.told.add(place)
        else:
            self._switch_part(item, place, kind)
            self.turn.delta(item.key, whole)
            item.is_sure = True

    def _has_told(self, item: Item, place: int, whole: str) -> bool:
        """Whether deltas said this under another number, in one part or in all. Texts of one length are compared."""
        if item.texts.take(whole):
            return True
        open_size = 0 if item.part is None or item.is_sure else self.turn.size(item.key)
        if len(whole) not in (open_size, item.texts.size + open_size):
            return False
        said = self.turn.text(item.key) if open_size else ""
        if whole not in (said, item.texts.joined() + said):
            return False
        item.is_sure, item.alias = True, place
        return True

    def _read_part(self, item: Item, place: int, part: Json) -> None:
        kind = part.get("type")
        if kind == "reasoning_text":
            self._complete_reasoning(item, "content", place, word(part, "text"))
        elif kind == "refusal" or "refusal" in part:
            self._complete_part(item, place, "refusal", string(part, "refusal"))
        else:
            self._complete_part(item, place, "text", string(part, "text"))
            if item.part is not None and place in (item.part, item.alias) and not item.citations:
                for annotation in inners(part, "annotations"):
                    self._cite(item, annotation)

    def _read_parts(self, item: Item, told: Json) -> None:
        content = told.get("content")
        parts = [{"text": content}] if type(content) is str else members(told, "content")
        if item.part is not None and item.part >= len(parts):
            item.is_sure = False  # the parts have other numbers here: it is found by its text
        for place, part in enumerate(parts):
            self._read_part(item, place, part)
        phase = "" if item.state else word(told, "phase")
        self._end_part(item, self.state(NAME, {"phase": phase}) if phase else None)

    def _cite(self, item: Item, annotation: Json) -> None:
        if citation := read_citation(annotation):
            item.citations.append(citation)

    # -- reasoning and tool calls -----------------------------------------------------------------------------------

    def _reason(self, item: Item, source: str, place: int, written: str) -> None:
        """Add to a reasoning item's text: its summary or its content, whichever came first. Parts have an empty line
        between them."""
        if not item.kind:
            self._begin(item, {"type": "reasoning"})
        if item.kind != "reasoning":
            raise WireError(f"reasoning in a {item.kind} item")
        if item.done or item.source not in ("", source) or not written:
            return
        if item.part is not None and item.part != place:
            self.turn.delta(item.key, "\n\n")
            item.said, item.is_sure = Said(), False
        item.source, item.part = source, place
        item.said.add(written)
        self.turn.delta(item.key, written)

    def _complete_reasoning(self, item: Item, source: str, place: int, whole: str) -> None:
        """The whole text of a part of reasoning. Parts come one after the other, so it is new if its number is, but for
        the end of one whose deltas had another number."""
        if not whole or item.kind not in ("", "reasoning") or item.source not in ("", source):
            return
        again = item.part is not None and not item.is_sure and item.said.is_with("", whole)
        if item.part is None or (place > item.part and not again):
            self._reason(item, source, place, whole)
        item.part = place if item.part is None else max(place, item.part)
        item.is_sure = True

    def _add_arguments(self, item: Item, arguments: str) -> None:
        if not item.kind:
            item.arguments.append(arguments)  # the name may come with the whole item
        elif item.kind not in ("function_call", "custom_tool_call"):
            raise WireError(f"arguments of a tool call in a {item.kind} item")
        elif not item.done:
            self.turn.delta(item.key, arguments)

    def _complete_call(self, item: Item, value: Json, kind: str) -> None:
        if not item.kind and word(value, "name"):
            self._begin(item, value | {"type": kind})
        whole = arguments_of(value, kind)
        if not item.kind:
            item.arguments = [whole or "".join(item.arguments)]
        elif item.kind in ("function_call", "custom_tool_call") and not item.done:
            self._complete(item.key, whole)

    # -- the end ----------------------------------------------------------------------------------------------------

    def _finish(self, kind: str, response: Json) -> None:
        self.start(response)
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
