"""What an encoder makes of a Request for one upstream.

The Request is not written to: to encode it again, or for another target, gives what it would have given at first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from droid2api.hub.request import Notes, Part, Request, Target, Text, Tool, ToolCall
from droid2api.wire.fields import Json


@dataclass(slots=True)
class Encoded(Notes):
    """The upstream's body, and what must be known to read its answer and to tell the client what became of its request.

    `tool_names` leads from the upstream's name of a tool to the client's tool. `local_stop` are stop sequences that the
    gateway applies, since the upstream cannot.
    """

    body: Json
    tool_names: dict[str, Tool] = field(default_factory=dict)
    local_stop: list[str] = field(default_factory=list)

    @classmethod
    def begun(cls, request: Request) -> Encoded:
        """An empty body, with what is known of the request already."""
        return cls({}, dropped=list(request.dropped), repaired=Counter(request.repaired))

    def repair(self, path: str, times: int = 1) -> None:
        """Note that what the request has at `path` was changed into what the upstream takes."""
        self.repaired[path] += times

    def drop_state(self, part: Part, format: str, target: Target) -> None:
        """Note that the state of a text or a call is not sent, since this upstream did not make it."""
        if isinstance(part, Text | ToolCall) and part.state and target.state_data(part.state, format) is None:
            kind = "text" if isinstance(part, Text) else "tool_call"
            for name in part.state.data:
                self.drop(f"messages.{kind}.{name}")
