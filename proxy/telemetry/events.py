"""Frozen records of what happened; metrics, access log and admin page are their consumers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """What one policy decided about one exchange."""

    policy: str
    decision: str
    """A short fixed word of that policy, such as `allowed`, `refused` or `timeout`: it becomes a metric label."""
    mode: str = "enforce"
    detail: str = ""
    """For the log only; never client input."""


@dataclass(frozen=True, slots=True)
class EndpointEvent:
    """An upstream endpoint came into or went out of service."""

    upstream: str
    endpoint: str
    state: str
    """`healthy`, `unhealthy` (active checks) or `ejected`, `restored` (passive)."""
    reason: str
    at: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """A breaker has changed its state."""

    breaker: str
    mode: str
    before: str
    state: str
    """The new one: `closed`, `open`, `half_open`, `isolated` or `forced_closed`."""
    reason: str
    """A fixed word, such as `failure_ratio` or `break_over`."""
    seconds: float | None
    """After which the state ends by itself; None: when that happens depends on the upstream."""
    at: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class ReloadEvent:
    """The configuration was reloaded, or was not."""

    ok: bool
    digest: str
    reason: str
    at: float
    """Unix time."""
    changes: tuple[str, ...] = ()
    """What became of the state of the policies, a line each."""
