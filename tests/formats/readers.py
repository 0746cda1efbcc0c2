"""What an answer says, read straight from its bytes by the wire's documentation: one plain reader for each format.

These readers are the judges of the product's decoders, so they share no code with them (this module imports the
standard library only) and are as plain as they can be: everything is collected first, and only then put together.

One rule holds for all: an answer that stands in two places is one answer. A stream of Chat says it in `delta`, a whole
one in `message`. A part of Responses is its deltas; without any its `.done`; without that the item's, or the final
response's. Arguments of Anthropic are the deltas; without any the `input` that the block began with.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Call:
    """`arguments` are parsed, or the raw text where that is no JSON (a call that was cut) or free text (`custom`)."""

    id: str
    name: str
    arguments: Any
    custom: bool = False


@dataclass
class Answer:
    """`reasoning` is a list of parts: whether there is a blank line between two of them is the reader's choice.

    `raw_reasoning` is what Responses has beside a summary: the same thinking in other words. `finish` is the wire's
    word, "" without one. `error` holds the words of an error, None without one. `ended`: there was a regular end.
    """

    text: str = ""
    reasoning: list[str] = field(default_factory=list)
    raw_reasoning: list[str] = field(default_factory=list)
    refusal: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    ended: bool = False
    error: str | None = None

    def meaning(self, format: str) -> str | None:
        """stop, length, tool_calls or content_filter; None where the word (or none) leaves that open."""
        meaning = MEANINGS[format].get(self.finish)
        if meaning in ("stop", "tool_calls"):
            return "tool_calls" if self.calls else "stop"
        return meaning


MEANINGS = {
    "chat": {
        "stop": "stop",
        "length": "length",
        "model_length": "length",
        "model_context_window_exceeded": "length",
        "tool_calls": "tool_calls",
        "function_call": "tool_calls",
        "content_filter": "content_filter",
        "sensitive": "content_filter",
    },
    "responses": {"completed": "stop", "max_output_tokens": "length", "content_filter": "content_filter"},
    "anthropic": {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "tool_use": "tool_calls",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "refusal": "content_filter",
        "sensitive": "content_filter",
    },
}
FAILURES = {"insufficient_system_resource", "network_error", "error", "abort"}
"""Finish words that say: this answer failed."""


def read_stream(format: str, stream: bytes) -> Answer:
    answer = Answer()
    values = []
    for data in _data_of(stream):
        if data == "[DONE]":
            values.append({"type": "[DONE]"})
            continue
        try:
            value = json.loads(data)
        except ValueError:
            answer.error = ""
            break
        values.append(value)
    {"chat": _read_chat, "responses": _read_responses, "anthropic": _read_anthropic}[format](values, answer)
    return answer


def read_whole(format: str, body: bytes) -> Answer:
    value = json.loads(body)
    answer = Answer(error=_error_of(value))
    if answer.error is None:
        {"chat": _whole_chat, "responses": _whole_responses, "anthropic": _whole_anthropic}[format](value, answer)
    return answer


def _data_of(stream: bytes) -> list[str]:
    """The data of each event, that of a last one without its blank line too; events without data are none."""
    text = stream.decode(errors="replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    events = []
    for event in re.split("\n\n+", text):
        lines = [line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:")]
        if data := "\n".join(lines).strip():
            events.append(data)
    return events


def _error_of(value: Any) -> str | None:
    """The words of an error in any of the shapes that services have for it, "" if it has none that can be read."""
    if type(value) is not dict:
        return ""
    choices = value.get("choices") or [{}]
    places = [value.get("error"), (value.get("response") or {}).get("error"), choices[0].get("error")]
    found = next((place for place in places if place), None)
    if type(found) is dict and type(found.get("error")) is dict:
        found = found["error"]
    if type(found) is str:
        return found
    if type(found) is dict:
        return found["message"] if type(found.get("message")) is str else ""
    if value.get("object") == "error" or value.get("type") == "error":
        return value.get("message") or ""
    if value.get("error_type") or value.get("error_message"):
        return value.get("error_message") or ""
    if value.get("type") in ("response.failed", "response.cancelled"):
        return ""
    return None


def _parsed(arguments: Any, custom: bool = False) -> Any:
    if custom or type(arguments) is not str:
        return {} if arguments is None else arguments
    if not arguments.strip():
        return {}
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _is_whole(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except ValueError:
        return False
    return True


def _count(usage: Any, *path: str) -> int:
    for name in path:
        usage = usage.get(name) if type(usage) is dict else None
    return usage if type(usage) is int and usage >= 0 else 0


# -- chat -----------------------------------------------------------------------------------------------------------


@dataclass
class _ChatCall:
    index: Any
    id: str
    name: str = ""
    arguments: str = ""
    custom: bool = False


@dataclass
class _ChatContent:
    """What the deltas of a stream, or the message of a whole answer, have said."""

    text: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: list[_ChatCall] = field(default_factory=list)


def _read_chat(values: list[Any], answer: Answer) -> None:
    said, usage, done = _ChatContent(), None, False
    for value in values:
        if value == {"type": "[DONE]"}:
            done = True
            break
        if (error := _error_of(value)) is not None:
            answer.error = error
            break
        usage = _chat_usage(value) or usage
        for choice in value.get("choices") or []:
            if choice.get("index") in (None, 0):
                _add_chat(said, choice.get("delta") or {})
                answer.finish = choice.get("finish_reason") or answer.finish
    _put_chat_together(said, usage, answer)
    nothing = not (answer.text or answer.reasoning or answer.refusal or answer.calls)
    answer.ended = bool(answer.finish) or (done and not nothing)
    if answer.finish in FAILURES or not all(call.name for call in answer.calls):
        answer.error = answer.error or ""


def _whole_chat(body: Any, answer: Answer) -> None:
    said = _ChatContent()
    for choice in body.get("choices") or []:
        if choice.get("index") in (None, 0):
            answer.ended = True
            answer.finish = choice.get("finish_reason") or ""
            _add_chat(said, choice.get("message") or {})
    _put_chat_together(said, _chat_usage(body), answer)
    if answer.finish in FAILURES:
        answer.error = ""


def _add_chat(said: _ChatContent, delta: dict[str, Any]) -> None:
    content = delta.get("content")
    if type(content) is str:
        said.text.append(content)
    for part in content if type(content) is list else []:
        if part.get("type") == "thinking":
            said.reasoning += [item.get("text") or "" for item in part["thinking"]]
        else:
            said.parts.append(part.get("text") or "")
    strings = [delta[name] for name in ("reasoning_content", "reasoning") if type(delta.get(name)) is str]
    details = [detail.get("text") or detail.get("summary") or "" for detail in delta.get("reasoning_details") or []]
    said.reasoning.append(next((text for text in strings if text), "".join(details)))
    said.refusal.append(delta.get("refusal") or "")
    for fragment in delta.get("tool_calls") or []:
        _add_call(said.calls, fragment, fragment.get("function") or fragment.get("custom") or {})
    if legacy := delta.get("function_call"):
        _add_call(said.calls, {"index": "function_call"}, legacy)


def _add_call(calls: list[_ChatCall], fragment: dict[str, Any], function: dict[str, Any]) -> None:
    index, id, name = fragment.get("index"), str(fragment.get("id") or ""), function.get("name") or ""
    arguments = function.get("arguments") or function.get("input") or ""
    if type(arguments) is not str:
        arguments = json.dumps(arguments)
    call = _call_of(calls, index, id)
    if call is None or _is_another(call, id, name):
        call = _ChatCall(index, id, custom="custom" in fragment)
        calls.append(call)
    call.id, call.name = call.id or id, call.name or name
    if call.arguments == "{}" and arguments:  # was only a placeholder
        call.arguments = ""
    call.arguments += arguments


def _call_of(calls: list[_ChatCall], index: Any, id: str) -> _ChatCall | None:
    if index is not None:
        return next((call for call in reversed(calls) if call.index == index), None)
    if id:
        return next((call for call in reversed(calls) if call.id == id), None)
    return calls[-1] if calls else None


def _is_another(call: _ChatCall, id: str, name: str) -> bool:
    """Whether a fragment under a call's index begins another: with a new id, or a name after whole arguments."""
    if id and call.id:
        return id != call.id and bool(name)
    return bool(name and call.name) and _is_whole(call.arguments)


