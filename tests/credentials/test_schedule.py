"""When tokens are renewed, and how long nothing is tried after a failure."""

import time

import pytest

from droid2api.credentials.schedule import Schedule
from droid2api.credentials.tokens import Tokens
from tests.credentials.service import HOUR


@pytest.mark.parametrize(
    ("lifetime", "delay"),
    [(48, 6), (8, 6), (7, 5), (4, 2), (3, 1), (1, 0.25), (0.1, 0.025), (0, 0), (-1, 0)],
)
def test_when_the_next_refresh_is(lifetime, delay):
    schedule, now = Schedule(), time.time()
    schedule.set(Tokens("a", "r", now + lifetime * HOUR, now))
    assert schedule.delay() == pytest.approx(max(delay * HOUR, 2), abs=1)


def test_failures_wait_longer_and_longer():
    schedule, delays = Schedule(), []
    for _ in range(40):
        schedule.fail()
        delays.append(schedule.delay())
    for delay, expected in zip(delays, [2, 4, 8, 16, 32, 64, 128, 256, *[300] * 32], strict=True):
        assert expected * 0.79 <= delay <= expected * 1.21
