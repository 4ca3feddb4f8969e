"""The cache as a layer: answers from what is stored, and has it fetched where it is not, once for all who ask."""

import asyncio
from collections.abc import Callable
from typing import Final

from proxy.errors import NotCached
from proxy.exchange import Exchange, Response
from proxy.policies.caching.fetching import Fetching, passed_on
from proxy.policies.caching.filling import Filling
from proxy.policies.caching.look import Look
from proxy.policies.caching.lookups import Lookups
from proxy.policies.caching.starts import Starts
from proxy.policies.caching.user import user_reader
from proxy.protocol.caching.directives import request_directives
from proxy.protocol.caching.keys import NO_USER, CacheKey, KeyMaker, Unkeyed
from proxy.protocol.caching.status_field import forwarded
from proxy.protocol.fields import CONDITION, DIRECTIVES
from proxy.storage.memory import Entry

_SPECIAL: Final = DIRECTIVES | CONDITION
_NOT_CACHED: Final = "There is no stored response that this request may be answered with."


class Cache:
    """Around everything that costs the upstream something."""

    __slots__ = ("_fetching", "_inner", "_lookups", "_make_key", "_memory", "_metrics", "_purges", "_user")

    def __init__(
        self, filling: Filling, maker: KeyMaker, *, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        starts = Starts(filling, loop, clock)
        self._inner = filling.inner
        self._memory = filling.memory
        self._purges = filling.store.purges
        self._metrics = filling.metrics
        self._make_key = maker.make
        self._user = user_reader(filling.config.per_user)
        self._lookups = Lookups(filling, starts, clock)
        self._fetching = Fetching(filling, starts, self._lookups)

    async def handle(self, exchange: Exchange) -> Response:
        """Answer from the cache, or pass the exchange on. Raises ProxyError, NotCached among them."""
        request = exchange.request
        if request.method != "GET" or request.body is not None or request.upgrade:
            return await self._unusual(exchange)
        key = self._key(exchange)
        if isinstance(key, Unkeyed):
            return await self._bypass(exchange, key.reason)
        entry = self._memory.find(key.digest, request.fields)
        if entry is not None and not request.fields.kinds & _SPECIAL:
            now = exchange.wall_started
            if now < entry.refresh_at and not entry.validity and self._purges.gap_since is None:
                metrics = self._metrics
                metrics.hits += 1
                metrics.recent.append(1)
                metrics.served_bytes += len(entry.stored.body)
                exchange.cache_outcome = "hit"
                answer: Response = entry.delivery.fresh_get(now)
                return answer
        return await self._look(exchange, key, entry)

    def _key(self, exchange: Exchange) -> CacheKey | Unkeyed:
        request = exchange.request
        if self._user is None:
            return self._make_key(request.authority, exchange.scheme, request.path, request.query, exchange.params)
        user = self._user(exchange)
        if user is None:
            return NO_USER
        return self._make_key(request.authority, exchange.scheme, request.path, request.query, exchange.params, user)

    # --- what is looked up ---

    async def _look(self, exchange: Exchange, key: CacheKey, entry: Entry | None) -> Response:
        look = self._lookups.look(exchange, key, entry)
        return self._from_memory(exchange, look) or await self._fetching.fetch(exchange, look)

    async def _head(self, exchange: Exchange, key: CacheKey) -> Response:
        """A HEAD: answered from a stored GET, else passed on; what comes may show that what is stored is outdated."""
        look = self._lookups.look(exchange, key, self._memory.find(key.digest, exchange.request.fields))
        return self._from_memory(exchange, look) or await self._fetching.alone(exchange, look)

    def _from_memory(self, exchange: Exchange, look: Look) -> Response | None:
        """Raises NotCached when there is nothing, and nothing else is wanted."""
        answer = self._lookups.answer(exchange, look)
        if answer is None and look.directives.only_if_cached:
            self._lookups.count(exchange, "miss")
            raise NotCached(_NOT_CACHED)
        return answer

    # --- what is not looked up ---

    async def _unusual(self, exchange: Exchange) -> Response:
        request = exchange.request
        if request.upgrade:
            return await self._inner.handle(exchange)
        if request.method not in ("GET", "HEAD"):
            return await self._bypass(exchange, "method")
        if request.body is not None:
            return await self._bypass(exchange, "body")
        key = self._key(exchange)
        if isinstance(key, Unkeyed):
            return await self._bypass(exchange, key.reason)
        return await self._head(exchange, key)

    async def _bypass(self, exchange: Exchange, reason: str) -> Response:
        if not exchange.is_internal:
            self._metrics.bypassed("enforce", reason)
        exchange.cache_outcome = "bypass"
        if reason == "method":
            status = forwarded("method")
        else:
            status = forwarded("bypass", detail=reason)
            fields = exchange.request.fields
            if fields.kinds & DIRECTIVES and request_directives(fields.raw).only_if_cached:
                raise NotCached(_NOT_CACHED)
        return await self._pass(exchange, status)

    async def _pass(self, exchange: Exchange, status: bytes) -> Response:
        response = await self._inner.handle(exchange)
        response.headers = passed_on(response, status)
        return response
