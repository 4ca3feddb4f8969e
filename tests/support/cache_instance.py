"""One instance's view of the cache: its memory, the level in Redis, and its purges, without anything around them."""

import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from proxy.protocol.caching.stored import StoredResponse, Terms, Validity
from proxy.protocol.caching.vary import variant_of
from proxy.protocol.headers import RawHeaders
from proxy.protocol.request_checks import CheckedFields
from proxy.storage.generations import Generations
from proxy.storage.memory import Entry, Memory
from proxy.storage.pending import Pending
from proxy.storage.purges import Purges
from proxy.storage.shared_cache import Found, SharedCache
from proxy.telemetry.cache_instruments import CacheStoreMetrics
from tests.support.redis_client import Client, running_client

KEY = b"0123456789abcdef"
TAGS = ("property:1", "property", "route=detail", "uri=00", "*")


def stored(
    body: bytes = b"body",
    *,
    tags: tuple[str, ...] = TAGS,
    vary: tuple[bytes, ...] = (),
    fields: RawHeaders = (),
    lifetime: float = 60.0,
    date: float | None = None,
) -> StoredResponse:
    """A response to a request with these fields."""
    at = time.time() if date is None else date
    terms = Terms("", date=at, born=at, lifetime=lifetime, vary=vary, etag=b'"1"')
    own = ((b"Content-Type", b"text/plain"), (b"ETag", b'"1"'))
    return StoredResponse(200, b"OK", own, body, terms, variant=variant_of(vary, fields), tags=tags)


class CacheInstance:
    """Made by `cache_instance`. Its methods are what the cache does with its levels, in short."""

    def __init__(
        self,
        client: Client | None,
        *,
        wall: Callable[[], float],
        prefix: str,
        shares: bool = True,
        pending: Pending | None = None,
    ) -> None:
        self.redis = None if client is None else client.redis
        self.metrics = CacheStoreMetrics()
        self.generations = Generations()
        self.memory = Memory(2**24, 10_000, self.generations, wall=wall)
        self.wall = wall
        self.shared: SharedCache | None = None
        if self.redis is not None and shares:
            self.shared = SharedCache(
                self.redis,
                prefix=prefix,
                compress_above=4096,
                random=random.random,
                wall=wall,
                metrics=self.metrics,
                pending=pending,
            )
        self.purges = Purges(
            self.generations,
            self.memory,
            self.shared,
            self.redis,
            max_gap=10.0,
            wall=wall,
            random=random.random,
            metrics=self.metrics,
        )

    @property
    def level2(self) -> SharedCache:
        """The level in Redis."""
        assert self.shared is not None
        return self.shared

    async def find(
        self,
        key: bytes = KEY,
        fields: RawHeaders = (),
        *,
        tags: tuple[str, ...] = TAGS,
        names: tuple[tuple[bytes, ...], ...] = (),
        lease: float = 0.0,
        exchange: Any = None,
    ) -> Found:
        """Look in Redis."""
        return await self.level2.find(key, names, fields, tags, exchange, lease=lease)

    async def body(self, key: bytes = KEY, fields: RawHeaders = (), **options: Any) -> bytes | None:
        """What Redis has that is VALID."""
        found = await self.find(key, fields, **options)
        return found.stored.body if found.stored is not None and found.validity is Validity.VALID else None

    async def fill(self, response: StoredResponse, key: bytes = KEY, keep: float = 60.0) -> bool:
        """Look, miss, and store in Redis."""
        found = await self.find(key, tags=response.tags)
        return await self.level2.put(key, response, found.marks, keep)

    def remember(self, response: StoredResponse, key: bytes = KEY) -> Entry | None:
        """Store in memory."""
        return self.memory.put(key, response, self.generations.sequence, max_variants=8)

    def remembered(self, key: bytes = KEY) -> Entry | None:
        """What memory has and may be used."""
        entry = self.memory.find(key, CheckedFields([]))
        return entry if entry is not None and entry.validity is Validity.VALID else None

    def shared_outcomes(self, operation: str) -> dict[str, int]:
        """How the calls of one kind have ended."""
        return {outcome: count for (each, outcome), count in self.metrics.shared.items() if each == operation}


@contextlib.asynccontextmanager
async def cache_instance(
    url: str,
    *,
    wall: Callable[[], float] = time.time,
    prefix: str = "tidegate",
    starts: bool = True,
    shares: bool = True,
    timeout: float = 5.0,
    pending: Pending | None = None,
) -> AsyncIterator[CacheInstance]:
    """A started instance on the server at `url`. Without `starts` it hears of no purges; `shares`: responses, too."""
    async with running_client(url, timeout=timeout, prefix=prefix) as client:
        instance = CacheInstance(client, wall=wall, prefix=prefix, shares=shares, pending=pending)
        if starts:
            await instance.purges.start()
        try:
            yield instance
        finally:
            await instance.purges.close()
