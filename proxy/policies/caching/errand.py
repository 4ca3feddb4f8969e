"""What a fill is sent for: asks Redis, then the upstream, and says what may be kept of the answer, and where."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from proxy.exchange import Exchange, Request, Response
from proxy.policies.caching.fill import Fill
from proxy.policies.caching.filling import Filling, passing_key, polled_key, put, resting_key
from proxy.policies.caching.keeper import TOO_LARGE, Judged, Outcome, refusal_of
from proxy.policies.outcome import FIRST_FAILURE_STATUS
from proxy.protocol.caching.directives import NO_DIRECTIVES
from proxy.protocol.caching.keys import CacheKey
from proxy.protocol.caching.ranges import combined, part_of
from proxy.protocol.caching.reuse import Use, use_of
from proxy.protocol.caching.stored import Part, StoredResponse, Terms, Validity
from proxy.protocol.caching.terms import stored_fields, terms_of
from proxy.protocol.caching.updating import freshened_fields, selects, updated
from proxy.protocol.caching.vary import variant_of
from proxy.protocol.fields import CONDITION, CONTENT_LENGTH, INTERNAL, KINDS
from proxy.protocol.headers import RawHeaders
from proxy.protocol.request_checks import CheckedFields
from proxy.storage.memory import Entry

if TYPE_CHECKING:
    from proxy.storage.shared_cache import Found, SharedCache

PASSING: Final = 10.0
"""Seconds for which requests for what could not be stored do not wait for each other."""
POLLED: Final = 60.0
"""Seconds for which clients that have what is not stored here do not keep it from being stored."""
LEASE: Final = 1.0
"""Seconds after which another instance may fill as well, when nothing is heard any more of the one with the lease."""
PATIENCE: Final = 10.0
"""Seconds for which it is waited for at most, while it is heard of."""
REST: Final = 1.0
"""Seconds without a refresh in the background after one that has brought nothing."""
RETAINED: Final = 600.0
"""Seconds for which a response with a validator is kept after its end, so that the upstream may answer 304."""
RETAINED_FOR_FALLBACK: Final = 7 * 86_400.0
_ADDED: Final = frozenset({b"x-forwarded-for", b"x-real-ip"})
"""What every request to the upstream says of the client's address."""
_KEPT: Final = frozenset({"stored", "updated"})
"""Outcomes of fills."""
_NOT_MODIFIED: Final = 304
_PARTIAL: Final = 206
_OK: Final = 200


class FromShared(Response):
    """The answer of a fill that found in Redis what it was sent for."""

    __slots__ = ("stored",)

    def __init__(self, stored: StoredResponse) -> None:
        super().__init__(stored.status, [])
        self.stored = stored


