"""After a 101: bytes are copied both ways until either side ends."""

import asyncio
from collections.abc import Awaitable, Callable

from proxy.errors import ProxyError
from proxy.exchange import Exchange, Tunnel
from proxy.server.incoming import IncomingRequest

BUFFER = 64 * 1024
"""Bytes of the client held for an upstream that does not take them."""


class ClientInput:
    """Takes over a connection's input from aiohttp's HTTP parser (the hook it has for WebSocket readers)."""

    def __init__(self, incoming: IncomingRequest) -> None:
        self._connection = incoming.connection
        self._pieces: list[bytes] = []
        self._size = 0
        self._arrived = asyncio.Event()
        self._ended = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """aiohttp's hook: bytes from the client."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > BUFFER:
            self._connection.pause_reading()
        self._arrived.set()
        return False, b""

    def feed_eof(self) -> None:
        """aiohttp's hook: the client sends no more."""
        self._ended = True
        self._arrived.set()

    async def read(self) -> bytes:
        """All that has come, b"" at the end."""
        while not self._pieces and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        data = b"".join(self._pieces)
        self._pieces.clear()
        if self._size > BUFFER:
            self._connection.resume_reading()
        self._size = 0
        return data


async def run_tunnel(
    incoming: IncomingRequest, exchange: Exchange, tunnel: Tunnel, drain: Callable[[], Awaitable[None]]
) -> None:
    """Copy until either side ends, or the tunnel's idle timeout passes. Raises ProxyError when it does not end well.

    `drain` waits, within limits, until the client has taken enough of what was written.
    """
    client = ClientInput(incoming)
    incoming.connection.set_parser(client)  # type: ignore[arg-type]  # it calls feed_data and feed_eof only
    upwards = asyncio.create_task(_copy_up(client, tunnel))
    try:
        while data := await tunnel.read():
            transport = incoming.connection.transport
            if transport is None:
                return
            transport.write(data)
            exchange.bytes_out += len(data)
            if incoming.connection.writing_paused:
                await drain()
    finally:
        upwards.cancel()
        await asyncio.gather(upwards, return_exceptions=True)


async def _copy_up(client: ClientInput, tunnel: Tunnel) -> None:
    try:
        while data := await client.read():
            await tunnel.write(data)
        tunnel.write_eof()
    except ProxyError:
        return  # reading from the tunnel says the same, with the reason
