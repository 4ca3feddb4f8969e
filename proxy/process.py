"""What every process of Tidegate does alike: event loop, garbage collector, how it ends, why it cannot begin."""

import asyncio
import gc
import os
from collections.abc import Callable
from typing import Protocol

from proxy.config.problems import ConfigError

_GC_THRESHOLD = 20_000
"""Allocations between collections: requests leave no cycles behind, so looking for them often is wasted."""


class StartFailed(Exception):
    """It cannot start; the text says why, for the person at the terminal."""


class Stoppable(Protocol):
    """What serves until it is stopped."""

    async def stop(self, drain: float = 0.0, accept: float = 0.0) -> None:
        """Accept for another `accept` seconds, and end what is under way after `drain` seconds."""
        ...


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, unless TIDEGATE_LOOP=asyncio asks for Python's own, to tell the two apart in a diagnosis."""
    if os.environ.get("TIDEGATE_LOOP", "uvloop") == "asyncio":
        return None
    import uvloop

    return uvloop.new_event_loop


def settle_garbage() -> None:
    """Everything that lives as long as the process has been made: never look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 20)
    gc.enable()


def explain(error: ConfigError | OSError) -> str:
    """Why it cannot start, for the person at the terminal."""
    if isinstance(error, ConfigError):
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    return f"tidegate: {where}{error.strerror or error}"


async def stop_or_cut_short(running: Stoppable, drain: float, accept: float, at_once: asyncio.Event) -> None:
    """Stop it in good order; as soon as `at_once` is set, without any."""
    stop = asyncio.create_task(running.stop(drain, accept))
    cut = asyncio.create_task(at_once.wait())
    await asyncio.wait([stop, cut], return_when=asyncio.FIRST_COMPLETED)
    cut.cancel()
    if stop.done():
        stop.result()
        return
    stop.cancel()
    await asyncio.wait([stop])
    await running.stop()
