"""Puts a conversation's history into the order that every provider takes."""

from collections import Counter, deque
from dataclasses import replace

import orjson

from droid2api.errors import RequestError
from droid2api.hub import request as hub
from droid2api.hub.encoded import Encoded
from droid2api.hub.events import State
from droid2api.hub.media import true_media
from droid2api.wire.fields import dump


def normalize(request: hub.Request) -> hub.Request:
    """The request with its history in the order that every provider takes, each repair counted in `repaired`.

    Turns of one role are merged, empty text goes, results of tool calls come first in the user turn after their calls.
    A result is of its call's kind (Chat has one kind for both), arguments are an object, and a picture is of the type
    that its bytes tell. The request that is given stays as it is.
    Raises RequestError that names the id for a call without a result or a result without a call: nothing is invented.
    """
    repaired = Counter(request.repaired)
    turns = _merge_turns(request.messages, repaired)
    if not turns:
        raise RequestError("messages: all of them are empty.", param="messages")
    messages = _gather_results(turns, repaired)
    return replace(request, messages=messages, dropped=list(request.dropped), repaired=repaired)


def _merge_turns(messages: list[hub.Message], repaired: Counter[str]) -> list[hub.Message]:
    turns: list[hub.Message] = []
    for message in messages:
        parts = [_normalize_part(part, repaired) for part in _without_empty_text(message.parts, repaired)]
        if not parts:
            continue
        if turns and turns[-1].role == message.role and message.role in ("user", "assistant"):
            if not isinstance(parts[0], hub.ToolResult | hub.ToolCall):
                repaired["messages.merged"] += 1
            turns[-1].parts.extend(parts)
        else:
            turns.append(hub.Message(message.role, parts))
    return turns


def _without_empty_text(parts: list[hub.Part], repaired: Counter[str]) -> list[hub.Part]:
    kept = [part for part in parts if not (isinstance(part, hub.Text) and not part.text)]
    if len(kept) < len(parts):
        repaired["messages.empty_text"] += len(parts) - len(kept)
    return kept


def _normalize_part(part: hub.Part, repaired: Counter[str]) -> hub.Part:
    match part:
        case hub.ToolResult():
            content = [_normalize_part(item, repaired) for item in _without_empty_text(part.content, repaired)]
            return part if content == part.content else replace(part, content=content)
        case hub.Image() | hub.Document():
            if (true := true_media(part)) is not part:
                repaired["messages.media_type"] += 1
            return true
        case hub.ToolCall() if not part.custom:
            return _with_object(part, repaired)
        case _:
            return part


def _with_object(call: hub.ToolCall, repaired: Counter[str]) -> hub.ToolCall:
    """A call that was cut, or whose arguments are a string or a list, is in many histories: every later turn has it.

    Most services take an object only, so such arguments are wrapped into one.
    """
    try:
        value = orjson.loads(call.arguments) if call.arguments.strip() else {}
    except orjson.JSONDecodeError:
        value = call.arguments
    if type(value) is dict:
        return call
    repaired["messages.tool_call.arguments"] += 1
    return replace(call, arguments="{}" if value is None else dump({"arguments": value}).decode())


def _gather_results(turns: list[hub.Message], repaired: Counter[str]) -> list[hub.Message]:
    """The turns with each tool result behind its call. The turns are changed: they are `_merge_turns`'s own."""
    ordered: list[hub.Message] = []
    answers: list[tuple[hub.Message, list[hub.Part]]] = []
    calls: dict[str, deque[hub.ToolCall]] = {}
    for turn in turns:
        if turn.role == "assistant":
            _refuse_unanswered(calls)
            calls = {}
            for part in turn.parts:
                if isinstance(part, hub.ToolCall):
                    calls.setdefault(part.id, deque()).append(part)
            answers.append((hub.Message("user", []), []))
            ordered += [turn, answers[-1][0]]
            continue
        others: list[hub.Part] = []
        for part in turn.parts:
            if not isinstance(part, hub.ToolResult):
                others.append(part)
            elif not calls.get(part.call_id):
                raise RequestError(
                    f"{part.where}: the tool result for {part.call_id!r} has no tool call before it.", param=part.where
                )
            else:
                call = calls[part.call_id].popleft()
                after, results = answers[-1]
                if others or ordered[-1] is not after:
                    repaired["messages.result_order"] += 1
                results.append(part if part.custom == call.custom else replace(part, custom=call.custom))
        if ordered and ordered[-1].role == turn.role == "user":
            ordered[-1].parts.extend(others)
        else:
            ordered.append(hub.Message(turn.role, others))
    _refuse_unanswered(calls)
    for after, results in answers:
        after.parts[:0] = results
    return [turn for turn in ordered if turn.parts]


