"""What the end of an attempt says about the upstream."""

from typing import Final

from proxy.errors import ConnectionTimeout, DnsTimeout, ProxyError, Source, UpstreamTimeout
from proxy.exchange import Exchange

FIRST_FAILURE_STATUS: Final = 500
"""An answer with this status or a higher one is a failure of the upstream."""
_ROUNDING: Final = 0.001
"""Seconds by which the time of an attempt may come out shorter than its limit."""
_EARLY: Final = 0.01
"""Seconds before its deadline from which a wait that ends has ended because of it."""


def is_upstream_failure(error: BaseException, exchange: Exchange, now: float) -> bool:
    """Whether an attempt that ended so counts against the upstream.

    Our own refusals, the client's faults and cancellations do not. A limit on the whole attempt does only where the
    attempt had enough time, so that callers with tiny deadlines cannot open the breaker.
    """
    if not isinstance(error, ProxyError) or error.source is not Source.UPSTREAM:
        return False
    if isinstance(error, UpstreamTimeout):
        return error.kind not in ("total", "attempt") or _had_its_time(exchange)
    if isinstance(error, ConnectionTimeout | DnsTimeout):
        deadline = exchange.attempt_deadline
        # Before the deadline it was the upstream's own connect_timeout that passed.
        return deadline is None or now < deadline - _EARLY or _had_its_time(exchange)
    return True


def _had_its_time(exchange: Exchange) -> bool:
    """Whether the attempt had the time that its route gives to one, or at least half of the route's total."""
    deadline, limits = exchange.attempt_deadline, exchange.timeout
    if deadline is None:
        return False
    given = deadline - exchange.attempt_started + _ROUNDING
    own, total = limits.attempt, limits.total
    return (own is not None and given >= own) or (total is not None and given >= total / 2)
