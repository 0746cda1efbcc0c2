"""Streams of Chat Completions, as the services that speak it write them."""

import json
from itertools import accumulate, chain
from typing import Any

from hypothesis import strategies as st

from .dialect import (
    NONSENSE,
    WORDS_OF_ERROR,
    Built,
    Chooser,
    Content,
    Events,
    Json,
    Quirk,
    content_of,
    merged,
    usage_counts,
)
from .readers import FAILURES, Answer, Call

QUIRKS = {
    # reasoning
    "reasoning": Quirk(0, "reasoning"),
    "reasoning_details": Quirk(0, "reasoning"),
    "reasoning_summaries": Quirk(0, "reasoning"),
    "reasoning_in_both": Quirk(0, "reasoning"),
    "think_tags": Quirk(0, "reasoning"),
    "thinking_parts": Quirk(0, "reasoning"),
    # the numbers, ids and names of tool calls
    "index_from_one": Quirk(0, "calls"),
    "index_missing": Quirk(0, "calls"),
    "index_always_zero": Quirk(0, "calls"),
    "index_missing_no_ids": Quirk(4, "calls"),
    "index_always_zero_no_ids": Quirk(4, "calls"),
    "interleaved_calls": Quirk(0, "calls"),
    "no_ids": Quirk(0, "calls"),
    "one_id_for_all": Quirk(0, "calls"),
    "numeric_ids": Quirk(3, "calls"),
    "ids_and_names_repeated": Quirk(0, "calls"),
    "empty_ids_afterwards": Quirk(0, "calls"),
    "name_late": Quirk(0, "calls"),
    "name_never": Quirk(0, "calls"),
    "legacy_function_call": Quirk(4, "calls"),
    # arguments
    "whole_call_in_one_chunk": Quirk(0, "calls"),
    "arguments_as_object": Quirk(0, "calls"),
    "arguments_null_first": Quirk(0, "calls"),
    "arguments_placeholder": Quirk(4, "calls"),
    "arguments_missing": Quirk(0, "calls"),
    # text
    "text_parts": Quirk(0, "text"),
    "message_beside_delta": Quirk(32, "text"),
    "null_content": Quirk(),
    "delta_missing": Quirk(),
    "other_choices": Quirk(),
    "first_chunk_without_choices": Quirk(),
    "bare_chunks": Quirk(),
    # the end
    "stop_beside_calls": Quirk(0, "calls"),
    "function_call_finish": Quirk(0, "calls"),
    "finish_repeated": Quirk(),
    "finish_missing": Quirk(),
    "done_missing": Quirk(),
    "finish_and_done_missing": Quirk(),
    "done_only": Quirk(2),
    "finish_of_failure": Quirk(1),
    "finish_unknown": Quirk(1),
    "finish_sensitive": Quirk(1),
    "finish_context_window": Quirk(1),
    "length": Quirk(),
    "cut_call": Quirk(0, "calls"),
    # usage
    "usage_on_the_last_choice_chunk": Quirk(),
    "usage_in_a_choice": Quirk(3),
    "usage_x_groq": Quirk(),
    "usage_growing": Quirk(),
    "usage_missing": Quirk(),
    "usage_null_fields": Quirk(),
    # errors
    "error_object": Quirk(),
    "error_string": Quirk(),
    "error_beside_choices": Quirk(),
    "error_named_event": Quirk(),
    "error_as_object_error": Quirk(2),
    "error_type_and_message": Quirk(2),
    "error_in_a_choice": Quirk(2),
}
CALLS = [name for name in QUIRKS if QUIRKS[name].needs == "calls" and "finish" not in name and "stop" not in name]
"""How calls are written. A stream has one of these, since they belong to different services."""
ENDS = [*(name for name in QUIRKS if name.startswith(("finish", "done", "stop", "function_call"))), "length"]
ERRORS = [name for name in QUIRKS if name.startswith("error")]


