"""The CPU time of code, as far as a shared machine lets one see it."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """The collector would walk through what all tests before have left, and take longer than what is measured."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def seconds(run: Callable[[], object], rounds: int = 3, enough: float = 0) -> float:
    """The least CPU time of several runs: of this thread alone, while no garbage is collected. A run of less than
    `enough` is the last one.
    """
    best = float("inf")
    with _nothing_collected():
        for _ in range(rounds):
            began = time.thread_time()
            run()
            best = min(best, time.thread_time() - began)
            if best < enough:
                break
    return best


def assert_quick(run: Callable[[], object], most: float) -> None:
    """`run` takes less than `most` seconds of CPU time; a machine may be slow twice."""
    assert seconds(run, enough=most) < most


def assert_linear(prepared: Callable[[int], Callable[[], object]], size: int) -> None:
    """What `prepared` gives takes less than three times as long for twice the size; quadratic, it would be four times.

    It is tried again: a busy machine may be slow once.
    """
    for _ in range(5):
        small, large = seconds(prepared(size)), seconds(prepared(2 * size))
        if large < 3 * small + 0.001:
            return
    pytest.fail(f"{small:.4f} s became {large:.4f} s")
