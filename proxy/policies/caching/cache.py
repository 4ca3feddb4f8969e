"""The cache as a layer: answers from what is stored, and has it fetched where it is not, once for all who ask."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from math import floor
from typing import Final

from proxy.errors import CollapsedFailure, DeadlineExceeded, NotCached, ProxyError, Source
from proxy.exchange import Exchange, Response
from proxy.policies.caching.delivery import deliver
from proxy.policies.caching.errand import Errand, Filling, is_due, passing_key, polled_key, put, resting_key
from proxy.policies.caching.fill import Fill
from proxy.policies.caching.fill_request import fill_exchange, is_as_keyed, lend_trace
from proxy.policies.caching.keeper import Head, Kind
from proxy.policies.caching.user import user_reader
from proxy.protocol.caching.directives import NO_DIRECTIVES, RequestDirectives, request_directives
from proxy.protocol.caching.keys import CacheKey, KeyMaker, Unkeyed
from proxy.protocol.caching.reuse import Use, age_of, may_stand_in, ttl_of, use_of
from proxy.protocol.caching.status_field import forwarded, hit
from proxy.protocol.caching.stored import StoredResponse, Terms, Validity
from proxy.protocol.caching.terms import terms_of
from proxy.protocol.caching.updating import freshened_fields, head_update
from proxy.protocol.caching.vary import variant_of
from proxy.protocol.fields import CONDITION, CONTENT_LENGTH, CREDENTIALS, DIRECTIVES, KINDS
from proxy.protocol.request_checks import CheckedFields
from proxy.storage.entries import is_good
from proxy.storage.memory import Entry
from proxy.telemetry.events import Decision

_SPECIAL: Final = DIRECTIVES | CONDITION
_FAILED: Final = frozenset({500, 502, 503, 504})
"""What stale-if-error is for (RFC 5861 section 4)."""
_OK: Final = 200
_NOT_MODIFIED: Final = 304
_NOT_CACHED: Final = "There is no stored response that this request may be answered with."
_TIMED_OUT: Final = Decision("timeout", "total")
_STALE: Final = Decision("cache", "stale")
_STALE_ON_ERROR: Final = Decision("cache", "stale_on_error")
_PERSONAL: Final = frozenset({b"set-cookie", b"cache-control"})
"""A failure with one of these may not be for all who have waited for it."""
_BY_CREDENTIALS: Final = frozenset({"authorization", "cookie"})
_BY_REQUEST: Final = _BY_CREDENTIALS | {"request_no_store"}
"""Why a response is not stored, where that is because of who has asked for it."""
_TRIES: Final = 2


class Look:
    """What is known of one request when it has been looked up."""

    __slots__ = ("before", "directives", "entry", "key", "noted", "reason", "softened_at", "validates", "validity")

    def __init__(self, key: CacheKey, entry: Entry | None, directives: RequestDirectives) -> None:
        self.key = key
        self.entry = entry
        self.directives = directives
        self.before: StoredResponse | None = None
        """What there is and may not be sent as it is."""
        self.validity = Validity.VALID
        """Of that, when it was looked up; `softened_at` goes with it."""
        self.softened_at = 0.0
        self.noted = 0
        """The count of changes before it was fetched."""
        self.validates = True
        """Whether the upstream may be asked if what there is still holds."""
        self.reason = "uri-miss"
        """Why the upstream is asked, as Cache-Status has it."""

    @property
    def is_forced(self) -> bool:
        """Whether the client wants more than the freshness of what is stored: what others were given will not do."""
        said = self.directives
        return said is not NO_DIRECTIVES and (
            said.no_cache or said.no_store or said.max_age is not None or said.min_fresh is not None
        )


class Cache:
    """Around everything that costs the upstream something."""

    __slots__ = (
        "_clock",
        "_filling",
        "_fills",
        "_inner",
        "_loop",
        "_make_key",
        "_memory",
        "_metrics",
        "_purges",
        "_store",
        "_user",
    )

    def __init__(
        self, filling: Filling, maker: KeyMaker, *, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        self._filling = filling
        self._inner = filling.inner
        self._store = filling.store
        self._memory = filling.memory
        self._fills = filling.store.fills
        self._purges = filling.store.purges
        self._metrics = filling.metrics
        self._make_key = maker.make
        self._user = user_reader(filling.config.per_user)
        self._loop = loop
        self._clock = clock

    async def handle(self, exchange: Exchange) -> Response:
        """Answer from the cache, or pass the exchange on. Raises ProxyError, NotCached among them."""
        request = exchange.request
        if request.method != "GET" or request.body is not None or request.upgrade:
            return await self._unusual(exchange)
        key = self._key(exchange)
        if isinstance(key, Unkeyed):
            return await self._bypass(exchange, key.reason)
        entry = self._memory.find(key.digest, request.fields)
        if entry is not None and not request.fields.kinds & _SPECIAL:
            now = exchange.wall_started
            if now < entry.refresh_at and not entry.validity and self._purges.gap_since is None:
                metrics = self._metrics
                metrics.hits += 1
                metrics.recent.append(1)
                metrics.served_bytes += len(entry.stored.body)
                exchange.cache_outcome = "hit"
                answer: Response = entry.delivery.fresh_get(now)
                return answer
        return await self._look(exchange, key, entry)

    def _key(self, exchange: Exchange) -> CacheKey | Unkeyed:
        request = exchange.request
        if self._user is None:
            return self._make_key(request.authority, exchange.scheme, request.path, request.query, exchange.params)
        user = self._user(exchange)
        if user is None:
            return Unkeyed("user")
        return self._make_key(request.authority, exchange.scheme, request.path, request.query, exchange.params, user)

    # --- what is not looked up ---

    async def _unusual(self, exchange: Exchange) -> Response:
        request = exchange.request
        if request.upgrade:
            return await self._inner.handle(exchange)
        if request.method not in ("GET", "HEAD"):
            return await self._bypass(exchange, "method")
        if request.body is not None:
            return await self._bypass(exchange, "body")
        key = self._key(exchange)
        if isinstance(key, Unkeyed):
            return await self._bypass(exchange, key.reason)
        return await self._head(exchange, key)

    async def _bypass(self, exchange: Exchange, reason: str) -> Response:
        if not exchange.is_internal:
            self._metrics.bypassed("enforce", reason)
        exchange.cache_outcome = "bypass"
        if reason == "method":
            status = forwarded("method")
        else:
            status = forwarded("bypass", detail=reason)
            fields = exchange.request.fields
            if fields.kinds & DIRECTIVES and request_directives(fields.raw).only_if_cached:
                raise NotCached(_NOT_CACHED)
        return await self._pass(exchange, status)

    async def _pass(self, exchange: Exchange, status: bytes) -> Response:
        response = await self._inner.handle(exchange)
        response.headers = _passed_on(response, status)
        return response

    async def _head(self, exchange: Exchange, key: CacheKey) -> Response:
        """A HEAD: answered from a stored GET, else passed on; what comes may show that what is stored is outdated."""
        look = self._prepare(exchange, key, self._memory.find(key.digest, exchange.request.fields))
        answer = self._from_entry(exchange, look)
        if answer is not None:
            return answer
        if look.directives.only_if_cached:
            self._outcome(exchange, "miss")
            raise NotCached(_NOT_CACHED)
        return await self._alone(exchange, look)

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
        if stored.status != _OK or renewed is None or (terms.refusal and terms.refusal not in _BY_REQUEST):
            self._memory.remove(entry)
        elif not terms.refusal and not entry.validity:
            self._memory.remove(entry)
            renewed = replace(renewed, variant=variant_of(terms.vary, request.fields.raw))
            put(self._filling, entry.key, renewed, entry.noted)

    # --- what is looked up ---

    async def _look(self, exchange: Exchange, key: CacheKey, entry: Entry | None) -> Response:
        look = self._prepare(exchange, key, entry)
        answer = self._from_entry(exchange, look)
        if answer is not None:
            return answer
        if look.directives.only_if_cached:
            self._outcome(exchange, "miss")
            raise NotCached(_NOT_CACHED)
        return await self._fetch(exchange, look)

    def _prepare(self, exchange: Exchange, key: CacheKey, entry: Entry | None) -> Look:
        fields = exchange.request.fields
        said = request_directives(fields.raw) if fields.kinds & DIRECTIVES else NO_DIRECTIVES
        look = Look(key, entry, said)
        if entry is None and self._memory.names(key.digest):
            look.reason = "vary-miss"
        return look

    def _from_entry(self, exchange: Exchange, look: Look) -> Response | None:
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
            self._outcome(exchange, "hit")
            if now >= entry.refresh_at and stored.part is None and is_due(entry, now, self._store.random()):
                self._refresh(exchange, look, stored, entry.validity)
        else:
            self._outcome(exchange, "stale")
            exchange.decide(_STALE)
            if use is Use.BEHIND and (not entry.validity or self._store.refreshes.take(self._clock())):
                self._refresh(exchange, look, stored, entry.validity)
        self._count_bytes(answer)
        return answer

    def _count_bytes(self, answer: Response) -> None:
        if isinstance(answer.body, bytes):
            self._metrics.served_bytes += len(answer.body)

    def _is_trusted(self, entry: Entry, now: float) -> bool:
        """Whether word of a change would have got through, or cannot be more than `max_gap` late."""
        since = self._purges.gap_since
        return since is None or now < max(since, entry.verified_at) + self._purges.max_gap

    # --- fills ---

    async def _fetch(self, exchange: Exchange, look: Look) -> Response:
        """Have the upstream asked, together with all who want the same."""
        place: bytes | None = self._place(exchange, look.key)
        for attempt in range(_TRIES):
            if place is None:
                break
            if attempt and (found := self._look_again(exchange, look)) is not None:
                return found
            fill = None if look.is_forced else self._joinable(place)
            is_leader = fill is None
            if fill is None:
                fill = self._start(exchange, look, place)
            head = await self._head_of(exchange, look, fill, is_leader=is_leader)
            if isinstance(head, Response):
                return head
            if head is None:  # it has failed where this request might not
                continue
            answer = await self._answer(exchange, look, fill, head, is_leader=is_leader)
            if answer is not None:
                return answer
            place = self._next_place(exchange, look, head, place, is_leader=is_leader)
        return await self._alone(exchange, look)

    def _look_again(self, exchange: Exchange, look: Look) -> Response | None:
        """What another's fill has brought in the meantime, if it will do."""
        if look.is_forced or not look.validates:
            return None
        look.entry = self._memory.find(look.key.digest, exchange.request.fields)
        return self._from_entry(exchange, look)

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

    def _place(self, exchange: Exchange, key: CacheKey) -> bytes:
        """Who waits for each other: requests with the same key, and the same variant as far as Vary is known."""
        raw = exchange.request.fields.raw
        return key.digest + b"".join([variant_of(names, raw) for names in self._memory.names(key.digest)])

    def _joinable(self, place: bytes) -> Fill[Errand] | None:
        fill = self._fills.find(place)
        # What has been outdated since it set out is not for those who have come later.
        return fill if fill is not None and fill.keeper.is_current else None

    def _start(self, exchange: Exchange, look: Look, place: bytes) -> Fill[Errand]:
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

    def _refresh(self, exchange: Exchange, look: Look, stored: StoredResponse, validity: Validity) -> None:
        """Have it fetched behind the client's back, unless that is under way."""
        place = self._place(exchange, look.key)
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
            stale = self._stand_in(exchange, look, error)
            if stale is None:
                self._outcome(exchange, "miss")
                raise
            return stale
        finally:
            if is_leader:
                fill.exchange.client = None  # whatever the fill brings from here on, this client gets its answer next
        if is_leader:
            lend_trace(fill.exchange, exchange)
        self._adopt(exchange, look, fill.keeper)
        if head.status in _FAILED and (stale := self._stand_in(exchange, look, head.status)) is not None:
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

    def _stand_in(self, exchange: Exchange, look: Look, failure: ProxyError | int) -> Response | None:
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
                    self._outcome(exchange, "stale")
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
            response.headers = _passed_on(response, status)
            return response
        try:
            complete = await fill.completed(exchange.deadline)
        except DeadlineExceeded:
            exchange.decide(_TIMED_OUT)
            self._outcome(exchange, "miss")
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
            self._refresh(exchange, look, stored, Validity.VALID)
        return deliver(exchange, stored, now, status, shows_age=head.status != _NOT_MODIFIED)

    def _unstored(
        self, exchange: Exchange, look: Look, fill: Fill[Errand], head: Head, refusal: str, *, is_leader: bool
    ) -> Response | None:
        """What came may not be kept: it is for the one it was fetched for, unless it is a failure."""
        status = forwarded(look.reason, status=head.status, collapsed=not is_leader, detail=refusal)
        if is_leader and refusal == "mismatch":
            return None
        if is_leader or (head.status in _FAILED and _is_for_all(exchange, fill, head)):
            self._outcome(exchange, "miss")
            response = fill.join(exchange)
            response.headers = _passed_on(response, status)
            return response
        if head.status in _FAILED:
            self._outcome(exchange, "miss")
            exchange.upstream_status = head.status
            raise CollapsedFailure("The upstream failed on another request for the same response.")
        return None

    def _count_fetched(self, exchange: Exchange, head: Head) -> None:
        if not head.judged.is_whole:
            self._outcome(exchange, "miss")
        else:  # without a 304, another instance has had it
            self._outcome(exchange, "revalidated" if head.status == _NOT_MODIFIED else "hit")

    def _outcome(self, exchange: Exchange, outcome: str) -> None:
        exchange.cache_outcome = outcome
        if not exchange.is_internal:
            self._metrics.looked_up("enforce", outcome)

    def _status_of(self, look: Look, head: Head, *, is_leader: bool) -> bytes:
        stored, refusal, is_whole = head.judged
        if stored is not None and is_whole and head.status != _NOT_MODIFIED:
            return hit(ttl_of(stored.terms, self._store.wall()), detail="redis")
        return forwarded(look.reason, status=head.status, stored=not refusal, collapsed=not is_leader, detail=refusal)

    async def _alone(self, exchange: Exchange, look: Look) -> Response:
        """Ask the upstream for this client, and keep nothing."""
        requested_at = self._store.wall()
        try:
            response = await self._inner.handle(exchange)
        except ProxyError as error:
            stale = self._stand_in(exchange, look, error)
            if stale is None:
                self._outcome(exchange, "miss")
                raise
            return stale
        if response.status in _FAILED and (stale := self._stand_in(exchange, look, response.status)) is not None:
            response.close()
            return stale
        self._outcome(exchange, "miss")
        is_telling = look.entry is not None and exchange.request.method == "HEAD" and response.status == _OK
        if look.entry is not None and is_telling and is_as_keyed(exchange, look.key.target):
            self._learn_from_head(exchange, look.entry, response, requested_at)
        response.headers = _passed_on(response, forwarded(look.reason))
        return response


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


def _length(head: Head) -> list[tuple[bytes, bytes]]:
    """The Content-Length that the upstream has said, for those who read along."""
    return [field for field in head.headers if KINDS[field[0]] & CONTENT_LENGTH]


def _passed_on(response: Response, status: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of what comes from the upstream; Surrogate-Control was for us alone."""
    fields = [field for field in response.headers if field[0].lower() != b"surrogate-control"]
    fields.append((b"Cache-Status", status))
    return fields


def _is_for_all(exchange: Exchange, fill: Fill[Errand], head: Head) -> bool:
    """Whether a failure may be shown to another than the one whose request has met it."""
    kinds = exchange.request.fields.kinds | fill.exchange.request.fields.kinds
    return not kinds & CREDENTIALS and not any(name.lower() in _PERSONAL for name, _ in head.headers)
