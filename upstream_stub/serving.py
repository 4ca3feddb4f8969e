"""Hypercorn's HTTP server on our own accept loop.

`hypercorn.asyncio.serve` keeps each connection's transport to itself; faults need it (RST, a close in mid-body).
So every accepted connection goes to Hypercorn's `TCPServer` from here, with its transport in the ASGI `state`.
"""

import asyncio
import socket
from typing import cast

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from starlette.types import ASGIApp, Scope

GRACE = 0.5
"""Seconds that requests in flight have to end when the server stops."""


async def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serves `app` until cancelled; then stops accepting, lets requests end for a moment and drops the rest."""
    config = Config()
    config.include_server_header = False
    config.loglevel = "WARNING"
    loop = asyncio.get_running_loop()
    context = WorkerContext(None)
    wrapped = ASGIWrapper(cast("ASGIFramework", app))
    connections: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await TCPServer(wrapped, loop, config, context, {"transport": writer.transport}, reader, writer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Hypercorn writes head and body apart: with Nagle's algorithm the body would wait for the client's delayed ACK
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(run(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, sock=listener, backlog=config.backlog)
    try:
        await loop.create_future()
    finally:
        server.close()
        await context.terminated.set()  # idle connections close at once
        await _finish(connections)


async def _finish(connections: set[asyncio.Task[None]]) -> None:
    if not connections:
        return
    _, late = await asyncio.wait(connections, timeout=GRACE)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)


def transport_of(scope: Scope) -> asyncio.WriteTransport:
    """The transport of the connection that carries the request of `scope`."""
    transport: asyncio.WriteTransport = scope["state"]["transport"]
    return transport