def build(choose: Chooser) -> Built:
    content = content_of(choose)
    how = choose.one_of(*CALLS)
    if how in ("legacy_function_call", "name_never"):
        content.calls = content.calls[:1]
    end = choose.one_of(*ENDS) if how != "cut_call" and choose.forced not in ERRORS else ""
    if end == "done_only":
        content = Content("", "", [])
    elif end == "finish_missing" and not content.calls:
        content.text += "."
    elif how == "cut_call" and content.calls:
        end = "length"
    built = Built([], Answer(ended=True))
    late = choose.draw(st.booleans())
    deltas = _reasoning(choose, content, built.said)
    calls = _calls(choose, how, content.calls, built.said)
    text = _text(choose, content.text, built.said)
    deltas += calls + text if late else text + calls
    chunks = [("", chunk) for chunk in _chunks(choose, deltas)]
    if choose.has("first_chunk_without_choices"):
        chunks.insert(0, ("", {"choices": [], "id": "", "model": "", "prompt_filter_results": []}))
    built.events = chunks
    _add_end(choose, end, built)
    return built


# -- content --------------------------------------------------------------------------------------------------------


def _reasoning(choose: Chooser, content: Content, said: Answer) -> list[Json]:
    if not content.reasoning:
        return []
    said.reasoning = [content.reasoning]
    pieces = choose.split(content.reasoning)
    names = [name for name in QUIRKS if QUIRKS[name].needs == "reasoning"]
    match choose.one_of(*names):
        case "reasoning":
            return [{"reasoning": piece} for piece in pieces]
        case "reasoning_details":
            return [{"reasoning_details": [_detail("text", piece)]} for piece in pieces]
        case "reasoning_summaries":
            return [{"reasoning_details": [_detail("summary", piece)]} for piece in pieces]
        case "reasoning_in_both":
            return [{"reasoning": piece, "reasoning_details": [_detail("text", piece)]} for piece in pieces]
        case "thinking_parts":
            return [{"content": [{"type": "thinking", "thinking": [_text_part(piece)]}]} for piece in pieces]
        case "think_tags":
            content.text = content.text.lstrip("\n")
            return [{"content": piece} for piece in choose.split(f"<think>{content.reasoning}</think>")]
        case _:
            return [{"reasoning_content": piece} for piece in pieces]


def _detail(kind: str, piece: str) -> Json:
    return {"type": f"reasoning.{kind}", kind: piece, "index": 0, "format": "unknown"}


def _text_part(piece: str) -> Json:
    return {"type": "text", "text": piece}


def _text(choose: Chooser, text: str, said: Answer) -> list[Json]:
    said.text = text
    in_parts = choose.has("text_parts")
    return [{"content": [_text_part(piece)] if in_parts else piece} for piece in choose.split(text)]


def _calls(choose: Chooser, how: str, calls: list[Call], said: Answer) -> list[Json]:
    said.calls = [Call(call.id, call.name, call.arguments) for call in calls]
    written = [_fragments(choose, how, number, call) for number, call in enumerate(calls)]
    for call in said.calls:
        if how.endswith("no_ids") or how in ("one_id_for_all", "legacy_function_call"):
            call.id = ""
        elif how == "numeric_ids":
            call.id = str(int(call.id.removeprefix("call_")) + 1)
        if how == "arguments_missing":
            call.arguments = {}
    if how == "cut_call" and calls:
        cut = json.dumps(calls[-1].arguments)
        cut = cut[: choose.draw(st.integers(1, len(cut) - 1))]
        said.calls[-1].arguments = cut
        written[-1] = [written[-1][0], {"index": len(calls) - 1, "function": {"arguments": cut}}]
    if how == "name_never" and calls:
        said.error = ""
    if how == "legacy_function_call":
        return [{"function_call": fragment["function"]} for fragments in written for fragment in fragments]
    in_order = list(chain.from_iterable(written))
    if how == "interleaved_calls":
        in_order = merged(choose.draw, written)
        begun = [fragment["index"] for fragment in in_order if "id" in fragment]
        said.calls = [said.calls[number] for number in begun]
    if choose.draw(st.booleans()):
        return [{"tool_calls": [fragment]} for fragment in in_order]
    return [{"tool_calls": in_order}] if in_order else []


