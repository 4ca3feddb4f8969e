"""The arithmetic of rate limits, and what a route remembers of its clients."""

from typing import Any

import pytest

from proxy.config.policies import RateLimitConfig
from proxy.config.policy_types import Rate
from proxy.resilience.gcra import UNLIMITED, Gcra, admitted
from proxy.resilience.limiter import LimiterState

NOW = 1_000_000.123
"""Eleven days after a start: floating point is no longer exact to the last digit."""
ME, OTHER = b"me", b"other"


def limit(rate: str, **settings: Any) -> RateLimitConfig:
    return RateLimitConfig(rate=Rate.parse(rate), **settings)


def state(*limits: RateLimitConfig, share: int = 1, now: float = NOW) -> LimiterState:
    return LimiterState(limits, now, share=share)


def passed(limiter: LimiterState, times: int, now: float, keys: tuple[bytes, ...] = (ME,)) -> int:
    """How many of so many requests at one instant pass."""
    return sum(limiter.take(keys, now)[0] for _ in range(times))


# --- one limit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "settings", "at_once", "one_more_after"),
    [
        ("20/min", {}, 20, 3.0),
        ("20/min", {"burst": 1}, 1, 3.0),
        ("20/min", {"burst": 5}, 5, 3.0),
        ("5/s", {"burst": 50}, 50, 0.2),
        ("1000/hour", {}, 1000, 3.6),
        ("7/10s", {}, 7, 10 / 7),
        ("20/min", {"cost": 3}, 6, 3.0),
        ("20/min", {"cost": 5}, 4, 15.0),
        ("10/min", {"cost": 10}, 1, 60.0),
        ("1000/s", {}, 1000, 0.001),
    ],
)
def test_burst_passes_at_once_and_then_the_rate(
    rate: str, settings: dict[str, int], at_once: int, one_more_after: float
) -> None:
    limiter = state(limit(rate, **settings))

    assert passed(limiter, at_once + 5, NOW) == at_once
    assert passed(limiter, 2, NOW + one_more_after - 1e-4) == 0
    assert passed(limiter, 2, NOW + one_more_after) == 1


def test_whole_burst_is_back_after_the_reset_and_never_more() -> None:
    limiter = state(limit("20/min"))
    passed(limiter, 20, NOW)

    assert passed(limiter, 30, NOW + 60) == 20
    assert passed(limiter, 30, NOW + 86_400) == 20


def test_verdicts_tell_what_is_left_and_when_it_is_back() -> None:
    limiter = state(limit("3/min"))

    verdicts = [limiter.take((ME,), NOW + second) for second in (0, 1, 2, 3)]

    assert [verdict[:3] for verdict in verdicts] == [(True, 0, 2), (True, 0, 1), (True, 0, 0), (False, 0, 0)]
    assert [verdict[3] for verdict in verdicts] == pytest.approx([20, 39, 58, 17], abs=1e-4)


def test_refusals_cost_nothing() -> None:
    limiter = state(limit("1/min"))
    limiter.take((ME,), NOW)

    assert passed(limiter, 1000, NOW + 59) == 0
    assert passed(limiter, 1, NOW + 60) == 1


def test_clients_do_not_share() -> None:
    limiter = state(limit("1/min"))
    limiter.take((ME,), NOW)

    assert limiter.take((OTHER,), NOW)[0]
    assert limiter.clients == 2


def test_rate_in_the_long_run_is_the_limit() -> None:
    limiter = state(limit("300/min", burst=10))

    count = sum(limiter.take((ME,), NOW + step / 100)[0] for step in range(60_000))

    assert 3000 <= count <= 3010


# --- several limits -------------------------------------------------------------------------------------------------


def test_all_limits_must_allow_and_only_then_all_count() -> None:
    limiter = state(limit("2/min"), limit("100/hour"))
    keys = (ME, b"team")

    assert passed(limiter, 10, NOW, keys) == 2
    assert passed(limiter, 98, NOW, (OTHER, b"team")) == 2
    assert limiter.resets((ME, b"team"), NOW) == pytest.approx([60, 4 * 36])


def test_limit_with_the_fewest_left_is_reported() -> None:
    limiter = state(limit("100/hour"), limit("5/min"), limit("9/min"))

    assert limiter.take((ME, ME, ME), NOW)[:3] == (True, 1, 4)


def test_refusal_reports_the_longest_wait() -> None:
    limiter = state(limit("1/min"), limit("1/hour"), limit("2/day"))
    limiter.take((ME, ME, ME), NOW)

    allowed, index, remaining, seconds = limiter.take((ME, ME, ME), NOW)

    assert (allowed, index, remaining) == (False, 1, 0)
    assert seconds == pytest.approx(3600, abs=1e-4)


