"""One worker process, as its supervisor sees it."""

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any

from proxy.config.model import Config
from proxy.server.shared_port import SharedPort
from proxy.telemetry.events import ReloadEvent
from proxy.telemetry.merge import Changes, Values, apply, process_values
from proxy.workers.channel import Channel, Handler, NoAnswer
from proxy.workers.launch import launch
from proxy.workers.purge_line import PurgeLine
from proxy.workers.share import pack
from proxy.workers.timing import Timing

Purged = Callable[["Child", Sequence[str], int], Awaitable[bool]]
"""Hears of a purge in one worker: its tags and its level. Whether all others have taken it."""

STATES = ("starting", "ready", "unready", "blocked", "draining")
_REAP = 0.005
_REAP_WITHIN = 2.0


class Child:
    """The process, its channel, and what it has reported last."""

    def __init__(self, index: int, process: "subprocess.Popen[bytes]", timing: Timing) -> None:
        self.index = index
        self.digest = ""
        """Of the configuration in force there; empty when it is not known."""
        self.reason = ""
        """Why we have ended it, if we have."""
        self.values: Values = {}
        self.draining = False
        self.channel: Channel
        self.purges: PurgeLine
        """Tells it what was purged in another worker."""
        self._process = process
        self._timing = timing
        self._born = self._heard = monotonic()
        self._serves = False
        self._pulse: Mapping[str, Any] = {"ready": False, "reasons": ["starting"], "details": {}, "lag": 0.0}

    @classmethod
    async def spawn(cls, index: int, port: SharedPort, timing: Timing, purged: Purged) -> "Child":
        """Start the process. Raises OSError."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as unless_started, theirs:
            unless_started.enter_context(ours)
            child = cls(index, launch(index, theirs, port), timing)
            unless_started.pop_all()
        handlers: Mapping[str, Handler] = {
            "pulse": child._take_pulse,
            "values": child._take_values,
            "purged": partial(purged, child),
        }
        child.channel = await Channel.open(ours, handlers)
        child.purges = PurgeLine(child.channel, "heard")
        return child

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def state(self) -> str:
        """One of STATES."""
        if self.draining:
            return "draining"
        if not self._serves:
            return "starting"
        if monotonic() - self._heard > self._timing.blocked:
            return "blocked"
        return "ready" if self._pulse["ready"] else "unready"

    @property
    def is_up(self) -> bool:
        """Whether it can be expected to answer."""
        return self._serves and self.state != "blocked"

    @property
    def pulse(self) -> Mapping[str, Any]:
        """`ready`, `reasons` and `details` of its readiness, and its loop's `lag` in seconds."""
        return self._pulse

    # --- what it is told and asked ---

    async def start(self, config: Config) -> str:
        """Have it serve. Why it does not, or nothing."""
        self.digest = config.digest
        try:
            problem = str(await self.channel.ask("start", self._timing.start, config=pack(config)))
        except NoAnswer as failure:
            self.kill("crashed")
            return f"tidegate: worker {self.index} did not get ready: {failure}"
        self._heard = monotonic()
        self._serves = not problem
        return problem

    async def reload(self, config: Config) -> ReloadEvent | None:
        """What came of the new configuration there; None when it does not say."""
        try:
            answer = await self.channel.ask("reload", self._timing.reload, config=pack(config))
        except NoAnswer:
            self.digest = ""
            return None
        event = ReloadEvent(**answer)
        self.digest = event.digest
        return event

    async def ask(self, what: str, **details: Any) -> Any:
        """The answer, or None when there is none in time; a blocked worker is not asked."""
        if not self.is_up:
            return None
        try:
            return await self.channel.ask(what, self._timing.answer, **details)
        except NoAnswer:
            return None

    async def command(self, name: str, /, **arguments: Any) -> Any:
        """What it answers to one of `worker.COMMANDS`; None when it does not."""
        return await self.ask("command", name=name, arguments=arguments)

    def drain(self, drain: float, accept: float) -> None:
        """Have it end in good order; whoever calls sees to it that it does."""
        self.draining = True
        self.channel.tell("drain", drain=drain, accept=accept)

    def stop(self) -> None:
        """Have it end at once."""
        self.draining = True
        self.channel.tell("stop")

    def kill(self, reason: str = "") -> None:
        """End it without asking; nothing happens when it has ended already."""
        self.reason = self.reason or reason
        self._process.kill()

    # --- what becomes of it ---

    def check(self, asleep: float) -> None:
        """Kill it when it has not been heard for too long; for `asleep` seconds we could not have heard it."""
        self._heard += asleep
        if self._serves and not self.draining and monotonic() - self._heard > self._timing.kill:
            self.kill("blocked")

    async def hear(self, tags: Sequence[str], validity: int) -> bool:
        """Tell it what was purged elsewhere. Whether it has taken it; a blocked one is not waited for."""
        return await self.purges.send(tags, validity, waits=self.is_up)

    def measure(self) -> None:
        """Look at the process from outside."""
        self.values.update(process_values(self.pid))

    async def ended(self) -> int:
        """Wait until the process is gone. The exit code, negative for a signal."""
        await self.channel.closed()
        patience = monotonic() + _REAP_WITHIN
        while (code := self._process.poll()) is None:
            if monotonic() > patience:
                self.kill("crashed")
            await asyncio.sleep(_REAP)
        return code

    async def close(self) -> None:
        """Let go of what is left of it."""
        self.kill()
        await self.channel.close()
        self._process.wait()

    def _take_pulse(self, **pulse: Any) -> None:
        self._heard = monotonic()
        self._pulse = pulse

    def _take_values(self, changed: Changes) -> None:
        apply(self.values, changed)
