"""The upstream side of a connection that has switched protocols."""

import asyncio
from collections.abc import Callable
from math import inf

from proxy.alarm import Alarm
from proxy.errors import ProxyError, ResponseIncomplete, UpstreamTimeout
from proxy.upstream.inflow import Inflow


class UpstreamTunnel(asyncio.Protocol):
    """Takes a transport over after a 101. `idle` is the longest silence of both sides in seconds; None: no limit."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        surplus: bytes,
        idle: float | None,
        on_closed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._idle = inf if idle is None else idle
        self._on_closed = on_closed
        self._closed = False
        self._writable: asyncio.Future[None] | None = None
        self._error: ProxyError | None = None
        self._alarm = Alarm(loop, self._silent)
        self._inflow = Inflow(self)
        if surplus:
            self._inflow.feed(surplus)
        self._touch()
        transport.set_protocol(self)

    async def read(self) -> bytes:
        """Bytes from the upstream, b"" at its end. Raises UpstreamTimeout and ResponseIncomplete (a reset)."""
        return await self._inflow.read()

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the upstream takes none. Raises as `read` does."""
        self._check_open()
        self._touch()
        self._transport.write(data)
        if self._writable is not None:
            await self._writable
            self._check_open()

    def write_eof(self) -> None:
        """The client sends no more. TLS cannot say so: there the connection ends."""
        if self._closed:
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._fail(None)

    def abort(self) -> None:
        """Close both directions. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._alarm.close()
        self._release_writer()
        self._transport.abort()
        self._on_closed()

    # --- asyncio.Protocol ---

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the upstream."""
        if not self._closed:
            self._touch()
            self._inflow.feed(data)

    def eof_received(self) -> bool:
        """asyncio: the upstream sends no more; what the client still sends may matter to it."""
        self._inflow.end()
        return self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        if not self._closed:
            self._fail(ResponseIncomplete(cause=repr(exc)) if exc is not None else None)

    def pause_writing(self) -> None:
        """asyncio: the upstream takes no more bytes."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """asyncio: the upstream takes bytes again."""
        self._touch()
        self._release_writer()

    # --- what the inflow asks for ---

    def pause_reading(self) -> None:
        """Take no more bytes from the upstream."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes from the upstream again."""
        if not self._closed:
            self._transport.resume_reading()

    def reader_waits(self) -> None:
        """The idle limit runs all the time: nothing to do."""

    def _touch(self) -> None:
        self._alarm.set(self._loop.time() + self._idle)

    def _silent(self) -> None:
        self._fail(UpstreamTimeout("idle"))

    def _fail(self, error: ProxyError | None) -> None:
        self._error = error
        self._inflow.end(error)
        self.abort()

    def _check_open(self) -> None:
        if self._closed:
            raise self._error or ResponseIncomplete(cause="the tunnel is closed")

    def _release_writer(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def __repr__(self) -> str:
        return f"<UpstreamTunnel closed={self._closed} {self._inflow!r}>"
