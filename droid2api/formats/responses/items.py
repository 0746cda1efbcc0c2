"""Items of a Responses upstream while they come."""

from dataclasses import dataclass, field

from droid2api.hub.events import Citation, State
from droid2api.wire.fields import Json, inner, inners, json_text, number, word


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

    def has(self, whole: str) -> bool:
        """Whether a part said this."""
        return bool(self._places.get(whole))

    def take(self, whole: str) -> bool:
        """Whether a part said this; it is not asked for again."""
        if not self.has(whole):
            return False
        self.remove(next(reversed(self._places[whole])))
        return True

    def joined(self) -> str:
        return "".join(self._texts.values())


class Said:
    """A text that is put together from pieces, to be compared with a whole one: only when it is as long."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._size = 0

    def add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._size += len(piece)

    def is_with(self, rest: str, whole: str) -> bool:
        """Whether this and the rest after it are the whole text."""
        return self._size + len(rest) == len(whole) and "".join(self._pieces) + rest == whole


@dataclass(slots=True)
class Item:
    """An item while it comes.

    Of a message, `part` is the content part that is open, `told` are the parts that have ended, under any number, and
    `texts` knows those that only deltas have said; `said` is what all of them said. Of reasoning, `part` is the part of
    `source`, summary or content, that was told last, and `said` its deltas. Of a tool call, `arguments` are those that
    its beginning had, or that came before it, and `call_id` is its id as it was told.
    """

    index: int
    kind: str = ""
    announced: Json = field(default_factory=dict)
    """The item as its beginning told it."""
    done: bool = False
    state: State | None = None
    part: int | None = None
    source: str = ""
    told: set[int] = field(default_factory=set)
    texts: Texts = field(default_factory=Texts)
    said: Said = field(default_factory=Said)
    is_sure: bool = False
    """Whether the open part's whole text was there, `alias` the other number that it had."""
    alias: int | None = None
    citations: list[Citation] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    call_id: str = ""

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


CALLS = ("function_call", "custom_tool_call")


def kinds_of(event: Json) -> tuple[str, ...]:
    """The kinds of items that an event may be of."""
    kind, item = str(event.get("type")), inner(event, "item")
    if item:
        return (kind_of(item),)
    if kind.startswith(("response.function_call", "response.custom_tool_call")):
        return CALLS
    is_reasoning = kind.startswith("response.reasoning") or inner(event, "part").get("type") == "reasoning_text"
    return ("reasoning",) if is_reasoning else ("message",)


def whole_of(event: Json) -> str:
    """The whole text that the end of a part or of an item tells, "" where it tells none."""
    if item := inner(event, "item"):
        return text_of(item)
    told = inner(event, "part") or event
    return next((told[name] for name in ("text", "refusal", "arguments", "input") if type(told.get(name)) is str), "")


def text_of(item: Json) -> str:
    """All that an item says: its arguments, its text, its reasoning."""
    kind, content = kind_of(item), item.get("content")
    if kind in CALLS:
        return arguments_of(item, kind)
    if type(content) is str:
        return content
    parts = inners(item, "summary") or inners(item, "content")
    return ("" if kind == "message" else "\n\n").join(word(part, "text") or word(part, "refusal") for part in parts)


def number_of(value: Json, source: str = "content") -> int:
    return number(value, f"{source}_index") or 0


def arguments_of(value: Json, kind: str) -> str:
    found = value.get("input" if kind == "custom_tool_call" else "arguments")
    return found if type(found) is str else json_text(found) if found else ""
