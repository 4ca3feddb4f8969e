"""`tidegate routes`: one line for each match, in the order in which they are tried."""

from collections.abc import Iterator

from proxy.config.effective import extent_of, policies_of
from proxy.config.model import Config, RouteConfig
from proxy.config.policies import Policy, TimeoutConfig
from proxy.config.quantities import format_duration
from proxy.routing import by_specificity
from proxy.text_table import aligned

_HEADING = ("MATCH", "ROUTE", "UPSTREAM", "TIMEOUTS", "POLICIES", "REWRITE")


def route_table(config: Config) -> Iterator[str]:
    """The lines of the table, heading first."""
    routes = {match: route for route in config.routes for match in route.match}
    rows = [_row(match, routes[match]) for match in by_specificity(list(routes))]
    return aligned([_HEADING, *rows])


def _row(match: str, route: RouteConfig) -> tuple[str, ...]:
    return (
        match,
        route.name,
        route.upstream,
        _timeouts(route.timeout),
        ", ".join(policies_of(route)) or "-",
        route.rewrite or "-",
    )


def _timeouts(timeout: TimeoutConfig) -> str:
    limits = [
        f"{key} {format_duration(seconds)}"
        for key in TimeoutConfig.model_fields
        if key not in Policy.model_fields and (seconds := getattr(timeout, key)) is not None
    ]
    return (", ".join(limits) or "none") + extent_of(timeout)
