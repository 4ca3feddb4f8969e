"""A port that several workers share: who gets which connection, and that none is lost."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from proxy.config.addresses import ListenAddress
from proxy.server.listener import Listener
from proxy.server.shared_port import SharedPort, bind_shared

pytestmark = pytest.mark.both_loops

ANY_PORT = ListenAddress("127.0.0.1", 0)
CONNECTIONS = 40


class Greeter(asyncio.Protocol):
    """Says who has accepted."""

    def __init__(self, name: bytes) -> None:
        self.name = name

    def connection_made(self, transport: Any) -> None:
        transport.write(self.name)
        transport.close()


@contextlib.asynccontextmanager
async def serving(ports: dict[bytes, SharedPort]) -> AsyncIterator[dict[bytes, Listener]]:
    """Workers by name, each with sockets of its own, as if it had inherited them."""
    address = ports[next(iter(ports))].own[0].getsockname()
    listeners = {
        name: Listener(
            ListenAddress(*address[:2]),
            lambda name=name: Greeter(name),  # type: ignore[misc]
            SharedPort([sock.dup() for sock in port.own], [sock.dup() for sock in port.others]),
        )
        for name, port in ports.items()
    }
    for listener in listeners.values():
        await listener.start()
    try:
        yield listeners
    finally:
        for listener in listeners.values():
            await listener.stop()


async def who_answers(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


@contextlib.contextmanager
def closing(ports: list[SharedPort]) -> Iterator[list[SharedPort]]:
    try:
        yield ports
    finally:
        for port in ports:
            for sock in port.own:
                sock.close()


async def test_connections_are_spread_over_the_workers() -> None:
    with closing(bind_shared(ANY_PORT, 2)) as (first, second):
        async with serving({b"first": first, b"second": second}) as listeners:
            port = listeners[b"first"].port
            assert port == listeners[b"second"].port
            answers = [await who_answers(port) for _ in range(CONNECTIONS)]

    assert set(answers) == {b"first", b"second"}


async def test_worker_serves_what_its_neighbour_leaves_waiting() -> None:
    with closing(bind_shared(ANY_PORT, 2)) as (first, _):
        async with serving({b"first": first}) as listeners:
            answers = await asyncio.gather(*(who_answers(listeners[b"first"].port) for _ in range(CONNECTIONS)))

    assert set(answers) == {b"first"}


async def test_worker_that_stops_takes_what_waits_everywhere() -> None:
    with closing(bind_shared(ANY_PORT, 2)) as (first, _):
        async with serving({b"first": first}) as listeners:
            port = listeners[b"first"].port
            asked = [asyncio.ensure_future(who_answers(port)) for _ in range(10)]
            await asyncio.sleep(0)
            await asyncio.sleep(0.02)  # until the kernel has them in its queues, and before the next look at them
            await listeners[b"first"].stop()
            await listeners[b"first"].stop()

            assert set(await asyncio.gather(*asked)) == {b"first"}


async def test_port_that_somebody_shares_already_is_taken() -> None:
    with closing(bind_shared(ANY_PORT, 2)) as (first, _):
        taken = ListenAddress("127.0.0.1", first.own[0].getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            bind_shared(taken, 2)


async def test_every_address_of_a_name_is_listened_on() -> None:
    with closing(bind_shared(ListenAddress("", 0), 3)) as ports:
        for port in ports:
            assert [sock.family for sock in port.own] == [sock.family for sock in ports[0].own]
            assert [sock.getsockname() for sock in port.own] == [sock.getsockname() for sock in ports[0].own]
            assert len(port.others) == 2 * len(port.own)
            assert socket.AF_INET in [sock.family for sock in port.own]
