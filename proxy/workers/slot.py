"""Keeps one worker running: starts it, waits for its end, starts it again."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

from proxy.config.model import Config
from proxy.process import explain
from proxy.server.shared_port import SharedPort
from proxy.telemetry.merge import Values, absorb
from proxy.workers.child import Child, Purged
from proxy.workers.restarts import Backoff, reason_of
from proxy.workers.timing import Timing

log = logging.getLogger("tidegate.workers")


class Slot:
    """The place of worker `index`. `share` gives what it is to serve; the other functions hear of what happens here.

    Before `one_serves` is set, nobody is started again: if no worker can start, that is the end of it.
    """

    def __init__(
        self,
        index: int,
        port: SharedPort,
        timing: Timing,
        *,
        one_serves: asyncio.Event,
        share: Callable[[int], Config],
        joined: Callable[[Child], Awaitable[None]],
        ended: Callable[[str], None],
        purged: Purged,
    ) -> None:
        self.index = index
        self.child: Child | None = None
        self.past: Values = {}
        """What the workers that were here before have counted."""
        self.first: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """What came of the first start: why it failed, or nothing."""
        self._port = port
        self._timing = timing
        self._one_serves = one_serves
        self._share = share
        self._joined = joined
        self._ended = ended
        self._purged = purged
        self._problem = ""
        """Why the last start failed, if it did."""
        self._backoff = Backoff()
        self._leaving = asyncio.Event()

    async def run(self) -> None:
        """Have a worker here until `leave`."""
        while not self._leaving.is_set():
            born = monotonic()
            try:
                reason = await self._one_life()
            except Exception:
                log.exception("Bug: a worker could not be looked after")
                reason = "crashed"
            await self._one_serves.wait()
            if self._leaving.is_set():
                return
            wait = self._backoff.delay(monotonic() - born)
            self._ended(reason)
            extra = {"worker": self.index, "reason": reason, "wait": wait, "problem": self._problem}
            log.warning("a worker has ended and is started again", extra=extra)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._leaving.wait()

    def leave(self, drain: float, accept: float) -> None:
        """Have the worker end in good order, or at once when `drain` is 0, and start no other."""
        self._leaving.set()
        if self.child is not None:
            if drain:
                self.child.drain(drain, accept)
            else:
                self.child.stop()

    def kill(self) -> None:
        """End the worker without asking."""
        if self.child is not None:
            self.child.kill()

    def replace(self, drain: float) -> None:
        """Have another worker here; this one may finish what is under way, if it still does what it is told."""
        child = self.child
        if child is None or child.draining:
            return
        if not child.is_up:
            child.kill("reload")
            return
        child.reason = "reload"
        child.drain(drain, 0.0)
        asyncio.get_running_loop().call_later(drain + self._timing.last_words, child.kill)

    async def _one_life(self) -> str:
        try:
            child = self.child = await Child.spawn(self.index, self._port, self._timing, self._purged)
        except OSError as error:
            self._tried(explain(error))
            return "crashed"
        if self._leaving.is_set():
            child.stop()  # `leave` could not tell it: it was just being made
        try:
            problem = await child.start(self._share(self.index))
            if not problem:
                await self._joined(child)
            self._tried(problem)
            code = await child.ended()
        finally:
            self.child = None
            absorb(self.past, child.values)
            await child.close()
        return child.reason or reason_of(code)

    def _tried(self, problem: str) -> None:
        self._problem = problem
        if not self.first.done():
            self.first.set_result(problem)
