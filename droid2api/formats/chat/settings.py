"""What the gateway changes in a Chat body on its way to an upstream, in either lane."""

from collections.abc import MutableMapping

from droid2api.hub.encoded import Encoded
from droid2api.hub.events import PACKED_STATE
from droid2api.hub.fitting import level_of
from droid2api.hub.profiles import Profile
from droid2api.hub.request import Target
from droid2api.hub.tools import with_fitting_id
from droid2api.wire.fields import Json, inner

MARK = "droid2api"
"""Where a call's extra_content holds the state of another provider, packed."""


STAND_IN: Json = {"google": {"thought_signature": "skip_thought_signature_validator"}}
"""What Gemini takes for the signature of a call that another model made (https://ai.google.dev/gemini-api/docs)."""


def apply_model_settings(
    encoded: Encoded, headers: MutableMapping[str, str], target: Target, system_prompt: str
) -> None:
    """Put the model, the system prompt and the reasoning level into a body for the upstream.

    Takes out the state of other providers that this gateway marked, and adds what the service wants with each turn that
    called tools. Writes to the body itself, and to nothing inside.
    """
    body = encoded.body
    body["model"] = target.id
    messages = body.get("messages")
    if type(messages) is list:
        body["messages"] = messages = [_fit_message(encoded, message, target.profile) for message in messages]
    if system_prompt and type(messages) is list:
        body["messages"] = _prepend_system(messages, system_prompt)
    if target.reasoning != "auto":
        for name in ("reasoning_effort", "reasoning", "thinking", "enable_thinking"):
            body.pop(name, None)
        level = level_of(target)
        effort = target.profile.effort(level) if level else None
        if body.get("tools") and not target.profile.effort_beside_tools:
            effort = "none"
        body |= reasoning_fields(target.profile, effort)
    if target.fast:
        body.setdefault("service_tier", "priority")


def reasoning_fields(profile: Profile, effort: str | None) -> Json:
    """The fields that ask for a reasoning effort, or for none."""
    if effort is None:
        return {}
    if effort == "none" and profile.off == "disabled":
        return {"thinking": {"type": "disabled"}}
    return {"reasoning_effort": effort}


def _fit_message(encoded: Encoded, message: object, profile: Profile) -> object:
    """What this gateway marked as another provider's says nothing to this one; another's ids may not be taken."""
    if type(message) is not dict:
        return message
    ids = profile.ids, profile.longest_id
    message = with_fitting_id(message, "tool_call_id", *ids)
    details, calls = message.get("reasoning_details"), message.get("tool_calls")
    if type(details) is list and any(_is_foreign(detail) for detail in details):
        kept = profile.replay == "always" and calls
        names = ("reasoning_details",) if kept else ("reasoning_details", "reasoning_content")
        message = {name: value for name, value in message.items() if name not in names}
        encoded.drop("messages.reasoning")
    if type(calls) is not list or not calls:
        return message
    if any(_is_marked(call) for call in calls):
        encoded.drop(f"messages.tool_call.extra_content.{MARK}")
    fitting = [with_fitting_id(_without_mark(call), "id", *ids) if type(call) is dict else call for call in calls]
    if any(call is not sent for call, sent in zip(fitting, calls, strict=True)):
        message = message | {"tool_calls": fitting}
    if profile.replay == "always" and not (message.get("reasoning_content") or message.get("reasoning")):
        message = message | {"reasoning_content": " "}  # an empty one is refused as none at all
    if profile.signed_calls:
        message = message | {"tool_calls": with_stand_in(message["tool_calls"])}
    return message


def with_stand_in(calls: list[Json]) -> list[Json]:
    """The calls of one turn, the first with a stand-in where it has no signature; the same list where it has one."""
    first = calls[0]
    if type(first) is not dict or first.get("extra_content"):
        return calls
    return [first | {"extra_content": STAND_IN}, *calls[1:]]


def _is_foreign(detail: object) -> bool:
    packed = (detail.get("signature") or detail.get("data")) if type(detail) is dict else None
    return type(packed) is str and packed.startswith(PACKED_STATE)


def _is_marked(call: object) -> bool:
    return type(call) is dict and MARK in inner(call, "extra_content")


def _without_mark(call: Json) -> Json:
    if not _is_marked(call):
        return call
    extra = {name: value for name, value in call["extra_content"].items() if name != MARK}
    rest = {name: value for name, value in call.items() if name != "extra_content"}
    return rest | ({"extra_content": extra} if extra else {})


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
