"""What the edge takes over from a trusted peer's internal fields, whatever they hold."""

from typing import Any

import pytest

from proxy.config.model import RouteConfig
from proxy.config.policies import Criticality
from proxy.exchange import Exchange
from proxy.resilience.shedding import Shedder
from proxy.server.opening import Opener
from proxy.telemetry.instruments import ServerMetrics
from tests.support.exchange import make_exchange

STARTED = 100.0


def believed(*headers: tuple[str, str], total: float | None = 30.0, criticality: Criticality = "default") -> Exchange:
    """An exchange of a route of this criticality, after a trusted peer has said this about it."""
    opener = Opener(lambda count: b"\xab" * count, b"tidegate-1f", Shedder(lambda: 0.5), ServerMetrics())
    route = RouteConfig(name="test", match=("* /*",), upstream="api", criticality=criticality)
    exchange = make_exchange("GET", "/", headers, route=route, started=STARTED)
    exchange.criticality = criticality
    opener._believe(exchange, exchange.request.fields.raw, total)
    return exchange


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        *(("X-Request-ID", "abc-1", "request_id", "abc-1"), ("x-request-id", "a b", "request_id", "ab" * 16)),
        *(("X-Request-Attempt", "3", "received_attempt", 3), ("x-request-attempt", "1000", "received_attempt", 0)),
        ("X-Request-Criticality", "critical", "criticality", "critical"),
        ("X-REQUEST-CRITICALITY", "background", "criticality", "background"),
        ("X-Request-Criticality", "Critical", "criticality", "default"),
        *(("X-Request-Deadline-Ms", "2000", "deadline", 102.0), ("X-Request-Deadline-Ms", "90000", "deadline", 130.0)),
        *(("X-Request-Deadline-Ms", "-1", "deadline", 130.0), ("X-Request-Deadline-Ms", "0", "deadline", 100.0)),
        ("X-Request-Deadline-Ms", "90000", "caller_deadline", 190.0),
        ("X-Request-Deadline-Ms", "nan", "caller_deadline", None),
        *(("X-Request-Deadline-Ms", "1", "received_deadline", True), ("X-Other", "1", "received_deadline", False)),
    ],
)
def test_internal_field_is_taken_over_if_it_is_valid(name: str, value: str, attribute: str, expected: Any) -> None:
    assert getattr(believed((name, value)), attribute) == expected


def test_first_field_of_a_name_counts() -> None:
    exchange = believed(("x-request-criticality", "sheddable"), ("X-Request-Criticality", "critical"))

    assert exchange.criticality == "sheddable"


def test_route_decides_what_the_caller_leaves_open() -> None:
    assert believed(("X-Request-ID", "a"), criticality="sheddable").criticality == "sheddable"
    assert believed(("X-Request-Criticality", "default"), criticality="sheddable").criticality == "default"


def test_callers_deadline_holds_where_the_route_has_none() -> None:
    exchange = believed(("X-Request-Deadline-Ms", "500"), total=None)

    assert (exchange.deadline, exchange.caller_deadline) == (100.5, 100.5)
    assert believed(("X-Request-ID", "a"), total=None).deadline is None
