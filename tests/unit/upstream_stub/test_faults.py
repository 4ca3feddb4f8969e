from collections.abc import Iterable, Iterator

import pytest

from tests.support.clock import ManualClock
from upstream_stub.faults import MAX_RULES, BadFault, Fault, FaultRules, Rule

HANG = Fault.parse("hang")
RESET = Fault.parse("reset")


def rules(clock: ManualClock | None = None, draws: Iterable[float] = ()) -> FaultRules:
    numbers: Iterator[float] = iter(draws)
    return FaultRules(clock or ManualClock(), lambda: next(numbers, 0.0))


def test_a_fault_is_read_with_all_its_parts() -> None:
    fault = Fault.parse(" delay=250ms,status=503 ,drip=2s, truncate,reset,hang")
    assert fault == Fault(
        text="delay=250ms, status=503, drip=2s, truncate, reset, hang",
        delay=0.25,
        status=503,
        drip=2.0,
        truncate=True,
        reset=True,
        hang=True,
    )


def test_the_longest_path_counts() -> None:
    both = rules()
    both.put(Rule("/properties/1", RESET))
    both.put(Rule("/", HANG))
    assert both.choose("/properties/1/prediction") is RESET
    assert both.choose("/search") is HANG


def test_a_rule_replaces_the_one_for_its_path() -> None:
    one = rules()
    one.put(Rule("/", RESET))
    one.put(Rule("/", HANG))
    assert one.choose("/") is HANG
    assert len(one.snapshot()) == 1


def test_a_rule_meets_its_share_of_the_requests() -> None:
    half = rules(draws=[0.0, 0.49, 0.5, 0.99])
    half.put(Rule("/", HANG, probability=0.5))
    assert [half.choose("/") for _ in range(4)] == [HANG, HANG, None, None]


def test_requests_that_are_spared_do_not_use_up_the_count() -> None:
    half = rules(draws=[0.9, 0.1, 0.1])
    half.put(Rule("/", HANG, probability=0.5, remaining=1))
    assert [half.choose("/") for _ in range(3)] == [None, HANG, None]


def test_a_rule_ends_at_its_time() -> None:
    clock = ManualClock()
    timed = rules(clock)
    timed.put(Rule("/", HANG, expires_at=clock() + 5.0))
    clock.advance(4.5)
    assert timed.choose("/") is HANG
    assert timed.snapshot()[0]["expires_in"] == 0.5
    clock.advance(0.5)
    assert timed.choose("/") is None
    assert timed.snapshot() == []


def test_there_is_a_limit_to_the_rules_and_replacing_one_is_within_it() -> None:
    many = rules()
    for number in range(MAX_RULES):
        many.put(Rule(f"/{number}", HANG))
    many.put(Rule("/0", RESET))
    with pytest.raises(BadFault):
        many.put(Rule("/one-more", HANG))
