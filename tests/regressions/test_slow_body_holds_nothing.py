"""A client that declared a body and did not send it held a permit, and the probe of a half-open breaker."""

import asyncio
import contextlib

from tests.support.aftermath import until_metric
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, fetch, get
from tests.support.settings import policies
from tests.support.steps import echo, reply
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

UNFINISHED = (
    b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nab",
    b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
)


async def test_bodies_that_do_not_come_hold_no_permit() -> None:
    bulkhead = {"max_concurrent": 1, "max_queued": 0}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, route={"bulkhead": bulkhead})) as app:
        async with contextlib.AsyncExitStack() as stack:
            for head in UNFINISHED:
                client = await stack.enter_async_context(RawClient(app.port))
                await client.send(head)
            await until_in_flight(app, len(UNFINISHED))

            assert [(await get(app.port, "/y")).status for _ in range(3)] == [200] * 3
            assert await app.metric("proxy_bulkhead_in_use") == 0
        await until_in_flight(app, 0)


async def test_body_that_does_not_come_is_no_probe() -> None:
    breaker = {"consecutive_failures": 1, "break_duration": "50ms", "success_threshold": 1}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, route={"breaker": breaker})) as app:
        upstream.on("/y", reply(500), times=1)
        assert (await get(app.port, "/y")).status == 500
        await asyncio.sleep(0.1)
        async with RawClient(app.port) as client:
            await client.send(UNFINISHED[1])
            await until_in_flight(app, 1)

            assert (await get(app.port, "/y")).status == 200


async def test_bodies_arrive_as_they_were_sent() -> None:
    route = {"bulkhead": {"max_concurrent": 2}, "breaker": {}, "retry": {"methods": ["POST"]}}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, route=route)) as app:
        upstream.on("*", echo())
        for size in (0, 1, 64 * 1024, 64 * 1024 + 1, 300_000):
            body = bytes(index % 251 for index in range(size))
            assert (await fetch(app.port, "POST", "/x", body=body)).status == 200
            assert upstream.requests[-1].body == body
        async with RawClient(app.port) as client:
            await client.send(b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
            await eventually(lambda: upstream.requests[-1].body == b"ab", within=10.0)
            await client.send(b"1\r\nc\r\n0\r\n\r\n")
            assert (await client.read_response()).status == 200
            assert upstream.requests[-1].body == b"abc"


async def until_in_flight(app: RunningApp, count: int) -> None:
    await until_metric(app, count, "proxy_requests_in_flight")
