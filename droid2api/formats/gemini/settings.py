"""What the gateway changes in a generateContent body on its way to an upstream, in either lane."""

from __future__ import annotations

from collections.abc import MutableMapping

from droid2api.formats.gemini.words import STAND_IN, camelized, is_foreign
from droid2api.hub.encoded import Encoded
from droid2api.hub.fitting import level_of
from droid2api.hub.profiles import Profile
from droid2api.hub.reasoning import budget_of
from droid2api.hub.request import Target
from droid2api.wire.fields import Json, inner


def apply_model_settings(
    encoded: Encoded, headers: MutableMapping[str, str], target: Target, system_prompt: str
) -> None:
    """Put the system prompt and the reasoning level into a body for the upstream; its URL has the model.

    Takes out the state of other providers that this gateway packed into signatures. Names are in camelCase then. Writes
    to the body itself, and to nothing inside.
    """
    body = encoded.body
    given: Json = camelized(body)
    whole = given.pop("generateContentRequest", None)  # of countTokens
    body.clear()
    body |= given | (whole if type(whole) is dict else {})
    if type(contents := body.get("contents")) is list:
        body["contents"] = _with_own_signatures(encoded, contents, target.profile)
    if system_prompt:
        parts = inner(body, "systemInstruction").get("parts") or []
        body["systemInstruction"] = {"parts": [{"text": system_prompt}, *(parts if type(parts) is list else [parts])]}
    if target.reasoning != "auto":
        config, level = inner(body, "generationConfig"), level_of(target)
        thinking = thinking_config(target.profile, target.profile.effort(level) if level else None)
        if thinking and level != "none" and inner(config, "thinkingConfig").get("includeThoughts") is True:
            thinking["includeThoughts"] = True
        body.pop("generationConfig", None)
        if config := {name: value for name, value in (config | {"thinkingConfig": thinking}).items() if value != {}}:
            body["generationConfig"] = config
    if target.fast:
        body.setdefault("serviceTier", "priority")


def thinking_config(profile: Profile, effort: str | None) -> Json:
    """What asks for thinking with an effort, or for none."""
    if effort is None:
        return {}
    if effort == "none":
        return {"thinkingBudget": 0} if profile.off == "disabled" else {}
    return {"thinkingLevel": effort.upper()} if profile.thinking == "level" else {"thinkingBudget": budget_of(effort)}


def _with_own_signatures(encoded: Encoded, contents: list[object], profile: Profile) -> list[object]:
    """Without state of other providers; the first call of each turn of the model's is signed, if by a stand-in only."""
    fitted: list[object] = []
    called = False
    for content in contents:
        parts = content.get("parts") if type(content) is dict else None
        if type(content) is not dict or type(parts) is not list or content.get("role") != "model":
            fitted.append(content)
            called = False
            continue
        kept = []
        for part in parts:
            if type(part) is dict and is_foreign(part.get("thoughtSignature")):
                part = {name: value for name, value in part.items() if name != "thoughtSignature"}
                encoded.drop(f"messages.{'tool_call' if 'functionCall' in part else 'text'}.signature")
            if type(part) is dict and "functionCall" in part:
                if profile.signed_calls and not called:
                    part = {"thoughtSignature": STAND_IN} | part
                called = True
            if part != {"text": ""}:
                kept.append(part)
        fitted.append(content | {"parts": kept or [{"text": ""}]})
    return fitted
