"""Host names to addresses, with a short memory and no thread that anybody waits for."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Final

from proxy.errors import DnsError

TTL: Final = 10.0
"""Seconds for which an answer is used; a changed one takes effect at most this much later on new connections."""

Lookup = Callable[[str, int], list[str]]
"""Blocking: the addresses of host and port in order of preference. Raises OSError."""


def lookup(host: str, port: int) -> list[str]:
    """Ask the system's resolver. Raises socket.gaierror."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Resolver:
    """Looks names up in threads, one per name at most, so that one slow name keeps nobody else waiting.

    The threads are daemons: a resolver that hangs does not hold up the end of the process either.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lookup: Lookup = lookup, ttl: float = TTL) -> None:
        self._loop = loop
        self._lookup = lookup
        self._ttl = ttl
        self._answers: dict[tuple[str, int], tuple[float, list[str]]] = {}
        self._running: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def resolve(self, host: str, port: int) -> list[str]:
        """At least one address. Raises DnsError."""
        known = self._answers.get((host, port))
        if known is not None and self._loop.time() < known[0]:
            return known[1]
        running = self._running.get((host, port))
        if running is None:
            running = self._start(host, port)
        # A waiter that gives up must not end the look-up for the others.
        return await asyncio.shield(running)

    def _start(self, host: str, port: int) -> asyncio.Future[list[str]]:
        threading.Thread(target=self._work, args=(host, port), name=f"resolve-{host}", daemon=True).start()
        # Only now: where no thread can be started, the next look-up has to try again.
        self._running[host, port] = future = self._loop.create_future()
        return future

    def _work(self, host: str, port: int) -> None:
        addresses: list[str] = []
        cause = "the name has no address"
        try:
            addresses = self._lookup(host, port)
        except (OSError, UnicodeError) as error:
            cause = repr(error)
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            self._loop.call_soon_threadsafe(self._done, host, port, addresses, cause)

    def _done(self, host: str, port: int, addresses: list[str], cause: str) -> None:
        future = self._running.pop((host, port))
        if addresses:
            self._answers[host, port] = (self._loop.time() + self._ttl, addresses)
            future.set_result(addresses)
        else:
            future.set_exception(DnsError(cause=cause, request_written=False))
            future.exception()  # whoever waited may have given up

    def __repr__(self) -> str:
        return f"<Resolver known={len(self._answers)} running={len(self._running)}>"
