"""The client of Redis: the only way to it, made so that nobody waits for long when it is gone.

One request spends at most `redis.timeout` on Redis, whatever it asks and however often. A server that fails is left
alone by all (StoreGuard), and tried again once or twice a second by one task, never by a request. Every caller has its
own answer to a StoreError.
"""

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import Callable, Coroutine, Sequence
from hashlib import blake2b
from math import inf
from typing import TYPE_CHECKING, Any, Final

from proxy.config.policies import RedisConfig
from proxy.exchange import Exchange
from proxy.storage.errors import REFUSING, UNREACHABLE, StoreError
from proxy.storage.instances import INTERVAL, Instances
from proxy.storage.patience import Patience
from proxy.storage.script import Script, load_script
from proxy.storage.subscription import Subscription
from proxy.telemetry.instruments import RedisMetrics

if TYPE_CHECKING:
    from proxy.storage.connections import Node

__all__ = ["Redis", "Script", "StoreError", "load_script"]

log = logging.getLogger("tidegate.redis")

TICK: Final = 1.0
"""Longest time, in seconds, between two looks at a server that is left alone; the shortest is half of it."""

MIN_TIME: Final = 0.001
"""Seconds below which nothing is tried: no answer would be there in time."""

Word = bytes | int | str
_PLAIN: Final = re.compile(rb"[0-9A-Za-z_.-]{1,64}")


