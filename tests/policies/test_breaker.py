"""The breaker as a layer: what it refuses, how it judges an attempt, and that no probe's lease gets lost."""

import asyncio
import contextlib
from random import Random
from typing import Any

import pytest

from proxy.config.model import RouteConfig
from proxy.config.policies import NamedBreaker, TimeoutConfig
from proxy.errors import (
    BreakerOpen,
    BulkheadFull,
    ClientDisconnected,
    ConnectionLimitReached,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    DeadlineExceeded,
    DnsError,
    DnsTimeout,
    InternalError,
    ProxyError,
    RequestTimeout,
    ResponseIncomplete,
    TlsError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from proxy.exchange import Exchange, Response
from proxy.policies.breaker import CircuitBreaker
from proxy.resilience.breaker import Breaker, BreakerSnapshot
from tests.support.clock import ManualClock
from tests.support.exchange import PiecewiseBody, ScriptedHandler, make_exchange

pytestmark = pytest.mark.both_loops


class Layer:
    """A breaker around an attempt that the test describes; it opens with the first failure unless told otherwise."""

    def __init__(self, *, mode: Any = "enforce", **limits: Any) -> None:
        self.clock = ManualClock()
        defaults: dict[str, Any] = {"name": "ml", "consecutive_failures": 1, "failure_ratio": None}
        self.breaker = Breaker(NamedBreaker(**defaults | limits), self.clock.now, lambda: 0.0, lambda _: None)
        self.mode = mode

    def around(self, *outcomes: Any) -> CircuitBreaker:
        return CircuitBreaker(ScriptedHandler(*outcomes), self.breaker, mode=self.mode, clock=self.clock)

    def attempting(
        self, outcome: Response | BaseException, *, seconds: float = 0.0, limit: float | None = None
    ) -> CircuitBreaker:
        """An attempt that starts with its permit, lasts so long and ends so; `limit`: seconds until its deadline."""

        async def attempt(exchange: Exchange) -> Response:
            exchange.attempt_started = self.clock.now
            exchange.attempt_deadline = None if limit is None else self.clock.now + limit
            self.clock.advance(seconds)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        return self.around(attempt)

    async def run(self, outcome: Response | BaseException, exchange: Exchange | None = None, **how: Any) -> None:
        """Make an attempt, close what it answers, and swallow what it raises."""
        try:
            response = await self.attempting(outcome, **how).handle(exchange or make_exchange())
        except (ProxyError, asyncio.CancelledError, ValueError):
            return
        response.close()

    def half_open(self) -> None:
        self.breaker.force("isolated", self.clock.now + 1, self.clock.now)
        self.clock.advance(1)

    @property
    def now(self) -> BreakerSnapshot:
        return self.breaker.snapshot(self.clock.now)

    @property
    def state(self) -> str:
        return self.now.state

    @property
    def lease_is_free(self) -> bool:
        ticket = self.breaker.admit(self.clock.now)
        self.breaker.give_back(ticket)
        return ticket != 0


class Broken:
    """A body that ends with an error after one piece."""

    def __init__(self, error: Exception) -> None:
        self._outcomes: list[bytes | Exception] = [b"piece", error]

    async def read(self) -> bytes:
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def limited(total: float | None = 10.0, attempt: float | None = None) -> Exchange:
    timeout = TimeoutConfig(total=total, attempt=attempt)
    return make_exchange(route=RouteConfig(name="test", match=("* /*",), upstream="api", timeout=timeout))


async def drained(response: Response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    data = b""
    while piece := await response.body.read():
        data += piece
    return data


# --- refusing -------------------------------------------------------------------------------------------------------


async def test_open_breaker_refuses_without_calling_what_is_below() -> None:
    layer, inner = Layer(), ScriptedHandler()
    await layer.run(ConnectionRefused())
    exchange = make_exchange()
    layer.clock.advance(20.0)

    with pytest.raises(BreakerOpen) as refused:
        await CircuitBreaker(inner, layer.breaker, mode="enforce", clock=layer.clock).handle(exchange)

    assert inner.exchanges == []
    assert refused.value.retry_after == pytest.approx(40.0)
    assert not refused.value.retryable
    assert not refused.value.request_written
    assert [(each.policy, each.decision, each.mode) for each in exchange.decisions or ()] == [
        ("breaker", "open", "enforce")
    ]


async def test_probe_under_way_keeps_others_out_for_a_moment() -> None:
    layer, gate = Layer(), asyncio.Event()
    layer.half_open()

    async def wait(exchange: Exchange) -> Response:
        await gate.wait()
        return Response(200, [])

    circuit = layer.around(wait)
    probe = asyncio.ensure_future(circuit.handle(make_exchange()))
    await asyncio.sleep(0)

    with pytest.raises(BreakerOpen) as refused:
        await circuit.handle(make_exchange())
    gate.set()
    await probe

    assert refused.value.retry_after == 1.0
    assert layer.lease_is_free


async def test_what_passes_is_not_touched_and_nothing_is_reported() -> None:
    response, exchange = Response(200, [(b"A", b"1")], b"body"), make_exchange()
    exchange.attempt_started = 5.0

    assert await Layer().around(response).handle(exchange) is response

    assert exchange.decisions is None
    assert exchange.attempt_started == 0.0, "the attempt before this one is no longer of interest"


# --- what an attempt counts for -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "state"),
    [(200, "closed"), (304, "closed"), (404, "closed"), (429, "closed"), (499, "closed"), (500, "open"), (503, "open")],
)
@pytest.mark.parametrize("body", [b"whole", "streamed"])
async def test_status_from_500_up_is_a_failure(status: int, state: str, body: Any) -> None:
    layer = Layer()

    await layer.run(Response(status, [], body if isinstance(body, bytes) else PiecewiseBody(b"x")))

    assert layer.state == state


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefused(),
        ConnectionTerminated(),
        DnsError(),
        TlsError(),
        UpstreamProtocolError(),
        ResponseIncomplete(),
        UpstreamTimeout("first_byte"),
        UpstreamTimeout("idle"),
        ConnectionTimeout(),
        DnsTimeout(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_errors_of_the_upstream_are_failures(error: ProxyError) -> None:
    layer = Layer()

    await layer.run(error)

    assert layer.state == "open"


@pytest.mark.parametrize(
    "error",
    [
        BulkheadFull(),
        ConnectionLimitReached(),
        DeadlineExceeded(),
        InternalError(),
        RequestTimeout(),
        ClientDisconnected(),
        asyncio.CancelledError(),
        ValueError("a bug of ours"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_our_own_refusals_the_client_and_cancellation_count_for_nothing(error: BaseException) -> None:
    layer = Layer(consecutive_failures=2)
    await layer.run(ConnectionRefused())

    await layer.run(error)

    assert (layer.now.calls, layer.now.consecutive_failures) == (1, 1)
    layer.half_open()
    await layer.run(error)
    assert layer.state == "half_open"
    assert layer.lease_is_free


async def test_attempt_that_never_got_its_permit_counts_for_nothing() -> None:
    layer = Layer()
    layer.half_open()

    with pytest.raises(ConnectionRefused):
        await layer.around(ConnectionRefused()).handle(make_exchange())

    assert layer.state == "half_open"
    assert layer.lease_is_free


# --- timeouts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "attempt", "given", "state"),
    [
        pytest.param(10.0, None, 10.0, "open", id="all-the-time-there-is"),
        pytest.param(10.0, None, 5.0, "open", id="half-of-the-total"),
        pytest.param(10.0, None, 4.9, "closed", id="less-than-half-of-the-total"),
        pytest.param(10.0, 2.0, 2.0, "open", id="its-own-time"),
        pytest.param(10.0, 2.0, 1.9, "closed", id="less-than-its-own-time"),
        pytest.param(None, 2.0, 2.0, "open", id="its-own-time-without-a-total"),
        pytest.param(None, None, 60.0, "closed", id="a-callers-limit-alone"),
        pytest.param(4.0, 10.0, 2.5, "open", id="attempt-longer-than-the-total"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [UpstreamTimeout("total"), UpstreamTimeout("attempt"), ConnectionTimeout(), DnsTimeout()],
    ids=["total", "attempt", "connect", "dns"],
)
async def test_limit_of_the_whole_attempt_is_a_failure_only_if_it_had_its_time(
    total: float | None, attempt: float | None, given: float, state: str, error: ProxyError
) -> None:
    layer = Layer()

    await layer.run(error, limited(total, attempt), limit=given, seconds=given)

    assert layer.state == state


@pytest.mark.parametrize("error", [ConnectionTimeout(), DnsTimeout()])
async def test_connect_timeout_before_the_deadline_is_a_failure_however_near_that_is(error: ProxyError) -> None:
    layer = Layer()

    await layer.run(error, limited(10.0), limit=1.0, seconds=0.5)

    assert layer.state == "open"


async def test_timer_that_fires_a_little_early_was_still_the_deadlines() -> None:
    layer = Layer()

    await layer.run(ConnectionTimeout(), limited(10.0), limit=1.0, seconds=0.998)

    assert layer.state == "closed"


async def test_limit_passed_that_nobody_has_set_counts_for_nothing() -> None:
    layer = Layer()

    await layer.run(UpstreamTimeout("total"), limited(10.0), limit=None)

    assert layer.state == "closed"


async def test_probe_of_a_caller_with_a_tiny_deadline_gives_its_lease_back() -> None:
    layer = Layer()
    layer.half_open()

    await layer.run(UpstreamTimeout("total"), limited(10.0), limit=0.01, seconds=0.01)

    assert layer.state == "half_open"
    assert layer.lease_is_free


# --- slow calls -----------------------------------------------------------------------------------------------------


async def test_slow_call_clock_starts_with_the_permit() -> None:
    layer = Layer(slow_call=2.0, minimum_throughput=1, slow_call_ratio=0.5)

    async def queue_then_answer(exchange: Exchange) -> Response:
        layer.clock.advance(30.0)
        exchange.attempt_started = layer.clock.now
        layer.clock.advance(1.9)
        return Response(200, [])

    await layer.around(queue_then_answer).handle(make_exchange())
    assert layer.now.slow_calls == 0

    await layer.run(Response(200, []), seconds=2.0)
    assert (layer.now.slow_calls, layer.now.trip_reason) == (1, "slow_call_ratio")


async def test_slowness_is_that_of_the_head_not_of_the_body() -> None:
    layer = Layer(slow_call=2.0, minimum_throughput=1)

    response = await layer.attempting(Response(200, [], PiecewiseBody(b"x")), seconds=1.0).handle(make_exchange())
    layer.clock.advance(25.0)
    response.close()

    assert (layer.now.calls, layer.now.slow_calls) == (1, 0)


# --- streamed bodies ------------------------------------------------------------------------------------------------


async def test_streamed_body_is_passed_on_and_counted_when_it_is_closed() -> None:
    layer = Layer()
    response = await layer.attempting(Response(200, [], PiecewiseBody(b"a", b"b"))).handle(make_exchange())

    assert await drained(response) == b"ab"
    assert layer.now.calls == 0
    response.close()
    response.close()

    assert (layer.now.calls, layer.now.failures) == (1, 0)


@pytest.mark.parametrize("error", [ResponseIncomplete(), UpstreamTimeout("idle"), UpstreamProtocolError()])
async def test_body_that_fails_is_a_failure_of_its_attempt(error: ProxyError) -> None:
    layer = Layer()
    response = await layer.attempting(Response(200, [], Broken(error))).handle(make_exchange())

    with pytest.raises(type(error)):
        await drained(response)
    assert layer.state == "closed"
    response.close()

    assert layer.state == "open"


async def test_client_that_leaves_within_the_body_makes_neither_success_nor_failure_of_it() -> None:
    layer, exchange = Layer(success_threshold=1), make_exchange()
    layer.half_open()
    response = await layer.attempting(Response(200, [], PiecewiseBody(b"a", b"b"))).handle(exchange)
    assert not layer.lease_is_free

    exchange.error = ClientDisconnected()
    response.close()

    assert layer.state == "half_open"
    assert layer.lease_is_free


async def test_client_that_reads_too_slowly_makes_neither_success_nor_failure_of_it() -> None:
    layer = Layer()
    response = await layer.attempting(Response(200, [], Broken(DeadlineExceeded()))).handle(make_exchange())

    with pytest.raises(DeadlineExceeded):
        await drained(response)
    response.close()

    assert (layer.now.calls, layer.now.failures) == (0, 0)


async def test_callers_tiny_deadline_within_the_body_counts_for_nothing() -> None:
    layer = Layer()
    layer.half_open()
    body = Broken(UpstreamTimeout("total"))
    response = await layer.attempting(Response(200, [], body), limit=0.1).handle(limited(10.0))

    with pytest.raises(UpstreamTimeout):
        await drained(response)
    response.close()

    assert layer.state == "half_open"
    assert layer.lease_is_free


@pytest.mark.parametrize("content_type", [b"text/event-stream", b"Text/Event-Stream; charset=utf-8"])
async def test_event_stream_counts_at_its_head(content_type: bytes) -> None:
    layer, body = Layer(success_threshold=1), PiecewiseBody(b"data: 1\n\n")
    layer.half_open()

    response = await layer.attempting(Response(200, [(b"content-type", content_type)], body)).handle(make_exchange())

    assert layer.state == "closed"
    assert response.body is body


async def test_tunnel_counts_at_its_head() -> None:
    layer = Layer(success_threshold=1)
    layer.half_open()

    await layer.attempting(Response(101, [])).handle(make_exchange())

    assert layer.state == "closed"


async def test_long_download_as_a_probe_does_not_keep_the_breaker_half_open() -> None:
    layer = Layer(success_threshold=1)
    layer.half_open()

    response = await layer.attempting(Response(200, [], PiecewiseBody(b"x"))).handle(make_exchange())
    layer.clock.advance(31.0)

    assert layer.state == "closed"
    response.close()
    assert layer.now.calls == 0, "its attempt began before the breaker closed"


async def test_slow_head_of_a_streamed_probe_opens_the_breaker_at_once() -> None:
    layer = Layer(slow_call=1.0)
    layer.half_open()

    await layer.attempting(Response(200, [], PiecewiseBody(b"x")), seconds=1.5).handle(make_exchange())

    assert (layer.state, layer.now.trip_reason) == ("open", "probe_slow")


# --- leases ---------------------------------------------------------------------------------------------------------


async def test_cancelled_probe_gives_its_lease_back() -> None:
    layer, entered = Layer(), asyncio.Event()
    layer.half_open()

    async def hang(exchange: Exchange) -> Response:
        exchange.attempt_started = layer.clock.now
        entered.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    task = asyncio.ensure_future(layer.around(hang).handle(make_exchange()))
    await entered.wait()
    assert not layer.lease_is_free

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert layer.state == "half_open"
    assert layer.lease_is_free


async def test_lease_lasts_as_long_as_the_exchange_may() -> None:
    layer, entered = Layer(), asyncio.Event()
    layer.half_open()

    async def hang(exchange: Exchange) -> Response:
        entered.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    exchange = make_exchange()
    exchange.deadline = layer.clock.now + 120.0
    task = asyncio.ensure_future(layer.around(hang).handle(exchange))
    await entered.wait()

    layer.clock.advance(120.9)
    assert not layer.lease_is_free
    layer.clock.advance(0.2)
    assert layer.lease_is_free
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_lease_is_back_after_ten_thousand_cancellations_at_random_points() -> None:
    """Attempts wait a random number of turns for their permit, their head and their body's end."""
    layer, random = Layer(consecutive_failures=1_000_000, success_threshold=1_000_000), Random(7)
    layer.half_open()

    async def turns(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def attempt(exchange: Exchange) -> Response:
        await turns(random.randrange(3))
        exchange.attempt_started = layer.clock.now
        await turns(random.randrange(3))
        return Response(200, [], PiecewiseBody(b"x") if random.random() < 0.5 else b"x")

    async def exchange(circuit: CircuitBreaker) -> None:
        with contextlib.suppress(BreakerOpen):
            response = await circuit.handle(make_exchange())
            try:
                await turns(random.randrange(3))
            finally:
                response.close()

    circuit = layer.around(attempt)
    for _ in range(2_500):
        tasks = [asyncio.ensure_future(exchange(circuit)) for _ in range(4)]
        for task in tasks:
            await turns(random.randrange(3))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert layer.lease_is_free

    assert layer.state == "half_open"


# --- shadow ---------------------------------------------------------------------------------------------------------


async def test_shadow_reports_what_it_would_refuse_and_passes_everything_on() -> None:
    layer = Layer(mode="shadow")
    await layer.run(ConnectionRefused())
    response, exchange = Response(200, [], b"body"), make_exchange()

    assert await layer.around(response).handle(exchange) is response

    assert [(each.policy, each.decision, each.mode) for each in exchange.decisions or ()] == [
        ("breaker", "open", "shadow")
    ]
    assert layer.state == "open", "what it would have refused counts for nothing"


async def test_shadow_that_would_refuse_leaves_a_streamed_body_alone() -> None:
    layer, body = Layer(mode="shadow"), PiecewiseBody(b"x")
    await layer.run(ConnectionRefused())

    response = await layer.attempting(Response(200, [], body)).handle(make_exchange())

    assert response.body is body


async def test_shadow_passes_errors_on_as_they_are() -> None:
    layer, error = Layer(mode="shadow"), ConnectionRefused()

    with pytest.raises(ConnectionRefused) as raised:
        await layer.attempting(error).handle(make_exchange())

    assert raised.value is error
    assert layer.state == "open"


async def test_in_shadow_only_who_holds_the_lease_is_a_probe() -> None:
    layer, gate = Layer(mode="shadow", success_threshold=1), asyncio.Event()
    layer.half_open()

    async def wait(exchange: Exchange) -> Response:
        await gate.wait()
        return Response(200, [])

    probe = asyncio.ensure_future(layer.around(wait).handle(make_exchange()))
    await asyncio.sleep(0)
    exchange = make_exchange()
    await layer.run(ConnectionRefused(), exchange)
    assert layer.state == "half_open"
    assert len(exchange.decisions or ()) == 1

    gate.set()
    await probe
    assert layer.state == "closed"
