"""A time limit on answers that does not take a late look for a late answer."""

import asyncio
from types import TracebackType
from typing import Final

_TURN: Final = 0.001
"""Seconds in which the event loop looks at its sockets once more."""


class Patience:
    """Like `asyncio.timeout(seconds)`, except that what has arrived by the time the limit is noticed was in time.

    When the process gets no processor for a while, timers are looked at before sockets, and every answer that came
    meanwhile would be given up unread: a pause of our own would pass for a server that hangs.
    """

    __slots__ = ("_limit", "_loop", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._limit = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._timer = self._loop.call_later(self._seconds, self._look_again)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises TimeoutError when the time was up."""
        if self._timer is not None:
            self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _look_again(self) -> None:
        self._timer = self._loop.call_later(_TURN, self._limit.reschedule, 0.0)
