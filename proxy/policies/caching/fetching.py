"""What is not stored, or must not be sent as it is: fetched once for all who ask, each of whom gets what is his."""

from typing import Final

from proxy.errors import CollapsedFailure, DeadlineExceeded, ProxyError
from proxy.exchange import Exchange, Response
from proxy.policies.caching.delivery import deliver
from proxy.policies.caching.errand import Errand
from proxy.policies.caching.fill import Fill
from proxy.policies.caching.fill_request import is_as_keyed, lend_trace
from proxy.policies.caching.filling import Filling, put
from proxy.policies.caching.keeper import Head
from proxy.policies.caching.look import Look
from proxy.policies.caching.lookups import Lookups
from proxy.policies.caching.starts import Starts
from proxy.protocol.caching.reuse import age_of, ttl_of
from proxy.protocol.caching.status_field import forwarded, hit
from proxy.protocol.caching.stored import StoredResponse, Validity
from proxy.protocol.caching.terms import terms_of
from proxy.protocol.caching.updating import freshened_fields, head_update
from proxy.protocol.caching.vary import variant_of
from proxy.protocol.fields import CONDITION, CONTENT_LENGTH, CREDENTIALS, KINDS
from proxy.storage.memory import Entry
from proxy.telemetry.events import Decision

_FAILED: Final = frozenset({500, 502, 503, 504})
"""What stale-if-error is for (RFC 5861 section 4)."""
_OK: Final = 200
_NOT_MODIFIED: Final = 304
_TIMED_OUT: Final = Decision("timeout", "total")
_PERSONAL: Final = frozenset({b"set-cookie", b"cache-control"})
"""A failure with one of these may not be for all who have waited for it."""
_BY_CREDENTIALS: Final = frozenset({"authorization", "cookie"})
_BY_REQUEST: Final = _BY_CREDENTIALS | {"request_no_store"}
"""Why a response is not stored, where that is because of who has asked for it."""
_TRIES: Final = 2


