"""The breaker's decisions: what opens it, for how long, who may probe, and what a result still counts for."""

from collections.abc import Callable
from typing import Any

import pytest

from proxy.config.policies import NamedBreaker
from proxy.resilience.breaker import LEASE, LEASE_GRACE, PROBE_PAUSE, STATES, Breaker, Transition

WINDOW = 30.0
BREAK = 60.0


class Patient:
    """A breaker with a clock in its hand."""

    def __init__(self, random: Callable[[], float] = lambda: 0.0, **limits: Any) -> None:
        self.now = 1000.0
        self.transitions: list[Transition] = []
        self.breaker = Breaker(configured(**limits), self.now, random, self.transitions.append)

    @property
    def state(self) -> str:
        return self.breaker.snapshot(self.now).state

    @property
    def last_reason(self) -> str:
        return self.transitions[-1].reason

    def admit(self, deadline: float | None = None) -> int:
        return self.breaker.ticket or self.breaker.admit(self.now, deadline)

    def attempt(self, *outcomes: str, seconds: float = 0.0) -> None:
        """Admitted attempts, one after the other: `f` has failed, `s` succeeded."""
        for outcome in "".join(outcomes):
            ticket = self.admit()
            assert ticket
            self.breaker.record(ticket, self.now, seconds, failed=outcome == "f")

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def half_open(self) -> None:
        """Isolate it for a second."""
        self.breaker.force("isolated", self.now + 1.0, self.now)
        self.wait(1.0)
        assert self.state == "half_open"


def configured(**limits: Any) -> NamedBreaker:
    defaults: dict[str, Any] = {
        "name": "ml",
        "sampling_window": WINDOW,
        "break_duration": BREAK,
        "max_break_duration": 600.0,
    }
    return NamedBreaker(**defaults | limits)


def by_count(count: int = 3, **limits: Any) -> Patient:
    return Patient(consecutive_failures=count, failure_ratio=None, **limits)


def by_ratio(ratio: float, throughput: int = 20, **limits: Any) -> Patient:
    return Patient(consecutive_failures=None, failure_ratio=ratio, minimum_throughput=throughput, **limits)


# --- what opens it --------------------------------------------------------------------------------------------------


def test_consecutive_failures_open_it_at_the_limit() -> None:
    patient = by_count(3)

    patient.attempt("ff")
    assert patient.state == "closed"
    patient.attempt("f")

    assert (patient.state, patient.last_reason) == ("open", "consecutive_failures")
    assert patient.admit() == 0


def test_success_begins_the_count_again() -> None:
    patient = by_count(3)

    patient.attempt("ffsffsff")

    assert patient.state == "closed"


@pytest.mark.parametrize(
    ("ratio", "outcomes", "state"),
    [
        (0.5, "s" * 51 + "f" * 49, "closed"),
        (0.5, "s" * 50 + "f" * 50, "open"),
        (0.5, "s" * 49 + "f" * 49, "open"),
        (0.07, "s" * 93 + "f" * 7, "open"),
        (0.07, "s" * 94 + "f" * 6, "closed"),
        (1.0, "f" * 19, "closed"),
        (1.0, "f" * 20, "open"),
        (1.0, "s" + "f" * 99, "closed"),
    ],
)
def test_failure_ratio_opens_it_when_it_is_reached(ratio: float, outcomes: str, state: str) -> None:
    patient = by_ratio(ratio)

    patient.attempt(outcomes)

    assert patient.state == state


def test_ratio_says_nothing_below_the_minimum_throughput() -> None:
    patient = by_ratio(0.5, throughput=20)

    patient.attempt("f" * 19)
    assert patient.state == "closed"
    patient.attempt("s")

    assert (patient.state, patient.last_reason) == ("open", "failure_ratio")


def test_failures_older_than_the_window_are_forgotten() -> None:
    patient = by_ratio(0.5, throughput=4)
    patient.attempt("fff")

    patient.wait(WINDOW + 1)
    patient.attempt("ssf" + "ssf")

    assert patient.state == "closed"


