"""Items of a Responses upstream while they come."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from droid2api.hub.events import Citation, State
from droid2api.hub.turn import Turn
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


def complete(turn: Turn, key: tuple[int, int], whole: str) -> None:
    """Add what an open block misses of its whole text."""
    size = turn.size(key)
    if len(whole) > size and whole.startswith(turn.text(key)):
        turn.delta(key, whole[size:])


class Items:
    """The items of an answer, found by what an event says of its own."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._by_index: dict[int, Item] = {}
        self.by_id: dict[str, Item] = {}
        self._aliases: dict[int, Item] = {}
        """Items by an index that they had later on."""
        self._newest: Item | None = None
        self._next_index = 0

    def __iter__(self) -> Iterator[Item]:
        return iter(self._by_index.values())

    def __len__(self) -> int:
        return len(self._by_index)

    def at(self, index: int) -> Item | None:
        return self._by_index.get(index)

    def find(self, value: Json, id: str | None = None, kinds: Collection[str] | None = None) -> Item:
        """The item that an event is of, a new one if need be. Without an index and a known id it is the newest one that
        has not ended, if its kind is one of `kinds`."""
        index, newest = number(value, "output_index"), self._newest
        id = word(value, "item_id") if id is None else id
        item = self.by_id.get(id) if index is None else self._by_index.get(index) or self._known(index, id, value)
        if item is None and index is None and newest and not newest.done and (kinds is None or newest.kind in kinds):
            item = newest
        return item or self.new(index, id)

    def _known(self, index: int, id: str, value: Json) -> Item | None:
        """The open item that an event is of although its index is new: the one with its id, or the newest one if the
        event is the end of what that has said."""
        told = inner(value, "item")
        if value.get("type") == "response.output_item.added":
            return None
        if index in self._aliases and not told:
            return self._aliases[index]
        kinds, by_id = kinds_of(value), self.by_id.get(id) or self.by_id.get(word(told, "call_id"))
        for item in (by_id, self._newest):
            if item is None or item.done or item.kind not in kinds:
                continue
            if told and item.kind in CALLS and not self._is_same_call(item, told):
                continue
            if item is by_id or self._has_said(item, whole_of(value), bool(told)):
                self._aliases[index] = item
                return item
        return None

    def _is_same_call(self, item: Item, told: Json) -> bool:
        """A call's id alone does not say it: some services give all calls the same."""
        call_id, name = word(told, "call_id"), self._turn.opened(item.key).name
        is_another = call_id and item.call_id and call_id != item.call_id
        return not is_another and name == told.get("name") and self.begins(item, text_of(told))

    def begins(self, item: Item, whole: str) -> bool:
        """Whether what its open block has said is the beginning of this text, or all of it."""
        return len(whole) >= self._turn.size(item.key) and whole.startswith(self._turn.text(item.key))

    def _has_said(self, item: Item, whole: str, is_item: bool) -> bool:
        """Whether an open item has said this whole text: as one of its parts, or (`is_item`) as all of them."""
        if not whole:
            return False
        if item.kind == "message" and not is_item:
            return item.texts.has(whole) or (not item.is_sure and self._is_open_text(item, whole))
        if item.kind == "message":
            return item.said.is_with("" if item.part is None else self._turn.text(item.key), whole)
        return self._is_open_text(item, whole) or (item.kind == "reasoning" and item.said.is_with("", whole))

    def _is_open_text(self, item: Item, whole: str) -> bool:
        """Texts of one length are compared."""
        is_open = item.kind != "message" or item.part is not None
        return is_open and self._turn.size(item.key) == len(whole) and self._turn.text(item.key) == whole

    def begin(self, item: Item, told: Json) -> None:
        """Note what the beginning of an item, or the event that stands for it, says of it."""
        item.kind, item.announced = kind_of(told), told
        if id := word(told, "id"):
            self.by_id[id] = item

    def new(self, index: int | None, id: str) -> Item:
        item = self._newest = Item(self._next_index if index is None else index)
        self._next_index = max(self._next_index, item.index + 1)
        self._by_index[item.index] = item
        if id:
            self.by_id[id] = item
        return item
