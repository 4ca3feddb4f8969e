"""What the policies remember, as metrics: gauges of their state, and the counts that they keep themselves."""

from collections.abc import Iterator
from typing import Any, Protocol

from proxy.resilience.breaker import STATES
from proxy.telemetry import metrics as declared
from proxy.telemetry.metrics import Family

Rows = list[tuple[tuple[str, ...], float]]


class States(Protocol):
    """Where the state of all policies is."""

    def of(self, kind: str) -> Iterator[tuple[str, str, Any]]:
        """Name, mode and state of everything of one kind that is in force."""
        ...


class NoStates:
    """Before there is a configuration."""

    def of(self, kind: str) -> Iterator[tuple[str, str, Any]]:
        """Nothing."""
        return iter(())


def state_rows(states: States, now: float) -> Iterator[tuple[Family, Rows]]:
    """Every family about state, with its present values; `now` is monotonic seconds."""
    yield from _breakers(states, now)
    bulkheads = list(states.of("bulkhead"))
    yield declared.BULKHEAD_LIMIT, [((name, mode), permits.limit) for name, mode, permits in bulkheads]
    yield declared.BULKHEAD_IN_USE, [((name, mode), permits.in_use) for name, mode, permits in bulkheads]
    yield declared.BULKHEAD_QUEUED, [((name, mode), permits.queued) for name, mode, permits in bulkheads]
    yield declared.RATE_LIMIT_CLIENTS, _clients(states)
    retries = [(name, state) for name, mode, state in states.of("retry") if mode == "enforce"]
    yield declared.RETRY_BUDGET, [((name,), state.budget.available(now)) for name, state in retries]
    yield declared.RETRY_COOL_DOWN, [((name,), round(state.cool_down.remaining(now), 3)) for name, state in retries]


def _clients(states: States) -> Rows:
    """By route: limits of several modes have several states, named ROUTE, ROUTE/2 and so on."""
    clients: dict[tuple[str, ...], float] = {}
    for name, mode, state in states.of("rate_limit"):
        key = (name.partition("/")[0], mode)
        clients[key] = max(clients.get(key, 0), state.clients)
    return list(clients.items())


def _breakers(states: States, now: float) -> Iterator[tuple[Family, Rows]]:
    present: Rows = []
    transitions: Rows = []
    for name, mode, breaker in states.of("breaker"):
        state = breaker.snapshot(now).state
        present += [((name, mode, each), int(each == state)) for each in STATES]
        transitions += [((name, mode, to, reason), n) for (to, reason), n in breaker.transitions.items()]
    yield declared.BREAKER_STATE, present
    yield declared.BREAKER_TRANSITIONS, transitions
