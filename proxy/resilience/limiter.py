"""What one route remembers of its clients for all its rate limits: all of them must allow, and only then all count."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from proxy.resilience.gcra import Asked, Gcra, Verdict, admitted, refused
from proxy.resilience.limit_table import LimitTable

if TYPE_CHECKING:
    from proxy.config.policies import RateLimitConfig

CAPACITY: Final = 100_000
"""Clients remembered by each limit; some 15 MB when full."""


def gcra_of(limit: "RateLimitConfig", share: int = 1) -> Gcra:
    """The limit as arithmetic; `share` is the number of equal parts of which it is one."""
    rate = limit.rate
    return Gcra(rate.period / rate.count * share, (limit.burst or rate.count) / share, limit.cost)


class LimiterState:
    """The arrival times for each limit of a route; `keys` name the client, one key for each limit, in order.

    An exchange that began before a reload may bring fewer keys than there are limits now, or more. `share` is the
    number of processes that divide every limit among them. Times are monotonic seconds.
    """

    __slots__ = ("_capacity", "_config", "_gcras", "_share", "_tables")

    def __init__(
        self, config: "tuple[RateLimitConfig, ...]", now: float, *, share: int = 1, capacity: int = CAPACITY
    ) -> None:
        self._config = config
        self._share = share
        self._capacity = capacity
        self._gcras: tuple[Gcra | None, ...] = tuple(gcra_of(limit, share) for limit in config)
        self._tables = [LimitTable(capacity, now) for _ in config]

    @property
    def clients(self) -> int:
        """Clients that the limit with the most of them remembers."""
        return max(map(len, self._tables), default=0)

    # --- deciding ---

    def take(self, keys: Sequence[bytes], now: float, gcras: "Sequence[Gcra | None] | None" = None) -> Verdict:
        """Decide on a request and count it if it passes. `gcras` stand in for the limits; None skips one."""
        if gcras is None:
            gcras = self._gcras
        if len(keys) != 1 or (gcra := gcras[0]) is None:
            return self._take_all(keys, now, gcras)
        ceiling, increment = gcra.ceiling, gcra.increment
        reset = self._tables[0].advance(keys[0], increment, ceiling, now)
        if reset > ceiling:
            return False, 0, 0, reset - ceiling
        return True, 0, int((ceiling - reset) / increment), reset

    def resets(self, keys: Sequence[bytes], now: float) -> list[float]:
        """How far the client's arrival time lies ahead of now, for each key."""
        resets = [max(table.get(key) - now, 0.0) for key, table in zip(keys, self._tables, strict=False)]
        return resets + [0.0] * (len(keys) - len(resets))

    def learn(self, keys: Sequence[bytes], resets: Sequence[float], now: float) -> None:
        """Take over what others know of the client. An arrival time never goes back by that."""
        for key, table, reset in zip(keys, self._tables, resets, strict=False):
            arrival = now + reset
            if reset > 0 and arrival > table.get(key):
                table.put(key, arrival, now)

    def _take_all(self, keys: Sequence[bytes], now: float, gcras: "Sequence[Gcra | None]") -> Verdict:
        before: list[Asked] = []
        after: list[Asked] = []
        allowed = True
        for index, (gcra, key, table) in enumerate(zip(gcras, keys, self._tables, strict=False)):
            if gcra is not None:
                reset = max(table.get(key) - now, 0.0)
                before.append((index, gcra, reset))
                after.append((index, gcra, reset + gcra.increment))
                allowed = allowed and reset + gcra.increment <= gcra.ceiling
        if not allowed:
            return refused(before)
        for index, _, reset in after:
            self._tables[index].put(keys[index], now + reset, now)
        return admitted(after)

    # --- changes ---

    def cap(self, now: float, gcras: "Sequence[Gcra | None] | None" = None) -> None:
        """Let no client wait longer than the limits, or `gcras` in their place, can ask for."""
        for table, gcra in zip(self._tables, self._gcras if gcras is None else gcras, strict=False):
            if gcra is not None:
                table.cap(now + gcra.tolerance)

    def reconfigure(self, config: "tuple[RateLimitConfig, ...]", now: float) -> str:
        """Go on under other limits. One that counts by the same key in the same place keeps its arrival times."""
        if config == self._config:
            return ""
        changes = [
            change
            for index in range(max(len(config), len(self._config)))
            if (change := self._replace(index, config[index : index + 1], now))
        ]
        del self._tables[len(config) :]
        self._config = config
        self._gcras = tuple(gcra_of(limit, self._share) for limit in config)
        self.cap(now)
        return ", ".join(changes)

    def _replace(self, index: int, wanted: "tuple[RateLimitConfig, ...]", now: float) -> str:
        """Make the table at `index` fit the limit `wanted` there, if any. What became of it, in words."""
        before = self._config[index : index + 1]
        if not wanted:
            return f"{before[0].rate} dropped"
        limit = wanted[0]
        if not before:
            self._tables.append(LimitTable(self._capacity, now))
            return f"{limit.rate} added"
        if before[0].key != limit.key:
            self._tables[index] = LimitTable(self._capacity, now)
            return f"{limit.rate} counts by another key, reset"
        return "" if _same(before[0], limit) else f"{before[0].rate} is now {limit.rate}, counts kept"

    def __repr__(self) -> str:
        return f"<LimiterState {' '.join(str(limit.rate) for limit in self._config)} clients={self.clients}>"


def _same(limit: "RateLimitConfig", other: "RateLimitConfig") -> bool:
    """Whether two limits count alike; they may differ in mode and in what happens without Redis."""
    return (limit.rate, limit.burst, limit.cost) == (other.rate, other.burst, other.cost)
