"""Efforts and token budgets, both ways."""

import pytest

from droid2api.hub.reasoning import budget_of, effort_of


@pytest.mark.parametrize(
    ("effort", "budget"),
    [
        ("none", 0),
        ("minimal", 1024),
        ("low", 4096),
        ("medium", 12288),
        ("high", 24576),
        ("xhigh", 24576),
    ],
)
def test_the_budget_of_an_effort(effort, budget):
    assert budget_of(effort) == budget


@pytest.mark.parametrize(
    ("budget", "effort"),
    [(0, "low"), (4096, "low"), (4097, "medium"), (12288, "medium"), (12289, "high"), (24576, "high"), (24577, "high")],
)
def test_the_smallest_effort_that_covers_a_budget(budget, effort):
    assert effort_of(budget) == effort