class Errand:
    """One fill's handler and keeper. `before` is what there is already, to be validated."""

    __slots__ = (
        "_asked_for",
        "_filling",
        "_is_alone",
        "_is_conditional",
        "_kinds",
        "_lease",
        "_marks",
        "_may_be_stale",
        "_validates",
        "before",
        "is_forced",
        "is_refresh",
        "key",
        "noted",
        "requested_at",
        "validity",
    )

    def __init__(
        self,
        filling: Filling,
        key: CacheKey,
        before: StoredResponse | None,
        validity: Validity = Validity.VALID,
        *,
        is_forced: bool = False,
        may_be_stale: bool = False,
        is_refresh: bool = False,
        is_alone: bool = False,
        validates: bool = True,
    ) -> None:
        self._filling = filling
        self.noted = filling.store.generations.sequence
        """The count of changes before anybody is asked: what changes later outdoes what comes."""
        self._marks = self._lease = b""
        self._is_conditional = False
        self._asked_for: RawHeaders = ()
        self._kinds = 0
        self.key = key
        self.before = before
        self.validity = validity
        """Of `before`."""
        self._may_be_stale = may_be_stale
        """Whether a response from Redis will do that may be sent while it is fetched anew."""
        self._validates = validates
        """Whether the upstream may be asked if what Redis has still holds: not beside conditions of the client's."""
        self.is_forced = is_forced
        """Whether only the upstream's own word will do, whatever Redis has."""
        self._is_alone = is_alone or is_forced
        """Whether it waits for no other instance, nor they for it."""
        self.is_refresh = is_refresh
        """Whether only something newer than `before` will do, and nobody waits for it."""
        self.requested_at = 0.0
        """Unix time at which the upstream was asked."""

    @property
    def is_current(self) -> bool:
        """Whether nothing has changed what it is about since it set out."""
        return not self._filling.store.generations.changed_since(self.key.tags, self.noted)

    # --- handler ---

    async def handle(self, exchange: Exchange) -> Response:
        """Answer the fill's exchange: from Redis, or by the upstream. Raises ProxyError."""
        shared = self._filling.store.shared
        self._asked_for = exchange.request.fields.raw
        self._kinds = exchange.request.fields.kinds
        if shared is not None and self._filling.config.redis:
            found = await self._find(shared, exchange)
            if found is not None:
                return FromShared(found)
        if self.before is not None:
            conditions = validators_of(self.before)
            if conditions:
                exchange.request = _with_fields(exchange.request, conditions)
                self._is_conditional = True
        self.requested_at = self._filling.store.wall()
        return await self._filling.inner.handle(exchange)

    async def _find(self, shared: "SharedCache", exchange: Exchange) -> StoredResponse | None:
        """What another instance has stored, if it will do. Waits while another instance is fetching it."""
        found = await self._ask(shared, exchange)
        usable = self._usable(found)
        if usable is None and not found.lease and not self.is_refresh and await self._wait(shared, exchange):
            exchange.store_seconds = 0.0  # the answer that was waited for shall not fail for want of a millisecond
            found = await self._ask(shared, exchange)
            usable = self._usable(found)
        if usable is None and found.stored is not None and self._validates:
            self.before, self.validity = found.stored, found.validity
        return usable

    def _usable(self, found: "Found") -> StoredResponse | None:
        # What is not VALID would pass for that in memory.
        if found.stored is None or found.validity is not Validity.VALID or self.is_forced:
            return None
        if self.is_refresh and self.before is not None and found.stored.terms.born <= self.before.terms.born:
            return None
        use = use_of(found.stored.terms, found.validity, NO_DIRECTIVES, self._filling.store.wall())
        return found.stored if use is Use.FRESH or (use is Use.BEHIND and self._may_be_stale) else None

    async def _ask(self, shared: "SharedCache", exchange: Exchange) -> "Found":
        """What Redis says now."""
        key = self.key
        names = self._filling.memory.names(key.digest)
        found = await shared.find(
            key.digest, names, self._asked_for, key.tags, exchange, lease=0.0 if self._is_alone else LEASE
        )
        self._marks, self._lease = found.marks, found.lease
        shared.hold(key.digest, found.lease, LEASE)
        return found

    async def _wait(self, shared: "SharedCache", exchange: Exchange) -> bool:
        """Wait until the other instance has come back, for half of the fill's time at most; whether it has."""
        if self._is_alone:
            return False
        total = exchange.timeout.total
        return await shared.wait(self.key.digest, PATIENCE if total is None else min(PATIENCE, total / 2))

    # --- keeper ---

    def judge(self, fill: "Fill[Errand]", response: Response, received_at: float) -> Judged:
        """Whether the response may be stored."""
        if isinstance(response, FromShared):
            return Judged(response.stored, "", True)
        if response.status == _NOT_MODIFIED and self._is_conditional and self.before is not None:
            return self._confirmed(self.before, response, received_at)
        terms = self._terms(response.status, response.headers, received_at)
        refusal = self._unfit(response) or terms.refusal or _varies_on_ours(terms)
        part = None
        if not refusal and (response.status == _PARTIAL or self._has_range()):
            part = _part_of(response) if self._has_range() else None
            refusal = "" if part is not None else "partial"
        if refusal:
            self._refused(refusal, response.status, received_at)
            return Judged(None, refusal, False)
        stored = StoredResponse(
            status=_OK if part is not None else response.status,
            reason=b"" if part is not None else response.reason,
            fields=stored_fields(response.headers, received_at),
            body=b"",
            terms=terms,
            part=part,
            variant=variant_of(terms.vary, self._asked_for),
            tags=self.key.tags,
        )
        return Judged(stored, "", False)

    def _confirmed(self, before: StoredResponse, response: Response, received_at: float) -> Judged:
        """A 304: what is stored still holds, with newer fields (RFC 9111 section 4.3.4)."""
        if not selects(before, response.headers):
            return Judged(None, "mismatch", False)
        terms = self._terms(before.status, freshened_fields(before, response.headers), received_at)
        if terms.refusal:
            self._refused(terms.refusal, before.status, received_at)
        renewed = updated(before, response.headers, terms, variant_of(terms.vary, self._asked_for))
        return Judged(replace(renewed, tags=self.key.tags), terms.refusal, True)

    def _terms(self, status: int, fields: RawHeaders, received_at: float) -> Terms:
        return terms_of(
            "GET",
            self._asked_for,
            status,
            fields,
            requested_at=self.requested_at,
            received_at=received_at,
            rules=self._filling.rules,
        )

    def _has_range(self) -> bool:
        """Whether only a part was asked for: then nothing but a part is stored, and a part only then."""
        return bool(self._kinds & CONDITION) and any(name.lower() == b"range" for name, _ in self._asked_for)

    def _unfit(self, response: Response) -> str:
        """What speaks against storing it beside what its fields say."""
        return "status" if response.tunnel is not None else refusal_of(response, self._filling.config.max_body)

    def _refused(self, reason: str, status: int, now: float) -> None:
        """Nobody shall wait for the like of it, unless it is about this very request, or a failure that will pass."""
        self._filling.metrics.refused(reason)
        if status == _NOT_MODIFIED and not self._is_conditional:
            self._filling.memory.mark_passing(polled_key(self.key.digest), now + POLLED)
        if not self.is_forced and reason != "status" and status < FIRST_FAILURE_STATUS:
            self._mark_passing(now)
        self._release()

    def _mark_passing(self, now: float) -> None:
        self._filling.memory.mark_passing(passing_key(self.key.digest, self._kinds), now + PASSING)

    def _release(self) -> None:
        """Let another instance try, as nothing will come of it here."""
        shared = self._filling.store.shared
        if self._lease and shared is not None:
            self._filling.store.spawn(shared.release(self.key.digest, self._lease))
            self._lease = b""

    async def keep(self, fill: "Fill[Errand]", stored: StoredResponse) -> None:
        """Put what is complete into Redis and into the memory, unless it has been outdated in the meantime."""
        filling, store = self._filling, self._filling.store
        if stored.terms.refusal:
            return
        now = store.wall()
        entry = filling.memory.find(self.key.digest, CheckedFields(self._asked_for))
        if entry is not None and self._is_outdone(entry, stored):
            return
        if stored.part is not None:
            stored = stored if entry is None else _joined(entry, stored, filling.config.max_body)
        elif self.requested_at:
            stored.fill_seconds = now - self.requested_at
        if self.requested_at and stored.part is None and store.shared is not None and self._marks:
            seconds = self._retention(stored, now)
            if seconds > 0 and await store.shared.put(self.key.digest, stored, self._marks, seconds):
                self._lease = b""  # it ends with that call
        put(filling, self.key.digest, stored, self.noted)

    def _is_outdone(self, entry: Entry, stored: StoredResponse) -> bool:
        """Whether `entry` has come while this was on its way, and is newer; or whole, where this is another part."""
        if entry.place != (stored.terms.vary, stored.variant) or entry.validity >= Validity.INVALID:
            return False
        if self.requested_at and entry.stored_at > self.requested_at and entry.stored.terms.date > stored.terms.date:
            return True
        return stored.part is not None and entry.stored.part is None and self._contradicts(entry, stored)

    def _contradicts(self, entry: Entry, part: StoredResponse) -> bool:
        return _joined(entry, part, self._filling.config.max_body) is part

    def _retention(self, stored: StoredResponse, now: float) -> float:
        """For how many seconds it is of use to anybody."""
        terms = stored.terms
        after = max(terms.stale_while_revalidate, terms.stale_if_error, RETAINED if terms.has_validator else 0.0)
        if self._filling.keeps_good:
            after = max(after, RETAINED_FOR_FALLBACK)
        return terms.fresh_until + after - now

    def ended(self, fill: "Fill[Errand]", outcome: Outcome, seconds: float) -> None:
        """Count it, and let another instance try when nothing came of it."""
        self._filling.metrics.filled(fill.kind, outcome, seconds)
        if outcome == TOO_LARGE and not self.is_forced:
            self._mark_passing(self._filling.store.wall())
        if self.is_refresh and outcome not in _KEPT:
            self._filling.memory.mark_passing(resting_key(self.key.digest), self._filling.store.wall() + REST)
        self._release()


