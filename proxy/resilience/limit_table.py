"""The arrival times of the clients of one limit, in bounded memory.

Two dicts stand for one: entries are written to the young one, and a round moves those that still count from the old one
to it, a few with each write. So expired entries go without a timer and without a pause, however many there are. (One
dict would do but for its order: taking its first entry costs more the more of them were taken before.)
"""

from operator import itemgetter
from typing import Final

UNKNOWN: Final = float("-inf")
"""The arrival time of a client that has none, or none any more."""

_STEP: Final = 4
"""Entries that one write looks at."""
_CHOICE: Final = 32
"""Entries of which one is displaced, at most."""
_ROUND: Final = 10.0
"""Seconds from the start of one round to that of the next, where memory is not short."""

_arrival = itemgetter(1)


class LimitTable:
    """Arrival times in monotonic seconds by key, for at most `capacity` keys.

    When it is full, a new client takes the place of one whose arrival time comes early: forgetting that one gives away
    least, and a client at its limit stays remembered through a flood of others.
    """

    __slots__ = ("_capacity", "_next_round", "_old", "_young")

    def __init__(self, capacity: int, now: float) -> None:
        self._capacity = max(capacity, _STEP)
        self._young: dict[bytes, float] = {}
        self._old: dict[bytes, float] = {}
        self._next_round = now + _ROUND

    def get(self, key: bytes) -> float:
        """The arrival time, which may have passed, or UNKNOWN."""
        arrival = self._young.get(key)
        return self._old.get(key, UNKNOWN) if arrival is None else arrival

    def advance(self, key: bytes, increment: float, ceiling: float, now: float) -> float:
        """Move an arrival time on by `increment`, unless it would then lie more than `ceiling` ahead of now.

        Where it lies ahead, or would; both in one step, since this is what a request costs.
        """
        arrival = self._young.get(key)
        if arrival is None:
            arrival = self._old.get(key, UNKNOWN)
        reset = arrival - now + increment if arrival > now else increment
        if reset <= ceiling:
            if self._old or now >= self._next_round or len(self._young) >= self._capacity:
                self._tidy(key, now + reset, now)
            self._young[key] = now + reset
        return reset

    def put(self, key: bytes, arrival: float, now: float) -> None:
        """Remember an arrival time."""
        if self._old or now >= self._next_round or len(self._young) >= self._capacity:
            self._tidy(key, arrival, now)
        self._young[key] = arrival

    def cap(self, latest: float) -> None:
        """Bring every arrival time after `latest` forward to it. Takes a look at each of them."""
        for entries in (self._young, self._old):
            for key, arrival in entries.items():
                if arrival > latest:
                    entries[key] = latest

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def __repr__(self) -> str:
        return f"<LimitTable {len(self)} of {self._capacity}>"

    def _tidy(self, key: bytes, arrival: float, now: float) -> None:
        """Go on with the round before `key` is written, and have room for it."""
        self._young.pop(key, None)
        self._old.pop(key, None)
        if not self._old:
            self._begin_round()
            self._next_round = now + _ROUND
        for _ in range(min(_STEP, len(self._old))):
            each, its_arrival = self._old.popitem()
            if its_arrival > now:
                self._young[each] = its_arrival
        if len(self) >= self._capacity:
            self._displace(arrival)

    def _displace(self, arrival: float) -> None:
        """Forget one for a newcomer: the first that waits no longer than it, or else, of a few, who waits least."""
        if len(self._old) < _CHOICE:
            self._begin_round()
        seen: list[tuple[bytes, float]] = []
        while self._old and len(seen) < _CHOICE:
            entry = self._old.popitem()
            if entry[1] <= arrival:
                break
            seen.append(entry)
        else:
            seen.remove(min(seen, key=_arrival))
        self._young.update(seen)

    def _begin_round(self) -> None:
        """All entries are to be looked at again."""
        self._young.update(self._old)
        self._old, self._young = self._young, {}
