"""The cache of this process, as the admin listener sees it and purges it."""

import asyncio
import re
from collections.abc import Sequence
from typing import Final

from proxy.admin.cache_view import NO_CACHE, CacheStatus, EntryReport, EntryStatus, Purged, SelectionKind, Warming
from proxy.config.addresses import as_ip
from proxy.config.model import Config
from proxy.config.policy_types import ClientKey
from proxy.policies.caching.store import CacheStore
from proxy.policies.caching.targets import PATH, URI, Target, Targets
from proxy.policies.caching.user import user_of
from proxy.policies.caching.warming import Warmer
from proxy.protocol.caching.keys import CacheKey, Unkeyed
from proxy.protocol.caching.reuse import age_of
from proxy.protocol.caching.stored import StoredResponse, Validity
from proxy.protocol.caching.tags import ALL, route_tag, tag_of_pattern, user_tag

_ABSOLUTE: Final = re.compile(r"(https?)://([^/?#]+)([^#]*).*", re.IGNORECASE | re.DOTALL)
_TURN: Final = 1000
"""So many stored responses are looked at before others have a turn."""
_UNKEYED: Final = {
    "query": "It has a query parameter that its route does not declare.",
    "user": "Its route tells users apart, and it says no user.",
}
_NO_URL: Final = "A URL is a path such as /properties/1, or begins with http:// or https://."
_NO_TAG: Final = "A tag has no `*`: say pattern=list:* for all below one, all=true for everything."
_NO_PATTERN: Final = "A pattern is a tag with `:*` at its end, such as properties:list:*."
_NO_ROUTE: Final = "No route of that name has a cache."
_NO_USERS: Final = "No route's cache tells users apart by as many things as you have named."
_NOTHING: Final = "Nothing is stored for it."
_PASSING: Final = "Its last response could not be stored."


class Unselectable(ValueError):
    """Nothing can be purged by that; the message says why and repeats nothing of it."""


class ProcessCache:
    """What one configuration has of a cache; `store` is None when no route has one."""

    def __init__(self, config: Config, store: CacheStore | None, targets: Targets, warmer: Warmer) -> None:
        self._config = config
        self._store = store
        self._targets = targets
        self._warmer = warmer

    # --- purging ---

    async def purge(self, kind: SelectionKind, values: Sequence[str], *, soft: bool) -> Purged:
        """Purge here at once, and everywhere else as far as it can be reached."""
        store = self._store
        if store is None:
            return Purged(problem=NO_CACHE)
        try:
            tags = self._tags(kind, values)
        except ValueError as error:
            return Purged(problem=str(error))
        validity = Validity.SOFT if soft else Validity.GONE
        task = store.purges.begin(tags, validity, cause="admin")
        _drop_all(store, tags, validity)
        return Purged(tuple(tags), "soft" if soft else "hard", await asyncio.shield(task))

    def heard(self, tags: Sequence[str], validity: Validity) -> None:
        """Another worker has purged something."""
        if self._store is not None:
            self._store.purges.heard(tags, validity)
            _drop_all(self._store, tags, validity)

    def _tags(self, kind: SelectionKind, values: Sequence[str]) -> list[str]:
        """Raises ValueError."""
        match kind:
            case "all":
                return [ALL]
            case "user":
                return self._user_tags(values)
            case "url":
                return self._url_tags(values[0])
            case "route":
                return self._route_tags(values[0])
            case _:
                return [_declared_tag(values[0], is_pattern=kind == "pattern")]

    def _url_tags(self, url: str) -> list[str]:
        scheme, authority, target = _split(url)
        found = self._targets.explain(target)
        if isinstance(found, str):
            raise Unselectable(found)
        key = found.key(authority, scheme)
        if isinstance(key, Unkeyed):
            raise Unselectable(_why_unkeyed(key))
        return _tags_of(key, by_path=not authority)

    def _route_tags(self, name: str) -> list[str]:
        if not any(route.name == name and route.cache is not None for route in self._config.routes):
            raise Unselectable(_NO_ROUTE)
        return [route_tag(name)]

    def _user_tags(self, values: Sequence[str]) -> list[str]:
        """The same user may be told by several things: by a header here, by a cookie there."""
        caches = [route.cache for route in self._config.routes if route.cache is not None]
        keys = {cache.per_user for cache in caches if _may_be(cache.per_user, values)}
        if not keys:
            raise Unselectable(_NO_USERS)
        return list(dict.fromkeys(user_tag(user_of(each, values)) for each in keys))

    # --- showing ---

    def status(self) -> CacheStatus | None:
        """How it is now; None without a cache."""
        store, limits = self._store, self._config.cache
        if store is None:
            return None
        since = store.purges.gap_since
        return CacheStatus(
            entries=store.memory.entries,
            max_entries=limits.max_entries,
            bytes=store.memory.bytes,
            max_bytes=store.memory.max_bytes,
            redis=store.shared is not None,
            gap_for=None if since is None else round(max(0.0, store.wall() - since), 3),
            pending=len(store.purges.pending),
            warm=self._warmer.progress,
        )

    async def entry(self, url: str) -> EntryReport:
        """What is stored for a path, under any authority, or for a whole URL."""
        store = self._store
        if store is None:
            return EntryReport(reason=NO_CACHE)
        try:
            scheme, authority, target = _split(url)
        except Unselectable as error:
            return EntryReport(reason=str(error))
        found = self._targets.explain(target)
        if isinstance(found, str):
            return EntryReport(reason=found)
        key = found.key(authority, scheme)
        if isinstance(key, Unkeyed):
            return EntryReport(found.route.name, reason=_why_unkeyed(key))
        return await self._report(store, found, key, by_path=not authority)

    async def _report(self, store: CacheStore, found: Target, key: CacheKey, *, by_path: bool) -> EntryReport:
        wanted = _tags_of(key, by_path=by_path)[0]
        now = store.wall()
        entries = []
        for number, entry in enumerate(store.memory.stored(), start=1):
            if number % _TURN == 0:
                await asyncio.sleep(0)
            if wanted in entry.stored.tags:
                validity, softened_at = store.generations.validity(entry.stored.tags, entry.noted)
                if validity is not Validity.GONE:  # it is only waiting to be removed
                    entries.append(_status_of(entry.stored, validity, softened_at, now, "memory", entry.size))
        if not by_path:
            entries += await _shared(store, found, key, now)
        reason = "" if entries else _PASSING if store.memory.is_passing(key.digest, now) else _NOTHING
        return EntryReport(found.route.name, key.text, reason, tuple(entries))

    # --- warming ---

    async def warm(self) -> Warming:
        """Fetch again what the file says."""
        return self._warmer.start()