def test_successes_older_than_the_window_are_forgotten_too() -> None:
    patient = by_ratio(0.5, throughput=4)
    patient.attempt("s" * 100)
    patient.wait(WINDOW / 2)
    patient.attempt("ffff")
    assert patient.state == "closed"

    patient.wait(WINDOW / 2 + 1)
    patient.attempt("s")

    assert (patient.state, patient.last_reason) == ("open", "failure_ratio")


def test_slow_calls_open_it_when_their_ratio_is_reached() -> None:
    patient = by_ratio(0.5, throughput=10, slow_call=2.0, slow_call_ratio=0.3)

    patient.attempt("s" * 7, seconds=1.9)
    patient.attempt("ss", seconds=2.0)
    assert patient.state == "closed"
    patient.attempt("s", seconds=5.0)

    assert (patient.state, patient.last_reason) == ("open", "slow_call_ratio")


def test_slow_failures_are_slow_as_well() -> None:
    patient = Patient(consecutive_failures=None, failure_ratio=None, minimum_throughput=2, slow_call=2.0)

    patient.attempt("sf", seconds=3.0)

    assert (patient.state, patient.last_reason) == ("open", "slow_call_ratio")


def test_without_slow_call_nothing_is_slow() -> None:
    patient = by_ratio(0.5, throughput=1)

    patient.attempt("ss", seconds=1e9)

    assert patient.state == "closed"


def test_conditions_that_are_off_open_nothing() -> None:
    patient = Patient(consecutive_failures=None, failure_ratio=None)

    patient.attempt("f" * 200)

    assert patient.state == "closed"


# --- how long -------------------------------------------------------------------------------------------------------


def break_of(patient: Patient) -> float:
    opens_until = patient.breaker.snapshot(patient.now).opens_until
    assert opens_until is not None
    return opens_until - patient.now


def reopen(patient: Patient) -> float:
    """Let the break pass and a probe fail; the next break's length."""
    patient.wait(break_of(patient))
    patient.attempt("f")
    return break_of(patient)


def test_break_doubles_with_each_failed_probe_up_to_its_maximum() -> None:
    patient = by_count(1)
    patient.attempt("f")

    assert [break_of(patient), *(reopen(patient) for _ in range(5))] == [60.0, 120.0, 240.0, 480.0, 600.0, 600.0]


@pytest.mark.parametrize(("random", "seconds"), [(0.0, 60.0), (0.5, 63.0), (0.999, 65.994)])
def test_break_has_up_to_a_tenth_on_top(random: float, seconds: float) -> None:
    patient = by_count(1, random=lambda: random)

    patient.attempt("f")

    assert break_of(patient) == pytest.approx(seconds)


def test_jitter_does_not_lead_beyond_the_maximum() -> None:
    patient = by_count(1, random=lambda: 0.9, max_break_duration=61.0)

    patient.attempt("f")

    assert break_of(patient) == pytest.approx(61.0)


def test_break_stays_finite_after_any_number_of_openings() -> None:
    patient = by_count(1, break_duration=0.001)
    patient.attempt("f")
    for _ in range(2000):
        reopen(patient)

    assert break_of(patient) == pytest.approx(600.0)


@pytest.mark.parametrize(("healthy", "seconds"), [(WINDOW - 0.1, 120.0), (WINDOW, 60.0)])
def test_openings_are_in_a_row_until_it_was_closed_for_a_whole_window(healthy: float, seconds: float) -> None:
    patient = by_count(1)
    patient.attempt("f")
    patient.wait(BREAK)
    patient.attempt("ss")
    assert patient.state == "closed"

    patient.wait(healthy)
    patient.attempt("f")

    assert break_of(patient) == pytest.approx(seconds)


def test_refused_caller_is_told_what_is_left_of_the_break() -> None:
    patient = by_count(1)
    patient.attempt("f")
    patient.wait(BREAK - 15)

    assert patient.admit() == 0
    assert patient.breaker.retry_after(patient.now) == pytest.approx(15.0)


