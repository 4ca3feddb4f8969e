"""The bulkhead as a layer: what it passes on, what waits, what it refuses, and that every permit comes back."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from proxy.config.policies import Criticality, NamedBulkhead
from proxy.config.policy_types import Mode
from proxy.errors import BulkheadFull, ConnectionRefused, ConnectionTimeout, DeadlineExceeded, UpstreamTimeout
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.bulkhead import Bulkhead
from proxy.resilience.permits import Permits
from proxy.telemetry.instruments import Histogram
from tests.support.clock import ManualClock
from tests.support.exchange import ScriptedHandler, make_exchange

pytestmark = pytest.mark.both_loops


class Timers:
    """What the bulkhead uses of the loop; remembers the timers that it starts."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.create_future = self._loop.create_future
        self.started: list[asyncio.TimerHandle] = []

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        timer = self._loop.call_later(delay, callback)
        self.started.append(timer)
        return timer

    def all_gone(self) -> bool:
        return bool(self.started) and all(timer.cancelled() for timer in self.started)


class Held:
    """An upstream that answers when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[Response]] = []

    async def handle(self, exchange: Exchange) -> Response:
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return await future

    def answer(self) -> None:
        self.waiting.pop(0).set_result(Response(200, []))


class Setup:
    """A bulkhead, and what can be looked at."""

    def __init__(self, inner: Handler, mode: Mode = "enforce", **settings: Any) -> None:
        numbers = {"max_concurrent": 1, "max_queued": 10, "queue_timeout": 30.0, **settings}
        self.clock = ManualClock()
        self.permits = Permits(NamedBulkhead(name="api", **numbers), self.clock())
        self.waits = Histogram()
        self.timers = Timers()
        self.exchanges: list[Exchange] = []
        self.layer = Bulkhead(
            inner,
            self.permits,
            self.waits,
            mode=mode,
            clock=self.clock,
            loop=cast("asyncio.AbstractEventLoop", self.timers),
            random=lambda: 0.5,
        )

    def begin(self, criticality: Criticality = "default", deadline: float | None = None) -> asyncio.Task[Response]:
        exchange = make_exchange()
        exchange.criticality = criticality
        exchange.deadline = None if deadline is None else self.clock() + deadline
        self.exchanges.append(exchange)
        return asyncio.ensure_future(self.layer.handle(exchange))

    @property
    def state(self) -> tuple[int, int]:
        return self.permits.in_use, self.permits.queued

    def decisions(self, number: int = -1) -> list[tuple[str, str, str]]:
        found = self.exchanges[number].decisions or ()
        return [(each.policy, each.decision, each.mode) for each in found]


async def settle() -> None:
    """Let everything run that can run now."""
    for _ in range(5):
        await asyncio.sleep(0)


# --- permits ---


async def test_permit_is_held_until_the_response_is_closed() -> None:
    setup = Setup(ScriptedHandler())

    response = await setup.begin()
    assert setup.state == (1, 0)
    response.close()
    response.close()

    assert setup.state == (0, 0)
    assert setup.decisions() == []
    assert sum(setup.waits.counts) == 0


@pytest.mark.parametrize("error", [ConnectionRefused(), KeyError("a bug")])
async def test_permit_comes_back_when_the_call_raises(error: Exception) -> None:
    setup = Setup(ScriptedHandler(error))

    with pytest.raises(type(error)):
        await setup.begin()

    assert setup.state == (0, 0)


async def test_permit_comes_back_when_the_client_leaves() -> None:
    setup = Setup(Held())
    task = setup.begin()
    await settle()
    assert setup.state == (1, 0)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert setup.state == (0, 0)


# --- the queue ---


async def test_what_may_not_queue_is_refused_at_once() -> None:
    setup = Setup(ScriptedHandler())
    first = await setup.begin()
    exchange = make_exchange()
    exchange.may_queue = False

    with pytest.raises(BulkheadFull) as caught:
        await setup.layer.handle(exchange)

    assert not caught.value.request_written
    assert setup.state == (1, 0)
    assert [each.decision for each in exchange.decisions or ()] == ["full"]
    first.close()
    (await setup.layer.handle(exchange)).close()
    assert setup.state == (0, 0)


async def test_waiter_goes_on_when_a_permit_is_free_and_its_wait_is_counted() -> None:
    handler = ScriptedHandler()
    setup = Setup(handler)
    first = await setup.begin()
    second = setup.begin()
    await settle()
    assert setup.state == (1, 1)
    assert len(handler.exchanges) == 1

    setup.clock.advance(0.2)
    first.close()
    (await second).close()

    assert setup.state == (0, 0)
    assert sum(setup.waits.counts) == 1
    assert setup.waits.sum == pytest.approx(0.2)
    assert setup.timers.all_gone()
    assert setup.decisions() == []


async def test_full_queue_refuses_at_once() -> None:
    handler = ScriptedHandler()
    setup = Setup(handler, max_queued=0)
    held = await setup.begin()

    with pytest.raises(BulkheadFull) as refusal:
        await setup.begin()

    assert setup.decisions() == [("bulkhead", "full", "enforce")]
    assert refusal.value.retry_after == pytest.approx(1 + 3 * 0.5)
    assert not refusal.value.request_written
    assert not refusal.value.retryable
    assert len(handler.exchanges) == 1
    held.close()
    assert setup.state == (0, 0)


async def test_retry_after_is_what_the_queue_takes() -> None:
    setup = Setup(ScriptedHandler(), max_queued=4, queue_timeout=1000.0)
    responses = [await setup.begin()]
    tasks = [setup.begin() for _ in range(4)]
    await settle()
    for number in range(3):
        setup.clock.advance(2.0)
        responses[number].close()
        responses.append(await tasks[number])
    tasks += [setup.begin() for _ in range(3)]
    await settle()

    with pytest.raises(BulkheadFull) as refusal:
        await setup.begin()

    assert refusal.value.retry_after == pytest.approx(4 * 2.0 + 3 * 0.5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    responses[-1].close()
    assert setup.state == (0, 0)


async def test_wait_ends_with_the_queue_timeout() -> None:
    setup = Setup(ScriptedHandler(), queue_timeout=0.01)
    held = await setup.begin()

    with pytest.raises(BulkheadFull):
        await setup.begin(deadline=60.0)

    assert setup.decisions() == [("bulkhead", "queue_timeout", "enforce")]
    assert setup.state == (1, 0)
    held.close()
    assert setup.state == (0, 0)


async def test_wait_ends_with_the_deadline() -> None:
    setup = Setup(ScriptedHandler())
    held = await setup.begin()

    with pytest.raises(DeadlineExceeded) as error:
        await setup.begin(deadline=0.01)

    assert not error.value.request_written
    assert setup.decisions() == [("timeout", "total", "enforce")]
    assert setup.state == (1, 0)
    held.close()


async def test_request_whose_deadline_is_over_does_not_wait() -> None:
    setup = Setup(ScriptedHandler())
    held = await setup.begin()

    with pytest.raises(DeadlineExceeded):
        await setup.begin(deadline=-0.001)

    assert setup.state == (1, 0)
    held.close()


async def test_waiter_that_is_overdue_is_passed_over_though_its_timer_is_late() -> None:
    setup = Setup(ScriptedHandler(), queue_timeout=1.0)
    held = await setup.begin()
    late, waiter = setup.begin(), setup.begin(deadline=30.0)
    await settle()
    setup.clock.advance(0.9)
    waiter_in_time = setup.begin()
    await settle()

    setup.clock.advance(0.2)
    held.close()
    response = await waiter_in_time

    assert not late.done()
    assert setup.state == (1, 2)
    response.close()
    await settle()
    assert setup.state == (0, 0), "nobody is left who could take it"
    for task in (late, waiter):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert setup.state == (0, 0)


async def test_more_important_request_takes_the_place_of_a_less_important_one() -> None:
    setup = Setup(ScriptedHandler(), max_queued=2)
    held = await setup.begin()
    first, second = setup.begin("background"), setup.begin("background")
    await settle()

    critical = setup.begin("critical")
    with pytest.raises(BulkheadFull):
        await second

    assert setup.decisions(2) == [("bulkhead", "evicted", "enforce")]
    held.close()
    (await critical).close()
    (await first).close()
    assert setup.state == (0, 0)


async def test_cancelled_waiter_leaves_the_queue() -> None:
    setup = Setup(ScriptedHandler())
    held = await setup.begin()
    task = setup.begin()
    await settle()
    assert setup.state == (1, 1)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert setup.state == (1, 0)
    held.close()
    assert setup.state == (0, 0)


async def cancel_then_release(task: asyncio.Task[Response], held: Response) -> None:
    task.cancel()
    held.close()


async def release_then_cancel(task: asyncio.Task[Response], held: Response) -> None:
    held.close()
    task.cancel()


async def release_then_cancel_a_turn_later(task: asyncio.Task[Response], held: Response) -> None:
    asyncio.get_running_loop().call_soon(task.cancel)
    held.close()


@pytest.mark.parametrize("moment", [cancel_then_release, release_then_cancel, release_then_cancel_a_turn_later])
@pytest.mark.parametrize("others", [0, 2])
async def test_permit_of_a_waiter_that_leaves_as_it_is_granted_goes_on(
    moment: Callable[[asyncio.Task[Response], Response], Awaitable[None]], others: int
) -> None:
    handler = ScriptedHandler()
    setup = Setup(handler)
    held = await setup.begin()
    task = setup.begin()
    waiting = [setup.begin() for _ in range(others)]
    await settle()

    await moment(task, held)
    with pytest.raises(asyncio.CancelledError):
        await task

    for each in waiting:
        (await each).close()
    assert setup.state == (0, 0)
    assert setup.timers.all_gone()
    assert len(handler.exchanges) == 1 + others


@pytest.mark.parametrize("order", ["expire first", "cancel first", "evict first"])
async def test_what_happens_first_to_a_waiter_is_what_happens(order: str) -> None:
    setup = Setup(ScriptedHandler(), max_queued=1)
    held = await setup.begin()
    task = setup.begin("background")
    await settle()
    (waiter,) = setup.permits._queues[3]

    match order:
        case "expire first":
            waiter.expire()  # type: ignore[attr-defined]
            held.close()
        case "cancel first":
            task.cancel()
            waiter.expire()  # type: ignore[attr-defined]
            held.close()
        case "evict first":
            critical = setup.begin("critical")
            await asyncio.sleep(0)
            held.close()
            (await critical).close()
    with pytest.raises(asyncio.CancelledError if order == "cancel first" else BulkheadFull):
        await task

    assert setup.state == (0, 0)
    assert setup.timers.all_gone()


# --- the adaptive limit ---


def adaptive(*outcomes: Any, seconds: float = 0.05) -> Setup:
    """A bulkhead around an upstream that takes so long by the manual clock."""
    setup: Setup

    async def slow(exchange: Exchange) -> Response:
        exchange.attempt_started = setup.clock()
        setup.clock.advance(seconds)
        outcome = outcomes[0] if outcomes else Response(200, [])
        if isinstance(outcome, Exception):
            raise outcome
        assert isinstance(outcome, Response)
        return outcome

    setup = Setup(ScriptedHandler(slow), adaptive=True, max_concurrent=100)
    return setup


async def test_answers_as_fast_as_usual_raise_an_adaptive_limit() -> None:
    setup = adaptive()
    setup.permits.in_use = 15

    for _ in range(100):
        (await setup.begin()).close()

    assert setup.permits.limit > 20


@pytest.mark.parametrize(
    ("error", "given", "limit"),
    [
        *((UpstreamTimeout("first_byte"), 1.0, 18), (UpstreamTimeout("total"), 15.0, 18)),
        *((UpstreamTimeout("total"), 14.0, 20), (ConnectionTimeout(), 30.0, 18)),
        *((ConnectionRefused(), 30.0, 20), (Response(503, []), 30.0, 20)),
    ],
)
async def test_timeouts_of_the_upstream_lower_an_adaptive_limit_and_other_failures_do_not(
    error: Exception | Response, given: float, limit: int
) -> None:
    setup = adaptive(error, seconds=1.0)
    exchange = make_exchange()
    exchange.attempt_deadline = setup.clock() + given

    if isinstance(error, Exception):
        with pytest.raises(type(error)):
            await setup.layer.handle(exchange)
    else:
        (await setup.layer.handle(exchange)).close()

    assert setup.permits.limit == limit
    assert setup.state == (0, 0)


async def test_time_in_the_queue_is_no_latency_of_the_upstream() -> None:
    setup = adaptive()
    setup.permits.in_use = 20
    task = setup.begin()
    await settle()

    setup.clock.advance(20.0)
    setup.permits.release(setup.clock())
    (await task).close()

    assert setup.permits.gradient is not None
    assert setup.permits.gradient._seconds == pytest.approx(0.05)


# --- shadow ---


async def test_shadow_reports_what_it_would_do_and_lets_everything_pass() -> None:
    handler = ScriptedHandler()
    setup = Setup(handler, "shadow", max_queued=1)

    responses = [await setup.begin() for _ in range(4)]

    assert [setup.decisions(number) for number in range(4)] == [
        *([], [("bulkhead", "queued", "shadow")]),
        *([("bulkhead", "full", "shadow")], [("bulkhead", "full", "shadow")]),
    ]
    assert setup.state == (1, 1)
    for response in responses:
        response.close()
        response.close()
    assert setup.state == (0, 0)
    assert len(handler.exchanges) == 4


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_shadow_forgets_what_failed_or_left(number: int) -> None:
    setup = Setup(Held(), "shadow", max_queued=1)
    tasks = [setup.begin() for _ in range(3)]
    await settle()

    tasks[number].cancel()
    await settle()
    assert sum(setup.state) == (1 if number < 2 else 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert setup.state == (0, 0)


async def test_shadow_of_an_adaptive_limit_learns() -> None:
    handler = ScriptedHandler(UpstreamTimeout("first_byte"))
    setup = Setup(handler, "shadow", adaptive=True, max_concurrent=100)
    task = setup.begin()
    setup.clock.advance(1.0)

    with pytest.raises(UpstreamTimeout):
        await task

    assert setup.permits.limit == 18
    assert setup.state == (0, 0)
