"""What the retry policy of one route remembers from exchange to exchange, and what it decides from that."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from proxy.resilience.backoff import full_jitter
from proxy.resilience.cool_down import CoolDown
from proxy.resilience.retry_budget import RetryBudget

if TYPE_CHECKING:
    from proxy.config.policies import RetryConfig

_ASKED_JITTER: Final = 0.1
"""Up to this share is added to a wait that the upstream asked for, or all who were told the same would come at once."""


class RetryState:
    """The route's budget and its cool-down. Times are monotonic seconds."""

    __slots__ = ("_config", "budget", "cool_down")

    def __init__(self, config: "RetryConfig", now: float) -> None:
        self._config = config
        self.budget = RetryBudget(config.budget, now)
        self.cool_down = CoolDown()

    def next_wait(
        self,
        config: "RetryConfig",
        attempt: int,
        asked: float,
        now: float,
        deadline: float | None,
        random: Callable[[], float],
    ) -> float | str:
        """Seconds from `now` until the attempt after number `attempt`, for which the budget has been charged.

        `asked` are the seconds that the upstream wants to be left alone. Where there is to be no further attempt: why,
        in a word. `random` is uniform in [0, 1). `config` is that of the exchange, which a reload does not change.
        """
        if attempt >= config.max_attempts:
            return "attempts_exhausted"
        wait = full_jitter(attempt, config.base_delay, config.max_delay, random)
        asked = max(asked, self.cool_down.remaining(now))
        if asked:
            wait = max(wait, asked + asked * _ASKED_JITTER * random())
        if deadline is not None and now + wait >= deadline:
            return "deadline"
        return wait if self.budget.withdraw(now) else "budget_exhausted"

    def reconfigure(self, config: "RetryConfig", now: float) -> str:
        """Go on under another configuration: all counts stay, and a cool-down ends within the new maximum."""
        old, self._config = self._config, config
        self.budget.share = config.budget
        self.cool_down.limit(now, config.max_retry_after)
        changes = [
            f"{name} {getattr(old, name):.6g} -> {getattr(config, name):.6g}"
            for name in ("max_attempts", "base_delay", "max_delay", "budget", "max_retry_after")
            if getattr(old, name) != getattr(config, name)
        ]
        return f"{', '.join(changes)}; counts kept" if changes else ""

    def __repr__(self) -> str:
        return f"<RetryState {self.budget!r} {self.cool_down!r}>"
