"""What is known of the cache, as metrics."""

from collections.abc import Collection, Iterator

from proxy.telemetry import metrics as declared
from proxy.telemetry.cache_instruments import CacheStoreMetrics, RouteCacheMetrics
from proxy.telemetry.metrics import Family
from proxy.telemetry.state_metrics import Rows, States


def cache_rows(
    routes: Collection[RouteCacheMetrics], store: CacheStoreMetrics, states: States
) -> Iterator[tuple[Family, Rows]]:
    """Every family about the cache but its histogram, with its present values."""
    yield from _route_rows(routes)
    yield from _memory_rows(states)
    yield declared.CACHE_SHARED, list(store.shared.items())
    yield declared.CACHE_PURGES, list(store.purges.items())
    yield declared.CACHE_WARMED, [((outcome,), n) for outcome, n in store.warmed.items()]
    yield declared.CACHE_PENDING, [((), store.pending)] if routes else []
    yield declared.CACHE_GAP, [((), int(store.gap))] if routes else []


def _route_rows(routes: Collection[RouteCacheMetrics]) -> Iterator[tuple[Family, Rows]]:
    requests: Rows = [((each.name, "enforce", "hit"), each.hits) for each in routes]
    requests += [((each.name, *key), n) for each in routes for key, n in each.outcomes.items()]
    yield declared.CACHE_REQUESTS, requests
    yield declared.CACHE_BYPASSES, [((each.name, reason), n) for each in routes for reason, n in each.bypasses.items()]
    yield declared.CACHE_REFUSALS, [((each.name, reason), n) for each in routes for reason, n in each.refusals.items()]
    yield declared.CACHE_COLLAPSED, [((each.name,), each.collapsed) for each in routes]
    yield declared.CACHE_FILLS, [((each.name, *key), n) for each in routes for key, n in each.fills.items()]
    ratios = [((each.name,), each.hit_ratio) for each in routes]
    yield declared.CACHE_HIT_RATIO, [(labels, round(ratio, 4)) for labels, ratio in ratios if ratio is not None]
    yield declared.CACHE_SERVED_BYTES, [((each.name,), each.served_bytes) for each in routes]


def _memory_rows(states: States) -> Iterator[tuple[Family, Rows]]:
    memories = [memory for _, mode, memory in states.of("cache") if mode == "enforce"]
    yield declared.CACHE_ENTRIES, [((), memory.entries) for memory in memories]
    yield declared.CACHE_BYTES, [((), memory.bytes) for memory in memories]
    yield declared.CACHE_BYTES_LIMIT, [((), memory.max_bytes) for memory in memories]
    evictions: Rows = [((reason,), n) for memory in memories for reason, n in memory.evictions.items()]
    yield declared.CACHE_EVICTIONS, evictions