def _chat_usage(value: dict[str, Any]) -> dict[str, Any] | None:
    choices = value.get("choices") or [{}]
    return value.get("usage") or (value.get("x_groq") or {}).get("usage") or choices[0].get("usage")


def _put_chat_together(said: _ChatContent, usage: dict[str, Any] | None, answer: Answer) -> None:
    text = "".join(said.text)
    if think := re.match(r"\s*<think>(.*?)(?:</think>\n*(.*)|$)", text, re.DOTALL):
        said.reasoning.append(think[1])
        text = think[2] or ""
    answer.text = text + "".join(said.parts)
    answer.reasoning = [text for text in ["".join(said.reasoning)] if text]
    answer.refusal = "".join(said.refusal)
    answer.calls = [Call(call.id, call.name, _parsed(call.arguments, call.custom), call.custom) for call in said.calls]
    read = _count(usage, "prompt_tokens_details", "cached_tokens") or _count(usage, "prompt_cache_hit_tokens")
    answer.usage = {
        "input": _count(usage, "prompt_tokens"),
        "output": _count(usage, "completion_tokens"),
        "cache_read": read,
        "cache_write": _count(usage, "prompt_tokens_details", "cache_write_tokens"),
        "reasoning": _count(usage, "completion_tokens_details", "reasoning_tokens"),
    }


