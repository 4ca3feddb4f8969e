"""Clients that are slow on purpose: with their head, their body, or with taking the response (faults C01 to C04)."""

import asyncio
import contextlib
import socket

import pytest

from tests.support.aftermath import assert_problem, assert_unharmed, until_metric, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, get, request_bytes
from tests.support.settings import policies
from tests.support.sidecar import Sidecar
from tests.support.steps import endless, head, reply
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

BODY_HEAD = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


async def crowd(stack: contextlib.AsyncExitStack, app: RunningApp | Sidecar, size: int) -> list[RawClient]:
    return [await stack.enter_async_context(RawClient(app.port)) for _ in range(size)]


async def trickle(client: RawClient, data: bytes) -> None:
    """A byte at a time until the other side has had enough."""
    with contextlib.suppress(ConnectionError):
        for position in range(len(data)):
            await client.send(data[position : position + 1])
            await asyncio.sleep(0.02)


async def test_c01_heads_that_trickle_in_are_ended_and_the_canary_does_not_notice() -> None:
    server = {"limits": {"header_timeout": "1s"}}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=server)) as app:
        async with contextlib.AsyncExitStack() as stack:
            clients = await crowd(stack, app, 100)
            trickles = [asyncio.ensure_future(trickle(c, request_bytes("GET", "/" + "x" * 4000))) for c in clients]
            await assert_unharmed(app)
            answers = await asyncio.gather(*(client.read_response() for client in clients))
            await asyncio.gather(*trickles)

        for answer in answers:
            assert_problem(answer, 408, "http_request_error")
        assert await app.metric("proxy_timeouts_total", kind="client") == 100
        assert upstream.hits_by_path().keys() == {"/unharmed"}


async def test_c01_connection_that_sends_nothing_is_closed() -> None:
    server = {"limits": {"header_timeout": "200ms"}}
    settings = policies("http://127.0.0.1:1", server=server)
    async with running_app(settings) as app, RawClient(app.port) as client:
        assert await client.ended_within() == "fin"
        assert client.unread == b""


async def test_c02_half_a_second_head_on_a_kept_connection_is_ended() -> None:
    server = {"limits": {"header_timeout": "300ms"}}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=server)) as app:
        async with RawClient(app.port) as client:
            assert (await client.request("GET", "/first")).status == 200
            await client.send(b"GET /second HTT")

            assert_problem(await client.read_response(), 408, "http_request_error")
            assert await client.ended_within() == "fin"
        assert upstream.hits_by_path() == {"/first": 1}


async def test_c02_half_a_head_sent_while_the_first_is_answered_is_ended() -> None:
    server = {"limits": {"header_timeout": "300ms"}}
    async with ScriptedUpstream() as upstream:
        settings = policies(upstream.url, server=server)
        async with running_app(settings) as app, RawClient(app.port) as client:
            await client.send(request_bytes("GET", "/first") + b"GET /second HTT")

            assert (await client.read_response()).status == 200
            assert_problem(await client.read_response(), 408, "http_request_error")
            assert await client.ended_within() == "fin"


async def test_c03_bodies_that_trickle_in_are_ended_and_hold_no_upstream_connection() -> None:
    server = {"limits": {"body_timeout": "500ms"}}
    async with ScriptedUpstream() as upstream:
        settings = policies(upstream.url, server=server, options={"max_connections": 100})
        async with running_app(settings) as app, contextlib.AsyncExitStack() as stack:
            clients = await crowd(stack, app, 100)
            for client in clients:
                await client.send(BODY_HEAD)
            trickles = [asyncio.ensure_future(trickle(client, b"x" * 1000)) for client in clients[:50]]
            answers = await asyncio.gather(*(client.read_response() for client in clients))
            await asyncio.gather(*trickles)

            for answer in answers:
                assert_problem(answer, 408, "http_request_error")
            assert {await client.ended_within() for client in clients[:50]} <= {"fin", "rst"}, "rst: still sending"
            assert {await client.ended_within() for client in clients[50:]} == {"fin"}
            await wait_at_rest(app)
            await assert_unharmed(app)
            assert await app.metric("proxy_timeouts_total", kind="client") == 100
            assert await app.metric("proxy_errors_total", source="upstream") == 0
        assert not any(request.complete for request in upstream.requests if request.method == "POST")


async def test_c04_clients_that_do_not_read_are_dropped_and_their_memory_is_bounded() -> None:
    server = {"limits": {"write_timeout": "1500ms"}}
    length = 200_000_000
    async with ScriptedUpstream() as upstream:
        upstream.on("/large", head(200, {"Content-Length": str(length)}), endless())
        settings = policies(upstream.url, server=server, options={"max_connections": 40})
        async with Sidecar(settings) as sidecar, contextlib.AsyncExitStack() as stack:
            before = sidecar.rss()
            clients = [await stack.enter_async_context(RawClient(sidecar.port, rcvbuf=4096)) for _ in range(30)]
            for client in clients:
                client.stop_reading()
                await client.send_request("GET", "/large")
            await upstream.wait_for_requests(30)
            await assert_unharmed(sidecar)
            assert sidecar.rss() - before < 30 * (1 << 20)

            await eventually(lambda: upstream.open_connections <= 1)
            await wait_at_rest(sidecar)
            assert await sidecar.metric("proxy_requests_total", route="everything", status="499") == 30
            assert await sidecar.metric("proxy_errors_total", source="upstream") == 0
            await assert_unharmed(sidecar)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_c04_client_that_leaves_the_end_of_its_response_unread_is_dropped_too(connection: str) -> None:
    """The last bytes wait in our own buffer when the exchange is over, and no request will ever follow."""
    server = {"limits": {"write_timeout": "500ms", "keepalive": "500ms", "header_timeout": "500ms"}}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=server)) as app:
        sizes = range(2_400_000, 6_000_000, 40_000)
        async with contextlib.AsyncExitStack() as stack:
            for size in sizes:
                upstream.on(f"/{size}", reply(200, body=bytes(size)))
                client = await stack.enter_async_context(RawClient(app.port, rcvbuf=4096))
                client.stop_reading()
                await client.send_request("GET", f"/{size}", {"Connection": connection})
            await upstream.wait_for_requests(len(sizes))
            await wait_at_rest(app)
            assert (await get(app.port, "/unharmed")).status == 200

            await until_metric(app, 0, "proxy_client_connections")


@pytest.mark.both_loops
async def test_client_whose_first_request_comes_with_its_connection_may_rest_afterwards() -> None:
    """The request is there before aiohttp's request loop is: nothing of the next one has come all the same."""
    server = {"limits": {"header_timeout": "200ms"}}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=server)) as app:
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", app.port)) as client:
            client.sendall(request_bytes("GET", "/"))
            client.setblocking(False)
            async with asyncio.timeout(10):
                assert (await loop.sock_recv(client, 65536)).startswith(b"HTTP/1.1 200 ")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.6):
                    await loop.sock_recv(client, 65536)
