"""When a store is left alone, and when it is tried again."""

import pytest

from proxy.resilience.store_guard import FAILURES, INTERVAL, StoreGuard

NOW = 1000.0


def opened(random: float = 0.0) -> StoreGuard:
    guard = StoreGuard(lambda: random)
    for _ in range(FAILURES):
        guard.failed(NOW)
    return guard


def test_a_new_guard_lets_everything_through() -> None:
    guard = StoreGuard(lambda: 0.0)

    assert not guard.is_open
    assert guard.is_due(-NOW)
    assert guard.allows(NOW)
    assert guard.allows(NOW)


def test_only_the_last_of_a_few_failures_in_a_row_opens_it() -> None:
    guard = StoreGuard(lambda: 0.0)

    assert [guard.failed(NOW) for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    assert guard.is_open
    assert not guard.allows(NOW)


def test_a_success_in_between_starts_the_count_again() -> None:
    guard = StoreGuard(lambda: 0.0)
    for _ in range(10):
        for _ in range(FAILURES - 1):
            guard.failed(NOW)
        assert not guard.succeeded(NOW)

    assert not guard.is_open


@pytest.mark.parametrize(("random", "share"), [(0.0, 0.5), (0.5, 0.75), (0.999, 0.9995)])
def test_the_trial_comes_after_half_to_one_interval(random: float, share: float) -> None:
    guard = opened(random)
    due = NOW + INTERVAL * share

    assert not guard.is_due(due - 0.001)
    assert guard.is_due(due)
    assert guard.allows(due)


def test_there_is_one_trial_in_an_interval() -> None:
    guard = opened()
    later = NOW + INTERVAL / 2

    assert guard.allows(later)
    assert not any(guard.allows(later) for _ in range(100))
    assert guard.allows(later + INTERVAL / 2)


def test_looking_takes_no_trial() -> None:
    guard = opened()
    later = NOW + INTERVAL / 2

    assert guard.is_due(later)
    assert guard.is_due(later)
    assert guard.allows(later)


def test_a_trial_that_ends_well_closes_it() -> None:
    guard = opened()

    assert guard.succeeded(NOW + INTERVAL)
    assert not guard.is_open
    assert guard.allows(NOW)
    assert not guard.succeeded(NOW + INTERVAL)


def test_after_it_has_closed_it_takes_as_many_failures_as_before() -> None:
    guard = opened()
    guard.succeeded(NOW + INTERVAL)

    assert [guard.failed(NOW) for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]


def test_a_trial_that_fails_leaves_it_open() -> None:
    guard = opened()

    assert guard.allows(NOW + INTERVAL)
    assert not guard.failed(NOW + INTERVAL)
    assert guard.is_open


def test_a_call_that_began_before_it_opened_does_not_close_it() -> None:
    guard = opened()

    assert not guard.succeeded(NOW - 0.001)
    assert guard.is_open


def test_it_can_be_opened_by_hand() -> None:
    guard = StoreGuard(lambda: 0.0)

    guard.open(NOW)

    assert guard.is_open
    assert not guard.allows(NOW)
    assert guard.succeeded(NOW)
