"""Runtime: everything that one configuration stands for. A reload builds a new one and swaps a single reference."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from time import time
from typing import TYPE_CHECKING

from proxy.config.model import Config, RouteConfig
from proxy.exchange import Handler
from proxy.layers import Clock, Parts
from proxy.outbox import Outbox
from proxy.pipeline import AboutItself, Refuse, build_bare, build_handler, build_refusing, build_warming
from proxy.policies.caching.fills import Fills
from proxy.policies.caching.key_maker import key_maker
from proxy.policies.caching.store import CacheStore
from proxy.policies.caching.targets import Targets
from proxy.policies.fallback_steps import build_steps
from proxy.protocol.caching.stored import Validity
from proxy.protocol.caching.tags import route_tag
from proxy.protocol.forwarded import ClientAddress
from proxy.resilience.refresh_budget import RefreshBudget
from proxy.routing import Router
from proxy.state_registry import StateRegistry
from proxy.storage.generations import Generations
from proxy.storage.memory import Memory
from proxy.storage.purges import Purges
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.metrics import UNMATCHED
from proxy.telemetry.registry import Metrics
from proxy.telemetry.transitions import Transitions
from proxy.upstream.client import Upstream

if TYPE_CHECKING:
    from proxy.storage.redis import Redis

UNMATCHED_ROUTE = RouteConfig(name=UNMATCHED, match=(), upstream="")


@dataclass(frozen=True, slots=True)
class Resources:
    """What outlives every configuration."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    random: Random
    metrics: Metrics
    outbox: Outbox
    states: StateRegistry
    transitions: Transitions
    wall: Clock = time
    """Unix seconds, for the cache: what HTTP says about times is in those."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """An immutable snapshot; each exchange sees exactly one."""

    config: Config
    router: Router[Handler]
    refusing: Mapping[str, Handler]
    """By route: answers what the edge refuses before the route's policies."""
    unmatched: Handler
    """Answers what has no route, or not even a valid head."""
    about_itself: Handler
    """Answers `OPTIONS *`."""
    upstreams: Mapping[str, Upstream]
    redis: "Redis | None"
    cache: CacheStore | None
    """None: no route has a cache."""
    targets: Targets
    warming: Mapping[str, Handler]
    """By route, of those that have a cache: what answers requests of our own."""
    clients: ClientAddress
    hosts: frozenset[str]
    max_head: int
    access_log: AccessLog
    changes: tuple[str, ...]
    """What became of the state of the policies, compared with the configuration before; a line each."""

    @classmethod
    def build(
        cls, config: Config, resources: Resources, access_log: AccessLog, previous: "Runtime | None" = None
    ) -> "Runtime":
        """Compile `config`. What did not change is taken over: upstreams, Redis, and all state of the policies.

        Raises OSError when a file that the configuration names cannot be read; nothing has changed then.
        """
        upstreams = _upstreams(config, resources, previous)
        redis = _redis(config, resources, previous)
        # All that can fail comes before the state of the policies is touched.
        fallbacks = {
            route.name: build_steps(route.fallback, upstreams.__getitem__, resources.clock, resources.wall)
            for route in config.routes
            if route.fallback is not None
        }
        resources.states.begin()
        makers = {route.name: maker for route in config.routes if (maker := key_maker(route)) is not None}
        cache = _cache(config, resources, redis, previous) if makers else None
        targets = Targets(makers)
        parts = Parts(
            loop=resources.loop,
            clock=resources.clock,
            random=resources.random.random,
            metrics=resources.metrics,
            access_log=access_log,
            slow=config.server.slow_request,
            states=resources.states,
            transitions=resources.transitions,
            redis=redis,
            redis_config=config.redis,
            workers=config.server.workers,
            upstreams=upstreams,
            fallbacks=fallbacks,
            cache=cache,
            makers=makers,
            targets=targets,
        )
        router = Router([(route, build_handler(route, parts)) for route in config.routes])
        targets.bind(router)
        return cls(
            config=config,
            router=router,
            refusing={route.name: build_refusing(route, parts) for route in config.routes},
            unmatched=build_bare(UNMATCHED_ROUTE, Refuse(), parts),
            about_itself=build_bare(UNMATCHED_ROUTE, AboutItself(), parts),
            upstreams=upstreams,
            redis=redis,
            cache=cache,
            targets=targets,
            warming={route.name: build_warming(route, parts) for route in config.routes if route.cache is not None},
            clients=ClientAddress(config.server.trusted_proxies),
            hosts=frozenset(config.server.hosts),
            max_head=config.server.limits.max_head,
            access_log=access_log,
            changes=tuple(resources.states.commit()),
        )

    async def start(self) -> None:
        """Begin what runs beside the exchanges: the health checks of the upstreams that are new, and Redis."""
        for upstream in self.upstreams.values():
            upstream.start()
        if self.redis is not None:
            await self.redis.start()
        if self.cache is not None:
            await self.cache.start()

    async def close(self, successor: "Runtime | None" = None) -> None:
        """Let go of what the successor did not take over; exchanges under way end as they are."""
        if successor is not None:
            self._give_up_caches(successor)
        if self.cache is not None and (successor is None or successor.cache is not self.cache):
            if successor is not None and successor.cache is None:
                await self.cache.fills.finish()
            await self.cache.close(ends_fills=successor is None or successor.cache is None)
        kept = set() if successor is None else set(map(id, successor.upstreams.values()))
        await asyncio.gather(*(u.close() for u in self.upstreams.values() if id(u) not in kept))
        if self.redis is not None and (successor is None or successor.redis is not self.redis):
            await self.redis.close()

    def _give_up_caches(self, successor: "Runtime") -> None:
        """Changes to what a route without a cache serves outdate nothing, so it does not come back with the cache."""
        lost = [route_tag(name) for name in self.warming if name not in successor.warming]
        if self.cache is not None and lost:
            self.cache.purges.begin(lost, Validity.GONE, cause="reload")


