"""When tokens are renewed, and how long nothing is tried after a failure. Only arithmetic: no task, no network.

Two clocks are asked. The wall clock may be set while the gateway runs; the monotonic one stands still while a laptop
sleeps.
"""

import random
import time

from droid2api.credentials.tokens import Tokens

REFRESH_EVERY = 6 * 3600.0
REFRESH_BEFORE_EXPIRY = 2 * 3600.0
FRESH_AT_START = 60.0
"""A start renews the token unless it is only seconds old: several workers start together."""
RETRY_DELAYS = (2.0, 300.0)
"""Seconds after a failed refresh: the first delay, doubled each time up to the second."""


class Schedule:
    def __init__(self) -> None:
        self._expires_at = 0.0  # by the wall clock; the other times are by the monotonic one
        self._ends = 0.0
        self._due = 0.0
        self._refresh_at = 0.0  # when they are due, but no sooner than a moment after they came
        self._failures = 0
        self._retry_at = 0.0

    def start(self, tokens: Tokens) -> None:
        """The times of the tokens that a process begins with."""
        self.set(tokens)
        if tokens.refresh and time.time() - tokens.received_at > FRESH_AT_START:
            self._due = self._refresh_at = 0.0

    def set(self, tokens: Tokens) -> None:
        """The times of new tokens: due 6 hours after they came, or 2 hours before they end."""
        wall, now = time.time(), time.monotonic()
        lifetime = tokens.expires_at - tokens.received_at
        early = min(REFRESH_BEFORE_EXPIRY, lifetime * 3 / 4)  # some live for minutes only
        due = min(tokens.received_at + REFRESH_EVERY, tokens.expires_at - early)
        if not tokens.refresh:  # there is nothing to renew them with: that is a failure, but not before they end
            due = tokens.expires_at
        self._due = now + due - wall
        self._refresh_at = max(self._due, now + RETRY_DELAYS[0])
        self._expires_at, self._ends = tokens.expires_at, now + tokens.expires_at - wall

    @property
    def valid(self) -> bool:
        """Whether the access token has not ended, by both clocks."""
        return time.time() < self._expires_at and time.monotonic() < self._ends

    @property
    def early(self) -> bool:
        """Whether the tokens need not be renewed yet."""
        return time.monotonic() < self._due

    @property
    def paused(self) -> bool:
        """Whether the last failure is so short ago that nothing is tried."""
        return time.monotonic() < self._retry_at

    @property
    def failing(self) -> bool:
        return self._failures > 0

    def delay(self) -> float:
        """Seconds until the next refresh."""
        return max((self._retry_at if self._failures else self._refresh_at) - time.monotonic(), 0)

    def fail(self, longest: float = RETRY_DELAYS[1]) -> None:
        """Begin the pause after a failure."""
        first, longest = RETRY_DELAYS[0], min(longest, RETRY_DELAYS[1])
        doubled = min(longest, first * 2.0 ** min(self._failures, 20))
        self._retry_at = time.monotonic() + doubled * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        self._failures += 1

    def succeed(self) -> None:
        self._failures, self._retry_at = 0, 0.0

    def end_pause(self) -> None:
        self._retry_at = 0.0
