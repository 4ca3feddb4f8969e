"""Who may be with the upstream, who waits for that, and who has to go: the decisions of a bulkhead.

A permit goes to whoever waits in the most important class, except that every eighth goes to the class whose turn was
longest ago, so that each class moves on. Within a class it goes to the oldest as long as that has waited for less than
half of the time it has. After that more arrive than can be served, so that the oldest would always be served at the end
of their time; then it goes to the newest, who still has all of it, until the old ones have left.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Literal, Protocol

from proxy.resilience.gradient import Gradient

if TYPE_CHECKING:
    from proxy.config.policies import Criticality, NamedBulkhead

SHARE: Final = 8
"""One grant in this many goes to the class that has waited longest; a class with this many waiters can spare one."""

_RANKS: Final[dict["Criticality", int]] = {"critical": 0, "default": 1, "sheddable": 2, "background": 3}
_LEAST: Final = len(_RANKS) - 1
_LONGEST_WAIT: Final = 1.0
"""Seconds that an exchange waits at most where no `queue_timeout` is set."""
_NUMBERS: Final = ("max_concurrent", "max_queued", "queue_timeout", "adaptive", "min_concurrent")


class Waiter(Protocol):
    """Somebody who waits for a permit, and hears of it in the call itself."""

    def grant(self) -> bool:
        """The permit is theirs. False: they have gone, and it is not."""
        ...

    def evict(self) -> None:
        """Their place is somebody else's."""
        ...


Queue = OrderedDict[Waiter, tuple[float, float]]
"""The waiters of one class, oldest first: when each has waited for half of its time, and when for all of it."""


