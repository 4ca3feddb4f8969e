"""The circuit breaker: when an upstream is left alone, for how long, and how it is tried again.

Whoever may go on gets a ticket, and reports with it what became of the attempt. A ticket counts only in the state in
which it was given: each change of state makes all older ones worthless, and so does the end of a probe's lease.
All times are monotonic seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, Literal

from proxy.resilience.window import Window

if TYPE_CHECKING:
    from proxy.config.policies import NamedBreaker

State = Literal["closed", "open", "half_open", "isolated", "forced_closed"]
"""`isolated` is forced open by hand, `forced_closed` lets everything pass whatever happens."""
Reason = Literal[
    "consecutive_failures",
    "failure_ratio",
    "slow_call_ratio",
    "break_over",
    "probe_failed",
    "probe_slow",
    "probes_succeeded",
    "forced",
    "force_expired",
    "released",
]
"""Why the state changed; a metric label."""

STATES: Final[tuple[State, ...]] = ("closed", "open", "half_open", "isolated", "forced_closed")
JITTER: Final = 0.1
"""Share by which a break may be longer than computed, so that not all instances come back together."""
LEASE: Final = 30.0
"""Seconds that a probe may take where no deadline says it."""
LEASE_GRACE: Final = 1.0
"""Seconds that a probe's lease outlives its deadline."""
PROBE_PAUSE: Final = 1.0
"""Seconds after which to ask again while a probe is under way: its outcome may come at any time."""
_MAX_DOUBLINGS: Final = 64
_NOBODY: Final = -1
_FORCED: Final = frozenset({"isolated", "forced_closed"})
_LIMITS: Final = (
    "consecutive_failures",
    "failure_ratio",
    "slow_call",
    "slow_call_ratio",
    "sampling_window",
    "minimum_throughput",
    "success_threshold",
    "break_duration",
    "max_break_duration",
)


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state."""

    breaker: str
    before: State
    to: State
    reason: Reason
    at: float
    until: float | None
    """When the new state ends by itself; None: it depends on the upstream."""


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """A breaker as it is now. What follows `forced_until` is about the sampling window, or what is left of it."""

    state: State
    since: float
    trip_reason: Reason | None
    """Why it last opened; None once it has closed."""
    opens_until: float | None
    """When the first probe may go; None unless open."""
    forced_until: float | None
    """None unless the state was set by hand."""
    calls: int
    failures: int
    slow_calls: int
    failure_ratio: float | None
    """None without calls."""
    slow_call_ratio: float | None
    consecutive_failures: int


class Breaker:
    """One breaker. `random` is uniform in [0, 1); `report` is told of each change of state, after it.

    It opens when any of the conditions of BreakerConfig holds after an attempt. The break is break_duration * 2^k with
    up to a tenth on top, at most max_break_duration; k counts the openings in a row before this one. The row ends when
    the breaker has been closed for a whole `sampling_window`. After the break one probe goes at a time: as many
    successes as `success_threshold` says close it, a failure or a slow call opens it again.

    A probe holds a lease until its deadline has passed, or for the larger of 30 s and twice `slow_call` where it has
    none. A probe that is lost meanwhile makes room for the next one.
    """

    __slots__ = (
        "_answered",
        "_config",
        "_consecutive",
        "_counting",
        "_lease_until",
        "_openings",
        "_random",
        "_report",
        "_serial",
        "_since",
        "_slow_call",
        "_state",
        "_successes",
        "_trip_reason",
        "_until",
        "_window",
        "ticket",
        "transitions",
    )

    def __init__(
        self,
        config: "NamedBreaker",
        now: float,
        random: Callable[[], float],
        report: Callable[[Transition], None],
    ) -> None:
        self._config = config
        self._slow_call = _slow_from(config)
        self._random = random
        self._report = report
        self._window = Window(config.sampling_window, now)
        self._state: State = "closed"
        self._since = now
        self._until = inf
        self._trip_reason: Reason | None = None
        self._consecutive = 0
        self._openings = 0
        self._serial = self._counting = 1
        self._successes = 0
        self._lease_until = 0.0
        self._answered = False
        self.ticket = 1
        """What everybody gets while the breaker is closed, without having to ask; 0: `admit` decides."""
        self.transitions: dict[tuple[State, Reason], int] = {}
        """How often each state was entered, and why."""

    # --- attempts ---

    def admit(self, now: float, deadline: float | None = None) -> int:
        """The ticket of an attempt that must have ended by `deadline`; 0: not now."""
        self._pass_time(now)
        if self._state == "closed" or self._state == "forced_closed":
            return self._counting
        if self._state != "half_open" or self._counting != _NOBODY:
            return 0
        return self._lend(now, deadline)

    def counts(self, ticket: int) -> bool:
        """Whether an attempt with this ticket is still one that may be made."""
        return ticket == self._counting

    def retry_after(self, now: float) -> float:
        """Seconds until it is worth asking again, more than 0: for those who were not admitted at `now`."""
        return PROBE_PAUSE if self._state == "half_open" else self._until - now

    def record(self, ticket: int, now: float, seconds: float, *, failed: bool) -> None:
        """The attempt has ended as failure or success; its response head took `seconds`."""
        if self._state != "closed":
            self._pass_time(now)
        if ticket != self._counting:
            return
        slow = seconds >= self._slow_call
        if self._state == "half_open":
            self._judge(now, failed=failed, slow=slow)
            return
        window = self._window
        window.record(now, failed=failed, slow=slow)
        self._consecutive = self._consecutive + 1 if failed else 0
        if (window.failures or window.slow) and self._state == "closed":
            reason = self._reason_to_open()
            if reason is not None:
                self._open(now, reason)

    def answered(self, ticket: int, now: float, seconds: float) -> None:
        """The head of a response that is a success so far is there, after `seconds`; its body may take long.

        For a probe that is enough when its lease ends before the body does: a download must not keep everybody out.
        """
        if ticket != self._counting or self._state != "half_open":
            return
        if seconds >= self._slow_call:
            self._judge(now, failed=False, slow=True)
            return
        self._answered = True
        self._lease_until = min(self._lease_until, now + LEASE)

    def give_back(self, ticket: int) -> None:
        """The attempt has ended, and says nothing about the upstream."""
        if ticket == self._counting and self._state == "half_open":
            self._counting = _NOBODY

    # --- by hand ---

    def force(self, state: Literal["isolated", "closed"], until: float, now: float) -> None:
        """Let nothing (`isolated`) or everything (`closed`) pass until that time. Again: the new time holds."""
        self._pass_time(now)
        target: State = "isolated" if state == "isolated" else "forced_closed"
        if self._state == target:
            self._until = until
            return
        self._end_row(now)
        if target == "isolated":
            self._trip_reason = "forced"
        self._enter(target, now, "forced", until)

    def release(self, now: float) -> None:
        """End what `force` began. What was isolated has to show by probes that it works."""
        self._pass_time(now)
        if self._state in _FORCED:
            self._unforce(now, "released")

    # --- around it ---

    def reconfigure(self, config: "NamedBreaker", now: float) -> str:
        """Go on under other limits. The state stays; the window starts again if its length has changed."""
        changed = [name for name in _LIMITS if getattr(config, name) != getattr(self._config, name)]
        self._config = config
        self._slow_call = _slow_from(config)
        if not changed:
            return ""
        if self._state == "open":
            self._until = min(self._until, now + config.max_break_duration)
        restarted = config.sampling_window != self._window.length
        if restarted:
            self._window = Window(config.sampling_window, now)
        kept = f"{', '.join(changed)} changed; state {self._state} kept"
        return f"{kept}, window restarted" if restarted else kept

    def snapshot(self, now: float) -> BreakerSnapshot:
        """Everything there is to see. What time alone changes has changed by then."""
        self._pass_time(now)
        window = self._window
        window.advance(now)
        calls = window.calls
        return BreakerSnapshot(
            state=self._state,
            since=self._since,
            trip_reason=self._trip_reason,
            opens_until=self._until if self._state == "open" else None,
            forced_until=self._until if self._state in _FORCED else None,
            calls=calls,
            failures=window.failures,
            slow_calls=window.slow,
            failure_ratio=window.failures / calls if calls else None,
            slow_call_ratio=window.slow / calls if calls else None,
            consecutive_failures=self._consecutive,
        )

    # --- inside ---

    def _reason_to_open(self) -> Reason | None:
        config, window = self._config, self._window
        if config.consecutive_failures is not None and self._consecutive >= config.consecutive_failures:
            return "consecutive_failures"
        calls = window.calls
        if calls < config.minimum_throughput:
            return None
        # The quotient, not the product: 7 / 100 is 0.07 exactly as it is written, 0.07 * 100 is more than 7.
        if config.failure_ratio is not None and window.failures / calls >= config.failure_ratio:
            return "failure_ratio"
        if config.slow_call is not None and window.slow / calls >= config.slow_call_ratio:
            return "slow_call_ratio"
        return None

    def _lend(self, now: float, deadline: float | None) -> int:
        """Give the one lease there is."""
        self._serial += 1
        self._counting = self._serial
        self._answered = False
        if deadline is None:
            self._lease_until = now + max(LEASE, 2 * (self._config.slow_call or 0.0))
        else:
            self._lease_until = deadline + LEASE_GRACE
        return self._serial

    def _judge(self, now: float, *, failed: bool, slow: bool) -> None:
        """The probe under way has ended."""
        if failed or slow:
            self._open(now, "probe_failed" if failed else "probe_slow")
        else:
            self._succeed(now)

    def _succeed(self, now: float) -> None:
        """A probe has succeeded."""
        self._counting = _NOBODY
        self._successes += 1
        if self._successes >= self._config.success_threshold:
            self._trip_reason = None
            self._enter("closed", now, "probes_succeeded")

    def _open(self, now: float, reason: Reason) -> None:
        self._end_row(now)
        config = self._config
        seconds = config.break_duration * 2.0 ** min(self._openings, _MAX_DOUBLINGS) * (1 + JITTER * self._random())
        self._openings += 1
        self._trip_reason = reason
        self._enter("open", now, reason, now + min(seconds, config.max_break_duration))

    def _end_row(self, now: float) -> None:
        """Openings are no longer in a row after a whole window in which the breaker has stayed closed."""
        if self._state == "closed" and now - self._since >= self._window.length:
            self._openings = 0

    def _pass_time(self, now: float) -> None:
        """Change what time alone changes."""
        if self._state == "half_open":
            if self._counting != _NOBODY and now >= self._lease_until:
                self._end_lease(now)
        elif now >= self._until:
            if self._state == "open":
                self._enter("half_open", now, "break_over")
            else:
                self._unforce(now, "force_expired")

    def _end_lease(self, now: float) -> None:
        if self._answered:
            self._succeed(now)
        else:
            self._counting = _NOBODY

    def _unforce(self, now: float, reason: Reason) -> None:
        if self._state == "isolated":
            self._enter("half_open", now, reason)
        else:
            self._trip_reason = None
            self._enter("closed", now, reason)

    def _enter(self, state: State, now: float, reason: Reason, until: float = inf) -> None:
        before, self._state = self._state, state
        self._since = now
        self._until = until
        self._serial += 1
        self._successes = 0
        passes = state == "closed" or state == "forced_closed"
        if passes:
            self._window.clear(now)
            self._consecutive = 0
        self._counting = self._serial if passes else _NOBODY
        self.ticket = self._serial if state == "closed" else 0
        self.transitions[state, reason] = self.transitions.get((state, reason), 0) + 1
        end = None if until == inf else until
        self._report(Transition(self._config.name, before, state, reason, now, end))

    def __repr__(self) -> str:
        return f"<Breaker {self._config.name} {self._state} {self._window!r} consecutive={self._consecutive}>"


def _slow_from(config: "NamedBreaker") -> float:
    return inf if config.slow_call is None else config.slow_call
