"""What the admin and health listeners show: the composition root implements it, they only ask."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from proxy.admin.breakers import BreakerView
from proxy.admin.cache_view import CacheView
from proxy.telemetry.events import ReloadEvent
from proxy.telemetry.statistics import RouteStatistics


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the process wants traffic."""

    ok: bool
    reasons: tuple[str, ...] = ()
    """Why not."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else /readyz reports: health of the upstreams, draining, digest of the configuration."""


@dataclass(frozen=True, slots=True)
class RouteView:
    """One route as /routes shows it. Durations are seconds."""

    name: str
    match: tuple[str, ...]
    upstream: str
    timeouts: Mapping[str, float | None]
    policies: tuple[str, ...]
    """A word or two each; which are in shadow, and for what share of the clients they hold."""
    in_flight: int
    statistics: RouteStatistics


class AdminView(BreakerView, CacheView, Protocol):
    """A look at the running process, and the few things that can be done to it."""

    def ready(self) -> Readiness:
        """Whether it wants traffic now."""
        ...

    def config(self) -> dict[str, Any]:
        """The effective configuration, secrets masked."""
        ...

    async def routes(self) -> list[RouteView]:
        """The routes in force, in matching order."""
        ...

    async def metrics(self) -> tuple[bytes, str]:
        """All metrics, and their content type."""
        ...

    async def reload(self) -> ReloadEvent:
        """Load the configuration file again; what was in force stays when it is refused."""
        ...
