"""How an answer ends, in the words of any format: the reasons, and what one event or a whole answer tells of them."""

from collections.abc import Callable
from dataclasses import dataclass

import orjson

from droid2api.errors import StreamError, UpstreamError
from droid2api.formats.upstream_error import find_words, read_error, tells_error
from droid2api.hub.events import FinishReason
from droid2api.wire import surrogates
from droid2api.wire.fields import MOST_VALUES, Json, has_too_many_values
from droid2api.wire.sse import ServerSentEvent

DONE = b"[DONE]"
TOO_MANY_VALUES = f"JSON with more than {MOST_VALUES} brackets and commas"

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
    (those of later events replace earlier ones), `error` is the upstream's own error, or an
    end that is none.
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
    if type(value) is dict:
        return read(value)
    error = list_error(value)
    return Ending(error=error) if error else NO_ENDING


def list_error(value: object) -> UpstreamError | None:
    """The error that a list in the place of an object tells, as Google's Chat endpoint has them; None where it tells
    none."""
    return read_error(value) if type(value) is list and any(map(find_words, value)) else None


_ABOUT = frozenset("id object type model role created created_at usage".split())
"""Fields that say nothing of why an answer is none."""


def answer_error(body: object, content: str) -> UpstreamError | None:
    """Why a whole answer is none: it is an error, in whatever words, or has no field `content`."""
    if type(body) is not dict:
        return list_error(body) or StreamError("The upstream's answer is not a JSON object.")
    if tells_error(body) or (content not in body and find_words(body)):
        return read_error(body)
    if content in body:
        return None
    others = any(value for name, value in body.items() if name not in _ABOUT)
    return read_error(body) if others else StreamError("The upstream's answer has no message.")
