"""The cache in shadow: remembers heads, says what it would have answered itself, and changes nothing."""

from typing import Final

from proxy.exchange import Exchange, Response
from proxy.policies.caching.filling import Filling
from proxy.policies.caching.keeper import refusal_of
from proxy.policies.caching.user import user_reader
from proxy.protocol.caching.directives import NO_DIRECTIVES, request_directives
from proxy.protocol.caching.keys import CacheKey, KeyMaker
from proxy.protocol.caching.reuse import Use, use_of
from proxy.protocol.caching.stored import StoredResponse
from proxy.protocol.caching.terms import terms_of
from proxy.protocol.caching.vary import variant_of
from proxy.protocol.fields import DIRECTIVES
from proxy.telemetry.events import Decision

_PARTIAL: Final = 206
_OUTCOMES: Final = {Use.FRESH: "hit", Use.STALE: "stale", Use.BEHIND: "stale", Use.VALIDATE: "revalidated"}
_DECISIONS: Final = {
    outcome: Decision("cache", outcome, mode="shadow") for outcome in ("hit", "stale", "revalidated", "miss", "bypass")
}


class ShadowCache:
    """Looks up and stores as the cache would, without bodies. Nobody waits for anybody here."""

    __slots__ = ("_filling", "_inner", "_make_key", "_user")

    def __init__(self, filling: Filling, maker: KeyMaker) -> None:
        self._filling = filling
        self._inner = filling.inner
        self._make_key = maker.make
        self._user = user_reader(filling.config.per_user)

    async def handle(self, exchange: Exchange) -> Response:
        """Pass the exchange on, and note what would have become of it."""
        key = self._key(exchange)
        if key is None:
            self._report(exchange, "bypass")
            return await self._inner.handle(exchange)
        outcome = self._outcome(exchange, key)
        self._report(exchange, outcome)
        store = self._filling.store
        noted, requested_at = store.generations.sequence, store.wall()
        response = await self._inner.handle(exchange)
        if outcome != "hit" and exchange.request.method == "GET":
            self._remember(exchange, key, response, noted, requested_at)
        return response

    def _key(self, exchange: Exchange) -> CacheKey | None:
        request = exchange.request
        if request.method not in ("GET", "HEAD") or request.body is not None or request.upgrade:
            return None
        user = None if self._user is None else self._user(exchange)
        if user is None and self._user is not None:
            return None
        key = self._make_key(
            request.authority, exchange.scheme, request.path, request.query, exchange.params, user or b""
        )
        return key if isinstance(key, CacheKey) else None

    def _outcome(self, exchange: Exchange, key: CacheKey) -> str:
        fields = exchange.request.fields
        entry = self._filling.memory.find(key.digest, fields)
        if entry is None:
            return "miss"
        said = request_directives(fields.raw) if fields.kinds & DIRECTIVES else NO_DIRECTIVES
        now = self._filling.store.wall()
        return _OUTCOMES[use_of(entry.stored.terms, entry.validity, said, now, entry.softened_at)]

    def _remember(self, exchange: Exchange, key: CacheKey, response: Response, noted: int, requested_at: float) -> None:
        filling, fields = self._filling, exchange.request.fields.raw
        terms = terms_of(
            "GET",
            fields,
            response.status,
            response.headers,
            requested_at=requested_at,
            received_at=filling.store.wall(),
            rules=filling.rules,
        )
        # Parts would have to be put together, for which there are no bodies here.
        if terms.refusal or response.status == _PARTIAL or refusal_of(response, filling.config.max_body):
            return
        variant = variant_of(terms.vary, fields)
        head = StoredResponse(response.status, b"", (), b"", terms, variant=variant, tags=key.tags)
        filling.memory.put(key.digest, head, noted, max_variants=filling.config.max_variants)

    def _report(self, exchange: Exchange, outcome: str) -> None:
        self._filling.metrics.looked_up("shadow", outcome)
        exchange.decide(_DECISIONS[outcome])