def _fragments(choose: Chooser, how: str, number: int, call: Call) -> list[Json]:
    """One call, in fragments: the first has its id and name, the others its arguments."""
    arguments = json.dumps(call.arguments)
    function: Json = {"name": call.name, "arguments": ""}
    first: Json = {"index": number, "id": call.id, "type": "function", "function": function}
    rest: list[Json] = [{"index": number, "function": {"arguments": piece}} for piece in choose.split(arguments)]
    match how:
        case "whole_call_in_one_chunk":
            function["arguments"], rest = arguments, []
        case "arguments_as_object":
            function["arguments"], rest = call.arguments, []
        case "arguments_null_first":
            function["arguments"] = None
        case "arguments_placeholder":
            function["arguments"] = "{}"
        case "arguments_missing":
            del function["arguments"]
            rest = []
        case "name_late":
            del function["name"]
            rest[-1]["function"]["name"] = call.name
        case "name_never":
            del function["name"]
        case "no_ids":
            del first["id"]
        case "one_id_for_all":
            first["id"] = "call"
        case "numeric_ids":
            first["id"] = number + 1
        case "empty_ids_afterwards":
            rest = [fragment | {"id": "", "type": "function"} for fragment in rest]
        case "ids_and_names_repeated":
            for fragment in rest:
                fragment["id"], fragment["function"]["name"] = call.id, call.name
    for fragment in [first, *rest]:
        if how == "index_from_one":
            fragment["index"] += 1
        elif how.startswith("index_missing"):
            del fragment["index"]
        elif how.startswith("index_always_zero"):
            fragment["index"] = 0
    if how.startswith("index_") and how.endswith("no_ids"):
        del first["id"]
    return [first, *rest]


def _chunks(choose: Chooser, deltas: list[Json]) -> list[Json]:
    draw = choose.draw
    bare, null, other, missing = (
        choose.has(name) for name in ("bare_chunks", "null_content", "other_choices", "delta_missing")
    )
    beside = choose.has("message_beside_delta")
    sofar = accumulate(delta.get("content") if type(delta.get("content")) is str else "" for delta in deltas)
    chunks = [_chunk({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None})]
    for delta, text in zip(deltas, sofar, strict=True):
        choice: Json = {"index": 0, "delta": ({"content": None} if null else {}) | delta, "finish_reason": None}
        if beside:
            choice["message"] = {"role": "assistant", "content": text}
        chunks.append({"choices": [{"delta": choice["delta"]}]} if bare and not beside else _chunk(choice))
        if other and draw(st.booleans()):
            chunks.append(_chunk({"index": 1, "delta": {"content": "other"}, "finish_reason": None}))
        if missing and draw(st.booleans()):
            chunks.append(_chunk({"index": 0, "finish_reason": None}))
    if beside:
        last = {"role": "assistant", "content": text} if deltas else {}
        chunks.append(_chunk({"index": 0, "delta": {}, "message": last, "finish_reason": None}))
    return chunks


def _chunk(choice: Json, **more: Any) -> Json:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return head | {"choices": [choice]} | more


# -- the end --------------------------------------------------------------------------------------------------------


