"""What an endpoint looks like at one moment: for metrics, admin page and readiness."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EndpointSnapshot:
    """One endpoint of an upstream."""

    endpoint: str
    state: str
    """`healthy`, `unhealthy` (active checks) or `ejected` (passive)."""
    idle: int
    """Connections that wait for work."""
    busy: int
    """Connections that serve an exchange."""
    connecting: int
    """Connections being opened."""
    waiting: int
    """Exchanges that wait for a connection."""
    ejected_for: float
    """Seconds until the end of the ejection; 0 without one."""
    last_check: str
    """Result of the last active check: `ok`, or what was wrong; empty without one."""