def _joined(entry: Entry, stored: StoredResponse, limit: int) -> StoredResponse:
    """A part, together with what is there already, if they are of the same and `limit` bytes hold both."""
    both = None if entry.validity else combined(entry.stored, stored)
    return stored if both is None or len(both.body) > limit else both


def _varies_on_ours(terms: Terms) -> str:
    """A refusal where it depends on a field that every client has another one of, and that no client's request shows.

    Who asks is in what we add, not in what selects a response.
    """
    return "vary" if any(name in _ADDED or KINDS[name] & INTERNAL for name in terms.vary) else ""


def validators_of(stored: StoredResponse) -> Sequence[tuple[bytes, bytes]]:
    """The conditions under which the upstream need not send it again (RFC 9111 section 4.3.1)."""
    conditions = []
    if stored.part is not None:
        return ()
    if stored.terms.etag:
        conditions.append((b"If-None-Match", stored.terms.etag))
    if stored.terms.last_modified is not None:
        value = next((value for name, value in stored.fields if name.lower() == b"last-modified"), None)
        if value is not None:
            conditions.append((b"If-Modified-Since", value))
    return conditions


def _with_fields(request: Request, more: Sequence[tuple[bytes, bytes]]) -> Request:
    fields = CheckedFields((*request.fields.raw, *more), kinds=request.fields.kinds)
    return Request(request.method, request.target, fields, request.headers, request.authority, None, request.version)


def _part_of(response: Response) -> Part | None:
    length = _declared_length(response.headers)
    return None if response.status != _PARTIAL or length is None else part_of(_PARTIAL, response.headers, length)


def _declared_length(fields: RawHeaders) -> int | None:
    for name, value in fields:
        if KINDS[name] & CONTENT_LENGTH and value.isdigit():
            return int(value)
    return None
