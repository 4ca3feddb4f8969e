"""The permits of a bulkhead: who gets one, who waits, who has to go, and what a reload changes."""

from collections import Counter
from typing import Any

import pytest

from proxy.config.policies import CRITICALITIES, Criticality, NamedBulkhead
from proxy.resilience.permits import SHARE, Permits

NOW = 1000.0
LATER = NOW + 1.0
DEFAULT: Criticality = "default"
CRITICAL: Criticality = "critical"


class Somebody:
    """A waiter that remembers what it was told."""

    def __init__(self, name: str = "", *, gone: bool = False) -> None:
        self.name = name
        self.gone = gone
        self.told = ""

    def grant(self) -> bool:
        if not self.gone:
            self.told = "granted"
        return not self.gone

    def evict(self) -> None:
        self.told = "evicted"

    def __repr__(self) -> str:
        return f"<{self.name} {self.told}>"


def config(**settings: Any) -> NamedBulkhead:
    return NamedBulkhead(name="api", **{"max_concurrent": 1, "max_queued": 10, **settings})


def exhausted(**settings: Any) -> Permits:
    """Permits that are all in use."""
    permits = Permits(config(**settings), NOW)
    while permits.try_acquire():
        pass
    return permits


def queue(permits: Permits, *classes: Criticality, now: float = NOW, until: float = LATER) -> list[Somebody]:
    """Have one waiter of each of these classes wait, in this order."""
    waiters = [Somebody(criticality) for criticality in classes]
    for waiter, criticality in zip(waiters, classes, strict=True):
        assert permits.enqueue(waiter, criticality, now, until)
    return waiters


def turns(permits: Permits, count: int, now: float = NOW) -> list[Criticality]:
    """The classes of the next grants, while somebody of each class waits all the time."""
    granted: list[Criticality] = []
    waiters = dict(zip(CRITICALITIES, queue(permits, *CRITICALITIES, now=now), strict=True))
    for _ in range(count):
        permits.release(now)
        (criticality,) = [each for each, waiter in waiters.items() if waiter.told]
        granted.append(criticality)
        (waiters[criticality],) = queue(permits, criticality, now=now)
    return granted


# --- permits ---


def test_as_many_as_the_limit_get_a_permit() -> None:
    permits = Permits(config(max_concurrent=2), NOW)

    assert [permits.try_acquire() for _ in range(3)] == [True, True, False]
    assert repr(permits) == "<Permits api in_use=2/2 queued=0>"
    permits.release(NOW)
    assert permits.try_acquire()


def test_released_permit_goes_to_the_waiter() -> None:
    permits = exhausted()
    (waiter,) = queue(permits, "default")

    permits.release(NOW)

    assert waiter.told == "granted"
    assert (permits.in_use, permits.queued) == (1, 0)


def test_permit_passes_over_those_who_have_gone_or_have_no_time_left() -> None:
    permits = exhausted()
    gone, late, waiter = Somebody(gone=True), Somebody(), Somebody()
    permits.enqueue(gone, "critical", NOW, LATER)
    permits.enqueue(late, "critical", NOW, NOW + 0.1)
    permits.enqueue(waiter, "background", NOW, LATER)

    permits.release(NOW + 0.1)

    assert (gone.told, late.told, waiter.told) == ("", "", "granted")
    assert (permits.in_use, permits.queued) == (1, 0)


def test_permit_that_nobody_can_take_is_free() -> None:
    permits = exhausted()
    permits.enqueue(Somebody(gone=True), "default", NOW, LATER)

    permits.release(NOW)

    assert (permits.in_use, permits.queued) == (0, 0)


def test_waiter_that_left_is_forgotten_and_may_leave_again() -> None:
    permits = exhausted()
    one, other = queue(permits, "default", "default")

    permits.leave(one, "default")
    permits.leave(one, "default")
    assert permits.queued == 1
    permits.release(NOW)

    assert (one.told, other.told) == ("", "granted")


# --- order ---


def test_first_come_first_served() -> None:
    permits = exhausted()
    waiters = queue(permits, *[DEFAULT] * 3)

    permits.release(NOW + 0.4)

    assert [waiter.told for waiter in waiters] == ["granted", "", ""]


def test_once_the_oldest_has_waited_for_half_of_its_time_the_newest_is_first() -> None:
    permits = exhausted()
    (old,) = queue(permits, "default")
    middle, new = queue(permits, "default", "default", now=NOW + 0.3, until=LATER + 0.3)

    permits.release(NOW + 0.5)
    assert (old.told, middle.told, new.told) == ("", "", "granted")
    permits.release(NOW + 0.5)
    assert (old.told, middle.told) == ("", "granted")
    permits.release(NOW + 0.99)

    assert old.told == "granted"


def test_when_the_old_have_left_the_oldest_is_first_again() -> None:
    permits = exhausted()
    (old,) = queue(permits, "default")
    one, other = queue(permits, "default", "default", now=NOW + 0.6, until=LATER + 0.6)
    permits.leave(old, "default")

    permits.release(NOW + 0.7)

    assert (one.told, other.told) == ("granted", "")