# --- probes ---------------------------------------------------------------------------------------------------------


def test_after_the_break_one_probe_goes_at_a_time() -> None:
    patient = by_count(1)
    patient.attempt("f")
    patient.wait(BREAK)

    probe = patient.admit()

    assert probe
    assert patient.state == "half_open"
    assert [patient.admit() for _ in range(3)] == [0, 0, 0]
    assert patient.breaker.retry_after(patient.now) == PROBE_PAUSE
    patient.breaker.record(probe, patient.now, 0.0, failed=False)
    assert patient.admit()
    assert patient.admit() == 0


def test_as_many_successful_probes_as_asked_for_close_it() -> None:
    patient = by_count(1, success_threshold=3)
    patient.half_open()

    patient.attempt("ss")
    assert patient.state == "half_open"
    patient.attempt("s")

    assert (patient.state, patient.last_reason) == ("closed", "probes_succeeded")
    assert patient.breaker.ticket


def test_failed_probe_opens_it_again() -> None:
    patient = by_count(5, success_threshold=3)
    patient.half_open()

    patient.attempt("ssf")

    assert (patient.state, patient.last_reason) == ("open", "probe_failed")
    patient.wait(BREAK)
    patient.attempt("s")
    assert patient.state == "half_open", "the successes before do not count"


def test_slow_probe_opens_it_again() -> None:
    patient = by_count(5, slow_call=1.0)
    patient.half_open()

    patient.attempt("s", seconds=1.0)

    assert (patient.state, patient.last_reason) == ("open", "probe_slow")


def test_closed_again_it_begins_with_an_empty_window() -> None:
    patient = by_ratio(0.5, throughput=4, success_threshold=1)
    patient.attempt("ffff")
    assert patient.state == "open"
    patient.wait(5.0)
    patient.breaker.force("isolated", patient.now + 1, patient.now)
    patient.wait(1.0)
    patient.attempt("s")

    snapshot = patient.breaker.snapshot(patient.now)

    assert (snapshot.state, snapshot.calls, snapshot.failures) == ("closed", 0, 0)
    assert snapshot.consecutive_failures == 0
    assert snapshot.trip_reason is None


def test_lease_that_is_given_back_goes_to_the_next() -> None:
    patient = by_count(1)
    patient.half_open()
    probe = patient.admit()

    patient.breaker.give_back(probe)

    assert patient.admit()
    patient.breaker.give_back(probe)
    assert patient.admit() == 0, "giving back twice frees nobody else's lease"


@pytest.mark.parametrize(
    ("slow_call", "deadline", "lasts"),
    [(None, None, LEASE), (5.0, None, LEASE), (50.0, None, 100.0), (50.0, 2.0, 2.0 + LEASE_GRACE)],
)
def test_lost_probe_makes_room_when_its_lease_is_over(
    slow_call: float | None, deadline: float | None, lasts: float
) -> None:
    patient = by_count(1, slow_call=slow_call)
    patient.half_open()
    lost = patient.admit(None if deadline is None else patient.now + deadline)

    patient.wait(lasts - 0.01)
    assert patient.admit() == 0
    patient.wait(0.02)
    second = patient.admit()
    assert second
    patient.breaker.record(lost, patient.now, 0.0, failed=True)

    assert patient.state == "half_open"
    assert patient.admit() == 0, "the second probe is still under way"
    patient.breaker.record(second, patient.now, 0.0, failed=False)
    assert patient.admit()


def test_late_result_counts_for_nothing_even_if_nobody_came_meanwhile() -> None:
    patient = by_count(1, success_threshold=1)
    patient.half_open()
    late = patient.admit()

    patient.wait(LEASE)
    patient.breaker.record(late, patient.now, 0.0, failed=False)

    assert patient.state == "half_open"


