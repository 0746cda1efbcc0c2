"""What the stream decoders of all formats share: whose fault an error is, limits, ids, and how an answer ends."""

import uuid
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from droid2api.errors import StreamError, UpstreamError, WireError
from droid2api.formats.upstream_error import find_words, read_error, tells_error
from droid2api.hub.events import BlockStart, Citation, Event, Finish, FinishReason, State, Usage
from droid2api.hub.request import Target
from droid2api.hub.turn import Turn
from droid2api.wire import surrogates
from droid2api.wire.fields import MOST_VALUES, Json, has_too_many_values, json_text, word
from droid2api.wire.sse import ServerSentEvent

ANSWER_LIMIT = 64 * 1024 * 1024
"""Bytes of events that one answer may have, as a whole JSON answer may."""
MOST_BLOCKS = 10_000
"""Blocks that one answer may have: none that is meant well comes near."""
MOST_SHOWN = 200
"""Bytes of an event that cannot be read which the client is told."""
TOO_MANY_VALUES = f"JSON with more than {MOST_VALUES} brackets and commas"
DONE = b"[DONE]"

_REASONS: dict[FinishReason, str] = {
    "stop": "stop eos eos_token end_turn end stop_sequence complete completed done",
    "length": "length max_tokens max_output_tokens max_completion_tokens max_length model_length incomplete "
    "model_context_window_exceeded pause_turn compaction max_tool_calls max_messages steered continuation",
    "tool_calls": "tool_calls tool_call tool_use function_call",
    "content_filter": "content_filter content_filtered sensitive safety refusal recitation guardrail_intervened "
    "blocklist prohibited_content spii language model_armor escalation no_image image_safety image_recitation "
    "image_prohibited_content image_other",
}
_REASON_OF = {word: reason for reason, words in _REASONS.items() for word in words.split()}


def finish_reason(word: str) -> FinishReason | None:
    """What an upstream's word for the end of its answer means, in whichever format it is at home; None for a word that
    is not known, or that tells of a failure. A turn that was only paused is cut."""
    return _REASON_OF.get(word.lower())


def unfinished(told: str) -> StreamError | None:
    """The failure that an upstream's word for the end of its answer tells of; None for a regular end."""
    return None if finish_reason(told) else StreamError(f"The upstream ended its answer with {told!r}.", code=told)


def half_call() -> StreamError:
    """For an end without a reason; where one is told, the upstream means the call as it is."""
    return StreamError("The upstream ended its answer in the middle of a tool call.")


@dataclass(slots=True, frozen=True)
class Ending:
    """What one event of a stream, or a whole answer, says of the end, for whoever passes it on unread.

    `done` is set by the regular end or by an error of the upstream's own, `usage` holds the counts as they were told
    (those of later events replace earlier ones), `error` is the upstream's own error, or
    an end that is none.
    """

    done: bool = False
    usage: Json | None = None
    error: UpstreamError | None = None


NO_ENDING = Ending()


def read_ending(event: ServerSentEvent, read: Callable[[Json], Ending]) -> Ending:
    """What `read` finds in the JSON object of an event; where it has none, [DONE] is an end and junk says nothing."""
    if has_too_many_values(event.data):
        return Ending(error=StreamError(f"The upstream sent {TOO_MANY_VALUES}."))
    try:
        value = orjson.loads(event.data)
    except orjson.JSONDecodeError:
        if event.data.strip() == DONE:
            return Ending(done=True)
        value = surrogates.mend(surrogates.parse(event.data))
    return read(value) if type(value) is dict else NO_ENDING


MEDIA = "a picture or a file in its answer, which cannot be passed on"
_ABOUT = frozenset("id object type model role created created_at usage".split())
"""Fields that say nothing of why an answer is none."""


def answer_error(body: Json, content: str) -> UpstreamError | None:
    """Why a whole answer is none: it is an error, in whatever words, or has no field `content`."""
    if type(body) is not dict:
        return StreamError("The upstream's answer is not a JSON object.")
    if tells_error(body) or (content not in body and find_words(body)):
        return read_error(body)
    if content in body:
        return None
    others = any(value for name, value in body.items() if name not in _ABOUT)
    return read_error(body) if others else StreamError("The upstream's answer has no message.")