def test_most_important_is_first_whoever_came_before() -> None:
    permits = exhausted()
    background, sheddable, default, critical = queue(permits, *reversed(CRITICALITIES))

    granted: list[Somebody] = []
    for _ in range(4):
        permits.release(NOW)
        granted += [each for each in (background, sheddable, default, critical) if each.told and each not in granted]

    assert granted == [critical, default, sheddable, background]


def test_every_eighth_grant_goes_to_the_class_that_has_waited_longest() -> None:
    granted = turns(exhausted(), 4 * SHARE)

    assert [granted[turn] for turn in range(SHARE - 1, 4 * SHARE, SHARE)] == [
        *("background", "sheddable", "default", "background")
    ]
    assert Counter(granted)["critical"] == 4 * (SHARE - 1)


# --- a full queue ---


def test_full_queue_takes_nobody_of_the_same_class() -> None:
    permits = exhausted(max_queued=2)
    waiters = queue(permits, "default", "default")

    assert not permits.enqueue(Somebody(), "default", NOW, LATER)
    assert not permits.enqueue(Somebody(), "background", NOW, LATER)

    assert [waiter.told for waiter in waiters] == ["", ""]


def test_without_a_queue_nobody_waits() -> None:
    permits = exhausted(max_queued=0)

    for criticality in CRITICALITIES:
        assert not permits.enqueue(Somebody(), criticality, NOW, LATER)


def test_newest_of_the_least_important_gives_way() -> None:
    permits = exhausted(max_queued=5)
    *others, newest = queue(permits, "default", "sheddable", "default", "sheddable", "sheddable")

    queue(permits, "critical")

    assert newest.told == "evicted"
    assert [waiter.told for waiter in others] == [""] * 4
    assert permits.queued == 5


def test_last_waiter_of_a_class_stays() -> None:
    permits = exhausted(max_queued=4)
    critical, background, first, second = queue(permits, "critical", "background", "default", "default")

    queue(permits, "critical")
    assert (background.told, first.told, second.told) == ("", "", "evicted")
    assert not permits.enqueue(Somebody(), "critical", NOW, LATER)

    assert (critical.told, background.told, first.told) == ("", "", "")


def test_queue_too_short_for_all_classes_is_for_the_important_ones() -> None:
    permits = exhausted(max_queued=2)
    default, background = queue(permits, "default", "background")

    queue(permits, "critical")
    assert (default.told, background.told) == ("", "evicted")
    assert not permits.enqueue(Somebody(), "sheddable", NOW, LATER)
    permits = exhausted(max_queued=1)
    (background,) = queue(permits, "background")
    queue(permits, "sheddable")

    assert background.told == "evicted"


def test_class_without_a_waiter_gets_one_place_among_many_important_ones() -> None:
    permits = exhausted(max_queued=SHARE)
    *others, newest = queue(permits, *[CRITICAL] * SHARE)

    queue(permits, "sheddable")
    assert newest.told == "evicted"
    assert not permits.enqueue(Somebody(), "sheddable", NOW, LATER)
    assert not permits.enqueue(Somebody(), "background", NOW, LATER), "fewer than eight have none to spare"

    assert [waiter.told for waiter in others] == [""] * (SHARE - 1)


# --- how long ---


@pytest.mark.parametrize(
    ("timeout", "deadline", "until"),
    [
        *((None, None, 1.0), (None, 10.0, 1.0), (None, 2.0, 1.0), (None, 0.5, 0.25)),
        *((5.0, None, 5.0), (5.0, 10.0, 5.0), (5.0, 2.0, 2.0), (0.1, 2.0, 0.1)),
    ],
)
def test_wait_is_the_timeout_or_half_of_what_is_left(
    timeout: float | None, deadline: float | None, until: float
) -> None:
    permits = Permits(config(queue_timeout=timeout), NOW)

    assert permits.wait_until(NOW, None if deadline is None else NOW + deadline) == pytest.approx(NOW + until)


def test_expected_wait_follows_from_how_fast_the_queue_moves() -> None:
    permits = exhausted()
    queue(permits, *[DEFAULT] * 8, until=NOW + 100)
    assert permits.expected_wait == 0

    for second in (0.0, 2.0, 4.0, 6.0):
        permits.release(NOW + second)

    assert permits.expected_wait == pytest.approx(4 * 2.0)
    permits.release(NOW + 12.0)
    assert permits.expected_wait == pytest.approx(3 * (0.9 * 2.0 + 0.1 * 6.0))


def test_time_without_a_queue_does_not_count_as_slowness() -> None:
    permits = exhausted()
    queue(permits, "default", "default", until=NOW + 100)
    permits.release(NOW)
    permits.release(NOW + 2.0)

    queue(permits, "default", "default", now=NOW + 5000, until=NOW + 6000)
    permits.release(NOW + 5001)
    assert permits.expected_wait == pytest.approx(2.0)
    for waiter in list(permits._queues[1]):
        permits.leave(waiter, "default")

    queue(permits, "default", "default", now=NOW + 9000, until=NOW + 10_000)
    permits.release(NOW + 9001)

    assert permits.expected_wait == pytest.approx(2.0)


