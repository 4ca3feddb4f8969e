"""A sliding time window over what became of attempts: a ring of partial counts, one for each slice, and their totals.

Exact counts, where a decaying average would have to be explained. Adding and looking cost the same however many
attempts there are; the window is up to one slice shorter than it says.
"""

from typing import Final

SLICES: Final = 30
"""Slices of a window: of a second each when it is 30 s long, the usual length."""

_EMPTY: Final = (0, 0, 0)


class Window:
    """Counts of the last `length` seconds, as of the last call with a time. `now` is monotonic seconds."""

    __slots__ = ("_before", "_index", "_ring", "_slice", "_slice_end", "calls", "failures", "length", "slow")

    def __init__(self, length: float, now: float) -> None:
        self.length = length
        self._slice = length / SLICES
        self.clear(now)

    def clear(self, now: float) -> None:
        """Forget everything; the first slice begins now."""
        self.calls = 0
        self.failures = 0
        self.slow = 0
        self._ring: list[tuple[int, int, int]] = [_EMPTY] * SLICES
        self._index = 0
        self._before = _EMPTY
        """Totals without the current slice."""
        self._slice_end = now + self._slice

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count one attempt that has ended."""
        if now >= self._slice_end:
            self.advance(now)
        self.calls += 1
        if failed:
            self.failures += 1
        if slow:
            self.slow += 1

    def advance(self, now: float) -> None:
        """Drop the slices that are too old by now."""
        if now < self._slice_end:
            return
        steps = int((now - self._slice_end) / self._slice) + 1
        if steps >= SLICES:
            self.clear(now)
            return
        for _ in range(steps):
            self._turn()
        self._slice_end += steps * self._slice

    def _turn(self) -> None:
        """End the current slice; the oldest makes room for the next."""
        calls, failures, slow = self._before
        self._ring[self._index] = (self.calls - calls, self.failures - failures, self.slow - slow)
        self._index = (self._index + 1) % SLICES
        calls, failures, slow = self._ring[self._index]
        self.calls -= calls
        self.failures -= failures
        self.slow -= slow
        self._before = (self.calls, self.failures, self.slow)

    def __repr__(self) -> str:
        return f"<Window {self.length:g}s calls={self.calls} failures={self.failures} slow={self.slow}>"