def test_limits_can_be_left_out() -> None:
    limiter = state(limit("1/min"), limit("2/min"))
    second_only = (None, Gcra(30.0, 2))

    assert [limiter.take((ME, ME), NOW, second_only)[:2] for _ in range(3)] == [(True, 1), (True, 1), (False, 1)]
    assert limiter.take((ME, ME), NOW, (None, None)) == UNLIMITED == admitted([])
    assert state(limit("1/min")).take((ME,), NOW, (None,)) == UNLIMITED


# --- parts of a limit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "at_once", "interval"), [(2, 10, 6.0), (4, 5, 12.0), (30, 1, 90.0)])
def test_share_is_a_part_of_burst_and_rate_but_at_least_one_request(share: int, at_once: int, interval: float) -> None:
    limiter = state(limit("20/min"), share=share)

    assert passed(limiter, 30, NOW) == at_once
    assert passed(limiter, 30, NOW + interval) == 1


def test_share_of_a_dear_request_lets_one_pass() -> None:
    assert passed(state(limit("10/min", cost=8), share=5), 3, NOW) == 1


# --- what others know -----------------------------------------------------------------------------------------------


def test_what_is_learnt_counts_and_never_goes_back() -> None:
    limiter = state(limit("20/min"))

    limiter.learn((ME,), [58.0], NOW)
    limiter.learn((ME,), [10.0], NOW)
    limiter.learn((OTHER,), [0.0], NOW)

    assert limiter.resets((ME,), NOW) == pytest.approx([58.0])
    assert passed(limiter, 2, NOW) == 0
    assert limiter.clients == 1


def test_nobody_waits_longer_than_a_cap() -> None:
    limiter = state(limit("1/hour"), limit("1/min"))
    limiter.take((ME, ME), NOW)

    limiter.cap(NOW, (Gcra(10.0, 1), None))

    assert limiter.resets((ME, ME), NOW) == pytest.approx([10, 60])


# --- reload ---------------------------------------------------------------------------------------------------------


def test_same_limits_change_nothing() -> None:
    limiter = state(limit("2/min"))
    passed(limiter, 2, NOW)

    assert limiter.reconfigure((limit("2/min"),), NOW) == ""
    assert limiter.reconfigure((limit("2/min", on_store_error="open", mode="shadow"),), NOW) == ""
    assert passed(limiter, 5, NOW) == 0


def test_smaller_limit_keeps_arrival_times_up_to_its_own_burst() -> None:
    limiter = state(limit("10/hour"))
    passed(limiter, 10, NOW)

    assert limiter.reconfigure((limit("2/min"),), NOW) == "10/hour is now 2/min, counts kept"

    assert passed(limiter, 5, NOW) == 0
    assert passed(limiter, 5, NOW + 30) == 1
    assert passed(limiter, 5, NOW + 90) == 2


def test_larger_limit_keeps_arrival_times() -> None:
    limiter = state(limit("2/min"))
    passed(limiter, 2, NOW)

    limiter.reconfigure((limit("4/min"),), NOW)

    assert passed(limiter, 5, NOW) == 0
    assert passed(limiter, 5, NOW + 15) == 1


def test_a_hundred_reloads_admit_nothing_extra() -> None:
    limiter = state(limit("10/min"))
    rates = [limit("10/min"), limit("11/min")]

    count = 0
    for number in range(100):
        count += passed(limiter, 20, NOW)
        limiter.reconfigure((rates[number % 2],), NOW)

    assert count <= 11


def test_limits_are_matched_by_place_and_key() -> None:
    by_user = limit("5/min", key=("header:X-User",))
    limiter = state(limit("1/min"), limit("1/hour"))
    limiter.take((ME, ME), NOW)

    change = limiter.reconfigure((limit("1/min"), by_user, limit("9/day")), NOW)

    assert change == "5/min counts by another key, reset, 9/day added"
    assert limiter.resets((ME, ME, ME), NOW) == pytest.approx([60, 0, 0])
    assert limiter.reconfigure((limit("1/min"),), NOW) == "5/min dropped, 9/day dropped"
    assert repr(limiter) == "<LimiterState 1/min clients=1>"


@pytest.mark.parametrize("keys", [(ME,), (ME, ME, ME)])
def test_exchange_from_before_a_reload_has_other_keys(keys: tuple[bytes, ...]) -> None:
    limiter = state(limit("1/min"), limit("1/hour"))

    assert limiter.take(keys, NOW)[0]
    assert not limiter.take(keys, NOW)[0]
    assert len(limiter.resets(keys, NOW)) == len(keys)


def test_shows_its_figures() -> None:
    assert repr(Gcra(3.0, 20)) == "<Gcra increment=3s tolerance=60s>"
