"""Open-loop load: requests are sent when they are due, whatever has become of those before. Prints what did, as JSON.

Arguments: port, path, and phases as RATE:SECONDS. Every client gives up after a second. Every fifth is impatient: when
it gets no 200, it asks again at once, three times at most.
"""

import asyncio
import json
import sys
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple, cast

import uvloop

DEADLINE = 1.0
"""Seconds for which a client waits."""
IMPATIENT = 5
"""Every client of this number asks again."""
RETRIES = 3
TIMED_OUT = 0
BROKEN = -1
_TICK = 0.001


class Answer(NamedTuple):
    """What became of one request."""

    due: float
    """Seconds since the start."""
    seconds: float
    """Until the answer was complete, counted from when the request was due."""
    status: int
    """TIMED_OUT and BROKEN where there was none."""
    late: float
    """Seconds by which the load generator was behind."""


class Asked:
    """A request under way."""

    __slots__ = ("connection", "due", "retries", "sent")

    def __init__(self, due: float, sent: float, retries: int) -> None:
        self.due = due
        self.sent = sent
        self.retries = retries
        self.connection: Connection | None = None


class Connection(asyncio.Protocol):
    """A client connection; free while it has no request."""

    def __init__(self, load: "Load", asked: Asked) -> None:
        self._load = load
        self._buffer = b""
        self.asked: Asked | None = asked
        asked.connection = self
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request for which the connection was opened, if it still matters."""
        self._transport = cast("asyncio.Transport", transport)
        if self.asked is None:
            self._transport.abort()
        else:
            self._transport.write(self._load.request)

    def ask(self, asked: Asked) -> None:
        """Send one more request."""
        self.asked = asked
        asked.connection = self
        if self._transport is not None:
            self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        """Look for the end of the answer."""
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        head = head.lower()
        if not end or len(body) < content_length(head):
            return
        self._buffer = b""
        asked, self.asked = self.asked, None
        keeps = b"\r\nconnection: close" not in head
        if not keeps:
            self.drop()
        if asked is not None:
            self._load.answered(asked, int(head[9:12]), self if keeps else None)

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that was still expected will not come."""
        self._load.lost(self)
        asked, self.asked = self.asked, None
        if asked is not None:
            self._load.answered(asked, BROKEN, None)

    def drop(self) -> None:
        """Close without waiting."""
        self.asked = None
        if self._transport is not None:
            self._transport.abort()


class Load:
    """Sends the requests of all phases and collects what comes back."""

    def __init__(self, port: int, path: str, *, deadline: float = DEADLINE, impatient: int = IMPATIENT) -> None:
        self.request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self.answers: list[Answer] = []
        self._port = port
        self._deadline = deadline
        self._impatient = impatient
        self._free: dict[Connection, None] = {}
        self._under_way: deque[Asked] = deque()
        self._open = 0
        self._connecting: set[asyncio.Task[None]] = set()
        self._start = monotonic()

    async def run(self, phases: Sequence[tuple[float, float]]) -> list[Answer]:
        """`phases` are pairs of requests a second and seconds."""
        self._start = begin = monotonic()
        clients = 0
        for rate, seconds in phases:
            sent = 0
            while (now := monotonic()) < begin + seconds:
                while sent < (now - begin) * rate:
                    retries = RETRIES if clients % self._impatient == self._impatient - 1 else 0
                    self._ask(begin + sent / rate, retries)
                    sent += 1
                    clients += 1
                self._give_up(now)
                await asyncio.sleep(_TICK)
            begin += seconds
        while self._open:
            self._give_up(monotonic())
            await asyncio.sleep(_TICK)
        for connection in list(self._free):
            connection.drop()
        await asyncio.gather(*self._connecting)
        return self.answers

    def _ask(self, due: float, retries: int) -> None:
        asked = Asked(due, monotonic(), retries)
        self._open += 1
        self._under_way.append(asked)
        if self._free:
            self._free.popitem()[0].ask(asked)
        else:
            task = asyncio.get_running_loop().create_task(self._connect(Connection(self, asked)))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: Connection) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", self._port)
        except OSError:
            connection.connection_lost(None)

    def answered(self, asked: Asked, status: int, free: Connection | None) -> None:
        """`asked` has ended; `free` is its connection if it can be used again."""
        now = monotonic()
        if free is not None:
            self._free[free] = None
        self._open -= 1
        asked.connection = None
        self.answers.append(Answer(asked.due - self._start, now - asked.due, status, asked.sent - asked.due))
        if status != 200 and asked.retries:
            self._ask(now, asked.retries - 1)

    def lost(self, connection: Connection) -> None:
        """The connection is of no more use."""
        self._free.pop(connection, None)

    def _give_up(self, now: float) -> None:
        while self._under_way and self._under_way[0].due + self._deadline <= now:
            asked = self._under_way.popleft()
            if asked.connection is not None:
                asked.connection.drop()
                self.answered(asked, TIMED_OUT, None)


def content_length(head: bytes) -> int:
    """Of a head in lower case; answers without one have no body here."""
    _, found, rest = head.partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def read_phase(text: str) -> tuple[float, float]:
    """Requests a second and seconds of `RATE:SECONDS`."""
    rate, _, seconds = text.partition(":")
    return float(rate), float(seconds)


async def main() -> None:
    """Put the load on and print what came of it."""
    port, path, *phases = sys.argv[1:]
    answers = await Load(int(port), path).run([read_phase(phase) for phase in phases])
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    uvloop.run(main())
