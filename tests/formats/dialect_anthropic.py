"""Streams of Anthropic Messages, as the services that speak it write them."""

import json
from itertools import chain

from hypothesis import strategies as st

from .dialect import NONSENSE, WORDS_OF_ERROR, Built, Chooser, Content, Json, Quirk, content_of, merged, usage_counts
from .readers import FAILURES, Answer, Call

QUIRKS = {
    "text_in_block_start": Quirk(0, "text"),
    "input_in_block_start": Quirk(0, "calls"),
    "no_ids": Quirk(3, "calls"),
    "one_id_for_all": Quirk(6, "calls"),
    "numeric_ids": Quirk(3, "calls"),
    "input_in_both": Quirk(32, "calls"),
    "no_input_deltas": Quirk(0, "calls"),
    "interleaved_blocks": Quirk(0, "text"),
    "indexes_from_three": Quirk(),
    "server_blocks": Quirk(),
    "unknown_blocks": Quirk(),
    "unknown_deltas": Quirk(),
    "unknown_events": Quirk(),
    "signatures": Quirk(0, "reasoning"),
    "redacted": Quirk(),
    "pings": Quirk(),
    "last_stop_missing": Quirk(0, "text"),
    "start_missing": Quirk(),
    "end_turn_beside_calls": Quirk(0, "calls"),
    "stop_reason_missing": Quirk(),
    "message_delta_missing": Quirk(),
    "message_stop_missing": Quirk(),
    "done_afterwards": Quirk(),
    "stop_reason_unknown": Quirk(1),
    "stop_reason_of_failure": Quirk(1),
    "stop_reason_sensitive": Quirk(1),
    "stop_reason_context_window": Quirk(),
    "refusal": Quirk(),
    "length": Quirk(),
    "cut_call": Quirk(0, "calls"),
    "usage_all_at_the_end": Quirk(),
    "usage_null_fields": Quirk(),
    "usage_missing": Quirk(),
    "error_event": Quirk(),
    "error_string": Quirk(),
    "error_type_and_message": Quirk(2),
}
CALLS = [name for name in QUIRKS if QUIRKS[name].needs == "calls" and name != "end_turn_beside_calls"]
"""How calls are written. A stream has one of these, since they belong to different services."""
ENDS = [name for name in QUIRKS if name.startswith(("end_", "stop_", "message_", "refusal", "length", "last_"))]
ERRORS = [name for name in QUIRKS if name.startswith("error")]


def build(choose: Chooser) -> Built:
    content, draw = content_of(choose), choose.draw
    built = Built([], Answer(content.text, ended=True))
    how = choose.one_of(*CALLS)
    end = choose.one_of(*ENDS) if how != "cut_call" and choose.forced not in ERRORS else ""
    blocks = [_reasoning(choose, content, built.said)] if content.reasoning else []
    blocks += [_text(choose, content.text)] if content.text else []
    blocks += [_call(choose, how, call, built.said) for call in content.calls]
    if how == "cut_call" and content.calls:
        end = "length"
        _cut(choose, blocks[-1], built.said)
    _add_foreign(choose, blocks, built)
    first = 3 if choose.has("indexes_from_three") else 0
    numbered = [[value | {"index": first + index} for value in block] for index, block in enumerate(blocks)]
    values = list(chain.from_iterable(numbered))
    if choose.has("interleaved_blocks"):
        values = merged(draw, numbered)
        begun = [value["content_block"] for value in values if value["type"] == "content_block_start"]
        ids = [block["id"] for block in begun if block["type"] == "tool_use"] if how == "" else []
        built.said.calls.sort(key=lambda call: ids.index(call.id) if ids else 0)
        values = values if ids or len(content.calls) < 2 else list(chain.from_iterable(numbered))
    if end == "last_stop_missing" and values:
        values.pop()
    _add_noise(choose, values, built)
    _add_frame(choose, end, values, built)
    if not end:
        _add_error(choose, values, built.said)
    built.events = [(value["type"], value) for value in values]
    if choose.has("done_afterwards"):
        built.events.append(("", "[DONE]"))
    return built


