"""What one route decides about its next attempt, and what a reload keeps."""

import pytest

from proxy.config.policies import RetryConfig
from proxy.resilience.retry_budget import RESERVE
from proxy.resilience.retry_state import RetryState

NOW = 1000.0
CONFIG = RetryConfig(max_attempts=3, base_delay=1.0, max_delay=8.0, max_retry_after=20.0)


def half() -> float:
    return 0.5


def wait(state: RetryState, attempt: int = 1, asked: float = 0.0, deadline: float | None = None) -> float | str:
    return state.next_wait(CONFIG, attempt, asked, NOW, deadline, half)


def test_wait_grows_with_the_attempts_until_none_is_left() -> None:
    state = RetryState(CONFIG, NOW)

    assert [wait(state, attempt) for attempt in (1, 2, 3, 4)] == [0.5, 1.0, "attempts_exhausted", "attempts_exhausted"]
    assert state.budget.available(NOW) == RESERVE - 2


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (0.1, 0.5),  # the backoff is longer
        (5.0, 5.25),  # half of the jitter of a tenth
        (20.0, 21.0),
    ],
)
def test_longer_of_backoff_and_what_was_asked_is_waited(asked: float, seconds: float) -> None:
    assert wait(RetryState(CONFIG, NOW), asked=asked) == seconds


def test_wait_reaches_beyond_a_cool_down_that_others_began() -> None:
    state = RetryState(CONFIG, NOW)
    state.cool_down.start(NOW, 10.0)

    assert wait(state) == 10.5


@pytest.mark.parametrize(("deadline", "expected"), [(NOW + 0.6, 0.5), (NOW + 0.5, "deadline"), (NOW - 1, "deadline")])
def test_nobody_waits_up_to_the_deadline(deadline: float, expected: float | str) -> None:
    state = RetryState(CONFIG, NOW)

    assert wait(state, deadline=deadline) == expected
    assert state.budget.available(NOW) == RESERVE - (expected != "deadline")


def test_empty_budget_ends_the_retries() -> None:
    state = RetryState(CONFIG, NOW)

    assert [wait(state) for _ in range(RESERVE + 2)][-3:] == [0.5, "budget_exhausted", "budget_exhausted"]


# --- reload ---------------------------------------------------------------------------------------------------------


def test_reload_that_changes_nothing_says_nothing() -> None:
    state = RetryState(CONFIG, NOW)

    assert state.reconfigure(CONFIG.model_copy(update={"retry_on": (500,)}), NOW) == ""


def test_reload_keeps_what_was_counted_under_a_new_budget() -> None:
    state = RetryState(CONFIG, NOW)
    for _ in range(1000):
        state.budget.deposit(NOW)
    for _ in range(40):
        state.budget.withdraw(NOW)

    change = state.reconfigure(CONFIG.model_copy(update={"budget": 0.2, "base_delay": 4.0}), NOW)

    assert change == "base_delay 1 -> 4, budget 0.1 -> 0.2; counts kept"
    assert state.budget.available(NOW) == 160


def test_reload_shortens_a_cool_down_to_the_new_maximum_and_never_resets_it() -> None:
    state = RetryState(CONFIG, NOW)
    state.cool_down.start(NOW, 20.0)

    assert state.reconfigure(CONFIG.model_copy(update={"max_retry_after": 5.0}), NOW) == (
        "max_retry_after 20 -> 5; counts kept"
    )
    assert state.cool_down.remaining(NOW) == 5.0
    for _ in range(100):
        state.reconfigure(CONFIG, NOW)
    assert state.cool_down.remaining(NOW) == 5.0


def test_it_shows_both_parts() -> None:
    assert repr(RetryState(CONFIG, NOW)) == (
        "<RetryState <RetryBudget share=0.1 first=0 retries=0> <CoolDown until=0.0>>"
    )