def test_answered_probe_counts_as_success_when_its_lease_ends_before_its_body() -> None:
    patient = by_count(1, success_threshold=2)
    patient.half_open()

    for state in ("half_open", "closed"):
        probe = patient.admit(patient.now + 3600)
        patient.breaker.answered(probe, patient.now, 0.0)
        patient.wait(LEASE)
        assert patient.state == state
        patient.breaker.record(probe, patient.now, 0.0, failed=True)
        assert patient.state == state


def test_head_of_one_probe_says_nothing_about_the_next() -> None:
    patient = by_count(1, success_threshold=1)
    patient.half_open()
    first = patient.admit()
    patient.breaker.answered(first, patient.now, 0.0)
    patient.breaker.give_back(first)

    assert patient.admit()
    patient.wait(LEASE)

    assert patient.state == "half_open"


def test_answered_probe_whose_body_fails_in_time_has_failed() -> None:
    patient = by_count(1)
    patient.half_open()
    probe = patient.admit()
    patient.breaker.answered(probe, patient.now, 0.0)

    patient.wait(LEASE - 1)
    patient.breaker.record(probe, patient.now, 0.0, failed=True)

    assert patient.state == "open"


def test_slow_head_of_a_probe_opens_it_at_once() -> None:
    patient = by_count(1, slow_call=1.0)
    patient.half_open()
    probe = patient.admit()

    patient.breaker.answered(probe, patient.now, 1.5)

    assert (patient.state, patient.last_reason) == ("open", "probe_slow")


def test_head_means_nothing_while_closed_or_for_a_stale_ticket() -> None:
    patient = by_count(1, slow_call=1.0)
    ticket = patient.admit()
    patient.breaker.answered(ticket, patient.now, 9.0)
    assert patient.state == "closed"

    patient.half_open()
    patient.breaker.answered(ticket, patient.now, 9.0)

    assert patient.state == "half_open"


# --- results that come late -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [True, False])
def test_results_from_before_it_opened_count_for_nothing(failed: bool) -> None:
    patient = by_count(1, success_threshold=1)
    old = patient.admit()
    patient.attempt("f")

    patient.breaker.record(old, patient.now, 0.0, failed=failed)
    assert patient.state == "open"
    patient.wait(BREAK)
    patient.breaker.record(old, patient.now, 0.0, failed=failed)
    assert patient.state == "half_open"
    patient.attempt("s")
    patient.breaker.record(old, patient.now, 0.0, failed=failed)

    assert patient.state == "closed"
    assert patient.breaker.snapshot(patient.now).calls == 0


def test_old_ticket_cannot_give_back_the_lease_of_a_probe() -> None:
    patient = by_count(1)
    old = patient.admit()
    patient.half_open()
    assert patient.admit()

    patient.breaker.give_back(old)

    assert patient.admit() == 0


def test_neither_outcome_leaves_the_closed_breaker_as_it_is() -> None:
    patient = by_count(2)
    patient.attempt("f")

    patient.breaker.give_back(patient.admit())
    patient.attempt("f")

    assert patient.state == "open", "the failures before and after are consecutive"


def test_ticket_of_those_who_got_none_counts_for_nothing() -> None:
    patient = by_count(1)
    patient.half_open()

    patient.breaker.record(0, patient.now, 0.0, failed=True)

    assert patient.state == "half_open"


# --- by hand --------------------------------------------------------------------------------------------------------


def test_isolated_breaker_lets_nothing_pass_until_it_expires_and_then_probes() -> None:
    patient = by_count(1)

    patient.breaker.force("isolated", patient.now + 600, patient.now)

    assert patient.state == "isolated"
    assert patient.admit() == 0
    assert patient.breaker.retry_after(patient.now) == 600
    patient.wait(600)
    assert (patient.state, patient.last_reason) == ("half_open", "force_expired")


def test_forced_closed_breaker_lets_everything_pass_and_counts_on() -> None:
    patient = by_count(2)

    patient.breaker.force("closed", patient.now + 600, patient.now)
    patient.attempt("f" * 50)

    snapshot = patient.breaker.snapshot(patient.now)
    assert (snapshot.state, snapshot.failures) == ("forced_closed", 50)
    assert snapshot.consecutive_failures == 50
    patient.wait(600)
    patient.attempt("f")
    assert (patient.state, patient.last_reason) == ("closed", "force_expired")
    patient.attempt("f")
    assert patient.state == "open"


