"""An upstream with a fixed capacity: SLOTS requests at a time, SERVICE seconds each, and a queue without end.

It knows nothing of clients that leave: what has been asked is worked on, wanted or not, as in most servers. Paths that
begin with /fail are answered 503 at once, without a slot. `GET /stats` tells how often it has been asked.
"""

import asyncio
import json
import sys
from collections import deque
from typing import cast

import uvloop

SLOTS = 10
SERVICE = 0.05
"""Seconds."""
CAPACITY = SLOTS / SERVICE
"""Requests a second."""
_OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"id":"1234"}'
_FAILED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Upstream:
    """The slots and the queue before them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, slots: int = SLOTS, service: float = SERVICE) -> None:
        self._loop = loop
        self._free = slots
        self._service = service
        self._queue: deque[Connection] = deque()
        self.hits = 0

    def ask(self, connection: "Connection", target: bytes) -> None:
        """Answer, now or when it is that request's turn."""
        if target == b"/stats":
            body = json.dumps({"hits": self.hits}).encode()
            connection.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            return
        self.hits += 1
        if target.startswith(b"/fail"):
            connection.answer(_FAILED)
        elif self._free:
            self._free -= 1
            self._serve(connection, self._loop.time())
        else:
            self._queue.append(connection)

    def _serve(self, connection: "Connection", start: float) -> None:
        end = start + self._service
        self._loop.call_at(end, self._served, connection, end)

    def _served(self, connection: "Connection", end: float) -> None:
        connection.answer(_OK)
        if self._queue:
            self._serve(self._queue.popleft(), end)  # a timer that was late takes nothing from the capacity
        else:
            self._free += 1


class Connection(asyncio.Protocol):
    """Reads requests without a body, one at a time."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Ask for every complete request."""
        *heads, self._buffer = (self._buffer + data).split(b"\r\n\r\n")
        for head in heads:
            self._upstream.ask(self, head.split(b" ", 2)[1])

    def answer(self, data: bytes) -> None:
        """Send `data`, if anybody is there to take it."""
        if not self._transport.is_closing():
            self._transport.write(data)


async def serve(port: int) -> None:
    """Listen until the process is ended."""
    loop = asyncio.get_running_loop()
    upstream = Upstream(loop)
    server = await loop.create_server(lambda: Connection(upstream), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
