"""Whoever waits for a fill or reads from it may leave at any await: nothing is held, and the others get theirs."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator
from random import Random
from time import monotonic, time
from typing import Any

import pytest

from proxy.config.policies import CRITICALITIES, NamedBreaker, NamedBulkhead
from proxy.errors import ProxyError
from proxy.exchange import Exchange, Response
from proxy.policies.breaker import CircuitBreaker
from proxy.policies.bulkhead import Bulkhead
from proxy.policies.caching.fill import Fill
from proxy.policies.caching.fill_request import fill_exchange
from proxy.policies.caching.fills import Fills
from proxy.policies.caching.keeper import Kind
from proxy.policies.timeout import BACKSTOP, Attempt, Total
from proxy.protocol.caching.stored import StoredResponse
from proxy.resilience.breaker import Breaker
from proxy.resilience.permits import Permits
from proxy.telemetry.instruments import Histogram
from tests.support.exchange import make_exchange
from tests.support.fills import ShelfKeeper
from tests.support.steps import chunk, delay, hang, head, last_chunk, reply, reply_chunked, reset
from tests.support.upstream import ScriptedUpstream
from tests.support.upstream_client import Client, client_for, read_all
from tests.support.waiting import WITHIN, eventually

pytestmark = pytest.mark.both_loops

CANCELLATIONS = int(os.environ.get("TIDEGATE_CANCELLATIONS", "10000"))
"""On each of the two loops; clients that have their answer before they are cancelled do not count."""
AT_ONCE = 60
WAITERS_END = {"answered", "DeadlineExceeded", "BulkheadFull", "BreakerOpen", "ResponseIncomplete"}
FILLS_END = {"stored", "not_stored", "failed", "cancelled", "too_large"}
MAX_BODY = 64 * 1024
HOST = {"Host": "api.example"}
STORABLE = {"Cache-Control": "max-age=60"}
CHUNKED = {"Transfer-Encoding": "chunked"}
PATHS = {
    "/fast": 8,
    "/slow": 6,
    "/streamed": 6,
    "/unstorable": 3,
    "/too-long": 3,
    "/fails": 2,
    "/fails-at-length": 2,
    "/breaks": 1,
    "/cut": 3,
}
"""How the upstream answers, and how often it is asked to."""


def scripted() -> ScriptedUpstream:
    upstream = ScriptedUpstream(keep_bodies=False)
    upstream.on("/fast", reply(200, STORABLE, b"fast"))
    upstream.on("/slow", delay(0.003), reply(200, STORABLE, b"slow"))
    streamed = (chunk(b"strea"), delay(0.002), chunk(b"med"), delay(0.001), last_chunk())
    upstream.on("/streamed", head(200, {**STORABLE, **CHUNKED}), *streamed)
    upstream.on("/unstorable", head(200, CHUNKED), chunk(b"unstor"), delay(0.002), chunk(b"able"), last_chunk())
    upstream.on("/too-long", reply_chunked(*[b"x" * 32768] * 20, headers=STORABLE))
    upstream.on("/fails", delay(0.001), reply(503))
    upstream.on("/fails-at-length", head(503, CHUNKED), delay(0.001), chunk(b"sorry"), delay(0.001), last_chunk())
    upstream.on("/breaks", reset())
    upstream.on("/cut", head(200, {**STORABLE, **CHUNKED}), chunk(b"cu"), delay(0.001), reset())
    upstream.on("/begun", head(200, {**STORABLE, **CHUNKED}), chunk(b"begun"), hang())
    return upstream


BODIES = {
    "/fast": b"fast",
    "/slow": b"slow",
    "/streamed": b"streamed",
    "/unstorable": b"unstorable",
    "/too-long": b"x" * 32768 * 20,
    "/fails": b"",
    "/fails-at-length": b"sorry",
}


class SlowShelf(ShelfKeeper):
    """Keeping takes some turns of the loop, as it does with Redis."""

    async def keep(self, fill: Fill[Any], stored: StoredResponse) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        await super().keep(fill, stored)


class Site:
    """Fills over the layers below a cache, with a real upstream."""

    def __init__(self, client: Client) -> None:
        self.loop = asyncio.get_running_loop()
        self.client = client
        self.permits = Permits(
            NamedBulkhead(name="api", max_concurrent=5, max_queued=6, queue_timeout=0.02), monotonic()
        )
        settings: dict[str, Any] = {
            "consecutive_failures": 2,
            "failure_ratio": None,
            "success_threshold": 1,
            "break_duration": 0.02,
            "max_break_duration": 0.02,
        }
        self.breaker = Breaker(NamedBreaker(name="api", **settings), monotonic(), lambda: 0.0, lambda _: None)
        bulkhead = Bulkhead(
            Attempt(client.upstream, monotonic),
            self.permits,
            Histogram(),
            mode="enforce",
            clock=monotonic,
            loop=self.loop,
            random=lambda: 0.5,
        )
        self.handler = Total(CircuitBreaker(bulkhead, self.breaker, mode="enforce", clock=monotonic))
        self.fills: Fills[SlowShelf] = Fills(self.loop, monotonic, time)
        self.keeper = SlowShelf()

    def start(self, exchange: Exchange, kind: Kind, *, key: bytes | None) -> Fill[SlowShelf]:
        own = fill_exchange(exchange, now=monotonic(), loop=self.loop, is_background=kind == "refresh")
        return self.fills.start(own, self.handler, self.keeper, key=key, kind=kind, max_body=MAX_BODY)

    async def answer(self, exchange: Exchange, *, is_private: bool = False) -> Response:
        """As a cache does it: whatever may not be shared is asked for anew."""
        key = None if is_private else exchange.request.target.encode()
        fill = None if key is None else self.fills.find(key)
        is_leader = fill is None
        if fill is None:
            fill = self.start(exchange, "miss", key=key)
        found = await fill.head(exchange.deadline)
        if is_leader or found.judged.stored is not None or found.status >= 500:
            with contextlib.suppress(LookupError):
                return fill.join(exchange)
        return await self.answer(exchange, is_private=True)

    async def at_rest(self) -> None:
        """Wait until nothing is held any more; raises TimeoutError."""
        await eventually(lambda: len(self.fills) == 0 and self.permits.in_use == 0 and self.permits.queued == 0)
        await eventually(lambda: self.client.busy == 0 and self.client.waiting == 0)


class Visitor:
    """Asks for something, reads it at some pace, and is cancelled at some point."""

    def __init__(self, site: Site, random: Random, outcomes: Counter[str]) -> None:
        self.site = site
        self.random = random
        self.outcomes = outcomes

    async def visit(self) -> None:
        random, loop = self.random, self.site.loop
        path = random.choices([*PATHS], [*PATHS.values()])[0]
        exchange = make_exchange("GET", f"{path}?{random.randrange(3)}", HOST, started=monotonic())
        exchange.criticality = random.choice(CRITICALITIES)
        exchange.request_id = "0" * 32
        exchange.deadline = exchange.started + random.choice([-BACKSTOP, 0.004 - BACKSTOP, 0.02, 5.0, 5.0])
        if random.random() < 0.1:
            self.site.start(exchange, "refresh", key=exchange.request.target.encode())
        task = loop.create_task(self.read(exchange))
        await self.moment()
        # In the middle of the turn in which the task may be woken, and before or after those that wake it.
        if random.random() < 0.5:
            task.cancel()
        else:
            loop.call_soon(task.cancel)
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        self.outcomes[outcome if isinstance(outcome, str) else type(outcome).__name__] += 1
        assert outcome == "answered" or isinstance(outcome, ProxyError | asyncio.CancelledError), outcome

    async def read(self, exchange: Exchange) -> str:
        response = await self.site.answer(exchange)
        try:
            body = response.body
            if not isinstance(body, bytes):
                pieces = []
                while piece := await body.read():
                    pieces.append(piece)
                    if self.random.random() < 0.2:
                        await asyncio.sleep(0)
                body = b"".join(pieces)
            assert body == BODIES[exchange.request.path], exchange.request.path
        except BaseException as error:
            exchange.error = error if isinstance(error, ProxyError) else None
            raise
        finally:
            response.close()
        return "answered"

    async def moment(self) -> None:
        """Some turns of the loop, or some milliseconds."""
        if self.random.random() < 0.5:
            for _ in range(self.random.randrange(12)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(self.random.random() * 0.008)


@contextlib.asynccontextmanager
async def running_site() -> AsyncIterator[tuple[Site, ScriptedUpstream]]:
    async with scripted() as upstream, client_for(upstream.url, max_connections=4, connect_timeout=1.0) as client:
        site = Site(client)
        try:
            yield site, upstream
        finally:
            await site.fills.close()


async def test_cancellations_at_any_await_leave_no_fill_behind() -> None:
    outcomes: Counter[str] = Counter()
    async with running_site() as (site, _):
        visitors = [Visitor(site, Random(seed), outcomes) for seed in range(AT_ONCE)]
        # Fills have to end in every way there is, and so have those who wait: else it would not be worth it.
        while outcomes["CancelledError"] < CANCELLATIONS or not (
            outcomes.keys() >= WAITERS_END and set(site.keeper.outcomes) >= FILLS_END
        ):
            await asyncio.gather(*(visitor.visit() for visitor in visitors))
        await site.at_rest()

        assert {stored.body for stored in site.keeper.kept} == {
            BODIES[path] for path in ("/fast", "/slow", "/streamed")
        }
        # Nothing has been lost: a probe that was would keep the breaker open.
        async with asyncio.timeout(WITHIN):
            while True:
                with contextlib.suppress(ProxyError):
                    response = await site.answer(make_exchange("GET", "/fast", HOST))
                    assert await read_all(response) == b"fast"
                    response.close()
                    break
                await asyncio.sleep(0.01)


async def test_connection_of_a_deserted_fill_is_closed_at_once() -> None:
    async with running_site() as (site, upstream):
        exchange = make_exchange("GET", "/begun", HOST)
        responses = [await site.answer(exchange) for _ in range(3)]
        assert upstream.hits("/begun") == 1
        for response in responses:
            assert not isinstance(response.body, bytes)
            assert await response.body.read()

        for response in responses:
            response.close()

        await site.at_rest()
        await upstream.wait_closed()
        assert site.keeper.outcomes[-1] == "cancelled"


async def test_thousand_misses_at_once_are_one_request() -> None:
    async with running_site() as (site, upstream):
        exchange = make_exchange("GET", "/streamed", HOST)

        responses = await asyncio.gather(*(site.answer(exchange) for _ in range(1000)))
        bodies = await asyncio.gather(*(read_all(response) for response in responses))
        for response in responses:
            response.close()

        assert set(bodies) == {b"streamed"}
        assert upstream.hits("/streamed") == 1
        await site.at_rest()
        assert site.keeper.outcomes == ["stored"]
