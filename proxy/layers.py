"""Makes the layers of one route, each from its part of the configuration and with the state that outlives it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.config.model import RouteConfig
from proxy.config.policies import NamedBreaker, RateLimitConfig, RedisConfig
from proxy.config.policy_types import Mode
from proxy.exchange import Handler
from proxy.policies.body_first import BodyFirst
from proxy.policies.breaker import CircuitBreaker
from proxy.policies.bulkhead import Bulkhead
from proxy.policies.caching.cache import Cache
from proxy.policies.caching.filling import Filling, rules_of
from proxy.policies.caching.invalidate import Invalidate
from proxy.policies.caching.shadow import ShadowCache
from proxy.policies.caching.store import CacheStore
from proxy.policies.caching.targets import Targets
from proxy.policies.enforcement import ClientPlace, Layer, moded
from proxy.policies.fallback import Fallback
from proxy.policies.fallback_steps import Step
from proxy.policies.observe import Observe
from proxy.policies.rate_limit import RateLimit
from proxy.policies.response_headers import ResponseHeaders
from proxy.policies.retry import Retry
from proxy.policies.shadow_timeout import ShadowTimeouts
from proxy.policies.timeout import Attempt
from proxy.protocol.caching.invalidation import is_unsafe
from proxy.protocol.caching.keys import KeyMaker
from proxy.resilience.breaker import Breaker
from proxy.resilience.limiter import LimiterState
from proxy.resilience.permits import Permits
from proxy.resilience.retry_state import RetryState
from proxy.state_registry import StateRegistry
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.registry import Metrics
from proxy.telemetry.transitions import Transitions

if TYPE_CHECKING:
    from proxy.storage.limits import SharedLimits
    from proxy.storage.redis import Redis

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the layers of one configuration are made with."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    random: Callable[[], float]
    metrics: Metrics
    access_log: AccessLog
    slow: float | None
    """Seconds from which an exchange is logged as slow."""
    states: StateRegistry
    transitions: Transitions
    redis: "Redis | None"
    redis_config: RedisConfig | None
    workers: int
    """Processes that this one is one of."""
    upstreams: Mapping[str, Handler]
    fallbacks: Mapping[str, Sequence[Step]]
    """By route: what there is to answer with."""
    cache: CacheStore | None
    """None: no route has a cache."""
    makers: Mapping[str, KeyMaker]
    """By route, of those that have a cache."""
    targets: Targets


class Layers:
    """One method for each policy of a route; None where the route does not use it."""

    def __init__(self, route: RouteConfig, parts: Parts) -> None:
        self._route = route
        self._parts = parts
        self._metrics = parts.metrics.route(route.name)
        self._place = ClientPlace(route)

    def observe(self) -> Layer:
        """Counts, times and logs."""
        parts = self._parts
        return lambda inner: Observe(inner, self._metrics, parts.access_log, slow=parts.slow, clock=parts.clock)

    def response_headers(self) -> Layer | None:
        """Sets and removes fields."""
        edit = self._route.headers.response
        return (lambda inner: ResponseHeaders(inner, edit)) if edit.set or edit.remove else None

    def shadow_timeouts(self) -> Layer | None:
        """Lifts the limits from those for whom they are in shadow."""
        timeout = self._route.timeout
        if timeout.mode == "enforce" and timeout.enforce_percent == 1:
            return None
        clock, share = self._parts.clock, timeout.enforce_percent
        return lambda inner: ShadowTimeouts(inner, timeout, share, self._place, clock=clock)

    def rate_limits(self) -> Iterator[Layer | None]:
        """A layer for all limits that are in force for the same clients; what is in shadow comes first and sees all."""
        groups: dict[tuple[Mode, float], list[RateLimitConfig]] = {}
        for limit in self._route.rate_limit:
            groups.setdefault((limit.mode, -limit.enforce_percent), []).append(limit)
        # What is most in force has the route's name: no shadow beside it takes its counts away, wherever it is written.
        names = {
            key: self._route.name if number == 1 else f"{self._route.name}/{number}"  # no route's name has a slash
            for number, key in enumerate(sorted(groups), start=1)
        }
        for key in sorted(groups, reverse=True):
            yield self._rate_limit(names[key], tuple(groups[key]))

    def _rate_limit(self, name: str, limits: tuple[RateLimitConfig, ...]) -> Layer | None:
        parts = self._parts

        def make(mode: Mode, inner: Handler) -> Handler:
            state = parts.states.get("rate_limit", name, mode, limits, lambda: self._new_limiter(limits))
            shared = self._shared_limits(name, limits, state)
            shown = name.replace("/", "-")
            return RateLimit(inner, shown, limits, state, shared, mode=mode, clock=parts.clock, random=parts.random)

        return moded(limits[0], make, self._place)

    def _new_limiter(self, limits: tuple[RateLimitConfig, ...]) -> LimiterState:
        """With Redis each worker is an instance; without, it takes its share."""
        parts = self._parts
        return LimiterState(limits, parts.clock(), share=1 if parts.redis_config else parts.workers)

    def _shared_limits(
        self, name: str, limits: tuple[RateLimitConfig, ...], state: LimiterState
    ) -> "SharedLimits | None":
        parts, config = self._parts, self._parts.redis_config
        if parts.redis is None or config is None:
            return None
        from proxy.storage.limits import SharedLimits  # with Redis, which takes long to import

        return SharedLimits(
            parts.redis, name, limits, state, clock=parts.clock, prefix=config.prefix, timeout=config.timeout
        )

    def fallback(self) -> Layer | None:
        """Answers in place of a failure."""
        config, parts = self._route.fallback, self._parts
        if config is None:
            return None
        steps = parts.fallbacks[self._route.name]
        return moded(config, lambda mode, inner: Fallback(inner, config, steps, self._metrics, mode=mode), self._place)

    def invalidate(self) -> Layer | None:
        """Makes outdated what a change concerns."""
        config, parts, route = self._route.invalidate, self._parts, self._route
        if parts.cache is None or not _may_change(route):
            return None
        purges, targets = parts.cache.purges, parts.targets
        if config is None or config.mode == "off":  # what RFC 9111 demands is no policy of the route
            return lambda inner: Invalidate(inner, None, purges, targets, mode="enforce")
        return moded(config, lambda mode, inner: Invalidate(inner, config, purges, targets, mode=mode), self._place)

    def cache(self) -> Layer | None:
        """Answers from what is stored."""
        config, parts, route = self._route.cache, self._parts, self._route
        store, maker = parts.cache, parts.makers.get(route.name)
        if config is None or store is None or maker is None:
            return None
        metrics = parts.metrics.cache(route.name)
        keeps_good = route.fallback is not None and any(
            step.stale or step.last_known_good for step in route.fallback.steps
        )

        def make(mode: Mode, inner: Handler) -> Handler:
            memory = store.memory if mode == "enforce" else store.shadow
            filling = Filling(inner, config, rules_of(config), store, memory, metrics, keeps_good)
            if mode == "enforce":
                return Cache(filling, maker, loop=parts.loop, clock=parts.clock)
            return ShadowCache(filling, maker)

        return moded(config, make, self._place)

    def body_first(self) -> Layer | None:
        """Reads the beginning of a body before it is asked for a permit."""
        return BodyFirst if self._route.breaker or self._route.bulkhead else None

    def retry(self) -> Layer | None:
        """Makes failed attempts again."""
        config, parts = self._route.retry, self._parts
        if config is None:
            return None

        def make(mode: Mode, inner: Handler) -> Handler:
            state = parts.states.get("retry", self._route.name, mode, config, lambda: RetryState(config, parts.clock()))
            return Retry(inner, config, state, self._metrics, mode=mode, clock=parts.clock, random=parts.random)

        return moded(config, make, self._place)

    def breaker(self) -> Layer | None:
        """Leaves a failing upstream alone."""
        config, parts = self._route.breaker, self._parts
        if config is None:
            return None

        def make(mode: Mode, inner: Handler) -> Handler:
            breaker = parts.states.get("breaker", config.name, mode, config, lambda: self._new_breaker(config, mode))
            return CircuitBreaker(inner, breaker, mode=mode, clock=parts.clock)

        return moded(config, make, self._place)

    def _new_breaker(self, config: NamedBreaker, mode: Mode) -> Breaker:
        parts = self._parts
        return Breaker(config, parts.clock(), parts.random, parts.transitions.reporter(mode))

    def bulkhead(self) -> Layer | None:
        """Bounds what is with the upstream at a time."""
        config, parts = self._route.bulkhead, self._parts
        if config is None:
            return None
        waits = parts.metrics.bulkhead_waits(config.name)

        def make(mode: Mode, inner: Handler) -> Handler:
            permits = parts.states.get("bulkhead", config.name, mode, config, lambda: Permits(config, parts.clock()))
            return Bulkhead(inner, permits, waits, mode=mode, clock=parts.clock, loop=parts.loop, random=parts.random)

        return moded(config, make, self._place)

    def attempt(self) -> Layer:
        """Numbers and times each attempt."""
        clock = self._parts.clock
        return lambda inner: Attempt(inner, clock)


def _may_change(route: RouteConfig) -> bool:
    """Whether a request of this route can change what is stored."""
    return any(is_unsafe(match.partition(" ")[0]) for match in route.match)
