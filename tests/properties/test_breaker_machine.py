"""The breaker against a model that remembers everything and looks at all of it each time."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.config.policies import NamedBreaker
from proxy.resilience.breaker import LEASE, STATES, Breaker, Transition

WINDOW = 30
"""Seconds, in slices of one; all time passes in whole seconds, so that window and model agree to the second."""
SLOW = 2.0
RANDOM = 0.5


@dataclass(eq=False)
class Attempt:
    """One that was let pass: in which era, and whether as a probe."""

    era: int
    probe: bool
    ticket: int
    lease_until: float = 0.0
    answered: bool = False


@dataclass
class Model:
    """What a breaker is: a state, and a list of what has happened in it. An era ends with each change of state."""

    config: NamedBreaker
    now: float
    state: str = "closed"
    since: float = field(init=False)
    until: float | None = None
    era: int = 0
    ended: list[tuple[float, bool, bool]] = field(default_factory=list)
    streak: int = 0
    row: int = 0
    successes: int = 0
    probe: Attempt | None = None
    history: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.since = self.now

    def enter(self, state: str, reason: str, until: float | None = None) -> None:
        self.state, self.since, self.until = state, self.now, until
        self.era += 1
        self.probe, self.successes = None, 0
        if state in ("closed", "forced_closed"):
            self.ended, self.streak = [], 0
        self.history.append((state, reason))

    def time_has_passed(self) -> None:
        if self.until is not None and self.now >= self.until:
            match self.state:
                case "open":
                    self.enter("half_open", "break_over")
                case "isolated":
                    self.enter("half_open", "force_expired")
                case "forced_closed":
                    self.enter("closed", "force_expired")
        if self.probe is not None and self.now >= self.probe.lease_until:
            answered, self.probe = self.probe.answered, None
            if answered:
                self.succeed()

    def admits(self) -> bool:
        return self.state in ("closed", "forced_closed") or (self.state == "half_open" and self.probe is None)

    def counts(self, attempt: Attempt) -> bool:
        return attempt.era == self.era and (not attempt.probe or self.probe is attempt)

    def end(self, attempt: Attempt, failed: bool, slow: bool) -> None:
        if not self.counts(attempt):
            return
        if self.state == "half_open":
            if failed or slow:
                self.open("probe_failed" if failed else "probe_slow")
            else:
                self.succeed()
            return
        self.ended.append((self.now, failed, slow))
        self.streak = self.streak + 1 if failed else 0
        reason = self.reason()
        if self.state == "closed" and reason:
            self.open(reason)

    def succeed(self) -> None:
        self.probe = None
        self.successes += 1
        if self.successes >= self.config.success_threshold:
            self.enter("closed", "probes_succeeded")

    def recent(self) -> list[tuple[float, bool, bool]]:
        return [each for each in self.ended if each[0] > self.now - WINDOW]

    def reason(self) -> str:
        recent, config = self.recent(), self.config
        enough = len(recent) >= config.minimum_throughput
        failures = sum(failed for _, failed, _ in recent)
        slow = sum(is_slow for _, _, is_slow in recent)
        if config.consecutive_failures and self.streak >= config.consecutive_failures:
            return "consecutive_failures"
        if config.failure_ratio and enough and failures and failures / len(recent) >= config.failure_ratio:
            return "failure_ratio"
        if config.slow_call and enough and slow and slow / len(recent) >= config.slow_call_ratio:
            return "slow_call_ratio"
        return ""

    def healthy(self) -> bool:
        return self.state == "closed" and self.now - self.since >= WINDOW

    def open(self, reason: str) -> None:
        self.row = 1 if self.healthy() else self.row + 1
        seconds = self.config.break_duration * 2 ** (self.row - 1) * (1 + 0.1 * RANDOM)
        self.enter("open", reason, self.now + min(seconds, self.config.max_break_duration))

    def force(self, state: str, until: float) -> None:
        if self.state == state:
            self.until = until
            return
        if self.healthy():
            self.row = 0
        self.enter(state, "forced", until)

    def release(self) -> None:
        if self.state in ("isolated", "forced_closed"):
            self.enter("half_open" if self.state == "isolated" else "closed", "released")


CONFIGS: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    consecutive_failures=st.sampled_from([None, 1, 3, 8]),
    failure_ratio=st.sampled_from([None, 0.3, 0.5, 1.0]),
    slow_call=st.sampled_from([None, SLOW]),
    slow_call_ratio=st.sampled_from([0.25, 1.0]),
    minimum_throughput=st.sampled_from([1, 4, 10]),
    success_threshold=st.sampled_from([1, 3]),
    break_duration=st.sampled_from([3.0, 10.0]),
    max_break_duration=st.sampled_from([10.0, 50.0]),
)


def configured(limits: dict[str, Any]) -> NamedBreaker:
    return NamedBreaker(name="b", sampling_window=float(WINDOW), **limits)


class BreakerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.attempts: list[Attempt] = []
        self.told: list[Transition] = []
        config = NamedBreaker(
            name="b",
            consecutive_failures=3,
            slow_call=SLOW,
            minimum_throughput=4,
            break_duration=10.0,
            max_break_duration=50.0,
        )
        self.model = Model(config, 1000.0)
        self.breaker = Breaker(config, 1000.0, lambda: RANDOM, self.told.append)

    # --- what happens ---

    @rule(seconds=st.sampled_from([1, 2, 5, 11, 29, 30, 31, 60]))
    def time_passes(self, seconds: int) -> None:
        self.model.now += seconds

    @rule(within=st.sampled_from([None, 3.0, 100.0]))
    def attempt_asks(self, within: float | None) -> None:
        model = self.model
        model.time_has_passed()
        deadline = None if within is None else model.now + within
        ticket = self.breaker.ticket or self.breaker.admit(model.now, deadline)

        assert bool(ticket) == model.admits()
        if not ticket:
            assert self.breaker.retry_after(model.now) > 0
            return
        is_probe = model.state == "half_open"
        lease_until = model.now + LEASE if deadline is None else deadline + 1.0
        attempt = Attempt(model.era, is_probe, ticket, lease_until)
        if is_probe:
            model.probe = attempt
        self.attempts.append(attempt)

    @rule(outcomes=st.text("fsSF", min_size=1, max_size=12))
    def attempts_end_at_once(self, outcomes: str) -> None:
        """f has failed, s succeeded; in capitals: slowly."""
        for outcome in outcomes:
            before = len(self.attempts)
            self.attempt_asks(None)
            if len(self.attempts) > before:
                self._end(self.attempts.pop(), outcome)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), outcome=st.sampled_from("fsSF"))
    def attempt_ends(self, data: st.DataObject, outcome: str) -> None:
        self._end(self._one(data), outcome)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def attempt_ends_as_neither(self, data: st.DataObject) -> None:
        attempt = self._one(data)
        self.model.time_has_passed()
        self.breaker.snapshot(self.model.now)
        self.breaker.give_back(attempt.ticket)
        if self.model.probe is attempt:
            self.model.probe = None

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def head_arrives(self, data: st.DataObject) -> None:
        attempt = data.draw(st.sampled_from(self.attempts))
        model = self.model
        model.time_has_passed()
        self.breaker.snapshot(model.now)
        self.breaker.answered(attempt.ticket, model.now, 0.0)
        if model.probe is attempt:
            attempt.answered = True
            attempt.lease_until = min(attempt.lease_until, model.now + LEASE)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def attempt_is_lost(self, data: st.DataObject) -> None:
        self._one(data)

    @rule(state=st.sampled_from(["isolated", "closed"]), seconds=st.sampled_from([1, 20, 200]))
    def somebody_forces(self, state: Any, seconds: int) -> None:
        model = self.model
        model.time_has_passed()
        self.breaker.force(state, model.now + seconds, model.now)
        model.force("isolated" if state == "isolated" else "forced_closed", model.now + seconds)

    @rule()
    def somebody_releases(self) -> None:
        self.model.time_has_passed()
        self.breaker.release(self.model.now)
        self.model.release()

    @rule(limits=CONFIGS)
    def file_changes(self, limits: dict[str, Any]) -> None:
        model, config = self.model, configured(limits)
        model.time_has_passed()
        self.breaker.snapshot(model.now)
        self.breaker.reconfigure(config, model.now)
        model.config = config
        if model.state == "open" and model.until is not None:
            model.until = min(model.until, model.now + config.max_break_duration)

    # --- what always holds ---

    @invariant()
    def both_agree(self) -> None:
        model = self.model
        snapshot = self.breaker.snapshot(model.now)
        model.time_has_passed()
        recent = model.recent()
        assert (snapshot.state, snapshot.since) == (model.state, model.since)
        assert (snapshot.opens_until or snapshot.forced_until) == model.until
        assert snapshot.calls == len(recent)
        assert snapshot.failures == sum(failed for _, failed, _ in recent)
        assert snapshot.slow_calls == sum(slow for _, _, slow in recent)
        assert snapshot.consecutive_failures == model.streak
        assert [(each.to, each.reason) for each in self.told] == model.history

    @invariant()
    def every_transition_is_counted_once(self) -> None:
        assert sum(self.breaker.transitions.values()) == len(self.told)
        assert all(state in STATES for state, _ in self.breaker.transitions)

    @invariant()
    def breaks_are_bounded(self) -> None:
        breaks = [each.until - each.at for each in self.told if each.to == "open" and each.until is not None]
        assert all(0 < seconds <= 50.0 for seconds in breaks)

    def teardown(self) -> None:
        """Whatever has been lost on the way: the breaker finds its way back by itself once the upstream works."""
        model = self.model
        model.now += 1000.0
        for _ in range(model.config.success_threshold):
            ticket = self.breaker.ticket or self.breaker.admit(model.now)
            assert ticket
            self.breaker.record(ticket, model.now, 0.0, failed=False)
        assert self.breaker.snapshot(model.now).state == "closed"

    def _one(self, data: st.DataObject) -> Attempt:
        return self.attempts.pop(data.draw(st.integers(0, len(self.attempts) - 1)))

    def _end(self, attempt: Attempt, outcome: str) -> None:
        model, failed, slow = self.model, outcome in "fF", outcome in "SF"
        model.time_has_passed()
        self.breaker.record(attempt.ticket, model.now, SLOW if slow else 0.0, failed=failed)
        model.end(attempt, failed, slow and model.config.slow_call is not None)


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
