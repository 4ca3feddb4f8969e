"""Writes a Response to the client: one write when it is complete in memory, else piece by piece with backpressure."""

from email.utils import formatdate
from http import HTTPStatus
from math import inf
from time import monotonic, time

from proxy.errors import ClientDisconnected
from proxy.exchange import Body, Exchange, Response
from proxy.server.connection import Connection, IncomingRequest

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
STATUS_LINES = {status: b"HTTP/1.1 %d %b\r\n" % (status, PHRASES.get(status, b"")) for status in range(100, 600)}
NO_BODY = frozenset({204, 304, *range(100, 200)})
"""RFC 9110 section 6.4.1: these have no content, whatever their fields say."""


class HttpDate:
    """The Date field's value, formatted once a second."""

    __slots__ = ("_second", "_value")

    def __init__(self) -> None:
        self._second = 0
        self._value = b""

    def now(self) -> bytes:
        """IMF-fixdate of this second, RFC 9110 section 5.6.7."""
        second = int(time())
        if second != self._second:
            self._second = second
            self._value = formatdate(second, usegmt=True).encode()
        return self._value


class ResponseWriter:
    """Writes responses for one edge; `via` is the value it adds to each."""

    def __init__(self, via: bytes) -> None:
        self._via = b"Via: " + via + b"\r\n"
        self._date = HttpDate()

    async def write(
        self, incoming: IncomingRequest, exchange: Exchange, response: Response, *, keep_alive: bool, timeout: float
    ) -> bool:
        """Write head and body; whether the connection can go on. `timeout`: longest stall of the client, seconds.

        Raises ClientDisconnected, and whatever reading the body raises: the caller then aborts the connection.
        """
        connection = incoming.connection
        body = response.body
        bodiless = response.status in NO_BODY or exchange.request.method == "HEAD"
        if isinstance(body, bytes):
            length = None if response.status in NO_BODY or (bodiless and not body) else len(body)
            head = self._head(exchange, response, keep_alive, length, chunked=False)
            self._send(connection, head if bodiless else head + body)
            exchange.bytes_out = 0 if bodiless else len(body)
            await self._drain(incoming, exchange, timeout)
            return keep_alive
        chunked = not bodiless and not _has_length(response)
        if chunked and exchange.request.version == (1, 0):
            chunked = keep_alive = False
        self._send(connection, self._head(exchange, response, keep_alive, None, chunked=chunked))
        if not bodiless:
            await self._stream(incoming, exchange, body, timeout, chunked=chunked)
        return keep_alive

    def switch(self, connection: Connection, response: Response) -> None:
        """Write the 101 that turns the connection into a tunnel."""
        head = [STATUS_LINES[101], b"Connection: Upgrade\r\nUpgrade: websocket\r\n", self._via]
        head += [b"%b: %b\r\n" % field for field in response.headers]
        head.append(b"\r\n")
        self._send(connection, b"".join(head))

    def _head(
        self, exchange: Exchange, response: Response, keep_alive: bool, length: int | None, *, chunked: bool
    ) -> bytes:
        status = response.status
        parts = [b"HTTP/1.1 %d %b\r\n" % (status, response.reason)] if response.reason else [STATUS_LINES[status]]
        dated = False
        for name, value in response.headers:
            lowered = name.lower()
            if lowered == b"content-length":
                length = None
            elif lowered == b"date":
                dated = True
            elif lowered == b"x-request-id":
                continue
            parts.append(b"%b: %b\r\n" % (name, value))
        if length is not None:
            parts.append(b"Content-Length: %d\r\n" % length)
        elif chunked:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        if not dated:
            parts.append(b"Date: %b\r\n" % self._date.now())
        if not keep_alive:
            parts.append(b"Connection: close\r\n")
        elif exchange.request.version == (1, 0):
            parts.append(b"Connection: keep-alive\r\n")
        parts.append(self._via)
        parts.append(b"X-Request-ID: %b\r\n\r\n" % exchange.request_id.encode())
        return b"".join(parts)

    async def _stream(
        self, incoming: IncomingRequest, exchange: Exchange, body: Body, timeout: float, *, chunked: bool
    ) -> None:
        connection = incoming.connection
        while data := await body.read():
            exchange.bytes_out += len(data)
            self._send(connection, b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            await self._drain(incoming, exchange, timeout)
        if chunked:
            self._send(connection, b"0\r\n\r\n")

    @staticmethod
    def _send(connection: Connection, data: bytes) -> None:
        transport = connection.transport
        if transport is None:
            raise ClientDisconnected(cause="the connection was lost while the response was written")
        try:
            transport.write(data)
        except RuntimeError as error:  # uvloop, when the handle was closed in the meantime
            raise ClientDisconnected(cause=str(error)) from None

    @staticmethod
    async def _drain(incoming: IncomingRequest, exchange: Exchange, timeout: float) -> None:
        """Wait until the client has taken enough of what was written, within the write timeout and the deadline."""
        connection = incoming.connection
        if not connection.writing_paused:
            return
        deadline = inf if exchange.deadline is None else exchange.deadline
        connection.writing = True
        connection.stall.set(min(monotonic() + timeout, deadline))
        try:
            await incoming.writer.drain()
        except ConnectionError:
            raise ClientDisconnected(cause="the connection was lost while the response was written") from None
        finally:
            connection.writing = False
            connection.stall.clear()


def _has_length(response: Response) -> bool:
    return any(name.lower() == b"content-length" for name, _ in response.headers)
