"""Streams of Responses, as the services that speak it write them."""

import json
from itertools import chain

from hypothesis import strategies as st

from .dialect import NONSENSE, WORDS_OF_ERROR, Built, Chooser, Content, Json, Quirk, content_of, merged, usage_counts
from .readers import Answer, Call

QUIRKS = {
    "output_index_missing": Quirk(3),
    "item_ids_change": Quirk(),
    "item_ids_missing": Quirk(),
    "text_only_done": Quirk(3, "text"),
    "arguments_only_done": Quirk(3, "calls"),
    "only_items_done": Quirk(),
    "only_final_output": Quirk(),
    "items_never_done": Quirk(),
    "done_under_another_part": Quirk(32, "text"),
    "items_without_type": Quirk(3, "text"),
    "interleaved_items": Quirk(),
    "hosted_items": Quirk(),
    "unknown_items": Quirk(),
    "unknown_events": Quirk(),
    "no_parts_added": Quirk(),
    "raw_reasoning": Quirk(0, "reasoning"),
    "reasoning_in_parts": Quirk(0, "reasoning"),
    "encrypted_only": Quirk(0, "reasoning"),
    "reasoning_only_done": Quirk(3, "reasoning"),
    "custom_calls": Quirk(0, "calls"),
    "no_ids": Quirk(3, "calls"),
    "one_id_for_all": Quirk(6, "calls"),
    "numeric_ids": Quirk(3, "calls"),
    "refusal": Quirk(),
    "start_missing": Quirk(),
    "final_output_empty": Quirk(),
    "done_afterwards": Quirk(),
    "length": Quirk(),
    "cut_call": Quirk(0, "calls"),
    "filtered": Quirk(),
    "incomplete_for_unknown_reason": Quirk(1),
    "usage_missing": Quirk(),
    "usage_null_fields": Quirk(),
    "end_missing": Quirk(),
    "failed": Quirk(),
    "cancelled": Quirk(),
    "error_nested": Quirk(),
    "error_flat": Quirk(),
    "error_type_and_message": Quirk(2),
}
CALLS = [name for name in QUIRKS if QUIRKS[name].needs == "calls" and name != "arguments_only_done"]
PLACES = [
    "text_only_done",
    "arguments_only_done",
    "reasoning_only_done",
    "only_items_done",
    "only_final_output",
    "items_never_done",
    "done_under_another_part",
    "items_without_type",
    "no_parts_added",
]
"""Where the content stands. A stream has one of these, and one of CALLS: they belong to different services."""
NUMBERS = ["output_index_missing", "item_ids_change", "item_ids_missing", "interleaved_items"]
REASONING = ["raw_reasoning", "reasoning_in_parts", "encrypted_only"]
ENDS = ["length", "filtered", "incomplete_for_unknown_reason", "end_missing", "failed", "cancelled"]
ERRORS = [name for name in QUIRKS if name.startswith("error")]


def build(choose: Chooser) -> Built:
    content, draw = content_of(choose), choose.draw
    built = Built([], Answer(ended=True))
    how, place = choose.one_of(*CALLS), choose.one_of(*PLACES)
    end = choose.one_of(*ENDS) if how != "cut_call" and choose.forced not in ERRORS else ""
    items = [_reasoning(choose, place, content, built.said)] if content.reasoning else []
    if content.text or draw(st.booleans()):
        items.append(_message(choose, place, content.text, built.said))
    items += [_call(choose, how, place, call, built.said) for call in content.calls]
    if how == "cut_call" and content.calls:
        end = "length"
        items[-1] = _cut(choose, items[-1], built.said)
    _add_foreign(choose, items, built)
    output = [item[-1]["item"] for item in items]
    values = _numbered(choose, place, items, built.said) if place != "only_final_output" else []
    if place == "items_without_type":
        for value in values:
            if value.get("item", {}).get("type") == "message":
                value["item"] = {name: field for name, field in value["item"].items() if name != "type"}
    if choose.has("unknown_events"):
        values.insert(draw(st.integers(0, len(values))), {"type": "response.weather", "delta": "x", "output_index": 0})
    only_done = place.endswith("only_done")
    empty = only_done or (place != "only_final_output" and choose.has("final_output_empty"))
    _add_frame(choose, end, values, [] if empty else output, built)
    if not end:
        _add_error(choose, values, built.said)
    for number, value in enumerate(values):
        value["sequence_number"] = number
    built.events = [(value["type"], value) for value in values]
    if choose.has("done_afterwards"):
        built.events.append(("", "[DONE]"))
    return built


# -- content --------------------------------------------------------------------------------------------------------


def _item(place: str, begun: Json, parts: list[Json], done: Json) -> list[Json]:
    """The events of an item: it begins, its parts, it is done."""
    added: Json = {"type": "response.output_item.added", "item": {**begun, "status": "in_progress"}}
    whole: Json = {"type": "response.output_item.done", "item": {**begun, **done, "status": "completed"}}
    return [added, *([] if place == "only_items_done" else parts), whole]