def _refuse_unanswered(calls: dict[str, deque[hub.ToolCall]]) -> None:
    """`calls` are those of one answer that wait for a result, by id: some upstreams give one id twice."""
    for id, waiting in calls.items():
        for call in waiting:
            raise RequestError(f"{call.where}: the tool call {id!r} has no tool result.", param=call.where)


def system_first(encoded: Encoded, messages: list[hub.Message], upstream: str) -> list[hub.Message]:
    """The messages with one system message, the first; later ones become text of the user's turn where they stand.

    Raises RequestError for a system message with anything but text.
    """
    leading: list[hub.Part] = []
    rest: list[hub.Message] = []
    for message in messages:
        role = message.role
        if role in ("system", "developer"):
            for part in message.parts:
                if not isinstance(part, hub.Text | hub.Refusal):
                    raise hub.unsupported(part, upstream)
            if not rest:
                leading += message.parts
                continue
            encoded.repair("messages.system_moved")
            role = "user"
        if rest and rest[-1].role == role == "user":
            rest[-1].parts.extend(message.parts)
        else:
            rest.append(hub.Message(role, list(message.parts)))
    return [hub.Message("system", leading), *rest] if leading else rest


def attach_states(messages: list[hub.Message]) -> list[hub.Message]:
    """The messages with state that came in a reasoning part back on the text or the tool call that it is of.

    Formats without a place for it on the block itself carry it so. One whose block is no longer there is left out.
    """
    attached: list[hub.Message] = []
    turn: list[hub.Message] = []
    for message in [*messages, None]:
        if message and message.role == "assistant":
            turn.append(message)
            continue
        attached += _attach_in_turn(turn)
        turn = []
        attached += [message] if message else []
    return attached


def _attach_in_turn(turn: list[hub.Message]) -> list[hub.Message]:
    """The messages of one answer: Responses has one for each item of it."""
    parts = [part for message in turn for part in message.parts]
    carriers = {id(part) for part in parts if _bound_state(part)}
    if not carriers:
        return turn
    owners = _owners(parts)
    kept = [
        hub.Message(message.role, [_with_state(part, owners) for part in message.parts if id(part) not in carriers])
        for message in turn
    ]
    return [message for message in kept if message.parts]


def _bound_state(part: hub.Part) -> tuple[State, str, str] | None:
    if isinstance(part, hub.Reasoning) and part.state and (bound := part.state.bound()):
        return part.state.unbound(), *bound
    return None


def _owners(parts: list[hub.Part]) -> dict[int, State]:
    """The states that came bound, by the id() of the part that each is of: a tool call, or a neighbouring text.

    A streamed answer has the state behind its text, a whole one may have it before. So it is of the text directly
    before it, unless that one has its own; else of the next text, else of the last one.
    """
    calls = {part.id: part for part in parts if isinstance(part, hub.ToolCall)}
    owners: dict[int, State] = {}
    waiting: State | None = None
    text: hub.Text | None = None
    before: hub.Part | None = None
    for part in parts:
        if isinstance(part, hub.Text):
            text = part
            if waiting:
                owners[id(part)], waiting = waiting, None
        elif bound := _bound_state(part):
            state, kind, call_id = bound
            if kind == "tool_call":
                if call := calls.get(call_id):
                    owners[id(call)] = state
            elif before is not None and before is text and id(before) not in owners:
                owners[id(before)] = state
            else:
                waiting = state
        before = part
    if waiting and text:
        owners.setdefault(id(text), waiting)
    return owners


def _with_state(part: hub.Part, owners: dict[int, State]) -> hub.Part:
    if isinstance(part, hub.Text | hub.ToolCall) and (state := owners.get(id(part))):
        return replace(part, state=state)
    return part
