"""One timer for the life of a connection instead of one for each wait."""

import asyncio
from collections.abc import Callable
from math import inf

_GRANULARITY = 0.001
"""uvloop's clock ticks in milliseconds: a timer may fire this much early."""


class Alarm:
    """Calls `callback` once when the deadline last set has passed.

    Deadlines mostly move away before they are reached, so moving one later costs an assignment: the timer that is
    already running looks at the new deadline when it fires and starts again for the rest.
    """

    __slots__ = ("_callback", "_deadline", "_fires_at", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._deadline = inf
        self._fires_at = inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, deadline: float) -> None:
        """Fire at `deadline` (loop time, seconds) instead of whatever was set before; inf: not at all."""
        self._deadline = deadline
        if deadline < self._fires_at:
            self._start(deadline)

    def clear(self) -> None:
        """Do not fire. The timer itself is left to run out."""
        self._deadline = inf

    def close(self) -> None:
        """Stop the timer for good and let go of the callback's owner."""
        self._deadline = inf
        self._fires_at = -inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = when
        self._timer = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._fires_at = inf
        if self._deadline == inf:
            return
        if self._loop.time() < self._deadline - _GRANULARITY:
            self._start(self._deadline)
            return
        self._deadline = inf
        self._callback()
