"""What a model's answer is, in any format.

    turn  := Start block* (Finish | [BlockStart Delta*] Failed)
    block := BlockStart Delta* BlockEnd        # never nested, never interleaved

Decoders produce this grammar and encoders rely on it. A failure may leave the last block open: its end is then not
announced, so that nobody acts on half a tool call.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, final

import orjson

from droid2api.errors import GatewayError

PACKED_STATE = "droid2api."
"""How a packed State begins; a body without these bytes holds none."""

BlockKind: TypeAlias = Literal["text", "reasoning", "tool_call", "refusal"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(slots=True, frozen=True)
class State:
    """Opaque provider state of a block: worthless to all but the `format`, model `family` and `service` that made it.

    A format that has no place for it on the block itself sends it in a reasoning block, bound to the block it is of.
    """

    format: str
    family: str
    data: dict[str, Any]
    service: str = ""

    def for_block(self, start: BlockStart) -> State:
        """Bound to its block, a text (a refusal is one) or a tool call, since it is going to ride outside of it."""
        block = {"block": "tool_call", "call_id": start.id} if start.kind == "tool_call" else {"block": "text"}
        return State(self.format, self.family, self.data | block, self.service)

    def bound(self) -> tuple[str, str] | None:
        """The kind of block that this state is of ("text" or "tool_call") and its call id; None for reasoning's own."""
        kind, call_id = self.data.get("block"), self.data.get("call_id")
        return (str(kind), str(call_id or "")) if kind in ("text", "tool_call") else None

    def unbound(self) -> State:
        """As it rides on its own block."""
        data = {name: value for name, value in self.data.items() if name not in ("block", "call_id")}
        return State(self.format, self.family, data, self.service)

    def pack(self) -> str:
        """As one string, for the place that another format has for such state. `unpack` reads it back."""
        packed = orjson.dumps([self.format, self.family, self.data, self.service])
        return PACKED_STATE + base64.urlsafe_b64encode(packed).decode()

    @staticmethod
    def unpack(text: str) -> State | None:
        """None for a string that `pack` did not make."""
        if not text.startswith(PACKED_STATE):
            return None
        try:
            format, family, data, *rest = orjson.loads(base64.urlsafe_b64decode(text.removeprefix(PACKED_STATE)))
        except (TypeError, ValueError):
            return None
        service = rest[0] if rest else ""
        if type(data) is not dict or not all(type(word) is str for word in (format, family, service)):
            return None
        return State(format, family, data, service)


@dataclass(slots=True, frozen=True)
class Citation:
    url: str
    title: str = ""
    start: int | None = None
    end: int | None = None


@dataclass(slots=True)
class Usage:
    """Tokens. `input` includes what was read from and written to a cache; `output` includes reasoning."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(slots=True)
class Start:
    id: str
    model: str


@dataclass(slots=True)
class BlockStart:
    """A tool call has `id`, `name` and `namespace`; `custom` marks one whose input is free text, not a JSON object.

    `state` is what the wire tells with the beginning of a block. A block has state here or at its end, not both.
    """

    kind: BlockKind
    id: str = ""
    name: str = ""
    custom: bool = False
    namespace: str = ""
    state: State | None = None


@final
@dataclass(slots=True)
class Delta:
    text: str


@dataclass(slots=True)
class BlockEnd:
    state: State | None = None
    citations: list[Citation] = field(default_factory=list)


@dataclass(slots=True)
class Finish:
    """`raw` is the upstream's own word for the reason; `stop_sequence` the one that was met, if it says so."""

    reason: FinishReason
    raw: str = ""
    usage: Usage = field(default_factory=Usage)
    stop_sequence: str | None = None


@dataclass(slots=True)
class Failed:
    error: GatewayError


Event: TypeAlias = Start | BlockStart | Delta | BlockEnd | Finish | Failed