def _upstreams(config: Config, resources: Resources, previous: Runtime | None) -> dict[str, Upstream]:
    upstreams = {}
    for name, upstream in config.upstreams.items():
        if previous is not None and previous.config.upstreams.get(name) == upstream:
            upstreams[name] = previous.upstreams[name]
        else:
            upstreams[name] = Upstream(
                upstream,
                loop=resources.loop,
                observer=resources.metrics.upstream(name),
                random=resources.random,
                outbox=resources.outbox,
            )
    return upstreams


def _redis(config: Config, resources: Resources, previous: Runtime | None) -> "Redis | None":
    if config.redis is None:
        return None
    if previous is not None and previous.config.redis == config.redis:
        return previous.redis
    from proxy.storage.redis import Redis  # half of the start-up time of all other imports together

    known = previous.redis.instances.count if previous is not None and previous.redis is not None else 1
    return Redis(
        config.redis,
        clock=resources.clock,
        random=resources.random.random,
        metrics=resources.metrics.redis(),
        instances=max(known, config.server.workers),
    )


def _cache(config: Config, resources: Resources, redis: "Redis | None", previous: Runtime | None) -> CacheStore:
    """What is stored stays, and so do the fills under way; word of changes goes through the Redis that is in force."""
    settings, share = config.cache, config.server.workers

    generations = Generations()

    def memory(mode: str) -> Memory:
        def make() -> Memory:
            return Memory(settings.max_bytes, settings.max_entries, generations, share=share, wall=resources.wall)

        return resources.states.get("cache", "memory", mode, settings, make)

    enforced = memory("enforce")
    generations = enforced.generations  # those of a memory that is there already
    shadow = memory("shadow")
    before = None if previous is None else previous.cache
    if previous is not None and before is not None and previous.redis is redis and previous.config.cache == settings:
        return before
    random, metrics = resources.random.random, resources.metrics.cache_store
    shared = None
    if redis is not None and config.redis is not None:
        from proxy.storage.shared_cache import SharedCache  # with Redis, which takes long to import

        shared = SharedCache(
            redis,
            prefix=config.redis.prefix,
            compress_above=settings.compress_above,
            random=random,
            wall=resources.wall,
            metrics=metrics,
            pending=before.shared.pending if before is not None and before.shared is not None else None,
        )
    return CacheStore(
        memory=enforced,
        shadow=shadow,
        generations=generations,
        shared=shared,
        purges=Purges(
            generations,
            enforced,
            shared,
            redis,
            max_gap=settings.max_gap,
            wall=resources.wall,
            random=random,
            metrics=metrics,
        ),
        fills=before.fills if before is not None else Fills(resources.loop, resources.clock, resources.wall),
        refreshes=RefreshBudget(),
        wall=resources.wall,
        random=random,
    )
