"""How long tests wait at most, and the one way to wait for what sends no event."""

import asyncio
from collections.abc import Callable

WITHIN = 10.0
"""Seconds after which a wait fails the test: far above what anything takes."""


async def eventually(condition: Callable[[], bool], within: float = WITHIN) -> None:
    """Ask again and again: for files, other processes and the kernel; raises TimeoutError."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - nothing here can set an event
            await asyncio.sleep(0.005)
