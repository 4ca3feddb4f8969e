"""The time limits as layers: what they set, what they end, and what they leave alone."""

import asyncio
from time import monotonic

import pytest

from proxy.config.policies import TimeoutConfig
from proxy.errors import ConnectionRefused, DeadlineExceeded, UpstreamTimeout
from proxy.exchange import Exchange, Response
from proxy.policies.timeout import Attempt, Total
from proxy.watchdog import Watchdog
from tests.support.clock import ManualClock
from tests.support.exchange import ScriptedHandler, make_exchange

pytestmark = pytest.mark.both_loops


class Deaf:
    """A layer that waits without a look at the deadline."""

    def __init__(self) -> None:
        self.cancelled = False
        self.waiting = asyncio.Event()

    async def handle(self, exchange: Exchange) -> Response:
        self.waiting.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        raise AssertionError


def exchange_with(deadline: float | None) -> Exchange:
    exchange = make_exchange()
    exchange.watchdog = Watchdog(asyncio.get_running_loop())
    exchange.deadline = deadline
    return exchange


async def test_wait_that_ignores_the_deadline_is_ended() -> None:
    deaf, exchange = Deaf(), exchange_with(monotonic() + 0.01)

    with pytest.raises(DeadlineExceeded):
        await Total(deaf).handle(exchange)

    assert deaf.cancelled
    assert [decision.decision for decision in exchange.decisions or ()] == ["total"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_caller_without_time_left_is_refused_before_anything_is_asked() -> None:
    handler, exchange = ScriptedHandler(), exchange_with(0.0)

    with pytest.raises(DeadlineExceeded):
        await Total(handler).handle(exchange)

    assert handler.exchanges == []


async def test_cancellation_by_somebody_else_stays_one() -> None:
    deaf = Deaf()
    task = asyncio.ensure_future(Total(deaf).handle(exchange_with(monotonic() + 60)))
    await deaf.waiting.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_client_that_leaves_at_the_deadline_has_left() -> None:
    deaf, exchange = Deaf(), exchange_with(monotonic() + 60)
    task = asyncio.ensure_future(Total(deaf).handle(exchange))
    await deaf.waiting.wait()

    assert exchange.watchdog is not None
    exchange.watchdog._bite()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("deadline", [None, 60.0])
async def test_response_in_time_is_passed_on_and_nothing_is_watched_any_more(deadline: float | None) -> None:
    response = Response(200, [])
    exchange = exchange_with(None if deadline is None else monotonic() + deadline)

    assert await Total(ScriptedHandler(response)).handle(exchange) is response

    assert exchange.watchdog is not None
    exchange.watchdog._bite()
    await asyncio.sleep(0)


async def test_closed_watchdog_never_bites() -> None:
    watchdog = Watchdog(asyncio.get_running_loop())
    watchdog.watch(monotonic() + 0.005)
    watchdog.close()

    await asyncio.sleep(0.02)

    assert not watchdog.expired


@pytest.mark.parametrize(
    ("own", "total", "expected"), [(2.0, None, 12.0), (2.0, 11.0, 11.0), (2.0, 60.0, 12.0), (None, 60.0, 60.0)]
)
async def test_attempt_ends_at_the_nearer_limit(own: float | None, total: float | None, expected: float) -> None:
    exchange = make_exchange()
    exchange.deadline = total

    exchange.timeout = TimeoutConfig(attempt=own)

    await Attempt(ScriptedHandler(), ManualClock(10.0)).handle(exchange)

    assert exchange.attempt_deadline == expected
    assert exchange.attempt == 1
    assert exchange.attempt_started == 10.0


async def test_attempt_reports_which_limit_passed() -> None:
    exchange = make_exchange()

    with pytest.raises(UpstreamTimeout):
        await Attempt(ScriptedHandler(UpstreamTimeout("first_byte")), ManualClock()).handle(exchange)

    assert [(each.policy, each.decision) for each in exchange.decisions or ()] == [("timeout", "first_byte")]


async def test_attempt_leaves_other_errors_alone() -> None:
    exchange = make_exchange()

    with pytest.raises(ConnectionRefused):
        await Attempt(ScriptedHandler(ConnectionRefused()), ManualClock()).handle(exchange)

    assert exchange.decisions is None