# -- anthropic ------------------------------------------------------------------------------------------------------


def _read_anthropic(values: list[Any], answer: Answer) -> None:
    blocks: dict[Any, dict[str, Any]] = {}
    deltas: dict[Any, list[str]] = {}
    usage: dict[str, Any] = {}
    stop: dict[str, Any] = {}
    for value in values:
        if (error := _error_of(value)) is not None:
            answer.error = error
            break
        match value.get("type"):
            case "message_start":
                usage = dict(value["message"].get("usage") or {})
            case "content_block_start":
                blocks[value["index"]] = value["content_block"]
            case "content_block_delta":
                delta = value["delta"]
                text = delta.get("text") or delta.get("partial_json") or delta.get("thinking") or ""
                deltas.setdefault(value["index"], []).append(text)
            case "message_delta":
                stop = value["delta"]
                told = value.get("usage") or {}
                usage |= {name: count for name, count in told.items() if count is not None}
            case "message_stop":
                answer.ended = True
                break
    for index, block in blocks.items():
        _add_block(block, "".join(deltas.get(index, [])), answer)
    _end_anthropic(stop, usage, answer)


def _whole_anthropic(body: Any, answer: Answer) -> None:
    answer.ended = type(body.get("content")) is list
    for block in body.get("content") or []:
        _add_block(block, "", answer)
    _end_anthropic(body, body.get("usage") or {}, answer)


def _add_block(block: dict[str, Any], streamed: str, answer: Answer) -> None:
    match block.get("type"):
        case "text":
            answer.text += (block.get("text") or "") + streamed
        case "thinking":
            if thinking := (block.get("thinking") or "") + streamed:
                answer.reasoning.append(thinking)
        case "tool_use":
            arguments = _parsed(streamed) if streamed else block.get("input") or {}
            answer.calls.append(Call(str(block.get("id") or ""), block["name"], arguments))


def _end_anthropic(stop: dict[str, Any], usage: dict[str, Any], answer: Answer) -> None:
    answer.finish = stop.get("stop_reason") or ""
    answer.refusal = (stop.get("stop_details") or {}).get("explanation") or ""
    read, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    answer.usage = {
        "input": _count(usage, "input_tokens") + read + written,
        "output": _count(usage, "output_tokens"),
        "cache_read": read,
        "cache_write": written,
        "reasoning": _count(usage, "output_tokens_details", "thinking_tokens"),
    }
    if answer.finish in FAILURES:
        answer.error = answer.error or ""


# -- responses ------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Item:
    """One item of the output. `deltas` and `dones` are by what they are part of, and the part's own index."""

    index: Any
    id: Any
    type: str = ""
    whole: dict[str, Any] = field(default_factory=dict)
    done: bool = False
    deltas: dict[str, dict[Any, str]] = field(default_factory=dict)
    dones: dict[str, dict[Any, str]] = field(default_factory=dict)

    def parts(self, kind: str, whole: list[str]) -> list[str]:
        """The texts of the parts of a kind, each once."""
        deltas, dones = self.deltas.get(kind, {}), self.dones.get(kind, {})
        unclaimed = [text for index, text in deltas.items() if index not in dones]
        said = list(deltas.values())
        said += [text for index, text in dones.items() if index not in deltas and text not in unclaimed]
        if not "".join(said) or "".join(whole).startswith("".join(said)):
            return whole or said
        return said


_PARTS = {
    "response.output_text": "text",
    "response.refusal": "refusal",
    "response.reasoning_summary_text": "summary",
    "response.reasoning_text": "reasoning",
    "response.function_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
}


def _read_responses(values: list[Any], answer: Answer) -> None:
    items: list[_Item] = []
    for value in values:
        if (error := _error_of(value)) is not None:
            answer.error = error
            break
        kind = value.get("type") or ""
        name, _, event = kind.rpartition(".")
        if kind in ("response.completed", "response.incomplete"):
            response = value["response"]
            _add_final(items, response.get("output") or [])
            _end_responses(response, answer)
            break
        if name == "response.output_item" and event in ("added", "done"):
            _add_item(items, value, event == "done")
        elif name in _PARTS and event in ("delta", "done"):
            _add_part(_item_of(items, value), name, event, value)
    for item in items:
        _add_output(item, answer)


def _whole_responses(body: Any, answer: Answer) -> None:
    if body.get("status") not in (None, "completed", "incomplete"):
        answer.error = ""
        return
    for index, whole in enumerate(body.get("output") or []):
        _add_output(_Item(index, whole.get("id"), whole.get("type") or "", whole), answer)
    _end_responses(body, answer)


