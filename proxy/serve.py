"""`tidegate serve`: one process, or a supervisor with its workers. Signals and exit code."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Protocol

from proxy.app import ACCEPT_WHILE_DRAINING, App, load_and_warn
from proxy.config.loader import Loaded
from proxy.config.problems import ConfigError
from proxy.config.watcher import FileWatcher
from proxy.process import StartFailed, Stoppable, explain, loop_factory, settle_garbage, stop_or_cut_short
from proxy.server.edge import HAS_STRICT_PARSER
from proxy.telemetry.logs import setup_logging

_NO_STRICT_PARSER = (
    "tidegate: aiohttp's C parser is not in use, and its Python one is not strict enough for a proxy: "
    "install aiohttp as a wheel, and leave AIOHTTP_NO_EXTENSIONS unset"
)
_INTERRUPT_LIMIT = 1.0
"""Seconds that Ctrl-C leaves to what is under way."""


class Tidegate(Stoppable, Protocol):
    """What is served: the App in this process, or the supervisor of several."""

    @property
    def drain_limit(self) -> float:
        """`server.drain` in force, seconds."""
        ...

    async def start(self, loaded: Loaded, watcher: FileWatcher) -> None:
        """Be ready. Raises ConfigError, OSError or StartFailed."""
        ...

    async def reload(self) -> object:
        """Load the file again."""
        ...

    def reopen_logs(self) -> None:
        """Go on in new files."""
        ...


def serve(path: Path) -> int:
    """Run until SIGTERM or SIGINT; 0 after an orderly stop, 1 when it could not start."""
    if not HAS_STRICT_PARSER:
        print(_NO_STRICT_PARSER, file=sys.stderr)  # noqa: T201 - for the person at the terminal
        return 1
    handler = setup_logging()
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_run(path))
    except StartFailed as failure:
        print(failure, file=sys.stderr)  # noqa: T201 - as above
    except (ConfigError, OSError) as error:
        print(explain(error), file=sys.stderr)  # noqa: T201 - as above
    finally:
        handler.close()
    return 1


async def _run(path: Path) -> int:
    watcher = FileWatcher(path)  # before the file is read: no change can slip in between
    loaded = load_and_warn(path)
    tidegate = _one_or_several(path, loaded.config.server.workers)
    signals = _Signals(tidegate)
    await tidegate.start(loaded, watcher)
    settle_garbage()
    await signals.run()
    return 0


def _one_or_several(path: Path, workers: int) -> Tidegate:
    if workers == 1:
        return App(path)
    from proxy.workers.supervisor import Supervisor  # one process has no use for it

    return Supervisor(path, workers)


class _Signals:
    """What the operating system asks for: the first stop signal begins the drain, a second one ends it."""

    def __init__(self, tidegate: Tidegate) -> None:
        self._tidegate = tidegate
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._interrupted = False
        self._serving = False
        self._reloads: set[asyncio.Task[object]] = set()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)

    async def run(self) -> None:
        """It has started: return when it has stopped."""
        self._serving = True
        await self._stopping.wait()
        drain, accept = self._tidegate.drain_limit, ACCEPT_WHILE_DRAINING
        if self._interrupted:
            drain, accept = min(drain, _INTERRUPT_LIMIT), 0.0
        await stop_or_cut_short(self._tidegate, drain, accept, self._at_once)

    def _stop(self) -> None:
        if self._stopping.is_set():
            self._at_once.set()
        self._stopping.set()

    def _interrupt(self) -> None:
        self._interrupted = True
        self._stop()

    def _reload(self) -> None:
        if not self._serving:
            return  # the file is just being read
        task: asyncio.Task[object] = asyncio.create_task(self._reload_now())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload_now(self) -> object:
        return await self._tidegate.reload()

    def _reopen_logs(self) -> None:
        if self._serving:
            self._tidegate.reopen_logs()