def test_force_that_expired_while_an_attempt_ran_takes_its_result_along() -> None:
    patient = by_count(1)
    patient.breaker.force("closed", patient.now + 10, patient.now)
    ticket = patient.admit()

    patient.wait(10)
    patient.breaker.record(ticket, patient.now, 0.0, failed=True)

    assert patient.state == "closed"


@pytest.mark.parametrize(("force", "then"), [("isolated", "half_open"), ("closed", "closed")])
def test_release_ends_a_force_before_its_time(force: Any, then: str) -> None:
    patient = by_count(1)
    patient.breaker.force(force, patient.now + 600, patient.now)

    patient.breaker.release(patient.now)

    assert (patient.state, patient.last_reason) == (then, "released")


def test_release_of_what_is_not_forced_changes_nothing() -> None:
    patient = by_count(1)
    patient.attempt("f")

    patient.breaker.release(patient.now)

    assert patient.state == "open"
    assert len(patient.transitions) == 1


def test_forcing_again_only_moves_the_end() -> None:
    patient = by_count(1)
    patient.breaker.force("isolated", patient.now + 600, patient.now)

    patient.breaker.force("isolated", patient.now + 60, patient.now)

    assert patient.breaker.snapshot(patient.now).forced_until == patient.now + 60
    assert len(patient.transitions) == 1


def test_force_can_be_turned_round() -> None:
    patient = by_count(1)
    patient.breaker.force("isolated", patient.now + 600, patient.now)

    patient.breaker.force("closed", patient.now + 60, patient.now)

    assert patient.state == "forced_closed"
    assert patient.admit()


def test_isolation_after_a_healthy_window_ends_the_row_of_openings() -> None:
    patient = by_count(1, success_threshold=1)
    patient.attempt("f")
    patient.wait(BREAK)
    patient.attempt("s")
    patient.wait(WINDOW)

    patient.half_open()
    patient.attempt("f")

    assert break_of(patient) == BREAK


# --- another configuration ------------------------------------------------------------------------------------------


def test_same_configuration_changes_nothing() -> None:
    patient = by_count(3)

    assert patient.breaker.reconfigure(patient.breaker._config.model_copy(), patient.now) == ""


def test_only_what_the_breaker_decides_by_is_a_change() -> None:
    patient = by_count(3)

    assert patient.breaker.reconfigure(configured(consecutive_failures=3, failure_ratio=None, mode="shadow"), 0.0) == ""


def test_other_limits_keep_state_and_window() -> None:
    patient = by_ratio(0.9, throughput=4)
    patient.attempt("ssff")

    said = patient.breaker.reconfigure(
        configured(consecutive_failures=None, failure_ratio=0.5, minimum_throughput=4), patient.now
    )

    assert said == "failure_ratio changed; state closed kept"
    assert patient.breaker.snapshot(patient.now).failures == 2
    patient.attempt("f")
    assert patient.state == "open"


def test_other_sampling_window_restarts_the_window_and_keeps_the_state() -> None:
    patient = by_count(3)
    patient.attempt("ff")

    said = patient.breaker.reconfigure(
        configured(consecutive_failures=3, failure_ratio=None, sampling_window=10.0), patient.now
    )

    assert said == "sampling_window changed; state closed kept, window restarted"
    assert patient.breaker.snapshot(patient.now).calls == 0
    patient.attempt("f")
    assert patient.state == "open"


def test_open_breaker_stays_open_but_not_beyond_the_new_maximum() -> None:
    patient = by_count(1)
    patient.attempt("f")

    patient.breaker.reconfigure(
        configured(consecutive_failures=1, failure_ratio=None, break_duration=5.0, max_break_duration=5.0), patient.now
    )

    assert patient.state == "open"
    assert break_of(patient) == 5.0


