"""What a Gemini answer says, read straight from its bytes, as plainly as in readers.py; none of it is the product."""

import json
import re
from typing import Any

from .readers import Answer, Call

MEANINGS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(
        "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY MODEL_ARMOR ESCALATION OTHER_BLOCK "
        "JAILBREAK".split(),
        "content_filter",
    ),
}
FAILURES = frozenset(
    "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS MISSING_THOUGHT_SIGNATURE MALFORMED_RESPONSE "
    "OTHER PUP_LIMITED_DISABLED".split()
)


def values_of(stream: bytes) -> list[Any]:
    """The JSON of each event, and what is said without `data:`: one array of all, or an error after the last event."""
    text = stream.decode(errors="replace").removeprefix("\ufeff").replace("\r\n", "\n")
    if text.lstrip()[:1] in ("[", "{"):
        return _parsed(text)
    lines = text.split("\n")
    values = [value for line in lines if line.startswith("data:") for value in _parsed(line[5:])]
    bare = "\n".join(line for line in lines if not re.match(r"(data|event|id|retry)?:", line))
    return values + (_parsed(bare) if bare.strip() else [])


def _parsed(text: str) -> list[Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return [] if text.strip() == "[DONE]" else [None]
    return value if type(value) is list else [value]


def read(values: list[Any]) -> Answer:
    answer, usage, blocked = Answer(), {}, ""
    thought, words, arguments = "", "", None
    for value in values:
        if type(value) is not dict or value.get("error"):
            error = value.get("error") if type(value) is dict else None
            answer.error = error["message"] if type(error) is dict and type(error.get("message")) is str else ""
            break
        usage = value.get("usageMetadata") or usage
        feedback = value.get("promptFeedback") or {}
        blocked, words = blocked or feedback.get("blockReason") or "", words or feedback.get("blockReasonMessage") or ""
        for candidate in value.get("candidates") or []:
            if candidate.get("index") not in (None, 0):
                continue
            for part in (candidate.get("content") or {}).get("parts") or []:
                if part.get("thought"):
                    thought += part.get("text") or ""
                    continue
                if thought and (part.get("text") or "functionCall" in part):
                    answer.reasoning.append(thought)
                    thought = ""
                answer.text += part.get("text") or ""
                if call := part.get("functionCall"):
                    if call.get("name"):
                        arguments = dict(call.get("args") or {})
                        answer.calls.append(Call(str(call.get("id") or ""), call["name"], arguments))
                    for piece in call.get("partialArgs") or []:
                        _put(arguments, piece)
            answer.finish = candidate.get("finishReason") or answer.finish
            words = words or candidate.get("finishMessage") or ""
    if thought:
        answer.reasoning.append(thought)
    answer.ended = bool(answer.finish or blocked)
    if blocked or (MEANINGS.get(answer.finish) == "content_filter" and not (answer.text or answer.calls)):
        answer.refusal = words or f"({blocked or answer.finish})"
    answer.finish = answer.finish or ("SAFETY" if blocked else "")
    if answer.finish in FAILURES:
        answer.error = answer.error or ""
    thoughts = _count(usage, "thoughtsTokenCount")
    answer.usage = {
        "input": _count(usage, "promptTokenCount") + _count(usage, "toolUsePromptTokenCount"),
        "output": _count(usage, "candidatesTokenCount") + thoughts,
        "cache_read": _count(usage, "cachedContentTokenCount"),
        "cache_write": 0,
        "reasoning": thoughts,
    }
    return answer


def _put(arguments: Any, piece: dict[str, Any]) -> None:
    """A piece of streamed arguments at its JSON path; pieces of one text are joined."""
    *path, last = re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", piece.get("jsonPath") or "$")
    for name, index in path:
        arguments = arguments.setdefault(name, {}) if name else arguments[int(index)]
    value = next((piece[kind] for kind in ("stringValue", "numberValue", "boolValue") if kind in piece), None)
    before = arguments.get(last[0])
    arguments[last[0]] = before + value if type(before) is str and type(value) is str else value


def _count(usage: dict[str, Any], name: str) -> int:
    found = usage.get(name)
    return found if type(found) is int and found >= 0 else 0
