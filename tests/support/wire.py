"""One TCP, Unix or TLS connection at byte level: the raw client and the scripted upstream speak through it."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Literal, cast

Ended = Literal["open", "fin", "rst"]

HIGH_WATER = 256 * 1024
"""Bytes that a wire holds unread before it stops reading from its socket."""


class WireEnded(ConnectionError):
    """The peer ended the connection before the bytes that the caller waits for."""


class Wire(asyncio.Protocol):
    """Reads exactly what it is asked for, writes exactly what it is given, and says how the peer ended."""

    def __init__(
        self, on_change: Callable[[], None] | None = None, on_open: Callable[["Wire"], None] | None = None
    ) -> None:
        self.buffer = bytearray()
        """Bytes that arrived and were not asked for yet."""
        self.transport: asyncio.Transport
        self.ended: Ended = "open"
        """How the peer ended its side; a reset shows only while the wire is reading."""
        self.closed = asyncio.Event()
        """Set once the connection is gone in both directions."""
        self.log: bytearray | None = None
        """When set, every consumed byte is added to it."""
        self._changed = asyncio.Event()
        self._on_change = on_change
        self._on_open = on_open
        self._held = False
        """Whether the test told the wire not to read."""
        self._writable = asyncio.Event()
        self._writable.set()

    # --- reading ---

    async def read(self, limit: int = 65536) -> bytes:
        """Between 1 and `limit` bytes, b"" after the peer's end."""
        await self._wait_for(lambda: bool(self.buffer))
        return self._take(min(limit, len(self.buffer)))

    async def read_exactly(self, size: int) -> bytes:
        """`size` bytes; raises WireEnded."""
        if not await self._wait_for(lambda: len(self.buffer) >= size, need=size):
            raise WireEnded(f"{self.ended} after {len(self.buffer)} of {size} bytes")
        return self._take(size)

    async def read_until(self, end: bytes) -> bytes:
        """All bytes up to and including `end`; raises WireEnded."""
        if not await self._wait_for(lambda: end in self.buffer, need=1 << 30):
            raise WireEnded(f"{self.ended} after {bytes(self.buffer[:200])!r}")
        return self._take(self.buffer.index(end) + len(end))

    async def wait_ended(self) -> Ended:
        """Wait for the peer's FIN or RST, whatever else it sends before."""
        while self.ended == "open" and not self.closed.is_set():
            await self._next_change()
        return self.ended

    def stop_reading(self) -> None:
        """Leave everything in the kernel's buffer from now on, so that the peer feels it."""
        self._held = True
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self._held = False
        self._resume()

    # --- writing ---

    async def write(self, data: bytes) -> None:
        """Send, and wait while the peer does not take it; raises WireEnded when the connection is gone."""
        if self.closed.is_set() or self.transport.is_closing():
            raise WireEnded("write on a closed connection")
        self.transport.write(data)
        await self._writable.wait()
        if self.closed.is_set():
            raise WireEnded("closed while writing")

    def half_close(self) -> None:
        """FIN: no more bytes from this side; the other direction stays open."""
        self.transport.write_eof()

    def close(self) -> None:
        """FIN after everything written has left. The kernel turns it into RST when bytes were left unread."""
        self.transport.close()

    def reset(self) -> None:
        """RST, at once."""
        if not self.closed.is_set():
            sock = cast("socket.socket", self.transport.get_extra_info("socket"))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=0)
        if self._on_open is not None:
            self._on_open(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) > HIGH_WATER:
            self.transport.pause_reading()
        self._change()

    def eof_received(self) -> bool:
        self.ended = "fin"
        self._change()
        return self.transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ConnectionError):
            self.ended = "rst"
        self.closed.set()
        self._writable.set()
        self._change()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- inside ---

    async def _wait_for(self, ready: Callable[[], bool], need: int = 1) -> bool:
        while not ready():
            if self.ended != "open" or self.closed.is_set():
                return False
            if len(self.buffer) <= max(need, HIGH_WATER):
                self._resume()
            await self._next_change()
        return True

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _take(self, size: int) -> bytes:
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        if self.log is not None:
            self.log += data
        if len(self.buffer) <= HIGH_WATER:
            self._resume()
        return data

    def _resume(self) -> None:
        if not self._held and self.ended == "open" and not self.transport.is_closing():
            self.transport.resume_reading()

    def _change(self) -> None:
        self._changed.set()
        if self._on_change is not None:
            self._on_change()