class TurnDecoder:
    """Reads an upstream's answer into a Turn and hands out its events.

    What cannot be read (WireError) becomes one Failed, and so does input that stops before its end. Any other exception
    is a mistake in this program and passes through.

    A subclass gives `read_value`, which reads one JSON object of the wire and puts what that tells of tokens into
    `counts`, and `decode_usage`, which reads those; `start`, `open`, `state` and `unused_id` are
    for it, the other methods for whoever feeds the wire. `used_ids` are the ids of the tool calls that the conversation
    holds: no call of this answer gets one of them.
    """

    def __init__(self, target: Target, used_ids: Collection[str] = ()) -> None:
        self.turn = Turn()
        self.counts: Json = {}
        self.left_out = ""
        """The kind of a part of the answer that no client can be given."""
        self.noted: UpstreamError | None = None
        """What was no part of an answer but had words: should the answer end badly, they say why."""
        self._target = target
        self._used_ids = set(used_ids)
        self._answer_id = ""
        self._next_id = 0
        self._room = ANSWER_LIMIT
        self._waiting: Json | None = None
        """An event with a half of a character, whose other half may be in the next one."""

    def feed(self, events: Iterable[ServerSentEvent]) -> list[Event]:
        turn = self.turn
        try:
            for event in events:
                if turn.done:
                    break
                size = len(event.data)
                self._room -= size
                if self._room < 0:
                    raise WireError(f"more than {ANSWER_LIMIT} bytes in one answer")
                if size > MOST_VALUES and has_too_many_values(event.data):
                    raise WireError(TOO_MANY_VALUES)
                try:
                    value = orjson.loads(event.data)
                except orjson.JSONDecodeError:
                    self._read_unusual(event.data)
                    continue
                if type(value) is not dict:
                    raise WireError(f"an event that is no JSON object: {_shown(event.data)}")
                if self._waiting is not None:
                    self._read_waiting()
                    if turn.done:
                        break
                self.read_value(value)
        except WireError as error:
            self._fail(error)
        return turn.drain()

    def feed_values(self, values: Iterable[Json]) -> list[Event]:
        turn = self.turn
        try:
            for value in values:
                if turn.done:
                    break
                self.read_value(value)
        except WireError as error:
            self._fail(error)
        return turn.drain()

    def close(self) -> list[Event]:
        """The input has ended. Without an end of the turn that is a failure, never a success."""
        try:
            self._read_waiting()
            if not self.turn.done:
                self.read_end()
        except WireError as error:
            self._fail(error)
        return self.fail(self.noted or StreamError("The upstream closed the stream before its end."))

    def fail(self, error: UpstreamError) -> list[Event]:
        """The input broke. Nothing happens when the turn has ended already."""
        self.turn.fail(error)
        return self.turn.drain()

    @property
    def usage(self) -> Usage | None:
        """What the upstream has told of its tokens so far."""
        return self.decode_usage(self.counts) if self.counts else None

    @staticmethod
    def decode_usage(usage: Json) -> Usage:
        raise NotImplementedError

    def read_value(self, value: Json) -> None:
        """Raises WireError for what cannot be read, as the methods below do."""
        raise NotImplementedError

    def read_done(self) -> None:
        """[DONE]: an end in the Chat format only."""

    def read_end(self) -> None:
        """The input has ended before the turn: the last chance to end or to fail it."""

    def read_unknown(self, value: Json) -> None:
        """An error, or an event of a type that nobody knows. Raises WireError for one that has no type."""
        kind = value.get("type")
        if tells_error(value) or (kind is None and find_words(value)):
            self.turn.fail(read_error(value))
        elif type(kind) is not str:
            raise WireError(f"an event without a type: {_shown(json_text(value).encode())}")
        elif find_words(value):
            self.noted = read_error(value)

    def start(self, value: Json) -> None:
        """Begin the turn, with what the upstream calls its answer and its model."""
        if not self.turn.started:
            self._answer_id = word(value, "id")
            self.turn.start(self._answer_id, word(value, "model"))

    def finish(self, reason: FinishReason, told: str, stop_sequence: str | None = None) -> None:
        """End the turn, for the reason that the upstream `told` in its own word."""
        if reason == "stop" and self.left_out and not self.turn.blocks:
            self.turn.fail(StreamError(f"The upstream's answer has nothing but {self.left_out[:100]!r}."))
        else:
            self.turn.finish(Finish(reason, told, self.usage or Usage(), stop_sequence))

    def open(self, key: Hashable, start: BlockStart) -> None:
        """Begin a block in the turn."""
        if self.turn.blocks == MOST_BLOCKS:
            raise WireError(f"more than {MOST_BLOCKS} blocks in one answer")
        self.turn.open(key, start)

    def refuse(self, words: str) -> None:
        """Say why the answer is withheld, behind what was said."""
        self.open("refusal", BlockStart("refusal"))
        self.turn.delta("refusal", words)

    def state(self, format: str, data: dict[str, Any]) -> State:
        """State of this upstream's."""
        return State(format, self._target.family, data, self._target.service)

    def unused_id(self, id: str) -> str:
        """A tool call's id; one of our own where the upstream gave none, or one that another call has."""
        if id and id not in self._used_ids:
            self._next_id += 1
        else:
            self._answer_id = self._answer_id or uuid.uuid4().hex
            while not id or id in self._used_ids:
                id = f"call_{self._answer_id}_{self._next_id}"
                self._next_id += 1
        self._used_ids.add(id)
        return id

    def _fail(self, error: WireError) -> None:
        self.turn.fail(StreamError(f"The upstream sent {error}."))

    def _read_unusual(self, data: bytes) -> None:
        """An event that is no strict JSON: with a half of a character in it, empty, or [DONE]."""
        value = surrogates.parse(data)
        if type(value) is dict and self._waiting is not None:
            surrogates.join(self._waiting, value)
        self._read_waiting()
        mark = data.strip()
        if type(value) is dict:
            self._waiting = value
        elif mark == DONE and not self.turn.done:
            self.read_done()
        elif mark and mark != DONE:
            raise WireError(f"an event that is not JSON: {_shown(mark)}")

    def _read_waiting(self) -> None:
        value, self._waiting = self._waiting, None
        if value is not None and not self.turn.done:
            self.read_value(surrogates.mend(value))


def _shown(data: bytes) -> str:
    """What an event says that cannot be read: it may be the words of an error."""
    return data[:MOST_SHOWN].decode(errors="replace")


def read_citation(value: Json) -> Citation | None:
    """A citation of a page, in the words that all formats have for it; None for one without a URL."""
    url = value.get("url")
    if type(url) is not str or not url:
        return None
    offsets = [value.get(name) for name in ("start_index", "end_index")]
    places = [offset if type(offset) is int and offset >= 0 else None for offset in offsets]
    return Citation(url, word(value, "title"), *places)
