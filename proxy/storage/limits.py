"""One limit for all instances: arrival times in Redis, counted by one script call, and what is done without Redis.

Only durations cross the wire. What Redis says is remembered here as well: a client known to be over its limit is
refused without a question. And what is known here is told to Redis with each question, so that a Redis which comes back
empty, or with an older state, does not give every client a new burst.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from proxy.config.policies import RateLimitConfig
from proxy.errors import RateLimitUnavailable
from proxy.exchange import Exchange
from proxy.resilience.gcra import Asked, Gcra, Verdict, admitted, refused
from proxy.resilience.limiter import LimiterState, gcra_of
from proxy.storage.errors import StoreError
from proxy.storage.script import load_script
from proxy.telemetry.events import Decision

if TYPE_CHECKING:
    from proxy.storage.redis import Redis

_SCRIPT: Final = load_script("gcra")
_MICRO: Final = 1_000_000
"""Redis counts in whole microseconds."""

_LOCAL: Final = Decision("rate_limit", "local")
_OPEN: Final = Decision("rate_limit", "open")
_CLOSED: Final = Decision("rate_limit", "closed")


class SharedLimits:
    """The limits of one route, kept in Redis; `state` has what this instance knows of them.

    `clock` gives monotonic seconds. `prefix` begins the names of all keys. `timeout` is how long Redis may take to
    answer, in seconds: what it says may be that old.
    """

    def __init__(
        self,
        redis: "Redis",
        route_name: str,
        limits: Sequence[RateLimitConfig],
        state: LimiterState,
        *,
        clock: Callable[[], float],
        prefix: str = "tidegate",
        timeout: float = 0.05,
    ) -> None:
        self._redis = redis
        self._limits = limits
        self._state = state
        self._clock = clock
        self._timeout = timeout
        self._gcras = [_whole(limit) for limit in limits]
        self._names = _names(prefix, route_name, len(limits))
        self._is_closed = any(limit.on_store_error == "closed" for limit in limits)
        self._is_open = all(limit.on_store_error == "open" for limit in limits)
        self._was_away = True
        self._share = 0
        """The number of instances that `_parts` were made for."""
        self._parts: list[Gcra] = []

    async def take(self, keys: Sequence[bytes], exchange: Exchange) -> Verdict:
        """Decide on a request and count it. Raises RateLimitUnavailable when a limit may not do without Redis."""
        if not self._redis.is_available:
            return self._without_redis(keys, exchange)
        now = self._clock()
        if self._was_away:
            self._return(now)
        resets = self._state.resets(keys, now)
        if any(gcra.retry_after(reset) > 0 for gcra, reset in zip(self._gcras, resets, strict=True)):
            return refused(self._asked(resets))
        names = [name + key.hex().encode() for name, key in zip(self._names, keys, strict=True)]
        try:
            answer = await self._redis.run(_SCRIPT, names, self._arguments(resets), exchange)
            allowed, resets = _read(answer, len(names))
        except StoreError:
            return self._without_redis(keys, exchange)
        # From the time of the question, not of its answer: so it is never later than the true arrival time.
        self._state.learn(keys, resets, now)
        return admitted(self._asked(resets)) if allowed else refused(self._asked(resets))

    def estimate(self, keys: Sequence[bytes]) -> Verdict:
        """Decide without Redis, by this instance's part of every limit: for shadow, which must not wait."""
        return self._state.take(keys, self._clock(), self._divided())

    def _asked(self, resets: Sequence[float]) -> list[Asked]:
        return [(index, gcra, reset) for index, (gcra, reset) in enumerate(zip(self._gcras, resets, strict=True))]

    def _arguments(self, resets: Sequence[float]) -> list[int]:
        """What the script takes for each limit. What is known from Redis must not grow by being told to it again."""
        arguments = []
        for gcra, reset in zip(self._gcras, resets, strict=True):
            known = max(reset - self._timeout, 0.0)
            arguments += [round(seconds * _MICRO) for seconds in (gcra.increment, gcra.tolerance, known)]
        return arguments

    # --- without Redis ---

    def _without_redis(self, keys: Sequence[bytes], exchange: Exchange) -> Verdict:
        self._was_away = True
        if self._is_closed:
            exchange.decide(_CLOSED)
            raise RateLimitUnavailable("The rate limit of this route cannot be checked at the moment.", retry_after=1)
        exchange.decide(_OPEN if self._is_open else _LOCAL)
        parts = [
            None if limit.on_store_error == "open" else part
            for limit, part in zip(self._limits, self._divided(), strict=True)
        ]
        return self._state.take(keys, self._clock(), parts)

    def _divided(self) -> list[Gcra]:
        """This instance's part of each limit, by the last count of instances."""
        share = max(self._redis.instances.count, 1)
        if share != self._share:
            self._share = share
            self._parts = [gcra_of(limit, share) for limit in self._limits]
        return self._parts

    def _return(self, now: float) -> None:
        """Redis is back. A small part of a limit may let a client wait longer than the whole limit would."""
        self._was_away = False
        pairs = zip(self._gcras, self._divided(), strict=True)
        self._state.cap(now, [gcra if part.tolerance > gcra.ceiling else None for gcra, part in pairs])


def _read(answer: Any, count: int) -> tuple[bool, list[float]]:
    """Whether the request is allowed, and each reset. Raises StoreError for what the script never answers."""
    if not isinstance(answer, list) or len(answer) != count + 1 or not all(type(each) is int for each in answer):
        raise StoreError("protocol", "the answer is not that of the script")
    return answer[0] == 1, [max(ahead, 0) / _MICRO for ahead in answer[1:]]


def _whole(limit: RateLimitConfig) -> Gcra:
    """The limit as Redis counts it: its interval is a whole number of microseconds."""
    rate = limit.rate
    interval = max(round(rate.period * _MICRO / rate.count), 1) / _MICRO
    return Gcra(interval, limit.burst or rate.count, limit.cost)


def _names(prefix: str, route_name: str, count: int) -> list[bytes]:
    """What the key of each limit begins with.

    A script needs all its keys on one node of a cluster: several have the route as their hash tag, and a single one has
    none, so that clients spread.
    """
    route = f"{prefix}:{route_name}"
    tagged = f"{{{route}}}" if count > 1 else route
    return [f"{tagged}:limit:{index + 1}:".encode() for index in range(count)]
