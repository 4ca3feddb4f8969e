"""What one finished exchange changes in the counters of its route, and what the other instruments count."""

import pytest

from proxy.errors import (
    BadRequest,
    ClientDisconnected,
    ConnectionRefused,
    ConnectionTimeout,
    DeadlineExceeded,
    DnsTimeout,
    RequestTimeout,
    UpstreamTimeout,
)
from proxy.telemetry.events import Decision, EndpointEvent, ReloadEvent
from proxy.telemetry.instruments import (
    Histogram,
    RouteMetrics,
    ServerMetrics,
    UpstreamMetrics,
    error_labels,
    timeout_kind,
)
from proxy.telemetry.metrics import SECONDS_BUCKETS
from tests.support.exchange import PiecewiseBody, make_exchange


def finished(status: int = 200, error: Exception | None = None) -> RouteMetrics:
    metrics, exchange = RouteMetrics("search"), make_exchange()
    exchange.error = error
    metrics.in_flight += 1
    metrics.finished(exchange, status, 0.1)
    return metrics


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.001, 0), (0.0011, 1), (30.0, len(SECONDS_BUCKETS) - 1), (30.1, len(SECONDS_BUCKETS))],
)
def test_value_on_a_bound_falls_into_the_bucket_below_it(seconds: float, bucket: int) -> None:
    histogram = Histogram()

    histogram.observe(seconds)

    assert [index for index, count in enumerate(histogram.counts) if count] == [bucket]
    assert histogram.sum == seconds


@pytest.mark.parametrize(
    ("status", "label"),
    [
        (101, "1xx"),
        (200, "2xx"),
        (304, "3xx"),
        (404, "4xx"),
        (429, "429"),
        (499, "499"),
        (500, "5xx"),
        (503, "503"),
        (600, "5xx"),
        (999, "5xx"),
    ],
)
def test_status_is_folded_into_a_fixed_set(status: int, label: str) -> None:
    metrics = finished(status)

    assert {label: 1} == {label: count for label, count in metrics.statuses.items() if count}


def test_in_flight_returns_to_zero() -> None:
    assert finished().in_flight == 0


async def test_body_bytes_are_added_up() -> None:
    metrics, body = RouteMetrics("upload"), PiecewiseBody(b"12345")
    exchange = make_exchange("POST", body=body)
    await body.read()
    exchange.bytes_out = 7

    metrics.finished(exchange, 200, 0.1)
    metrics.finished(exchange, 200, 0.1)

    assert (metrics.request_bytes, metrics.response_bytes) == (10, 14)


def test_error_is_counted_by_source_and_type() -> None:
    metrics = finished(502, ConnectionRefused())

    assert metrics.errors == {("upstream", "connection_refused"): 1}
    assert not any(metrics.timeouts.values())


def test_bug_is_counted_as_our_own_error() -> None:
    assert error_labels(KeyError("secret")) == ("proxy", "proxy_internal_error")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UpstreamTimeout("first_byte"), "first_byte"),
        (DeadlineExceeded(), "total"),
        (ConnectionTimeout(), "connect"),
        (DnsTimeout(), "connect"),
        (RequestTimeout(), "client"),
        (ClientDisconnected(), None),
        (BadRequest(), None),
        (None, None),
    ],
)
def test_timeout_kind_names_the_limit_that_passed(error: Exception | None, kind: str | None) -> None:
    assert timeout_kind(error) == kind


def test_timeout_is_counted_by_kind() -> None:
    metrics = finished(504, UpstreamTimeout("idle"))

    assert metrics.timeouts["idle"] == 1


def test_every_decision_is_counted() -> None:
    metrics, exchange = RouteMetrics("search"), make_exchange()
    exchange.decide(Decision("bulkhead", "refused", "shadow"))
    exchange.decide(Decision("timeout", "timeout"))

    metrics.finished(exchange, 504, 0.1)
    metrics.finished(exchange, 504, 0.1)

    assert metrics.decisions == {("bulkhead", "shadow", "refused"): 2, ("timeout", "enforce", "timeout"): 2}


def test_statistics_cover_the_last_1024_requests_and_totals_all() -> None:
    metrics = RouteMetrics("search")
    for number in range(1030):
        metrics.finished(make_exchange(), 503 if number < 10 else 200, float(number))

    statistics = metrics.statistics()

    assert (statistics.total, statistics.failed, statistics.count) == (1030, 10, 1024)
    assert (statistics.min, statistics.max) == (6.0, 1029.0)


def test_upstream_counts_attempts_connections_and_ejections() -> None:
    metrics = UpstreamMetrics("api")

    metrics.attempt("2xx", 0.2)
    metrics.attempt("connection_refused", 0.1)
    metrics.attempt("2xx", 0.2)
    metrics.connection("opened")
    for state in ("ejected", "restored", "ejected", "unhealthy"):
        metrics.endpoint(EndpointEvent("api", "http://127.0.0.1:3000", state, "", 0.0))

    assert metrics.attempts == {"2xx": 2, "connection_refused": 1}
    assert metrics.duration.sum == pytest.approx(0.5)
    assert metrics.connections == {"opened": 1, "reused": 0, "closed": 0, "failed": 0, "surplus": 0}
    assert metrics.ejections == {"http://127.0.0.1:3000": 2}


def test_change_of_an_endpoint_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    UpstreamMetrics("api").endpoint(EndpointEvent("api", "http://127.0.0.1:3000", "unhealthy", "timeout", 0.0))

    (record,) = caplog.records
    assert record.getMessage() == "endpoint is unhealthy"
    assert vars(record)["endpoint"] == "http://127.0.0.1:3000"


def test_refused_reload_keeps_the_digest_in_force() -> None:
    metrics = ServerMetrics()

    metrics.loaded("aaa", 1.0)
    metrics.reloaded(ReloadEvent(True, "bbb", "", 2.0))
    metrics.reloaded(ReloadEvent(False, "ccc", "5 problems", 3.0))

    assert (metrics.config_digest, metrics.config_loaded_at) == ("bbb", 2.0)
    assert metrics.reloads == {"success": 1, "failure": 1}