class Permits:
    """The permits of one bulkhead. Somebody waits only while none is free. Times are monotonic seconds.

    In shadow the same numbers are kept by `count` and `uncount`, and nobody waits.
    """

    __slots__ = (
        "_granted_at",
        "_interval",
        "_queues",
        "_turn",
        "_turned_at",
        "config",
        "gradient",
        "in_use",
        "limit",
        "queued",
    )

    def __init__(self, config: "NamedBulkhead", now: float) -> None:
        self.config = config
        self.gradient = Gradient(config.min_concurrent, config.max_concurrent, now) if config.adaptive else None
        self.limit = self._limit()
        self.in_use = 0
        self.queued = 0
        self._queues: tuple[Queue, ...] = tuple(OrderedDict() for _ in _RANKS)
        self._turn = 0
        """Grants to waiters so far."""
        self._granted_at = [0] * len(_RANKS)
        """The turn of each class's last grant."""
        self._turned_at = 0.0
        """When a waiter was granted a permit; 0 while nobody waits."""
        self._interval = 0.0
        """Seconds between two grants while somebody waits, averaged; 0: not known yet."""

    # --- permits ---

    def try_acquire(self) -> bool:
        """Take a permit if one is free."""
        if self.in_use < self.limit:
            self.in_use += 1
            return True
        return False

    def release(self, now: float) -> None:
        """Give a permit back; the next waiter gets it."""
        self.in_use -= 1
        if self.queued:
            self._grant(now)

    def record(self, seconds: float, in_flight: int, now: float, *, dropped: bool = False) -> None:
        """Tell an adaptive limit how an attempt ended: see `Gradient.record`. A higher limit admits waiters at once."""
        if self.gradient is not None:
            self.gradient.record(seconds, in_flight, now, dropped=dropped)
            self._set_limit(now)

    # --- the queue ---

    def enqueue(self, waiter: Waiter, criticality: "Criticality", now: float, until: float) -> bool:
        """Have the waiter wait until then, if need be in the place of another, who is evicted; False: no place."""
        rank = _RANKS[criticality]
        if self.queued >= self.config.max_queued and not self._make_room(rank):
            return False
        self._queues[rank][waiter] = ((now + until) / 2, until)
        self.queued += 1
        return True

    def leave(self, waiter: Waiter, criticality: "Criticality") -> None:
        """The waiter has gone, whether it is still queued or not."""
        if self._queues[_RANKS[criticality]].pop(waiter, None) is not None:
            self.queued -= 1
            self._note_if_empty()

    def wait_until(self, now: float, deadline: float | None) -> float:
        """When an exchange that arrives now has waited enough; unless told otherwise, half of its time is for later."""
        wait = self.config.queue_timeout
        if deadline is None:
            return now + (_LONGEST_WAIT if wait is None else wait)
        left = deadline - now
        return now + min(_LONGEST_WAIT, left / 2) if wait is None else min(now + wait, deadline)

    @property
    def expected_wait(self) -> float:
        """Seconds until everybody who waits now would have a permit, as things have been going; 0: not known."""
        return self.queued * self._interval

    # --- shadow ---

    def count(self) -> Literal["admitted", "queued", "full"]:
        """What would become of an exchange that arrives now; unless it is `full`, it counts until `uncount`."""
        if self.try_acquire():
            return "admitted"
        if self.queued >= self.config.max_queued:
            return "full"
        self.queued += 1
        return "queued"

    def uncount(self) -> None:
        """A counted exchange has ended, and whoever would wait moves up."""
        if self.queued and self.in_use <= self.limit:
            self.queued -= 1
        else:
            self.in_use -= 1

    # --- reload ---

    def reconfigure(self, config: "NamedBulkhead", now: float) -> str:
        """Go on with other numbers: what is held stays held, and a lower limit admits nobody until it is met."""
        pairs = ((name, getattr(self.config, name), getattr(config, name)) for name in _NUMBERS)
        changes = [f"{name} {old} to {new}" for name, old, new in pairs if old != new]
        self.config = config
        if not config.adaptive:
            self.gradient = None
        elif self.gradient is None:
            self.gradient = Gradient(config.min_concurrent, config.max_concurrent, now)
        else:
            self.gradient.reconfigure(config.min_concurrent, config.max_concurrent)
        kept = f"{self.in_use} in use and {self.queued} queued stay"
        self._set_limit(now)
        return f"{', '.join(changes)}; {kept}" if changes else ""

    # --- inside ---

    def _limit(self) -> int:
        return self.config.max_concurrent if self.gradient is None else int(self.gradient.limit)

    def _set_limit(self, now: float) -> None:
        self.limit = self._limit()
        if self.queued and self.in_use < self.limit:
            self._grant(now)

    def _grant(self, now: float) -> None:
        """Hand every free permit to somebody who is there and has time left; the others are forgotten."""
        while self.in_use < self.limit and (rank := self._next_class()) is not None:
            queue = self._queues[rank]
            oldest_half = next(iter(queue.values()))[0]
            waiter, (_, until) = queue.popitem(last=now >= oldest_half)
            self.queued -= 1
            if now < until and waiter.grant():
                self.in_use += 1
                self._count_turn(rank, now)
        self._note_if_empty()

    def _next_class(self) -> int | None:
        waiting = [rank for rank, queue in enumerate(self._queues) if queue]
        if not waiting:
            return None
        if (self._turn + 1) % SHARE:
            return waiting[0]
        return min(reversed(waiting), key=self._granted_at.__getitem__)

    def _count_turn(self, rank: int, now: float) -> None:
        self._turn += 1
        self._granted_at[rank] = self._turn
        if self._turned_at:
            gap = now - self._turned_at
            self._interval += 0.1 * (gap - self._interval) if self._interval else gap
        self._turned_at = now

    def _note_if_empty(self) -> None:
        if not self.queued:
            self._turned_at = 0.0

    def _make_room(self, rank: int) -> bool:
        """Evict the newest of the least important class that has to give way to this one."""
        is_new = not self._queues[rank]
        for other in range(_LEAST, -1, -1):
            if self._can_spare(other, rank, is_new=is_new):
                return self._evict(other)
        # A queue too short for all classes is for the most important ones.
        lesser = (other for other in range(_LEAST, rank, -1) if self._queues[other])
        victim = next(lesser, None) if is_new else None
        return victim is not None and self._evict(victim)

    def _can_spare(self, other: int, rank: int, *, is_new: bool) -> bool:
        """The last waiter of a class stays. A class that has none gets a place from a more important one, too."""
        if other > rank:
            return len(self._queues[other]) > 1
        return is_new and len(self._queues[other]) >= SHARE

    def _evict(self, rank: int) -> bool:
        waiter, _ = self._queues[rank].popitem()
        self.queued -= 1
        waiter.evict()
        return True

    def __repr__(self) -> str:
        return f"<Permits {self.config.name} in_use={self.in_use}/{self.limit} queued={self.queued}>"
