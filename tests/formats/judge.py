"""Compares the events that a decoder made of an answer with what the answer says."""

import json
import re

from droid2api.hub.events import BlockStart, Delta, Event, Failed, Finish

from .grammar import check_turn
from .readers import Answer, Call


def check(format: str, answer: Answer, events: list[Event], *, may_fail: bool = False) -> None:
    """The same answer, whole; `may_fail` when a failure (with words) is right as well, but never a success with less.

    An answer with an error, or without a regular end, must be a failure that holds the error's words and nothing that
    the answer does not.
    """
    check_turn(events)
    last = events[-1]
    if answer.error is not None or not answer.ended:
        assert type(last) is Failed, f"a success of an answer that ended irregularly: {last}"
        if answer.error:
            assert answer.error in last.error.message
        assert answer.text.startswith(_text_of(events, "text"))
        return
    if type(last) is Failed:
        assert may_fail, f"a failure of a regular answer: {last.error}"
        return
    assert type(last) is Finish
    assert _text_of(events, "text") == answer.text
    assert _is_reasoning(answer, _text_of(events, "reasoning"))
    refusal = _text_of(events, "refusal")  # Gemini has a word where others have a sentence
    assert answer.refusal in refusal if format == "gemini" and answer.refusal else refusal == answer.refusal
    _check_calls(answer.calls, calls_of(events))
    meaning = answer.meaning(format)
    assert meaning in (None, last.reason), f"{answer.finish!r} means {meaning}, not {last.reason}"
    usage = {name: getattr(last.usage, name) for name in ("input", "output", "cache_read", "cache_write", "reasoning")}
    assert {name: count for name, count in answer.usage.items() if usage[name] != count} == {}, usage


def _text_of(events: list[Event], kind: str) -> str:
    text, inside = [], ""
    for event in events:
        if isinstance(event, BlockStart):
            inside = event.kind
        elif isinstance(event, Delta) and inside == kind:
            text.append(event.text)
    return "".join(text)


def calls_of(events: list[Event]) -> list[Call]:
    calls: list[tuple[BlockStart, list[str]]] = []
    inside = ""
    for event in events:
        if isinstance(event, BlockStart):
            inside = event.kind
            if inside == "tool_call":
                calls.append((event, []))
        elif isinstance(event, Delta) and inside == "tool_call":
            calls[-1][1].append(event.text)
    return [Call(start.id, start.name, _parsed("".join(text), start.custom), start.custom) for start, text in calls]


def _parsed(arguments: str, custom: bool) -> object:
    try:
        return arguments if custom else json.loads(arguments)
    except ValueError:
        return arguments


def _is_reasoning(answer: Answer, text: str) -> bool:
    """The summary, the raw reasoning or both; with or without a blank line between two parts."""
    summary, raw = answer.reasoning, answer.raw_reasoning
    ways = [summary + raw, raw + summary] + ([summary, raw] if summary and raw else [])
    return any(re.fullmatch(r"(\n\n)?".join(map(re.escape, parts)), text) for parts in ways)


def _check_calls(wanted: list[Call], found: list[Call]) -> None:
    assert [(call.name, call.arguments, call.custom) for call in found] == [
        (call.name, call.arguments, call.custom) for call in wanted
    ]
    assert len({call.id for call in found}) == len(found), "two calls with one id"
    ids: set[str] = set()
    for one, other in zip(wanted, found, strict=True):
        assert other.id == one.id or not one.id or one.id in ids, "another id than the service gave"
        ids.add(one.id)
