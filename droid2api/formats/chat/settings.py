"""What the gateway changes in a Chat body on its way to an upstream, in either lane."""

from __future__ import annotations

from collections.abc import MutableMapping

from droid2api.hub.events import PACKED_STATE
from droid2api.hub.request import Target
from droid2api.wire.fields import Json

MARK = "droid2api"
"""Where a call's extra_content holds the state of another provider, packed."""


def apply_model_settings(body: Json, headers: MutableMapping[str, str], target: Target, system_prompt: str) -> None:
    """Put the model, the system prompt and the reasoning level into a body for the upstream.

    Takes out the state of other providers that this gateway marked. Writes to `body` itself, and to nothing inside.
    """
    body["model"] = target.id
    messages = body.get("messages")
    if type(messages) is list:
        body["messages"] = messages = [_without_foreign_state(message) for message in messages]
    if system_prompt and type(messages) is list:
        body["messages"] = _prepend_system(messages, system_prompt)
    if target.reasoning != "auto":
        for name in ("reasoning_effort", "reasoning", "thinking", "enable_thinking"):
            body.pop(name, None)
        if target.reasoning != "off":
            body["reasoning_effort"] = target.reasoning
    if target.fast:
        body.setdefault("service_tier", "priority")


def _without_foreign_state(message: object) -> object:
    """What this gateway marked as another provider's says nothing to this one."""
    if type(message) is not dict:
        return message
    details, calls = message.get("reasoning_details"), message.get("tool_calls")
    if type(details) is list and any(_is_foreign(detail) for detail in details):
        names = ("reasoning_details", "reasoning_content")
        message = {name: value for name, value in message.items() if name not in names}
    if type(calls) is list and any(_is_marked(call) for call in calls):
        message = message | {"tool_calls": [_without_mark(call) for call in calls]}
    return message


def _is_foreign(detail: object) -> bool:
    packed = (detail.get("signature") or detail.get("data")) if type(detail) is dict else None
    return type(packed) is str and packed.startswith(PACKED_STATE)


def _is_marked(call: object) -> bool:
    extra = call.get("extra_content") if type(call) is dict else None
    return type(extra) is dict and MARK in extra


def _without_mark(call: Json) -> Json:
    if not _is_marked(call):
        return call
    extra = {name: value for name, value in call["extra_content"].items() if name != MARK}
    return {name: value for name, value in call.items() if name != "extra_content"} | (
        {"extra_content": extra} if extra else {}
    )


def _prepend_system(messages: list[Json], prompt: str) -> list[Json]:
    """Into the first system message where there is one: many chat templates take only one."""
    first = messages[0] if messages and type(messages[0]) is dict else {}
    if first.get("role") in ("system", "developer"):
        content = first.get("content")
        if type(content) is str:
            return [first | {"content": prompt + content}, *messages[1:]]
        if type(content) is list:
            return [first | {"content": [{"type": "text", "text": prompt}, *content]}, *messages[1:]]
    return [{"role": "system", "content": prompt}, *messages]
