"""The body of a fill: written once, as it comes from the upstream, and read by any number, each at its own pace."""

import asyncio
from collections.abc import Callable
from typing import Final

from proxy.errors import DeadlineExceeded, ProxyError
from proxy.exchange import Body
from proxy.policies.timeout import BACKSTOP

PIECE: Final = 64 * 1024
"""Bytes that a reader gets at a time, at most."""
WINDOW: Final = 256 * 1024
"""Bytes kept of a body that is not: so far the fastest reader may be ahead of the slowest."""
LATE: Final = "The request took longer than its route or its caller allows."
"""What is said of a deadline that passes while somebody waits for a fill."""


def copy_of(error: ProxyError) -> ProxyError:
    """The same error for one more who waits: it has no traceback that would grow, and holds no frames."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    return copy


class SharedBody:
    """Bytes from one source for many readers. All of them are kept up to `limit`, from there on a window of them."""

    __slots__ = (
        "_clock",
        "_end",
        "_error",
        "_held",
        "_is_over",
        "_limit",
        "_loop",
        "_readers",
        "_room",
        "_start",
        "_whole",
    )

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._held = bytearray()
        self._whole: bytes | None = None
        """All of it, instead of what is held, when it has come and was kept."""
        self._start = 0
        """Which byte of the body is the first one here."""
        self._end = 0
        self._limit = limit
        self._is_over = False
        self._error: ProxyError | None = None
        self._readers: dict[BodyReader, None] = {}
        self._room: asyncio.Future[None] | None = None
        self._loop = loop
        self._clock = clock

    # --- for whoever fills it ---

    @property
    def is_too_long(self) -> bool:
        """Whether it is longer than `limit`."""
        return self._end > self._limit

    @property
    def is_read(self) -> bool:
        """Whether anybody reads it."""
        return bool(self._readers)

    async def pump(self, source: Body) -> bytes | None:
        """Read `source` until it ends, or until the body is too long; all of it, None when that was too much.

        Raises what reading raises.
        """
        held = self._held
        while piece := await source.read():
            held += piece
            self._end += len(piece)
            self._wake()
            if self._end > self._limit:
                return None
        self._whole = whole = bytes(held)
        self._held = bytearray()
        self.end()
        return whole

    async def pass_on(self, source: Body, has_arrivals: Callable[[], bool]) -> None:
        """Go on with what is too long: nothing is kept that all readers have, and the slowest sets the pace.

        While there are arrivals, who will read from the beginning, that is kept. Returns at the end or when nobody
        reads any more; raises what reading raises.
        """
        held = self._held
        while True:
            while has_arrivals() or (self._readers and self._trim(held) > WINDOW):
                await self._wait_for_room()
            if not self._readers:
                return
            piece = await source.read()
            if not piece:
                break
            held += piece
            self._end += len(piece)
            self._wake()
        self.end()

    def end(self, error: ProxyError | None = None) -> None:
        """Nothing more will come; with an error: although it should have."""
        self._is_over = True
        self._error = error
        self._wake()

    def reader(self, deadline: float | None) -> "BodyReader":
        """One more reader, from the first byte on, until `deadline` (monotonic). Raises LookupError if that is gone."""
        if self._start:
            raise LookupError("the beginning of the body is gone")
        reader = BodyReader(self, deadline)
        self._readers[reader] = None
        return reader

    def moved(self) -> None:
        """A reader has read or left, or an arrival has come or gone: there may be room."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _trim(self, held: bytearray) -> int:
        """Forget what all readers have; how much there is left."""
        position = min([reader.position for reader in self._readers])
        if position > self._start:
            del held[: position - self._start]
            self._start = position
        return len(held)

    async def _wait_for_room(self) -> None:
        self._room = self._loop.create_future()
        try:
            await self._room
        finally:
            self._room = None

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake()

    # --- for its readers ---

    def available(self, position: int) -> bool:
        """Whether there is something to read at `position`, be it the end."""
        return position < self._end or self._is_over

    def take(self, position: int) -> bytes:
        """The next bytes from `position` on, b"" at the end. Raises the error after the bytes before it."""
        if position < self._end:
            first = position - self._start
            held = self._held if self._whole is None else self._whole
            data = bytes(memoryview(held)[first : first + PIECE])
            self.moved()
            return data
        if self._error is not None:
            raise copy_of(self._error)
        return b""

    def time_left(self, deadline: float) -> float:
        """Seconds for which a reader may still wait, at least 0."""
        return max(0.0, deadline + BACKSTOP - self._clock())

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """A timer of the loop."""
        return self._loop.call_later(seconds, callback)

    def create_future(self) -> asyncio.Future[None]:
        """A future of the loop."""
        return self._loop.create_future()

    def leave(self, reader: "BodyReader") -> None:
        """A reader reads no more."""
        self._readers.pop(reader, None)
        self.moved()

    def __repr__(self) -> str:
        return f"<SharedBody {self._start}..{self._end} readers={len(self._readers)} over={self._is_over}>"


class BodyReader:
    """One reader's view of a shared body: a Body that ends at the reader's own deadline at the latest."""

    __slots__ = ("_body", "_deadline", "_timer", "_waiter", "is_late", "position")

    def __init__(self, body: SharedBody, deadline: float | None) -> None:
        self._body = body
        self._deadline = deadline
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.is_late = False
        self.position = 0
        """Bytes read so far."""

    async def read(self) -> bytes:
        """What has come since, b"" at the end. Raises the fill's error, and DeadlineExceeded."""
        body = self._body
        while not body.available(self.position):
            await self._wait()
        position = self.position
        data = body.take(position)
        self.position = position + len(data)
        return data

    def wake(self) -> None:
        """There is something new."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def leave(self) -> None:
        """Read no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._body.leave(self)

    async def _wait(self) -> None:
        if self._deadline is not None and self._timer is None and not self.is_late:
            self._timer = self._body.call_later(self._body.time_left(self._deadline), self._expire)
        if self.is_late:
            raise DeadlineExceeded(LATE)
        self._waiter = self._body.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _expire(self) -> None:
        self._timer = None
        self.is_late = True
        self.wake()

    def __repr__(self) -> str:
        return f"<BodyReader at {self.position} of {self._body!r}>"


class BoundedBody:
    """A body that is read until a deadline of the reader's own (monotonic seconds), sooner than that of its source."""

    __slots__ = ("_body", "_clock", "_deadline")

    def __init__(self, body: Body, deadline: float, clock: Callable[[], float]) -> None:
        self._body = body
        self._deadline = deadline
        self._clock = clock

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Raises DeadlineExceeded, and what the body raises."""
        try:
            async with asyncio.timeout(self._deadline - self._clock()):
                return await self._body.read()
        except TimeoutError:
            raise DeadlineExceeded(LATE) from None
