"""How late the event loop runs its timers: the first sign that one core is no longer enough."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

_INTERVAL = 0.1


async def watch_loop_lag(
    record: Callable[[float], None],
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Sleep for a tenth of a second again and again, and record by how many seconds each sleep was too long."""
    while True:
        due = clock() + _INTERVAL
        await sleep(_INTERVAL)
        record(max(0.0, clock() - due))