def test_reload_keeps_the_probe_under_way() -> None:
    patient = by_count(1, success_threshold=1)
    patient.half_open()
    probe = patient.admit()

    patient.breaker.reconfigure(configured(consecutive_failures=9), patient.now)

    assert patient.admit() == 0
    patient.breaker.record(probe, patient.now, 0.0, failed=True)
    assert patient.state == "open"


def test_slow_call_that_is_switched_on_later_holds_from_then_on() -> None:
    patient = by_ratio(1.0, throughput=2)
    patient.attempt("s", seconds=9.0)

    patient.breaker.reconfigure(configured(consecutive_failures=None, minimum_throughput=2, slow_call=1.0), patient.now)
    patient.attempt("s", seconds=9.0)

    assert (patient.state, patient.last_reason) == ("open", "slow_call_ratio")


# --- what it tells --------------------------------------------------------------------------------------------------


def test_transitions_are_reported_and_counted() -> None:
    patient = by_count(1, success_threshold=1)
    patient.attempt("f")
    patient.wait(BREAK)
    patient.attempt("s")
    patient.attempt("f")

    assert [(each.breaker, each.before, each.to, each.reason) for each in patient.transitions] == [
        ("ml", "closed", "open", "consecutive_failures"),
        ("ml", "open", "half_open", "break_over"),
        ("ml", "half_open", "closed", "probes_succeeded"),
        ("ml", "closed", "open", "consecutive_failures"),
    ]
    assert [each.until is not None and each.until - each.at for each in patient.transitions] == [
        60.0,
        False,
        False,
        120.0,
    ]
    assert patient.breaker.transitions == {
        ("open", "consecutive_failures"): 2,
        ("half_open", "break_over"): 1,
        ("closed", "probes_succeeded"): 1,
    }
    assert {each.to for each in patient.transitions} <= set(STATES)


def test_snapshot_shows_what_it_decides_by() -> None:
    patient = by_ratio(0.9, slow_call=1.0)
    patient.attempt("sf", seconds=1.0)
    patient.attempt("sf", seconds=0.5)

    snapshot = patient.breaker.snapshot(patient.now)

    assert (snapshot.state, snapshot.since) == ("closed", 1000.0)
    assert (snapshot.calls, snapshot.failures, snapshot.slow_calls) == (4, 2, 2)
    assert (snapshot.failure_ratio, snapshot.slow_call_ratio, snapshot.consecutive_failures) == (0.5, 0.5, 1)
    assert (snapshot.opens_until, snapshot.forced_until, snapshot.trip_reason) == (None, None, None)


def test_snapshot_of_an_idle_breaker_has_no_ratios() -> None:
    patient = by_ratio(0.5)
    patient.attempt("f")
    patient.wait(WINDOW + 1)

    snapshot = patient.breaker.snapshot(patient.now)

    assert (snapshot.calls, snapshot.failure_ratio, snapshot.slow_call_ratio) == (0, None, None)


def test_snapshot_of_an_open_breaker_says_why_and_until_when() -> None:
    patient = by_count(2)
    patient.attempt("ff")
    patient.wait(1.0)

    snapshot = patient.breaker.snapshot(patient.now)

    assert (snapshot.trip_reason, snapshot.opens_until, snapshot.since) == ("consecutive_failures", 1060.0, 1000.0)
    assert (snapshot.failures, snapshot.consecutive_failures) == (2, 2), "what it opened by can still be seen"


def test_state_changes_with_time_alone() -> None:
    patient = by_count(1)
    patient.attempt("f")

    patient.wait(BREAK)

    assert patient.breaker.snapshot(patient.now).state == "half_open"
    assert patient.last_reason == "break_over"


def test_repr_shows_the_state() -> None:
    patient = by_count(2)
    patient.attempt("f")

    assert repr(patient.breaker) == "<Breaker ml closed <Window 30s calls=1 failures=1 slow=0> consecutive=1>"
