"""One connection to an upstream, reused for one exchange after the other.

The exchange that the connection serves is known by the future made for its response. Nothing reaches that future but
what arrives while the connection serves it; whatever else arrives ends the connection.
"""

import asyncio
import select
from math import inf
from typing import Final, Protocol, cast

from proxy.alarm import Alarm
from proxy.errors import ConnectionTerminated, DeadlineExceeded, ProxyError, UpstreamTimeout
from proxy.exchange import Exchange, Response
from proxy.outbox import Outbox
from proxy.protocol.framing import Framing
from proxy.protocol.headers import is_event_stream
from proxy.protocol.response_checks import safe_reason
from proxy.upstream.inflow import Inflow
from proxy.upstream.response_reader import ResponseReader
from proxy.upstream.tunnel import UpstreamTunnel
from proxy.upstream.upload import Upload

_TIMER_SLACK: Final = 0.002
"""Seconds that an alarm may ring early."""
_BODY_UNEXPECTED: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"})
"""Some servers leave the body of these unread and would take it for the next request."""


class Owner(Protocol):
    """The pool that a connection belongs to."""

    def release(self, connection: "Connection") -> None:
        """The connection is free again."""
        ...

    def closed(self, connection: "Connection") -> None:
        """The connection is gone. Called once."""
        ...

    def spoke_unasked(self) -> None:
        """The upstream sent bytes that answer no request."""
        ...

    @property
    def outbox(self) -> Outbox:
        """Where requests may wait for the end of the loop's turn."""
        ...


