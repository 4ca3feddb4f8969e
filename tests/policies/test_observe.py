"""Every exchange is timed, counted and logged exactly once, whatever becomes of it."""

import asyncio
import logging
from typing import Any

import pytest

from proxy.errors import BadRequest, ClientDisconnected, ConnectionRefused, DeadlineExceeded, ResponseIncomplete
from proxy.exchange import Exchange, Response
from proxy.policies.observe import Observe
from proxy.telemetry.instruments import RouteMetrics
from tests.support.clock import ManualClock
from tests.support.exchange import Outcome, ScriptedHandler, make_exchange


class Log:
    """An access log that keeps what it is told."""

    dropped = 0

    def __init__(self) -> None:
        self.records: list[tuple[Exchange, int, float]] = []

    def record(self, exchange: Exchange, status: int, seconds: float) -> None:
        self.records.append((exchange, status, seconds))

    def reopen(self) -> None: ...

    def close(self) -> None: ...


class Observed:
    """The layer around a scripted handler, and everything it reports to."""

    def __init__(self, *outcomes: Outcome, slow: float | None = 5.0) -> None:
        self.clock, self.metrics, self.log = ManualClock(), RouteMetrics("search"), Log()
        inner = ScriptedHandler(*outcomes)
        self.layer = Observe(inner, self.metrics, self.log, slow=slow, clock=self.clock)

    def exchange(self) -> Exchange:
        return make_exchange(started=self.clock())

    @property
    def reports(self) -> list[tuple[int, float]]:
        return [(status, seconds) for _, status, seconds in self.log.records]

    @property
    def counted(self) -> dict[str, int]:
        return {status: count for status, count in self.metrics.statuses.items() if count}


async def test_exchange_ends_when_its_response_is_closed() -> None:
    observed = Observed(Response(200, []))

    response = await observed.layer.handle(observed.exchange())
    observed.clock.advance(2.5)
    in_flight, reports = observed.metrics.in_flight, observed.reports
    response.close()
    response.close()

    assert (in_flight, reports) == (1, [])
    assert observed.metrics.in_flight == 0
    assert observed.reports == [(200, 2.5)]
    assert observed.counted == {"2xx": 1}
    assert list(observed.metrics.recent) == [2.5]


async def test_counting_precedes_the_release_of_what_the_response_holds() -> None:
    response = Response(200, [])
    observed = Observed(response)
    in_flight: list[int] = []
    response.on_close(lambda: in_flight.append(observed.metrics.in_flight))

    (await observed.layer.handle(observed.exchange())).close()

    assert in_flight == [0]


async def test_cancelled_exchange_is_a_client_that_left() -> None:
    waiting = asyncio.Event()

    async def wait(_: Exchange) -> Response:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    observed = Observed(wait)
    exchange = observed.exchange()
    task = asyncio.create_task(observed.layer.handle(exchange))
    await waiting.wait()

    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert isinstance(exchange.error, ClientDisconnected)
    assert observed.metrics.in_flight == 0
    assert observed.counted == {"499": 1}
    assert observed.reports == [(499, 0.0)]


async def test_cancellation_whose_reason_the_edge_has_named_keeps_it() -> None:
    observed = Observed(cancelled)
    exchange = observed.exchange()
    exchange.error = DeadlineExceeded()

    with pytest.raises(asyncio.CancelledError):
        await observed.layer.handle(exchange)

    assert observed.counted == {"504": 1}


async def cancelled(_: Exchange) -> Response:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("error", "status", "labels"),
    [
        (BadRequest(), "4xx", ("client", "http_request_error")),
        (ConnectionRefused(), "502", ("upstream", "connection_refused")),
        (KeyError("bug"), "5xx", ("proxy", "proxy_internal_error")),
    ],
)
async def test_error_without_a_response_is_counted_and_passed_on(
    error: Exception, status: str, labels: tuple[str, str]
) -> None:
    observed = Observed(error)

    with pytest.raises(type(error)) as raised:
        await observed.layer.handle(observed.exchange())

    assert raised.value is error
    assert observed.metrics.in_flight == 0
    assert observed.counted == {status: 1}
    assert observed.metrics.errors == {labels: 1}


async def test_client_that_leaves_during_the_body_is_499() -> None:
    observed = Observed(Response(200, []))
    exchange = observed.exchange()
    response = await observed.layer.handle(exchange)

    exchange.error = ClientDisconnected()
    response.close()

    assert observed.reports == [(499, 0.0)]


async def test_upstream_that_breaks_off_keeps_the_status_that_was_sent() -> None:
    observed = Observed(Response(200, []))
    exchange = observed.exchange()
    response = await observed.layer.handle(exchange)

    exchange.error = ResponseIncomplete()
    response.close()

    assert observed.counted == {"2xx": 1}
    assert observed.metrics.errors == {("upstream", "http_response_incomplete"): 1}


async def take(observed: Observed, seconds: float) -> None:
    response = await observed.layer.handle(observed.exchange())
    observed.clock.advance(seconds)
    response.close()


async def test_slow_request_is_warned_of_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    observed = Observed(Response(200, []), Response(200, []))

    await take(observed, 5.0)
    await take(observed, 5.5)

    (record,) = caplog.records
    fields: dict[str, Any] = vars(record)
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "slow request")
    assert (fields["route"], fields["duration_ms"], fields["status"]) == ("search", 5500, 200)
    assert observed.metrics.slow == 1


async def test_slow_failure_without_a_response_is_warned_of_too(caplog: pytest.LogCaptureFixture) -> None:
    observed = Observed(ConnectionRefused())
    exchange = observed.exchange()
    observed.clock.advance(6.0)

    with pytest.raises(ConnectionRefused):
        await observed.layer.handle(exchange)

    assert [record.getMessage() for record in caplog.records] == ["slow request"]


class NoTunnel:
    """A tunnel that nobody uses."""

    async def read(self) -> bytes:
        return b""

    async def write(self, data: bytes) -> None: ...

    def write_eof(self) -> None: ...


@pytest.mark.parametrize(
    ("response", "slow"),
    [
        (Response(101, [], tunnel=NoTunnel()), 5.0),
        (Response(200, [(b"content-TYPE", b"Text/Event-Stream; charset=utf-8")]), 5.0),
        (Response(200, [(b"Content-Type", b"text/html")]), None),
    ],
    ids=["tunnel", "event stream", "no limit"],
)
async def test_what_is_meant_to_last_is_never_slow(
    response: Response, slow: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    observed = Observed(response, slow=slow)

    await take(observed, 60.0)

    assert caplog.records == []
    assert observed.metrics.slow == 0
