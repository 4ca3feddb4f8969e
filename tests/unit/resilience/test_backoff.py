"""Exponential backoff with full jitter: U(0, min(max_delay, base_delay * 2^(attempt - 1)))."""

from random import Random

import pytest

from proxy.resilience.backoff import full_jitter

ALMOST_ONE = 1 - 2**-53


@pytest.mark.parametrize(
    ("attempt", "ceiling"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 10.0), (7, 10.0), (1_000_000, 10.0)]
)
def test_ceiling_doubles_with_each_attempt_up_to_the_maximum(attempt: int, ceiling: float) -> None:
    assert full_jitter(attempt, 0.5, 10.0, lambda: ALMOST_ONE) == pytest.approx(ceiling)
    assert full_jitter(attempt, 0.5, 10.0, lambda: 0.5) == ceiling / 2


def test_no_wait_is_as_likely_as_any_other() -> None:
    assert full_jitter(4, 0.5, 10.0, lambda: 0.0) == 0.0


def test_base_delay_above_the_maximum_is_the_maximum() -> None:
    assert full_jitter(1, 30.0, 2.0, lambda: 0.5) == 1.0


def test_waits_are_spread_evenly_over_the_whole_interval() -> None:
    random = Random(1).random
    waits = [full_jitter(3, 1.0, 60.0, random) for _ in range(4000)]

    quarters = [sum(quarter <= wait < quarter + 1 for wait in waits) for quarter in range(4)]
    assert sum(quarters) == 4000
    assert all(900 < count < 1100 for count in quarters)
