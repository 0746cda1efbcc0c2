"""What the gateway changes in a Messages body on its way to an upstream, in either lane."""

from collections.abc import MutableMapping

from droid2api.hub.encoded import Encoded
from droid2api.hub.events import PACKED_STATE
from droid2api.hub.fitting import level_of, room_for
from droid2api.hub.profiles import Profile
from droid2api.hub.reasoning import INTERLEAVED_THINKING, budget_of, effort_of
from droid2api.hub.request import Target
from droid2api.hub.tools import with_fitting_id
from droid2api.wire.fields import Json, inner

ATTRIBUTION = "x-anthropic-billing-header"
"""How Claude Code's attribution block begins: it must stay first in `system`, and it changes with every run."""

DEFAULT_MAX_TOKENS = 32000
"""Anthropic requires max_tokens; all models since Claude 4 take this many."""


def apply_model_settings(
    encoded: Encoded, headers: MutableMapping[str, str], target: Target, system_prompt: str
) -> None:
    """Put the model, the system prompt and the reasoning level into a body for the upstream.

    Takes out reasoning that the upstream did not make: this gateway marked it, or it has no signature where the service
    wants one. Writes to the body itself, and to nothing inside.
    """
    body = encoded.body
    is_renamed = body.get("model") != target.id
    body["model"] = target.id
    if system_prompt:
        body["system"] = _prepend_system(body.get("system"), system_prompt)
    if type(messages := body.get("messages")) is list:
        body["messages"] = [_fit_message(encoded, message, target.profile) for message in messages]
        if "thinking" in body and body["messages"] != messages and not may_think(body["messages"]):
            del body["thinking"]
            encoded.repair("thinking")
    if target.reasoning == "off":
        _remove_reasoning(body)
        _set_beta(headers, INTERLEAVED_THINKING, False)
        body |= thinking_for(body, level_of(target), target.profile)
    elif target.reasoning != "auto":
        _set_level(encoded, headers, target)
    elif is_renamed:
        _fit_thinking(encoded, target)
    if target.fast and "speed" not in body and "fast-mode" not in headers.get("anthropic-beta", ""):
        body["speed"] = "fast"
        _set_beta(headers, "fast-mode-2026-02-01", True)


def _fit_thinking(encoded: Encoded, target: Target) -> None:
    """Thinking as this model is asked for it, where the client speaks of another one that a redirect stands for."""
    body, profile = encoded.body, target.profile
    thinking = inner(body, "thinking")
    kind, told, budget = thinking.get("type"), inner(body, "output_config").get("effort"), thinking.get("budget_tokens")
    if kind == "disabled" and profile.off not in ("disabled", "between_tools"):
        del body["thinking"]
    elif (kind == "enabled" and profile.thinking == "adaptive") or kind == "adaptive":
        # adaptive thinking without an effort is high: https://platform.claude.com/docs/en/build-with-claude/effort
        meant = effort_of(budget) if type(budget) is int else "high"
        shown = _display(body)
        _remove_effort(body)
        body |= thinking_for(body, profile.effort(told if type(told) is str else meant), profile, shown)
        fit_to_thinking(encoded, target)


def _set_level(encoded: Encoded, headers: MutableMapping[str, str], target: Target) -> None:
    body = encoded.body
    shown = _display(body)
    _remove_effort(body)
    body |= thinking_for(body, target.profile.effort(target.reasoning), target.profile, shown)
    if target.profile.thinking == "budget":
        _set_beta(headers, INTERLEAVED_THINKING, True)
    fit_to_thinking(encoded, target)


def thinking_for(body: Json, effort: str | None, profile: Profile, shown: Json | None = None) -> Json:
    """The fields that ask for thinking with an effort, or for none; `shown` says how its text is to be shown."""
    if effort is None:
        return {}
    if effort == "none":
        return {"thinking": {"type": profile.off}} if profile.off in ("disabled", "between_tools") else {}
    if profile.thinking == "adaptive":
        config = inner(body, "output_config") | {"effort": effort}
        return {"thinking": {"type": "adaptive"} | (shown or {}), "output_config": config}
    return {"thinking": {"type": "enabled", "budget_tokens": budget_of(effort)} | (shown or {})}


def _display(body: Json) -> Json:
    thinking = inner(body, "thinking")
    return {"display": thinking["display"]} if "display" in thinking else {}


def _remove_reasoning(body: Json) -> None:
    _remove_effort(body)
    management = inner(body, "context_management")
    edits = management.get("edits")
    if type(edits) is list:  # clear_thinking is refused where nothing thinks
        edits = [edit for edit in edits if not _clears_thinking(edit)]
        _set_or_remove(body, "context_management", management | {"edits": edits} if edits else {})


def _remove_effort(body: Json) -> None:
    body.pop("thinking", None)
    config = inner(body, "output_config")
    if "effort" in config:
        _set_or_remove(body, "output_config", {name: value for name, value in config.items() if name != "effort"})


def _clears_thinking(edit: object) -> bool:
    return type(edit) is dict and str(edit.get("type")).startswith("clear_thinking")


def _set_or_remove(body: Json, name: str, value: Json) -> None:
    if value:
        body[name] = value
    else:
        del body[name]


