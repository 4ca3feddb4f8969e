"""Requests that wait in the outbox: what the upstream does in the meantime must not reach them (fault D09)."""

import asyncio
import select
import socket
from collections.abc import Iterator

import pytest

from proxy.outbox import Outbox
from tests.support.upstream_client import client_for

pytestmark = pytest.mark.both_loops

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """An upstream in this thread, so that it can act in the middle of a turn of the loop."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


async def accept(listener: socket.socket) -> socket.socket:
    peer, _ = await asyncio.get_running_loop().sock_accept(listener)
    peer.setblocking(False)
    return peer


async def serve(peer: socket.socket, answer: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    request = await loop.sock_recv(peer, 4096)
    await loop.sock_sendall(peer, answer)
    return request


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("late", [POISON, b""], ids=["late response", "end"])
async def test_what_arrives_before_the_write_ends_the_connection_and_not_the_request(
    listener: socket.socket, method: str, late: bytes
) -> None:
    outbox = Outbox(asyncio.get_running_loop())
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with client_for(url, outbox=outbox) as client:
        first = asyncio.ensure_future(client.fetch("/first"))
        peer = await accept(listener)
        await serve(peer, ANSWER)
        await first

        loop = asyncio.get_running_loop()
        loop.call_soon(outbox.post, lambda _: None, b"")  # the first write of the turn: the next one waits
        second = asyncio.ensure_future(client.fetch("/second", method))
        loop.call_soon(speak, peer, late)
        fresh = await accept(listener)
        request = await serve(fresh, ANSWER)

        assert (await second)[1] == b"ok"
        assert request.startswith(method.encode() + b" /second")
        assert client.observer.connections["opened"] == 2
        peer.close()
        fresh.close()


def speak(peer: socket.socket, late: bytes) -> None:
    """Runs between the request's entry into the outbox and its flush; returns once the kernel has delivered."""
    if late:
        peer.send(late)
    else:
        peer.shutdown(socket.SHUT_WR)
    select.select([], [peer], [], 1.0)
