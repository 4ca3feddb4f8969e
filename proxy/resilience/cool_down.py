"""The time for which an upstream has asked, by Retry-After on a 503, that nobody comes (RFC 9110 section 10.2.3).

One exchange a second may look whether it is over. That permission is a rate and not a lock: whoever got it owes
nothing, so an exchange that is cancelled, or never reaches the upstream, holds nobody up.
"""

from typing import Final

PROBE_INTERVAL: Final = 1.0
"""Seconds between two exchanges that may pass."""


class CoolDown:
    """All times are monotonic seconds."""

    __slots__ = ("_next_probe", "_until")

    def __init__(self) -> None:
        self._until = 0.0
        self._next_probe = 0.0

    def is_on(self, now: float) -> bool:
        """Whether the upstream is to be left alone."""
        return now < self._until

    def remaining(self, now: float) -> float:
        """Seconds to its end, 0 when there is none."""
        return max(self._until - now, 0.0)

    def take_probe(self, now: float) -> bool:
        """Whether this exchange may pass all the same, to see whether the upstream has recovered."""
        if now < self._next_probe:
            return False
        self._next_probe = now + PROBE_INTERVAL
        return True

    def start(self, now: float, seconds: float) -> bool:
        """Leave the upstream alone for `seconds`, or for longer where that was asked before. Whether it begins now."""
        is_new = not self.is_on(now)
        if is_new:
            self._next_probe = now + PROBE_INTERVAL
        self._until = max(self._until, now + seconds)
        return is_new

    def restart(self, now: float, seconds: float) -> None:
        """What a probe was told replaces what was asked before; 0: the upstream is there again."""
        self._until = now + seconds

    def limit(self, now: float, seconds: float) -> None:
        """End within `seconds` at the latest."""
        self._until = min(self._until, now + seconds)

    def __repr__(self) -> str:
        return f"<CoolDown until={self._until}>"