def _parts(choose: Chooser, name: str, field: str, text: str, only_done: bool, **index: int) -> list[Json]:
    """The deltas of a part and its end."""
    pieces = [] if only_done else choose.split(text)
    values: list[Json] = [{"type": f"response.{name}.delta", "delta": piece, **index} for piece in pieces]
    return [*values, {"type": f"response.{name}.done", field: text, **index}]


def _reasoning(choose: Chooser, place: str, content: Content, said: Answer) -> list[Json]:
    begun: Json = {"type": "reasoning", "id": "rs", "summary": []}
    only_done = place == "reasoning_only_done"
    how = choose.one_of(*REASONING)
    if how == "encrypted_only":
        return _item(place, begun, [], {"encrypted_content": "b3BhcXVl"})
    if how == "raw_reasoning":
        said.raw_reasoning = [content.reasoning]
        parts = _parts(choose, "reasoning_text", "text", content.reasoning, only_done, content_index=0)
        whole = {"content": [{"type": "reasoning_text", "text": content.reasoning}]}
        return _item(place, begun, parts, {} if only_done else whole)
    said.reasoning = [content.reasoning] * (2 if how == "reasoning_in_parts" else 1)
    parts, summary = [], []
    for number, text in enumerate(said.reasoning):
        part = {"type": "summary_text", "text": text}
        parts.append({"type": "response.reasoning_summary_part.added", "summary_index": number, "part": {}})
        parts += _parts(choose, "reasoning_summary_text", "text", text, only_done, summary_index=number)
        parts.append({"type": "response.reasoning_summary_part.done", "summary_index": number, "part": part})
        summary.append(part)
    return _item(place, begun, parts, {} if only_done else {"summary": summary})


def _message(choose: Chooser, place: str, text: str, said: Answer) -> list[Json]:
    begun: Json = {"type": "message", "id": "msg", "role": "assistant", "content": []}
    only_done, parts = place == "text_only_done", []
    content: list[Json] = []
    if text:
        said.text = text
        part = {"type": "output_text", "text": text, "annotations": []}
        content.append(part)
        parts = _parts(choose, "output_text", "text", text, only_done, content_index=0)
        if place != "no_parts_added":
            parts.insert(0, {"type": "response.content_part.added", "content_index": 0, "part": part | {"text": ""}})
            parts.append({"type": "response.content_part.done", "content_index": 0, "part": part})
        if place == "done_under_another_part":
            for value in parts:
                value["content_index"] = 0 if value["type"].endswith("done") else 1
    if choose.has("refusal"):
        said.refusal = "I cannot do that."
        index = len(content)
        content.append({"type": "refusal", "refusal": said.refusal})
        index += place == "done_under_another_part"
        parts += _parts(choose, "refusal", "refusal", said.refusal, only_done, content_index=index)
    return _item(place, begun, parts, {"content": [] if only_done else content})


def _call(choose: Chooser, how: str, place: str, call: Call, said: Answer) -> list[Json]:
    custom = how == "custom_calls"
    kind, field = ("custom_tool_call", "input") if custom else ("function_call", "arguments")
    arguments = json.dumps(call.arguments)
    heard = Call(call.id, call.name, arguments if custom else call.arguments, custom)
    said.calls.append(heard)
    begun: Json = {"type": kind, "id": f"fc_{call.id}", "call_id": call.id, "name": call.name, field: ""}
    match how:
        case "no_ids":
            del begun["call_id"]
            heard.id = ""
        case "one_id_for_all":
            begun["call_id"], heard.id = "call", ""
        case "numeric_ids":
            begun["call_id"] = 1 + int(call.id.removeprefix("call_"))
            heard.id = str(begun["call_id"])
    only_done = place == "arguments_only_done"
    parts = _parts(choose, f"{kind}_{field}", field, arguments, only_done)
    return _item(place, begun, parts, {} if only_done else {field: arguments})


def _cut(choose: Chooser, item: list[Json], said: Answer) -> list[Json]:
    """The arguments of a call that was cut: no `.done` for them, and an item that is incomplete."""
    whole = json.dumps(said.calls[-1].arguments)
    said.calls[-1].arguments = cut = whole[: choose.draw(st.integers(1, len(whole) - 1))]
    delta = {"type": "response.function_call_arguments.delta", "delta": cut}
    begun, done = item[0]["item"], item[-1]["item"] | {"arguments": cut, "status": "incomplete"}
    return [item[0] | {"item": begun}, delta, item[-1] | {"item": done}]


