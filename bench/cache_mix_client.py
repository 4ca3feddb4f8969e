"""A client connection of the cache experiment: one request at a time, at little cost."""

import asyncio
from time import monotonic
from typing import NamedTuple, cast

from bench.cache_mix_workload import HOST, Ask
from bench.overload_load import content_length

BROKEN = -1
"""In place of a status: the connection ended without an answer."""
PATIENCE = 45.0
"""Seconds that an answer may take: more than any time limit of the policies."""


class Answer(NamedTuple):
    """What became of one request; times are seconds of `monotonic`."""

    status: int
    cache_status: bytes
    """The value of that field, empty where there is none."""
    body: bytes
    asked: float
    answered: float


class Client:
    """Connects when it has to; `port` is one of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: _Connection | None = None

    async def connect(self) -> None:
        """Connect now rather than with the first request. Raises OSError."""
        if self._connection is None or self._connection.is_lost:
            loop = asyncio.get_running_loop()
            _, self._connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)

    async def ask(self, ask: Ask) -> Answer:
        """Send one request and wait for the answer."""
        try:
            await self.connect()
        except OSError:
            now = monotonic()
            return Answer(BROKEN, b"", b"", now, now)
        connection = cast("_Connection", self._connection)
        asked = monotonic()
        head, body = await connection.send(_encoded(ask))
        if not head:
            return Answer(BROKEN, b"", b"", asked, monotonic())
        lines = head.lower()
        if b"\r\nconnection: close" in lines:
            self.close()
        _, _, status = lines.partition(b"\r\ncache-status:")
        return Answer(int(head[9:12]), status.partition(b"\r\n")[0].strip(), body, asked, monotonic())

    def close(self) -> None:
        """Close at once."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.is_lost = False
        self._buffer = b""
        self._waiter: asyncio.Future[tuple[bytes, bytes]] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, data: bytes) -> "asyncio.Future[tuple[bytes, bytes]]":
        """Head and body of the answer; empty ones where there is none."""
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        if self.is_lost:
            self._answer(b"", b"")
        else:
            self._transport.write(data)
            self._timer = loop.call_later(PATIENCE, self._transport.abort)
        return waiter

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        if len(body) >= content_length(head.lower()):
            self._buffer = b""
            self._answer(head, body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._answer(b"", b"")

    def _answer(self, head: bytes, body: bytes) -> None:
        if self._timer is not None:
            self._timer.cancel()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result((head, body))

    def close(self) -> None:
        self._transport.abort()


def _encoded(ask: Ask) -> bytes:
    head = f"{ask.method} {ask.target} HTTP/1.1\r\nHost: {HOST}\r\n"
    if ask.body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(ask.body)}\r\n"
    return head.encode() + b"\r\n" + ask.body
