"""What models are known to take or refuse, told from their ids: no upstream says it in its answers.

Only what would else be an error, or lost, is here.
"""

from __future__ import annotations

import re


def _name(model: str) -> str:
    """The id without a vendor in front."""
    return model.rsplit("/", 1)[-1]


def refuses_sampling(model: str) -> bool:
    """OpenAI's reasoning models answer 400 to temperature and top_p (o-series, gpt-5 and newer but for -chat)."""
    return re.match(r"(o\d|gpt-([5-9]|\d\d))", _name(model)) is not None and "-chat" not in model


def never_reasons(model: str) -> bool:
    """OpenAI's models without reasoning refuse to be asked for it, encrypted or not."""
    return re.match(r"(chatgpt|gpt-[34])", _name(model)) is not None


def openai_effort(model: str, effort: str) -> str | None:
    """The effort as the model takes it: "none" came with gpt-5.1, before it the least is "minimal" (gpt-5) or "low"."""
    name = _name(model)
    if effort == "none" and re.match(r"gpt-5(-|$)", name):
        return "minimal"
    if effort == "none" and re.match(r"o\d", name):
        return "low"
    return None if never_reasons(model) else effort


def takes_cache_breakpoints(model: str) -> bool:
    """https://developers.openai.com/api/docs/guides/prompt-caching: explicit breakpoints came with gpt-5.6."""
    found = re.match(r"gpt-(\d+)(?:\.(\d+))?", _name(model))
    return found is not None and (int(found.group(1)), int(found.group(2) or 0)) >= (5, 6)


def takes_system_messages(model: str) -> bool:
    """Claude takes system messages between the turns since Opus 4.8 (its release notes)."""
    found = re.match(r"claude-[a-z]+-(\d{1,2})(?:-(\d{1,2}))?(?!\d)", _name(model))
    return found is not None and (int(found.group(1)), int(found.group(2) or 0)) >= (4, 8)
