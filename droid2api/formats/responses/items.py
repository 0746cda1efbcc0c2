"""Items of a Responses upstream while they come."""

from dataclasses import dataclass, field

from droid2api.hub.events import Citation, State
from droid2api.wire.fields import Json, json_text, number


class Texts:
    """The texts of parts that have ended, of which the whole text has not come yet: it may have another number."""

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}
        self._places: dict[str, dict[int, None]] = {}
        self.size = 0

    def add(self, place: int, said: str) -> None:
        self.remove(place)
        self._texts[place] = said
        self._places.setdefault(said, {})[place] = None
        self.size += len(said)

    def remove(self, place: int) -> None:
        said = self._texts.pop(place, None)
        if said is not None:
            self.size -= len(said)
            del self._places[said][place]

    def take(self, whole: str) -> bool:
        """Whether a part said this; it is not asked for again."""
        places = self._places.get(whole)
        if places:
            self.remove(next(reversed(places)))
        return bool(places)

    def joined(self) -> str:
        return "".join(self._texts.values())


@dataclass(slots=True)
class Item:
    """An item while it comes.

    Of a message, `part` is the content part that is open, `told` are the parts that have ended, under any number, and
    `texts` knows those that only deltas have said. Of reasoning, `part` is the part of `source`, summary or content,
    that was told last. Of a tool call, `arguments` are those that its beginning had, or that came before it.
    """

    index: int
    kind: str = ""
    done: bool = False
    state: State | None = None
    part: int | None = None
    source: str = ""
    told: set[int] = field(default_factory=set)
    texts: Texts = field(default_factory=Texts)
    is_sure: bool = False
    """Whether the open part's whole text was there, `alias` the other number that it had."""
    alias: int | None = None
    citations: list[Citation] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[int, int]:
        """Of the open block."""
        return self.index, self.part if self.kind == "message" and self.part is not None else -1


def kind_of(item: Json) -> str:
    """The type of an item; where it does not say so, what its fields make it."""
    if type(kind := item.get("type")) is str and kind:
        return kind
    if "name" in item:
        return "custom_tool_call" if "input" in item else "function_call"
    return "reasoning" if "summary" in item else "message" if "content" in item else "unknown"


def number_of(value: Json, source: str = "content") -> int:
    return number(value, f"{source}_index") or 0


def arguments_of(value: Json, kind: str) -> str:
    found = value.get("input" if kind == "custom_tool_call" else "arguments")
    return found if type(found) is str else json_text(found) if found else ""
