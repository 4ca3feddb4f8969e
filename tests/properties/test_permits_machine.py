"""The permits of a bulkhead do what a plain list of waiters would do, and no class of requests starves."""

from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.config.policies import CRITICALITIES, Criticality, NamedBulkhead
from proxy.resilience.permits import SHARE, Permits

CLASSES = st.sampled_from(CRITICALITIES)
LIMITS = st.integers(1, 4)
QUEUES = st.sampled_from([0, 1, 2, 3, 5, 9, 12, 24])


@dataclass(eq=False)
class Waiter:
    """Somebody in the queue, as the reference sees them; what they are told is checked against it."""

    rank: int
    since: float
    until: float
    gone: bool = False
    told: str = ""

    def grant(self) -> bool:
        if self.gone:
            return False
        assert not self.told
        self.told = "granted"
        return True

    def evict(self) -> None:
        assert not self.told
        self.told = "evicted"


class Reference:
    """One list of all waiters in order of arrival, searched from end to end."""

    def __init__(self, limit: int, places: int) -> None:
        self.limit = limit
        self.places = places
        self.in_use = 0
        self.waiting: list[Waiter] = []
        self.granted: list[Waiter] = []
        self.evicted: list[Waiter] = []
        self.turn = 0
        self.last_turns = [0, 0, 0, 0]

    def of(self, rank: int) -> list[Waiter]:
        return [waiter for waiter in self.waiting if waiter.rank == rank]

    def enqueue(self, waiter: Waiter) -> bool:
        if len(self.waiting) >= self.places:
            victim = self.victim_for(waiter.rank)
            if victim is None:
                return False
            self.waiting.remove(victim)
            self.evicted.append(victim)
        self.waiting.append(waiter)
        return True

    def victim_for(self, rank: int) -> Waiter | None:
        has_none = not self.of(rank)
        for other in (3, 2, 1, 0):
            if other > rank and len(self.of(other)) >= 2:
                return self.of(other)[-1]
            if other < rank and has_none and len(self.of(other)) >= SHARE:
                return self.of(other)[-1]
        lesser = [waiter for waiter in self.waiting if waiter.rank > rank]
        return max(lesser, key=lambda each: each.rank) if has_none and lesser else None

    def hand_out(self, now: float) -> None:
        while self.in_use < self.limit and self.waiting:
            ranks = sorted({waiter.rank for waiter in self.waiting})
            rank = ranks[0]
            if self.turn % SHARE == SHARE - 1:
                rank = min(ranks, key=lambda each: (self.last_turns[each], -each))
            queue = self.of(rank)
            waiter = queue[-1] if now >= (queue[0].since + queue[0].until) / 2 else queue[0]
            self.waiting.remove(waiter)
            if waiter.gone or waiter.until <= now:
                continue
            self.in_use += 1
            self.turn += 1
            self.last_turns[rank] = self.turn
            self.granted.append(waiter)


