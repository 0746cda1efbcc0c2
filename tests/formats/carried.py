"""What a format can carry of a turn: the few things that change when events are written in it and read again.

`carried` is what the reader should find after the writer of `format` has written the events; `settled` takes out what
no format can keep, of both sides: the ids that this gateway gives anew and the upstream's own word for the finish.

| format    | changes                                                                                            |
|-----------|----------------------------------------------------------------------------------------------------|
| all       | state becomes the format's own (foreign state is packed in it), and where a block has no place for  |
|           | it, it rides in an empty reasoning block beside it; reasoning has its state at the end; a call      |
|           | without arguments has `{}`; a model without a name has the one that was asked for                   |
| chat      | empty blocks are nothing and blocks of one kind in a row are one; state of reasoning is packed even |
|           | when its own; a call has its state in itself, whole at its start;                                   |
|           | offsets of citations are always there; no namespaces, no stop sequence                              |
| responses | empty text is nothing; offsets of citations are always there; no stop sequence                      |
| anthropic | refusals are text and a finish reason; citations have no offsets; no custom tools, no namespaces    |
| gemini    | texts in a row are one; refusals are text and a finish reason; arguments are an object, in one      |
|           | piece; state is packed even when its own, and that of reasoning is on the next call or text;        |
|           | citations come with the end of the answer, for its last text (lost where thoughts follow it);       |
|           | no writes to a cache                                                                                |

A whole chat answer (`whole`) has its blocks in a fixed order by kind, and anthropic's has arguments as an object.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson

from droid2api.formats.gemini.words import encode_state
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
    {"chat": _chat, "responses": _responses, "anthropic": _anthropic, "gemini": _gemini}[format](read, whole)
    return _settle(read)


def _place_states(read: Read, own: Callable[[BlockStart, State], State | None], carrier: Callable[[State], State]):
    """`own` is the state that a block itself keeps, `carrier` that of a reasoning block beside it."""
    pieces = []
    for piece in read.pieces:
        start, first, last = piece.start, piece.start.state, piece.end.state
        if start.kind == "reasoning":
            state = first or last
            piece.start, piece.end = replace(start, state=None), replace(piece.end, state=state and own(start, state))
            pieces.append(piece)
            continue
        kept = [state and own(start, state) for state in (first, last)]
        piece.start, piece.end = replace(start, state=kept[0]), replace(piece.end, state=kept[1])
        beside = [
            [Piece(BlockStart("reasoning"), [], BlockEnd(carrier(state.for_block(start))))] if state and not own else []
            for state, own in zip((first, last), kept, strict=True)
        ]
        pieces += [*beside[0], piece, *beside[1]]
    read.pieces = pieces


def _chat(read: Read, whole: bool) -> None:
    for piece in read.pieces:
        if piece.start.kind == "reasoning":
            piece.end = BlockEnd(_details(piece))
            piece.start = replace(piece.start, state=None)
    _place_states(read, _chat_own, lambda state: _details(Piece(BlockStart("reasoning"), [], BlockEnd(state))))
    position, pieces = 0, []
    for piece in read.pieces:
        has_details = piece.end.state and piece.end.state.data.get("details")
        if not piece.deltas and not has_details and piece.start.kind != "tool_call":
            continue
        piece.start = replace(piece.start, namespace="")
        if piece.start.kind == "text":
            piece.end = BlockEnd(citations=_with_offsets(piece, position))
            position += len(piece.text)
        if whole and piece.start.kind == "tool_call" and piece.end.state:
            piece.start, piece.end = replace(piece.start, state=piece.end.state), BlockEnd()
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


def _chat_own(start: BlockStart, state: State) -> State | None:
    if start.kind == "reasoning":
        return state
    if start.kind != "tool_call":
        return None
    is_own = state.format == "chat" and "extra_content" in state.data
    extra = state.data["extra_content"] if is_own else {"droid2api": state.pack()}
    return State("chat", TARGET.family, {"extra_content": extra})


def _details(piece: Piece) -> State:
    """The state of a reasoning block as the format has it."""
    state, data = piece.start.state or piece.end.state, {"field": "reasoning_content"}
    if state and piece.text:
        packed = replace(state, data=state.data | {"text": piece.text}).pack()
        data["details"] = [{"type": "reasoning.text", "signature": packed, "format": "droid2api"}]
    elif state:
        data["details"] = [{"type": "reasoning.encrypted", "data": state.pack(), "format": "droid2api"}]
    return State("chat", TARGET.family, data)


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
    _place_states(read, _responses_own, lambda state: _encrypted(state.pack()))
    read.pieces = [piece for piece in read.pieces if piece.deltas or piece.start.kind not in ("text", "refusal")]
    for piece in read.pieces:
        piece.end = BlockEnd(piece.end.state, _with_offsets(piece, 0))
    if type(read.last) is Finish:
        read.last = replace(read.last, stop_sequence=None)


def _responses_own(start: BlockStart, state: State) -> State | None:
    place = {"text": "phase", "reasoning": "encrypted_content"}.get(start.kind)
    if state.format == "responses" and place in state.data:
        return replace(state, service="")
    return _encrypted(state.pack()) if start.kind == "reasoning" else None


def _encrypted(content: str) -> State:
    return State("responses", TARGET.family, {"encrypted_content": content})


def _anthropic(read: Read, whole: bool) -> None:
    _place_states(read, _anthropic_own, lambda state: _signed(state.pack()))
    for piece in read.pieces:
        piece.start = replace(piece.start, namespace="")
        if piece.start.kind == "refusal":
            piece.start = BlockStart("text")
            if type(read.last) is Finish:
                read.last = replace(read.last, reason="content_filter")
        if whole and piece.start.kind == "tool_call":
            piece.deltas = [_as_object(piece.text)]
        citations = [replace(citation, start=None, end=None) for citation in piece.end.citations]
        piece.end = BlockEnd(piece.end.state, citations)


class _GeminiParts:
    """Parts, and the blocks that they are read as."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.waiting: list[str] = []
        self.open = False

    def add(self, kind: str, text: str, signature: str = "") -> None:
        if not text:
            self._carry(signature)
            return
        last = self.pieces[-1] if self.open else None
        if not last or last.start.kind != kind or (signature and last.end.state):
            self.pieces.append(Piece(BlockStart(kind), [], BlockEnd()))
            self.open = True
        piece = self.pieces[-1]
        if signature:
            piece.end.state = _gemini_state(signature, len(piece.text), len(piece.text + text))
        piece.deltas.append(text)

    def _carry(self, signature: str) -> None:
        last = self.pieces[-1] if self.open else None
        if last and last.start.kind == "text" and not last.end.state:
            last.end.state = _gemini_state(signature, len(last.text), len(last.text))
        else:
            part = {"text": "", "thoughtSignature": signature}
            end = BlockEnd(State("gemini", TARGET.family, {"part": part}))
            self.pieces.append(Piece(BlockStart("reasoning"), [], end))
            self.open = False

    def call(self, start: BlockStart, text: str, state: State | None) -> None:
        signature = self.signature(state)
        kept = State("gemini", TARGET.family, {"signature": signature}) if signature else None
        start = replace(start, namespace="", state=kept)
        self.pieces.append(Piece(start, [_as_object(text)], BlockEnd()))
        self.open = False

    def signature(self, own: State | None = None) -> str:
        """The signature of the next part; others that wait have parts of their own before it."""
        *before, last = [*self.waiting, *([encode_state(own)] if own else [])] or [""]
        self.waiting = []
        for signature in before:
            self._carry(signature)
        return last


