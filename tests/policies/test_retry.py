"""Retries as a layer: what is made again, after which wait, and what stays as it was."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from proxy import errors
from proxy.config.policies import RetryConfig
from proxy.config.policy_types import Mode
from proxy.errors import (
    BreakerOpen,
    BulkheadFull,
    ConnectionRefused,
    ConnectionTerminated,
    CoolingDown,
    DeadlineExceeded,
    ProxyError,
    UpstreamTimeout,
)
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.replay import REPLAY_LIMIT, ReplayBody
from proxy.policies.retry import Retry
from proxy.resilience.retry_budget import RESERVE
from proxy.resilience.retry_state import RetryState
from proxy.telemetry.instruments import RouteMetrics
from tests.support.clock import ManualClock
from tests.support.exchange import PiecewiseBody, ScriptedHandler, make_exchange

pytestmark = pytest.mark.both_loops

WALL = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


class Bench:
    """One layer with a clock that only its own waiting moves."""

    def __init__(self, *outcomes: Any, mode: Mode = "enforce", inner: Handler | None = None, **settings: Any) -> None:
        self.clock = ManualClock()
        self.handler = ScriptedHandler(*outcomes)
        self.metrics = RouteMetrics("test")
        self.waits: list[float] = []
        self.before_wait: Callable[[], object] = lambda: None
        self.random = 0.5
        self.config = RetryConfig(**{"max_attempts": 3, "base_delay": 1.0, "max_delay": 8.0, **settings})
        self.state = RetryState(self.config, self.clock())
        self.layer = Retry(
            inner or self.handler,
            self.config,
            self.state,
            self.metrics,
            mode=mode,
            clock=self.clock,
            random=lambda: self.random,
            wall_clock=lambda: WALL,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.before_wait()
        self.waits.append(seconds)
        self.clock.advance(seconds)

    async def ask(self, method: str = "GET", **settings: Any) -> Exchange:
        """One exchange whose outcome does not matter."""
        exchange = make_exchange(method, **settings)
        try:
            await self.layer.handle(exchange)
        except ProxyError as error:
            exchange.error = error
        return exchange

    @property
    def calls(self) -> int:
        return len(self.handler.exchanges)

    @property
    def spent(self) -> int:
        return RESERVE - self.state.budget.available(self.clock())


def unavailable(retry_after: str | None = None, status: int = 503) -> Response:
    return Response(status, [] if retry_after is None else [(b"Retry-After", retry_after.encode())], b"no")


def words(exchange: Exchange) -> list[str]:
    return [each.decision for each in exchange.decisions or ()]


# --- the ordinary course --------------------------------------------------------------------------------------------


async def test_answer_is_passed_on_and_nothing_is_reported() -> None:
    response = Response(200, [])
    bench = Bench(response)
    exchange = make_exchange()

    assert await bench.layer.handle(exchange) is response

    assert exchange.decisions is None
    assert (bench.calls, bench.waits, bench.spent, bench.metrics.retries) == (1, [], 0, {})


@pytest.mark.parametrize("status", [200, 301, 400, 404, 429, 500, 501])
async def test_other_statuses_stand(status: int) -> None:
    bench = Bench(unavailable("5", status))

    exchange = await bench.ask()

    assert (bench.calls, words(exchange)) == (1, [])
    assert not bench.state.cool_down.is_on(bench.clock())


# --- retries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (ConnectionRefused(request_written=False), "connect"),
        (errors.TlsError(request_written=False), "connect"),
        (ConnectionTerminated(), "reset"),
        (errors.ResponseIncomplete(), "reset"),
        (UpstreamTimeout("attempt"), "timeout"),
        (unavailable(), "503"),
        (unavailable(status=502), "502"),
    ],
)
async def test_failed_attempt_is_made_again(failure: Any, cause: str) -> None:
    response = Response(200, [])
    bench = Bench(failure, response)
    exchange = make_exchange()

    assert await bench.layer.handle(exchange) is response

    assert (bench.calls, bench.waits, bench.spent) == (2, [0.5], 1)
    assert words(exchange) == ["retried"]
    assert bench.metrics.retries == {cause: 1}


async def test_waits_grow_and_the_last_error_is_passed_on_as_it_is() -> None:
    first, last = ConnectionTerminated(), ConnectionRefused(request_written=False)
    bench = Bench(first, first, last, max_attempts=3)
    exchange = make_exchange()

    with pytest.raises(ConnectionRefused) as raised:
        await bench.layer.handle(exchange)

    assert raised.value is last
    assert (bench.calls, bench.waits, bench.spent) == (3, [0.5, 1.0], 2)
    assert words(exchange) == ["retried", "attempts_exhausted"]
    assert bench.metrics.retries == {"reset": 2}


async def test_last_response_is_passed_on_open_and_the_others_were_closed_before_the_wait() -> None:
    responses = [unavailable(), unavailable(), unavailable()]
    closed: list[int] = []
    for number, response in enumerate(responses):
        response.on_close(lambda number=number: closed.append(number))  # type: ignore[misc]
    bench = Bench(*responses)
    seen: list[list[int]] = []
    bench.before_wait = lambda: seen.append(list(closed))

    assert await bench.layer.handle(make_exchange()) is responses[2]

    assert seen == [[0], [0, 1]]
    assert closed == [0, 1]


async def test_one_attempt_means_none_again() -> None:
    bench = Bench(ConnectionTerminated(), max_attempts=1)

    exchange = await bench.ask(body=b"x")

    assert (bench.calls, words(exchange)) == (1, ["attempts_exhausted"])
    assert isinstance(exchange.request.body, PiecewiseBody)


@pytest.mark.parametrize(
    "error",
    [
        BreakerOpen(retry_after=1.0),
        BulkheadFull(retry_after=1.0),
        errors.ConnectionLimitReached(request_written=False),
        DeadlineExceeded(request_written=False),
        errors.ClientDisconnected(),
        errors.UpstreamProtocolError(),
        UpstreamTimeout("total"),
    ],
)
async def test_what_another_attempt_cannot_change_is_passed_on(error: ProxyError) -> None:
    bench = Bench(error)

    exchange = await bench.ask()

    assert exchange.error is error
    assert (bench.calls, bench.spent, words(exchange)) == (1, 0, [])


async def test_refusal_of_ours_ends_the_retries() -> None:
    bench = Bench(ConnectionTerminated(), BreakerOpen(retry_after=1.0), max_attempts=6)

    exchange = await bench.ask()

    assert (bench.calls, type(exchange.error), words(exchange)) == (2, BreakerOpen, ["retried"])


async def test_429_ends_the_retries_and_cools_nothing_down() -> None:
    bench = Bench(unavailable(), unavailable("5", 429), max_attempts=6)

    await bench.ask()

    assert bench.calls == 2
    assert not bench.state.cool_down.is_on(bench.clock())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_unsafe_method_is_sent_once_unless_nothing_was_written(method: str) -> None:
    written = Bench(ConnectionTerminated())
    unwritten = Bench(ConnectionRefused(request_written=False))

    await written.ask(method)
    await unwritten.ask(method)

    assert (written.calls, unwritten.calls) == (1, 3)


async def test_post_is_repeated_where_the_route_says_so_and_the_client_sent_a_key() -> None:
    bench = Bench(unavailable(), methods=("POST",))

    await bench.ask("POST")
    assert bench.calls == 1
    await bench.ask("POST", headers={"Idempotency-Key": "k1"})
    assert bench.calls == 4


async def test_upgrade_is_repeated_only_while_nothing_was_written() -> None:
    for error, calls in ((ConnectionTerminated(), 1), (ConnectionRefused(request_written=False), 3)):
        bench = Bench(error)
        exchange = make_exchange()
        exchange.request.upgrade = True

        with pytest.raises(ProxyError):
            await bench.layer.handle(exchange)

        assert bench.calls == calls


async def test_caller_that_retries_by_itself_gets_one_attempt() -> None:
    bench = Bench(unavailable())
    exchange = make_exchange(body=b"x")
    exchange.received_attempt = 2

    assert (await bench.layer.handle(exchange)).status == 503

    assert (bench.calls, words(exchange)) == (1, [])
    assert isinstance(exchange.request.body, PiecewiseBody)
    assert "first=0 " in repr(bench.layer)


async def test_first_attempt_of_a_caller_that_counts_is_an_ordinary_one() -> None:
    bench = Bench(unavailable())
    exchange = make_exchange()
    exchange.received_attempt = 1

    await bench.layer.handle(exchange)

    assert bench.calls == 3


# --- limits ---------------------------------------------------------------------------------------------------------


async def test_budget_of_the_route_bounds_all_exchanges_together() -> None:
    bench = Bench(ConnectionRefused(request_written=False), max_attempts=6, base_delay=0.001)

    exchanges = [await bench.ask() for _ in range(100)]

    assert bench.calls == 100 + RESERVE
    assert bench.metrics.retries == {"connect": RESERVE}
    assert sum("budget_exhausted" in words(exchange) for exchange in exchanges) == 94
    assert words(exchanges[-1]) == ["budget_exhausted"]


async def test_budget_grows_with_first_attempts_and_not_with_those_of_a_caller_that_retries() -> None:
    bench = Bench(Response(200, []), budget=0.5)
    again = make_exchange()
    again.received_attempt = 2

    for _ in range(80):
        await bench.ask()
        await bench.layer.handle(again)

    assert bench.state.budget.available(bench.clock()) == 40


async def test_retry_is_counted_before_its_wait() -> None:
    bench = Bench(ConnectionTerminated(), Response(200, []))
    spent: list[int] = []
    bench.before_wait = lambda: spent.append(bench.spent)

    await bench.ask()

    assert spent == [1]


async def test_wait_that_would_reach_the_deadline_is_not_begun() -> None:
    bench = Bench(ConnectionTerminated(), max_attempts=6)
    exchange = make_exchange()
    exchange.deadline = bench.clock() + 1.5  # the second wait would end exactly there

    with pytest.raises(ConnectionTerminated):
        await bench.layer.handle(exchange)

    assert (bench.calls, bench.waits, bench.spent) == (2, [0.5], 1)
    assert words(exchange) == ["retried", "deadline"]


async def test_discarded_event_stream_does_not_lift_the_deadline() -> None:
    deadlines: list[float | None] = []

    async def stream(exchange: Exchange) -> Response:
        deadlines.append(exchange.deadline)
        exchange.deadline = None
        return unavailable()

    bench = Bench(stream)
    exchange = make_exchange()
    exchange.deadline = bench.clock() + 1.2

    await bench.layer.handle(exchange)

    assert deadlines == [1001.2, 1001.2]
    assert words(exchange) == ["retried", "deadline"]


async def test_next_attempt_finds_nothing_of_the_one_before() -> None:
    async def refused(exchange: Exchange) -> Response:
        exchange.upstream_status, exchange.attempt_started = 503, 7.0
        return unavailable()

    async def failed(exchange: Exchange) -> Response:
        assert (exchange.upstream_status, exchange.attempt_started) == (0, 0.0)
        raise ConnectionTerminated

    exchange = await Bench(refused, failed).ask()

    assert exchange.upstream_status == 0


async def test_cancelled_wait_leaves_nothing_behind() -> None:
    closed: list[bool] = []
    response = unavailable()
    response.on_close(lambda: closed.append(True))
    handler, config = ScriptedHandler(response), RetryConfig(base_delay=60.0, max_delay=60.0)
    layer = Retry(
        handler,
        config,
        RetryState(config, 0.0),
        RouteMetrics("r"),
        mode="enforce",
        clock=ManualClock(),
        random=lambda: 0.9,
    )
    task = asyncio.ensure_future(layer.handle(make_exchange()))
    await asyncio.sleep(0)
    assert closed == [True]

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(handler.exchanges) == 1


# --- bodies ---------------------------------------------------------------------------------------------------------


class Reader:
    """Reads the body of each attempt up to `size` bytes, then ends as it is told."""

    def __init__(self, *outcomes: Any, size: int = 1 << 30) -> None:
        self.bodies: list[bytes] = []
        self._script = ScriptedHandler(*outcomes)
        self._size = size

    async def handle(self, exchange: Exchange) -> Response:
        body = exchange.request.body
        assert body is not None
        read = b""
        while len(read) < self._size and (piece := await body.read()):
            read += piece
        self.bodies.append(read)
        return await self._script.handle(exchange)


async def test_body_is_sent_again() -> None:
    reader = Reader(ConnectionTerminated(), unavailable(), Response(200, []))
    bench = Bench(inner=reader, methods=("PUT",))

    exchange = await bench.ask("PUT", body=PiecewiseBody(b"ab", b"cd"))

    assert reader.bodies == [b"abcd"] * 3
    assert exchange.bytes_in == 4


async def test_body_that_was_half_read_is_sent_from_its_beginning() -> None:
    reader = Reader(ConnectionRefused(request_written=False), size=2)
    bench = Bench(inner=reader)

    await bench.ask("POST", body=PiecewiseBody(b"ab", b"cd", b"ef"))

    assert reader.bodies == [b"ab"] * 3


async def test_body_beyond_the_limit_is_sent_once() -> None:
    reader = Reader(ConnectionTerminated())
    bench = Bench(inner=reader, methods=("PUT",))

    exchange = await bench.ask("PUT", body=PiecewiseBody(b"x" * REPLAY_LIMIT, b"y"))

    assert [len(body) for body in reader.bodies] == [REPLAY_LIMIT + 1]
    assert (words(exchange), bench.spent) == (["not_replayable"], 0)


async def test_body_is_not_kept_once_the_answer_stands() -> None:
    bench = Bench(inner=Reader(Response(200, [])))

    exchange = await bench.ask("POST", body=b"abc")

    body = exchange.request.body
    assert isinstance(body, ReplayBody)
    assert not body.is_replayable


# --- Retry-After ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.25),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.5),
        ("1000000000", 31.5),
        ("0", 0.5),
        ("-1", 0.5),
        ("soon", 0.5),
        ("1e9", 0.5),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.5),
    ],
)
async def test_retry_after_is_waited_for_up_to_the_cap_and_garbage_is_ignored(value: str, seconds: float) -> None:
    bench = Bench(unavailable(value), Response(200, []))

    await bench.ask()

    assert bench.waits == [seconds]


async def test_retry_after_of_another_status_is_waited_for_and_cools_nothing_down() -> None:
    bench = Bench(unavailable("5", 502), Response(200, []))
    states: list[bool] = []
    bench.before_wait = lambda: states.append(bench.state.cool_down.is_on(bench.clock()))

    await bench.ask()

    assert (bench.waits, states) == ([5.25], [False])


async def test_retry_after_beyond_the_deadline_ends_the_exchange_with_the_503_at_hand() -> None:
    response = unavailable("5")
    bench = Bench(response)
    exchange = make_exchange()
    exchange.deadline = bench.clock() + 5

    assert await bench.layer.handle(exchange) is response

    assert (bench.calls, bench.waits, bench.spent) == (1, [], 0)
    assert words(exchange) == ["cool_down_began", "deadline"]


# --- cool-down ------------------------------------------------------------------------------------------------------


async def test_others_are_refused_while_the_upstream_cools_down() -> None:
    bench = Bench(unavailable("20"), Response(200, []), max_attempts=1)
    await bench.ask("POST")
    bench.clock.advance(0.5)

    exchange = make_exchange()
    with pytest.raises(CoolingDown) as refused:
        await bench.layer.handle(exchange)

    assert refused.value.retry_after == 19.5
    assert words(exchange) == ["cooling_down"]
    assert bench.calls == 1


async def test_cool_down_is_capped() -> None:
    bench = Bench(unavailable("1000000000"), Response(200, []), max_attempts=1, max_retry_after=30.0)
    await bench.ask()

    bench.clock.advance(0.5)
    assert isinstance((await bench.ask()).error, CoolingDown)
    bench.clock.advance(29.5)
    assert (await bench.ask()).error is None


@pytest.mark.parametrize("outcome", [Response(200, []), unavailable("5", 429), unavailable(), ConnectionTerminated()])
async def test_probe_with_another_outcome_ends_the_cool_down(outcome: Any) -> None:
    bench = Bench(unavailable("20"), outcome, Response(200, []), max_attempts=1)
    await bench.ask()
    bench.clock.advance(1.0)

    await bench.ask()

    assert not bench.state.cool_down.is_on(bench.clock())
    assert (await bench.ask()).error is None
    assert bench.calls == 3


async def test_probe_that_is_told_the_same_goes_on_with_the_cool_down() -> None:
    bench = Bench(unavailable("20"), unavailable("3"), Response(200, []), max_attempts=1)
    await bench.ask()
    bench.clock.advance(1.0)

    assert words(await bench.ask()) == ["attempts_exhausted"]

    assert bench.state.cool_down.remaining(bench.clock()) == 3.0
    bench.clock.advance(0.5)
    assert isinstance((await bench.ask()).error, CoolingDown)


@pytest.mark.parametrize("error", [BreakerOpen(), BulkheadFull(), errors.ClientDisconnected(), DeadlineExceeded()])
async def test_probe_that_never_came_to_the_upstream_changes_nothing(error: ProxyError) -> None:
    bench = Bench(unavailable("20"), error, Response(200, []), max_attempts=1)
    await bench.ask()
    bench.clock.advance(1.0)

    assert (await bench.ask()).error is error

    assert bench.state.cool_down.remaining(bench.clock()) == 19.0
    bench.clock.advance(1.0)
    assert (await bench.ask()).error is None


async def test_cancelled_probe_leaves_the_next_second_to_another() -> None:
    never = asyncio.Event()

    async def hang(exchange: Exchange) -> Response:
        await never.wait()
        raise AssertionError

    bench = Bench(unavailable("20"), hang, Response(200, []), max_attempts=1)
    await bench.ask()
    bench.clock.advance(1.0)
    task = asyncio.ensure_future(bench.ask())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert isinstance((await bench.ask()).error, CoolingDown)
    bench.clock.advance(1.0)
    assert (await bench.ask()).error is None


async def test_success_that_began_before_the_cool_down_does_not_end_it() -> None:
    gate = asyncio.Event()

    async def slow(exchange: Exchange) -> Response:
        await gate.wait()
        return Response(200, [])

    bench = Bench(slow, unavailable("20"), max_attempts=1)
    task = asyncio.ensure_future(bench.ask())
    await asyncio.sleep(0)
    await bench.ask()
    gate.set()
    await task

    assert bench.state.cool_down.is_on(bench.clock())


async def test_retry_that_wakes_up_in_a_cool_down_is_refused() -> None:
    bench = Bench(ConnectionTerminated(), max_attempts=6)
    bench.before_wait = lambda: bench.state.cool_down.start(bench.clock(), 10.0)

    exchange = await bench.ask()

    assert isinstance(exchange.error, CoolingDown)
    assert exchange.error.retry_after == 9.5
    assert (bench.calls, words(exchange)) == (1, ["retried", "cooling_down"])


async def test_retry_that_wakes_up_when_a_probe_is_due_is_the_probe() -> None:
    bench = Bench(ConnectionTerminated(), Response(200, []), base_delay=4.0)
    bench.before_wait = lambda: bench.state.cool_down.start(bench.clock(), 10.0)

    exchange = await bench.ask()

    assert (exchange.error, bench.calls, bench.waits) == (None, 2, [2.0])
    assert not bench.state.cool_down.is_on(bench.clock())


# --- shadow ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "settings", "expected"),
    [
        (ConnectionTerminated(), {}, ["retried"]),
        (unavailable(), {}, ["retried"]),
        (unavailable("5"), {}, ["cool_down_began", "retried"]),
        (ConnectionTerminated(), {"max_attempts": 1}, ["attempts_exhausted"]),
        (BreakerOpen(), {}, []),
        (Response(200, []), {}, []),
    ],
)
async def test_shadow_reports_and_passes_the_first_outcome_on(
    outcome: Any, settings: dict[str, Any], expected: list[str]
) -> None:
    closed: list[bool] = []
    if isinstance(outcome, Response):
        outcome.on_close(lambda: closed.append(True))
    bench = Bench(outcome, mode="shadow", **settings)

    exchange = await bench.ask(body=b"x")

    assert words(exchange) == expected
    assert {each.mode for each in exchange.decisions or ()} <= {"shadow"}
    assert (bench.calls, bench.waits, closed, bench.metrics.retries) == (1, [], [], {})
    assert isinstance(exchange.request.body, PiecewiseBody)


async def test_shadow_spends_a_budget_of_its_own() -> None:
    bench = Bench(ConnectionTerminated(), mode="shadow")

    exchanges = [await bench.ask() for _ in range(RESERVE + 5)]

    assert [words(exchange) for exchange in exchanges] == [["retried"]] * RESERVE + [["budget_exhausted"]] * 5
    assert bench.calls == RESERVE + 5


async def test_shadow_knows_which_bodies_it_could_not_send_again() -> None:
    bench = Bench(inner=Reader(ConnectionTerminated()), mode="shadow", methods=("PUT",))

    small = await bench.ask("PUT", body=PiecewiseBody(b"x" * REPLAY_LIMIT))
    large = await bench.ask("PUT", body=PiecewiseBody(b"x" * REPLAY_LIMIT, b"y"))

    assert (words(small), words(large)) == (["retried"], ["not_replayable"])


async def test_shadow_reports_whom_a_cool_down_would_refuse_and_learns_nothing_from_them() -> None:
    bench = Bench(unavailable("20"), Response(200, []), Response(200, []), mode="shadow", max_attempts=1)
    await bench.ask()

    refused = await bench.ask()
    assert (refused.error, words(refused)) == (None, ["cooling_down"])
    assert bench.state.cool_down.is_on(bench.clock())

    bench.clock.advance(1.0)
    assert words(await bench.ask()) == []
    assert not bench.state.cool_down.is_on(bench.clock())
    assert bench.calls == 3


# --- reload ---------------------------------------------------------------------------------------------------------


async def test_exchange_goes_on_under_the_configuration_it_began_with() -> None:
    bench = Bench(inner=(reader := Reader(ConnectionTerminated())), methods=("PUT",), max_attempts=1)
    bench.state.reconfigure(bench.config.model_copy(update={"max_attempts": 6}), bench.clock())

    exchange = await bench.ask("PUT", body=b"abc")

    assert (reader.bodies, words(exchange)) == ([b"abc"], ["attempts_exhausted"])
