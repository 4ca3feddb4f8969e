"""What is stored, as the answer to a request: while it is fresh, and where it may be sent though it is not."""

from collections.abc import Callable
from math import floor
from typing import Final

from proxy.errors import DeadlineExceeded, ProxyError, Source
from proxy.exchange import Exchange, Response
from proxy.policies.caching.delivery import deliver
from proxy.policies.caching.filling import Filling, is_due
from proxy.policies.caching.look import Look
from proxy.policies.caching.starts import Starts
from proxy.protocol.caching.directives import NO_DIRECTIVES, request_directives
from proxy.protocol.caching.keys import CacheKey
from proxy.protocol.caching.reuse import Use, may_stand_in, ttl_of, use_of
from proxy.protocol.caching.status_field import forwarded, hit
from proxy.protocol.caching.stored import Terms, Validity
from proxy.protocol.fields import DIRECTIVES
from proxy.storage.entries import is_good
from proxy.storage.memory import Entry
from proxy.telemetry.events import Decision

_STALE: Final = Decision("cache", "stale")
_STALE_ON_ERROR: Final = Decision("cache", "stale_on_error")


class Lookups:
    """Looks up in the memory for one route; `clock` is monotonic seconds."""

    __slots__ = ("_clock", "_filling", "_memory", "_metrics", "_purges", "_starts", "_store")

    def __init__(self, filling: Filling, starts: Starts, clock: Callable[[], float]) -> None:
        self._filling = filling
        self._store = filling.store
        self._memory = filling.memory
        self._purges = filling.store.purges
        self._metrics = filling.metrics
        self._starts = starts
        self._clock = clock

    def look(self, exchange: Exchange, key: CacheKey, entry: Entry | None) -> Look:
        """What is known before anything is decided."""
        fields = exchange.request.fields
        said = request_directives(fields.raw) if fields.kinds & DIRECTIVES else NO_DIRECTIVES
        look = Look(key, entry, said)
        if entry is None and self._memory.names(key.digest):
            look.reason = "vary-miss"
        return look

    def answer(self, exchange: Exchange, look: Look) -> Response | None:
        """The answer from the memory, if there is one; else what there is goes into `look`."""
        entry = look.entry
        if entry is None:
            return None
        now = self._store.wall()
        stored = entry.stored
        use = by_itself = Use.VALIDATE
        if self._is_trusted(entry, now):
            use = use_of(stored.terms, entry.validity, look.directives, now, entry.softened_at)
            by_itself = use_of(stored.terms, entry.validity, NO_DIRECTIVES, now, entry.softened_at)
        look.before, look.noted = stored, entry.noted
        look.validity, look.softened_at = entry.validity, entry.softened_at
        look.reason = "request" if by_itself is Use.FRESH else "stale"
        if use is Use.VALIDATE:
            return None
        answer = deliver(exchange, stored, now, hit(_ttl(stored.terms, entry.softened_at, now)))
        if answer is None:  # only a part is stored, and not the one that is asked for
            look.reason, look.before = "partial", None
            return None
        if use is Use.FRESH:
            self.count(exchange, "hit")
            if now >= entry.refresh_at and stored.part is None and is_due(entry, now, self._store.random()):
                self._starts.refresh(exchange, look, stored, entry.validity)
        else:
            self.count(exchange, "stale")
            exchange.decide(_STALE)
            if use is Use.BEHIND and (not entry.validity or self._store.refreshes.take(self._clock())):
                self._starts.refresh(exchange, look, stored, entry.validity)
        self._count_bytes(answer)
        return answer

    def again(self, exchange: Exchange, look: Look) -> Response | None:
        """What another's fill has brought in the meantime, if it will do."""
        if look.is_forced or not look.validates:
            return None
        look.before = None  # it may have been purged
        look.entry = self._memory.find(look.key.digest, exchange.request.fields)
        return self.answer(exchange, look)

    def _is_trusted(self, entry: Entry, now: float) -> bool:
        """Whether word of a change would have got through, or cannot be more than `max_gap` late."""
        since = self._purges.gap_since
        return since is None or now < max(since, entry.verified_at) + self._purges.max_gap

    def stand_in(self, exchange: Exchange, look: Look, failure: ProxyError | int) -> Response | None:
        """A stale response for an error (RFC 5861 section 4, RFC 9111 section 4.2.4); else leave it to a fallback.

        `failure` is the error, or the status of the upstream.
        """
        before = look.before
        validity, softened_at = self._standing(look)
        if before is not None and before.part is None and validity < Validity.INVALID:
            exchange.stored = before
            now = self._store.wall()
            if may_stand_in(before.terms, validity, look.directives, now, softened_at):
                status = _status_of_error(failure, _ttl(before.terms, softened_at, now))
                answer = deliver(exchange, before, now, status)
                if answer is not None:
                    self.count(exchange, "stale")
                    exchange.decide(_STALE_ON_ERROR)
                    self._count_bytes(answer)
                    return answer
        if self._filling.keeps_good:
            good = self._memory.good(look.key.digest, exchange.request.fields)
            if good is not None:
                exchange.last_good = good.stored
            elif before is not None and is_good(before) and validity is not Validity.GONE:
                exchange.last_good = before
        return None

    def _standing(self, look: Look) -> tuple[Validity, float]:
        """The validity of what there is, and since when it has been SOFT: what has changed in the meantime counts."""
        before = look.before
        if before is None:
            return Validity.VALID, 0.0
        validity, softened_at = self._store.generations.validity(before.tags, look.noted)
        return max(validity, look.validity), look.softened_at or softened_at

    def count(self, exchange: Exchange, outcome: str) -> None:
        """What came of a look-up: hit, stale, revalidated or miss."""
        exchange.cache_outcome = outcome
        if not exchange.is_internal:
            self._metrics.looked_up("enforce", outcome)

    def _count_bytes(self, answer: Response) -> None:
        if isinstance(answer.body, bytes):
            self._metrics.served_bytes += len(answer.body)


def _ttl(terms: Terms, softened_at: float, now: float) -> int:
    """Seconds of freshness left, as Cache-Status has them: it has also ended when it was purged softly."""
    ttl = ttl_of(terms, now)
    return min(ttl, floor(softened_at - now), -1) if softened_at else ttl


def _status_of_error(failure: ProxyError | int, ttl: int) -> bytes:
    """Only what is sent without asking the upstream is a hit (RFC 9211 section 2.1)."""
    if isinstance(failure, int):
        return forwarded("stale", status=failure, detail="error")
    if failure.source is Source.UPSTREAM or isinstance(failure, DeadlineExceeded):
        return forwarded("stale", detail="error")
    return hit(ttl, detail="error")
