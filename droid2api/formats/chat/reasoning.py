"""Reasoning of a Chat upstream: <think> elements in the text, and details that come in fragments."""

from droid2api.hub.events import BlockKind
from droid2api.wire.fields import Json

THINK, THINK_END = "<think>", "</think>"
MOST_SPACE = 1000
"""Characters of white space that are held back in front of a <think>."""


class ThinkTags:
    """Tells text from reasoning where a service puts it into the text, in a <think> element at its very beginning.

    A tag may be split over deltas, and white space may come before it: what may be a part of it is `held`.
    """

    def __init__(self) -> None:
        self._place = "before"
        self.held = ""

    def feed(self, text: str) -> list[tuple[BlockKind, str]]:
        text, self.held = self.held + text, ""
        if self._place == "before":
            begun = text.lstrip()
            if len(begun) < len(THINK) and THINK.startswith(begun) and len(text) < MOST_SPACE:
                self.held = text
                return []
            self._place = "inside" if begun.startswith(THINK) else "after"
            text = begun.removeprefix(THINK) if self._place == "inside" else text
        if self._place == "after":
            return [("text", text)]
        reasoning, tag, text = text.partition(THINK_END)
        if tag:
            self._place = "after"
            return [("reasoning", reasoning), ("text", text.lstrip("\n"))]
        self.held = next((THINK_END[:n] for n in range(7, 0, -1) if reasoning.endswith(THINK_END[:n])), "")
        return [("reasoning", reasoning.removesuffix(self.held))]

    def release(self) -> list[tuple[BlockKind, str]]:
        """What was held is no part of a tag, since something else follows."""
        text, self.held = self.held, ""
        if self._place == "inside":
            return [("reasoning", text)]
        self._place = "after" if text else self._place
        return [("text", text)]


class Detail:
    """One reasoning detail, whose texts come in fragments."""

    def __init__(self) -> None:
        self._fields: Json = {}
        self._texts: dict[str, list[str]] = {}

    def goes_on_with(self, detail: Json) -> bool:
        return all(self._fields.get(name) == detail.get(name) for name in ("type", "index"))

    def add(self, detail: Json) -> None:
        for name, value in detail.items():
            if name in ("text", "summary", "data", "signature") and type(value) is str:
                self._fields.setdefault(name, "")
                self._texts.setdefault(name, []).append(value)
            elif value is not None or name not in self._fields:
                self._fields[name] = value

    def whole(self) -> Json:
        return self._fields | {name: "".join(texts) for name, texts in self._texts.items()}
