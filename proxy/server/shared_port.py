"""A data port that several worker processes share.

On Linux each has a listening socket of its own (SO_REUSEPORT) and the kernel spreads the connections over them evenly,
which it does not where all wait on one socket. Every worker holds the sockets of the others, too: so no connection is
lost with the process that should have taken it, and the others take what it leaves waiting.
"""

import asyncio
import contextlib
import select
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.config.addresses import ListenAddress

BACKLOG = 512
_LOOK_EVERY = 0.05
_Place = tuple[int, Any]
"""An address family, and what to bind to."""


@dataclass(frozen=True, slots=True)
class SharedPort:
    """What one worker has of the port."""

    own: Sequence[socket.socket]
    others: Sequence[socket.socket] = ()
    """Those of its neighbours."""


def bind_shared(address: ListenAddress, workers: int) -> list[SharedPort]:
    """Listen on `address` for so many workers. Raises OSError, and keeps nothing then."""
    with contextlib.ExitStack() as bound:
        if address.path or sys.platform != "linux":
            ports = [SharedPort(_bind_all(_places(address), bound))] * workers
        else:
            places = _vacant(_places(address))
            groups = [_bind_all(places, bound, reuse_port=True) for _ in range(workers)]
            ports = [SharedPort(own, [s for group in groups if group is not own for s in group]) for own in groups]
        bound.pop_all()
    return ports


def _places(address: ListenAddress) -> list[_Place]:
    if address.path:
        path = Path(address.path)
        if path.is_socket():
            path.unlink()  # left behind: `binding` has seen that nobody answers
        return [(socket.AF_UNIX, address.path)]
    found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, place) for family, _, _, _, place in found))


def _vacant(places: Sequence[_Place]) -> list[_Place]:
    """`places` with the ports that they get. Raises OSError for one that is taken: SO_REUSEPORT would join in there."""
    with contextlib.ExitStack() as probes:
        return [(sock.family, sock.getsockname()) for sock in _bind_all(places, probes)]


def _bind_all(
    places: Sequence[_Place], bound: contextlib.ExitStack, *, reuse_port: bool = False
) -> list[socket.socket]:
    sockets = []
    for family, place in places:
        try:
            sock = bound.enter_context(socket.socket(family, socket.SOCK_STREAM))
        except OSError:
            continue  # this machine does not have that kind of address
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind(place)
        sock.listen(BACKLOG)
        sockets.append(sock)
    return sockets


class Neighbours:
    """Takes what the other workers leave waiting for longer than a twentieth of a second: they are blocked, or gone."""

    def __init__(self, sockets: Sequence[socket.socket], protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._sockets = {sock.fileno(): sock for sock in sockets}
        self._protocol = protocol
        self._poll = select.poll()
        for number in self._sockets:
            self._poll.register(number, select.POLLIN)
        self._task = asyncio.create_task(self._look_after_them())

    async def stop(self) -> None:
        """Take what waits now, and leave the rest to others. Idempotent."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for number in self._asked():
            await self._take(self._sockets[number])
        for sock in self._sockets.values():
            sock.close()
        self._sockets = {}

    async def _look_after_them(self) -> None:
        before: set[int] = set()
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            asked = self._asked()
            for number in before & asked:
                await self._take(self._sockets[number])
            before = asked

    def _asked(self) -> set[int]:
        return {number for number, _ in self._poll.poll(0)} if self._sockets else set()

    async def _take(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(BACKLOG):
            try:
                connection, _ = listening.accept()
            except OSError:
                return  # somebody was faster, or there are no file descriptors left
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # its client has left
                await loop.connect_accepted_socket(self._protocol, connection)
