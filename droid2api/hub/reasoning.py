"""Reasoning levels, efforts and token budgets, in the words of all providers.

No provider publishes a table between effort and budget; 4096/12288/24576 for low/medium/high are this program's own.
"""

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
