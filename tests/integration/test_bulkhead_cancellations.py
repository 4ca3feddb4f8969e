"""Exchanges that are cancelled at any await give back every permit, place in the queue, probe and connection."""

import asyncio
import os
from collections import Counter
from random import Random
from time import monotonic
from typing import Any

import pytest

from proxy.config.policies import CRITICALITIES
from proxy.errors import ProxyError
from proxy.exchange import Exchange, Handler
from proxy.watchdog import Watchdog
from tests.support.aftermath import assert_unharmed, until_metric, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import get
from tests.support.exchange import PiecewiseBody, make_exchange
from tests.support.settings import policies
from tests.support.steps import chunk, delay, head, last_chunk, reply, reset
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import WITHIN

pytestmark = pytest.mark.both_loops

CANCELLATIONS = int(os.environ.get("TIDEGATE_CANCELLATIONS", "5000"))
"""On each of the two loops; exchanges that end before they are cancelled do not count."""
AT_ONCE = 40
PATHS = {"/fast": 12, "/slow": 4, "/streamed": 4, "/fails": 3, "/breaks": 1}
"""How the upstream answers, and how often it is asked to."""
SETTINGS: dict[str, Any] = {
    "rate_limit": {"rate": "600/s", "burst": 8},
    "retry": {"max_attempts": 3, "base_delay": "2ms", "max_delay": "5ms"},
    "breaker": {
        "consecutive_failures": 2,
        "failure_ratio": "off",
        "break_duration": "20ms",
        "max_break_duration": "20ms",
        "success_threshold": 1,
    },
    "bulkhead": {"max_concurrent": 6, "max_queued": 12, "queue_timeout": "20ms", "adaptive": True},
    "timeout": {"total": "5s", "attempt": "1s"},
}


def scripted() -> ScriptedUpstream:
    upstream = ScriptedUpstream(keep_bodies=False)
    upstream.on("/slow", delay(0.003), reply())
    upstream.on("/streamed", head(200, {"Transfer-Encoding": "chunked"}), chunk(b"a"), delay(0.002), last_chunk())
    upstream.on("/fails", reply(503))
    upstream.on("/breaks", reset())
    upstream.on("/fast", reply())
    return upstream


class Visitor:
    """Sends exchanges through the route's handler, as the edge does, and cancels each at some point."""

    def __init__(self, app: RunningApp, random: Random, outcomes: Counter[str]) -> None:
        self.runtime = app.app._edge.runtime
        self.random = random
        self.outcomes = outcomes

    async def visit(self) -> None:
        random, loop = self.random, asyncio.get_running_loop()
        path = random.choices([*PATHS], [*PATHS.values()])[0]
        body = PiecewiseBody(b"a" * 10, b"b" * 10) if random.random() < 0.2 else None
        match = self.runtime.router.match("GET", path)
        exchange = make_exchange("GET", path, {"Host": "api.example"}, body, route=match.route, started=monotonic())
        exchange.criticality = random.choice(CRITICALITIES)
        exchange.client_ip = f"10.0.0.{random.randrange(4)}"
        exchange.request_id = "0" * 32
        exchange.deadline = exchange.started + random.choice([0.004, 0.02, 5.0, 5.0])
        exchange.watchdog = Watchdog(loop)
        task = loop.create_task(run(match.target, exchange))
        await self.moment()
        # In the middle of the turn in which the task may be woken, and before or after those that wake it.
        if random.random() < 0.5:
            task.cancel()
        else:
            loop.call_soon(task.cancel)
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        exchange.watchdog.close()
        self.outcomes[outcome if isinstance(outcome, str) else type(outcome).__name__] += 1
        assert outcome == "answered" or isinstance(outcome, ProxyError | asyncio.CancelledError), outcome

    async def moment(self) -> None:
        """Some turns of the loop, or some milliseconds."""
        if self.random.random() < 0.6:
            for _ in range(self.random.randrange(8)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(self.random.random() * 0.008)


async def run(handler: Handler, exchange: Exchange) -> str:
    response = await handler.handle(exchange)
    try:
        if not isinstance(response.body, bytes):
            while await response.body.read():
                pass
    finally:
        response.close()
    return "answered"


async def until_closed(app: RunningApp) -> None:
    """Ask until the breaker is closed again: a probe that was lost would keep it open for half a minute."""
    async with asyncio.timeout(WITHIN):
        while await app.metric("proxy_breaker_state", state="closed") != 1:
            await get(app.port, "/fast")
            await asyncio.sleep(0.01)


async def test_cancellations_at_any_await_leave_nothing_held() -> None:
    outcomes: Counter[str] = Counter()
    async with scripted() as upstream:
        options = {"max_connections": 5, "connect_timeout": "1s"}  # fewer than permits: some wait for a connection
        async with running_app(policies(upstream.url, options=options, route=SETTINGS)) as app:
            visitors = [Visitor(app, Random(seed), outcomes) for seed in range(AT_ONCE)]
            while outcomes["CancelledError"] < CANCELLATIONS:
                await asyncio.gather(*(visitor.visit() for visitor in visitors))

            await wait_at_rest(app)
            await until_metric(app, 0, "proxy_bulkhead_in_use")
            await until_metric(app, 0, "proxy_bulkhead_queued")
            await until_closed(app)
            await assert_unharmed(app)

            # It was worth it: every layer has had exchanges that waited in it or that it refused.
            assert outcomes["answered"] > 0
            assert await app.metric("proxy_bulkhead_wait_seconds_count") > 0
            assert await app.metric("proxy_retries_total") > 0
            assert await app.metric("proxy_breaker_transitions_total", to="half_open") > 0
            for policy in ("bulkhead", "breaker", "rate_limit"):
                assert await app.metric("proxy_policy_decisions_total", policy=policy) > 0, policy