def _drop_all(store: CacheStore, tags: Sequence[str], validity: Validity) -> None:
    """Make room at once where nothing is left that could be used: else each is removed when it is looked for."""
    if ALL in tags and validity is Validity.GONE:
        store.memory.clear()


def _split(url: str) -> tuple[str, str, str]:
    """Scheme, authority and origin form; the first two are empty for a path. Raises Unselectable."""
    if url.startswith("/"):
        return "", "", url.partition("#")[0]
    match = _ABSOLUTE.fullmatch(url)
    if match is None:
        raise Unselectable(_NO_URL)
    target = match[3]
    return match[1].lower(), match[2], target if target.startswith("/") else f"/{target}"


def _declared_tag(text: str, *, is_pattern: bool) -> str:
    """Raises ValueError."""
    if is_pattern != text.endswith(":*") or text.removesuffix(":*") == ALL:
        raise Unselectable(_NO_PATTERN if is_pattern else _NO_TAG)
    return tag_of_pattern(text)


def _may_be(keys: Sequence[ClientKey], values: Sequence[str]) -> bool:
    """Whether these values may be what tells a user apart by `keys`."""
    if len(keys) != len(values):
        return False
    return all(key.kind != "client_ip" or as_ip(value) for key, value in zip(keys, values, strict=True))


def _tags_of(key: CacheKey, *, by_path: bool) -> list[str]:
    """The tag by which everything for that URL is found."""
    begin = PATH if by_path else URI
    return [tag for tag in key.tags if tag.startswith(begin)]


def _why_unkeyed(key: Unkeyed) -> str:
    return _UNKEYED.get(key.reason, "It has no key.")


async def _shared(store: CacheStore, found: Target, key: CacheKey, now: float) -> list[EntryStatus]:
    """What Redis has for a request that says no more than the URL."""
    cache = found.route.cache
    if store.shared is None or cache is None or not cache.redis or cache.per_user:
        return []
    names = store.memory.names(key.digest)
    stored, validity, softened_at, *_ = await store.shared.find(key.digest, names, (), key.tags, None)
    if stored is None:
        return []
    return [_status_of(stored, validity, softened_at, now, "redis", len(stored.body))]


def _status_of(
    stored: StoredResponse, validity: Validity, softened_at: float, now: float, level: str, size: int
) -> EntryStatus:
    terms = stored.terms
    end = min(terms.fresh_until, softened_at) if validity is Validity.SOFT else terms.fresh_until
    return EntryStatus(
        status=stored.status,
        age=age_of(terms, now),
        fresh_for=round(end - now, 3),
        validity=validity.name.lower(),
        size=size,
        level=level,
        vary=tuple(name.decode("latin-1") for name in terms.vary),
        tags=stored.tags,
    )
