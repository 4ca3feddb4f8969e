"""What has been written through whom, and so how outdated an answer is."""

import re
from typing import NamedTuple

_REVISION = re.compile(r"Revision ([0-9]+) of the mix\.")


class Write(NamedTuple):
    """A write that has been confirmed."""

    revision: int
    instance: int
    at: float
    """When its answer was there, by the clock of whoever wrote."""


class Lag(NamedTuple):
    """For how many seconds what an answer lacks had been confirmed when it was asked for; 0: it lacks nothing."""

    own: float
    """By the instance that gave the answer."""
    others: float


UP_TO_DATE = Lag(0.0, 0.0)


class Truth:
    """Every write is a revision of its own, and the newest of a property is the one with the highest number."""

    def __init__(self) -> None:
        self.revisions = 0
        self._writes: dict[int, list[Write]] = {}
        self._under_way: set[int] = set()

    def begin(self, number: int) -> int:
        """A revision of the property `number`; 0 while another one is under way: they would have no order."""
        if number in self._under_way:
            return 0
        self._under_way.add(number)
        self.revisions += 1
        return self.revisions

    def end(self, number: int, write: Write | None) -> None:
        """The write that was under way has been confirmed; None: nobody knows."""
        self._under_way.discard(number)
        if write is not None:
            self._writes.setdefault(number, []).append(write)

    def lag(self, number: int, seen: int, instance: int, asked: float) -> Lag:
        """How outdated the revision `seen` is in an answer of `instance` to what was asked at `asked`."""
        own = others = 0.0
        for write in reversed(self._writes.get(number, ())):
            if write.revision <= seen:
                break
            if write.at <= asked:
                lag = asked - write.at
                if write.instance == instance:
                    own = max(own, lag)
                else:
                    others = max(others, lag)
        return Lag(own, others) if own or others else UP_TO_DATE


def description_of(revision: int) -> str:
    """What a write makes of a property's description."""
    return f"Revision {revision} of the mix."


def revision_in(description: str) -> int:
    """The revision that a description shows; 0: it has never been written."""
    match = _REVISION.fullmatch(description)
    return int(match[1]) if match else 0
