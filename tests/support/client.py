"""RawClient: sends exactly the bytes that it is told to, reads answers strictly, says how the connection ended."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Self

import h11

from tests.support.messages import (
    HeadersLike,
    Malformed,
    Response,
    encode_headers,
    read_chunked,
    read_head,
    read_sized,
)
from tests.support.waiting import WITHIN
from tests.support.wire import Ended, Wire, WireEnded

_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-5][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)")


class RawClient:
    """One connection: `async with RawClient(port) as client`.

    `rcvbuf` (bytes) makes a slow reader together with `stop_reading()`.
    """

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        rcvbuf: int | None = None,
        tls: ssl.SSLContext | None = None,
        server_name: str = "localhost",
        within: float = WITHIN,
    ) -> None:
        self.address = (host, port)
        self.rcvbuf = rcvbuf
        self.tls = tls
        self.server_name = server_name
        self.within = within
        self.wire = Wire()

    async def connect(self) -> Self:
        """What entering does; `close()` is what leaving does."""
        sock = socket.socket()
        sock.setblocking(False)
        if self.rcvbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.rcvbuf)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(sock, self.address)
        except BaseException:
            sock.close()
            raise
        server_name = self.server_name if self.tls else None
        await loop.create_connection(lambda: self.wire, sock=sock, ssl=self.tls, server_hostname=server_name)
        return self

    async def close(self) -> None:
        """Drop the connection, whatever state it is in."""
        self.wire.transport.abort()
        await self.wire.closed.wait()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- sending ---

    async def send(self, *pieces: bytes) -> None:
        """Send exactly these bytes, waiting after each piece until the kernel has it; raises WireEnded."""
        for piece in pieces:
            await self.wire.write(piece)

    async def send_request(
        self, method: str, target: str, headers: HeadersLike | None = None, body: bytes | None = None
    ) -> None:
        """A well-formed request; Host and Content-Length are added where `headers` do not hold them."""
        await self.send(request_bytes(method, target, headers, body))

    def half_close(self) -> None:
        """FIN: nothing more will be sent; answers can still be read."""
        self.wire.half_close()

    def reset(self) -> None:
        """RST, at once."""
        self.wire.reset()

    # --- reading ---

    async def request(
        self, method: str, target: str, headers: HeadersLike | None = None, body: bytes | None = None
    ) -> Response:
        """Send a well-formed request and read its answer."""
        await self.send_request(method, target, headers, body)
        return await self.read_response(method)

    async def read_response(self, method: str = "GET", *, check: bool = True) -> Response:
        """One whole answer, checked against h11 too (unless not); truncation shows in `complete` and `ended`.

        Raises Malformed, TimeoutError, and WireEnded when the connection ends before a complete head.
        """
        response = await self.read_head()
        async with asyncio.timeout(self.within):
            pieces = [piece async for piece in self.read_body(response, method)]
        response.body = b"".join(pieces)
        if check and response.complete and response.status != 101:
            check_with_h11(response, method)
        return response

    async def read_head(self) -> Response:
        """The head of the next final answer (or 101), with the interim ones before it; then use `read_body`."""
        interim: list[Response] = []
        while True:
            self.wire.log = bytearray()
            async with asyncio.timeout(self.within):
                start, headers = await read_head(self.wire)
            match = _STATUS_LINE.fullmatch(start)
            if match is None:
                raise Malformed(f"status line {start[:200]!r}")
            status, reason = int(match[2]), match[3].decode("utf-8", "surrogateescape")
            response = Response(headers=headers, status=status, reason=reason, version=match[1].decode())
            response.raw, self.wire.log = self.wire.log, None
            if status >= 200 or status == 101:
                response.interim = interim
                return response
            interim.append(response)

    async def read_body(self, response: Response, method: str = "GET") -> AsyncGenerator[bytes]:
        """The pieces of the body, for answers too large to hold; fills `complete`, `trailers`, `raw` and `ended`."""
        self.wire.log = response.raw
        try:
            async for piece in self._pieces(response, method):
                yield piece
        except WireEnded:
            pass
        else:
            response.complete = response.complete or self.wire.ended != "rst"
        finally:
            self.wire.log = None
            response.ended = self.wire.ended

    async def ended_within(self, seconds: float = WITHIN) -> Ended:
        """How the server ended the connection; "open" when it did not in time."""
        try:
            async with asyncio.timeout(seconds):
                return await self.wire.wait_ended()
        except TimeoutError:
            return "open"

    @property
    def unread(self) -> bytes:
        """Bytes that arrived beyond what was read so far."""
        return bytes(self.wire.buffer)

    def stop_reading(self) -> None:
        """Take nothing more from the socket until `resume_reading()`."""
        self.wire.stop_reading()

    def resume_reading(self) -> None:
        self.wire.resume_reading()

    async def _pieces(self, response: Response, method: str) -> AsyncIterator[bytes]:
        if has_no_body(response, method):
            response.complete = True
        elif response.header_list("Transfer-Encoding"):
            if not response.is_chunked or response.header_list("Content-Length"):
                raise Malformed(f"framing {response.headers!r}")
            async for piece in read_chunked(self.wire, response):
                yield piece
            response.complete = True
        elif (size := response.content_length) is not None:
            async for piece in read_sized(self.wire, size):
                yield piece
            response.complete = True
        else:
            while piece := await self.wire.read():
                yield piece


def has_no_body(response: Response, method: str) -> bool:
    """Whether the answer ends with its head: RFC 9112 section 6.3."""
    return method in ("HEAD", "CONNECT") or response.status in (101, 204, 304)


def check_with_h11(response: Response, method: str) -> None:
    """Let h11 read the same bytes as the answer to a request of that method; raises Malformed when it objects."""
    peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    peer.send(h11.Request(method=method, target="/", headers=[("Host", "x"), ("Connection", "keep-alive")]))
    peer.send(h11.EndOfMessage())
    body = bytearray()
    try:
        peer.receive_data(bytes(response.raw))
        if response.ended != "open":
            peer.receive_data(b"")
        while not isinstance(event := peer.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                raise Malformed("h11 waits for more of a complete answer")
            if isinstance(event, h11.Data):
                body += event.data
    except h11.RemoteProtocolError as error:
        raise Malformed(f"h11: {error}") from error
    if body != response.body:
        raise Malformed("h11 reads another body")


def request_bytes(
    method: str, target: str, headers: HeadersLike | None = None, body: bytes | None = None, *, host: str = "localhost"
) -> bytes:
    """A request on the wire; Host and Content-Length are added where `headers` do not hold them."""
    fields = encode_headers(headers or {})
    lower = b"\r\n" + fields.lower()
    if b"\r\nhost:" not in lower:
        fields = b"Host: " + host.encode() + b"\r\n" + fields
    if body is not None and b"\r\ncontent-length:" not in lower and b"\r\ntransfer-encoding:" not in lower:
        fields += b"Content-Length: %d\r\n" % len(body)
    line = f"{method} {target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")
    return line + fields + b"\r\n" + (body or b"")


def chunked(*pieces: bytes) -> bytes:
    """A chunked body, last chunk included."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def fetch(
    port: int, method: str, target: str, headers: HeadersLike | None = None, body: bytes | None = None
) -> Response:
    """One exchange on a connection of its own."""
    async with RawClient(port) as client:
        return await client.request(method, target, headers, body)


async def get(port: int, target: str, headers: HeadersLike | None = None) -> Response:
    """One GET on a connection of its own."""
    return await fetch(port, "GET", target, headers)
