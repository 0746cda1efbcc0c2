"""An upstream's answers in the Gemini format.

Theory of operation. Each event is a whole answer with the parts that are new; a part has no key, so that a block begins
when a part is of another kind than the last one. One block is open at a time, under its kind's name. A tool call comes
whole, in one part, unless the service streams its arguments: then they are put together and said when the call is.

A signature belongs to the very part that it came with, and must go back in its place. A call has it from its beginning.
A text's is told at the block's end, with the place of its part in the block, which may be an empty one at the end.
Anything else that is signed (what the service's own tools did) becomes an empty reasoning block that holds the part.

Held back until the end of a text are its citations, which come last, counted in bytes. The candidate's finish reason is
the end. One that is not known is a failure, and so is a call that the service found malformed: nobody is to run it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

from droid2api.errors import StreamError, UpstreamError, WireError
from droid2api.formats.decoder import MEDIA, Ending, TurnDecoder, answer_error, finish_reason, read_ending, unfinished
from droid2api.formats.gemini.errors import read_error
from droid2api.formats.gemini.words import NAME
from droid2api.formats.upstream_error import find_words, tells_error
from droid2api.hub.events import BlockEnd, BlockKind, BlockStart, Citation, Event, Finish, FinishReason, Usage
from droid2api.hub.request import Target
from droid2api.wire.fields import (
    Json,
    count,
    inner,
    inners,
    is_shallow,
    json_text,
    member,
    members,
    number,
    string,
    word,
)
from droid2api.wire.sse import ServerSentEvent

_FILTERED = re.compile(r"SAFETY|.*_SAFETY|LANGUAGE|MODEL_ARMOR|ESCALATION|JAILBREAK|IMAGE_\w+|NO_IMAGE")
_STEP = re.compile(r"""(\.([^.\[\]]+)|\[(\d{1,9})\]|\[['"]([^'"]+)['"]\])""")
_VALUES = ("stringValue", "numberValue", "boolValue")
_MEDIA = ("inlineData", "fileData")
_OWN = frozenset("candidates promptFeedback usageMetadata responseId modelVersion createTime".split())


def decode_response(body: Any, target: Target, used_ids: Collection[str] = ()) -> list[Event]:
    """A whole answer, or a stream as one array, as events: it is read as the stream that would have said the same."""
    decoder = StreamDecoder(target, used_ids)
    if type(body) is list and body and all(type(value) is dict for value in body):
        return decoder.feed_values(body) + decoder.close()
    blocked = type(body) is dict and "promptFeedback" in body
    if error := answer_error(body, "promptFeedback" if blocked else "candidates"):
        return decoder.fail(read_error(body) if type(body) is dict and tells_error(body) else error)
    return decoder.feed_values([body]) + decoder.close()


def decode_usage(usage: Json) -> Usage:
    thoughts = count(usage, "thoughtsTokenCount")
    return Usage(
        count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount"),
        count(usage, "candidatesTokenCount") + thoughts,
        count(usage, "cachedContentTokenCount"),
        reasoning=thoughts,
    )


def ending(event: ServerSentEvent) -> Ending:
    """What one event, or a whole answer, says of the end. Junk says nothing."""
    return read_ending(event, _ending_of)


def _ending_of(value: Json) -> Ending:
    error: UpstreamError | None = read_error(value) if tells_error(value) else None
    finished = False
    for candidate in inners(value, "candidates"):
        if told := word(candidate, "finishReason"):
            finished, error = True, error or _unfinished(candidate, told)
    blocked = bool(inner(value, "promptFeedback").get("blockReason"))
    return Ending(finished or blocked or error is not None, inner(value, "usageMetadata") or None, error)


def _reason(told: str) -> FinishReason | None:
    """What a finish reason means; None for one that tells of a failure, or is not known."""
    if told == "CONTINUATION":  # the service's own limit for one request
        return "length"
    return "content_filter" if _FILTERED.fullmatch(told) else finish_reason(told)


def _unfinished(candidate: Json, told: str) -> StreamError | None:
    """What a finish reason that tells of a failure says; None for a regular end."""
    if _reason(told) is not None:
        return None
    words = word(candidate, "finishMessage")
    return StreamError(words, code=told) if words else unfinished(told)


class StreamDecoder(TurnDecoder):
    """Reads candidate 0 only: this gateway never asks for more."""

    def __init__(self, target: Target, used_ids: Collection[str] = ()) -> None:
        super().__init__(target, used_ids)
        self._signed: Json = {}
        self._grounding: Json = {}
        self._cites: list[Json] = []
        self._counts: Json = {}
        self._bytes_before = 0
        self._arguments: Json | None = None
        """Those of the call whose arguments are being streamed."""

    def read_value(self, value: Json) -> None:
        if tells_error(value) or (not value.keys() & _OWN and find_words(value)):
            self.turn.fail(read_error(value))
            return
        if not value.keys() & _OWN:  # nothing of an answer: should it end badly, this may say why
            self.noted = read_error(value)
            return
        if not self.turn.started:
            self.start({"id": word(value, "responseId"), "model": word(value, "modelVersion")})
        if usage := inner(value, "usageMetadata"):
            self._counts |= usage  # a count that a later event leaves out stands
            self.usage = decode_usage(self._counts)
        for candidate in members(value, "candidates"):
            if not number(candidate, "index"):
                self._read_candidate(candidate)
                return
        feedback = inner(value, "promptFeedback")
        if told := word(feedback, "blockReason"):
            self._refuse(word(feedback, "blockReasonMessage") or f"The prompt was blocked ({told}).")
            self._finish("content_filter", told)

    def _read_candidate(self, candidate: Json) -> None:
        told = string(candidate, "finishReason")
        reason, words = _reason(told), word(candidate, "finishMessage")
        if told and (failure := _unfinished(candidate, told)):
            self.turn.fail(failure)
            return
        for part in members(inner(candidate, "content"), "parts"):
            self._read_part(part)
        self._grounding = inner(candidate, "groundingMetadata") or self._grounding
        cited = inner(candidate, "citationMetadata")
        self._cites += [*inners(cited, "citations"), *inners(cited, "citationSources")]
        if reason == "content_filter" and not self.turn.blocks:
            self._refuse(words or f"The answer was withheld ({told}).")
        if reason:
            self._finish(reason, told)

    def _finish(self, reason: FinishReason, told: str) -> None:
        self._end()
        self.turn.finish(Finish(reason, told, self.usage or Usage()))

    def _refuse(self, words: str) -> None:
        self._switch(BlockStart("refusal"))
        self.turn.delta("refusal", words)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _read_part(self, part: Json) -> None:
        signature = string(part, "thoughtSignature")
        if "functionCall" in part:
            self._read_call(member(part, "functionCall"), signature)
        elif string(part, "text") and part.get("thought") is not True:
            self._write_text(part["text"], signature)
        elif string(part, "text"):
            self._write("reasoning", part["text"])
            if signature:
                self._end(BlockEnd(self.state(NAME, {"signature": signature})))
        elif signature and "text" in part and self.turn.current == "text" and not self._signed:
            self._sign(signature, "")
        elif signature and is_shallow(part):
            self._switch(BlockStart("reasoning"), again=True)
            self._end(BlockEnd(self.state(NAME, {"part": part})))
        elif any(part.get(name) for name in _MEDIA):
            raise WireError(MEDIA)

    def _write_text(self, text: str, signature: str) -> None:
        if signature and self._signed:
            self._end()
        self._switch(BlockStart("text"))
        if signature:
            self._sign(signature, text)
        self.turn.delta("text", text)

    def _sign(self, signature: str, text: str) -> None:
        start = self.turn.size("text")
        self._signed = {"signature": signature, "start": start, "end": start + len(text)}

    def _read_call(self, call: Json, signature: str) -> None:
        if self._arguments is None or string(call, "name"):
            state = self.state(NAME, {"signature": signature}) if signature else None
            name = string(call, "name")
            if not name:
                raise WireError("a tool call without a name")
            self._switch(BlockStart("tool_call", self.unused_id(word(call, "id")), name, state=state), again=True)
            self._arguments = {}
        arguments = call.get("args")
        if arguments is not None:
            self.turn.delta("tool_call", arguments if type(arguments) is str else json_text(arguments))
        for piece in members(call, "partialArgs"):
            _put(self._arguments, string(piece, "jsonPath"), piece)
        if call.get("willContinue") is not True:
            self._end()

    # -- blocks -----------------------------------------------------------------------------------------------------

    def _write(self, kind: BlockKind, text: str) -> None:
        self._switch(BlockStart(kind))
        self.turn.delta(kind, text)

    def _switch(self, start: BlockStart, *, again: bool = False) -> None:
        """Go on with a block of this kind: the open one, unless it must be another (`again`)."""
        if self.turn.current != start.kind or again:
            self._end()
            self.open(start.kind, start)

    def _end(self, end: BlockEnd | None = None) -> None:
        key: Any = self.turn.current
        if key is None:
            return
        end = end or BlockEnd()
        if key == "text":
            end.state = self.state(NAME, self._signed) if self._signed else None
            end.citations, self._signed = self._citations(), {}
        elif key == "tool_call":
            if self._arguments and not self.turn.size(key):
                self.turn.delta(key, json_text(self._arguments))
            self._arguments = None
        self.turn.end(key, end)

    def _citations(self) -> list[Citation]:
        """Those of the open text. Their places are bytes of all text that was said, ours are characters of this one."""
        text, before = self.turn.text("text"), self._bytes_before
        self._bytes_before += len(text.encode(errors="replace"))
        sources = [*_grounded(self._grounding), *map(_cited, self._cites)]
        self._grounding, self._cites = {}, []
        ends = list(accumulate(len(char.encode(errors="replace")) for char in text)) if sources else []
        return [
            Citation(url, title, _place(ends, start, before), _place(ends, end, before))
            for url, title, start, end in sources
            if url
        ]


_Source: TypeAlias = tuple[str, str, int | None, int | None]
"""URL, title, and the bytes of the text that it is for."""


def _grounded(grounding: Json) -> Iterator[_Source]:
    """The sources of a search, each once for each piece of text that it supports."""
    chunks = [inner(chunk, "web") or inner(chunk, "retrievedContext") for chunk in inners(grounding, "groundingChunks")]
    supporting: set[int] = set()
    for support in inners(grounding, "groundingSupports"):
        indices = support.get("groundingChunkIndices")
        for index in indices if type(indices) is list else ():
            if type(index) is int and 0 <= index < len(chunks):
                supporting.add(index)
                yield _cited(chunks[index] | inner(support, "segment"))
    yield from (_cited(chunk) for index, chunk in enumerate(chunks) if index not in supporting)


def _cited(value: Json) -> _Source:
    end = number(value, "endIndex")
    return word(value, "uri"), word(value, "title"), None if end is None else number(value, "startIndex") or 0, end


def _place(ends: list[int], offset: int | None, before: int) -> int | None:
    """The characters before an offset in bytes; `ends` are the bytes up to the end of each. None when outside."""
    if offset is None or not before <= offset <= before + (ends[-1] if ends else 0):
        return None
    return bisect_left(ends, offset - before) + 1 if offset > before else 0


def _put(arguments: Json, path: str, piece: Json) -> None:
    """Put a piece of a streamed call's arguments where its JSON path says ("$.a[0].b"); texts are appended."""
    found = _STEP.findall(path)
    if not found or "".join(whole for whole, *_ in found) != path.removeprefix("$"):
        raise WireError("arguments of a tool call in no such place")
    steps = [int(index) if index else name or quoted for _, name, index, quoted in found]
    node: Any = arguments
    for step, following in pairwise(steps):
        node = _child(node, step, [] if type(following) is int else {})
    value = next((piece[name] for name in _VALUES if name in piece), None)
    known = _child(node, steps[-1], None)
    node[steps[-1]] = known + value if type(known) is type(value) is str else value


def _child(node: Any, step: str | int, new: object) -> Any:
    """What stands at a name of an object, or at a place of a list, which may be its next one."""
    if type(node) is dict and type(step) is str:
        return node.setdefault(step, new)
    if type(node) is not list or type(step) is not int or step > len(node):
        raise WireError("arguments of a tool call in no such place")
    if step == len(node):
        node.append(new)
    return node[step]
