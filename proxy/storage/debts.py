"""Redis's side of purges: generations are changed there and all instances told, at once or as soon as it can be."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from proxy.exchange import Exchange
from proxy.protocol.caching.stored import Validity
from proxy.protocol.caching.tags import ALL
from proxy.storage.cache_keys import CacheKeys
from proxy.storage.errors import StoreError
from proxy.storage.pending import Change, Pending
from proxy.storage.purge_messages import write_message
from proxy.storage.script import load_script
from proxy.telemetry.cache_instruments import CacheStoreMetrics

if TYPE_CHECKING:
    from proxy.storage.redis import Redis

log = logging.getLogger("tidegate.cache")

_PURGE: Final = load_script("cache_purge")
_SERVER: Final = load_script("cache_server")

_BATCH: Final = 200
"""Tags in one call."""
_FIRST_PAUSE: Final = 0.05
_LAST_PAUSE: Final = 0.5
"""Seconds before another attempt at what Redis did not take; they double. The shortest is half of each."""
_SERVER_LIFE: Final = 400 * 86_400


class Debts:
    """Tells Redis of purges; keeps in `pending` what it did not take, and pays as soon as Redis is back.

    `sender` is how messages are known to be ours. Nothing is paid before `start`.
    """

    def __init__(
        self,
        redis: "Redis",
        keys: CacheKeys,
        pending: Pending,
        sender: bytes,
        *,
        random: Callable[[], float],
        metrics: CacheStoreMetrics,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._pending = pending
        self._sender = sender
        self._random = random
        self._metrics = metrics
        self._due = asyncio.Event()
        self._nudged = asyncio.Event()
        self._paid = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # --- life ---

    def start(self) -> None:
        """Begin by looking which server it is."""
        self.doubt()
        self._task = asyncio.get_running_loop().create_task(self._supervise())

    async def close(self) -> None:
        """Pay what can be paid now, and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        with contextlib.suppress(StoreError):
            await self._settle()

    async def wait(self) -> None:
        """Until nothing is owed."""
        await self._paid.wait()

    # --- what others ask for ---

    async def change(self, tags: Sequence[str], validity: Validity, exchange: Exchange | None) -> bool:
        """Change the generations of these tags; `pending.began` has been called with them. Whether it was done now."""
        done = False
        try:
            if self._pending.is_empty and self._redis.is_available:
                for first in range(0, len(tags), _BATCH):
                    await self._send([(tag, validity) for tag in tags[first : first + _BATCH]], exchange)
                done = True
        except StoreError:
            pass
        except Exception:
            log.exception("Bug: Redis was not told of a purge; it is tried again")
        finally:
            if not done:
                self._pending.owe(tags, validity)
                self._metrics.pending = len(self._pending)
                self._wake()
            self._pending.ended(tags)
        return done

    def doubt(self) -> None:
        """The connection was lost: what answers from now on may be another server, or know less than it did."""
        self._pending.raise_doubt()
        self._wake()
        self._nudged.set()

    def _wake(self) -> None:
        self._paid.clear()
        self._due.set()

    # --- payment ---

    async def _supervise(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._pay()
            except Exception:
                log.exception("Bug: purges that Redis has not taken are tried again")
                self._due.set()
                await asyncio.sleep(_LAST_PAUSE)

    async def _pay(self) -> None:
        pause = _FIRST_PAUSE
        while not self._pending.is_empty:
            self._nudged.clear()
            try:
                await self._settle()
            except StoreError:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause * (0.5 + 0.5 * self._random())):
                        await self._nudged.wait()
                pause = min(2 * pause, _LAST_PAUSE)
        self._paid.set()

    async def _settle(self) -> None:
        """Pay everything, in order. Raises StoreError."""
        pending = self._pending
        while not pending.is_empty:
            if not self._redis.is_available:
                raise StoreError("unavailable")
            if doubt := pending.doubt:
                await self._redis.run(
                    _SERVER, (self._keys.server, *self._keys.generations((ALL,))), (_SERVER_LIFE * 1000,)
                )
                pending.settle(doubt)
            items = pending.first(_BATCH)
            if items:
                await self._send([change for change, _ in items], None)
                pending.paid(items)
                self._metrics.pending = len(pending)

    async def _look_who_it_is(self) -> None:
        keys = (self._keys.server, *self._keys.generations((ALL,)))
        await self._redis.run(_SERVER, keys, (_SERVER_LIFE * 1000,))

    async def _send(self, changes: Sequence[Change], exchange: Exchange | None) -> None:
        """One call of Redis. Raises StoreError."""
        await self._redis.run(
            _PURGE,
            self._keys.generations([tag for tag, _ in changes]),
            (
                secrets.token_bytes(16),
                "".join(str(int(validity)) for _, validity in changes),
                self._keys.purges,
                write_message(self._sender, changes),
            ),
            exchange,
        )
