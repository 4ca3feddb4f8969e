"""Binds the data port and stops accepting on it."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

from proxy.config.types import ListenAddress

BACKLOG = 512


class Listener:
    """One listening socket, TCP or Unix."""

    def __init__(self, address: ListenAddress, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._address = address
        self._protocol = protocol
        self._server: asyncio.AbstractServer | None = None
        self.port = 0
        """The port in use; 0 on a Unix socket or before `start`."""

    async def start(self) -> None:
        """Bind and accept. Raises OSError with the address in its text."""
        loop = asyncio.get_running_loop()
        try:
            if self._address.path:
                _remove_dead_socket(self._address.path)
                self._server = await loop.create_unix_server(self._protocol, self._address.path, backlog=BACKLOG)
                return
            host = self._address.host or None
            self._server = await loop.create_server(
                self._protocol, host, self._address.port, backlog=BACKLOG, reuse_address=True
            )
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {self._address}: {error.strerror or error}") from None
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Accept no more; connections that exist are not touched. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
            if self._address.path:
                Path(self._address.path).unlink(missing_ok=True)


def _remove_dead_socket(path: str) -> None:
    """A Unix socket outlives the process that made it; remove it unless somebody answers there."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
