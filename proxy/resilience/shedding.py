"""What the edge refuses when the process itself cannot keep up. The sign is an event loop that runs its timers late.

The level is a sawtooth: it rises by a fifth with each late sample and falls by a twentieth with each that is in time.
So it settles where the loop is just in time, and is back at zero after twenty good samples, two seconds.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.config.policies import Criticality

RUN = 3
"""Late samples in a row that begin the shedding: a pause of the garbage collector or of the machine is one sample."""
FULL = 20
"""Steps from level 0 to level 1."""
RISE = 4
FALL = 1
MOST = 0.95
"""Of no class more than this is refused: the rest shows when there is room again."""

# A third of the level for each class: the next one is touched when of the one before as much is refused as may be.
_BEGINS: "dict[Criticality, float]" = {"background": 0.0, "sheddable": 1 / 3, "default": 2 / 3}


class Shedder:
    """Decides by the event loop's lag which requests are refused. `random` is uniform in [0, 1)."""

    __slots__ = ("_late", "_random", "_steps", "level")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._late = 0
        self._steps = 0
        self.level = 0.0
        """How much is shed: 0 nothing, 1 as much as may be."""

    def sample(self, lag: float, threshold: float | None) -> float:
        """The loop was late by `lag` seconds; more than `threshold` is too late (None: never). Returns the level."""
        if threshold is None:
            self._late = self._steps = 0
        elif lag > threshold:
            self._late += 1
            if self._steps or self._late >= RUN:
                self._steps = min(self._steps + RISE, FULL)
        else:
            self._late = 0
            self._steps = max(self._steps - FALL, 0)
        self.level = self._steps / FULL
        return self.level

    def sheds(self, criticality: "Criticality") -> bool:
        """Whether to refuse a request of that class now: background first, then sheddable, then default."""
        begins = _BEGINS.get(criticality)
        if begins is None or self.level <= begins:
            return False
        return self._random() < min((self.level - begins) * 3, 1.0) * MOST

    def retry_after(self) -> float:
        """Seconds until the client may come again: from 1 to 5 after rounding up, so that not all come at once."""
        return self._random() * 5
