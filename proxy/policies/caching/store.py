"""What the caches of all routes share: the memory, Redis behind it, word of changes, and the fills under way."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proxy.policies.caching.fills import Fills
from proxy.resilience.refresh_budget import RefreshBudget
from proxy.storage.generations import Generations
from proxy.storage.memory import Memory
from proxy.storage.purges import Purges

if TYPE_CHECKING:
    from proxy.policies.caching.errand import Errand
    from proxy.storage.shared_cache import SharedCache


@dataclass(slots=True)
class CacheStore:
    """One for each configuration; what it is made of outlives it."""

    memory: Memory
    shadow: Memory
    """What would be in memory: heads alone."""
    generations: Generations
    shared: "SharedCache | None"
    purges: Purges
    fills: "Fills[Errand]"
    refreshes: RefreshBudget
    wall: Callable[[], float]
    """Unix seconds."""
    random: Callable[[], float]

    is_started: bool = False
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Listen for changes on other instances. Does nothing when it has been started."""
        if not self.is_started:
            self.is_started = True
            await self.purges.start()

    async def close(self, *, ends_fills: bool = True) -> None:
        """Stop listening; with `ends_fills` nothing is fetched any more, else a successor has the fills."""
        if ends_fills:
            await self.fills.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.purges.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done that nobody waits for."""
        task = self.fills.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
