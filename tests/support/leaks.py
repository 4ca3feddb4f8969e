"""What a test must not leave behind: tasks, file descriptors, unclosed transports, unheard errors."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually

SETTLE = 2.0
"""Seconds within which what was closed must be gone."""
SPARE_FDS = 2


@contextlib.asynccontextmanager
async def no_leaks() -> AsyncIterator[None]:
    """Fail when the body leaves tasks or file descriptors, or when the loop's exception handler was called.

    Unclosed sockets and transports come to light in the garbage collection, as a ResourceWarning, which is an error.
    """
    loop = asyncio.get_running_loop()
    unheard: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: unheard.append(context))
    tasks_before, fds_before = asyncio.all_tasks(), open_fds()

    yield

    allowed = tasks_before | {task for task in [asyncio.current_task()] if task}
    with contextlib.suppress(TimeoutError):
        await eventually(lambda: asyncio.all_tasks() <= allowed and open_fds() <= fds_before + SPARE_FDS, SETTLE)
    gc.collect()
    await asyncio.sleep(0)
    if left := asyncio.all_tasks() - allowed:
        raise AssertionError(f"pending tasks: {left}")
    if (fds := open_fds()) > fds_before + SPARE_FDS:
        raise AssertionError(f"{fds} open file descriptors, {fds_before} before")
    if unheard:
        raise AssertionError(f"errors that nobody handled: {unheard}")


def open_fds() -> int:
    """Number of file descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))
