"""An upstream's answers in the Chat Completions format, and in its dialects.

Theory of operation. Chunks have no blocks, only fields that text is added to, so that a block begins when another
field than the last one has text. Of text, reasoning and refusal one is open at a time, under its own name as the key.

Tool calls have numbers as keys. A call is told from others by its wire index, where that is missing by its id, and
where all are alike by a name that comes when the last call's arguments are whole. Fragments of calls may alternate, so
one that is not whole yet stays open behind another block's beginning. Held back are:

* arguments until the call's name is there, since a block cannot begin without it;
* "{}", "null" and the like as the first arguments: some services send it as a placeholder before the real ones;
* white space and parts of a tag, where <think> may begin or end;
* details of reasoning and citations until the end of their block: they come in fragments.

The end is [DONE], or the end of the input when a finish reason was told: some services forget the former. A finish
reason that is not known is a failure, and so is [DONE] when neither a finish reason nor an answer has come. A whole
answer is read as one chunk; it is complete without a finish reason, since a body cannot be cut.
"""

from collections.abc import Collection, Iterable, Iterator

from droid2api.errors import StreamError, UpstreamError, WireError
from droid2api.formats.chat.blocks import Blocks
from droid2api.formats.chat.reasoning import ThinkTags
from droid2api.formats.decoder import MEDIA, TurnDecoder, read_citation
from droid2api.formats.endings import Ending, answer_error, finish_reason, half_call, read_ending, unfinished
from droid2api.formats.upstream_error import find_words, read_error, tells_error
from droid2api.hub.events import BlockKind, Event, Usage
from droid2api.hub.request import Target
from droid2api.wire.fields import Json, count, inner, inners, number, string, word
from droid2api.wire.sse import ServerSentEvent

_OF_CHUNKS = frozenset(["choices", "model", "usage", "x_groq"])
"""What has none of these is no chunk of an answer."""
_MEDIA = ("images", "audio", "image_url", "input_audio")
"""Fields of a message, and types of its parts, that cannot be passed on."""
LEGACY_CALL = -1
"""The index of a `function_call`, which is what there was before tool calls."""


def decode_response(body: Json, target: Target, used_ids: Collection[str] = ()) -> list[Event]:
    """A whole answer as events: it is read as a stream of one chunk."""
    decoder = StreamDecoder(target, used_ids, whole=True)
    if error := answer_error(body, "choices"):
        return decoder.fail(error)
    return decoder.feed_values([body]) + decoder.close()


def decode_usage(usage: Json) -> Usage:
    prompt = inner(usage, "prompt_tokens_details")
    return Usage(
        count(usage, "prompt_tokens"),
        count(usage, "completion_tokens"),
        count(prompt, "cached_tokens") or count(usage, "prompt_cache_hit_tokens"),
        count(prompt, "cache_write_tokens"),
        count(inner(usage, "completion_tokens_details"), "reasoning_tokens"),
    )


def ending(event: ServerSentEvent) -> Ending:
    """What one event, or a whole answer, says of the end. Not every service sends [DONE]: a finish reason is an end
    too, and so is usage without an answer. Junk says nothing."""
    return read_ending(event, _ending_of)


def _ending_of(value: Json) -> Ending:
    choices = inners(value, "choices")
    reasons = [reason for choice in choices if (reason := word(choice, "finish_reason"))]
    error = _error_of(value, choices) or next(filter(None, map(unfinished, reasons)), None)
    usage = _usage_of(value, choices) or None
    told_alone = usage is not None and value.get("choices") == []
    return Ending(bool(reasons) or told_alone or error is not None, usage, error)


def _error_of(value: Json, choices: list[Json]) -> UpstreamError | None:
    if tells_error(value):
        return read_error(value)
    told = [choice["error"] for choice in choices if choice.get("error")]
    return read_error({"error": told[0]}) if told else None


def _usage_of(value: Json, choices: list[Json]) -> Json:
    usage = inner(value, "usage") or inner(inner(value, "x_groq"), "usage")
    return usage or next((told for choice in choices if (told := inner(choice, "usage"))), {})


