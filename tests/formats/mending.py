"""The faults that the product still has: kinds of the issue's list by number, or single quirks by name.

A test of one named here must fail (a strict xfail), and where dialects are mixed it is left out. Whoever mends one
takes it out of the set; when the set is empty, it and the marks can go.
"""

from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

MENDING: set[int | str] = set()


def is_mended(name: str, kind: int) -> bool:
    return not MENDING & {name, kind}


def marks(name: str, kind: int) -> list[pytest.MarkDecorator]:
    return [] if is_mended(name, kind) else [pytest.mark.xfail(strict=True, reason=f"kind {kind}: {name}")]


def known(name: str, kind: int = 0) -> Callable[[T], T]:
    """Marks a whole test function."""

    def mark(test: T) -> T:
        for one in marks(name, kind):
            test = one(test)
        return test

    return mark
