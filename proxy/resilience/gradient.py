"""A concurrency limit that follows the upstream's latency: the Gradient2 form of Netflix's concurrency-limits.

    limit' = 0.8 * limit + 0.2 * (limit * clamp(long / short, 0.5, 1) + 4)

`short` is the mean latency of the latest window, `long` what is usual. While the upstream answers as fast as usual the
limit grows by 0.8 a window; the more an answer takes than usual, the smaller the share of the limit that is kept. At
rest, about four exchanges more than the upstream can work on are with it. There are no probing windows, so nobody is
refused for the sake of a measurement.
"""

from typing import Final

INITIAL: Final = 20
"""Where a limit starts, unless its ceiling is lower."""
WINDOW: Final = 0.1
"""Seconds that a window lasts at least."""
SAMPLES: Final = 10
"""Latencies that a window has at least, unless there was a drop."""

_ROOM: Final = 4
_SMOOTHING: Final = 0.2
_STEEPEST: Final = 0.5
_BACKOFF: Final = 0.9
_USUAL: Final = 2 / 601
"""The weight of one window in an exponential average over 600."""
_USUAL_UNDER_LOAD: Final = _USUAL / 10
_WARM_UP: Final = 10
"""Windows whose plain mean is the first idea of what is usual."""


class Gradient:
    """The limit between `floor` and `ceiling`. Times are monotonic seconds, latencies seconds."""

    __slots__ = (
        "_busiest",
        "_ceiling",
        "_dropped",
        "_floor",
        "_opened",
        "_samples",
        "_seconds",
        "_windows",
        "limit",
        "usual",
    )

    def __init__(self, floor: int, ceiling: int, now: float) -> None:
        self._floor = min(floor, ceiling)
        self._ceiling = ceiling
        self.limit = float(max(min(INITIAL, ceiling), self._floor))
        self.usual = 0.0
        """The long-term latency; 0 before the first window."""
        self._windows = 0
        self._opened = now
        self._seconds = 0.0
        self._samples = 0
        self._busiest = 0
        self._dropped = False

    def reconfigure(self, floor: int, ceiling: int) -> None:
        """Go on between other bounds, with what has been learned."""
        self._floor = min(floor, ceiling)
        self._ceiling = ceiling
        self._set(self.limit)

    def record(self, seconds: float, in_flight: int, now: float, *, dropped: bool = False) -> None:
        """An attempt has ended that was one of `in_flight` when it began; `dropped`: it ran into a timeout.

        Whatever failed otherwise says nothing about concurrency and is not to be recorded. Moves `limit` when a window
        is over; while nothing is recorded, nothing changes.
        """
        if dropped:
            self._dropped = True
        else:
            self._seconds += seconds
            self._samples += 1
        if in_flight > self._busiest:
            self._busiest = in_flight
        if now - self._opened >= WINDOW and (self._dropped or self._samples >= SAMPLES):
            self._judge()
            self._opened = now
            self._seconds = 0.0
            self._samples = self._busiest = 0
            self._dropped = False

    def _judge(self) -> None:
        if self._dropped:
            self._set(self.limit * _BACKOFF)
            return
        short = self._seconds / self._samples
        # Below half of the limit it is not the limit that is felt: nothing to learn about it, all about the latency.
        is_loaded = self._busiest >= self.limit / 2
        self._learn(short, is_loaded)
        if is_loaded:
            gradient = max(_STEEPEST, min(1.0, self.usual / short)) if short > 0 else 1.0
            self._set((1 - _SMOOTHING) * self.limit + _SMOOTHING * (self.limit * gradient + _ROOM))

    def _learn(self, short: float, is_loaded: bool) -> None:
        """Under load a latency may be the queue before the upstream: taken for usual, it would lift the limit."""
        if self._windows < _WARM_UP:
            self._windows += 1
            weight = 1 / self._windows
        else:
            weight = _USUAL_UNDER_LOAD if is_loaded else _USUAL
        self.usual += weight * (short - self.usual)
        if self.usual > 2 * short:  # it has become faster by far; do not wait for the average to notice
            self.usual *= _BACKOFF

    def _set(self, limit: float) -> None:
        self.limit = min(max(limit, float(self._floor)), float(self._ceiling))

    def __repr__(self) -> str:
        return f"<Gradient limit={self.limit:.1f} usual={self.usual:.4f}>"
