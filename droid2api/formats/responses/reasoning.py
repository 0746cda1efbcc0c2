"""Reasoning of a Responses upstream: items whose summary, or else content, is the text of one block."""

from droid2api.errors import WireError
from droid2api.formats.responses.items import Item, Items, Said
from droid2api.formats.responses.request import NAME
from droid2api.hub.events import BlockEnd, BlockStart
from droid2api.hub.request import Target
from droid2api.hub.turn import Turn
from droid2api.wire.fields import Json, inners, string, word


class Reasoning:
    """Puts reasoning items into the turn; their encrypted content is state, told with the block's end."""

    def __init__(self, turn: Turn, target: Target, items: Items) -> None:
        self._turn = turn
        self._target = target
        self._items = items

    def begin(self, item: Item) -> None:
        self._turn.open(item.key, BlockStart("reasoning"))

    def add(self, item: Item, source: str, place: int, written: str) -> None:
        """Add to a reasoning item's text: its summary or its content, whichever came first. Parts have an empty line
        between them."""
        if not item.kind:
            self._items.begin(item, {"type": "reasoning"})
            self.begin(item)
        if item.kind != "reasoning":
            raise WireError(f"reasoning in a {item.kind} item")
        if item.done or item.source not in ("", source) or not written:
            return
        if item.part is not None and item.part != place:
            self._turn.delta(item.key, "\n\n")
            item.said, item.is_sure = Said(), False
        item.source, item.part = source, place
        item.said.add(written)
        self._turn.delta(item.key, written)

    def complete(self, item: Item, source: str, place: int, whole: str) -> None:
        """The whole text of a part of reasoning. Parts come one after the other, so it is new if its number is, but for
        the end of one whose deltas had another number."""
        if not whole or item.kind not in ("", "reasoning") or item.source not in ("", source):
            return
        again = item.part is not None and not item.is_sure and item.said.is_with("", whole)
        if item.part is None or (place > item.part and not again):
            self.add(item, source, place, whole)
        item.part = place if item.part is None else max(place, item.part)
        item.is_sure = True

    def end(self, item: Item, told: Json) -> None:
        """Read the whole item. Its text counts where there were no deltas."""
        if not self._turn.size(item.key):
            texts = inners(told, "summary") or inners(told, "content")
            self._turn.delta(item.key, "\n\n".join(word(part, "text") for part in texts))
        id, encrypted = word(told, "id") or None, string(told, "encrypted_content")
        data = {"id": id, "encrypted_content": encrypted}
        self._turn.end(item.key, BlockEnd(self._target.state(NAME, data) if encrypted else None))
