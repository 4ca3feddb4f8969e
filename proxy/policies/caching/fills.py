"""All fills under way, and which of them others may join."""

import asyncio
from collections.abc import Callable
from typing import Generic

from proxy.exchange import Exchange, Handler
from proxy.policies.caching.fill import Fill, K
from proxy.policies.caching.keeper import Head, Judged, Keeper, Kind, Outcome

__all__ = ["Fill", "Fills", "Head", "Judged", "Keeper", "Kind", "Outcome"]


class Fills(Generic[K]):
    """All fills under way. `clock` is monotonic, `wall` Unix time, both in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self.loop = loop
        self.clock = clock
        self.wall = wall
        self._by_key: dict[bytes, Fill[K]] = {}
        self._running: set[Fill[K]] = set()

    def find(self, key: bytes) -> Fill[K] | None:
        """The fill of this key that others may join. Wait for its head at once: the next moment it may be over."""
        fill = self._by_key.get(key)
        return fill if fill is not None and fill.is_joinable else None

    def start(
        self,
        exchange: Exchange,
        handler: Handler,
        keeper: K,
        *,
        key: bytes | None,
        kind: Kind,
        max_body: int,
    ) -> Fill[K]:
        """Begin a fill that sends `exchange`, its own, through `handler`, and keeps at most `max_body` bytes.

        Whoever begins a miss or a validation waits for its head at once: it ends when nobody waits any more.
        """
        fill = Fill(self, exchange, handler, keeper, key=key, kind=kind, max_body=max_body)
        self._running.add(fill)
        if key is not None:
            self._by_key[key] = fill
        fill.begin()
        return fill

    async def close(self) -> None:
        """End all fills; those who wait for one get an error."""
        ending = [fill.cancel() for fill in self._running]
        await asyncio.gather(*[task for task in ending if task is not None], return_exceptions=True)

    async def finish(self) -> None:
        """Wait until all fills are over that clients wait for, and end the others: a cache that is given up."""
        while tasks := [task for fill in [*self._running] if (task := fill.leave_to_clients()) is not None]:
            await asyncio.wait(tasks)

    def unlist(self, fill: Fill[K]) -> None:
        """Nobody else may join it."""
        if fill.key is not None and self._by_key.get(fill.key) is fill:
            del self._by_key[fill.key]

    def finished(self, fill: Fill[K]) -> None:
        """Its task has ended."""
        self.unlist(fill)
        self._running.discard(fill)

    def __len__(self) -> int:
        return len(self._running)

    def __repr__(self) -> str:
        return f"<Fills running={len(self._running)} joinable={len(self._by_key)}>"
