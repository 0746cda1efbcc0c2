"""Cache breakpoints of a translated body: the client's, or two of the gateway's own.

Clients of other formats mark nothing, since their services cache by themselves; Anthropic's caches what stands before a
mark, and without one every turn is paid in full. Blocks that the gateway adds at the end are not in the next turn's
history, so no mark may stand behind them (https://platform.claude.com/docs/en/build-with-claude/prompt-caching).
"""

from collections.abc import Iterable, Iterator

from droid2api.hub import fitting
from droid2api.hub.encoded import Encoded
from droid2api.hub.request import Request, Target
from droid2api.wire.fields import Json

_MARK = {"type": "ephemeral"}
_UNMARKED = ("thinking", "redacted_thinking")
"""Types of blocks that take no mark."""


def wants_marks(request: Request, target: Target) -> bool:
    """Whether the gateway sets marks: the owner lets it, the service takes them, and the client has set none."""
    return target.cache == "auto" and target.profile.cache_breakpoints > 0 and not fitting.cache_lives(request)


def mark_last(blocks: Iterable[Json]) -> bool:
    """Mark the last of these blocks that takes a mark; gives whether there is one."""
    for block in reversed(list(blocks)):
        if block.get("type") not in _UNMARKED:
            block["cache_control"] = dict(_MARK)
            return True
    return False


def keep_breakpoints(encoded: Encoded, request: Request, target: Target) -> None:
    """Leave as many marks as the service takes, the last ones."""
    body = encoded.body
    blocks = [*body.get("tools", ()), *body.get("system", ())]
    blocks += [block for message in body["messages"] for block in message["content"]]
    marked = [block for block in _with_inner(blocks) if "cache_control" in block]
    lives = fitting.cache_lives(request)
    if any(ttl not in ("", "5m", "1h") for ttl in lives):
        encoded.repair("cache_breakpoints.ttl")
    for block in marked[: max(0, len(marked) - target.profile.cache_breakpoints)]:
        del block["cache_control"]
        if lives:
            encoded.drop("cache_breakpoints")


def _with_inner(blocks: list[Json]) -> Iterator[Json]:
    """The blocks, those of a tool's result before it."""
    for block in blocks:
        if block.get("type") == "tool_result":
            yield from block["content"]
        yield block
