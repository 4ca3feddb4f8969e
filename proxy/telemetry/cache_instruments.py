"""What is counted for the cache: of each route, and of the memory and Redis that all routes share."""

from collections import deque
from typing import Final

from proxy.telemetry.instruments import Histogram

_RECENT: Final = 1024


class RouteCacheMetrics:
    """What is counted for one route's cache."""

    __slots__ = (
        "bypasses",
        "collapsed",
        "fill_duration",
        "fills",
        "hits",
        "name",
        "outcomes",
        "recent",
        "refusals",
        "served_bytes",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.hits = 0
        """Requests answered with a fresh response; the hot path bumps only this, `recent` and `served_bytes`."""
        self.outcomes: dict[tuple[str, str], int] = {}
        """By mode and outcome: stale, revalidated, miss or bypass; in shadow also hit."""
        self.bypasses: dict[str, int] = {}
        """By reason."""
        self.refusals: dict[str, int] = {}
        """Responses not stored, by reason."""
        self.collapsed = 0
        self.fills: dict[tuple[str, str], int] = {}
        """By kind and outcome."""
        self.fill_duration = Histogram()
        self.recent: deque[int] = deque(maxlen=_RECENT)
        """1 for each of the last look-ups that was answered from the cache, 0 for the others."""
        self.served_bytes = 0

    def looked_up(self, mode: str, outcome: str) -> None:
        """A request that was looked up, and what came of it."""
        if mode == "enforce":
            self.recent.append(int(outcome in ("hit", "stale")))
            if outcome == "hit":
                self.hits += 1
                return
        key = mode, outcome
        self.outcomes[key] = self.outcomes.get(key, 0) + 1

    def bypassed(self, mode: str, reason: str) -> None:
        """A request was not looked up."""
        key = mode, "bypass"
        self.outcomes[key] = self.outcomes.get(key, 0) + 1
        self.bypasses[reason] = self.bypasses.get(reason, 0) + 1

    def refused(self, reason: str) -> None:
        """A response was not stored."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def filled(self, kind: str, outcome: str, seconds: float) -> None:
        """A fill has ended."""
        key = kind, outcome
        self.fills[key] = self.fills.get(key, 0) + 1
        self.fill_duration.observe(seconds)

    @property
    def hit_ratio(self) -> float | None:
        """Of the last 1024 look-ups; None before the first."""
        return sum(self.recent) / len(self.recent) if self.recent else None


class CacheStoreMetrics:
    """What is counted for the levels that all routes share."""

    __slots__ = ("gap", "pending", "purges", "shared", "warmed")

    def __init__(self) -> None:
        self.shared: dict[tuple[str, str], int] = {}
        self.purges: dict[tuple[str, str], int] = {}
        self.warmed: dict[str, int] = {}
        self.pending = 0
        """Invalidations that Redis has not taken yet."""
        self.gap = False
        """Whether word of changes on other instances does not get through."""

    def shared_ended(self, operation: str, outcome: str) -> None:
        """A call of Redis for the cache: find (hit, miss, stale, gone, bad, error), put (stored, outdated, error)…"""
        key = operation, outcome
        self.shared[key] = self.shared.get(key, 0) + 1

    def purged(self, cause: str, outcome: str) -> None:
        """Something was purged or invalidated; `outcome` is done, or local when not everybody could be told."""
        key = cause, outcome
        self.purges[key] = self.purges.get(key, 0) + 1

    def warm_ended(self, outcome: str) -> None:
        """A URL was fetched to warm the cache: ok or failed."""
        self.warmed[outcome] = self.warmed.get(outcome, 0) + 1
