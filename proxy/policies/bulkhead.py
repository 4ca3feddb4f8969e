"""The bulkhead: so many exchanges at a time are with the upstream, so many wait for a while, the others are refused."""

import asyncio
from collections.abc import Callable
from typing import Final, Literal

from proxy.config.policy_types import Mode
from proxy.errors import BulkheadFull, ConnectionTimeout, DeadlineExceeded, UpstreamTimeout
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.outcome import FIRST_FAILURE_STATUS, is_upstream_failure
from proxy.resilience.permits import Permits
from proxy.telemetry.events import Decision
from proxy.telemetry.instruments import Histogram

Outcome = Literal["granted", "evicted", "queue_timeout"]
Refusal = Literal["full", "evicted", "queue_timeout"]

_DECISIONS: Final = {word: Decision("bulkhead", word) for word in ("full", "evicted", "queue_timeout")}
_SHADOW: Final = {word: Decision("bulkhead", word, "shadow") for word in ("full", "queued")}
_TOTAL: Final = Decision("timeout", "total")
_DETAILS: Final[dict[Refusal, str]] = {
    "full": "As many requests as may be are with the upstream or wait for it.",
    "evicted": "A more important request took this one's place in the queue for the upstream.",
    "queue_timeout": "The request waited for its turn at the upstream, and it did not come in time.",
}
_LONGEST_ADVICE: Final = 30.0
_JITTER: Final = 3.0
"""Seconds over which those who were refused together come back."""


class Bulkhead:
    """Passes an exchange on with a permit in hand, which it holds until the body has ended.

    `waits` gets the seconds that those waited who got a permit after a wait.
    """

    __slots__ = ("_clock", "_inner", "_is_shadow", "_loop", "_permits", "_random", "_waits")

    def __init__(
        self,
        inner: Handler,
        permits: Permits,
        waits: Histogram,
        *,
        mode: Mode,
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
        random: Callable[[], float],
    ) -> None:
        self._inner = inner
        self._permits = permits
        self._waits = waits
        self._is_shadow = mode == "shadow"
        self._clock = clock
        self._loop = loop
        self._random = random

    async def handle(self, exchange: Exchange) -> Response:
        """Answer as soon as there is a permit. Raises BulkheadFull, DeadlineExceeded, and whatever comes from below."""
        if self._is_shadow:
            return await self._count(exchange)
        permits = self._permits
        has_waited = not permits.try_acquire()
        if has_waited:
            await self._wait(exchange)
        try:
            if has_waited and exchange.gate is not None:
                exchange.gate.confirm(exchange)
            response = await (
                self._inner.handle(exchange) if permits.gradient is None else self._measure(exchange, permits.in_use)
            )
        except BaseException:
            self._release()
            raise
        response.on_close(self._release)
        return response

    def _release(self) -> None:
        self._permits.release(self._clock())

    # --- the queue ---

    async def _wait(self, exchange: Exchange) -> None:
        """Return with a permit, or raise."""
        permits, now, deadline = self._permits, self._clock(), exchange.deadline
        if deadline is not None and deadline <= now:
            raise _too_late(exchange)
        if not exchange.may_queue:
            raise self._refusal(exchange, "full")
        until = permits.wait_until(now, deadline)
        waiter = _Waiter(self._loop.create_future())
        if not permits.enqueue(waiter, exchange.criticality, now, until):
            raise self._refusal(exchange, "full")
        outcome = await self._outcome(waiter, exchange, until - now)
        if outcome == "granted":
            self._waits.observe(self._clock() - now)
        elif outcome == "queue_timeout" and until == deadline:
            raise _too_late(exchange)
        else:
            raise self._refusal(exchange, outcome)

    async def _outcome(self, waiter: "_Waiter", exchange: Exchange, seconds: float) -> Outcome:
        timer = self._loop.call_later(seconds, waiter.expire)
        try:
            return await waiter.outcome
        except BaseException:
            if waiter.is_granted:  # in the very moment in which the client left: somebody else can have it
                self._release()
            raise
        finally:
            timer.cancel()
            self._permits.leave(waiter, exchange.criticality)

    def _refusal(self, exchange: Exchange, word: Refusal) -> BulkheadFull:
        exchange.decide(_DECISIONS[word])
        advice = min(max(self._permits.expected_wait, 1.0), _LONGEST_ADVICE) + _JITTER * self._random()
        return BulkheadFull(_DETAILS[word], retry_after=advice, request_written=False)

    # --- the adaptive limit ---

    async def _measure(self, exchange: Exchange, in_flight: int) -> Response:
        """Tell the permits how long the response head took. Errors that are no timeouts tell nothing about load."""
        try:
            response = await self._inner.handle(exchange)
        except (UpstreamTimeout, ConnectionTimeout) as error:
            now = self._clock()
            if is_upstream_failure(error, exchange, now):
                self._permits.record(now - exchange.attempt_started, in_flight, now, dropped=True)
            raise
        if response.status < FIRST_FAILURE_STATUS:
            now = self._clock()
            self._permits.record(now - exchange.attempt_started, in_flight, now)
        return response

    # --- shadow ---

    async def _count(self, exchange: Exchange) -> Response:
        """Count the exchange as if it held a permit or waited for one, say what would have become of it, pass it on."""
        permits = self._permits
        word = permits.count()
        if word != "admitted":
            exchange.decide(_SHADOW[word])
        if word == "full":
            return await self._inner.handle(exchange)
        try:
            response = await (
                self._inner.handle(exchange) if permits.gradient is None else self._measure(exchange, permits.in_use)
            )
        except BaseException:
            permits.uncount()
            raise
        response.on_close(permits.uncount)
        return response


class _Waiter:
    """One exchange in the queue. Whatever happens to it first is what happens; a cancelled one has gone."""

    __slots__ = ("outcome",)

    def __init__(self, outcome: asyncio.Future[Outcome]) -> None:
        self.outcome = outcome

    @property
    def is_granted(self) -> bool:
        return self.outcome.done() and not self.outcome.cancelled() and self.outcome.result() == "granted"

    def grant(self) -> bool:
        return self._end("granted")

    def evict(self) -> None:
        self._end("evicted")

    def expire(self) -> None:
        self._end("queue_timeout")

    def _end(self, outcome: Outcome) -> bool:
        if self.outcome.done():
            return False
        self.outcome.set_result(outcome)
        return True


def _too_late(exchange: Exchange) -> DeadlineExceeded:
    exchange.decide(_TOTAL)
    return DeadlineExceeded("The request's time was over before its turn at the upstream came.", request_written=False)