class Connection(asyncio.Protocol):
    """Idle, serving one exchange, or closed. `idle_timeout` in seconds; `expires_at` is loop time."""

    def __init__(
        self, owner: Owner, loop: asyncio.AbstractEventLoop, *, idle_timeout: float, expires_at: float
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._idle_timeout = idle_timeout
        self._expires_at = expires_at
        self._idle_until = 0.0
        self._alarm = Alarm(loop, self._alarm_rang)
        self._reader = ResponseReader(self._pass_on)
        self._poll = select.poll()
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._response: asyncio.Future[Response] | None = None
        self._body: Inflow | None = None
        self._upload: Upload | None = None
        self._pump: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._deadline = inf
        self._written = False
        """Whether any byte of the request has been written."""
        self.closed = False
        self.served = 0
        """Exchanges completed."""

    # --- what the client does with it ---

    def is_usable(self, now: float) -> bool:
        """Whether an idle connection may take a request: it is open, and not too old."""
        return not self.closed and now < self._idle_until

    def send(self, exchange: Exchange, head: bytes, upload: Upload | None, now: float) -> asyncio.Future[Response]:
        """Write a request; the future gets its response, or the ProxyError that ended the exchange.

        Raises ConnectionTerminated when the connection is closed already. The caller aborts the connection if it stops
        waiting for the future.
        """
        request = exchange.request
        self._reader.start(request.method, upgrade=request.upgrade)
        if self.closed:
            raise ConnectionTerminated(cause="closed before the request", request_written=False)
        self._exchange = exchange
        self._response = response = self._loop.create_future()
        self._deadline = inf if exchange.attempt_deadline is None else exchange.attempt_deadline
        self._written = False
        if upload is None:
            self._owner.outbox.post(self._write_request, head)
            self._await_head(exchange, now)
        else:
            self._start_upload(exchange, head, upload, now)
        return response

    def rest(self) -> None:
        """Close when nobody needs the connection for `idle_timeout`, or when it has reached its age."""
        now = self._loop.time()
        self._idle_until = min(now + self._idle_timeout, self._expires_at)
        self._alarm.set(self._idle_until)

    @property
    def ended_unanswered(self) -> bool:
        """Whether the connection was reused and ended before any byte of the response: the keep-alive race."""
        return self.served > 0 and self._reader.is_untouched

    def abort(self) -> None:
        """Close at once, in any state. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._exchange = self._response = self._body = None
        self._stop_upload()
        self._alarm.close()
        self._transport.abort()
        self._owner.closed(self)

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected, TLS included."""
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of the response; on an idle connection they belong to nobody, so it is not used again."""
        if self._exchange is None or not self._written:
            self._heard_unasked(data)
            return
        reader = self._reader
        try:
            reader.feed(data)
        except ProxyError as error:
            self._fail(error)
            return
        if reader.complete:
            self._finish()
        elif reader.head is not None:
            self._stream()

    def eof_received(self) -> None:
        """asyncio: the upstream sends no more."""
        self._ended(reset=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self._ended(reset=True)

    def pause_writing(self) -> None:
        """asyncio: the upstream takes no more bytes."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """asyncio: the upstream takes bytes again."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # --- what the inflow asks for ---

    def pause_reading(self) -> None:
        """Take no more bytes from the upstream."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes from the upstream again."""
        if not self.closed:
            self._transport.resume_reading()

    def reader_waits(self) -> None:
        """It is the upstream that keeps us waiting: its idle limit begins."""
        if self._exchange is not None:
            self._await_progress(self._exchange)

    # --- what the upload asks for ---

    async def write(self, data: bytes) -> None:
        """Send a piece of the request body; waits while the upstream takes none."""
        self._transport.write(data)
        if self._writable is not None and self._exchange is not None:
            self._await_progress(self._exchange)
            await self._writable
            self._alarm.set(self._deadline)

    def upload_ended(self, error: ProxyError | None) -> None:
        """The request body has been written, or could not be read to its end."""
        self._pump = None
        if error is not None:
            self._fail(error)
        elif self._exchange is not None:
            self._await_head(self._exchange, self._loop.time())

    # --- the course of an exchange ---

    def _write_request(self, data: bytes) -> None:
        """Write the first bytes of a request, unless something has arrived on the idle connection in the meantime.

        Be it an end or bytes, it may still be in the kernel: so the kernel is asked. A late response that lies there
        would be taken for the answer to this request.
        """
        if self.closed:
            return
        if self.served and self._poll.poll(0):
            self._fail_unwritten()
        else:
            self._written = True
            self._transport.write(data)

    def _heard_unasked(self, data: bytes) -> None:
        if data.strip(b"\r\n"):  # some servers end a body with an empty line too many
            self._owner.spoke_unasked()
        if self._exchange is None:
            self.abort()
        else:
            self._fail_unwritten()

    def _fail_unwritten(self) -> None:
        """What has arrived is no answer to a request that has not been sent."""
        self._fail(ConnectionTerminated(cause="ended or spoke while it was idle", request_written=False))

    def _start_upload(self, exchange: Exchange, head: bytes, upload: Upload, now: float) -> None:
        self._upload = upload
        self._write_request(head + upload.first)
        if self.closed:
            return
        if upload.is_complete:
            self._await_head(exchange, now)
        else:
            self._alarm.set(self._deadline)
            self._pump = self._loop.create_task(upload.run(self))

    def _stop_upload(self) -> None:
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()

    def _finish(self) -> None:
        """The response is complete. The connection is free before anybody looks at the response."""
        reader, response, body = self._reader, self._response, self._body
        if body is not None:
            for piece in reader.take():
                body.feed(piece)
            body.end()
            self._leave()
        elif response is None or response.done():
            self.abort()
        elif reader.head is not None and reader.head.framing is Framing.TUNNEL:
            response.set_result(self._switch())
        else:
            answer = self._answer(b"".join(reader.take()))
            self._leave()
            response.set_result(answer)

    def _pass_on(self, status: int, fields: list[tuple[bytes, bytes]]) -> None:
        """An interim response: the client may see it, the final one is still due."""
        exchange = self._exchange
        if exchange is not None and exchange.client is not None:
            exchange.client.interim(exchange, status, fields)

    def _stream(self) -> None:
        """The head is complete, the body is not."""
        body = self._body
        if body is None:
            body = self._begin_stream()
        if body is not None:
            for piece in self._reader.take():
                body.feed(piece)
            self._alarm.set(self._deadline)

    def _begin_stream(self) -> Inflow | None:
        response, exchange = self._response, self._exchange
        if exchange is None or response is None or response.done():
            self.abort()
            return None
        self._response = None
        self._body = body = Inflow(self)
        answer = self._answer(body)
        answer.on_close(body.close)
        if is_event_stream(answer.headers):
            exchange.deadline = exchange.attempt_deadline = None
            self._deadline = inf
        self._stop_upload()  # a response before the end of the request: the upstream wants no more of it
        response.set_result(answer)
        return body

    def _answer(self, body: bytes | Inflow) -> Response:
        reader = self._reader
        head = reader.head
        answer = Response(reader.status, [] if head is None else head.fields, body, reason=safe_reason(reader.reason))
        answer.is_open_ended = head is not None and head.framing is Framing.CLOSE
        return answer

    def _switch(self) -> Response:
        """101: from here on the transport belongs to a tunnel, which only idle silence ends."""
        exchange, self._exchange = self._exchange, None
        self._response = None
        self._alarm.close()
        idle = None if exchange is None else exchange.timeout.idle
        if exchange is not None:
            exchange.deadline = exchange.attempt_deadline = None
        tunnel = UpstreamTunnel(self._loop, self._transport, self._reader.surplus, idle, self._tunnel_closed)
        answer = self._answer(b"")
        answer.tunnel = tunnel
        answer.on_close(tunnel.abort)
        return answer

    def _tunnel_closed(self) -> None:
        self.closed = True
        self._owner.closed(self)

    def _leave(self) -> None:
        """The exchange is over: wait for the next one if this one left nothing behind, else close."""
        exchange, upload = self._exchange, self._upload
        self._exchange = self._response = self._body = self._upload = None
        if self._reader.overrun:
            self._owner.spoke_unasked()
        if (
            not self._reader.reusable
            or self._loop.time() >= self._expires_at
            or (upload is not None and exchange is not None and not self._is_clean(exchange, upload))
        ):
            self.abort()
            return
        self.served += 1
        self.rest()
        self._owner.release(self)

    def _is_clean(self, exchange: Exchange, upload: Upload) -> bool:
        """Whether the whole request has left, and in a form that leaves no doubt where it ends."""
        return (
            upload.is_complete
            and self._pump is None
            and exchange.request.method not in _BODY_UNEXPECTED
            and not self._transport.get_write_buffer_size()
        )

    def _ended(self, *, reset: bool) -> None:
        if self.closed:
            return
        if self._exchange is None:
            self.abort()
            return
        if not self._written:
            self._fail_unwritten()
            return
        try:
            self._reader.end(reset=reset)
        except ProxyError as error:
            self._fail(error)
        else:
            self._finish()

    def _fail(self, error: ProxyError) -> None:
        response, body = self._response, self._body
        self.abort()
        if body is not None:
            body.end(error)
        elif response is not None and not response.done():
            response.set_exception(error)

    # --- time limits ---

    def _await_head(self, exchange: Exchange, now: float) -> None:
        """The request is out: the first byte of the answer is due."""
        limit = exchange.timeout.first_byte
        self._alarm.set(self._deadline if limit is None else min(self._deadline, now + limit))

    def _await_progress(self, exchange: Exchange) -> None:
        """The next byte of a body is due, or room for one."""
        limit = exchange.timeout.idle
        self._alarm.set(self._deadline if limit is None else min(self._deadline, self._loop.time() + limit))

    def _alarm_rang(self) -> None:
        exchange = self._exchange
        if exchange is None:
            self.abort()
        elif self._loop.time() < self._deadline - _TIMER_SLACK:
            awaits_head = self._response is not None and self._pump is None
            self._fail(UpstreamTimeout("first_byte" if awaits_head else "idle"))
        elif self._awaits_client():
            self._fail(DeadlineExceeded(cause="the client was slow"))
        else:
            self._fail(UpstreamTimeout("total" if exchange.deadline == self._deadline else "attempt"))

    def _awaits_client(self) -> bool:
        """Whether it is the client that keeps the exchange waiting: it does not read, or does not send."""
        if self._body is not None:
            return not self._body.is_awaited
        return self._pump is not None and self._writable is None

    def __repr__(self) -> str:
        if self.closed:
            state = "closed"
        elif self._exchange is None:
            state = "idle"
        else:
            state = f"busy {self._body!r}" if self._body is not None else "busy"
        return f"<Connection {state} served={self.served}>"
