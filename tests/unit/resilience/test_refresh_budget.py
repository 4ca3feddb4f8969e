"""Background refreshes begin at a bounded rate, whatever the clock does."""

import pytest

from proxy.resilience.refresh_budget import RefreshBudget


def taken(budget: RefreshBudget, now: float, asked: int = 100) -> int:
    return sum(budget.take(now) for _ in range(asked))


def test_burst_passes_at_once_and_then_as_many_as_time_has_brought() -> None:
    budget = RefreshBudget(rate=10, burst=10)

    assert [taken(budget, now) for now in (1000.0, 1000.0, 1000.1, 1000.6, 1100.0)] == [10, 0, 1, 5, 10]


def test_fractions_of_a_refresh_add_up() -> None:
    budget = RefreshBudget(rate=1, burst=1)
    assert budget.take(0.0)

    assert [budget.take(now) for now in (0.25, 0.5, 0.75, 1.0)] == [False, False, False, True]


@pytest.mark.parametrize("back", [0.0, 5.0, 1e9])
def test_clock_that_is_set_back_gives_nothing_and_takes_nothing_for_long(back: float) -> None:
    budget = RefreshBudget(rate=10, burst=10)
    taken(budget, 1000.0)

    assert not budget.take(1000.0 - back)
    assert taken(budget, 1000.0 - back + 1) == 10


def test_it_says_what_is_left() -> None:
    assert repr(RefreshBudget()) == "<RefreshBudget 10.0 of 10>"
