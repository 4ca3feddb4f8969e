"""What a fallback can answer with from the cache: a response that is too old, or the last that was any good."""

from collections.abc import Callable

from proxy.errors import DeadlineExceeded, ProxyError, Source
from proxy.exchange import Exchange, Response
from proxy.policies.caching.delivery import deliver
from proxy.protocol.caching.status_field import forwarded, hit
from proxy.protocol.caching.stored import StoredResponse


class _FromCache:
    """Sends what the cache has left on the exchange, with its true age; `wall` is Unix seconds.

    The route's file is what allows it (RFC 9111 section 4.2.4), so it never outdoes a directive that forbids it.
    """

    __slots__ = ("_wall",)

    kind = ""
    is_own = False

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall

    def is_possible(self, exchange: Exchange) -> bool:
        """Whether there is something, and it may be sent without the upstream's word."""
        stored = self._stored(exchange)
        return stored is not None and not (stored.terms.forbids_stale or stored.terms.always_validates)

    async def answer(self, exchange: Exchange, failure: ProxyError | None, status: int) -> Response | None:
        """It, or the part of it that is asked for; None when there is nothing."""
        stored = self._stored(exchange)
        if stored is None or not self.is_possible(exchange):
            return None
        now = self._wall()
        return deliver(exchange, stored, now, _cache_status(stored, failure, status, now, self.kind))

    def _stored(self, exchange: Exchange) -> StoredResponse | None:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Stale(_FromCache):
    """What is stored and not known to be outdated, however old it is."""

    __slots__ = ()

    kind = "stale"

    def _stored(self, exchange: Exchange) -> StoredResponse | None:
        return exchange.stored


class LastKnownGood(_FromCache):
    """The last successful response, also when it is known to be outdated."""

    __slots__ = ()

    kind = "last_known_good"

    def _stored(self, exchange: Exchange) -> StoredResponse | None:
        return exchange.last_good


def _cache_status(stored: StoredResponse, failure: ProxyError | None, status: int, now: float, kind: str) -> bytes:
    """RFC 9211 section 2: only what was sent without asking the upstream is a hit."""
    if status or failure is None or failure.source is Source.UPSTREAM or isinstance(failure, DeadlineExceeded):
        return forwarded("stale", status=status, detail=kind)
    return hit(int(stored.terms.fresh_until - now), kind)