def fit_to_thinking(encoded: Encoded, target: Target) -> None:
    """Take out or change what is refused together with thinking, or the thinking itself where it cannot be."""
    body = encoded.body
    thinking = body.get("thinking")
    if not thinking:
        return
    if thinking["type"] == "enabled" and not may_think(body.get("messages")):
        del body["thinking"]
        encoded.repair("thinking")
        return
    for name in ("temperature", "top_p", "top_k"):
        if body.pop(name, None) is not None:
            encoded.drop(name)
    choice = body.get("tool_choice")
    if type(choice) is dict and choice.get("type") in ("any", "tool"):
        parallel = {key: value for key, value in choice.items() if key == "disable_parallel_tool_use"}
        body["tool_choice"] = {"type": "auto"} | parallel
        encoded.repair("tool_choice")
    make_room(encoded, target)


def make_room(encoded: Encoded, target: Target) -> None:
    """max_tokens includes the budget: it is raised above it, or the budget lowered where the model gives no more."""
    body = encoded.body
    thinking, wanted = body.get("thinking"), body.get("max_tokens")
    if not thinking or thinking["type"] != "enabled":
        return
    budget = thinking["budget_tokens"]
    if type(wanted) is int and wanted > budget:
        return
    room = wanted if type(wanted) is int else DEFAULT_MAX_TOKENS
    body["max_tokens"], budget = room_for(target, room, budget)
    body["thinking"] = thinking | {"budget_tokens": budget}
    encoded.repair("max_tokens")


def may_think(messages: object) -> bool:
    """With a budget, a tool loop must go on from the thinking that began it, and a prefilled answer cannot begin so.

    https://docs.claude.com/en/docs/build-with-claude/extended-thinking#preserving-thinking-blocks
    """
    if type(messages) is not list or not messages:
        return True
    answers = [m for m in messages if type(m) is dict and m.get("role") == "assistant"]
    if not answers:
        return True
    content = answers[-1].get("content")
    if answers[-1] is messages[-1]:
        return False
    blocks = _kinds(content) if type(content) is list else []
    return "tool_use" not in blocks or blocks[0] in ("thinking", "redacted_thinking")


def _prepend_system(system: object, prompt: str) -> object:
    block = {"type": "text", "text": prompt}
    if not system:
        return [block]
    if type(system) is str:
        return [block, {"type": "text", "text": system}]
    if type(system) is not list:
        return system
    first = 1 if is_attribution(system[0]) else 0
    return [*system[:first], block, *system[first:]]


def is_attribution(block: object) -> bool:
    return type(block) is dict and str(block.get("text")).startswith(ATTRIBUTION)


def _fit_message(encoded: Encoded, message: object, profile: Profile) -> object:
    """Another provider's reasoning goes; what the service wants with every turn that called tools is added."""
    if type(message) is not dict:
        return message
    content = message.get("content")
    if type(content) is not list:
        return message
    blocks = content
    if any(_is_foreign(block, profile) for block in content):
        calls = "tool_use" in _kinds(content)
        kept = [_unsigned(block, profile, calls) if _is_foreign(block, profile) else block for block in content]
        blocks = [block for block in kept if block is not None]
        if len(blocks) < len(kept):
            encoded.drop("messages.reasoning")
    if not profile.unsigned_thinking:  # Claude refuses other ids, too
        fitting = [_fit_id(block, profile) for block in blocks]
        if any(block is not sent for block, sent in zip(fitting, blocks, strict=True)):
            blocks = fitting
    blocks = with_thinking(blocks, profile)
    return message if blocks is content else {**message, "content": blocks}


def _fit_id(block: Json, profile: Profile) -> Json:
    kind = block.get("type") if type(block) is dict else None
    field = {"tool_use": "id", "tool_result": "tool_use_id"}.get(str(kind))
    return with_fitting_id(block, field, profile.ids, profile.longest_id) if field else block


def with_thinking(blocks: list[Json], profile: Profile) -> list[Json]:
    """The blocks of a turn, with a stand-in where the service wants thinking with every call and there is none."""
    kinds = _kinds(blocks)
    if profile.replay != "always" or "tool_use" not in kinds or "thinking" in kinds:
        return blocks
    return [{"type": "thinking", "thinking": " ", "signature": ""}, *blocks]


def _kinds(blocks: list[Json]) -> list[object]:
    return [block.get("type") for block in blocks if type(block) is dict]


def _is_foreign(block: object, profile: Profile) -> bool:
    if type(block) is not dict:
        return False
    if block.get("type") == "redacted_thinking":
        return str(block.get("data")).startswith(PACKED_STATE)
    signature = block.get("signature")
    if block.get("type") != "thinking":
        return False
    return str(signature).startswith(PACKED_STATE) if signature else not profile.unsigned_thinking


def _unsigned(block: Json, profile: Profile, calls: bool) -> Json | None:
    """Another provider's thinking, for a service that wants some with every turn that called tools."""
    if profile.replay == "always" and calls and block.get("thinking"):
        return {**block, "signature": ""}
    return None


def _set_beta(headers: MutableMapping[str, str], beta: str, wanted: bool) -> None:
    betas = [name.strip() for name in headers.pop("anthropic-beta", "").split(",") if name.strip()]
    betas = [name for name in betas if name != beta] + [beta] * wanted
    if betas:
        headers["anthropic-beta"] = ",".join(betas)
