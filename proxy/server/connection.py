"""One client connection: aiohttp's protocol with our limits, our timers and our answers to what it cannot parse.

A message that arrives complete on an idle connection takes the lane: its handler is driven at once, without aiohttp's
request loop. Everything else (pipelined, a body still to come, an upgrade, a parser error) goes through that loop. Both
end in the same `Edge.answer`. What is used of aiohttp's internals is pinned by tests/integration/test_aiohttp_pins.py.
"""

import asyncio
import os
import select
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any

from aiohttp import EMPTY_PAYLOAD, StreamReader, http_exceptions, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from proxy.alarm import Alarm
from proxy.errors import ClientDisconnected
from proxy.exchange import Exchange
from proxy.protocol.forwarded import ClientAddress, Forwarding
from proxy.protocol.headers import RawHeaders
from proxy.protocol.request_checks import CheckedFields
from proxy.server.boundary import Boundary
from proxy.server.incoming import Answered, Edge, IncomingRequest
from proxy.server.interim import interim_head
from proxy.server.known_heads import KnownHead
from proxy.server.parser_error import MAX_FIELD, MAX_FIELDS, MAX_LINE, parser_error
from proxy.server.request_body import ClientBody
from proxy.watchdog import Watchdog

READ_BUFFER = 64 * 1024
"""Bytes that aiohttp may hold of a request body before it stops reading (it holds up to twice this)."""
LINGER = 2.0
"""Seconds to read on after an early answer, so that the client sees the answer and not a reset."""
SMALL = 32 * 1024
"""Bytes of an answer that may wait in the outbox; what is larger is worth a write of its own."""
HAS_LANE = os.environ.get("TIDEGATE_LANE") != "off"
"""Without it every message goes through aiohttp's request loop: to tell the two apart in a test or a diagnosis."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

if sys.version_info >= (3, 12):

    def _start(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """A task that starts at once: what never waits is answered without a turn of the event loop."""
        return asyncio.Task(coroutine, loop=loop, eager_start=True)

else:

    def _start(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """A task that starts with the next turn of the event loop."""
        return asyncio.Task(coroutine, loop=loop)


def _ends_head(data: bytes) -> bool:
    """Whether nothing comes after the end of the last head in `data`; else that is the beginning of the next.

    The end of a head may itself have come in two pieces, of which this is the second.
    """
    return data.endswith((b"\n\r\n", b"\n\n")) or data in (b"\r\n", b"\n")


class Connection(RequestHandler):
    """A client connection with a timer for each thing the client can keep us waiting for.

    `stall` covers the request head and, while `writing`, the client's receive window; `body_stall` the request body.
    """

    __slots__ = (
        "_edge",
        "_forwarded",
        "_heard",
        "_lane",
        "_unsent",
        "_wire",
        "_with_via",
        "body",
        "body_stall",
        "boundary",
        "clients",
        "fields",
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
        self._lane: asyncio.Task[None] | None = None
        self._wire: asyncio.Transport | None = None
        """The transport until it is gone; aiohttp's own reference ends when closing begins."""
        self._unsent = 0
        """Bytes that an answer which is over had left to send when somebody last looked."""
        self.boundary = Boundary()
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
        self.fields: CheckedFields | None = None
        """The header fields of the last request: most clients repeat theirs."""
        self._forwarded: RawHeaders | None = None
        self._with_via: RawHeaders = ()

    @property
    def has_upgraded(self) -> bool:
        """Whether the request that is being answered asks for a WebSocket: its parser has stopped."""
        return self._upgraded and not self._messages

    @property
    def is_final(self) -> bool:
        """Whether the request that is being answered has to be the last one."""
        return self.boundary.is_final and not self._messages

    @property
    def is_idle(self) -> bool:
        """Whether the connection waits for a request of which nothing has come."""
        return self._lane is None and self._waiter is not None and not self._heard and not self._messages

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
        self._wire = self.transport
        self.stall.set(monotonic() + self._edge.limits.header_timeout)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel what is under way for this client and give everything back."""
        self._wire = None
        self.stall.close()
        self.body_stall.close()
        self.watchdog.close()
        if self._manager is not None:
            self._edge.closed(self)
        if self._lane is not None:
            self._lane.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and answer a message that can be answered at once."""
        if self._upgraded or self._payload_parser is not None:
            super().data_received(data)
            return
        parser = self._parser
        if parser is None or self._force_close or self._close:
            return
        waiter = self._waiter
        known = None
        is_resting = HAS_LANE and not (self._heard or self._lane or self._messages or waiter is None or waiter.done())
        if is_resting and (known := self._edge.known_heads.find(data)) is not None:
            self._take(known.message, EMPTY_PAYLOAD, known)
            return
        try:
            messages, upgraded, tail = parser.feed_data(data)
        except http_exceptions.HttpProcessingError as error:
            self._parser_failed(error)
            return
        # Before Python 3.12, the first request may come before aiohttp's request loop has begun to wait for it.
        is_waiting = not self._request_count if waiter is None else not waiter.done()
        is_idle = self._lane is None and is_waiting and not self._messages
        if HAS_LANE and is_idle and waiter is not None and len(messages) == 1 and not upgraded:
            message, payload = messages[0]
            if payload.is_eof() and not (message.chunked or message.upgrade):
                parser.message_consumed()
                self._heard = payload is EMPTY_PAYLOAD and not _ends_head(data)
                if is_resting and payload is EMPTY_PAYLOAD and self.boundary.is_one_head(data):
                    known = self._edge.known_heads.add(data, message)
                self._take(message, payload, known)
                return
        trusted = self.boundary.sift(messages, data, upgraded=upgraded, is_idle=is_idle)
        self._queue(trusted)
        self._upgraded = upgraded and not self.boundary.is_final
        self._message_tail = tail
        if is_idle:
            if messages:
                self._heard = messages[-1][1] is EMPTY_PAYLOAD and not (upgraded or _ends_head(data))
            else:
                self._expect_rest_of_head(bool(data))
            return
        # What comes while we are busy and is not body is the next request, perhaps only part of it.
        body = self.body
        self._heard = body is None or body.is_complete
        if body is not None:
            body.arrived(len(data))

    def _parser_failed(self, error: http_exceptions.HttpProcessingError) -> None:
        """Tell the client in its turn; if it happened within a body, whoever reads that gets to know at once."""
        self._queue([(_ErrInfo(400, error, error.message), EMPTY_PAYLOAD)])
        self._heard = False
        if self.body is not None:
            self.body.break_off()

    def begin_body(self, body: ClientBody) -> None:
        """The request that is being answered has a body; what is queued behind an unfinished one is its error."""
        self.body = body
        if self._messages:
            body.break_off()

    def _queue(self, messages: Any) -> None:
        """Leave messages to aiohttp's request loop, and read no more while too many wait."""
        if not messages:
            return
        self._request_count += len(messages)
        self._messages.extend(messages)
        self._wake()
        if not self._buffer_paused and len(self._messages) >= self._max_msg_queue_size:
            self._pause_reading_for_buffer()

    def _wake(self) -> None:
        """Let aiohttp's request loop go on, unless the lane is busy: it wakes the loop when it is free again."""
        waiter = self._waiter
        if self._lane is None and waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _expect_rest_of_head(self, begun: bool) -> None:
        if not begun:
            self._heard = False
        elif not self._heard:
            self._heard = True
            self.stall.set(monotonic() + self._edge.limits.header_timeout)

    # --- the lane ---

    def _take(self, message: RawRequestMessage, payload: StreamReader, known: KnownHead | None) -> None:
        self._request_count += 1
        incoming = IncomingRequest(message, payload, self, known=known)
        task = _start(self._drive(incoming), self._loop)
        if not task.done():
            self._lane = task

    async def _drive(self, incoming: IncomingRequest) -> None:
        keep_alive = False
        try:
            keep_alive = (await self._edge.answer(incoming)).keep_alive
        except ConnectionError:
            pass
        except Exception as error:
            self.log_exception("The edge failed to answer a request", exc_info=error)
            self.abort()
        finally:
            self._lane = None
            if not keep_alive or self._close:
                self._leave()
            else:
                self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                if self._messages:
                    self._wake()

    def _leave(self) -> None:
        """Close when what was written has been sent."""
        self.force_close()

    def _process_keepalive(self) -> None:
        """aiohttp's timer for idle connections; a connection whose lane is busy is not idle."""
        if self._lane is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = self._loop.call_at(
                self._loop.time() + self._keepalive_timeout, self._process_keepalive
            )

    async def shutdown(self, timeout: float | None = None) -> None:
        """aiohttp's hook for the end of the server, after the drain: what is still under way is cut off."""
        if not self.is_idle or self._left_to_send():
            self.abort()
        tasks = [task for task in (self._lane, self._task_handler) if task is not None]
        for task in tasks:
            task.cancel()
        self.force_close()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close_if_idle(self) -> None:
        """Close unless a request has come, be it no further than the kernel: closing now would reset it."""
        if self.is_idle and self._wire is not None:
            poll = select.poll()
            poll.register(self._wire.get_extra_info("socket").fileno(), select.POLLIN)
            if not poll.poll(0):
                self.force_close()

    def rest(self) -> None:
        """The answer is out. If part of the next request is here already, its time begins now."""
        self.body = None
        self.stall.clear()
        if self._heard and not self._messages:
            self.stall.set(monotonic() + self._edge.limits.header_timeout)
        elif self._wire is not None and self._wire.get_write_buffer_size():
            self._watch_unsent()

    def _left_to_send(self) -> int:
        return 0 if self._wire is None else self._wire.get_write_buffer_size()

    def _watch_unsent(self) -> None:
        """Nobody waits for the client to take the end of its answer, but it must not take for ever."""
        self._unsent = self._left_to_send()
        self.stall.set(monotonic() + self._edge.limits.write_timeout)

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was written. Raises ConnectionError."""
        await self._drain_helper()

    def with_via(self, forwarded: RawHeaders, via: tuple[bytes, bytes]) -> RawHeaders:
        """`forwarded` and `via`: the same object as long as the client side stays the same."""
        if forwarded is not self._forwarded or self._with_via[-1] is not via:
            self._forwarded = forwarded
            self._with_via = (*forwarded, via)
        return self._with_via

    def send(self, data: bytes, *, is_last: bool = False) -> None:
        """Write to the client; what `is_last`, the end of an answer, may wait for the end of the loop's turn.

        Raises ClientDisconnected.
        """
        transport = self.transport
        if transport is None:
            raise ClientDisconnected(cause="the connection was lost while the response was written")
        if is_last and len(data) <= SMALL:
            self._edge.outbox.post(transport.write, data)
            return
        try:
            transport.write(data)
        except RuntimeError as error:  # uvloop, when the handle was closed in the meantime
            raise ClientDisconnected(cause=str(error)) from None

    def interim(self, exchange: Exchange, status: int, fields: RawHeaders) -> None:
        """Pass a 1xx response on (RFC 9110 section 15.2), unless the client is gone or would not understand it."""
        if exchange.request.version == (1, 0):
            return
        self._edge.outbox.flush()
        with suppress(ClientDisconnected):
            self.send(interim_head(exchange.route, status, fields))

    def force_close(self) -> None:
        """Close when everything that was written has been sent."""
        self._edge.outbox.flush()
        super().force_close()
        if self._left_to_send():
            self._watch_unsent()

    def no_linger(self) -> None:
        """Close as soon as the answer is out: nothing more is expected of the client."""
        self._lingering_time = 0.0

    def abort(self) -> None:
        """Drop the connection so that the client sees the answer is not complete: on TCP with a reset.

        A client that reads until the connection ends would take anything else for the end of the answer.
        """
        wire = self._wire
        if wire is not None:
            if self.peer:
                sock = wire.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            wire.abort()

    def _make_error_handler(self, err_info: Any) -> Callable[[Any], Awaitable[Any]]:
        """aiohttp's hook for messages that its parser refused: answer as for any other refusal, echo nothing."""
        error = parser_error(err_info.exc)

        async def refuse(request: IncomingRequest) -> Answered:
            return await self._edge.refuse(request, error)

        return refuse

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """aiohttp's hook for an exception that escaped `Edge.answer`, which answers all it can: give up."""
        if not isinstance(exc, ConnectionError):  # one that `Edge.answer` raises when it had to cut an answer short
            self.log_exception("The edge failed to answer a request", exc_info=exc)
        self.abort()
        raise ConnectionResetError("nothing sensible can be sent any more")

    def _stalled(self) -> None:
        unsent, self._unsent = self._unsent, 0
        if self.writing:
            self.abort()
        elif unsent and self._left_to_send():
            self._send_on(unsent)
        elif self._heard:
            self._edge.refuse_slow_head(self)
        elif not unsent:
            self.force_close()

    def _send_on(self, unsent: int) -> None:
        if self._left_to_send() < unsent:
            self._watch_unsent()
        else:
            self.abort()

    def _body_stalled(self) -> None:
        if self.body is not None:
            self.body.fail_slow()
