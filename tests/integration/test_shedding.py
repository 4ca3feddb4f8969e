"""The edge refuses by criticality while the event loop is late. The lag is injected: no test loads the machine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.aftermath import assert_problem, assert_unharmed, until_metric, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, fetch, get
from tests.support.messages import Response
from tests.support.settings import free_port, policies
from tests.support.steps import Gate, reply
from tests.support.upstream import ScriptedUpstream

CRITICALITIES = ["critical", "default", "sheddable", "background"]
ROUTES: list[dict[str, Any]] = [
    {"name": name, "match": f"* /{name}/*", "criticality": name} for name in CRITICALITIES
] + [{"name": "rest", "match": "* /*", "headers": {"response": {"set": {"X-Served-By": "edge"}}}}]


@contextlib.asynccontextmanager
async def shedding_app(*, samples: int = 0, **server: Any) -> AsyncIterator[tuple[RunningApp, ScriptedUpstream]]:
    """An app whose loop has been late that often in a row, and which refuses whatever it may refuse."""
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url, routes=ROUTES, server=server)) as app,
    ):
        edge, [watch, *_] = app.app._edge, app.app._tasks
        watch.cancel()  # the loop's real lag, or its absence, has no say
        edge._shedder._random = lambda: 0.0
        be_late(app, samples)
        yield app, upstream


def be_late(app: RunningApp, samples: int, seconds: float = 0.2) -> None:
    for _ in range(samples):
        app.app._edge.lagged(seconds)


async def statuses(app: RunningApp) -> list[int]:
    return [(await get(app.port, f"/{criticality}/1")).status for criticality in CRITICALITIES]


def assert_shed(answer: Response) -> None:
    assert_problem(answer, 503, "http_request_denied")
    assert answer.json()["type"] == "urn:tidegate:problem:overloaded"
    assert answer.header("Connection") == "close"
    assert 1 <= int(answer.header("Retry-After") or 0) <= 5


async def test_two_late_samples_are_no_overload() -> None:
    async with shedding_app(samples=2) as (app, _):
        assert await statuses(app) == [200, 200, 200, 200]
        assert await app.metric("proxy_shed_total") == 0


async def test_least_important_are_refused_first_and_critical_never() -> None:
    async with shedding_app() as (app, _):
        be_late(app, 3)
        assert await statuses(app) == [200, 200, 200, 503]
        be_late(app, 1)
        assert await statuses(app) == [200, 200, 503, 503]
        be_late(app, 20)
        assert await statuses(app) == [200, 503, 503, 503]

        assert await app.metric("proxy_shed_level") == 1
        shed = [await app.metric("proxy_shed_total", criticality=each) for each in CRITICALITIES]
        assert shed == [0, 1, 2, 3]


async def test_shed_request_is_told_when_to_come_back_and_its_connection_ends() -> None:
    async with shedding_app(samples=10) as (app, upstream):
        async with RawClient(app.port) as client:
            answer = await client.request("GET", "/anything")
            assert_shed(answer)
            assert answer.header("X-Served-By") == "edge"
            assert (await client.ended_within(), client.unread) == ("fin", b"")
        assert upstream.requests == []


async def test_shed_request_is_counted_and_logged_on_its_route() -> None:
    async with shedding_app(samples=10) as (app, _):
        await get(app.port, "/background/1")

        [line] = await app.access_log()
        assert (line["route"], line["status"], line["error"]) == ("background", 503, "http_request_denied")
        assert await app.metric("proxy_requests_total", route="background", status="503") == 1
        decided = {"route": "background", "policy": "edge", "decision": "shed"}
        assert await app.metric("proxy_policy_decisions_total", **decided) == 1
        await wait_at_rest(app)


async def test_body_of_a_shed_request_is_not_asked_for() -> None:
    async with shedding_app(samples=10) as (app, upstream):
        async with RawClient(app.port) as client:
            await client.send_request("POST", "/upload", {"Expect": "100-continue", "Content-Length": "1000000"})
            answer = await client.read_response("POST")
            assert_shed(answer)
            assert answer.interim == []
            assert await client.ended_within() == "fin"
        assert upstream.requests == []


async def test_requests_behind_a_shed_one_are_not_answered() -> None:
    async with shedding_app(samples=10) as (app, upstream):
        async with RawClient(app.port) as client:
            await client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /critical/1 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert_shed(await client.read_response())
            assert (await client.ended_within(), client.unread) == ("fin", b"")
        assert upstream.requests == []


async def test_shedding_ends_by_itself_when_the_loop_is_in_time_again() -> None:
    async with shedding_app(samples=10) as (app, _):
        be_late(app, 6, seconds=0.0)
        assert await statuses(app) == [200, 503, 503, 503]
        be_late(app, 1, seconds=0.0)
        assert await statuses(app) == [200, 200, 503, 503]
        be_late(app, 13, seconds=0.0)
        assert await app.metric("proxy_shed_level") == 0
        await assert_unharmed(app)


@pytest.mark.parametrize(("limit", "samples"), [("off", 1), ("1s", 20)])
async def test_changed_threshold_holds_from_the_next_sample_on(limit: str, samples: int) -> None:
    async with shedding_app(samples=10) as (app, upstream):
        app.write_policies(policies(upstream.url, routes=ROUTES, server={"limits": {"loop_lag": limit}}))
        assert (await app.app.reload()).ok
        be_late(app, samples, seconds=0.5)
        assert await app.metric("proxy_shed_level") == 0
        await assert_unharmed(app)


async def test_admin_and_health_answer_while_everything_is_shed_and_no_connection_is_free() -> None:
    port = free_port()
    gate = Gate()
    async with shedding_app(health=f"127.0.0.1:{port}", limits={"max_connections": 20}) as (app, upstream):
        upstream.on("*", gate, reply(200))
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(RawClient(app.port)) for _ in range(20)]
            for client in clients:
                await client.send_request("GET", "/held")
            await upstream.wait_for_requests(20)
            be_late(app, 10)

            async with asyncio.timeout(10):
                for path in ("/healthz", "/readyz", "/metrics"):
                    assert (await get(app.admin_port, path)).status == 200
                    assert (await get(port, path)).status == 200
                assert (await get(app.admin_port, "/routes")).status == 200
                with contextlib.suppress(ConnectionError):
                    await get(app.port, "/one-too-many")
                await until_metric(app, 1, "proxy_client_connections_refused_total")
            gate.open()
            assert [(await client.read_response()).status for client in clients] == [200] * 20


async def test_the_watch_itself_feeds_the_shedder() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        edge = app.app._edge
        be_late(app, 3, seconds=60.0)
        before = edge._shedder.level
        await until_metric(app, 0, "proxy_shed_level")
        assert before == 0.2


async def test_shed_upload_leaves_nothing_behind() -> None:
    async with shedding_app(samples=10) as (app, _):
        answer = await fetch(app.port, "PUT", "/critical/1", body=b"x" * 1000)
        assert answer.status == 200
        assert_shed(await fetch(app.port, "PUT", "/upload", body=b"x" * 1000))
        await wait_at_rest(app)


@pytest.mark.parametrize(("trusted", "status"), [(["127.0.0.1"], 200), ([], 503)])
async def test_only_a_trusted_caller_can_say_how_important_a_request_is(trusted: list[str], status: int) -> None:
    async with shedding_app(samples=10, trusted_proxies=trusted) as (app, _):
        answer = await get(app.port, "/background/1", {"X-Request-Criticality": "critical"})
        assert answer.status == status
