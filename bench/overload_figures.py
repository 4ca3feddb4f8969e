"""What the answers of one run say: goodput, latencies, refusals, recovery."""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.overload_load import TIMED_OUT, Answer
from bench.overload_upstream import CAPACITY

SETTLED = 1.0
"""Seconds at the beginning of the overload that do not count: a queue takes its time to grow."""
RECOVERED = 0.99
"""The share of requests that are served when all is well again."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Seconds of each phase."""

    before: float = 1.0
    overload: float = 5.0
    after: float = 5.0

    @property
    def end(self) -> float:
        """When the overload ends, in seconds since the start."""
        return self.before + self.overload

    @property
    def counted(self) -> float:
        """Seconds of the overload that count."""
        return max(self.overload - SETTLED, self.overload / 2)


@dataclass(frozen=True, slots=True)
class Counts:
    """What one run asked of the upstream, and what Tidegate's breaker made of it."""

    hits: int
    opened: int | None
    """How often the breaker opened; None where there is none."""


@dataclass(frozen=True, slots=True)
class Run:
    """One load on one target; `factor` is the load as a multiple of the capacity."""

    target: str
    path: str
    factor: float
    effort: Effort
    answers: list[Answer]
    counts: Counts

    @property
    def overloaded(self) -> list[Answer]:
        """The requests that were due in the part of the overload that counts."""
        end, counted = self.effort.end, self.effort.counted
        return [answer for answer in self.answers if end - counted <= answer.due < end]

    @property
    def goodput(self) -> float:
        """Answers with 200 and in time, as a share of the capacity."""
        return len(served(self.overloaded)) / self.effort.counted / CAPACITY

    @property
    def recovery(self) -> float | None:
        """Seconds after the overload from which on 99 % of all requests were served; None: not while we looked."""
        end = self.effort.end
        for tenth in range(max(int(self.effort.after * 10) - 2, 0)):  # what comes last is too little to judge by
            rest = [answer for answer in self.answers if answer.due >= end + tenth / 10]
            if rest and len(served(rest)) >= RECOVERED * len(rest):
                return tenth / 10
        return None

    @property
    def amplification(self) -> float:
        """Requests at the upstream for each one that was sent."""
        return self.counts.hits / len(self.answers)

    @property
    def wasted(self) -> float:
        """The share of the upstream's work that was no client's answer."""
        return 1 - len(served(self.answers)) / max(self.counts.hits, 1)


def served(answers: Iterable[Answer]) -> list[Answer]:
    """Those with 200."""
    return [answer for answer in answers if answer.status == 200]


def refused(answers: Iterable[Answer]) -> list[Answer]:
    """Those with another status."""
    return [answer for answer in answers if answer.status > TIMED_OUT and answer.status != 200]


def percentile(values: Iterable[float], percent: float) -> float:
    """The value that `percent` of all do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] if ordered else 0.0


def p99(answers: Iterable[Answer]) -> float:
    """The 99th percentile of the time that answers took, in seconds."""
    return percentile((answer.seconds for answer in answers), 99)
