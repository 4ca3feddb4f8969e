"""The backstop behind every deadline: cancels the task that has outlived its own."""

import asyncio

from proxy.alarm import Alarm


class Watchdog:
    """Cancels the task that is being watched when its deadline passes; one per connection, moved lazily.

    Whoever waits below is asked to wait no longer than the deadline itself. The watchdog catches the wait that does,
    so nothing lives on.
    """

    __slots__ = ("_alarm", "_task", "expired")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = Alarm(loop, self._bite)
        self._task: asyncio.Task[object] | None = None
        self.expired = False
        """Whether the cancellation of the watched task was ours."""

    def watch(self, deadline: float) -> None:
        """Watch the current task until `release`; `deadline` is in monotonic seconds."""
        self._task = asyncio.current_task()
        self.expired = False
        self._alarm.set(deadline)

    def release(self) -> None:
        """Stop watching."""
        self._task = None
        self._alarm.clear()

    def forgive(self) -> bool:
        """Take our cancellation back; False if the task was cancelled by somebody else as well."""
        task = asyncio.current_task()
        return task is not None and task.uncancel() == 0

    def close(self) -> None:
        """Stop for good, with the connection."""
        self._task = None
        self._alarm.close()

    def _bite(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self.expired = True
            task.cancel()
