"""Purges and invalidations: here at once, then in the other workers, then in Redis, which tells the other instances.

Redis keeps no message for who does not listen. From the moment messages may be missed there is a gap: what is in memory
is used on for a short while only, and when messages arrive again, all that was stored before is dropped.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from proxy.exchange import Exchange
from proxy.protocol.caching.stored import Validity
from proxy.protocol.caching.tags import ALL
from proxy.storage.cache_keys import CacheKeys
from proxy.storage.debts import Debts
from proxy.storage.generations import Generations
from proxy.storage.memory import Memory
from proxy.storage.pending import Pending
from proxy.storage.purge_messages import read_message
from proxy.storage.subscription import Gap, Message, Subscription
from proxy.telemetry.cache_instruments import CacheStoreMetrics

if TYPE_CHECKING:
    from proxy.storage.redis import Redis
    from proxy.storage.shared_cache import SharedCache

log = logging.getLogger("tidegate.cache")

Tell = Callable[[Sequence[str], int], Awaitable[None]]

TELL_WITHIN: Final = 0.05
"""Seconds that the other workers have to hear of a purge."""
START_WITHIN: Final = 0.25
"""Seconds that `start` waits for Redis at most."""
_TURN: Final = 100
"""Messages that are taken before others get their turn of the event loop."""


class Purges:
    """`wall` gives Unix seconds, `random` numbers in [0, 1). Without `redis` there is nobody to tell but workers."""

    def __init__(
        self,
        generations: Generations,
        memory: Memory,
        shared: "SharedCache | None",
        redis: "Redis | None",
        *,
        max_gap: float,
        wall: Callable[[], float],
        random: Callable[[], float],
        metrics: CacheStoreMetrics,
    ) -> None:
        self._generations = generations
        self._memory = memory
        self._shared = shared
        self._wall = wall
        self._metrics = metrics
        self._sender = secrets.token_hex(8).encode()
        self._subscription: Subscription | None = None
        self._listener: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[bool]] = set()
        self._listens = asyncio.Event()
        self._debts: Debts | None = None
        self.pending = Pending() if shared is None else shared.pending
        """What Redis has not taken yet."""
        self.tell: Tell | None = None
        """Tells the other workers of a purge: its tags and its level."""
        self.max_gap = max_gap
        """Seconds that a response in memory is used on during a gap."""
        self.gap_since: float | None = None
        """Unix time of the last sign that word from others gets through; None: it does, or there are no others."""
        if redis is not None:
            keys = CacheKeys(redis.key("cache")) if shared is None else shared.keys
            self._debts = Debts(redis, keys, self.pending, self._sender, random=random, metrics=metrics)
            self._subscription = redis.subscribe(keys.purges, keys.wakes)
            self._subscription.on_loss = self._lost
            self._wakes = keys.wakes
            if shared is not None:
                shared.on_doubt = self._debts.doubt

    # --- life ---

    async def start(self) -> None:
        """Listen, and look what Redis is; waits for that, but not for long, and never fails."""
        self._metrics.gap, self._metrics.pending = False, len(self.pending)
        if self._subscription is None or self._debts is None:
            return
        self._lost(0.0)
        self._debts.start()
        self._subscription.start()
        self._listener = asyncio.get_running_loop().create_task(self._listen(self._subscription))
        try:
            async with asyncio.timeout(START_WITHIN):
                await self._listens.wait()
                await self._debts.wait()
        except TimeoutError:
            log.debug("the cache goes on without Redis")

    async def close(self) -> None:
        """Let purges that have begun end, and stop listening."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
            self._listener = None
        if self._subscription is not None:
            await self._subscription.close()
        if self._debts is not None:
            await self._debts.close()

    # --- purging ---

    def begin(
        self, tags: Sequence[str], validity: Validity, *, cause: str, exchange: Exchange | None = None
    ) -> "asyncio.Task[bool]":
        """Purge here, at once; the task tells the others, whoever waits for it or not. True when all have taken it.

        `cause` is a fixed word for the metrics; `exchange` the one whose time for Redis is spent.
        """
        tags = tuple(dict.fromkeys(tags))
        self.heard(tags, validity)
        if self._debts is not None:
            self.pending.began(tags)
        task = asyncio.get_running_loop().create_task(self._spread(tags, validity, cause, exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def purge(
        self, tags: Sequence[str], validity: Validity, *, cause: str, exchange: Exchange | None = None
    ) -> bool:
        """`begin`, and wait for the end. A cancellation ends the waiting, not the purge."""
        return await asyncio.shield(self.begin(tags, validity, cause=cause, exchange=exchange))

    def heard(self, tags: Iterable[str], validity: Validity) -> None:
        """Something was purged: by us, by another worker or by another instance."""
        self._generations.change(tags, validity, self._wall())

    async def _spread(self, tags: Sequence[str], validity: Validity, cause: str, exchange: Exchange | None) -> bool:
        told = await self._told(tags, validity)
        took = self._debts is None or await self._debts.change(tags, validity, exchange)
        self._metrics.purged(cause, "done" if told and took else "local")
        return told and took

    async def _told(self, tags: Sequence[str], validity: Validity) -> bool:
        if self.tell is None:
            return True
        try:
            async with asyncio.timeout(TELL_WITHIN):
                await self.tell(tags, int(validity))
        except TimeoutError:
            return False
        except Exception:
            log.exception("Bug: the other workers were not told of a purge")
            return False
        return True

    # --- what others say ---

    async def _listen(self, subscription: Subscription) -> None:
        taken = 0
        while True:
            item = await subscription.next()
            try:
                self._take(item, subscription)
            except Exception:
                log.exception("Bug: a message about the cache; all that is in memory is dropped")
                self._drop_all()
            taken += 1
            if taken % _TURN == 0:
                await asyncio.sleep(0)

    def _take(self, item: Message | Gap, subscription: Subscription) -> None:
        if isinstance(item, Gap):
            self._gap_ended(item, subscription)
        elif item.channel == self._wakes:
            if self._shared is not None:
                self._shared.wake(item.data)
        else:
            message = read_message(item.data)
            if message.sender != self._sender:
                for tag, validity in message.changes:
                    self.heard((tag,), validity)

    # --- gaps ---

    def _lost(self, silent: float) -> None:
        """No message arrives any more, and none has for so many seconds."""
        if self.gap_since is None:
            self.gap_since = self._wall() - silent
            self._metrics.gap = True
        if self._debts is not None:
            self._debts.doubt()

    def _gap_ended(self, gap: Gap, subscription: Subscription) -> None:
        """Messages arrive again, unless they are lost once more by now; some have not."""
        self._drop_all()
        if gap.reason == "subscribed" and self._debts is not None:
            self._debts.doubt()
        if subscription.is_live:
            self.gap_since = None
            self._metrics.gap = False
            self._listens.set()

    def _drop_all(self) -> None:
        """Everything that is in memory, or on its way there, may have been purged without a word to us."""
        self.heard((ALL,), Validity.GONE)
        self._memory.drop_before(self._generations.sequence)