class StreamDecoder(TurnDecoder):
    """Reads choice 0 only: this gateway never asks for more. There is a method for each field that a chunk may have."""

    decode_usage = staticmethod(decode_usage)

    def __init__(self, target: Target, used_ids: Collection[str] = (), *, whole: bool = False) -> None:
        super().__init__(target, used_ids)
        self._whole = whole
        self._has_message = False
        self._reason = ""
        self._blocks = Blocks(self.turn, target, self.call_ids, whole)
        self._tags = ThinkTags()

    def read_value(self, value: Json) -> None:
        choices = value.get("choices")
        if not choices or "error" in value:
            self._read_odd(value)
        if not self.turn.started and (choices or value.get("model")):  # Azure's first chunk has neither
            self.turn.start(word(value, "id"), word(value, "model"))
        if value.get("usage") or "x_groq" in value:
            self._read_usage(value)
        if not choices or self.turn.done:
            return
        if type(choices) is not list:
            raise WireError("an event whose choices are no list")
        for choice in choices:
            if type(choice) is not dict:
                raise WireError("an event with a choice that is no object")
            is_other = choice.get("index") and number(choice, "index")
            if not is_other and not self.turn.done:
                self._read_choice(choice)

    def read_done(self) -> None:
        self._finish()

    def read_end(self) -> None:
        if self._reason or self._has_message:
            self._finish()
        elif self._whole and not self.noted:
            self.turn.fail(StreamError("The upstream's answer has no message."))

    def _read_odd(self, value: Json) -> None:
        """What is no chunk of an answer: an error, or something that is to be noted in case the answer fails."""
        if tells_error(value):
            self.turn.fail(read_error(value))
        elif not value.get("choices") and (find_words(value) or not value.keys() & _OF_CHUNKS):
            self.noted = read_error(value)

    def _read_usage(self, value: Json) -> None:
        """Later counts replace earlier ones."""
        if usage := _usage_of(value, []):
            self.counts |= {name: told for name, told in usage.items() if told is not None}

    def _read_choice(self, choice: Json) -> None:
        delta = choice.get("delta")
        if self._whole or type(delta) is not dict:
            delta = _message_of(choice, delta)
            self._has_message = self._whole and bool(delta)
        if choice.get("error"):
            self.turn.fail(read_error({"error": choice["error"]}))
            return
        content = delta.get("content")
        if type(content) is str and content and len(delta) == 1 and self.turn.current == "text":
            self.turn.delta("text", content)
        elif len(delta) == 1 and (calls := delta.get("tool_calls")) and not self._tags.held:
            self._blocks.read_calls(calls)
        elif delta:
            self._read_delta(delta)
        if "usage" in choice:
            self._read_usage(choice)
        if choice.get("finish_reason"):
            self._reason = string(choice, "finish_reason")
            if not (self._whole or self.turn.blocks or self._tags.held):
                self._read_delta(inner(choice, "message"))  # a whole one at the end of a stream without deltas

    def _finish(self) -> None:
        self._write(self._tags.release())
        is_half = any(call.is_half() for call in self._blocks.calls.open.values())
        self._blocks.end_all()
        failure = unfinished(self._reason) if self._reason else None
        if failure:
            self.turn.fail(self.noted or failure)
        elif not self._reason and self.noted:
            self.turn.fail(self.noted)
        elif not self._reason and not self.turn.blocks and not self._has_message:
            self.turn.fail(StreamError("The upstream ended its answer before it said anything."))
        elif not self._reason and not self._whole and is_half:
            self.turn.fail(half_call())
        else:
            self.finish(finish_reason(self._reason) or "stop", self._reason)

    def _read_delta(self, delta: Json) -> None:
        blocks = self._blocks
        if any(delta.get(name) for name in _MEDIA):
            raise WireError(MEDIA)
        blocks.read_reasoning(delta)
        content = delta.get("content")
        if type(content) is str:
            self._write(self._tags.feed(content))
        elif content is not None:
            self._write(_parts_of(content))
        for annotation in inners(delta, "annotations"):
            if citation := read_citation(inner(annotation, "url_citation")):
                blocks.citations.append(citation)
        refusal, calls = string(delta, "refusal"), delta.get("tool_calls")
        if not calls and delta.get("function_call"):
            calls = [{"index": LEGACY_CALL, "function": delta["function_call"]}]
        if self._tags.held and (refusal or calls):
            self._write(self._tags.release())
        blocks.write("refusal", refusal)
        if calls:
            blocks.read_calls(calls)

    def _write(self, texts: Iterable[tuple[BlockKind, str]]) -> None:
        for kind, text in texts:
            self._blocks.write(kind, text)


def _parts_of(content: object) -> Iterator[tuple[BlockKind, str]]:
    """The kinds and texts of the parts of content that is a list. Raises WireError for what is no text."""
    if type(content) is not list:
        raise WireError("content that is no text")
    for part in content:
        if type(part) is str:
            yield "text", part
        elif type(part) is not dict:
            raise WireError("a part of content that is no object")
        elif part.get("type") in ("thinking", "reasoning"):
            text = part.get("thinking")
            if type(text) is not str:
                text = "".join(string(item, "text") for item in inners(part, "thinking")) or word(part, "text")
            yield "reasoning", text
        elif part.get("type") == "refusal":
            yield "refusal", string(part, "refusal")
        elif part.get("type") in _MEDIA:
            raise WireError(MEDIA)
        else:
            yield "text", string(part, "text")


def _message_of(choice: Json, delta: object) -> Json:
    """The whole message, or what stands in for a delta that is missing."""
    message = choice.get("message")
    found = message if type(message) is dict and message else delta
    if not found and type(choice.get("text")) is str:  # of the format before this one
        return {"content": choice["text"]}
    if found is None:
        return {}
    if type(found) is not dict:
        raise WireError("an event whose delta is no object")
    return found
