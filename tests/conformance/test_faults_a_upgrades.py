"""Fault A15: an upgrade that nobody grants opens no tunnel, and what follows it is lost to nobody."""

import asyncio

import pytest

from tests.support.edge import MARK, SECOND, check_last, request, running_edge
from tests.support.steps import Gate, reply

pytestmark = pytest.mark.both_loops

DECLINED_HERE = [b"foo", b"h2c", b"websocket, foo", b"foo, websocket", b"websocket/13", b"web\xc5\xbfocket"]
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


def upgrade(protocol: bytes) -> bytes:
    return b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + protocol + b"\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize("protocol", DECLINED_HERE)
async def test_a15_other_upgrades_are_ordinary_requests(protocol: bytes) -> None:
    async with running_edge() as edge:
        received = await edge.passes(request(upgrade(protocol), method="GET"), pipelined=False)

    for name in ("Connection", "Upgrade", "HTTP2-Settings"):
        assert received.header(name) is None


@pytest.mark.parametrize("protocol", DECLINED_HERE)
async def test_a15_request_right_behind_an_upgrade_is_not_swallowed_in_silence(protocol: bytes) -> None:
    async with running_edge() as edge:
        await edge.passes(request(upgrade(protocol), method="GET"), ends=True)


@pytest.mark.parametrize("body", [b"", MARK, SECOND], ids=["none", "mark", "request"])
async def test_a15_request_behind_an_upgrade_with_a_body_is_not_swallowed_in_silence(body: bytes) -> None:
    fields = upgrade(b"h2c") + b"Content-Length: %d\r\n" % len(body)

    async with running_edge() as edge:
        received = await edge.passes(request(fields, body), ends=True)

    assert received.body == body


async def test_a15_no_answer_is_taken_for_that_of_a_swallowed_request() -> None:
    gate = Gate()
    async with running_edge() as edge, edge.client() as client:
        edge.upstream.on("/zq7", gate, reply(200, body=b"first"))
        await client.send(request(upgrade(b"foo"), method="GET") + SECOND)
        await gate.reached.wait()
        await client.send(SECOND.replace(b"/second", b"/third"))
        gate.open()
        response = await client.read_response()
        await check_last(client, response)

    assert response.body == b"first"
    assert [each.target for each in edge.upstream.requests] == ["/zq7"]


@pytest.mark.parametrize("pipelined", [True, False])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a15_websocket_that_the_upstream_declines_opens_no_tunnel(method: str, pipelined: bool) -> None:
    fields = WEBSOCKET + (b"Content-Length: 2\r\n" if method == "POST" else b"")

    async with running_edge() as edge:
        received = await edge.passes(
            request(fields, b"ab" if method == "POST" else b"", method=method), ends=True, pipelined=pipelined
        )

    assert received.header("Upgrade") == "websocket"


async def test_a15_bytes_behind_a_websocket_request_stay_here_until_it_is_granted() -> None:
    gate = Gate()
    async with running_edge() as edge, edge.client() as client:
        edge.upstream.on("/zq7", gate, reply(403, body=b"no"))
        await client.send(request(WEBSOCKET, method="GET") + SECOND)
        await gate.reached.wait()
        await client.send(SECOND * 10)
        gate.open()
        response = await client.read_response()
        await check_last(client, response)
        await edge.is_sound()

    assert response.status == 403
    assert [each.target for each in edge.upstream.requests] == ["/zq7", "/canary"]


async def test_a15_websocket_request_in_chunks_is_an_ordinary_request() -> None:
    async with running_edge() as edge:
        received = await edge.passes(
            request(WEBSOCKET + b"Transfer-Encoding: chunked\r\n", b"0\r\nX: y\r\n\r\n"), ends=True
        )

    assert received.header("Upgrade") is None


async def test_a15_websocket_behind_a_chunked_request_does_not_make_that_one_a_tunnel() -> None:
    raw = request(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n") + request(WEBSOCKET, method="GET")

    async with running_edge() as edge:
        received = await edge.passes(raw, ends=True)

    assert (received.method, received.header("Upgrade"), received.header("Connection")) == ("POST", None, None)


async def test_a15_upgrade_without_connection_is_an_ordinary_request() -> None:
    async with running_edge() as edge:
        received = await edge.passes(request(b"Upgrade: websocket\r\n", method="GET"))

    assert received.header("Upgrade") is None


async def test_a15_pipelined_websocket_waits_for_its_turn() -> None:
    gate = Gate()
    async with running_edge() as edge, edge.client() as client:
        edge.upstream.on("/second", gate, reply(200, body=b"second"))
        await client.send(SECOND + request(WEBSOCKET, method="GET"))
        await gate.reached.wait()
        await asyncio.sleep(0)
        assert [each.target for each in edge.upstream.requests] == ["/second"]
        gate.open()
        assert (await client.read_response()).body == b"second"
        await check_last(client, await client.read_response())

    assert edge.upstream.requests[0].header("Upgrade") is None
    assert edge.upstream.requests[1].header("Upgrade") == "websocket"
