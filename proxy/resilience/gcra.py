"""Rate limits by the generic cell rate algorithm (ITU-T I.371): one number for each client, no windows and no timers.

That number is the client's theoretical arrival time: when its whole burst would be there again. Each request moves it
on by `increment`; a request that would move it further ahead of now than `tolerance` is refused, and moves nothing.
"""

from collections.abc import Sequence
from typing import Final

SLACK: Final = 1e-5
"""Seconds by which a request may be early at most: the sum of many intervals is not exact in floating point."""


class Gcra:
    """One limit: a request every `interval` seconds on average, `burst` at once; each counts as `cost` of them.

    A `reset` is how far, in seconds, a client's arrival time lies ahead of now: never less than 0.
    """

    __slots__ = ("ceiling", "increment", "tolerance")

    def __init__(self, interval: float, burst: float, cost: int = 1) -> None:
        self.increment = interval * cost
        # One request at a time must pass, even where many divide a burst among them: else it were no limit but a wall.
        self.tolerance = interval * max(burst, cost)
        self.ceiling = self.tolerance + min(SLACK, self.increment / 2)  # of a fast limit not a request more
        """The largest reset that a request may leave behind."""

    def remaining(self, reset: float) -> int:
        """Requests that would pass now, one after the other."""
        return max(int((self.ceiling - reset) / self.increment), 0)

    def retry_after(self, reset: float) -> float:
        """Seconds until a request passes; not above 0 when it does now."""
        return reset + self.increment - self.ceiling

    def __repr__(self) -> str:
        return f"<Gcra increment={self.increment:g}s tolerance={self.tolerance:g}s>"


Verdict = tuple[bool, int, int, float]
"""What all limits of a route together said of one request: whether it is allowed, and what one of them has to report.

That one's index, the requests that it would still let pass, and seconds: of an allowed request the limit with the
fewest requests left, and when all of them are back; of a refused one the limit with the longest wait, and that wait.
"""

Asked = tuple[int, Gcra, float]
"""A limit that was asked: its index, itself and the client's reset."""

UNLIMITED: Final[Verdict] = (True, -1, 0, 0.0)
"""No limit was asked."""


def admitted(asked: Sequence[Asked]) -> Verdict:
    """The verdict on a request that passed; the resets are those after it."""
    fewest = UNLIMITED
    for index, gcra, reset in asked:
        remaining = gcra.remaining(reset)
        if fewest is UNLIMITED or remaining < fewest[2]:
            fewest = (True, index, remaining, reset)
    return fewest


def refused(asked: Sequence[Asked]) -> Verdict:
    """The verdict on a request that did not pass; the resets are those before it. At least one limit was asked."""
    index, gcra, reset = max(asked, key=lambda each: each[1].retry_after(each[2]))
    return False, index, gcra.remaining(reset), max(gcra.retry_after(reset), 0.0)