class Redis:
    """`clock` is monotonic seconds, `random` returns numbers in [0, 1). Nothing is tried before `start`.

    `instances` is how many share it as far as is known without it.
    """

    def __init__(
        self,
        config: RedisConfig,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        metrics: RedisMetrics,
        instances: int = 1,
    ) -> None:
        from proxy.storage import failures, servers  # not before it is needed: redis-py takes long to import

        self._timeout = config.timeout
        self._clock = clock
        self._random = random
        self._metrics = metrics
        self._failures = failures.FAILURES
        self._store_error = failures.store_error
        self._servers = servers.open_servers(config, random)
        for node in self._servers.nodes:
            node.reach.open(clock())
        self._address = str(config.url)  # without its password
        self._prefix = config.prefix.encode()
        self._reason = ""
        self._is_lost = False
        self._is_refused = False
        self._next_beat = -inf
        self._watcher: asyncio.Task[None] | None = None
        self.instances = Instances(self.run, self.key("instances"), secrets.token_hex(8).encode(), instances)

    # --- life ---

    async def start(self) -> None:
        """Look whether Redis is there, for three times `redis.timeout` at most, and go on looking.

        Never fails. Does nothing when it has been started.
        """
        if self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
            await self._look_on()

    async def close(self) -> None:
        """Sign off and close all connections. Calls that are under way end as they are."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        if self.is_available:
            await self.instances.leave()
        for node in self._servers.nodes:
            node.reach.open(self._clock())
        await self._servers.close()

    # --- use ---

    @property
    def is_available(self) -> bool:
        """Whether there is any point in asking. False while Redis is left alone."""
        for node in self._servers.nodes:
            if not node.reach.is_open and (not node.writes.is_open or node.writes.is_due(self._clock())):
                return True
        return False

    def key(self, *parts: bytes | str) -> bytes:
        """The name of a key of ours. A part that is not plainly a word is hashed, so that none can pass for two."""
        return b":".join((self._prefix, *map(_key_part, parts)))

    async def run(
        self, script: Script, keys: Sequence[bytes], args: Sequence[Word], exchange: Exchange | None = None
    ) -> Any:
        """Run a script, in one round trip, in what `exchange` has left of its time for Redis. Raises StoreError.

        All keys must be in one slot of a cluster. When it is cancelled, its connection is closed.
        """
        began = self._clock()
        limit, is_cut = self._limit(exchange, began)
        try:
            node = self._admit(script, keys[0], limit, began)
        except StoreError as error:
            self._metrics.ended(script.name, error.outcome, 0.0)
            raise
        work = self._servers.evaluate(node, script, keys, args)
        try:
            return await self._ask(script.name, node, work, limit, is_cut=is_cut, writes=not script.reads_only)
        finally:
            if exchange is not None:
                exchange.store_seconds += self._clock() - began

    def subscribe(self, *channels: bytes) -> Subscription:
        """Messages of these channels, on a connection of their own; the caller starts and closes it."""
        return Subscription(self._servers.subscriber, channels, timeout=self._timeout, random=self._random)

    def _limit(self, exchange: Exchange | None, now: float) -> tuple[float, bool]:
        """How long a call may take, and whether it is the deadline that says so, which is not Redis's fault."""
        if exchange is None:
            return self._timeout, False
        limit = self._timeout - exchange.store_seconds
        if exchange.deadline is not None and exchange.deadline - now < limit:
            return exchange.deadline - now, True
        return limit, False

    def _admit(self, script: Script, key: bytes, limit: float, now: float) -> "Node":
        if limit < MIN_TIME:
            raise StoreError("no_time")
        node = self._servers.owner(key)
        if node.reach.is_open or not (script.reads_only or node.writes.allows(now)):
            raise StoreError("unavailable")
        return node

    async def _ask(
        self,
        operation: str,
        node: "Node",
        work: Coroutine[Any, Any, Any],
        limit: float,
        *,
        is_cut: bool = False,
        writes: bool = False,
    ) -> Any:
        """Await `work`, which asks `node`, for `limit` seconds; draw the conclusions. Raises StoreError."""
        began = self._clock()
        outcome = "cancelled"
        try:
            async with Patience(limit):
                answer = await work
            outcome = "ok"
        except self._failures as failure:
            error = self._store_error(failure)
            outcome = error.outcome
            raise error from None
        finally:
            self._metrics.ended(operation, outcome, self._clock() - began)
            if not (is_cut and outcome == "timeout"):
                await self._conclude(node, outcome, began, writes=writes)
        return answer

    # --- what is known of the servers ---

    async def _conclude(self, node: "Node", outcome: str, began: float, *, writes: bool) -> None:
        """Learn from how a call ended. Waits for nothing."""
        if outcome in ("cancelled", "unavailable"):
            return
        changed = False
        if outcome in UNREACHABLE:
            if changed := node.reach.failed(self._clock()):
                node.give_up()
                await node.drop_idle()
        else:
            changed = node.reach.succeeded(began)
            if outcome in REFUSING:
                changed |= node.writes.failed(self._clock())
            elif outcome == "ok" and writes:
                changed |= node.writes.succeeded(began)
            if outcome == "readonly":
                await node.drop_idle()  # another server may have the name by now
        if outcome != "ok":
            self._reason = outcome
        if changed:
            self._report()

    def _report(self) -> None:
        """One line in the log for each loss and each return."""
        nodes = self._servers.nodes
        lost = not nodes or any(node.reach.is_open for node in nodes)
        refused = any(node.writes.is_open for node in nodes)
        self._metrics.up = any(not node.reach.is_open for node in nodes)
        details = {"redis": self._address, "reason": self._reason}
        if lost and not self._is_lost:
            log.warning("Redis does not answer: this instance goes on by itself", extra=details)
        elif self._is_lost and not lost:
            log.info("Redis answers again", extra={"redis": self._address})
        if refused and not self._is_refused:
            log.warning("Redis takes no writes: this instance goes on by itself", extra=details)
        elif self._is_refused and not refused:
            log.info("Redis takes writes again", extra={"redis": self._address})
        self._is_lost, self._is_refused = lost, refused

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK * (0.5 + 0.5 * self._random()))
            await self._look_on()

    async def _look_on(self) -> None:
        """One look, whatever comes of it."""
        try:
            await self._look()
        except Exception:
            log.exception("Bug: the watch over Redis goes on")

    async def _look(self) -> None:
        """Try the servers that are left alone, and say that this instance is there."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._servers.refresh()
        except self._failures as failure:
            self._reason = self._store_error(failure).outcome
        for node in self._servers.nodes:
            if node.reach.is_open:
                with contextlib.suppress(StoreError):
                    await self._ask("ping", node, node.call(b"PING"), self._timeout)
        if self._clock() >= self._next_beat and self.is_available:
            with contextlib.suppress(StoreError):
                await self.instances.beat()
                self._next_beat = self._clock() + INTERVAL - TICK / 2
        self._metrics.instances = self.instances.count
        self._report()


def _key_part(part: bytes | str) -> bytes:
    raw = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
    return raw if _PLAIN.fullmatch(raw) else b"~" + blake2b(raw, digest_size=16).hexdigest().encode()
