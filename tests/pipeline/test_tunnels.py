"""WebSocket tunnels through the whole proxy: set up after a real 101, carried both ways, ended by anybody."""

import asyncio
import time

import pytest

from tests.support.aftermath import assert_problem, assert_unharmed, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, request_bytes
from tests.support.messages import Response
from tests.support.settings import policies
from tests.support.sidecar import Sidecar
from tests.support.steps import Gate, Step, close, endless, hang, head, reply, reset, send, stop_reading, tunnel
from tests.support.upstream import ScriptedUpstream

pytestmark = pytest.mark.both_loops

HANDSHAKE = [
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
]
ACCEPT = [("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]
SWITCH = head(101, [("Upgrade", "websocket"), ("Connection", "Upgrade"), *ACCEPT])


async def switch(client: RawClient, target: str = "/ws") -> Response:
    """Ask for a tunnel and read the 101."""
    answer = await client.request("GET", target, HANDSHAKE)
    assert answer.status == 101
    return answer


async def test_bytes_pass_both_ways_after_a_real_101() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/ws", tunnel(headers=ACCEPT))
        async with RawClient(app.port) as client:
            answer = await switch(client)
            assert (answer.header("Upgrade"), answer.header("Connection")) == ("websocket", "Upgrade")
            assert answer.header("Sec-WebSocket-Accept") == ACCEPT[0][1]
            assert answer.header("Transfer-Encoding") is answer.header("Content-Length") is None

            for message in (b"\x81\x00", b"hello", bytes(range(256)) * 1000, b"GET / HTTP/1.1\r\n\r\n"):
                await client.send(message)
                assert await client.wire.read_exactly(len(message)) == message
        (request,) = upstream.requests
        assert request.header("Upgrade") == "websocket"
        assert request.header("Connection") == "upgrade"
        assert request.header("Sec-WebSocket-Key") == HANDSHAKE[2][1]


async def test_bytes_sent_with_the_handshake_are_not_lost_in_either_direction() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        both = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello"
        gate = Gate()
        upstream.on("/ws", send(both), gate)
        async with RawClient(app.port) as client:
            await client.send(request_bytes("GET", "/ws", HANDSHAKE) + b"early bird")
            assert (await client.read_response()).status == 101
            assert await client.wire.read_exactly(5) == b"hello"
            await upstream.wait_until(lambda: bytes(upstream.wires[0].buffer) == b"early bird")
            gate.open()


async def test_tunnel_counts_as_in_flight_and_uses_one_connection() -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/ws", tunnel())
        async with running_app(policies(upstream.url, route={"timeout": {"total": "300ms"}})) as app:
            async with RawClient(app.port) as client:
                await switch(client)
                await asyncio.sleep(0.5)
                assert await app.metric("proxy_requests_in_flight", route="everything") == 1
                assert await app.metric("proxy_upstream_connections", state="busy") == 1
                await client.send(b"still here after the total")
                await client.wire.read_exactly(26)
            await wait_at_rest(app)
            (line,) = await app.access_log()
            assert (line["status"], line["bytes_out"]) == (101, 26)


@pytest.mark.parametrize("end", [close(), reset()], ids=["fin", "rst"])
async def test_end_of_the_upstream_ends_the_client(end: Step) -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/ws", SWITCH, send(b"last words"), gate, end)
        async with RawClient(app.port) as client:
            await switch(client)
            assert await client.wire.read_exactly(10) == b"last words"
            gate.open()
            assert await client.ended_within() in ("fin", "rst")
        await wait_at_rest(app)


@pytest.mark.parametrize("how", ["fin", "rst", "half-close"])
async def test_end_of_the_client_ends_the_upstream(how: str) -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/ws", SWITCH, hang())
        async with RawClient(app.port) as client:
            await switch(client)
            match how:
                case "fin":
                    client.wire.close()
                case "rst":
                    client.reset()
                case _:
                    client.half_close()
            assert await upstream.wait_closed(1) in ("fin", "rst")
        await wait_at_rest(app)


async def test_silence_on_both_sides_ends_the_tunnel() -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/ws", tunnel())
        async with running_app(policies(upstream.url, route={"timeout": {"idle": "400ms"}})) as app:
            async with RawClient(app.port) as client:
                await switch(client)
                for _ in range(6):
                    await asyncio.sleep(0.1)
                    await client.send(b"x")
                    await client.wire.read_exactly(1)
                started = time.monotonic()
                assert await client.ended_within() in ("fin", "rst")
                assert 0.3 < time.monotonic() - started < 4
            await upstream.wait_closed(1)
            await wait_at_rest(app)
            assert await app.metric("proxy_timeouts_total", kind="idle") == 1


async def test_client_that_does_not_read_stops_the_upstream_and_is_dropped_in_the_end() -> None:
    server = {"limits": {"write_timeout": "500ms"}}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=server)) as app:
        upstream.on("/ws", SWITCH, endless())
        async with RawClient(app.port, rcvbuf=4096) as client:
            await switch(client)
            client.stop_reading()
            await upstream.wait_closed(1)
        await wait_at_rest(app)


async def test_upstream_that_does_not_read_stops_the_client() -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/ws", SWITCH, stop_reading(), hang())
        async with running_app(policies(upstream.url, route={"timeout": {"idle": "1s"}})) as app:
            async with RawClient(app.port) as client:
                await switch(client)
                sent = 0
                with pytest.raises(TimeoutError):
                    while sent < 100_000_000:
                        async with asyncio.timeout(0.5):
                            await client.send(b"x" * 65536)
                        sent += 65536
                assert sent < 50_000_000
            await wait_at_rest(app)
            assert await app.metric("proxy_timeouts_total", kind="idle") == 1


async def test_declined_upgrade_is_answered_over_http_and_what_follows_is_no_tunnel() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/ws", reply(200, body=b"no thanks"))
        async with RawClient(app.port) as client:
            answer = await client.request("GET", "/ws", HANDSHAKE)
            assert (answer.status, answer.body) == (200, b"no thanks")
        await wait_at_rest(app)
        await assert_unharmed(app)


async def test_upgrade_to_anything_but_a_websocket_is_not_passed_on() -> None:
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url)) as app,
        RawClient(app.port) as client,
    ):
        answer = await client.request("GET", "/", [("Connection", "Upgrade"), ("Upgrade", "h2c")])

        assert answer.status == 200
        assert upstream.requests[0].header("Upgrade") is None
        await assert_unharmed(app, client)


async def test_route_without_an_upstream_answers_the_handshake_with_a_problem() -> None:
    async with running_app(policies("http://127.0.0.1:1")) as app, RawClient(app.port) as client:
        assert_problem(await client.request("GET", "/ws", HANDSHAKE), 502, "connection_refused")


async def test_drain_closes_tunnels_at_both_ends() -> None:
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url)) as sidecar:
        upstream.on("/ws", tunnel())
        async with RawClient(sidecar.port) as client:
            await switch(client)
            exiting = asyncio.ensure_future(sidecar.stop())

            assert await client.ended_within() == "fin"
            assert await upstream.wait_closed(1) == "fin"
            assert await exiting == 0


async def test_many_tunnels_come_and_go() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/ws", tunnel())
        await asyncio.gather(*(_visit(app, number) for number in range(40)))
        await wait_at_rest(app)
        await assert_unharmed(app)


async def _visit(app: RunningApp, number: int) -> None:
    async with RawClient(app.port) as client:
        await switch(client)
        message = b"%d" % number
        await client.send(message)
        assert await client.wire.read_exactly(len(message)) == message
