"""`python -m bench.datapath`: what Python spends on one request, without sockets and kernel.

Both sides are transports in memory: the client sends the next request when it has its answer, the upstream answers at
once. The best of many short rounds is printed, which a busy machine disturbs least. With `--profile` cProfile shows the
calls; only their order of cost means something.
"""

import argparse
import asyncio
import cProfile
import pstats
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import uvloop

from proxy.app import App
from proxy.process import settle_garbage
from proxy.upstream.dial import Dialer

POLICIES = """
server: {{listen: 127.0.0.1:0, admin: off, access_log: {log}}}
upstreams: {{api: {{url: "http://127.0.0.1:9"}}}}
routes:
  - {{name: property, match: "GET /properties/{{id}}"}}
  - {{name: limited, match: "GET /limited", rate_limit: 1/day}}
  - name: all
    match: "GET /all"
    rate_limit: 1000000/s
    retry: standard
    breaker: {{}}
    bulkhead: {{max_concurrent: 1000}}
"""
PATHS = {"get": "/properties/1", "all": "/all", "limited": "/limited", "unmatched": "/nowhere"}
"""What can be asked: without policies, with all of them, refused by a limit, without a route."""
REQUEST = "GET {} HTTP/1.1\r\nHost: localhost:8080\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n"
BODY = b'{"id":1,"text":"' + b"x" * 1000 + b'"}'
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 21 Nov 2026 22:23:49 GMT\r\nContent-Type: application/json\r\n"
    b'Content-Length: %d\r\nConnection: keep-alive\r\nETag: "1"\r\n\r\n%b' % (len(BODY), BODY)
)


class MemoryTransport:
    """A transport whose peer is a function."""

    def __init__(self, on_write: Callable[[bytes], object], descriptor: socket.socket) -> None:
        self._on_write = on_write
        self._socket = descriptor

    def write(self, data: bytes) -> None:
        """Hand over what was written."""
        self._on_write(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The peer's address, and a socket on which nothing ever arrives."""
        return {"peername": ("127.0.0.1", 1), "socket": self._socket}.get(name, default)

    def get_write_buffer_size(self) -> int:
        """Always drained."""
        return 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Client:
    """One keep-alive connection that asks again and again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Any, quiet: socket.socket, path: str) -> None:
        self._loop = loop
        self._request = REQUEST.format(path).encode()
        self._connection = connection
        self._left = 0
        self._done = loop.create_future()
        connection.connection_made(MemoryTransport(self._answered, quiet))

    async def ask(self, times: int) -> None:
        """Send `times` requests, one after the other."""
        self._left = times
        self._done = self._loop.create_future()
        self._loop.call_soon(self._connection.data_received, self._request)
        await self._done

    def _answered(self, _: bytes) -> None:
        self._left -= 1
        if self._left:
            self._loop.call_soon(self._connection.data_received, self._request)
        else:
            self._done.set_result(None)


async def measure(path: str, rounds: int, requests: int, connections: int, profiler: cProfile.Profile | None) -> float:
    """Microseconds of CPU per request in the best round."""
    loop = asyncio.get_running_loop()
    quiet, other_end = socket.socketpair()
    with tempfile.TemporaryDirectory() as folder, quiet, other_end:
        policies = Path(folder) / "policies.yaml"
        policies.write_text(POLICIES.format(log=Path(folder) / "access.log"))
        Dialer._connect = _connect_in_memory(loop, quiet)  # type: ignore[method-assign]
        app = App(policies)
        await app.start()
        clients = [Client(loop, app._edge(), quiet, path) for _ in range(connections)]
        settle_garbage()
        best = float("inf")
        if profiler is not None:
            profiler.enable()
        for _ in range(rounds):
            started = process_time()
            await asyncio.gather(*(client.ask(requests) for client in clients))
            best = min(best, (process_time() - started) / (requests * connections))
        if profiler is not None:
            profiler.disable()
        await app.stop()
    return best * 1e6


def _connect_in_memory(loop: asyncio.AbstractEventLoop, quiet: socket.socket) -> Any:
    async def connect(_: Dialer, factory: Callable[[], Any], address: str) -> Any:
        protocol = factory()
        protocol.connection_made(MemoryTransport(lambda _: loop.call_soon(protocol.data_received, RESPONSE), quiet))
        return protocol

    return connect


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=PATHS, default="get")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--requests", type=int, default=50, help="per connection and round")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    profiler = cProfile.Profile() if options.profile else None
    best = uvloop.run(measure(PATHS[options.what], options.rounds, options.requests, options.connections, profiler))
    print(f"{options.what}: {best:.2f} µs a request (best of {options.rounds} rounds)")
    if profiler is not None:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main()
