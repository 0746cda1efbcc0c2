"""What the gateway changes in a generateContent body on its way to an upstream, in either lane."""

from __future__ import annotations

from collections.abc import MutableMapping

from droid2api.formats.gemini.words import STAND_IN, get, is_foreign, put
from droid2api.hub.fitting import level_of
from droid2api.hub.profiles import Profile
from droid2api.hub.reasoning import budget_of
from droid2api.hub.request import Target
from droid2api.wire.fields import Json


def apply_model_settings(body: Json, headers: MutableMapping[str, str], target: Target, system_prompt: str) -> None:
    """Put the system prompt and the reasoning level into a body for the upstream; its URL has the model.

    Takes out the state of other providers that this gateway packed into signatures. Writes to `body` itself, and to
    nothing inside.
    """
    whole = get(body, "generateContentRequest")  # of countTokens
    if type(whole) is dict:
        put(body, "generateContentRequest", None)
        body |= whole
    contents = get(body, "contents")
    if type(contents) is list:
        put(body, "contents", [_without_foreign_state(content, target.profile) for content in contents])
    if system_prompt:
        put(body, "systemInstruction", _prepend_system(get(body, "systemInstruction"), system_prompt))
    if target.reasoning != "auto":
        _set_level(body, target)
    if target.fast and get(body, "serviceTier") is None:
        body["serviceTier"] = "priority"


def _set_level(body: Json, target: Target) -> None:
    config = get(body, "generationConfig")
    config = dict(config) if type(config) is dict else {}
    asked = get(config, "thinkingConfig")
    shown = get(asked, "includeThoughts") if type(asked) is dict else None
    level = level_of(target)
    thinking = thinking_config(target.profile, target.profile.effort(level) if level else None)
    if shown is True and thinking and level != "none":
        thinking["includeThoughts"] = True
    put(config, "thinkingConfig", thinking or None)
    put(body, "generationConfig", config or None)


def thinking_config(profile: Profile, effort: str | None) -> Json:
    """What asks for thinking with an effort, or for none."""
    if effort is None:
        return {}
    if effort == "none":
        return {"thinkingBudget": 0} if profile.off == "disabled" else {}
    if profile.thinking == "level":
        return {"thinkingLevel": effort.upper()}
    return {"thinkingBudget": budget_of(effort)}


def _prepend_system(system: object, prompt: str) -> Json:
    parts = get(system, "parts") if type(system) is dict else None
    return {"parts": [{"text": prompt}, *(parts if type(parts) is list else [parts] if parts else [])]}


def _without_foreign_state(content: object, profile: Profile) -> object:
    parts = get(content, "parts") if type(content) is dict else None
    if type(content) is not dict or type(parts) is not list:
        return content
    if not any(type(part) is dict and is_foreign(get(part, "thoughtSignature")) for part in parts):
        return content
    kept = []
    for part in parts:
        if type(part) is dict and is_foreign(get(part, "thoughtSignature")):
            part = dict(part)
            put(part, "thoughtSignature", None)
            if part == {"text": ""} or not part:
                continue
        kept.append(part)
    calls = [index for index, part in enumerate(kept) if type(part) is dict and get(part, "functionCall")]
    if calls and profile.signed_calls and get(kept[calls[0]], "thoughtSignature") is None:
        kept[calls[0]] = kept[calls[0]] | {"thoughtSignature": STAND_IN}
    changed = dict(content)
    put(changed, "parts", kept or [{"text": ""}])
    return changed
