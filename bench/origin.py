"""An origin for machines without nginx: a bare asyncio protocol that gives every request its answer."""

import asyncio
import sys
from typing import cast

import uvloop

HEAD = "HTTP/1.1 200 OK\r\nContent-Type: {type}\r\nContent-Length: {length}\r\n\r\n"


class Origin(asyncio.Protocol):
    """Answers each request once its head and its Content-Length are complete."""

    def __init__(self, small: bytes, large: bytes) -> None:
        self._small = small
        self._large = large
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every complete request in the buffer."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n") + 4) > 3:
            head = self._buffer[:end]
            end += content_length(head)
            if len(self._buffer) < end:
                return
            self._buffer = self._buffer[end:]
            self._transport.write(self._large if head.startswith(b"GET /large ") else self._small)


def content_length(head: bytes) -> int:
    """Declared length of the body that follows; the proxies under test send no chunked bodies here."""
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def answer(body: bytes, media_type: str) -> bytes:
    """A whole response."""
    return HEAD.format(type=media_type, length=len(body)).encode() + body


async def serve(port: int, body: bytes) -> None:
    """Listen until the process is ended."""
    small = answer(body, "application/json")
    large = answer(b"x" * 2**20, "application/octet-stream")
    server = await asyncio.get_running_loop().create_server(lambda: Origin(small, large), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2].encode()))
