"""What streams of upstreams are built of, whatever their format: quirks, their choice, content and frames."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from .readers import Answer, Call
from .strategies import json_objects, texts, words

Json = dict[str, Any]
Events = list[tuple[str, Any]]
"""Each event's name ("" without one) and its data: JSON, or text as it is."""
WORDS_OF_ERROR = "Boom: the GPU caught fire"
NONSENSE = ["odd", "finished?", "end_of_something", "unknown", "gave_up"]
"""Finish words that nobody knows."""
pieces = texts.filter(bool)


@dataclass(frozen=True)
class Quirk:
    """`kind` is the number in the list of faults, 0 for what is on no list; `needs` is the content that shows it."""

    kind: int = 0
    needs: str = ""


@dataclass
class Built:
    """A stream of an upstream before it is framed, and what it says.

    Its content must come out whole, or (`may_fail`) a failure is as right, or (`said.error`, no end) only that is.
    """

    events: Events
    said: Answer
    may_fail: bool = False


FRAMES = {
    "comments": Quirk(),
    "crlf": Quirk(),
    "carriage_returns": Quirk(),
    "no_space_after_colon": Quirk(),
    "padded_json": Quirk(),
    "byte_order_mark": Quirk(),
    "other_fields": Quirk(),
    "empty_data": Quirk(3),
    "event_names_missing": Quirk(),
    "last_blank_line_missing": Quirk(),
}


@dataclass
class Chooser:
    """Which quirks a stream has: the `forced` one, and others that are drawn. Those being mended are not mixed in."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    quirks: dict[str, Quirk]
    forced: str | None
    chosen: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        if name == self.forced or (self.draw(st.integers(0, 9)) == 9):
            self.chosen.append(name)
            return True
        return False

    def one_of(self, *names: str) -> str:
        """One of the quirks, or none of them: ""."""
        name = self.forced if self.forced in names else self.draw(st.sampled_from(["", "", *names]))
        if name:
            self.chosen.append(name)
        return name

    def needs(self, content: str) -> bool:
        return self.forced is not None and self.quirks[self.forced].needs == content

    def split(self, text: str) -> list[str]:
        """A text in one to three pieces, none of them empty; an empty text has none."""
        places = sorted({self.draw(st.integers(1, len(text))), self.draw(st.integers(1, len(text)))}) if text else []
        found = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
        return [piece for piece in found if piece]


@dataclass
class Content:
    reasoning: str
    text: str
    calls: list[Call]


def content_of(choose: Chooser) -> Content:
    """What is said; a quirk that shows only in some content gets it."""
    draw = choose.draw
    reasoning = draw(pieces) if choose.needs("reasoning") else draw(texts)
    text = draw(pieces) if choose.needs("text") else draw(texts)
    fewest = 2 if choose.needs("calls") else 0
    count = draw(st.integers(fewest, 3))
    calls = [Call(f"call_{number}", draw(words), draw(json_objects.filter(bool))) for number in range(count)]
    return Content(reasoning, text, calls)


def merged(draw: Callable[..., Any], lists: list[list[Any]]) -> list[Any]:
    """The items of the lists in any order that keeps that of each list."""
    merged = []
    lists = [list(items) for items in lists if items]
    while lists:
        items = draw(st.sampled_from(lists))
        merged.append(items.pop(0))
        lists = [items for items in lists if items]
    return merged


WORDS_OF_ERROR = "Boom: the GPU caught fire"
NONSENSE = ["odd", "finished?", "eos_of_something", "unknown", "gave_up"]


def framed(choose: Chooser, events: list[tuple[str, Any]]) -> bytes:
    """Server-sent events as any service may write them."""
    draw, lines = choose.draw, []
    nameless, glued, padded = (choose.has(n) for n in ("event_names_missing", "no_space_after_colon", "padded_json"))
    comments, fields, empty = (choose.has(n) for n in ("comments", "other_fields", "empty_data"))
    colon = ":" if glued else ": "
    for name, value in events:
        if comments and draw(st.booleans()):
            lines.append(draw(st.sampled_from([": keep-alive\n\n", ":\n\n", ": OPENROUTER PROCESSING\n"])))
        if empty and draw(st.booleans()):
            lines.append("data:\n\n")
        if fields:
            lines.append(f"id{colon}7\nretry{colon}100\n")
        if name and not nameless:
            lines.append(f"event{colon}{name}\n")
        data = value if type(value) is str else json.dumps(value, ensure_ascii=draw(st.booleans()))
        lines.append(f"data{colon}{data}{'   ' if padded else ''}\n\n")
    if empty:
        lines.append("data:\n\n")
    text = "".join(lines)
    if choose.has("last_blank_line_missing"):
        text = text.rstrip("\n")
    newline = {"crlf": "\r\n", "carriage_returns": "\r"}.get(choose.one_of("crlf", "carriage_returns"), "\n")
    mark = "\ufeff" if choose.has("byte_order_mark") else ""
    return (mark + text.replace("\n", newline)).encode()


def usage_counts(draw: Callable[..., Any]) -> dict[str, int]:
    read, write, fresh, output, reasoning = (draw(st.integers(0, 5000)) for _ in range(5))
    return {
        "input": fresh + read + write,
        "output": output + reasoning,
        "cache_read": read,
        "cache_write": write,
        "reasoning": reasoning,
    }
