"""Reasoning levels, efforts and token budgets, in the words of all providers.

No provider publishes a table between effort and budget; 4096/12288/24576 for low/medium/high are this program's own.
"""

from __future__ import annotations

import re

LEVELS = ("auto", "off", "low", "medium", "high")
BUDGETS = {"low": 4096, "medium": 12288, "high": 24576}
SMALLEST_BUDGET = 1024
INTERLEAVED_THINKING = "interleaved-thinking-2025-05-14"


def budget_of(effort: str) -> int:
    """Thinking tokens for an effort; 0 is none."""
    if effort == "none":
        return 0
    if effort == "minimal":
        return SMALLEST_BUDGET
    return BUDGETS.get(effort, BUDGETS["high"])


def effort_of(budget: int) -> str:
    """The smallest effort whose budget covers `budget` tokens."""
    return next((effort for effort, tokens in BUDGETS.items() if budget <= tokens), "high")


def refuses_sampling(model: str) -> bool:
    """OpenAI's reasoning models answer 400 to temperature and top_p (o-series, gpt-5 and newer but for -chat)."""
    return re.match(r"(o\d|gpt-([5-9]|\d\d))", model.rsplit("/", 1)[-1]) is not None and "-chat" not in model


def never_reasons(model: str) -> bool:
    """OpenAI's models without reasoning refuse to be asked for it, encrypted or not."""
    return re.match(r"(chatgpt|gpt-[34])", model.rsplit("/", 1)[-1]) is not None


def openai_effort(model: str, effort: str) -> str | None:
    """The effort as the model takes it: "none" came with gpt-5.1, before it the least is "minimal" (gpt-5) or "low"."""
    name = model.rsplit("/", 1)[-1]
    if effort == "none" and re.match(r"gpt-5(-|$)", name):
        return "minimal"
    if effort == "none" and re.match(r"o\d", name):
        return "low"
    return None if never_reasons(model) else effort
