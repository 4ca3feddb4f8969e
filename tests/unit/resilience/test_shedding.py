"""When shedding begins and ends, and whom it meets first."""

from collections.abc import Iterator

import pytest

from proxy.config.policies import CRITICALITIES, Criticality
from proxy.protocol.problem import retry_after_seconds
from proxy.resilience.shedding import FULL, MOST, Shedder

THRESHOLD = 0.1
LATE = 0.1001
IN_TIME = 0.1


def evenly(steps: int = 1000) -> Iterator[float]:
    """Numbers from [0, 1) in even steps, again and again."""
    while True:
        yield from (number / steps for number in range(steps))


def shedder() -> Shedder:
    return Shedder(evenly().__next__)


def levels(shedder: Shedder, *lags: float) -> list[float]:
    return [shedder.sample(lag, THRESHOLD) for lag in lags]


def at_level(level: float) -> Shedder:
    shed = shedder()
    levels(shed, *[LATE] * 7, *[IN_TIME] * round((1 - level) * FULL))
    assert shed.level == level
    return shed


def share(shed: Shedder, criticality: Criticality) -> float:
    return sum(shed.sheds(criticality) for _ in range(1000)) / 1000


# --- the level ------------------------------------------------------------------------------------------------------


def test_shedding_begins_with_the_third_late_sample_in_a_row() -> None:
    assert levels(shedder(), LATE, LATE, LATE, LATE) == [0, 0, 0.2, 0.4]


def test_pauses_that_are_not_in_a_row_shed_nothing() -> None:
    assert set(levels(shedder(), *[LATE, LATE, IN_TIME] * 20, 5.0, 5.0, 0.0)) == {0}


def test_lag_at_the_threshold_is_in_time() -> None:
    assert set(levels(shedder(), *[IN_TIME] * 10)) == {0}


def test_level_rises_to_one_and_stays_there() -> None:
    assert levels(shedder(), *[LATE] * 9)[2:] == [0.2, 0.4, 0.6, 0.8, 1, 1, 1]


def test_level_falls_by_a_twentieth_and_ends_at_zero_exactly() -> None:
    shed = at_level(1)

    assert levels(shed, *[IN_TIME] * 22) == [(FULL - step) / FULL for step in range(1, 21)] + [0, 0]


def test_one_late_sample_raises_a_level_that_has_not_ended_yet() -> None:
    assert levels(at_level(0.5), LATE, IN_TIME, IN_TIME, LATE) == [0.7, 0.65, 0.6, 0.8]


def test_shedding_that_has_ended_needs_three_late_samples_to_begin_again() -> None:
    shed = at_level(0.05)

    assert levels(shed, IN_TIME, LATE, LATE, IN_TIME, LATE, LATE, LATE) == [0, 0, 0, 0, 0, 0, 0.2]


def test_level_settles_where_the_loop_is_just_in_time() -> None:
    """A loop that is late whenever less than 0.6 is shed: the level stays around that and never ends at 0 or 1."""
    shed = at_level(1)
    seen = [shed.sample(LATE if shed.level < 0.6 else IN_TIME, THRESHOLD) for _ in range(200)]

    assert (min(seen[20:]), max(seen[20:])) == (0.55, 0.75)


def test_no_threshold_ends_shedding_at_once_and_forgets_the_late_samples() -> None:
    shed = at_level(1)

    assert shed.sample(5.0, None) == 0
    assert levels(shed, LATE, LATE) == [0, 0]


def test_threshold_of_the_sample_counts() -> None:
    shed = shedder()

    assert [shed.sample(LATE, 0.2), shed.sample(LATE, 0.05), shed.sample(LATE, 0.05)] == [0, 0, 0]
    assert shed.sample(LATE, 0.05) == 0.2


# --- who is met -----------------------------------------------------------------------------------------------------


def test_nothing_is_shed_at_level_zero() -> None:
    assert [share(shedder(), criticality) for criticality in CRITICALITIES] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("level", "shares"),
    [
        (0.2, [0, 0, 0, 0.57]),
        (0.3, [0, 0, 0, 0.855]),
        (0.4, [0, 0, 0.19, 0.95]),
        (0.65, [0, 0, 0.9025, 0.95]),
        (0.7, [0, 0.095, 0.95, 0.95]),
        (1, [0, 0.95, 0.95, 0.95]),
    ],
)
def test_least_important_go_first(level: float, shares: list[float]) -> None:
    shed = at_level(level)

    assert [share(shed, criticality) for criticality in CRITICALITIES] == pytest.approx(shares, abs=0.002)


def test_critical_is_never_shed() -> None:
    shed = Shedder(lambda: 0.0)
    levels(shed, *[LATE] * 20)

    assert not shed.sheds("critical")


def test_a_share_of_every_class_gets_in_at_level_one() -> None:
    shed = Shedder(lambda: MOST)
    levels(shed, *[LATE] * 20)

    assert [shed.sheds(criticality) for criticality in CRITICALITIES] == [False] * 4


@pytest.mark.parametrize(("drawn", "seconds"), [(0.0, 1), (0.1, 1), (0.3, 2), (0.5, 3), (0.79, 4), (0.999, 5)])
def test_clients_are_told_to_come_back_after_one_to_five_seconds(drawn: float, seconds: int) -> None:
    assert retry_after_seconds(Shedder(lambda: drawn).retry_after()) == seconds
