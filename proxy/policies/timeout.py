"""Time limits. `Total` bounds the whole exchange, `Attempt` each call of the upstream.

The upstream client waits at most until the attempt's deadline and says which limit passed; the edge does the same for
what it writes. `Total` makes sure of it.
"""

import asyncio
from collections.abc import Callable

from proxy.errors import DeadlineExceeded, UpstreamTimeout
from proxy.exchange import Exchange, Handler, Response
from proxy.resilience.deadline import attempt_deadline
from proxy.telemetry.events import Decision

BACKSTOP = 0.03
"""Seconds after the deadline: time for the layer that waits to end by itself, with the better explanation."""


class Total:
    """Ends an exchange whose deadline has passed before its response head was there."""

    def __init__(self, inner: Handler) -> None:
        self._inner = inner

    async def handle(self, exchange: Exchange) -> Response:
        """Answer within `exchange.deadline`. Raises DeadlineExceeded."""
        watchdog, deadline = exchange.watchdog, exchange.deadline
        if deadline is None or watchdog is None:
            return await self._inner.handle(exchange)
        if deadline <= exchange.started:  # a caller who had no time left: the upstream has no part in that
            raise _too_late(exchange)
        watchdog.watch(deadline + BACKSTOP)
        try:
            return await self._inner.handle(exchange)
        except asyncio.CancelledError:
            if not (watchdog.expired and watchdog.forgive()):
                raise
            raise _too_late(exchange) from None
        finally:
            watchdog.release()


class Attempt:
    """Gives each attempt its number, its beginning and its deadline; the upstream client enforces that."""

    def __init__(self, inner: Handler, clock: Callable[[], float]) -> None:
        self._inner = inner
        self._clock = clock

    async def handle(self, exchange: Exchange) -> Response:
        """Make one attempt. Raises UpstreamTimeout and whatever else the upstream raises."""
        exchange.attempt += 1
        exchange.attempt_started = now = self._clock()
        limit = exchange.timeout.attempt
        if limit is None:
            exchange.attempt_deadline = exchange.deadline
        else:
            exchange.attempt_deadline = attempt_deadline(now, limit, exchange.deadline)
        try:
            return await self._inner.handle(exchange)
        except UpstreamTimeout as error:
            exchange.decide(Decision("timeout", error.kind))
            raise


def _too_late(exchange: Exchange) -> DeadlineExceeded:
    exchange.decide(Decision("timeout", "total"))
    return DeadlineExceeded("The request took longer than its route or its caller allows.")
