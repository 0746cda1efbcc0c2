"""Puts a conversation's history into the order that every provider takes."""

from __future__ import annotations

from droid2api.errors import RequestError
from droid2api.hub.request import Message, Part, Request, Text, ToolCall, ToolResult


def repair(request: Request) -> None:
    """Put the history into the order that every provider takes, and count each repair in `request.repaired`.

    Turns of one role are merged, empty text goes, results of tool calls come first in the user turn after their calls.
    A result is of its call's kind (Chat has one kind for both).
    Raises RequestError that names the id for a call without a result or a result without a call: nothing is invented.
    """
    turns: list[Message] = []
    for message in request.messages:
        parts = _without_empty_text(request, message.parts)
        for part in parts:
            if isinstance(part, ToolResult):
                part.content = _without_empty_text(request, part.content)
        if not parts:
            continue
        if turns and turns[-1].role == message.role and message.role in ("user", "assistant"):
            if not isinstance(parts[0], ToolResult | ToolCall):
                request.repaired["merged turns"] += 1
            turns[-1].parts.extend(parts)
        else:
            turns.append(Message(message.role, parts))
    if not turns:
        raise RequestError("messages: all of them are empty.", param="messages")
    request.messages = _gather_results(request, turns)


def _without_empty_text(request: Request, parts: list[Part]) -> list[Part]:
    kept = [part for part in parts if not (isinstance(part, Text) and not part.text)]
    if len(kept) < len(parts):
        request.repaired["empty text"] += len(parts) - len(kept)
    return kept


def _gather_results(request: Request, turns: list[Message]) -> list[Message]:
    ordered: list[Message] = []
    calls: dict[str, ToolCall] = {}
    results, answered = Message("user", []), 0
    for turn in turns:
        if turn.role == "assistant":
            _refuse_unanswered(calls)
            calls = {part.id: part for part in turn.parts if isinstance(part, ToolCall)}
            results, answered = Message("user", []), 0
            ordered += [turn, results]
            continue
        others: list[Part] = []
        for part in turn.parts:
            if not isinstance(part, ToolResult):
                others.append(part)
            elif (call := calls.pop(part.call_id, None)) is None:
                raise RequestError(
                    f"{part.where}: the tool result for {part.call_id!r} has no tool call before it.", param=part.where
                )
            else:
                part.custom = call.custom
                if others or ordered[-1] is not results:
                    request.repaired["tool result order"] += 1
                results.parts.insert(answered, part)
                answered += 1
        if ordered and ordered[-1].role == turn.role == "user":
            ordered[-1].parts.extend(others)
        else:
            ordered.append(Message(turn.role, others))
    _refuse_unanswered(calls)
    return [turn for turn in ordered if turn.parts]


def _refuse_unanswered(calls: dict[str, ToolCall]) -> None:
    for id, call in calls.items():
        raise RequestError(f"{call.where}: the tool call {id!r} has no tool result.", param=call.where)
