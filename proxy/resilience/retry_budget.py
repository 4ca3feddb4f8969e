"""How many retries a route may make: a share of its first attempts, so that retries cannot multiply a failure.

The budget is a balance over the last ten seconds, after Finagle's: a first attempt deposits, a retry withdraws, and a
reserve lets a quiet route retry as well. Per-request limits alone do not bound the load: with six attempts each, an
upstream that fails would get six times what it cannot serve.

Counts are kept in slots of a quarter of a second. First attempts are counted over slightly less than ten seconds and
retries over slightly more, so rounding never allows one retry too many.
"""

from typing import Final

WINDOW: Final = 10.0
"""Seconds over which first attempts and retries are counted."""
RESERVE: Final = 30
"""Retries that each window allows whatever its first attempts: three a second."""

_SLOTS_PER_SECOND: Final = 4
_SLOTS: Final = int(WINDOW * _SLOTS_PER_SECOND)
_ROUNDING: Final = 1e-9
"""The 29 % of 100 first attempts are 29 retries, not 28.999999999999996."""


class _Count:
    """Events in the current slot and in the `slots - 1` before it."""

    __slots__ = ("_counts", "_place", "_slot", "_slot_ends", "_total")

    def __init__(self, slots: int, now: float) -> None:
        self._counts = [0] * slots
        self._total = 0
        self._enter(int(now * _SLOTS_PER_SECOND))

    def add(self, now: float) -> None:
        if now >= self._slot_ends:
            self._advance(int(now * _SLOTS_PER_SECOND))
        self._counts[self._place] += 1
        self._total += 1

    def total(self, now: float) -> int:
        if now >= self._slot_ends:
            self._advance(int(now * _SLOTS_PER_SECOND))
        return self._total

    def _advance(self, slot: int) -> None:
        """Forget what has left the window."""
        counts = self._counts
        size = len(counts)
        if slot - self._slot >= size:
            self._counts = [0] * size
            self._total = 0
        else:
            for passed in range(self._slot + 1, slot + 1):
                self._total -= counts[passed % size]
                counts[passed % size] = 0
        self._enter(slot)

    def _enter(self, slot: int) -> None:
        self._slot = slot
        self._slot_ends = (slot + 1) / _SLOTS_PER_SECOND
        self._place = slot % len(self._counts)


class RetryBudget:
    """Retries of the last ten seconds: at most `share` of the first attempts, or `RESERVE`, whichever is more."""

    __slots__ = ("_first_attempts", "_retries", "share")

    def __init__(self, share: float, now: float) -> None:
        self.share = share
        """Retries for each first attempt, from 0 to 1."""
        self._first_attempts = _Count(_SLOTS, now)
        self._retries = _Count(_SLOTS + 1, now)

    def deposit(self, now: float) -> None:
        """A first attempt is being made."""
        self._first_attempts.add(now)

    def withdraw(self, now: float) -> bool:
        """Whether one more retry may be made. It counts from now on, although its backoff comes first."""
        if self.available(now) < 1:
            return False
        self._retries.add(now)
        return True

    def available(self, now: float) -> int:
        """Retries that would be allowed now."""
        allowed = max(int(self.share * self._first_attempts.total(now) + _ROUNDING), RESERVE)
        return max(allowed - self._retries.total(now), 0)

    def __repr__(self) -> str:
        return f"<RetryBudget share={self.share} first={self._first_attempts._total} retries={self._retries._total}>"
