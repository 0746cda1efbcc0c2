"""What the gateway changes in a Chat body on its way to an upstream, in either lane."""

from __future__ import annotations

from collections.abc import MutableMapping

from droid2api.hub.events import PACKED_STATE
from droid2api.hub.request import Target
from droid2api.wire.fields import Json


def apply_model_settings(body: Json, headers: MutableMapping[str, str], target: Target, system_prompt: str) -> None:
    """Put the model, the system prompt and the reasoning level into a body for the upstream, in place."""
    body["model"] = target.id
    messages = body.get("messages")
    if type(messages) is list:
        body["messages"] = messages = [_without_foreign_reasoning(message) for message in messages]
    if system_prompt and type(messages) is list:
        body["messages"] = _prepend_system(messages, system_prompt)
    if target.reasoning != "auto":
        for name in ("reasoning_effort", "reasoning", "thinking", "enable_thinking"):
            body.pop(name, None)
        if target.reasoning != "off":
            body["reasoning_effort"] = target.reasoning
    if target.fast:
        body.setdefault("service_tier", "priority")


def _without_foreign_reasoning(message: object) -> object:
    """Reasoning that this gateway marked as another provider's says nothing to this one."""
    details = message.get("reasoning_details") if type(message) is dict else None
    if type(message) is not dict or type(details) is not list or not any(_is_foreign(detail) for detail in details):
        return message
    return {name: value for name, value in message.items() if name not in ("reasoning_details", "reasoning_content")}


def _is_foreign(detail: object) -> bool:
    packed = (detail.get("signature") or detail.get("data")) if type(detail) is dict else None
    return type(packed) is str and packed.startswith(PACKED_STATE)


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
