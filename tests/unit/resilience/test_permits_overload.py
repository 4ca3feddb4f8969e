"""A bulkhead under more load than its upstream can take, by a simulated clock (outcomes O1, O2, O4, O6, O7, O9)."""

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest

from proxy.config.policies import Criticality, NamedBulkhead
from proxy.resilience.permits import Permits

PATIENCE = 1.0
"""Seconds for which clients wait; what comes later is not goodput. The deadline is the same."""
MIXTURE: dict[Criticality, float] = {"critical": 0.1, "default": 0.4, "sheddable": 0.3, "background": 0.2}


@dataclass(eq=False)
class Visit:
    """One request in the simulation."""

    simulation: "Simulation"
    criticality: Criticality
    came: float
    until: float = 0.0
    waits: bool = True

    def grant(self) -> bool:
        if self.waits:
            self.waits = False
            self.simulation.serve(self)
        return True

    def evict(self) -> None:
        self.waits = False


@dataclass
class Simulation:
    """Open-loop arrivals at `load` times what `permits` can serve, each in about `service` seconds."""

    permits: int
    service: float
    places: int
    load: Callable[[float], float]
    seconds: float = 8.0
    mixed: bool = False
    answered: list[tuple[float, float]] = field(default_factory=list)
    """When, and how long after the request came."""
    arrivals: Counter[Criticality] = field(default_factory=Counter)
    served: Counter[Criticality] = field(default_factory=Counter)
    late: int = 0
    """Given a permit after the deadline."""

    def __post_init__(self) -> None:
        self.random = Random(1)
        self.state = Permits(NamedBulkhead(name="api", max_concurrent=self.permits, max_queued=self.places), now=0.0)
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = count()
        self.now = 0.0
        self.at(0.0, self.arrive)
        while self.events:
            self.now, _, happen = heapq.heappop(self.events)
            happen()
        assert (self.state.in_use, self.state.queued) == (0, 0)

    def at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when, next(self.serial), happen))

    def arrive(self) -> None:
        rate = self.load(self.now) * self.permits / self.service
        if self.now < self.seconds:
            self.at(self.now + self.random.expovariate(rate), self.arrive)
        criticality: Criticality = "default"
        if self.mixed:
            criticality = self.random.choices([*MIXTURE], [*MIXTURE.values()])[0]
        visit = Visit(self, criticality, self.now)
        self.arrivals[criticality] += 1
        if self.state.try_acquire():
            visit.grant()
            return
        visit.until = self.state.wait_until(self.now, self.now + PATIENCE)
        if self.state.enqueue(visit, criticality, self.now, visit.until):
            self.at(visit.until, lambda: self.give_up(visit))

    def give_up(self, visit: Visit) -> None:
        visit.waits = False
        self.state.leave(visit, visit.criticality)

    def serve(self, visit: Visit) -> None:
        self.late += self.now > visit.came + PATIENCE
        self.at(self.now + self.service * self.random.uniform(0.8, 1.2), lambda: self.end(visit))

    def end(self, visit: Visit) -> None:
        self.answered.append((self.now, self.now - visit.came))
        self.served[visit.criticality] += 1
        self.state.release(self.now)

    def goodput(self, start: float = 0.0) -> float:
        """Answers in time from `start` on, as a share of what the upstream can do."""
        good = sum(latency <= PATIENCE for when, latency in self.answered if start <= when <= self.seconds)
        return good / ((self.seconds - start) * self.permits / self.service)

    def p99(self, start: float = 0.0) -> float:
        latencies = sorted(latency for when, latency in self.answered if when >= start)
        return latencies[int(len(latencies) * 0.99)]


def steadily(load: float) -> Callable[[float], float]:
    return lambda _: load


@pytest.mark.parametrize("load", [2, 5, 10])
@pytest.mark.parametrize(
    ("permits", "service", "places"), [(10, 0.02, 10), (10, 0.02, 100), (10, 0.1, 100), (5, 0.2, 200), (2, 0.4, 50)]
)
def test_goodput_under_overload_is_all_that_the_upstream_can_do(
    permits: int, service: float, places: int, load: float
) -> None:
    simulation = Simulation(permits, service, places, steadily(load), seconds=max(8.0, 80 * service))

    assert simulation.goodput() > 0.95
    assert simulation.p99() < 1.2 * service + 0.5, "service and the longest wait"
    assert simulation.late == 0


def test_short_queue_keeps_the_latency_whatever_the_load() -> None:
    """The figures of O2: 10 permits, 20 ms, 10 places."""
    assert max(Simulation(10, 0.02, 10, steadily(load)).p99() for load in (2, 5, 9)) < 0.06


@pytest.mark.parametrize("places", [10, 100, 300])
def test_service_is_normal_again_at_once_after_a_burst(places: int) -> None:
    simulation = Simulation(10, 0.05, places, lambda now: 10.0 if 2 <= now < 7 else 0.8, seconds=12.0)

    assert simulation.goodput(start=8.0) > 0.75, "of 0.8 offered"
    assert simulation.p99(start=8.0) < 0.3


def test_critical_requests_are_served_and_the_least_important_go_first() -> None:
    simulation = Simulation(10, 0.02, 100, steadily(3.0), mixed=True)

    shares = {each: simulation.served[each] / simulation.arrivals[each] for each in MIXTURE}

    assert shares["critical"] >= 0.999
    assert shares["critical"] > shares["default"] > shares["sheddable"]
    assert 0 < shares["background"] < 0.15