def _add_end(choose: Chooser, end: str, built: Built) -> None:
    said, draw = built.said, choose.draw
    said.finish = "tool_calls" if said.calls else "stop"
    match end:
        case "stop_beside_calls":
            said.finish = "stop"
        case "function_call_finish":
            said.finish = "function_call"
        case "length":
            said.finish = "length"
        case "finish_sensitive":
            said.finish = "sensitive"
        case "finish_context_window":
            said.finish = draw(st.sampled_from(["model_context_window_exceeded", "model_length"]))
        case "finish_of_failure":
            said.finish, said.error = draw(st.sampled_from(sorted(FAILURES))), ""
        case "finish_unknown":
            said.finish, said.error = draw(st.sampled_from(NONSENSE)), ""
        case "finish_missing":
            said.finish, built.may_fail = "", True
        case "finish_and_done_missing" | "done_only":
            said.finish, said.ended = "", False
    choice: Json = {"index": 0, "delta": {}, "finish_reason": said.finish or None}
    chunks = [_chunk(choice)]
    if end == "finish_repeated":
        chunks.append(_chunk(dict(choice)))
    _add_usage(choose, chunks, built)
    if not (end == "done_only" and draw(st.booleans())):
        built.events += [("", chunk) for chunk in chunks]
    if end not in ("done_missing", "finish_and_done_missing"):
        built.events.append(("", "[DONE]"))
    if not end and said.error is None:
        _add_error(choose, built.events, said)


def _add_usage(choose: Chooser, chunks: list[Json], built: Built) -> None:
    counts = usage_counts(choose.draw)
    built.said.usage = counts
    usage: Json = {
        "prompt_tokens": counts["input"],
        "completion_tokens": counts["output"],
        "total_tokens": counts["input"] + counts["output"],
        "prompt_tokens_details": {"cached_tokens": counts["cache_read"], "cache_write_tokens": counts["cache_write"]},
        "completion_tokens_details": {"reasoning_tokens": counts["reasoning"]},
    }
    match choose.one_of(*(name for name in QUIRKS if name.startswith("usage"))):
        case "usage_on_the_last_choice_chunk":
            chunks[-1]["usage"] = usage
        case "usage_in_a_choice":
            chunks[-1]["choices"][0]["usage"] = usage
        case "usage_x_groq":
            chunks[-1]["x_groq"] = {"id": "req", "usage": usage}
        case "usage_growing":
            for number, (_, value) in enumerate(built.events):
                value["usage"] = usage | {"completion_tokens": number} if number % 2 else None
            chunks[-1]["usage"] = usage
        case "usage_missing":
            built.said.usage = dict.fromkeys(counts, 0)
        case "usage_null_fields":
            nulls = {"prompt_tokens_details": None, "completion_tokens_details": None}
            built.said.usage = counts | {"cache_read": 0, "cache_write": 0, "reasoning": 0}
            chunks.append({"choices": [], "usage": usage | nulls})
        case _:
            chunks.append({"id": "chatcmpl-1", "choices": [], "usage": usage})


def _add_error(choose: Chooser, events: Events, said: Answer) -> None:
    """An error somewhere before the end. Some services go on after it, so the rest may stay."""
    how = choose.one_of(*ERRORS) if choose.forced in ERRORS or choose.draw(st.integers(0, 9)) == 9 else ""
    if not how:
        return
    body: Json = {"message": WORDS_OF_ERROR, "type": "server_error", "code": 500}
    shapes: dict[str, Json] = {
        "error_string": {"error": WORDS_OF_ERROR},
        "error_beside_choices": _chunk({"index": 0, "delta": {"content": ""}, "finish_reason": "error"}, error=body),
        "error_as_object_error": {"object": "error", "message": WORDS_OF_ERROR, "code": 400},
        "error_type_and_message": {"error_type": "context_length_exceeded", "error_message": WORDS_OF_ERROR},
        "error_in_a_choice": _chunk({"index": 0, "delta": {}, "finish_reason": "error", "error": body}),
    }
    place = choose.draw(st.integers(0, len(events) - 1))
    if choose.draw(st.booleans()):
        del events[place:]
    events.insert(place, ("error" if how == "error_named_event" else "", shapes.get(how, {"error": body})))
    said.error = WORDS_OF_ERROR
