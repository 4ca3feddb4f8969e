"""The bulkhead through the whole proxy: who reaches the upstream, who waits, who is refused, what a reload changes."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.aftermath import assert_problem, assert_unharmed, until_metric, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, get
from tests.support.messages import Response
from tests.support.settings import policies
from tests.support.steps import Gate, chunk, head, last_chunk, reply, sequence, tunnel
from tests.support.upstream import ScriptedUpstream

pytestmark = pytest.mark.both_loops

QUEUED = "proxy_bulkhead_queued"
IN_USE = "proxy_bulkhead_in_use"


def bulkhead(upstream: ScriptedUpstream, **settings: Any) -> str:
    """A file whose only route has a bulkhead of one permit, where `settings` do not say otherwise."""
    numbers = {"max_concurrent": 1, "max_queued": 10, "queue_timeout": "10s", **settings}
    return policies(upstream.url, route={"bulkhead": numbers})


def with_pool(upstream: ScriptedUpstream, routes: list[dict[str, Any]], **settings: Any) -> str:
    """A file with these routes and a shared bulkhead `pool` of one permit."""
    pool = {"max_concurrent": 1, "max_queued": 10, "queue_timeout": "10s", **settings}
    return json.dumps({**json.loads(policies(upstream.url, routes=routes)), "bulkheads": {"pool": pool}})


def begin(app: RunningApp, target: str) -> asyncio.Task[Response]:
    """Ask on a connection of its own."""
    return asyncio.ensure_future(get(app.port, target))


async def assert_all_back(app: RunningApp) -> None:
    await wait_at_rest(app)
    for name in (IN_USE, QUEUED):
        await until_metric(app, 0, name)


async def test_no_more_than_the_limit_are_with_the_upstream_and_all_are_answered() -> None:
    gates = [Gate() for _ in range(6)]
    async with ScriptedUpstream() as upstream, running_app(bulkhead(upstream, max_concurrent=2)) as app:
        for gate in gates:
            upstream.on("*", sequence(gate, reply()), times=1)
        tasks = [begin(app, f"/{number}") for number in range(6)]
        await until_metric(app, 4, QUEUED)

        for served, gate in enumerate(gates):
            await gate.reached.wait()
            assert await app.metric(IN_USE) == min(2, 6 - served)
            assert len(upstream.requests) == min(served + 2, 6)
            gate.open()
            await upstream.wait_for_requests(min(served + 3, 6))
            await until_metric(app, min(2, 5 - served), IN_USE)

        assert [task.status for task in await asyncio.gather(*tasks)] == [200] * 6
        await assert_all_back(app)
        assert await app.metric("proxy_bulkhead_wait_seconds_count") == 4
        assert await app.metric("proxy_policy_decisions_total") == 0


async def test_permit_is_held_to_the_end_of_the_body() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(bulkhead(upstream)) as app, RawClient(app.port) as client:
        upstream.on("/long", head(200, {"Transfer-Encoding": "chunked"}), chunk(b"a"), gate, chunk(b"b"), last_chunk())
        await client.send_request("GET", "/long")
        answer = await client.read_head()
        waiter = begin(app, "/next")
        await until_metric(app, 1, QUEUED)
        assert upstream.hits("/next") == 0

        gate.open()
        assert b"".join([piece async for piece in client.read_body(answer)]) == b"ab"

        assert (await waiter).status == 200
        await assert_all_back(app)


async def test_open_websocket_holds_its_permit() -> None:
    fields = {"Connection": "Upgrade", "Upgrade": "websocket"}
    async with ScriptedUpstream() as upstream, running_app(bulkhead(upstream, max_queued=0)) as app:
        upstream.on("/socket", tunnel())
        async with RawClient(app.port) as client:
            await client.send_request("GET", "/socket", fields)
            assert (await client.read_head()).status == 101
            assert_problem(await get(app.port, "/"), 503, "connection_limit_reached")

        await assert_all_back(app)
        assert (await get(app.port, "/")).status == 200


async def test_full_bulkhead_refuses_at_once_and_says_when_to_come_back() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(bulkhead(upstream, max_queued=1)) as app:
        upstream.on("/held", gate, reply())
        tasks = [begin(app, "/held")]
        await gate.reached.wait()
        tasks.append(begin(app, "/held"))
        await until_metric(app, 1, QUEUED)

        async with RawClient(app.port) as client:
            answer = await client.request("GET", "/refused")
            assert_problem(answer, 503, "connection_limit_reached")
            assert answer.json()["type"] == "urn:tidegate:problem:bulkhead-full"
            assert 1 <= int(answer.header("Retry-After") or 0) <= 5
            gate.open()
            assert [each.status for each in await asyncio.gather(*tasks)] == [200, 200]
            await assert_unharmed(app, client)

        assert upstream.hits("/refused") == 0
        assert await app.metric("proxy_policy_decisions_total", policy="bulkhead", decision="full") == 1
        await assert_all_back(app)


async def test_wait_ends_with_the_queue_timeout() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(bulkhead(upstream, queue_timeout="20ms")) as app:
        upstream.on("/held", gate, reply())
        held = begin(app, "/held")
        await gate.reached.wait()

        assert_problem(await get(app.port, "/late"), 503, "connection_limit_reached")

        gate.open()
        assert (await held).status == 200
        assert upstream.hits("/late") == 0
        assert await app.metric("proxy_policy_decisions_total", policy="bulkhead", decision="queue_timeout") == 1
        await assert_all_back(app)


async def test_deadline_that_passes_in_the_queue_is_nobodys_fault_upstream() -> None:
    gate = Gate()
    routes = [
        {"name": "held", "match": "GET /held", "bulkhead": "pool"},
        {"name": "late", "match": "GET /late", "bulkhead": "pool", "timeout": "50ms"},
    ]
    async with ScriptedUpstream() as upstream, running_app(with_pool(upstream, routes)) as app:
        upstream.on("/held", gate, reply())
        held = begin(app, "/held")
        await gate.reached.wait()

        answer = await get(app.port, "/late")

        assert answer.json()["type"] == "urn:tidegate:problem:deadline-exceeded"
        assert await app.metric("proxy_timeouts_total", kind="total") == 1
        assert await app.metric("proxy_errors_total", source="upstream") == 0
        gate.open()
        assert (await held).status == 200
        assert upstream.hits("/late") == 0
        await assert_all_back(app)


async def test_routes_that_name_one_bulkhead_share_its_permits() -> None:
    gate = Gate()
    routes: list[dict[str, Any]] = [
        {"name": "one", "match": "GET /one", "bulkhead": "pool"},
        {"name": "other", "match": "GET /other", "bulkhead": "pool"},
        {"name": "apart", "match": "GET /apart", "bulkhead": {"max_concurrent": 1, "max_queued": 0}},
    ]
    async with ScriptedUpstream() as upstream, running_app(with_pool(upstream, routes, max_queued=0)) as app:
        upstream.on("/one", gate, reply())
        held = begin(app, "/one")
        await gate.reached.wait()

        assert_problem(await get(app.port, "/other"), 503, "connection_limit_reached")
        assert (await get(app.port, "/apart")).status == 200

        gate.open()
        assert (await held).status == 200
        assert (await get(app.port, "/other")).status == 200
        assert await app.metric("proxy_bulkhead_limit", bulkhead="pool") == 1
        await assert_all_back(app)


async def test_refusals_do_not_open_the_breaker_and_are_not_retried() -> None:
    gate = Gate()
    route = {
        "bulkhead": {"max_concurrent": 1, "max_queued": 0},
        "breaker": {"consecutive_failures": 1},
        "retry": {"max_attempts": 3, "base_delay": "1ms"},
    }
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, route=route)) as app:
        upstream.on("/held", gate, reply())
        held = begin(app, "/held")
        await gate.reached.wait()

        for _ in range(5):
            assert_problem(await get(app.port, "/"), 503, "connection_limit_reached")
        gate.open()

        assert (await held).status == 200
        assert (await get(app.port, "/")).status == 200
        assert await app.metric("proxy_policy_decisions_total", policy="bulkhead") == 5
        assert await app.metric("proxy_retries_total") == 0
        await assert_all_back(app)


async def test_reload_with_more_permits_lets_those_who_wait_go_on() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(bulkhead(upstream)) as app:
        upstream.on("/held", gate, reply())
        held = begin(app, "/held")
        await gate.reached.wait()
        waiter = begin(app, "/next")
        await until_metric(app, 1, QUEUED)

        app.write_policies(bulkhead(upstream, max_concurrent=2))
        assert (await app.app.reload()).ok

        assert (await waiter).status == 200
        gate.open()
        assert (await held).status == 200
        await assert_all_back(app)


async def test_reload_with_fewer_permits_admits_nobody_until_enough_are_back() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(bulkhead(upstream, max_concurrent=2)) as app:
        upstream.on("/first", sequence(gate, reply()))
        upstream.on("/second", sequence(second := Gate(), reply()))
        tasks = [begin(app, "/first"), begin(app, "/second")]
        await asyncio.gather(gate.reached.wait(), second.reached.wait())

        app.write_policies(bulkhead(upstream, max_concurrent=1))
        await app.app.reload()
        tasks.append(begin(app, "/next"))
        await until_metric(app, 1, QUEUED)
        gate.open()
        await until_metric(app, 1, IN_USE)
        assert upstream.hits("/next") == 0
        second.open()

        assert [each.status for each in await asyncio.gather(*tasks)] == [200] * 3
        await assert_all_back(app)


async def test_hundred_reloads_under_load_admit_nobody_extra() -> None:
    most = 0
    current = 0

    async def work(turn: object) -> None:
        nonlocal most, current
        current += 1
        most = max(most, current)
        await asyncio.sleep(0.001)
        current -= 1

    async def ask(app: RunningApp) -> None:
        async with RawClient(app.port) as client:
            while not done.is_set():
                assert (await client.request("GET", "/")).status == 200

    done = asyncio.Event()
    async with ScriptedUpstream() as upstream, running_app(bulkhead(upstream, max_concurrent=3)) as app:
        upstream.on("*", work, reply())
        clients = [asyncio.ensure_future(ask(app)) for _ in range(8)]
        for number in range(100):
            app.write_policies(bulkhead(upstream, max_concurrent=3, max_queued=10 + number))
            assert (await app.app.reload()).ok
        done.set()
        await asyncio.gather(*clients)

        assert most == 3
        await assert_all_back(app)


async def test_shadow_refuses_nothing_and_says_what_it_would_have_done() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(bulkhead(upstream, max_queued=1, mode="shadow")) as app:
        upstream.on("/held", gate, reply())
        tasks = [begin(app, "/held") for _ in range(4)]
        await upstream.wait_for_requests(4)
        assert (await app.metric(IN_USE, mode="shadow"), await app.metric(QUEUED, mode="shadow")) == (1, 1)

        gate.open()
        assert [each.status for each in await asyncio.gather(*tasks)] == [200] * 4

        for decision, count in (("queued", 1), ("full", 2)):
            labels = {"policy": "bulkhead", "mode": "shadow", "decision": decision}
            await until_metric(app, count, "proxy_policy_decisions_total", **labels)
        await assert_all_back(app)


async def test_adaptive_limit_falls_when_the_upstream_runs_into_timeouts() -> None:
    route = {"bulkhead": {"max_concurrent": 50, "adaptive": True}, "timeout": {"first_byte": "20ms"}}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, route=route)) as app:
        upstream.on("/slow", gate := Gate(), reply())
        assert await app.metric("proxy_bulkhead_limit") == 20

        await asyncio.sleep(0.1)  # a window has to be over
        assert_problem(await get(app.port, "/slow"), 504, "http_response_timeout")

        gate.open()
        assert await app.metric("proxy_bulkhead_limit") == 18
        await assert_all_back(app)
