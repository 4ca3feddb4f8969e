"""The choice of endpoints, by hand: time and chance are arguments."""

from random import Random
from typing import Any, cast

from proxy.config.model import Ejection
from proxy.config.types import UpstreamUrl
from proxy.upstream.endpoints import Endpoint, Endpoints

RULES = Ejection(consecutive_failures=3, duration=10.0, max_duration=25.0)


class Group:
    """Endpoints whose pools are replaced by a number: the exchanges under way."""

    def __init__(self, count: int, ejection: Ejection | None = RULES) -> None:
        self.members = [self._endpoint(number) for number in range(count)]
        self.events: list[tuple[str, str]] = []
        self.endpoints = Endpoints(
            self.members, ejection, Random(5).random, lambda each, state, _: self.events.append((each.name, state))
        )

    def fail(self, number: int, now: float, times: int = 3) -> None:
        for _ in range(times):
            self.endpoints.record(self.members[number], now, failed=True)

    def chosen(self, now: float) -> set[str]:
        return {self.endpoints.choose(now).name for _ in range(50)}

    @staticmethod
    def _endpoint(number: int) -> Endpoint:
        url = UpstreamUrl("http", f"10.0.0.{number}", 80)
        return Endpoint(url, dialer=cast("Any", None), pool=cast("Any", Busy()))


class Busy:
    load = 0


def names(*numbers: int) -> set[str]:
    return {f"http://10.0.0.{number}" for number in numbers}


def test_all_are_chosen_and_the_less_loaded_more_often() -> None:
    group = Group(3)
    assert group.chosen(0.0) == names(0, 1, 2)
    group.members[0].pool.load = 5  # type: ignore[misc]
    counts = [group.endpoints.choose(0.0).name for _ in range(300)].count("http://10.0.0.0")
    assert counts == 0


def test_only_failures_in_a_row_eject() -> None:
    group = Group(2)
    for _ in range(5):
        group.fail(0, 0.0, times=2)
        group.endpoints.record(group.members[0], 0.0, failed=False)
    assert group.events == []
    group.fail(0, 0.0)
    assert group.events == [("http://10.0.0.0", "ejected")]
    assert group.chosen(0.0) == names(1)


def test_last_one_in_service_stays() -> None:
    group = Group(2)
    group.fail(0, 0.0)
    group.fail(1, 0.0, times=10)
    assert group.chosen(0.0) == names(1)
    assert Group(1).chosen(0.0) == names(0)


def test_ejection_ends_and_grows_up_to_its_cap() -> None:
    group = Group(2)
    now = 100.0
    for duration in (10.0, 20.0, 25.0, 25.0):
        group.fail(0, now)
        assert group.members[0].state(now) == "ejected"
        assert group.chosen(now + duration - 0.1) == names(1)
        assert group.chosen(now + duration) == names(0, 1)
        now += duration + 1.0
    assert [state for _, state in group.events] == ["ejected", "restored"] * 4


def test_time_in_service_makes_the_next_ejection_short_again() -> None:
    group = Group(2)
    group.fail(0, 100.0)
    assert group.chosen(110.0) == names(0, 1)
    group.fail(0, 121.0)
    assert group.chosen(131.0) == names(0, 1)


def test_failures_that_come_in_late_do_not_prolong_an_ejection() -> None:
    group = Group(2)
    group.fail(0, 100.0)
    group.fail(0, 105.0, times=5)
    assert group.chosen(110.0) == names(0, 1)
    assert group.members[0].failures == 0


def test_end_of_an_ejection_is_noticed_even_when_another_one_begins_first() -> None:
    group = Group(3)
    group.fail(0, 100.0)
    group.fail(1, 115.0)
    assert [state for _, state in group.events] == ["ejected", "restored", "ejected"]
    assert group.members[0].failures == 0


def test_ejection_can_be_off() -> None:
    group = Group(2, ejection=None)
    group.fail(0, 0.0, times=100)
    assert group.chosen(0.0) == names(0, 1)


def test_unhealthy_endpoints_are_left_out_until_all_are() -> None:
    group = Group(2)
    group.endpoints.set_healthy(group.members[0], False, "status 500", 0.0)
    assert group.chosen(0.0) == names(1)
    group.endpoints.set_healthy(group.members[1], False, "status 500", 0.0)
    assert group.chosen(0.0) == names(0, 1)
    group.endpoints.set_healthy(group.members[0], True, "ok", 0.0)
    assert group.chosen(0.0) == names(0)
    assert [state for _, state in group.events] == ["unhealthy", "unhealthy", "healthy"]
    assert repr(group.endpoints) == "<Endpoints 1 of 2 in service>"
