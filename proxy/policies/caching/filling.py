"""What all fills of one route have in common, what they put into the memory, and what is remembered of their keys."""

from dataclasses import dataclass
from math import log
from typing import Final

from proxy.config.caching import CacheConfig
from proxy.exchange import Handler
from proxy.policies.caching.delivery import Delivery
from proxy.policies.caching.store import CacheStore
from proxy.protocol.caching.stored import Rules, StoredResponse
from proxy.protocol.fields import CREDENTIALS
from proxy.storage.memory import Entry, Memory
from proxy.telemetry.cache_instruments import RouteCacheMetrics

_JITTERED: Final = 60.0
"""Seconds of freshness from which its end is spread: what was stored together shall not expire together."""
_SPREAD: Final = 0.1
_EARLIEST: Final = 10.0
"""Times the duration of the fill before the end: the first early refresh is less likely than 1 in 22,000 before."""


@dataclass(frozen=True, slots=True)
class Filling:
    """What all errands of one route have in common."""

    inner: Handler
    config: CacheConfig
    rules: Rules
    store: CacheStore
    memory: Memory
    metrics: RouteCacheMetrics
    keeps_good: bool
    """Whether a fallback of the route may need what is outdated."""


def rules_of(config: CacheConfig) -> Rules:
    """The route's configuration as the pure decisions take it."""
    return Rules(
        ttl=config.ttl,
        respect_origin=config.respect_origin,
        negative_ttl=config.negative_ttl,
        stale_while_revalidate=config.stale_while_revalidate,
        stale_if_error=config.stale_if_error,
        stores_cookies=config.set_cookie == "store",
        is_private=bool(config.per_user),
        vary=tuple(sorted(name.lower().encode() for name in config.vary)),
    )


def passing_key(key: bytes, kinds: int) -> bytes:
    """Under what is remembered that a response could not be stored; apart for requests whose `kinds` have credentials.

    Else anybody could, with credentials of his own, keep all others from sharing fills.
    """
    return key + b"+" if kinds & CREDENTIALS else key


def polled_key(key: bytes) -> bytes:
    """Under what is remembered that a client was told 304 while nothing is stored: for who asks next it is fetched."""
    return key + b"?"


def resting_key(key: bytes) -> bytes:
    """Under what is remembered that a refresh has brought nothing: a failing upstream is not asked for every hit."""
    return key + b"~"


def put(filling: Filling, key: bytes, stored: StoredResponse, noted: int) -> None:
    """Put a response into the memory, unless it has been outdated since `noted`, and work out what its hits need."""
    config = filling.config
    entry = filling.memory.put(key, stored, noted, max_variants=config.max_variants, keeps_good=filling.keeps_good)
    terms = stored.terms
    if entry is None or stored.part is not None or terms.always_validates:
        return
    entry.delivery = Delivery(stored)
    end = terms.fresh_until
    if config.early_refresh:
        left = end - entry.stored_at
        if left >= _JITTERED:
            end -= left * _SPREAD * filling.store.random()
        entry.refresh_at = end - _EARLIEST * stored.fill_seconds
    else:
        entry.refresh_at = end
    entry.ends_at = end


def is_due(entry: Entry, now: float, random: float) -> bool:
    """Whether a request that is answered from a fresh entry should have it fetched anew before its end.

    Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention (2015), with beta 1.
    """
    return now - entry.stored.fill_seconds * log(max(random, 1e-12)) >= entry.ends_at
