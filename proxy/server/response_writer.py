"""Writes a Response to the client: in one go when it is complete in memory, else piece by piece with backpressure."""

from email.utils import formatdate
from math import inf
from time import monotonic, time

from proxy.errors import ClientDisconnected
from proxy.exchange import Body, Exchange, Response
from proxy.protocol.encoded import kinds_of, status_line
from proxy.protocol.fields import CONTENT_LENGTH, DATE, INTERNAL, KINDS
from proxy.server.connection import Connection

NO_BODY = frozenset({204, 304, *range(100, 200)})
"""RFC 9110 section 6.4.1: these have no content, whatever their fields say."""
_END = (b"", b"")
"""The empty line, and what comes after the head."""


class HttpDate:
    """The Date field's line, formatted once a second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        """`Date:` with IMF-fixdate of this second, RFC 9110 section 5.6.7."""
        second = int(time())
        if second != self._second:
            self._second = second
            self._line = b"Date: " + formatdate(second, usegmt=True).encode()
        return self._line


class ResponseWriter:
    """Writes responses for one edge; `via` is the value it adds to each."""

    def __init__(self, via: bytes) -> None:
        self._via = b"Via: " + via
        self._date = HttpDate()

    def whole(self, exchange: Exchange, response: Response, body: bytes, *, keep_alive: bool) -> bytes:
        """Head and body of a response that is complete in memory."""
        if response.status in NO_BODY:
            return b"\r\n".join(self._head(exchange, response, keep_alive))
        if exchange.request.method == "HEAD":
            return b"\r\n".join(self._head(exchange, response, keep_alive, length=len(body) if body else None))
        exchange.bytes_out = length = len(body)
        lines = self._head(exchange, response, keep_alive, length=length)
        lines[-1] = body  # in one go: a large one is copied once
        return b"\r\n".join(lines)

    async def stream(
        self,
        connection: Connection,
        exchange: Exchange,
        response: Response,
        body: Body,
        *,
        keep_alive: bool,
        stall: float,
    ) -> bool:
        """Write the head, then each piece as it comes; whether the connection can go on.

        `stall` is how long the client may take nothing, in seconds. Raises ClientDisconnected, and whatever reading the
        body raises: the caller then aborts the connection.
        """
        bodiless = exchange.request.method == "HEAD" or response.status in NO_BODY
        chunked = not (bodiless or kinds_of(response.headers) & CONTENT_LENGTH)
        if chunked and exchange.request.version == (1, 0):
            chunked = keep_alive = False
        connection.send(b"\r\n".join(self._head(exchange, response, keep_alive, chunked=chunked)))
        if bodiless:
            return keep_alive
        while data := await body.read():
            exchange.bytes_out += len(data)
            connection.send(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            if connection.writing_paused:
                await self.drain(connection, exchange, stall)
        if chunked:
            connection.send(b"0\r\n\r\n")
        return keep_alive

    async def drain(self, connection: Connection, exchange: Exchange, stall: float) -> None:
        """Wait until the client has taken enough, at most `stall` seconds and until the deadline.

        Raises ClientDisconnected.
        """
        deadline = inf if exchange.deadline is None else exchange.deadline
        connection.writing = True
        connection.stall.set(min(monotonic() + stall, deadline))
        try:
            await connection.drained()
        except ConnectionError:
            raise ClientDisconnected(cause="the connection was lost while the response was written") from None
        finally:
            connection.writing = False
            connection.stall.clear()

    def switch(self, connection: Connection, exchange: Exchange, response: Response) -> None:
        """Write the 101 that turns the connection into a tunnel. Raises ClientDisconnected."""
        response.headers.append((b"Connection", b"Upgrade"))
        connection.send(b"\r\n".join(self._head(exchange, response, keep_alive=True)))

    def _head(
        self,
        exchange: Exchange,
        response: Response,
        keep_alive: bool,
        *,
        length: int | None = None,
        chunked: bool = False,
    ) -> list[bytes]:
        """Lines of the head, an empty one and what follows it, nothing yet. Its own Content-Length outdoes `length`.

        What is encoded already holds if the fields still begin with those that it stands for.
        """
        fields = response.headers
        encoded = response.encoded
        if (
            encoded is not None
            and encoded.fields == (fields if len(fields) == encoded.count else fields[: encoded.count])
            and encoded.status == response.status
            and encoded.reason == response.reason
        ):
            fields = fields[encoded.count :]
            kinds = encoded.kinds
            begin = encoded.lines
        else:
            kinds = 0
            begin = status_line(response.status, response.reason)
        if fields:
            kinds |= kinds_of(fields)
        if kinds & INTERNAL:  # the request id of an upstream that sends one back: ours is the same, or the right one
            fields = [field for field in fields if not KINDS[field[0]] & INTERNAL]
        lines = [begin, *map(b": ".join, fields)]
        if length is not None and not kinds & CONTENT_LENGTH:
            lines.append(b"Content-Length: %d" % length)
        elif chunked:
            lines.append(b"Transfer-Encoding: chunked")
        if not kinds & DATE and b"date" not in response.withheld:
            lines.append(self._date.line())
        if not keep_alive:
            lines.append(b"Connection: close")
        elif exchange.request.version == (1, 0):
            lines.append(b"Connection: keep-alive")
        if b"via" not in response.withheld:
            lines.append(self._via)
        if b"x-request-id" not in response.withheld:
            lines.append(b"X-Request-ID: " + exchange.request_id.encode())
        lines += _END
        return lines
