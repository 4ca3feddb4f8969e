"""`tidegate serve`: one process around the app. Event loop, signals, garbage collector, exit code."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from proxy.app import ACCEPT_WHILE_DRAINING, App
from proxy.config.problems import ConfigError
from proxy.server.edge import HAS_STRICT_PARSER
from proxy.telemetry.logs import setup_logging

_NO_STRICT_PARSER = (
    "tidegate: aiohttp's C parser is not in use, and its Python one is not strict enough for a proxy: "
    "install aiohttp as a wheel, and leave AIOHTTP_NO_EXTENSIONS unset"
)
_INTERRUPT_LIMIT = 1.0
"""Seconds that Ctrl-C leaves to what is under way."""
_GC_THRESHOLD = 20_000
"""Allocations between collections: requests leave no cycles behind, so looking for them often is wasted."""


def serve(path: Path) -> int:
    """Run until SIGTERM or SIGINT; 0 after an orderly stop, 1 when it could not start."""
    if not HAS_STRICT_PARSER:
        print(_NO_STRICT_PARSER, file=sys.stderr)  # noqa: T201 - for the person at the terminal
        return 1
    handler = setup_logging()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_run(path))
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - for the person at the terminal
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"tidegate: {where}{error.strerror or error}", file=sys.stderr)  # noqa: T201
    finally:
        handler.close()
    return 1


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, unless TIDEGATE_LOOP=asyncio asks for Python's own, to tell the two apart in a diagnosis."""
    if os.environ.get("TIDEGATE_LOOP", "uvloop") == "asyncio":
        return None
    import uvloop

    return uvloop.new_event_loop


class _Signals:
    """What the operating system asks for: the first stop signal begins the drain, a second one ends it."""

    def __init__(self, app: App) -> None:
        self._app = app
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
        """The app has started: return when it has stopped."""
        self._serving = True
        await self._stopping.wait()
        drain, accept = self._app.drain_limit, ACCEPT_WHILE_DRAINING
        if self._interrupted:
            drain, accept = min(drain, _INTERRUPT_LIMIT), 0.0
        stop = asyncio.create_task(self._app.stop(drain, accept))
        second = asyncio.create_task(self._at_once.wait())
        await asyncio.wait([stop, second], return_when=asyncio.FIRST_COMPLETED)
        second.cancel()
        if not stop.done():
            stop.cancel()
            await asyncio.wait([stop])
            await self._app.stop()
        else:
            stop.result()

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
        task = asyncio.create_task(self._app.reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    def _reopen_logs(self) -> None:
        if self._serving:
            self._app.reopen_logs()


async def _run(path: Path) -> int:
    app = App(path)
    signals = _Signals(app)
    await app.start()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 20)
    gc.enable()
    await signals.run()
    return 0
