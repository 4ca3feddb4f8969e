"""One client connection: aiohttp's protocol with our limits, our timers and our answers to what it cannot parse.

What is used of aiohttp's internals here is pinned by tests/integration/test_aiohttp_pins.py.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Protocol

from aiohttp import StreamReader, http_exceptions, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from proxy.alarm import Alarm
from proxy.config.model import Limits
from proxy.errors import BadRequest, HeadersTooLarge, ProxyError, UriTooLong
from proxy.protocol.forwarded import ClientAddress, Forwarding
from proxy.server.request_body import ClientBody
from proxy.watchdog import Watchdog

READ_BUFFER = 64 * 1024
"""Bytes that aiohttp may hold of a request body before it stops reading (it holds up to twice this)."""
LINGER = 2.0
"""Seconds to read on after an early answer, so that the client sees the answer and not a reset."""
MAX_LINE = 8192
MAX_FIELD = 8190
"""Not the same as MAX_LINE: aiohttp's error tells the two apart only by the limit that it names."""
MAX_FIELDS = 128


class IncomingRequest:
    """What aiohttp hands over for a message, without the cost of its own request class."""

    __slots__ = ("_task", "connection", "message", "payload", "writer")

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        connection: "Connection",
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None] | None",
    ) -> None:
        self.message = message
        self.payload = payload
        self.connection = connection
        self.writer = writer
        self._task = task

    def _finish(self) -> None:
        """aiohttp's hook for the end of the request; nothing to do."""

    def _cancel(self, error: BaseException) -> None:
        """aiohttp's hook for a lost connection: wake whoever reads the body."""
        self.payload.set_exception(error)


class Answered:
    """Tells aiohttp that the response has been written, and whether the connection goes on."""

    __slots__ = ("keep_alive",)

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, _request: object) -> None:
        """Nothing is left to do."""

    async def write_eof(self) -> None:
        """Nothing is left to do."""


class Edge(Protocol):
    """What a connection needs from the edge that owns it."""

    @property
    def limits(self) -> Limits:
        """The limits in force now."""
        ...

    def admit(self, connection: "Connection") -> bool:
        """Whether one more connection may be opened."""
        ...

    def closed(self, connection: "Connection") -> None:
        """The connection is gone."""
        ...

    async def answer(self, request: IncomingRequest) -> Answered:
        """Answer a well-formed message."""
        ...

    async def refuse(self, request: IncomingRequest, error: ProxyError) -> Answered:
        """Answer a message that could not be parsed."""
        ...

    def refuse_slow_head(self, connection: "Connection") -> None:
        """Answer a head that does not get finished, and close."""
        ...


class Connection(RequestHandler):
    """A client connection with a timer for each thing the client can keep us waiting for.

    `stall` covers the request head and, while `writing`, the client's receive window; `body_stall` the request body.
    """

    __slots__ = (
        "_edge",
        "_heard",
        "body",
        "body_stall",
        "clients",
        "forwarding",
        "peer",
        "stall",
        "watchdog",
        "writing",
    )

    def __init__(self, edge: Edge, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        limits = edge.limits
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.keepalive,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for "no log"
            max_line_size=MAX_LINE,
            max_field_size=MAX_FIELD,
            max_headers=MAX_FIELDS,
            lingering_time=LINGER,
            read_bufsize=READ_BUFFER,
        )
        self._edge = edge
        self._heard = False
        self.stall = Alarm(loop, self._stalled)
        self.body_stall = Alarm(loop, self._body_stalled)
        self.watchdog = Watchdog(loop)
        self.body: ClientBody | None = None
        self.writing = False
        self.peer = ""
        """The peer's address, without the port; empty on a Unix socket."""
        self.forwarding: Forwarding | None = None
        """What is known about the client side, by the word of `clients`; kept from request to request."""
        self.clients: ClientAddress | None = None

    @property
    def has_upgraded(self) -> bool:
        """Whether the request that is being answered asks for a WebSocket: its parser has stopped."""
        return self._upgraded and not self._messages

    @property
    def is_idle(self) -> bool:
        """Whether the connection waits for a request of which nothing has come."""
        return self._waiter is not None and not self._heard and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for the first request, or refuse the connection at once."""
        if not self._edge.admit(self):
            self._force_close = True
            self._manager = None
            transport.abort()  # type: ignore[attr-defined]  # every stream transport has it
            return
        peername = transport.get_extra_info("peername")
        self.peer = peername[0] if isinstance(peername, tuple) else ""
        super().connection_made(transport)
        self.stall.set(monotonic() + self._edge.limits.header_timeout)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel what is under way for this client and give everything back."""
        self.stall.close()
        self.body_stall.close()
        self.watchdog.close()
        if self._manager is not None:
            self._edge.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; a head that has begun must be complete within `header_timeout`."""
        waiter = self._waiter
        if waiter is None:
            # Busy. What is not body is the next request, perhaps only part of it.
            self._heard = self.body is None or self.body.is_complete
            super().data_received(data)
            return
        super().data_received(data)
        if waiter.done():
            self._heard = False
        elif data and not self._heard:
            self._heard = True
            self.stall.set(monotonic() + self._edge.limits.header_timeout)

    def rest(self) -> None:
        """The answer is out. If part of the next request is here already, its time begins now."""
        self.body = None
        self.stall.clear()
        if self._heard and not self._messages:
            self.stall.set(monotonic() + self._edge.limits.header_timeout)

    def no_linger(self) -> None:
        """Close as soon as the answer is out: nothing more is expected of the client."""
        self._lingering_time = 0.0

    def abort(self) -> None:
        """Drop the connection so that the client sees the answer is not complete (a reset where TCP allows)."""
        if self.transport is not None:
            self.transport.abort()

    def _make_error_handler(self, err_info: Any) -> Callable[[Any], Awaitable[Any]]:
        """aiohttp's hook for messages that its parser refused: answer as for any other refusal, echo nothing."""
        error = _parser_error(err_info.exc)

        async def refuse(request: IncomingRequest) -> Answered:
            return await self._edge.refuse(request, error)

        return refuse

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """aiohttp's hook for an exception that escaped `Edge.answer`, which answers all it can: give up."""
        self.log_exception("The edge failed to answer a request", exc_info=exc)
        self.abort()
        raise ConnectionResetError("nothing sensible can be sent any more")

    def _stalled(self) -> None:
        if self.writing:
            self.abort()
        elif self._heard:
            self._edge.refuse_slow_head(self)
        else:
            self.force_close()

    def _body_stalled(self) -> None:
        if self.body is not None:
            self.body.fail_slow()


def _parser_error(exc: BaseException) -> ProxyError:
    """What aiohttp's parser objected to, in our words; its own echo input bytes."""
    if isinstance(exc, http_exceptions.LineTooLong):
        if exc.args[1] == MAX_LINE:
            return UriTooLong("The request target is too long.")
        return HeadersTooLarge("A header field is too long.")
    if isinstance(exc, http_exceptions.BadHttpMessage) and "too many headers" in exc.message.lower():
        return HeadersTooLarge("The request has too many header fields.")
    return BadRequest("The request is not valid HTTP/1.1.")
