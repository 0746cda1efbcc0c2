"""Messages of a Responses upstream: items whose parts are blocks of text and refusal."""

from typing import Literal, TypeAlias

from droid2api.errors import WireError
from droid2api.formats.decoder import read_citation
from droid2api.formats.responses.items import Item, Items, complete
from droid2api.formats.responses.request import NAME
from droid2api.hub.events import BlockEnd, BlockStart, State
from droid2api.hub.request import Target
from droid2api.hub.turn import Turn
from droid2api.wire.fields import Json, inners, members, string, word

PartKind: TypeAlias = Literal["text", "refusal"]


class Messages:
    """Puts the parts of messages into the turn: one of a message is open at a time.

    The whole text of a part comes again at its end and at the item's, sometimes under another number.
    """

    def __init__(self, turn: Turn, target: Target, items: Items) -> None:
        self._turn = turn
        self._target = target
        self._items = items

    def begin(self, item: Item, told: Json) -> None:
        if phase := word(told, "phase"):
            item.state = self._target.state(NAME, {"phase": phase})

    def write(self, item: Item, place: int, kind: PartKind, written: str) -> None:
        """Add to the text of a part. Raises WireError where the item is none that has text."""
        if item.kind not in ("", "message"):
            raise WireError(f"text in a {item.kind} item")
        if not item.done:
            self._switch_part(item, place, kind)
            self._turn.delta(item.key, written)

    def _switch_part(self, item: Item, place: int, kind: PartKind) -> None:
        if not item.kind:
            self._items.begin(item, {"type": "message"})
        if item.part != place:
            self._end_part(item)
            self._turn.open((item.index, place), BlockStart(kind, state=item.state if kind == "text" else None))
            item.part, item.is_sure, item.alias = place, False, None

    def _end_part(self, item: Item, state: State | None = None) -> None:
        if item.part is None:
            return
        item.told.add(item.part)
        said = self._turn.text(item.key)
        item.said.add(said)
        if not item.is_sure:
            item.texts.add(item.part, said)
        is_text = self._turn.opened(item.key).kind == "text"
        self._turn.end(item.key, BlockEnd(state, item.citations) if is_text else None)
        item.part, item.citations = None, []

    def complete(self, item: Item, place: int, kind: PartKind, whole: str) -> None:
        """The whole text of a part: told already, maybe under another number; the rest of it; or all of it."""
        if item.done or item.kind not in ("", "message") or not whole:
            return
        if item.part == place and (item.is_sure or self._items.begins(item, whole) or not item.texts.take(whole)):
            complete(self._turn, item.key, whole)
            item.is_sure = True
        elif item.part == place:
            pass  # the end of an earlier part, which had another number
        elif place in item.told:
            item.texts.remove(place)
        elif self._has_told(item, place, whole):
            item.told.add(place)
        else:
            self._switch_part(item, place, kind)
            self._turn.delta(item.key, whole)
            item.is_sure = True

    def _has_told(self, item: Item, place: int, whole: str) -> bool:
        """Whether deltas said this under another number, in one part or in all. Texts of one length are compared."""
        if item.texts.take(whole):
            return True
        open_size = 0 if item.part is None or item.is_sure else self._turn.size(item.key)
        if len(whole) not in (open_size, item.texts.size + open_size):
            return False
        said = self._turn.text(item.key) if open_size else ""
        if whole not in (said, item.texts.joined() + said):
            return False
        item.is_sure, item.alias = True, place
        return True

    def read_part(self, item: Item, place: int, part: Json) -> None:
        """Read a whole part: its text and its citations."""
        kind = part.get("type")
        if kind == "reasoning_text":  # of a reasoning item
            return
        if kind == "refusal" or "refusal" in part:
            self.complete(item, place, "refusal", string(part, "refusal"))
        else:
            self.complete(item, place, "text", string(part, "text"))
            if item.part is not None and place in (item.part, item.alias) and not item.citations:
                for annotation in inners(part, "annotations"):
                    cite(item, annotation)

    def end(self, item: Item, told: Json) -> None:
        """Read the parts of the whole item, and end the one that is open."""
        content = told.get("content")
        parts = [{"text": content}] if type(content) is str else members(told, "content")
        if item.part is not None and item.part >= len(parts):
            item.is_sure = False  # the parts have other numbers here: it is found by its text
        for place, part in enumerate(parts):
            self.read_part(item, place, part)
        phase = "" if item.state else word(told, "phase")
        self._end_part(item, self._target.state(NAME, {"phase": phase}) if phase else None)


def cite(item: Item, annotation: Json) -> None:
    """Keep a citation until the end of the open part."""
    if citation := read_citation(annotation):
        item.citations.append(citation)
