"""Connections that switch protocols, and those that do not (A15, D13)."""

import asyncio
from typing import Any

import pytest

from proxy.errors import ResponseIncomplete, UpstreamProtocolError, UpstreamTimeout
from proxy.exchange import Response, Tunnel
from tests.support.steps import Step, Turn, close, half_close, hang, reply, reset, send, stop_reading, tunnel
from tests.support.upstream import ScriptedUpstream
from tests.support.upstream_client import Client, client_for
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_loops

FIELDS = [
    ("Host", "h"),
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


async def switch(client: Client, **options: Any) -> tuple[Response, Tunnel]:
    response = await client.ask(headers=FIELDS, upgrade=True, **options)
    assert response.status == 101
    assert response.tunnel is not None
    return response, response.tunnel


async def test_bytes_pass_both_ways_after_a_101() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", tunnel(headers={"Sec-WebSocket-Accept": "x"}))
        response, stream = await switch(client)
        await stream.write(b"one")
        assert await stream.read() == b"one"
        await stream.write(b"two")
        assert await stream.read() == b"two"
        assert client.busy == 1
        stream.write_eof()
        assert await stream.read() == b""
        response.close()
        await eventually(lambda: client.busy == 0)

    request = upstream.requests[0]
    assert (request.header("Connection"), request.header("Upgrade")) == ("upgrade", "websocket")
    assert request.header("Sec-WebSocket-Key") == FIELDS[3][1]
    assert (b"Sec-WebSocket-Accept", b"x") in response.headers


async def test_bytes_behind_the_101_are_not_lost() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", send(SWITCH + b"hello"), hang())
        response, stream = await switch(client)
        assert await stream.read() == b"hello"
        response.close()


async def test_a15_refused_upgrade_is_an_ordinary_response() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", reply(200, {"Upgrade": "websocket", "Connection": "Upgrade"}, b"no"))
        response = await client.ask(headers=FIELDS, upgrade=True)
        assert client.idle == 1

    assert (response.status, response.body, response.tunnel) == (200, b"no", None)


async def test_101_without_upgrade_field_is_a_protocol_error() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), hang())
        with pytest.raises(UpstreamProtocolError):
            await client.ask(headers=FIELDS, upgrade=True)


@pytest.mark.parametrize("end", [close(), half_close()])
async def test_upstreams_end_is_the_tunnels_end(end: Step) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", send(SWITCH), end)
        response, stream = await switch(client)
        assert await stream.read() == b""
        response.close()
        assert client.busy == 0


async def test_reset_is_an_error_in_both_directions() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", send(SWITCH), reset())
        response, stream = await switch(client)
        with pytest.raises(ResponseIncomplete):
            await stream.read()
        with pytest.raises(ResponseIncomplete):
            await stream.write(b"x")
        stream.write_eof()
        response.close()
        assert client.busy == 0


async def test_silence_of_both_sides_ends_the_tunnel() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", send(SWITCH), hang())
        response, stream = await switch(client, idle=0.08, total=0.05)
        with pytest.raises(UpstreamTimeout) as caught:
            await stream.read()
        response.close()

    assert caught.value.kind == "idle"


async def test_bytes_of_one_side_keep_the_tunnel_open() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", send(SWITCH), _swallow)
        response, stream = await switch(client, idle=0.2)
        for _ in range(20):
            await stream.write(b"ping")
            await asyncio.sleep(0.02)
        assert client.busy == 1
        response.close()


async def test_writer_waits_for_a_slow_upstream_and_is_released_with_the_tunnel() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", send(SWITCH), stop_reading(), hang())
        response, stream = await switch(client)

        async def flood() -> None:
            while True:
                await stream.write(b"x" * 65536)

        writer = asyncio.ensure_future(flood())
        await asyncio.sleep(0.05)
        assert not writer.done()
        response.close()
        with pytest.raises(ResponseIncomplete):
            await writer


async def test_reader_that_does_not_read_pauses_the_upstream() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", tunnel())
        response, stream = await switch(client)
        sent = 4 << 20

        async def flood() -> None:
            for _ in range(sent >> 16):
                await stream.write(b"x" * 65536)

        writer = asyncio.ensure_future(flood())
        received = 0
        while received < sent:
            received += len(await stream.read())
        await writer
        response.close()

    assert received == sent


async def _swallow(turn: Turn) -> None:
    while await turn.wire.read():
        pass