# -- content --------------------------------------------------------------------------------------------------------


def _block(start: Json, deltas: list[Json]) -> list[Json]:
    values: list[Json] = [{"type": "content_block_start", "content_block": start}]
    values += [{"type": "content_block_delta", "delta": delta} for delta in deltas]
    return [*values, {"type": "content_block_stop"}]


def _reasoning(choose: Chooser, content: Content, said: Answer) -> list[Json]:
    said.reasoning = [content.reasoning]
    deltas: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in choose.split(content.reasoning)]
    if choose.has("signatures"):
        deltas += [{"type": "signature_delta", "signature": piece} for piece in ("c2ln", "bmF0dXJl")]
    return _block({"type": "thinking", "thinking": "", "signature": ""}, deltas)


def _text(choose: Chooser, text: str) -> list[Json]:
    if choose.has("text_in_block_start"):
        return _block({"type": "text", "text": text}, [])
    return _block({"type": "text", "text": ""}, [{"type": "text_delta", "text": p} for p in choose.split(text)])


def _call(choose: Chooser, how: str, call: Call, said: Answer) -> list[Json]:
    start: Json = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
    heard = Call(call.id, call.name, call.arguments)
    said.calls.append(heard)
    pieces = ["", *choose.split(json.dumps(call.arguments))]
    match how:
        case "input_in_block_start" | "input_in_both":
            start["input"] = call.arguments
            pieces = pieces if how == "input_in_both" else []
        case "no_input_deltas":
            heard.arguments, pieces = {}, choose.draw(st.sampled_from([[], [""]]))
        case "no_ids":
            del start["id"]
            heard.id = ""
        case "one_id_for_all":
            start["id"], heard.id = "toolu", ""
        case "numeric_ids":
            start["id"] = 1 + int(call.id.removeprefix("call_"))
            heard.id = str(start["id"])
    return _block(start, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces])


def _cut(choose: Chooser, block: list[Json], said: Answer) -> None:
    whole = json.dumps(said.calls[-1].arguments)
    said.calls[-1].arguments = cut = whole[: choose.draw(st.integers(1, len(whole) - 1))]
    start = block[0]["content_block"]
    block[:] = _block(start, [{"type": "input_json_delta", "partial_json": cut}])


def _add_foreign(choose: Chooser, blocks: list[list[Json]], built: Built) -> None:
    """Blocks that say nothing to a client of another format: of tools the service runs itself, and unknown ones."""
    found = []
    if choose.has("server_blocks"):
        query = {"type": "input_json_delta", "partial_json": '{"query": "x"}'}
        found.append(_block({"type": "server_tool_use", "id": "srvtoolu", "name": "web_search", "input": {}}, [query]))
        found.append(_block({"type": "web_search_tool_result", "tool_use_id": "srvtoolu", "content": []}, []))
    if choose.has("redacted"):
        found.append(_block({"type": "redacted_thinking", "data": "b3BhcXVl"}, []))
    if choose.has("unknown_blocks"):
        built.may_fail = True
        found.append(_block({"type": "hologram", "size": 3}, [{"type": "hologram_delta", "hologram": "x"}]))
    for block in found:
        blocks.insert(choose.draw(st.integers(0, len(blocks))), block)


def _add_noise(choose: Chooser, values: list[Json], built: Built) -> None:
    noise: list[Json] = [{"type": "ping"}] * 2 if choose.has("pings") else []
    if choose.has("unknown_events"):
        noise.append({"type": "weather_report", "weather": {"type": "text"}})
    starts = [value for value in values if value["type"] == "content_block_start"]
    if choose.has("unknown_deltas") and starts:
        built.may_fail = True
        first = starts[0]
        delta = {"type": "content_block_delta", "index": first["index"], "delta": {"type": "odd_delta", "odd": 1}}
        values.insert(values.index(first) + 1, delta)
    for value in noise:
        values.insert(choose.draw(st.integers(0, len(values))), value)


