"""Binds the data port and stops accepting on it."""

import asyncio
import contextlib
import errno
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from proxy.config.types import ListenAddress
from proxy.server.shared_port import BACKLOG, Neighbours, SharedPort

MAX_TURNS = 100
"""Turns of the event loop in which the last connections are accepted: a flood of them must not hold up the end."""


class Listener:
    """One listening address, TCP or Unix; `inherited` where the supervisor has bound it."""

    def __init__(
        self,
        address: ListenAddress,
        protocol: Callable[[], asyncio.BaseProtocol],
        inherited: SharedPort | None = None,
    ) -> None:
        self._address = address
        self._protocol = protocol
        self._inherited = inherited
        self._servers: list[asyncio.Server] = []
        self._neighbours: Neighbours | None = None
        self.port = 0
        """The port in use; 0 on a Unix socket or before `start`."""

    async def start(self) -> None:
        """Bind and accept. Raises OSError."""
        if self._inherited is None:
            self._servers = [await self._serve()]
        else:
            self._servers = [await self._serve_on(sock) for sock in self._inherited.own]
            if self._inherited.others:
                self._neighbours = Neighbours(self._inherited.others, self._protocol)
        if not self._address.path:
            self.port = self._servers[0].sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Take who has connected already, and then no more; connections that exist are not touched. Idempotent."""
        for _ in range(MAX_TURNS):
            if not self._is_asked():
                break
            await asyncio.sleep(0)
        self._close()
        if self._neighbours is not None:
            await self._neighbours.stop()

    async def _serve(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if self._address.path:
            return await loop.create_unix_server(self._protocol, self._address.path, backlog=BACKLOG)
        host = self._address.host or None
        return await loop.create_server(self._protocol, host, self._address.port, backlog=BACKLOG, reuse_address=True)

    async def _serve_on(self, sock: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if sock.family != socket.AF_UNIX:
            return await loop.create_server(self._protocol, sock=sock, backlog=BACKLOG)
        # The file stays when we leave: others accept on it.
        keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        return await loop.create_unix_server(self._protocol, sock=sock, backlog=BACKLOG, **keep)

    def _close(self) -> None:
        for server in self._servers:
            server.close()
        if self._servers and self._inherited is None:
            unlink(self._address)
        self._servers = []

    def _is_asked(self) -> bool:
        """Whether somebody waits to be accepted: closing now would reset a client that believes to be connected."""
        poll = select.poll()
        for server in self._servers:
            for sock in server.sockets:
                poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))


def unlink(address: ListenAddress) -> None:
    """Remove the file of a Unix socket that nobody listens on any more."""
    if address.path:
        Path(address.path).unlink(missing_ok=True)


@contextlib.contextmanager
def binding(address: ListenAddress) -> Iterator[None]:
    """Around whatever listens on `address`: its OSError then says where and why, in words for the operator.

    A Unix socket outlives its process, so the event loop removes the file that it finds; not from under a live one.
    """
    try:
        if address.path and _is_answered(address.path):
            raise OSError(errno.EADDRINUSE, "")
        yield
    except OSError as error:
        is_lookup = isinstance(error, socket.gaierror)
        reason = error.strerror if is_lookup or error.errno is None else os.strerror(error.errno)
        raise OSError(error.errno, f"cannot listen on {address}: {reason}") from None


def _is_answered(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True
