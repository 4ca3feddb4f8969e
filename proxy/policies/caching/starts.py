"""How fills begin: who waits for whom, what is asked of the upstream, and what is fetched behind a client's back."""

import asyncio
from collections.abc import Callable

from proxy.exchange import Exchange
from proxy.policies.caching.errand import Errand
from proxy.policies.caching.fill import Fill
from proxy.policies.caching.fill_request import fill_exchange
from proxy.policies.caching.filling import Filling, passing_key, polled_key, resting_key
from proxy.policies.caching.keeper import Kind
from proxy.policies.caching.look import Look
from proxy.protocol.caching.directives import NO_DIRECTIVES
from proxy.protocol.caching.keys import CacheKey
from proxy.protocol.caching.stored import StoredResponse, Validity
from proxy.protocol.caching.vary import variant_of
from proxy.protocol.fields import CONDITION
from proxy.protocol.request_checks import CheckedFields


class Starts:
    """Begins the fills of one route; `clock` is monotonic seconds."""

    __slots__ = ("_clock", "_filling", "_fills", "_loop", "_memory", "_store")

    def __init__(self, filling: Filling, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._filling = filling
        self._store = filling.store
        self._memory = filling.memory
        self._fills = filling.store.fills
        self._loop = loop
        self._clock = clock

    def place(self, exchange: Exchange, key: CacheKey) -> bytes:
        """Who waits for each other: requests with the same key, and the same variant as far as Vary is known."""
        raw = exchange.request.fields.raw
        return key.digest + b"".join([variant_of(names, raw) for names in self._memory.names(key.digest)])

    def joinable(self, place: bytes) -> Fill[Errand] | None:
        """The fill that is under way there, if those who come now may wait for it."""
        fill = self._fills.find(place)
        # What has been outdated since it set out is not for those who have come later.
        return fill if fill is not None and fill.keeper.is_current else None

    def start(self, exchange: Exchange, look: Look, place: bytes) -> Fill[Errand]:
        """A fill for what `look` has not found. Whoever starts it waits for its head at once."""
        fields = exchange.request.fields
        before = look.before if look.before is not None and look.before.part is None else None
        keeps_conditions = before is None and self._keeps_conditions(look.key.digest, fields)
        is_private = (
            look.is_forced
            or keeps_conditions
            or self._memory.is_passing(passing_key(look.key.digest, fields.kinds), self._store.wall())
        )
        errand = Errand(
            self._filling,
            look.key,
            before,
            look.validity,
            is_forced=look.is_forced or keeps_conditions,
            may_be_stale=look.directives is NO_DIRECTIVES,
            is_alone=is_private,
            validates=look.validates and not keeps_conditions,
        )
        own = fill_exchange(
            exchange,
            now=self._clock(),
            loop=self._loop,
            target=look.key.target,
            conditions=(),
            keeps_conditions=keeps_conditions,
            is_background=False,
        )
        kind: Kind = "warm" if exchange.is_internal else "miss" if before is None else "validate"
        return self._fills.start(
            own, errand, errand, key=None if is_private else place, kind=kind, max_body=self._filling.config.max_body
        )

    def _keeps_conditions(self, key: bytes, fields: CheckedFields) -> bool:
        """Whether the client's own conditions go upstream, as there is nothing to answer them from (RFC 9111 4.3.2).

        What comes is for this client alone, and a 304 stores nothing. So the next one has the whole fetched for all.
        """
        if not fields.kinds & CONDITION:
            return False
        is_polled = self._memory.is_passing(polled_key(key), self._store.wall())
        return not is_polled or any(name.lower() == b"range" for name, _ in fields.raw)

    def refresh(self, exchange: Exchange, look: Look, stored: StoredResponse, validity: Validity) -> None:
        """Have it fetched behind the client's back, unless that is under way."""
        place = self.place(exchange, look.key)
        if self._fills.find(place) is not None:
            return
        if self._memory.is_passing(resting_key(look.key.digest), self._store.wall()):
            return
        errand = Errand(self._filling, look.key, stored, validity, is_refresh=True)
        own = fill_exchange(
            exchange,
            now=self._clock(),
            loop=self._loop,
            target=look.key.target,
            conditions=(),
            keeps_conditions=False,
            is_background=True,
            method="GET",
        )
        self._fills.start(own, errand, errand, key=place, kind="refresh", max_body=self._filling.config.max_body)