class Fetching:
    """Has the upstream asked, for one route."""

    __slots__ = ("_filling", "_inner", "_lookups", "_memory", "_metrics", "_starts", "_store")

    def __init__(self, filling: Filling, starts: Starts, lookups: Lookups) -> None:
        self._filling = filling
        self._inner = filling.inner
        self._store = filling.store
        self._memory = filling.memory
        self._metrics = filling.metrics
        self._starts = starts
        self._lookups = lookups

    async def fetch(self, exchange: Exchange, look: Look) -> Response:
        """Have the upstream asked, together with all who want the same."""
        place: bytes | None = self._starts.place(exchange, look.key)
        for attempt in range(_TRIES):
            if place is None:
                break
            if attempt and (found := self._lookups.again(exchange, look)) is not None:
                return found
            fill = None if look.is_forced else self._starts.joinable(place)
            is_leader = fill is None
            if fill is None:
                fill = self._starts.start(exchange, look, place)
            head = await self._head_of(exchange, look, fill, is_leader=is_leader)
            if isinstance(head, Response):
                return head
            if head is None:  # it has failed where this request might not
                continue
            answer = await self._answer(exchange, look, fill, head, is_leader=is_leader)
            if answer is not None:
                return answer
            place = self._next_place(exchange, look, head, place, is_leader=is_leader)
        return await self.alone(exchange, look)

    def _next_place(self, exchange: Exchange, look: Look, head: Head, place: bytes, *, is_leader: bool) -> bytes | None:
        """Where to wait next when a fill has brought nothing for this request; None: it goes on by itself."""
        stored, refusal, _ = head.judged
        if refusal == "mismatch":
            look.before, look.validates = None, False
            return place
        if is_leader or (refusal and refusal not in _BY_CREDENTIALS):
            return None
        fields = exchange.request.fields
        if stored is None:  # those without credentials can still share one
            return None if fields.kinds & CREDENTIALS else place
        variant = variant_of(stored.terms.vary, fields.raw)
        return None if variant == stored.variant else look.key.digest + variant

    async def alone(self, exchange: Exchange, look: Look) -> Response:
        """Ask the upstream for this client, and keep nothing."""
        requested_at = self._store.wall()
        try:
            response = await self._inner.handle(exchange)
        except ProxyError as error:
            stale = self._lookups.stand_in(exchange, look, error)
            if stale is None:
                self._lookups.count(exchange, "miss")
                raise
            return stale
        if (
            response.status in _FAILED
            and (stale := self._lookups.stand_in(exchange, look, response.status)) is not None
        ):
            response.close()
            return stale
        self._lookups.count(exchange, "miss")
        is_telling = look.entry is not None and exchange.request.method == "HEAD" and response.status == _OK
        if look.entry is not None and is_telling and is_as_keyed(exchange, look.key.target):
            self._learn_from_head(exchange, look.entry, response, requested_at)
        response.headers = passed_on(response, forwarded(look.reason))
        return response

    # --- waiting for a fill ---

    async def _head_of(
        self, exchange: Exchange, look: Look, fill: Fill[Errand], *, is_leader: bool
    ) -> Head | Response | None:
        """The head of what the fill brings; a stale response in its place, where the upstream fails and that may be.

        None: the fill was less important than this request, and has failed.
        """
        try:
            head = await fill.head(exchange.deadline)
        except ProxyError as error:
            if isinstance(error, DeadlineExceeded):
                exchange.decide(_TIMED_OUT)
            elif not is_leader and fill.exchange.criticality == "background" != exchange.criticality:
                return None
            if is_leader:
                lend_trace(fill.exchange, exchange)
            self._adopt(exchange, look, fill.keeper)
            stale = self._lookups.stand_in(exchange, look, error)
            if stale is None:
                self._lookups.count(exchange, "miss")
                raise
            return stale
        finally:
            if is_leader:
                fill.exchange.client = None  # whatever the fill brings from here on, this client gets its answer next
        if is_leader:
            lend_trace(fill.exchange, exchange)
        self._adopt(exchange, look, fill.keeper)
        if head.status in _FAILED and (stale := self._lookups.stand_in(exchange, look, head.status)) is not None:
            fill.join(exchange).close()
            return stale
        return head

    def _adopt(self, exchange: Exchange, look: Look, errand: Errand) -> None:
        """What the fill has found in Redis, too old to be sent, is at hand for this request, too."""
        before = errand.before
        if look.before is not None or before is None:
            return
        if variant_of(before.terms.vary, exchange.request.fields.raw) == before.variant:
            look.before, look.noted = before, errand.noted
            look.validity, look.softened_at = errand.validity, 0.0

    # --- what each gets of it ---

    async def _answer(
        self, exchange: Exchange, look: Look, fill: Fill[Errand], head: Head, *, is_leader: bool
    ) -> Response | None:
        """What this client gets of the fill; None: nothing, it has to go on by itself."""
        stored, refusal, is_whole = head.judged
        raw = exchange.request.fields.raw
        if stored is None:
            return self._unstored(exchange, look, fill, head, refusal, is_leader=is_leader)
        if not is_leader:
            if refusal or stored.part is not None or variant_of(stored.terms.vary, raw) != stored.variant:
                return None
            self._metrics.collapsed += 1
        status = self._status_of(look, head, is_leader=is_leader)
        if is_whole:
            self._count_fetched(exchange, head)
            return self._whole(exchange, look, stored, head, status)
        if (is_leader and fill.key is None) or not exchange.request.fields.kinds & CONDITION:
            self._count_fetched(exchange, head)
            response = fill.join(exchange)
            if not is_leader:
                now = self._store.wall()
                response.headers = [*stored.fields, *_length(head), (b"Age", b"%d" % age_of(stored.terms, now))]
            response.headers = passed_on(response, status)
            return response
        try:
            complete = await fill.completed(exchange.deadline)
        except DeadlineExceeded:
            exchange.decide(_TIMED_OUT)
            self._lookups.count(exchange, "miss")
            raise
        answer = None if complete is None else deliver(exchange, complete, self._store.wall(), status)
        if answer is not None:
            self._count_fetched(exchange, head)
        return answer

    def _whole(
        self, exchange: Exchange, look: Look, stored: StoredResponse, head: Head, status: bytes
    ) -> Response | None:
        """What was in Redis, or what the upstream has confirmed: stored already, and not read from a fill."""
        now = self._store.wall()
        if head.status != _NOT_MODIFIED and stored.terms.fresh_until <= now:
            self._starts.refresh(exchange, look, stored, Validity.VALID)
        return deliver(exchange, stored, now, status, shows_age=head.status != _NOT_MODIFIED)

    def _unstored(
        self, exchange: Exchange, look: Look, fill: Fill[Errand], head: Head, refusal: str, *, is_leader: bool
    ) -> Response | None:
        """What came may not be kept: it is for the one it was fetched for, unless it is a failure."""
        status = forwarded(look.reason, status=head.status, collapsed=not is_leader, detail=refusal)
        if is_leader and refusal == "mismatch":
            return None
        if is_leader or (head.status in _FAILED and _is_for_all(exchange, fill, head)):
            self._lookups.count(exchange, "miss")
            response = fill.join(exchange)
            response.headers = passed_on(response, status)
            return response
        if head.status in _FAILED:
            self._lookups.count(exchange, "miss")
            exchange.upstream_status = head.status
            raise CollapsedFailure("The upstream failed on another request for the same response.")
        return None

    def _count_fetched(self, exchange: Exchange, head: Head) -> None:
        if not head.judged.is_whole:
            self._lookups.count(exchange, "miss")
        else:  # without a 304, another instance has had it
            self._lookups.count(exchange, "revalidated" if head.status == _NOT_MODIFIED else "hit")

    def _status_of(self, look: Look, head: Head, *, is_leader: bool) -> bytes:
        stored, refusal, is_whole = head.judged
        if stored is not None and is_whole and head.status != _NOT_MODIFIED:
            return hit(ttl_of(stored.terms, self._store.wall()), detail="redis")
        return forwarded(look.reason, status=head.status, stored=not refusal, collapsed=not is_leader, detail=refusal)

    # --- what a HEAD tells ---

    def _learn_from_head(self, exchange: Exchange, entry: Entry, response: Response, requested_at: float) -> None:
        """RFC 9111 section 4.3.5. What has been replaced in the meantime is let be."""
        request, stored = exchange.request, entry.stored
        if request.fields.kinds & CONDITION or self._memory.find(entry.key, request.fields) is not entry:
            return
        terms = terms_of(
            "GET",
            request.fields.raw,
            stored.status,
            freshened_fields(stored, response.headers),
            requested_at=requested_at,
            received_at=self._store.wall(),
            rules=self._filling.rules,
        )
        renewed = head_update(stored, response.headers, terms)
        # With another Vary nobody knows whose variant it is: the request that has brought it is not kept.
        is_the_same = stored.status == _OK and terms.vary == stored.terms.vary
        if renewed is None or not is_the_same or (terms.refusal and terms.refusal not in _BY_REQUEST):
            self._memory.remove(entry)
        elif not terms.refusal and not entry.validity:
            put(self._filling, entry.key, renewed, entry.noted)


def _length(head: Head) -> list[tuple[bytes, bytes]]:
    """The Content-Length that the upstream has said, for those who read along."""
    return [field for field in head.headers if KINDS[field[0]] & CONTENT_LENGTH]


def passed_on(response: Response, status: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of what comes from the upstream; Surrogate-Control was for us alone."""
    fields = [field for field in response.headers if field[0].lower() != b"surrogate-control"]
    fields.append((b"Cache-Status", status))
    return fields


def _is_for_all(exchange: Exchange, fill: Fill[Errand], head: Head) -> bool:
    """Whether a failure may be shown to another than the one whose request has met it."""
    kinds = exchange.request.fields.kinds | fill.exchange.request.fields.kinds
    return not kinds & CREDENTIALS and not any(name.lower() in _PERSONAL for name, _ in head.headers)
