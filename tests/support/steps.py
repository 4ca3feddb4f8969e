"""What a scripted upstream can do with a request: each step is an async function of the turn."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

from tests.support.messages import HeadersLike, ReceivedRequest, encode_headers, header_pairs
from tests.support.nonce import answer
from tests.support.wire import Wire


class Turn:
    """One request being answered: what a step gets to see and use."""

    def __init__(
        self, wire: Wire, request: ReceivedRequest, body: AsyncIterator[bytes], tasks: set[asyncio.Task[None]]
    ) -> None:
        self.wire = wire
        self.request = request
        self.tasks = tasks
        """Background work of the upstream, ended with it."""
        self._body = body

    async def read_body(self, size: int | None = None) -> None:
        """Read the body on to its end, or until at least `size` bytes of it are there; raises WireEnded."""
        while size is None or self.request.body_length < size:
            if await anext(self._body, None) is None:
                return


Step = Callable[[Turn], Awaitable[None]]


class Gate:
    """A step that waits until the test opens the gate; what comes before it has been done once `reached` is set."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def __call__(self, turn: Turn) -> None:
        self.reached.set()
        await self._opened.wait()

    def open(self) -> None:
        """Let all pass who wait and all who come."""
        self._opened.set()


# --- whole answers ---


def reply(status: int = 200, headers: HeadersLike | None = None, body: bytes = b"", *, reason: str = "") -> Step:
    """A well-formed answer with Content-Length; HEAD, 204 and 304 get no body."""

    async def step(turn: Turn) -> None:
        has_length = status >= 200 and status not in (204, 304)
        framing = b"Content-Length: %d\r\n" % len(body) if has_length else b""
        content = body if has_length and turn.request.method != "HEAD" else b""
        await turn.wire.write(
            _status_line(status, reason) + encode_headers(headers or {}) + framing + b"\r\n" + content
        )

    return step


def echo() -> Step:
    """What the upstream saw, as JSON and in signed X-Nonce headers: see `nonce.py`."""

    async def step(turn: Turn) -> None:
        headers, body = answer(turn.request)
        await reply(200, headers, body)(turn)

    return step


def reply_chunked(*pieces: bytes, status: int = 200, headers: HeadersLike | None = None) -> Step:
    """A well-formed answer with one chunk a piece."""
    fields = [*header_pairs(headers or {}), ("Transfer-Encoding", "chunked")]
    return sequence(head(status, fields), *map(chunk, pieces), last_chunk())


# --- parts of answers ---


def head(status: int = 200, headers: HeadersLike | None = None, *, reason: str = "") -> Step:
    """Status line and exactly these fields: the framing is the test's business."""
    return send(_status_line(status, reason) + encode_headers(headers or {}) + b"\r\n")


def send(data: bytes) -> Step:
    """Exactly these bytes."""

    async def step(turn: Turn) -> None:
        await turn.wire.write(data)

    return step


def chunk(data: bytes) -> Step:
    """One chunk with its size."""
    return send(b"%x\r\n%b\r\n" % (len(data), data))


def last_chunk(trailers: HeadersLike | None = None) -> Step:
    """The end of a chunked body."""
    return send(b"0\r\n" + encode_headers(trailers or {}) + b"\r\n")


def interim(status: int = 103, headers: HeadersLike | None = None, *, times: int | None = 1) -> Step:
    """Informational answers; `times=None` never ends."""
    return repeat(times, head(status, headers))


def drip(data: bytes, every: float) -> Step:
    """One byte each `every` seconds: for timeouts, where nothing but time will do."""

    async def step(turn: Turn) -> None:
        for position in range(len(data)):
            await turn.wire.write(data[position : position + 1])
            await asyncio.sleep(every)

    return step


def endless(piece: bytes = b"x" * 65536) -> Step:
    """The same bytes for as long as the peer takes them."""
    return repeat(None, send(piece))


# --- order and time ---


def sequence(*steps: Step) -> Step:
    async def step(turn: Turn) -> None:
        for each in steps:
            await each(turn)

    return step


def repeat(times: int | None, *steps: Step) -> Step:
    """These steps `times` times; None: until the connection ends."""
    one = sequence(*steps)

    async def step(turn: Turn) -> None:
        for _ in itertools.count() if times is None else range(times):
            await one(turn)

    return step


def later(*steps: Step) -> Step:
    """Run these steps beside everything that follows, so that they can outlive the turn: start them with a gate."""

    async def step(turn: Turn) -> None:
        task = asyncio.ensure_future(_quietly(sequence(*steps), turn))
        turn.tasks.add(task)
        task.add_done_callback(turn.tasks.discard)

    return step


def delay(seconds: float) -> Step:
    """Wait by the clock: for timeouts and latency; everything else uses a Gate."""

    async def step(turn: Turn) -> None:
        await asyncio.sleep(seconds)

    return step


def hang() -> Step:
    """Say nothing more until the peer ends the connection."""

    async def step(turn: Turn) -> None:
        await turn.wire.wait_ended()

    return step


# --- the request's side ---


def read_body(size: int | None = None) -> Step:
    """In an `early` script: read the body on, to `size` bytes or to its end."""

    async def step(turn: Turn) -> None:
        await turn.read_body(size)

    return step


def stop_reading() -> Step:
    """Take no more bytes from the connection, so that its sender feels backpressure."""

    async def step(turn: Turn) -> None:
        turn.wire.stop_reading()

    return step


# --- the connection ---


def reset() -> Step:
    """RST."""

    async def step(turn: Turn) -> None:
        turn.wire.reset()
        await turn.wire.closed.wait()

    return step


def close() -> Step:
    """FIN, and nothing is read any more."""

    async def step(turn: Turn) -> None:
        turn.wire.close()
        await turn.wire.closed.wait()

    return step


def half_close() -> Step:
    """FIN, but go on reading until the peer closes too."""

    async def step(turn: Turn) -> None:
        turn.wire.half_close()
        await turn.wire.wait_ended()
        turn.wire.close()

    return step


def tunnel(protocol: str = "websocket", headers: HeadersLike | None = None) -> Step:
    """101, then every byte is sent back until the peer ends."""

    async def step(turn: Turn) -> None:
        await head(101, [("Upgrade", protocol), ("Connection", "Upgrade"), *header_pairs(headers or {})])(turn)
        while data := await turn.wire.read():
            await turn.wire.write(data)
        turn.wire.close()

    return step


# --- inside ---


async def _quietly(step: Step, turn: Turn) -> None:
    try:
        await step(turn)
    except ConnectionError:
        return


def _status_line(status: int, reason: str) -> bytes:
    try:
        phrase = reason or HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return f"HTTP/1.1 {status:03} {phrase}\r\n".encode("utf-8", "surrogateescape")
