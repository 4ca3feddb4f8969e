"""Which of the stored responses goes first when memory is short.

S3-FIFO (Yang, Zhang, Qiu, Yue, Vigfusson: FIFO Queues Are All You Need for Cache Eviction, SOSP 2023): what is new
waits in a small queue and leaves it soon, unless it was asked for again; only then it comes to the main queue. So a
scan over many responses that nobody wants twice pushes out none of those in use. What left the small queue is
remembered a while without its content, and goes to the main queue directly if it comes back. A hit only counts up.
"""

from collections import OrderedDict
from typing import Final, Generic, Protocol, TypeVar

MAX_FREQUENCY: Final = 3
"""Hits that count: more do not keep a response longer."""
_WANTED: Final = 2
"""Hits in the small queue after which a response comes to the main queue."""
_SMALL: Final = 10
"""The small queue has one part in so many of the room."""
_STEPS: Final = 128
"""Responses that one eviction looks at, at most: then the next goes, whatever its hits."""


class Queued(Protocol):
    """What can be evicted; equal only to itself."""

    size: int
    """Bytes."""
    frequency: int
    """Hits since it last moved, at most MAX_FREQUENCY."""
    is_main: bool
    """Whether it is in the main queue."""
    identity: int
    """Recognises it when it comes back after it was evicted."""


Q = TypeVar("Q", bound=Queued)


class EvictionQueues(Generic[Q]):
    """All that is stored, in the order in which it may go, and how many bytes it takes."""

    __slots__ = ("_ghosts", "_main", "_main_bytes", "_small", "_small_bytes")

    def __init__(self) -> None:
        self._small: OrderedDict[Q, None] = OrderedDict()
        self._main: OrderedDict[Q, None] = OrderedDict()
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        """What left the small queue for good: as many at most as there are responses."""
        self._small_bytes = 0
        self._main_bytes = 0

    @property
    def bytes(self) -> int:
        """Sum of all sizes."""
        return self._small_bytes + self._main_bytes

    def add(self, entry: Q) -> None:
        """Queue what is new."""
        if entry.identity in self._ghosts:
            del self._ghosts[entry.identity]
            self._to_main(entry)
        else:
            self._to_small(entry)

    def succeed(self, old: Q, new: Q) -> None:
        """Queue `new` for `old`, which it replaces and which is out already: it has its hits, and its queue anew."""
        new.frequency = old.frequency
        if old.is_main:
            self._to_main(new)
        else:
            self._to_small(new)

    def remove(self, entry: Q) -> None:
        """Take it out. Raises KeyError when it is not queued."""
        if entry.is_main:
            del self._main[entry]
            self._main_bytes -= entry.size
        else:
            del self._small[entry]
            self._small_bytes -= entry.size

    def pop(self, limit: int, *, by_bytes: bool) -> Q:
        """Take out what goes first, of at least one; `limit` is what there is room for, in bytes or in number."""
        for _ in range(_STEPS):
            filled = self._small_bytes if by_bytes else len(self._small)
            if self._small and (filled * _SMALL >= limit or not self._main):
                entry = self._out_of_small()
            else:
                entry = self._out_of_main()
            if entry is not None:
                return entry
        return self._first(self._main)

    def _out_of_small(self) -> Q | None:
        """The oldest newcomer; None if it was wanted, and stays."""
        entry = self._first(self._small)
        if entry.frequency >= _WANTED:
            entry.frequency = 0
            self._to_main(entry)
            return None
        self._ghosts[entry.identity] = None
        self._trim()
        return entry

    def _out_of_main(self) -> Q | None:
        """The one that was not asked for since it last came to the end; None if the first was."""
        entry = self._first(self._main)
        if entry.frequency:
            entry.frequency -= 1
            self._to_main(entry)
            return None
        return entry

    def _first(self, queue: OrderedDict[Q, None]) -> Q:
        entry = next(iter(queue))
        self.remove(entry)
        return entry

    def _to_small(self, entry: Q) -> None:
        entry.is_main = False
        self._small[entry] = None
        self._small_bytes += entry.size

    def _to_main(self, entry: Q) -> None:
        entry.is_main = True
        self._main[entry] = None
        self._main_bytes += entry.size

    def _trim(self) -> None:
        while len(self._ghosts) > max(len(self), 1):
            self._ghosts.popitem(last=False)

    def __len__(self) -> int:
        return len(self._small) + len(self._main)

    def __repr__(self) -> str:
        return f"<EvictionQueues small={len(self._small)} main={len(self._main)} ghosts={len(self._ghosts)}>"
