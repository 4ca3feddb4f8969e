"""Bytes of the upstream on their way to one reader."""

import asyncio
from typing import Final, Protocol

from proxy.errors import ProxyError

HIGH_WATER: Final = 64 * 1024
"""Bytes held for a slow reader before the source is paused; one socket read may come on top."""


class Source(Protocol):
    """The connection that the bytes come from."""

    def pause_reading(self) -> None:
        """Take no more bytes from the socket."""
        ...

    def resume_reading(self) -> None:
        """Go on taking bytes from the socket."""
        ...

    def reader_waits(self) -> None:
        """The reader has nothing left: from now on it is the upstream that keeps us waiting."""
        ...

    def abort(self) -> None:
        """Give the connection up: nobody wants the rest. Idempotent."""
        ...


class Inflow:
    """A bounded buffer between a connection and the one who reads from it. This is the Body of a streamed response."""

    __slots__ = ("_ended", "_error", "_paused", "_pieces", "_size", "_source", "_waiter")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pieces: list[bytes] = []
        self._size = 0
        self._paused = False
        self._ended = False
        self._error: ProxyError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether a reader waits for bytes."""
        return self._waiter is not None

    async def read(self) -> bytes:
        """All that has arrived, b"" once after the end. Raises what `end` was told, after the bytes before it."""
        while not self._pieces and not self._ended:
            await self._wait()
        if self._pieces:
            return self._take()
        if self._error is not None:
            raise self._error
        return b""

    def feed(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._paused:
            self._paused = True
            self._source.pause_reading()
        self._wake()

    def end(self, error: ProxyError | None = None) -> None:
        """Nothing more will arrive; with an error: although it should have."""
        self._ended = True
        self._error = error
        self._resume()
        self._wake()

    def close(self) -> None:
        """Nobody will read the rest: unless all of it has arrived, the connection is of no use any more."""
        if not self._ended:
            self._ended = True
            self._source.abort()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        self._source.reader_waits()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self) -> bytes:
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        self._resume()
        return data

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._source.resume_reading()

    def __repr__(self) -> str:
        return f"<Inflow held={self._size} paused={self._paused} ended={self._ended} error={self._error!r}>"
