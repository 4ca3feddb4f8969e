"""A small breaker for a store whose every caller can do without it: leave it alone soon, try it again often."""

from collections.abc import Callable
from math import inf
from typing import Final

FAILURES: Final = 3
"""In a row, until the store is left alone."""
INTERVAL: Final = 1.0
"""Longest time, in seconds, from one trial to the next; the shortest is half of it."""


class StoreGuard:
    """Open while the store is left alone. `random` returns numbers in [0, 1); times are monotonic seconds.

    There is no half-open state: while the guard is open, at most one trial is let through in each interval, and its
    result closes the guard or leaves it open. Results say when their call began, since those of calls that were under
    way when the guard opened tell nothing new.
    """

    __slots__ = ("_failures", "_opened_at", "_random", "_trial_at")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._failures = 0
        self._opened_at = inf
        self._trial_at = -inf

    @property
    def is_open(self) -> bool:
        """Whether the store is left alone."""
        return self._opened_at < inf

    def is_due(self, now: float) -> bool:
        """Whether `allows` would say yes."""
        return now >= self._trial_at

    def allows(self, now: float) -> bool:
        """Whether a call may be made. While the guard is open this takes the interval's trial."""
        if now < self._trial_at:
            return False
        if self._opened_at < inf:
            self._trial_at = self._next_trial(now)
        return True

    def open(self, now: float) -> None:
        """Leave the store alone from now on; the first trial is allowed after the usual interval."""
        self._opened_at = now
        self._trial_at = self._next_trial(now)

    def succeeded(self, began: float) -> bool:
        """A call that began at `began` ended well. Whether that closed the guard."""
        self._failures = 0
        if not self._opened_at <= began:
            return False
        self._opened_at = inf
        self._trial_at = -inf
        return True

    def failed(self, now: float) -> bool:
        """A call ended badly. Whether that opened the guard."""
        self._failures += 1
        if self._failures < FAILURES or self._opened_at < inf:
            return False
        self.open(now)
        return True

    def _next_trial(self, now: float) -> float:
        return now + INTERVAL * (0.5 + 0.5 * self._random())
