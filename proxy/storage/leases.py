"""Waiting for what another instance fetches: until a message says that its lease has ended, or a look finds it so."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from proxy.storage.cache_keys import CacheKeys
from proxy.storage.errors import StoreError
from proxy.storage.script import load_script
from proxy.telemetry.cache_instruments import CacheStoreMetrics

if TYPE_CHECKING:
    from proxy.storage.redis import Redis

_RELEASE: Final = load_script("cache_release")
_WAIT: Final = load_script("cache_wait", reads_only=True)

_FIRST_PAUSE: Final = 0.05
_LAST_PAUSE: Final = 0.5
"""Seconds between two looks at a lease; they double. A message usually comes before."""
_SECOND_RELEASE: Final = 0.1


class Leases:
    """Leases are taken where something is looked up, and end where it is stored; see the scripts."""

    def __init__(self, redis: "Redis", keys: CacheKeys, metrics: CacheStoreMetrics) -> None:
        self._redis = redis
        self._keys = keys
        self._metrics = metrics
        self._waiters: dict[bytes, set[asyncio.Future[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def wait(self, key: bytes, limit: float) -> bool:
        """Wait for the end of the lease, for `limit` seconds at most; whether it has ended."""
        woken = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(key, set()).add(woken)
        try:
            async with asyncio.timeout(limit):
                outcome = await self._watch(key, woken)
        except TimeoutError:
            outcome = "limit"
        finally:
            self._leave(key, woken)
        self._metrics.shared_ended("wait", outcome)
        return outcome == "woken"

    async def _watch(self, key: bytes, woken: "asyncio.Future[None]") -> str:
        """Look first: the lease may have ended before anybody listened."""
        lease, pause = self._keys.lease(key), _FIRST_PAUSE
        while True:
            try:
                if await self._redis.run(_WAIT, (lease,), ()) != 1:
                    return "woken"
            except StoreError:
                return "error"
            done, _ = await asyncio.wait((woken,), timeout=pause)
            if done:
                return "woken"
            pause = min(2 * pause, _LAST_PAUSE)

    def _leave(self, key: bytes, woken: "asyncio.Future[None]") -> None:
        waiters = self._waiters[key]
        waiters.discard(woken)
        if not waiters:
            del self._waiters[key]

    def wake(self, key: bytes) -> None:
        """Whoever waits in this process looks again."""
        for woken in self._waiters.get(key, ()):
            if not woken.done():
                woken.set_result(None)

    async def release(self, key: bytes, token: bytes) -> bool:
        """End the lease if it still has that token; whether it had. Never raises StoreError."""
        if self._redis.is_available:
            with contextlib.suppress(StoreError):
                return bool(
                    await self._redis.run(_RELEASE, (self._keys.lease(key),), (token, self._keys.wakes, key)) == 1
                )
        return False

    def release_later(self, key: bytes, token: bytes) -> None:
        """`release`, for who has been cancelled while a lease was taken."""
        task = asyncio.get_running_loop().create_task(self._release_twice(key, token))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _release_twice(self, key: bytes, token: bytes) -> None:
        """What was cancelled went out on another connection: Redis may see it after the first attempt."""
        if not await self.release(key, token):
            await asyncio.sleep(_SECOND_RELEASE)
            await self.release(key, token)
