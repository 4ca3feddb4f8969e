"""Leases: who fetches what all instances want, for how long, and waiting for whoever does.

A lease is short, so that one whose holder is lost stops nobody for long; whoever still fetches renews it. The others
wait until a message says that it has ended, or a look finds it so.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from proxy.storage.cache_keys import CacheKeys
from proxy.storage.errors import StoreError
from proxy.storage.script import load_script
from proxy.telemetry.cache_instruments import CacheStoreMetrics

if TYPE_CHECKING:
    from proxy.storage.redis import Redis

_RELEASE: Final = load_script("cache_release")
_RENEW: Final = load_script("cache_renew")
_WAIT: Final = load_script("cache_wait", reads_only=True)  # its writes may fail

_FIRST_PAUSE: Final = 0.05
_LAST_PAUSE: Final = 0.5
"""Seconds between two looks at a lease; they double. A message usually comes before."""
_SECOND_RELEASE: Final = 0.1
_RENEWALS: Final = 3
"""In the life of a lease: two may fail."""
_LONGEST: Final = 600.0
"""Seconds after which a lease is renewed no more."""


class _Hold:
    """A lease that is renewed."""

    __slots__ = ("ends_at", "life", "timer", "token")

    def __init__(self, token: bytes, life: float, ends_at: float) -> None:
        self.token = token
        self.life = life
        self.ends_at = ends_at
        self.timer: asyncio.TimerHandle | None = None


class Leases:
    """Leases are taken where something is looked up, and end where it is stored; see the scripts."""

    def __init__(self, redis: "Redis", keys: CacheKeys, metrics: CacheStoreMetrics) -> None:
        self._redis = redis
        self._keys = keys
        self._metrics = metrics
        self._waiters: dict[bytes, set[asyncio.Future[None]]] = {}
        self._holds: dict[bytes, _Hold] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- for those who wait ---

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
        """Look first: the lease may have ended before anybody listened. Of two holders only the first is waited for."""
        lease, pause, first = self._keys.lease(key), _FIRST_PAUSE, b""
        while True:
            try:
                holder = await self._redis.run(_WAIT, (lease,), ())
            except StoreError:
                return "error"
            if not holder or holder != (first or holder):
                return "woken"
            first = holder
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

    # --- for the one who holds it ---

    def hold(self, key: bytes, token: bytes, life: float) -> None:
        """Renew a lease of `life` seconds in good time, until it is given back or somebody else has it."""
        self.let_go(key)
        hold = self._holds[key] = _Hold(token, life, asyncio.get_running_loop().time() + _LONGEST)
        self._renew_later(key, hold)

    def let_go(self, key: bytes, token: bytes = b"") -> None:
        """Renew the lease of the key no more; with `token`, only if it is that one."""
        hold = self._holds.get(key)
        if hold is not None and token in (b"", hold.token):
            del self._holds[key]
            if hold.timer is not None:
                hold.timer.cancel()

    def _renew_later(self, key: bytes, hold: _Hold) -> None:
        loop = asyncio.get_running_loop()
        hold.timer = loop.call_later(hold.life / _RENEWALS, lambda: self._spawn(self._renew(key, hold)))

    async def _renew(self, key: bytes, hold: _Hold) -> None:
        is_held = True
        if self._redis.is_available:
            with contextlib.suppress(StoreError):
                args = hold.token, round(hold.life * 1000)
                is_held = await self._redis.run(_RENEW, (self._keys.lease(key),), args) == 1
        if self._holds.get(key) is not hold:
            return
        if is_held and asyncio.get_running_loop().time() < hold.ends_at:
            self._renew_later(key, hold)
        else:
            del self._holds[key]

    async def release(self, key: bytes, token: bytes) -> bool:
        """End the lease if it still has that token; whether it had. Never raises StoreError."""
        self.let_go(key, token)
        if self._redis.is_available:
            with contextlib.suppress(StoreError):
                return bool(
                    await self._redis.run(_RELEASE, (self._keys.lease(key),), (token, self._keys.wakes, key)) == 1
                )
        return False

    def release_later(self, key: bytes, token: bytes) -> None:
        """`release`, for who has been cancelled while a lease was taken."""
        self._spawn(self._release_twice(key, token))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _release_twice(self, key: bytes, token: bytes) -> None:
        """What was cancelled went out on another connection: Redis may see it after the first attempt."""
        if not await self.release(key, token):
            await asyncio.sleep(_SECOND_RELEASE)
            await self.release(key, token)
