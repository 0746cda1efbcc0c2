"""The kinds of faults (the issue's list of them, by number) that the product still has.

A test of a kind named here must fail (a strict xfail), and is left out where kinds are mixed. Whoever mends a kind
takes it out of the set; the set is empty when all are mended, and then this file and its marks can go.
"""

import pytest

MENDING: set[int] = {1, 2, 3, 4, 31, 32, 33}


def marks(kind: int) -> list[pytest.MarkDecorator]:
    return [pytest.mark.xfail(strict=True, reason=f"kind {kind}")] if kind in MENDING else []