# --- adaptive ---


def test_adaptive_limit_starts_at_twenty_and_follows_what_is_recorded() -> None:
    permits = exhausted(max_concurrent=100, adaptive=True)
    assert permits.in_use == 20

    for attempt in range(200):
        permits.record(0.05, permits.in_use, NOW + attempt / 50)

    assert permits.limit > 20


def test_higher_limit_admits_waiters_at_once() -> None:
    permits = exhausted(max_concurrent=100, adaptive=True)
    waiters = queue(permits, *[DEFAULT] * 3, until=NOW + 100)

    for attempt in range(200):
        permits.record(0.05, 20, NOW + attempt / 50)

    assert [waiter.told for waiter in waiters] == ["granted"] * 3
    assert permits.in_use == 23 <= permits.limit


def test_lower_limit_admits_nobody_until_enough_have_left() -> None:
    permits = exhausted(max_concurrent=100, adaptive=True)
    (waiter,) = queue(permits, "default", until=NOW + 100)
    permits.record(1.0, 20, NOW + 1, dropped=True)
    assert permits.limit == 18

    permits.release(NOW + 1)
    permits.release(NOW + 1)
    assert waiter.told == ""
    permits.release(NOW + 1)

    assert waiter.told == "granted"


def test_fixed_limit_learns_nothing() -> None:
    permits = Permits(config(max_concurrent=5), NOW)

    permits.record(1.0, 5, NOW + 1, dropped=True)

    assert permits.limit == 5


# --- shadow ---


def test_shadow_counts_those_who_would_be_admitted_or_wait() -> None:
    permits = Permits(config(max_concurrent=2, max_queued=1), NOW)

    assert [permits.count() for _ in range(4)] == ["admitted", "admitted", "queued", "full"]
    assert (permits.in_use, permits.queued) == (2, 1)
    permits.uncount()
    assert (permits.in_use, permits.queued) == (2, 0)
    permits.uncount()
    permits.uncount()

    assert (permits.in_use, permits.queued) == (0, 0)


def test_shadow_with_a_lower_limit_lets_nobody_move_up_until_it_is_met() -> None:
    permits = Permits(config(max_concurrent=2, max_queued=5), NOW)
    for _ in range(4):
        permits.count()

    permits.reconfigure(config(max_concurrent=1, max_queued=5), NOW)
    permits.uncount()
    assert (permits.in_use, permits.queued) == (1, 2)
    permits.uncount()

    assert (permits.in_use, permits.queued) == (1, 1)


def test_shadow_with_a_higher_limit_admits_again() -> None:
    permits = Permits(config(max_concurrent=1, max_queued=5), NOW)
    permits.count()
    permits.count()

    permits.reconfigure(config(max_concurrent=5, max_queued=5), NOW)

    assert permits.count() == "admitted"
    for _ in range(3):
        permits.uncount()
    assert (permits.in_use, permits.queued) == (0, 0)


# --- reload ---


def test_unchanged_numbers_change_nothing() -> None:
    permits = exhausted()

    assert permits.reconfigure(config(), NOW) == ""
    assert permits.reconfigure(config(enforce_percent=0.5), NOW) == ""


def test_higher_limit_of_a_reload_wakes_those_who_wait() -> None:
    permits = exhausted()
    waiters = queue(permits, *[DEFAULT] * 3)

    change = permits.reconfigure(config(max_concurrent=3, queue_timeout=2.0), NOW)

    assert change == "max_concurrent 1 to 3, queue_timeout None to 2.0; 1 in use and 3 queued stay"
    assert [waiter.told for waiter in waiters] == ["granted", "granted", ""]


def test_lower_limit_of_a_reload_takes_nothing_away() -> None:
    permits = exhausted(max_concurrent=3, max_queued=3)
    waiters = queue(permits, *[DEFAULT] * 3)

    permits.reconfigure(config(max_concurrent=1, max_queued=1), NOW)
    assert (permits.in_use, permits.queued) == (3, 3)
    assert not permits.try_acquire()
    assert not permits.enqueue(Somebody(), "default", NOW, LATER)
    permits.release(NOW)
    permits.release(NOW)
    assert [waiter.told for waiter in waiters] == ["", "", ""]
    permits.release(NOW)

    assert [waiter.told for waiter in waiters] == ["granted", "", ""]


def test_adaptive_limit_comes_stays_and_goes_with_a_reload() -> None:
    permits = exhausted(max_concurrent=100)

    assert "adaptive False to True" in permits.reconfigure(config(max_concurrent=100, adaptive=True), NOW)
    assert permits.limit == 20
    permits.record(1.0, 20, NOW + 1, dropped=True)
    permits.reconfigure(config(max_concurrent=90, adaptive=True), NOW)
    assert permits.limit == 18
    permits.reconfigure(config(max_concurrent=90, adaptive=True, min_concurrent=30), NOW)
    assert permits.limit == 30
    permits.reconfigure(config(max_concurrent=90), NOW)

    assert (permits.limit, permits.in_use) == (90, 100)
