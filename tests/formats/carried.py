"""What a format can carry of a turn: the few things that change when events are written in it and read again.

`carried` is what the reader should find after the writer of `format` has written the events; `settled` takes out what
no format can keep, of both sides: the ids that this gateway gives anew and the upstream's own word for the finish.

| format    | changes                                                                                            |
|-----------|----------------------------------------------------------------------------------------------------|
| all       | state becomes the format's own (foreign state is packed in it); a call without arguments has `{}`;  |
|           | a model without a name has the one that was asked for                                               |
| chat      | empty blocks are nothing and blocks of one kind in a row are one; state is packed even when its own;|
|           | offsets of citations are always there; no namespaces, no stop sequence                              |
| responses | empty text is nothing; offsets of citations are always there; no stop sequence                      |
| anthropic | refusals are text and a finish reason; citations have no offsets; no custom tools, no namespaces    |

A whole chat answer (`whole`) has its blocks in a fixed order by kind, and anthropic's has arguments as an object.
"""

from dataclasses import dataclass, replace

import orjson

from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Event, Failed, Finish, Start, State
from droid2api.hub.turn import fold

from .wire import REQUEST, TARGET


@dataclass
class Piece:
    """A block; `deltas` keeps the boundaries of the text."""

    start: BlockStart
    deltas: list[str]
    end: BlockEnd

    @property
    def text(self):
        return "".join(self.deltas)


@dataclass
class Read:
    start: Start
    pieces: list[Piece]
    last: Event


def take_apart(events: list[Event]) -> Read:
    pieces = []
    for event in events[1:-1]:
        if type(event) is BlockStart:
            pieces.append(Piece(event, [], BlockEnd()))
        elif type(event) is Delta:
            pieces[-1].deltas.append(event.text)
        else:
            pieces[-1].end = event
    return Read(events[0], pieces, events[-1])


def settled(events: list[Event]) -> Read:
    return _settle(take_apart(events))


def _settle(read: Read) -> Read:
    read.start = replace(read.start, id="")
    for piece in read.pieces:
        if piece.end.state and piece.end.state.format == "responses":
            data = {name: value for name, value in piece.end.state.data.items() if name != "id"}
            piece.end = replace(piece.end, state=replace(piece.end.state, data=data))
    if type(read.last) is Finish:
        read.last = replace(read.last, raw="")
    return read


def joined(read: Read) -> Read:
    """Without the boundaries of deltas, which a whole answer has not."""
    for piece in read.pieces:
        piece.deltas = [piece.text]
    return read


def carried(events: list[Event], format: str, *, whole: bool = False) -> Read:
    read = take_apart(events)
    read.start = replace(read.start, model=read.start.model or REQUEST.model)
    for piece in read.pieces:
        if piece.start.kind == "tool_call" and not piece.start.custom and not piece.deltas:
            piece.deltas = ["{}"]
    {"chat": _chat, "responses": _responses, "anthropic": _anthropic}[format](read, whole)
    return _settle(read)


def _chat(read: Read, whole: bool) -> None:
    position, pieces = 0, []
    for piece in read.pieces:
        if not piece.deltas and not piece.end.state and piece.start.kind != "tool_call":
            continue
        piece.start = replace(piece.start, namespace="")
        if piece.start.kind == "text":
            piece.end = BlockEnd(citations=_with_offsets(piece, position))
            position += len(piece.text)
        elif piece.start.kind == "reasoning":
            data = {"field": "reasoning_content"} | ({"details": [_detail(piece)]} if piece.end.state else {})
            piece.end = BlockEnd(State("chat", TARGET.family, data))
        before = pieces[-1] if pieces else None
        if whole and piece.start.kind != "tool_call":
            before = next((other for other in pieces if other.start == piece.start), None)
        if before and before.start == piece.start and piece.start.kind != "tool_call":
            _merge(before, piece)
        else:
            pieces.append(piece)
    if whole:
        pieces.sort(key=lambda piece: ("reasoning", "text", "refusal", "tool_call").index(piece.start.kind))
    details = [detail for piece in pieces if piece.end.state for detail in piece.end.state.data.get("details", ())]
    for index, detail in enumerate(details):
        detail["index"] = index
    read.pieces = pieces
    if type(read.last) is Finish:
        read.last = replace(read.last, stop_sequence=None)


def _detail(piece: Piece) -> dict:
    state = piece.end.state
    if not piece.text:
        return {"type": "reasoning.encrypted", "data": state.pack(), "format": "droid2api"}
    packed = replace(state, data=state.data | {"text": piece.text}).pack()
    return {"type": "reasoning.text", "signature": packed, "format": "droid2api"}


def _merge(before: Piece, piece: Piece) -> None:
    before.deltas += piece.deltas
    state, more = before.end.state, piece.end.state
    if state and more:
        details = state.data.get("details", []) + more.data.get("details", [])
        state = replace(state, data={"field": "reasoning_content"} | ({"details": details} if details else {}))
    before.end = BlockEnd(state, before.end.citations + piece.end.citations)


def _with_offsets(piece: Piece, position: int) -> list[Citation]:
    """Unknown offsets become those of the whole text; `position` is where its message has it."""
    return [
        replace(
            citation,
            start=position + (citation.start or 0),
            end=position + (len(piece.text) if citation.end is None else citation.end),
        )
        for citation in piece.end.citations
    ]


def _responses(read: Read, whole: bool) -> None:
    read.pieces = [piece for piece in read.pieces if piece.deltas or piece.start.kind not in ("text", "refusal")]
    for piece in read.pieces:
        state = piece.end.state
        if state and state.format != "responses":
            state = State("responses", TARGET.family, {"encrypted_content": state.pack()})
        piece.end = BlockEnd(state, _with_offsets(piece, 0))
    if type(read.last) is Finish:
        read.last = replace(read.last, stop_sequence=None)


def _anthropic(read: Read, whole: bool) -> None:
    for piece in read.pieces:
        piece.start = replace(piece.start, namespace="")
        if piece.start.kind == "refusal":
            piece.start = BlockStart("text")
            if type(read.last) is Finish:
                read.last = replace(read.last, reason="content_filter")
        if whole and piece.start.kind == "tool_call":
            piece.deltas = [_as_object(piece.text)]
        state = piece.end.state
        if state and state.format != "anthropic":
            state = State("anthropic", TARGET.family, {"signature": state.pack()})
        citations = [replace(citation, start=None, end=None) for citation in piece.end.citations]
        piece.end = BlockEnd(state, citations)


def _as_object(arguments: str) -> str:
    try:
        return orjson.dumps(orjson.loads(arguments)).decode()
    except orjson.JSONDecodeError:
        return "{}"


def is_failed(events: list[Event]) -> bool:
    return type(events[-1]) is Failed


def is_for(events: list[Event], format: str) -> bool:
    """Whether a client of `format` can ask for this: a call of a custom tool answers those who know such tools."""
    return format != "anthropic" or not any(type(event) is BlockStart and event.custom for event in events)


def text_of(events: list[Event]) -> str:
    return "".join(block.text for block in fold(events).blocks if block.start.kind == "text")
