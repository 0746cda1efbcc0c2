"""Tool calls of a Responses upstream: items that are one block each."""

from droid2api.errors import WireError
from droid2api.formats.decoder import CallIds
from droid2api.formats.responses.items import CALLS, Item, Items, arguments_of, complete
from droid2api.hub.events import BlockStart
from droid2api.hub.turn import Turn
from droid2api.wire.fields import Json, string, word


class Calls:
    """Puts tool calls into the turn. Arguments that come before the call's name wait for it."""

    def __init__(self, turn: Turn, call_ids: CallIds, items: Items) -> None:
        self._turn = turn
        self._call_ids = call_ids
        self._items = items

    def begin(self, item: Item, told: Json) -> None:
        """Begin the block. Raises WireError for a call without a name, since no block can begin without it."""
        name, custom = string(told, "name"), item.kind == "custom_tool_call"
        if not name:
            raise WireError("a tool call without a name")
        item.call_id = word(told, "call_id")
        if item.call_id:
            self._items.by_id.setdefault(item.call_id, item)
        id = self._call_ids.assign(item.call_id or word(told, "id") or word(told, "item_id"))
        self._turn.open(item.key, BlockStart("tool_call", id, name, custom, word(told, "namespace")))
        held, item.arguments = item.arguments, [arguments_of(told, item.kind)]
        for arguments in held:
            self._turn.delta(item.key, arguments)

    def add_arguments(self, item: Item, arguments: str) -> None:
        """Add a piece of the arguments. Raises WireError where the item is no tool call."""
        if not item.kind:
            item.arguments.append(arguments)  # the name may come with the whole item
        elif item.kind not in CALLS:
            raise WireError(f"arguments of a tool call in a {item.kind} item")
        elif not item.done:
            self._turn.delta(item.key, arguments)

    def complete(self, item: Item, value: Json, kind: str) -> None:
        """Read the whole arguments, which may be the first place that has the name too."""
        if not item.kind and word(value, "name"):
            begun = value | {"type": kind}
            self._items.begin(item, begun)
            self.begin(item, begun)
        whole = arguments_of(value, kind)
        if not item.kind:
            item.arguments = [whole or "".join(item.arguments)]
        elif item.kind in CALLS and not item.done:
            complete(self._turn, item.key, whole)

    def end(self, item: Item, told: Json) -> None:
        """Read the whole item. What has not been told of its arguments is taken from it."""
        complete(self._turn, item.key, arguments_of(told, item.kind) or "".join(item.arguments))
        self._turn.end(item.key)