def _end_responses(response: dict[str, Any], answer: Answer) -> None:
    details, usage = response.get("incomplete_details") or {}, response.get("usage")
    answer.ended = True
    answer.finish = details.get("reason") or response.get("status") or "completed"
    answer.usage = {
        "input": _count(usage, "input_tokens"),
        "output": _count(usage, "output_tokens"),
        "cache_read": _count(usage, "input_tokens_details", "cached_tokens"),
        "cache_write": _count(usage, "input_tokens_details", "cache_write_tokens"),
        "reasoning": _count(usage, "output_tokens_details", "reasoning_tokens"),
    }


def _find(items: list[_Item], index: Any, id: Any) -> _Item | None:
    """By output_index, since some services change the id on every event; by the id where there is no index."""
    if index is not None:
        return next((item for item in items if item.index == index), None)
    return next((item for item in reversed(items) if id and item.id == id), None)


def _item_of(items: list[_Item], value: dict[str, Any]) -> _Item:
    index, id = value.get("output_index"), value.get("item_id")
    item = _find(items, index, id)
    if item is None and index is None and items:
        item = items[-1]
    if item is None:
        item = _Item(index, id)
        items.append(item)
    return item


def _add_item(items: list[_Item], value: dict[str, Any], done: bool) -> None:
    whole, index = value["item"], value.get("output_index")
    item = _find(items, index, whole.get("id"))
    if item is None and done and index is None and items and not items[-1].done:
        item = items[-1]
    if item is None:
        item = _Item(index, whole.get("id"))
        items.append(item)
    item.type, item.whole, item.done = whole.get("type") or item.type, item.whole | whole, item.done or done


def _add_part(item: _Item, name: str, event: str, value: dict[str, Any]) -> None:
    kind = _PARTS[name]
    index = value.get("summary_index" if kind == "summary" else "content_index") or 0
    if event == "delta":
        said = item.deltas.setdefault(kind, {})
        said[index] = said.get(index, "") + value["delta"]
    else:
        text = value.get("text") or value.get("refusal") or value.get("arguments") or value.get("input")
        item.dones.setdefault(kind, {})[index] = text or ""


def _add_final(items: list[_Item], output: list[dict[str, Any]]) -> None:
    """The output of the final response: each item is one that has come already, or one that never did."""
    came = list(items)
    for index, whole in enumerate(output):
        kind = whole.get("type") or ""
        ids = {id for id in (whole.get("id"), whole.get("call_id")) if id}
        same_id = [item for item in came if ids & {item.id, item.whole.get("id"), item.whole.get("call_id")}]
        itself = [item for item in same_id if item.id == whole.get("id")]  # calls may share one call_id
        same_place = [item for item in came if item.index == index and item.type in ("", kind)]
        same_content = [item for item in came if item.type == kind and _contents(item.whole) == _contents(whole)]
        found = itself or same_id or same_place or same_content
        if not found:
            items.append(_Item(index, whole.get("id"), kind, whole, True))
            continue
        came.remove(found[0])
        if not found[0].done:
            found[0].type, found[0].whole, found[0].done = kind, found[0].whole | whole, True


def _contents(whole: dict[str, Any]) -> list[Any]:
    return [whole.get(name) for name in ("content", "summary", "name", "arguments", "input")]


def _texts(parts: Any, kind: str, name: str = "text") -> list[str]:
    if type(parts) is str:
        return [parts]
    return [part.get(name) or "" for part in parts or [] if part.get("type") in (kind, None)]


def _add_output(item: _Item, answer: Answer) -> None:
    whole, kind = item.whole, item.type
    content = whole.get("content")
    if not kind:
        kind = "reasoning" if {"summary", "reasoning"} & {*item.deltas, *item.dones} else "message"
        if "call_id" in whole:
            kind = "custom_tool_call" if "input" in whole else "function_call"
    match kind:
        case "message":
            answer.text += "".join(item.parts("text", _texts(content, "output_text")))
            answer.refusal += "".join(item.parts("refusal", _texts(content, "refusal", "refusal")))
        case "reasoning":
            answer.reasoning += filter(None, item.parts("summary", _texts(whole.get("summary"), "summary_text")))
            answer.raw_reasoning += filter(None, item.parts("reasoning", _texts(content, "reasoning_text")))
        case "function_call" | "custom_tool_call":
            name = "arguments" if kind == "function_call" else "input"
            said = "".join(item.parts(name, [whole.get(name) or ""]))
            custom = kind == "custom_tool_call"
            call = Call(str(whole.get("call_id") or ""), whole.get("name") or "", _parsed(said, custom), custom)
            answer.calls.append(call)
