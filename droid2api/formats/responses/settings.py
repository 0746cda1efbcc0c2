"""What the gateway changes in a Responses body on its way to an upstream, in either lane."""

from collections.abc import MutableMapping

from droid2api.hub.encoded import Encoded
from droid2api.hub.events import PACKED_STATE
from droid2api.hub.fitting import level_of
from droid2api.hub.profiles import Profile
from droid2api.hub.request import Target
from droid2api.wire.fields import Json


def apply_model_settings(
    encoded: Encoded, headers: MutableMapping[str, str], target: Target, system_prompt: str
) -> None:
    """Put the model, the system prompt and the reasoning level into a body for the upstream.

    Takes out the state of other providers that this gateway marked. Writes to the body itself, and to nothing inside.
    """
    body = encoded.body
    body["model"] = target.id
    instructions = body.get("instructions")
    if system_prompt and (instructions is None or type(instructions) is str):
        body["instructions"] = system_prompt + (instructions or "")
    items = body.get("input")
    if type(items) is list:
        body["input"] = [item for item in items if not _is_foreign(item)]
        if len(body["input"]) < len(items):
            encoded.drop("messages.reasoning")
    if target.reasoning != "auto":
        body.pop("reasoning", None)
        level = level_of(target)
        body |= reasoning_fields(target.profile, target.profile.effort(level) if level else None)
    if target.fast:
        body.setdefault("service_tier", "priority")


def reasoning_fields(profile: Profile, effort: str | None) -> Json:
    """The field that asks for a reasoning effort, or for none."""
    if effort is None or (effort == "none" and profile.off != "none"):
        return {}
    return {"reasoning": {"effort": effort} | ({"summary": "auto"} if effort != "none" else {})}


def _is_foreign(item: object) -> bool:
    return (
        type(item) is dict
        and item.get("type") == "reasoning"
        and str(item.get("encrypted_content")).startswith(PACKED_STATE)
    )
