"""The budget against a naive one that remembers the time of every event."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.resilience.retry_budget import RESERVE, WINDOW, RetryBudget

SLOT = 0.25


class BudgetMachine(RuleBasedStateMachine):
    """Never more than an exact window would allow; never less than one that is a slot narrower on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.share = 0.1
        self.first_attempts: list[float] = []
        self.retries: list[float] = []
        self.budget = RetryBudget(self.share, self.now)

    @initialize(share=st.sampled_from([0.05, 0.1, 0.5, 1.0]), start=st.floats(0, 1e6))
    def begin(self, share: float, start: float) -> None:
        self.share, self.now = share, start
        self.budget = RetryBudget(share, start)

    @rule(seconds=st.one_of(st.floats(0, 0.3), st.floats(0, 12), st.just(SLOT), st.just(WINDOW)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 120))
    def first_attempts_are_made(self, count: int) -> None:
        for _ in range(count):
            self.budget.deposit(self.now)
            self.first_attempts.append(self.now)

    @rule(count=st.integers(1, 80))
    def retries_are_wanted(self, count: int) -> None:
        for _ in range(count):
            available = self.budget.available(self.now)
            allowed = self.budget.withdraw(self.now)
            assert allowed is (available > 0)
            if allowed:
                self.retries.append(self.now)
                assert self.count(self.retries, WINDOW) <= self.bound(self.count(self.first_attempts, WINDOW))
            else:
                assert self.count(self.retries, WINDOW + SLOT) + 1 > self.bound(
                    self.count(self.first_attempts, WINDOW - SLOT)
                )

    @rule(share=st.sampled_from([0.05, 0.1, 0.5, 1.0]))
    def share_changes(self, share: float) -> None:
        # What an older, larger share has allowed already is no fault of the new one: the reference forgets with it.
        self.share = self.budget.share = max(share, self.share)

    @invariant()
    def balance_is_within_the_bounds(self) -> None:
        available = self.budget.available(self.now)
        most = self.bound(self.count(self.first_attempts, WINDOW)) - self.count(self.retries, WINDOW)
        least = self.bound(self.count(self.first_attempts, WINDOW - SLOT)) - self.count(self.retries, WINDOW + SLOT)
        assert max(int(least), 0) <= available <= max(most, 0)

    def bound(self, first_attempts: int) -> float:
        return max(self.share * first_attempts, RESERVE) + 1e-6

    def count(self, times: list[float], seconds: float) -> int:
        return sum(self.now - time <= seconds for time in times)


TestRetryBudget = BudgetMachine.TestCase
TestRetryBudget.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
