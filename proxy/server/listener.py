"""Binds the data port and stops accepting on it."""

import asyncio
import contextlib
import errno
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from proxy.config.types import ListenAddress

BACKLOG = 512
MAX_TURNS = 100
"""Turns of the event loop in which the last connections are accepted: a flood of them must not hold up the end."""


class Listener:
    """One listening address, TCP or Unix. `inherited` are its sockets where another process has bound it."""

    def __init__(
        self,
        address: ListenAddress,
        protocol: Callable[[], asyncio.BaseProtocol],
        inherited: Sequence[socket.socket] = (),
    ) -> None:
        self._address = address
        self._protocol = protocol
        self._inherited = inherited
        self._servers: list[asyncio.Server] = []
        self.port = 0
        """The port in use; 0 on a Unix socket or before `start`."""

    async def start(self) -> None:
        """Bind and accept. Raises OSError."""
        if self._inherited:
            self._servers = [await self._serve_on(sock) for sock in self._inherited]
        else:
            self._servers = [await self._serve()]
        if not self._address.path:
            self.port = self._servers[0].sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Take who has connected already, and then no more; connections that exist are not touched. Idempotent."""
        for _ in range(MAX_TURNS):
            if not self._is_asked():
                break
            await asyncio.sleep(0)
        self._close()

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
        if self._servers and self._address.path and not self._inherited:
            Path(self._address.path).unlink(missing_ok=True)
        self._servers = []

    def _is_asked(self) -> bool:
        """Whether somebody waits to be accepted: closing now would reset a client that believes to be connected."""
        poll = select.poll()
        for server in self._servers:
            for sock in server.sockets:
                poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))


def bind(address: ListenAddress) -> list[socket.socket]:
    """Sockets that listen on `address`, for processes that inherit them. Raises OSError, and keeps none then."""
    with contextlib.ExitStack() as bound:
        sockets = []
        for family, place in _places(address):
            try:
                sock = bound.enter_context(socket.socket(family, socket.SOCK_STREAM))
            except OSError:
                continue  # this machine does not have that kind of address
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            sock.bind(place)
            sock.listen(BACKLOG)
            sockets.append(sock)
        bound.pop_all()
    return sockets


def _places(address: ListenAddress) -> list[tuple[int, Any]]:
    """Address families, and what to bind to in each."""
    if address.path:
        path = Path(address.path)
        if path.is_socket():
            path.unlink()  # left behind: `binding` has seen that nobody answers
        return [(socket.AF_UNIX, address.path)]
    found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, place) for family, _, _, _, place in found))


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
