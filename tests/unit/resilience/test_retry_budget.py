"""A windowed budget: a share of the first attempts of the last ten seconds, or a reserve of three a second."""

import pytest

from proxy.resilience.retry_budget import RESERVE, RetryBudget

START = 1000.0


def deposits(budget: RetryBudget, count: int, now: float) -> None:
    for _ in range(count):
        budget.deposit(now)


def withdrawals(budget: RetryBudget, now: float, tries: int = 10_000) -> int:
    return sum(budget.withdraw(now) for _ in range(tries))


def test_quiet_route_may_use_the_whole_reserve_at_once() -> None:
    budget = RetryBudget(0.1, START)
    budget.deposit(START)

    assert budget.available(START) == RESERVE == 30
    assert withdrawals(budget, START) == 30
    assert budget.available(START) == 0


@pytest.mark.parametrize(
    ("share", "first_attempts", "allowed"),
    [(0.1, 299, 30), (0.1, 300, 30), (0.1, 310, 31), (0.1, 5000, 500), (0.29, 200, 58), (1.0, 40, 40)],
)
def test_busy_route_may_retry_a_share_of_its_first_attempts(share: float, first_attempts: int, allowed: int) -> None:
    budget = RetryBudget(share, START)
    deposits(budget, first_attempts, START)

    assert withdrawals(budget, START) == allowed


def test_reserve_is_not_added_to_the_share() -> None:
    budget = RetryBudget(0.1, START)
    deposits(budget, 1000, START)

    assert withdrawals(budget, START) == 100


def test_what_was_not_allowed_is_not_counted() -> None:
    budget = RetryBudget(0.1, START)
    withdrawals(budget, START, tries=500)
    deposits(budget, 310, START)

    assert budget.available(START) == 1


def test_first_attempts_of_the_last_ten_seconds_add_up_and_older_ones_do_not_count() -> None:
    budget = RetryBudget(0.1, START)
    for second in range(20):
        deposits(budget, 100, START + second)

    assert budget.available(START + 19) == 100
    assert budget.available(START + 20) == 90
    assert budget.available(START + 60) == RESERVE


def test_spent_retries_come_back_after_ten_seconds_and_never_before() -> None:
    budget = RetryBudget(0.1, START)
    withdrawals(budget, START + 0.24)

    assert budget.available(START + 10.2) == 0
    assert budget.available(START + 10.25) == RESERVE


def test_reserve_is_three_a_second_in_the_long_run() -> None:
    budget = RetryBudget(0.1, START)

    allowed = sum(withdrawals(budget, START + tick / 4, tries=5) for tick in range(400))

    assert 270 <= allowed <= 300


def test_amplification_is_at_most_a_tenth_when_everything_fails() -> None:
    budget = RetryBudget(0.1, START)
    retries = 0
    for number in range(30_000):
        now = START + number / 500
        budget.deposit(now)
        retries += sum(budget.withdraw(now) for _ in range(5))

    assert 0.09 * 30_000 < retries <= 0.1 * 30_000 + RESERVE


def test_long_pause_leaves_nothing_behind() -> None:
    budget = RetryBudget(0.5, START)
    deposits(budget, 1000, START)
    withdrawals(budget, START)

    assert budget.available(START + 1e6) == RESERVE
    assert withdrawals(budget, START + 1e6) == RESERVE


def test_time_that_stands_still_or_slips_back_is_now() -> None:
    budget = RetryBudget(0.5, START)
    deposits(budget, 50, START + 5)
    deposits(budget, 50, START)

    assert budget.available(START) == 50
    assert budget.available(START + 5) == 50


def test_changed_share_holds_for_what_has_been_counted() -> None:
    budget = RetryBudget(0.1, START)
    deposits(budget, 1000, START)
    assert withdrawals(budget, START) == 100

    budget.share = 0.15

    assert budget.available(START) == 50


def test_it_shows_its_balance() -> None:
    budget = RetryBudget(0.1, START)
    deposits(budget, 2, START)
    budget.withdraw(START)

    assert repr(budget) == "<RetryBudget share=0.1 first=2 retries=1>"
