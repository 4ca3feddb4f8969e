"""A worker process: the App on an inherited port, without listeners of its own for admin and health.

Started by the supervisor as `python -m proxy.workers.worker INDEX OWN CHANNEL_FD LISTENING_FD...`: the first OWN
listening sockets are for this worker, the others for its neighbours.
"""

import signal

if __name__ == "__main__":
    # Before the imports, which take their time: the supervisor alone decides what these mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

import asyncio
import gc
import itertools
import logging
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from proxy.app import ACCEPT_WHILE_DRAINING, App, Inherited
from proxy.config.loader import Loaded
from proxy.config.model import Config
from proxy.config.problems import ConfigError
from proxy.process import explain, loop_factory, settle_garbage, stop_or_cut_short
from proxy.protocol.caching.stored import Validity
from proxy.server.shared_port import SharedPort
from proxy.telemetry.logs import setup_logging
from proxy.telemetry.merge import Values, changes, values_of
from proxy.workers.channel import Channel, Handler
from proxy.workers.purge_line import PurgeLine
from proxy.workers.share import unpack
from proxy.workers.timing import PULSE

COMMANDS = frozenset({"breakers", "force_breaker", "release_breaker", "purge", "caches", "cache_entry", "warm"})
"""Methods of App that the supervisor passes on to every worker."""


class Worker:
    """What the supervisor may ask of this process, and what it reports by itself."""

    def __init__(self, port: SharedPort) -> None:
        self._config: Config
        self._app = App(Path(), Inherited(port, self._load))
        self._tried = asyncio.Event()
        self._serves = False
        self._ending = asyncio.Event()
        self._at_once = asyncio.Event()
        self._drain: tuple[float, float] | None = None
        self._told: Values = {}
        self._channel: Channel
        self._purges: PurgeLine
        """Tells the other workers what was purged here."""

    async def run(self, sock: socket.socket) -> int:
        """Serve until told to end, or until the supervisor is gone. The exit code."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end_by_itself)
        handlers: Mapping[str, Handler] = {
            "start": self._start,
            "reload": self._reload,
            "refresh": self._tell_values,
            "routes": self._routes,
            "command": self._command,
            "heard": self._heard,
            "reopen_logs": self._reopen_logs,
            "drain": self._end,
            "stop": self._stop,
        }
        self._channel = await Channel.open(sock, handlers)
        self._purges = PurgeLine(self._channel, "purged")
        orphaned = asyncio.create_task(self._notice_the_end_of_the_supervisor())
        reporting = asyncio.create_task(self._report())
        await self._ending.wait()
        if self._serves:
            drain, accept = self._drain or (self._app.drain_limit, 0.0)
            await stop_or_cut_short(self._app, drain, accept, self._at_once)
            self._tell_values()
        for task in (orphaned, reporting):
            task.cancel()
        await asyncio.gather(orphaned, reporting, return_exceptions=True)
        await self._channel.close()
        return 0 if self._serves else 1

    # --- life ---

    async def _start(self, config: str) -> str:
        """Why it cannot serve, or nothing when it does."""
        self._config = unpack(config)
        self._app.tell = self._tell_purge
        try:
            await self._app.start()
        except (ConfigError, OSError) as error:
            self._ending.set()
            return explain(error)
        finally:
            self._tried.set()
        self._serves = True
        settle_garbage()
        self._tell_pulse()
        return ""

    def _load(self) -> Loaded:
        return Loaded(self._config, [], {})

    async def _reload(self, config: str) -> dict[str, Any]:
        await self._tried.wait()
        self._config = unpack(config)
        return asdict(await self._app.reload())

    def _end(self, drain: float, accept: float) -> None:
        self._drain = self._drain or (drain, accept)
        self._ending.set()

    def _end_by_itself(self) -> None:
        """Somebody has sent SIGTERM to this process, perhaps to all of them."""
        if self._serves:
            self._end(self._app.drain_limit, ACCEPT_WHILE_DRAINING)
        self._ending.set()

    def _stop(self) -> None:
        self._at_once.set()
        self._ending.set()

    async def _notice_the_end_of_the_supervisor(self) -> None:
        """Nobody would start us again or ask us anything: leave the port to whoever comes next."""
        await self._channel.closed()
        self._ending.set()

    # --- reports ---

    async def _report(self) -> None:
        for turn in itertools.count():
            await asyncio.sleep(PULSE)
            # A supervisor that does not listen gets no more: what it has not taken would pile up here.
            self._purges.catch_up()
            if self._serves and not self._channel.is_backed_up:
                self._tell_pulse()
                if turn % 2:
                    self._tell_values()

    def _tell_pulse(self) -> None:
        readiness = self._app.ready()
        lags = self._app.instruments.server.recent_loop_lags
        self._channel.tell(
            "pulse",
            ready=readiness.ok,
            reasons=readiness.reasons,
            details=readiness.details,
            lag=lags[-1] if lags else 0.0,
        )

    def _tell_values(self) -> None:
        now = values_of(self._app.instruments.collect()) if self._serves else {}
        self._channel.tell("values", changed=changes(self._told, now))
        self._told = now

    def _routes(self, names: list[str], recent: int) -> dict[str, dict[str, Any]]:
        """Of each route what is counted, and the durations of its last `recent` requests, in seconds."""
        routes = {name: self._app.instruments.route(name) for name in names}
        return {
            name: {
                "in_flight": route.in_flight,
                "statuses": route.statuses,
                "recent": list(islice(reversed(route.recent), recent)),
            }
            for name, route in routes.items()
        }

    async def _command(self, name: str, arguments: dict[str, Any]) -> Any:
        if name not in COMMANDS:
            raise ValueError(f"there is no command {name}")
        return await getattr(self._app, name)(**arguments)

    # --- purges ---

    async def _tell_purge(self, tags: Sequence[str], validity: int) -> None:
        """Raises TimeoutError when not all other workers have taken it in time."""
        if not await self._purges.send(tags, validity):
            raise TimeoutError

    def _heard(self, tags: list[str], validity: int) -> bool:
        self._app.heard(tags, Validity(validity))
        return True

    def _reopen_logs(self) -> None:
        if self._serves:
            self._app.reopen_logs()


class _NamesWorker(logging.Filter):
    """Adds to each line of the log which worker has written it."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self._index = index

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything pass."""
        record.worker = self._index
        return True


def main(arguments: Sequence[str]) -> int:
    """Run one worker. The arguments are its number, and the file descriptors that it inherits."""
    gc.disable()  # until it serves: nothing that is made on the way is garbage
    index, own, *inherited = map(int, arguments)
    handler = setup_logging()
    handler.addFilter(_NamesWorker(index))
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_run(own, inherited))
    finally:
        handler.close()


async def _run(own: int, inherited: Sequence[int]) -> int:
    channel, *listening = [socket.socket(fileno=number) for number in inherited]
    return await Worker(SharedPort(listening[:own], listening[own:])).run(channel)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