def _add_foreign(choose: Chooser, items: list[list[Json]], built: Built) -> None:
    """Items that say nothing to a client of another format: of tools the service runs itself, and unknown ones."""
    found = []
    if choose.has("hosted_items"):
        searching: Json = {"type": "response.web_search_call.searching"}
        found.append(_item("", {"type": "web_search_call", "id": "ws"}, [searching], {"action": {"type": "search"}}))
    if choose.has("unknown_items"):
        built.may_fail = True
        found.append(_item("", {"type": "hologram", "id": "holo"}, [], {"size": 3}))
    for item in found:
        items.insert(choose.draw(st.integers(0, len(items))), item)


def _numbered(choose: Chooser, place: str, items: list[list[Json]], said: Answer) -> list[Json]:
    """The events of all items with what tells which item they belong to."""
    how = choose.one_of(*NUMBERS)
    numbered = []
    for index, item in enumerate(items):
        id = item[0]["item"].get("id")
        part: Json = {"output_index": index, "item_id": id}
        if how == "output_index_missing":
            del part["output_index"]
        elif how == "item_ids_missing":
            del part["item_id"]
        values = [value | part for value in item]
        if how == "item_ids_change":
            values = [value | {"item_id": f"{id}_{number}"} for number, value in enumerate(values)]
        for value in values:
            if "item" in value:
                value.pop("item_id", None)
        numbered.append(values[:-1] if place == "items_never_done" else values)
    if how != "interleaved_items":
        return list(chain.from_iterable(numbered))
    values = merged(choose.draw, numbered)
    begun = [value["output_index"] for value in values if value["type"] == "response.output_item.added"]
    calls = [index for index, item in enumerate(items) if "name" in item[0]["item"]]
    said.calls = [said.calls[calls.index(index)] for index in begun if index in calls]
    return values


# -- the end --------------------------------------------------------------------------------------------------------


def _add_frame(choose: Chooser, end: str, values: list[Json], output: list[Json], built: Built) -> None:
    said = built.said
    response: Json = {"id": "resp_1", "object": "response", "model": "m", "error": None, "incomplete_details": None}
    if not choose.has("start_missing"):
        begun = response | {"status": "in_progress", "output": []}
        values[:0] = [{"type": f"response.{name}", "response": begun} for name in ("created", "in_progress")]
    said.finish = status = "completed"
    match end:
        case "length":
            said.finish = "max_output_tokens"
        case "filtered":
            said.finish = "content_filter"
        case "incomplete_for_unknown_reason":
            said.finish, said.error = choose.draw(st.sampled_from(NONSENSE)), ""
        case "end_missing":
            said.ended = False
            return
        case "failed":
            status, said.error = "failed", WORDS_OF_ERROR
            response["error"] = {"code": "server_error", "message": WORDS_OF_ERROR}
        case "cancelled":
            status, said.error = "cancelled", ""
    if said.finish != "completed":
        status = "incomplete"
        response["incomplete_details"] = {"reason": said.finish}
    usage = _usage(choose, said)
    last = response | {"status": status, "output": output, "usage": usage}
    values.append({"type": f"response.{status}", "response": last})


def _usage(choose: Chooser, said: Answer) -> Json | None:
    said.usage = counts = usage_counts(choose.draw)
    how = choose.one_of("usage_missing", "usage_null_fields")
    if how == "usage_missing":
        said.usage = dict.fromkeys(counts, 0)
        return None
    usage: Json = {
        "input_tokens": counts["input"],
        "input_tokens_details": {"cached_tokens": counts["cache_read"], "cache_write_tokens": counts["cache_write"]},
        "output_tokens": counts["output"],
        "output_tokens_details": {"reasoning_tokens": counts["reasoning"]},
        "total_tokens": counts["input"] + counts["output"],
    }
    if how == "usage_null_fields":
        said.usage = counts | {"cache_read": 0, "cache_write": 0, "reasoning": 0}
        usage |= {"input_tokens_details": None, "output_tokens_details": None}
    return usage


def _add_error(choose: Chooser, values: list[Json], said: Answer) -> None:
    """An error somewhere before the end, which `response.failed` may follow."""
    how = choose.one_of(*ERRORS) if choose.forced in ERRORS or choose.draw(st.integers(0, 9)) == 9 else ""
    if not how:
        return
    body: Json = {"type": "server_error", "code": "server_error", "message": WORDS_OF_ERROR, "param": None}
    shapes: dict[str, Json] = {
        "error_flat": {"type": "error", "code": "server_error", "message": WORDS_OF_ERROR, "param": None},
        "error_type_and_message": {"type": "", "error_type": "overloaded", "error_message": WORDS_OF_ERROR},
    }
    del values[choose.draw(st.integers(0, len(values) - 1)) :]
    values.append(shapes.get(how, {"type": "error", "error": body}))
    if choose.draw(st.booleans()):
        failed = {"id": "resp_1", "status": "failed", "error": body, "output": []}
        values.append({"type": "response.failed", "response": failed})
    said.error = WORDS_OF_ERROR
