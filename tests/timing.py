"""The CPU time of code, as far as a shared machine lets one see it."""

import gc
import time
from collections.abc import Callable

import pytest


def seconds(run: Callable[[], object], rounds: int = 3) -> float:
    """The least CPU time of several runs. Garbage is not collected meanwhile: that would walk through what all tests
    before have left, and take longer than what is measured.
    """
    best = float("inf")
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            began = time.process_time()
            run()
            best = min(best, time.process_time() - began)
    finally:
        gc.enable()
    return best


def assert_linear(prepared: Callable[[int], Callable[[], object]], size: int) -> None:
    """What `prepared` gives takes less than three times as long for twice the size; quadratic, it would be four times.

    It is tried again: a busy machine may be slow once.
    """
    for _ in range(5):
        small, large = seconds(prepared(size)), seconds(prepared(2 * size))
        if large < 3 * small + 0.001:
            return
    pytest.fail(f"{small:.4f} s became {large:.4f} s")
