"""Reasoning of a Chat upstream: <think> elements in the text, and details that come in fragments."""

from droid2api.hub.events import BlockKind
from droid2api.wire.fields import Json, inners, is_shallow, word

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


class _Detail:
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


class Reasoning:
    """Reads reasoning from the fields that services have for it, and keeps what goes back to them as it was."""

    def __init__(self) -> None:
        self._field = "reasoning_content"
        self._details: list[_Detail] = []

    def read(self, delta: Json) -> tuple[str, bool]:
        """The text that a message, or a piece of one, has of it, and whether there are details."""
        details = inners(delta, "reasoning_details") if "reasoning_details" in delta else []
        for detail in details:
            self._add(detail)
        for name in ("reasoning_content", "reasoning", "reasoning_text"):
            text = delta.get(name)
            if type(text) is str and text:
                self._field = name
                return text, bool(details)
        return "".join(word(detail, "text") or word(detail, "summary") for detail in details), bool(details)

    def take_state(self) -> Json:
        """The name of the field, and the details of the block that ends."""
        state: Json = {"field": self._field}
        if self._details:
            state["details"] = [detail.whole() for detail in self._details]
            self._details = []
        return state

    def _add(self, detail: Json) -> None:
        """Put the fragments of a detail together."""
        if not is_shallow(detail):
            return
        if not self._details or not self._details[-1].goes_on_with(detail):
            self._details.append(_Detail())
        self._details[-1].add(detail)
