"""How many background refreshes may begin: what a soft purge has made stale is not fetched anew all at once."""

from typing import Final

RATE: Final = 10.0
"""Refreshes a second."""
BURST: Final = 10.0


class RefreshBudget:
    """`rate` refreshes a second on average, `burst` at once. Times are seconds of one clock, which may be set back."""

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, now: float = 0.0, *, rate: float = RATE, burst: float = BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Whether one may begin now; it then counts."""
        last, self._filled_at = self._filled_at, now
        if now > last:
            self._tokens = min(self._burst, self._tokens + (now - last) * self._rate)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def __repr__(self) -> str:
        return f"<RefreshBudget {self._tokens:.1f} of {self._burst:g}>"
