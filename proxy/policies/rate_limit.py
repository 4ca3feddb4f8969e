"""The rate limit as a layer: counts a request before anything is done for it, refuses it, or says what is left."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from proxy.config.policies import RateLimitConfig
from proxy.config.policy_types import Mode
from proxy.errors import ProxyError, RateLimited
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.client_key import KeyReader
from proxy.protocol.rate_limit_fields import RateLimitFields
from proxy.resilience.limiter import LimiterState
from proxy.telemetry.events import Decision

if TYPE_CHECKING:
    from proxy.storage.limits import SharedLimits

_LIMITED: Final = Decision("rate_limit", "limited")
_WOULD_LIMIT: Final = Decision("rate_limit", "limited", mode="shadow")

_LONG_WAIT: Final = 10.0
"""Seconds from which a wait is spread: those who share one key shall not come back all at once."""
_SPREAD: Final = 0.1
"""Of a long wait, at most, on top of it."""
_STEPS: Final = 8
"""Different waits at a time: few, so that the same refusals are made again and again, which is cheap."""


class RateLimit:
    """All limits of a route that are in one mode: every one of them must let a request pass.

    With `shared` they are kept in Redis. Shadow never waits, so it counts in `state` alone; there each instance takes
    its share of the limits.
    """

    __slots__ = (
        "_clock",
        "_details",
        "_enforces",
        "_fields",
        "_inner",
        "_only_read",
        "_random",
        "_reads",
        "_shared",
        "_state",
    )

    def __init__(
        self,
        inner: Handler,
        route_name: str,
        limits: Sequence[RateLimitConfig],
        state: LimiterState,
        shared: "SharedLimits | None",
        *,
        mode: Mode,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._inner = inner
        self._state = state
        self._shared = shared
        self._enforces = mode == "enforce"
        self._clock = clock
        self._random = random
        self._reads = [KeyReader(limit.key).read for limit in limits]
        self._only_read = self._reads[0] if len(limits) == 1 else None
        """Most routes have one limit, and need no loop."""
        self._fields = RateLimitFields(
            route_name, [(limit.rate.count, limit.rate.period, limit.cost) for limit in limits]
        )
        self._details = [f"This client is over its limit of {limit.rate} on this route." for limit in limits]

    async def handle(self, exchange: Exchange) -> Response:
        """Pass the exchange on. Raises RateLimited, and RateLimitUnavailable where Redis has to be there."""
        only = self._only_read
        keys = (only(exchange),) if only is not None else tuple([read(exchange) for read in self._reads])
        if self._shared is None:
            allowed, index, remaining, seconds = self._state.take(keys, self._clock())
        elif self._enforces:
            allowed, index, remaining, seconds = await self._shared.take(keys, exchange)
        else:
            allowed, index, remaining, seconds = self._shared.estimate(keys)
        if not self._enforces:
            if not allowed:
                exchange.decide(_WOULD_LIMIT)
            return await self._inner.handle(exchange)
        if not allowed:
            exchange.decide(_LIMITED)
            raise self._refusal(index, remaining, seconds)
        try:
            response = await self._inner.handle(exchange)
        except ProxyError as error:
            if index >= 0:
                error.fields = (*error.fields, self._fields.policy, self._fields.allowed(index, remaining, seconds))
            raise
        if index >= 0:
            limit = self._fields.allowed(index, remaining, seconds)
            response.headers = [*response.headers, self._fields.policy, limit]  # the list may be somebody else's
        return response

    def _refusal(self, index: int, remaining: int, seconds: float) -> RateLimited:
        if seconds > _LONG_WAIT:
            seconds += seconds * _SPREAD * int(self._random() * _STEPS) / _STEPS
        error = RateLimited(self._details[index], retry_after=seconds)
        error.fields = (self._fields.policy, self._fields.refused(index, remaining, seconds))
        return error

    def __repr__(self) -> str:
        return f"<RateLimit {'enforce' if self._enforces else 'shadow'} {self._state!r}>"