class PermitsMachine(RuleBasedStateMachine):
    """Every exchange that holds a permit, waits, leaves or is refused, in any order, with reloads in between."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.permits = Permits(self.config(2, 5), self.now)
        self.reference = Reference(2, 5)
        self.waiters: list[Waiter] = []

    @staticmethod
    def config(limit: int, places: int) -> NamedBulkhead:
        return NamedBulkhead(name="api", max_concurrent=limit, max_queued=places)

    @rule(criticality=CLASSES, seconds=st.sampled_from([0.25, 0.5, 1.0, 4.0]))
    def arrive(self, criticality: Criticality, seconds: float) -> None:
        if self.permits.try_acquire():
            assert self.reference.in_use < self.reference.limit
            self.reference.in_use += 1
            return
        waiter = Waiter(CRITICALITIES.index(criticality), self.now, self.now + seconds)
        admitted = self.permits.enqueue(waiter, criticality, self.now, waiter.until)
        assert admitted is self.reference.enqueue(waiter)
        if admitted:
            self.waiters.append(waiter)

    @precondition(lambda self: self.permits.in_use)
    @rule()
    def end(self) -> None:
        self.permits.release(self.now)
        self.reference.in_use -= 1
        self.reference.hand_out(self.now)

    @precondition(lambda self: self.reference.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.reference.waiting))
        self.permits.leave(waiter, CRITICALITIES[waiter.rank])
        self.reference.waiting.remove(waiter)

    @precondition(lambda self: self.reference.waiting)
    @rule(data=st.data())
    def go_without_a_word(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.reference.waiting)).gone = True

    @rule(seconds=st.sampled_from([0.125, 0.25, 0.5, 1.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(limit=LIMITS, places=QUEUES)
    def reload(self, limit: int, places: int) -> None:
        change = self.permits.reconfigure(self.config(limit, places), self.now)
        assert bool(change) is ((limit, places) != (self.reference.limit, self.reference.places))
        self.reference.limit, self.reference.places = limit, places
        self.reference.hand_out(self.now)

    @invariant()
    def agrees_with_the_reference(self) -> None:
        assert (self.permits.in_use, self.permits.queued) == (self.reference.in_use, len(self.reference.waiting))
        assert self.permits.limit == self.reference.limit
        assert [each for each in self.waiters if each.told == "granted"] == sorted(
            self.reference.granted, key=self.waiters.index
        )
        assert [each for each in self.waiters if each.told == "evicted"] == sorted(
            self.reference.evicted, key=self.waiters.index
        )

    @invariant()
    def nobody_waits_beside_a_free_permit(self) -> None:
        assert not self.permits.queued or self.permits.in_use >= self.permits.limit

    def teardown(self) -> None:
        """Whatever happened before: once all have ended or left, nothing is held."""
        for waiter in list(self.reference.waiting):
            self.permits.leave(waiter, CRITICALITIES[waiter.rank])
        for _ in range(self.permits.in_use):
            self.permits.release(self.now)
        assert (self.permits.in_use, self.permits.queued) == (0, 0)


TestPermits = PermitsMachine.TestCase
TestPermits.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


@given(st.integers(0, 2**32), st.lists(st.integers(1, 20), min_size=4, max_size=4), st.sampled_from([22, 50, 200]))
@settings(max_examples=40, deadline=None)
def test_every_class_that_keeps_asking_is_served(seed: int, weights: list[int], places: int) -> None:
    random = Random(seed)
    permits = Permits(NamedBulkhead(name="api", max_concurrent=1, max_queued=places), 0.0)
    assert permits.try_acquire()
    alive: list[Waiter] = []
    since_grant = dict.fromkeys(range(4), 0)

    for moment in range(400):
        now = float(moment)
        # Ten times as many as are served, in any mixture, and each class at least once.
        arrivals = [*range(4), *random.choices(range(4), weights, k=10)]
        for rank in random.sample(arrivals, len(arrivals)):
            waiter = Waiter(rank, now, now + 1e6)
            if permits.enqueue(waiter, CRITICALITIES[rank], now, waiter.until):
                alive.append(waiter)
        permits.release(now)
        (served,) = {waiter.rank for waiter in alive if waiter.told == "granted"}
        alive = [waiter for waiter in alive if not waiter.told]
        since_grant = {rank: 0 if rank == served else count + 1 for rank, count in since_grant.items()}
        assert max(since_grant.values()) < 4 * SHARE


@given(CLASSES, st.integers(22, 200), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_queue_of_some_length_has_a_place_for_a_class_that_has_none(
    criticality: Criticality, places: int, random: Random
) -> None:
    permits = Permits(NamedBulkhead(name="api", max_concurrent=1, max_queued=places), 0.0)
    rank = CRITICALITIES.index(criticality)
    others = [each for each in range(4) if each != rank]
    while permits.queued < places:
        other = random.choice(others)
        permits.enqueue(Waiter(other, 0.0, 1.0), CRITICALITIES[other], 0.0, 1.0)

    assert permits.enqueue(Waiter(rank, 0.0, 1.0), criticality, 0.0, 1.0)
    assert permits.queued == places
