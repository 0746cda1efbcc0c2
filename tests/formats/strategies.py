"""Turns and JSON, generated."""

import base64
import copy

import orjson
from hypothesis import strategies as st

from droid2api.errors import StreamError
from droid2api.hub.events import BlockEnd, BlockStart, Citation, Delta, Event, Failed, Finish, Start, State, Usage

texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n\u2028\x00\ufeff好👋🏽"), max_size=12)
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    "error type id index message delta content choices usage finish_reason status output object phase name arguments "
    "input text call_id output_index content_index extra_content function_call response item content_block code "
    "candidates parts thoughtSignature functionCall args finishReason usageMetadata groundingMetadata".split()
)
json_objects = st.dictionaries(texts, json_values, max_size=3)
states = st.one_of(
    st.builds(lambda text: State("anthropic", "claude", {"signature": "s" + text}), texts),
    st.builds(lambda text: State("responses", "claude", {"id": "rs_1", "encrypted_content": "e" + text}), texts),
    st.just(State("chat", "deepseek", {"field": "reasoning_content"})),
)
services = st.sampled_from(["", "api.example.org"])
phases = st.builds(
    lambda phase: State("responses", "claude", {"phase": phase}), st.sampled_from(["commentary", "final_answer"])
)
signatures = st.builds(
    lambda text, service: State("chat", "gemini", {"extra_content": {"google": {"thought_signature": text}}}, service),
    texts,
    services,
)
foreign = st.builds(
    lambda text, service: State("gemini", "gemini", {"signature": base64.b64encode(text.encode()).decode()}, service),
    texts.filter(bool),
    services,
)
redacted = st.builds(lambda text: State("anthropic", "claude", {"data": "d" + text}), texts)
counts = st.integers(0, 10**6)
usages = st.builds(
    lambda fresh, read, written, output, reasoning: Usage(fresh + read + written, output, read, written, reasoning),
    *[counts] * 5,
)


@st.composite
def _places(draw, states):
    """State for a block's start and end: at one of them, or at none."""
    state, first = draw(st.none() | states), draw(st.booleans())
    return (state, None) if first else (None, state)


@st.composite
def _text_blocks(draw):
    deltas = draw(st.lists(texts.filter(bool), max_size=3))
    if deltas and "<think>".startswith(deltas[0].lstrip()[:7]):  # Chat's reader holds what may begin such a tag
        deltas[0] = "x" + deltas[0]
    length = sum(map(len, deltas))
    citations = []
    for url in draw(st.lists(words, max_size=2)) if length else ():
        start = draw(st.none() | st.integers(0, length))
        end = None if start is None else draw(st.integers(start, length))
        citations.append(Citation(f"https://example.org/{url}", draw(texts), start, end))
    start, end = draw(_places(foreign))
    start = start or (None if end else draw(st.none() | phases))
    return [BlockStart("text", state=start), *map(Delta, deltas), BlockEnd(end, citations)]


@st.composite
def _reasoning_blocks(draw):
    deltas = draw(st.lists(texts.filter(bool), max_size=3))
    start, end = draw(_places(states if deltas else states | redacted))
    return [BlockStart("reasoning", state=start), *map(Delta, deltas), BlockEnd(end)]


@st.composite
def _refusal_blocks(draw):
    start, end = draw(_places(foreign))
    deltas = draw(st.lists(texts.filter(bool), min_size=1, max_size=2))
    return [BlockStart("refusal", state=start), *map(Delta, deltas), BlockEnd(end)]


@st.composite
def _call_blocks(draw, custom):
    text = draw(texts) if custom else orjson.dumps(draw(json_objects)).decode()
    middle = draw(st.integers(0, len(text)))
    deltas = [part for part in (text[:middle], text[middle:]) if part]
    first, last = draw(_places(signatures | foreign))
    namespace = draw(st.sampled_from(["", "mcp"]))
    start = BlockStart("tool_call", name=draw(words), custom=custom, namespace=namespace, state=first)
    return [start, *map(Delta, deltas), BlockEnd(last)]


@st.composite
def turns(draw, *, custom: bool = True) -> list[Event]:
    """A finished turn. The last call of one that ended for its length may be cut off."""
    kinds = [_text_blocks(), _reasoning_blocks(), _refusal_blocks(), _call_blocks(False)]
    blocks = draw(st.lists(st.one_of(*kinds, *([_call_blocks(True)] if custom else [])), max_size=5))
    calls = [block for block in blocks if block[0].kind == "tool_call"]
    for number, call in enumerate(calls):
        call[0].id = f"call_{number}"
    reason = draw(st.sampled_from(["tool_calls" if calls else "stop", "length", "content_filter"]))
    if calls and calls[-1] is blocks[-1] and reason == "length" and len(calls[-1]) == 4:
        del calls[-1][2]
    stop_sequence = draw(st.none() | words) if reason == "stop" else None
    finish = Finish(reason, usage=draw(usages), stop_sequence=stop_sequence)
    return [Start("id", draw(words)), *(event for block in blocks for event in block), finish]


@st.composite
def failed_turns(draw) -> list[Event]:
    events = draw(turns(custom=False))
    return [*events[: draw(st.integers(1, len(events) - 1))], Failed(StreamError(draw(texts) or "broken"))]


@st.composite
def mutated(draw, value: object) -> object:
    """A JSON value with one or two of its inner values missing, replaced by others, or with one more beside them."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 2))):
        places = list(_containers(value))
        if not places:
            return draw(json_values)
        container, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["remove", "replace", "add"] if type(container) is dict else ["replace"]))
        if change == "remove":
            del container[key]
        elif change == "add":
            container[draw(st.sampled_from(NAMES))] = draw(json_values)
        else:
            container[key] = draw(json_values)
    return value


def _containers(value: object):
    """Every (container, key) in a JSON value."""
    if type(value) in (dict, list):
        for key, inner in value.items() if type(value) is dict else enumerate(value):
            yield value, key
            yield from _containers(inner)