# -- the end --------------------------------------------------------------------------------------------------------


def _add_frame(choose: Chooser, end: str, values: list[Json], built: Built) -> None:
    said, draw = built.said, choose.draw
    said.finish = "tool_use" if said.calls else draw(st.sampled_from(["end_turn", "stop_sequence"]))
    stop: Json = {"stop_sequence": "STOP" if said.finish == "stop_sequence" else None}
    match end:
        case "end_turn_beside_calls":
            said.finish = "end_turn"
        case "length":
            said.finish = "max_tokens"
        case "refusal":
            said.finish, said.refusal = "refusal", "I cannot do that."
            stop["stop_details"] = {"type": "refusal", "category": None, "explanation": said.refusal}
        case "stop_reason_missing" | "message_delta_missing":
            said.finish, built.may_fail = "", True
        case "stop_reason_unknown":
            said.finish, said.error = draw(st.sampled_from(NONSENSE)), ""
        case "stop_reason_of_failure":
            said.finish, said.error = draw(st.sampled_from(sorted(FAILURES))), ""
        case "stop_reason_sensitive":
            said.finish = "sensitive"
        case "stop_reason_context_window":
            said.finish = "model_context_window_exceeded"
        case "message_stop_missing":
            said.ended = False
    early, late = _usage(choose, built, end)
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], **early}
    if choose.has("start_missing"):
        known = {name: count for name, count in late.get("usage", {}).items() if count is not None}
        late = {"usage": early.get("usage", {}) | known}
        if end == "message_delta_missing":
            said.usage = dict.fromkeys(said.usage, 0)
    else:
        values.insert(0, {"type": "message_start", "message": message})
    if end != "message_delta_missing":
        values.append({"type": "message_delta", "delta": {"stop_reason": said.finish or None, **stop}, **late})
    if end != "message_stop_missing":
        values.append({"type": "message_stop"})


def _usage(choose: Chooser, built: Built, end: str) -> tuple[Json, Json]:
    """What the start and the end of a message tell of its tokens."""
    counts = usage_counts(choose.draw)
    built.said.usage = counts
    told: Json = {
        "input_tokens": counts["input"] - counts["cache_read"] - counts["cache_write"],
        "cache_read_input_tokens": counts["cache_read"],
        "cache_creation_input_tokens": counts["cache_write"],
    }
    output: Json = {
        "output_tokens": counts["output"],
        "output_tokens_details": {"thinking_tokens": counts["reasoning"]},
    }
    if end == "message_delta_missing":
        return {"usage": told | output}, {}
    match choose.one_of(*(name for name in QUIRKS if name.startswith("usage"))):
        case "usage_all_at_the_end":
            return {"usage": {"input_tokens": 0, "output_tokens": 0}}, {"usage": told | output}
        case "usage_null_fields":
            nulls = dict.fromkeys(told, None)
            return {"usage": told | {"output_tokens": 1}}, {"usage": nulls | output}
        case "usage_missing":
            built.said.usage = dict.fromkeys(counts, 0)
            return {}, {}
        case _:
            return {"usage": told | {"output_tokens": 1}}, {"usage": output}


def _add_error(choose: Chooser, values: list[Json], said: Answer) -> None:
    """An error somewhere before the end; nothing comes after it."""
    how = choose.one_of(*ERRORS) if choose.forced in ERRORS or choose.draw(st.integers(0, 9)) == 9 else ""
    if not how:
        return
    shapes: dict[str, Json] = {
        "error_string": {"type": "error", "error": WORDS_OF_ERROR},
        "error_type_and_message": {"type": "", "error_type": "overloaded", "error_message": WORDS_OF_ERROR},
    }
    body = {"type": "overloaded_error", "message": WORDS_OF_ERROR, "details": None}
    del values[choose.draw(st.integers(0, len(values) - 1)) :]
    values.append(shapes.get(how, {"type": "error", "error": body, "request_id": None}))
    said.error = WORDS_OF_ERROR