def _gemini_state(signature: str, start: int, end: int) -> State:
    return State("gemini", TARGET.family, {"signature": signature, "start": start, "end": end})


def _gemini(read: Read, whole: bool) -> None:
    parts, refused, said, citations = _GeminiParts(), False, 0, []
    for piece in joined(read).pieces if whole else read.pieces:
        kind, state = piece.start.kind, piece.start.state or piece.end.state
        if kind == "tool_call" and not _is_json(piece.text):  # such a client would run what is cut off
            continue
        if kind == "tool_call":
            own = state and state.format == "gemini"
            parts.call(piece.start, piece.text, state and (state if own else state.for_block(piece.start)))
            continue
        if kind == "reasoning":
            for delta in filter(None, piece.deltas):
                parts.add(kind, delta)
            if state:
                parts.waiting.append(encode_state(replace(state, data=state.data | {"text": piece.text})))
            continue
        refused = refused or kind == "refusal"
        if piece.start.state:
            parts.waiting.append(encode_state(piece.start.state.for_block(piece.start)))
        for delta in filter(None, piece.deltas):
            parts.add("text", delta, parts.signature())
        if piece.end.state:
            parts.add("text", "", parts.signature(piece.end.state.for_block(piece.start)))
        for citation in piece.end.citations:
            offsets = citation.start or 0, len(piece.text) if citation.end is None else citation.end
            citations.append(replace(citation, start=said + offsets[0], end=said + offsets[1]))
        said += len(piece.text)
    if parts.waiting:
        parts.add("text", "", parts.signature())
    if not parts.pieces and type(read.last) is Finish and read.last.reason == "content_filter":
        parts.pieces.append(Piece(BlockStart("refusal"), ["The answer was withheld (SAFETY)."], BlockEnd()))
    read.pieces = parts.pieces
    *_, text = [None, *(number for number, piece in enumerate(read.pieces) if piece.start.kind == "text")]
    if text is not None and not any(piece.deltas and piece.start.kind == "reasoning" for piece in read.pieces[text:]):
        before = sum(len(piece.text) for piece in read.pieces[:text] if piece.start.kind == "text")
        for citation in citations:
            place = citation.start - before, citation.end - before
            start, end = place if min(place) >= 0 and max(place) <= said - before else (None, None)
            read.pieces[text].end.citations.append(replace(citation, start=start, end=end))
    if type(read.last) is Finish:
        usage, reason = read.last.usage, "content_filter" if refused else read.last.reason
        usage = replace(usage, output=max(usage.output, usage.reasoning), cache_write=0)
        read.last = replace(read.last, reason=reason, stop_sequence=None, usage=usage)


def _anthropic_own(start: BlockStart, state: State) -> State | None:
    if start.kind != "reasoning":
        return None
    return replace(state, service="") if state.format == "anthropic" else _signed(state.pack())


def _signed(signature: str) -> State:
    return State("anthropic", TARGET.family, {"signature": signature})


def _as_object(arguments: str) -> str:
    try:
        return orjson.dumps(orjson.loads(arguments)).decode()
    except orjson.JSONDecodeError:
        return "{}"


def _is_json(arguments: str) -> bool:
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return False
    return True


def is_failed(events: list[Event]) -> bool:
    return type(events[-1]) is Failed


def is_for(events: list[Event], format: str) -> bool:
    """Whether a client of `format` can ask for this: a call of a custom tool answers those who know such tools."""
    return format not in ("anthropic", "gemini") or not any(
        type(event) is BlockStart and event.custom for event in events
    )


def text_of(events: list[Event]) -> str:
    return "".join(block.text for block in fold(events).blocks if block.start.kind == "text")
