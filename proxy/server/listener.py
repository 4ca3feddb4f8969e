"""Binds the data port and stops accepting on it."""

import asyncio
import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from proxy.config.types import ListenAddress

BACKLOG = 512
MAX_TURNS = 100
"""Turns of the event loop in which the last connections are accepted: a flood of them must not hold up the end."""


class Listener:
    """One listening socket, TCP or Unix."""

    def __init__(self, address: ListenAddress, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._address = address
        self._protocol = protocol
        self._server: asyncio.Server | None = None
        self.port = 0
        """The port in use; 0 on a Unix socket or before `start`."""

    async def start(self) -> None:
        """Bind and accept. Raises OSError."""
        loop = asyncio.get_running_loop()
        if self._address.path:
            self._server = await loop.create_unix_server(self._protocol, self._address.path, backlog=BACKLOG)
            return
        host = self._address.host or None
        self._server = await loop.create_server(
            self._protocol, host, self._address.port, backlog=BACKLOG, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Take who has connected already, and then no more; connections that exist are not touched. Idempotent."""
        for _ in range(MAX_TURNS):
            if not self._is_asked():
                break
            await asyncio.sleep(0)
        self._close()

    def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            if self._address.path:
                Path(self._address.path).unlink(missing_ok=True)

    def _is_asked(self) -> bool:
        """Whether somebody waits to be accepted: closing now would reset a client that believes to be connected."""
        if self._server is None:
            return False
        poll = select.poll()
        for sock in self._server.sockets:
            poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))


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
