"""Latency of the recent requests of one route, for the admin listener."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class RouteStatistics:
    """Totals since the start; the durations, in seconds, cover the last `count` requests and are 0 when it is 0."""

    total: int
    failed: int
    """Answered with 5xx."""
    count: int
    min: float = 0.0
    max: float = 0.0
    avg: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


def summarize(statuses: Mapping[str, int], recent: Iterable[float]) -> RouteStatistics:
    """Statistics from counts by status label and recent durations."""
    total = sum(statuses.values())
    failed = sum(count for status, count in statuses.items() if status.startswith("5"))
    durations = sorted(recent)
    if not durations:
        return RouteStatistics(total, failed, 0)
    return RouteStatistics(
        total,
        failed,
        len(durations),
        min=durations[0],
        max=durations[-1],
        avg=sum(durations) / len(durations),
        p50=_percentile(durations, 0.50),
        p95=_percentile(durations, 0.95),
        p99=_percentile(durations, 0.99),
    )


def _percentile(ordered: list[float], share: float) -> float:
    """Nearest rank: the smallest value that `share` of all values do not exceed."""
    return ordered[ceil(share * len(ordered)) - 1]
