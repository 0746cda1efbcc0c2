"""An upstream's answers in the Gemini format.

Theory of operation. Each event is a whole answer with the parts that are new; a part has no key, so that a block begins
when a part is of another kind than the last one. It is open under its kind's name. A tool call comes whole, in one
part, unless the service streams its arguments: then they are put together and said when the call is.

A signature belongs to the very part that it came with, and must go back in its place. A call has it from its beginning.
A text's is told at the block's end, with the place of its part in the block, which may be an empty one at the end.
Anything else that is signed (what the service's own tools did) becomes an empty reasoning block that holds the part.

Held back until the end of a text are its citations, counted in bytes. They come last, with the finish reason, so that a
text stays open behind calls and what else is signed, which wait for its end. More text or thoughts end it: citations
are of the last text then, without the place that is not in it. The candidate's finish reason is the end. One that is
not known is a failure, and so is a call that the service found malformed: nobody is to run it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import pairwise
from typing import Any

from droid2api.errors import StreamError, UpstreamError, WireError
from droid2api.formats.decoder import MEDIA, TurnDecoder
from droid2api.formats.endings import Ending, answer_error, finish_reason, read_ending, unfinished
from droid2api.formats.gemini.citations import Citations
from droid2api.formats.gemini.errors import read_error
from droid2api.formats.gemini.words import NAME, SERVED
from droid2api.formats.upstream_error import find_words, tells_error
from droid2api.hub.events import BlockEnd, BlockKind, BlockStart, Event, FinishReason, State, Usage
from droid2api.hub.request import Target
from droid2api.hub.turn import refuse
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

_STEP = re.compile(r"""(\.([^.\[\]]+)|\[(\d{1,9})\]|\[['"]([^'"]+)['"]\])""")
_VALUES = ("stringValue", "numberValue", "boolValue")
_MEDIA = ("inlineData", "fileData")
_OWN = frozenset("candidates promptFeedback usageMetadata responseId modelVersion createTime".split())


def decode_response(body: Any, target: Target, used_ids: Collection[str] = ()) -> list[Event]:
    """A whole answer, or a stream as one array, as events: it is read as the stream that would have said the same."""
    decoder = StreamDecoder(target, used_ids)
    if type(body) is not list or not body or not all(type(value) is dict for value in body):
        blocked = type(body) is dict and "promptFeedback" in body
        if error := answer_error(body, "promptFeedback" if blocked else "candidates"):
            return decoder.fail(read_error(body) if type(body) is dict and tells_error(body) else error)
        body = [body]
    return decoder.feed_values(body) + decoder.close()


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


def _unfinished(candidate: Json, told: str) -> StreamError | None:
    """What a finish reason that tells of a failure says; None for a regular end."""
    failure, words = unfinished(told), word(candidate, "finishMessage")
    return StreamError(words, code=told) if failure and words else failure


class StreamDecoder(TurnDecoder):
    """Reads candidate 0 only: this gateway never asks for more."""

    decode_usage = staticmethod(decode_usage)

    def __init__(self, target: Target, used_ids: Collection[str] = ()) -> None:
        super().__init__(target, used_ids)
        self._kind = ""
        """That of the newest block, while more of it may come."""
        self._signed: Json = {}
        self._citations = Citations()
        self._pieces: dict[str, list[Any]] = {}
        """Those of a call's arguments that are being streamed, by their JSON path."""

    def read_value(self, value: Json) -> None:
        if ("candidates" not in value or "error" in value) and self._read_odd(value):
            return
        if not self.turn.started:
            self.turn.start(word(value, "responseId"), word(value, "modelVersion"))
        if "usageMetadata" in value:
            self.counts |= inner(value, "usageMetadata")  # a count that a later event leaves out stands
        if "promptFeedback" in value and (told := word(inner(value, "promptFeedback"), "blockReason")):
            words = word(value["promptFeedback"], "blockReasonMessage")
            refuse(self.turn, words or f"The prompt was blocked ({told}).")
            self._finish("content_filter", told)
            return
        for candidate in members(value, "candidates"):
            if not candidate.get("index") or not number(candidate, "index"):
                self._read_candidate(candidate)
                return

    def _read_odd(self, value: Json) -> bool:
        """Whether it is no part of an answer, but an error, or what may say why an answer ends badly."""
        is_own = bool(value.keys() & _OWN)
        if tells_error(value) or (not is_own and find_words(value)):
            self.turn.fail(read_error(value))
        elif not is_own:
            self.noted = read_error(value)
        return self.turn.done or not is_own

    def _read_candidate(self, candidate: Json) -> None:
        told = string(candidate, "finishReason") if "finishReason" in candidate else ""
        if told and (failure := _unfinished(candidate, told)):
            self.turn.fail(failure)
            return
        if (content := candidate.get("content")) is not None:
            for part in members(content if type(content) is dict else member(candidate, "content"), "parts"):
                if len(part) == 1 and self._kind == "text" and type(part.get("text")) is str:
                    self.turn.delta("text", part["text"])
                else:
                    self._read_part(part)
        if "groundingMetadata" in candidate or "citationMetadata" in candidate:
            self._citations.note(candidate)
        if told and (reason := finish_reason(told)):
            if reason == "content_filter" and not self.turn.blocks:
                refuse(self.turn, word(candidate, "finishMessage") or f"The answer was withheld ({told}).")
            self._finish(reason, told)

    def _finish(self, reason: FinishReason, told: str) -> None:
        self._end()
        self._end_text()
        self.finish(reason, told)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _read_part(self, part: Json) -> None:
        signature, is_thought = string(part, "thoughtSignature"), part.get("thought") is True
        if "functionCall" in part:
            self._read_call(member(part, "functionCall"), signature)
        elif text := string(part, "text"):
            self._write("reasoning" if is_thought else "text", text, signature)
        elif not is_thought and any(part.get(name) for name in _MEDIA):
            raise WireError(MEDIA)
        elif signature and "text" in part and self._kind == "text" and not self._signed:
            self._write("text", "", signature)
        elif signature and is_shallow(part):
            self._begin(BlockStart("reasoning"), beside_text=True)
            self._end(self.target.state(NAME, {"part": part}))
        elif "text" not in part and not any(name in part for name in SERVED):
            self.left_out = self.left_out or next(iter(part), "")

    def _write(self, kind: BlockKind, text: str, signature: str) -> None:
        if kind != self._kind or (signature and self._signed):
            self._begin(BlockStart(kind))
        start = self.turn.size(kind)
        self.turn.delta(kind, text)
        if signature and kind == "text":
            self._signed = {"signature": signature, "start": start, "end": start + len(text)}
        elif signature:
            self._end(self.target.state(NAME, {"signature": signature}))

    def _read_call(self, call: Json, signature: str) -> None:
        name = string(call, "name")
        if name or self._kind != "tool_call":
            if not name:
                raise WireError("a tool call without a name")
            state = self.target.state(NAME, {"signature": signature}) if signature else None
            start = BlockStart("tool_call", self.call_ids.assign(word(call, "id")), name, state=state)
            self._begin(start, beside_text=True)
        if (arguments := call.get("args")) is not None:
            self.turn.delta("tool_call", arguments if type(arguments) is str else json_text(arguments))
        for piece in members(call, "partialArgs"):
            value = next((piece[name] for name in _VALUES if name in piece), None)
            self._pieces.setdefault(string(piece, "jsonPath"), []).append(value)
        if call.get("willContinue") is not True:
            self._end()

    # -- blocks -----------------------------------------------------------------------------------------------------

    def _begin(self, start: BlockStart, *, beside_text: bool = False) -> None:
        """Begin another block; one that comes whole may do so while a text is open, and waits for its end."""
        self._end()
        if not beside_text:
            self._end_text()
        self.turn.open(start.kind, start)
        self._kind = start.kind

    def _end(self, state: State | None = None) -> None:
        """End the newest block, unless it is a text."""
        pieces, self._pieces = self._pieces, {}
        if pieces and not self.turn.size("tool_call"):
            self.turn.delta("tool_call", json_text(_assembled(pieces)))
        if self._kind not in ("", "text"):
            self.turn.end(self._kind, BlockEnd(state))
        self._kind = ""

    def _end_text(self) -> None:
        if self.turn.is_open("text"):
            state = self.target.state(NAME, self._signed) if self._signed else None
            self.turn.end("text", BlockEnd(state, self._citations.take(self.turn.text("text"))))
            self._signed = {}


def _assembled(pieces: dict[str, list[Any]]) -> Json:
    """The arguments whose pieces came for JSON paths ("$.a[0].b"): texts are joined, of others the last counts."""
    arguments: Json = {}
    for path, values in pieces.items():
        found = _STEP.findall(path)
        if not found or "".join(whole for whole, *_ in found) != path.removeprefix("$"):
            raise WireError("arguments of a tool call in no such place")
        steps = [int(index) if index else name or quoted for _, name, index, quoted in found]
        value = "".join(values) if all(type(piece) is str for piece in values) else values[-1]
        node: Any = arguments
        for step, following in pairwise([*steps, None]):
            new = value if following is None else [] if type(following) is int else {}
            if type(node) is list and step == len(node):
                node.append(new)
            elif type(node) is dict and type(step) is str:
                node.setdefault(step, new)
            elif type(node) is not list or type(step) is not int or step > len(node):
                raise WireError("arguments of a tool call in no such place")
            node = node[step]
    return arguments
