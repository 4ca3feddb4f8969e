"""The connections to one Redis server.

redis-py opens them, logs in and speaks the protocol. Which connection a command goes out on, for how long, and what
follows from a failure is decided here and in `redis.py`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from redis import exceptions
from redis.asyncio.connection import AbstractConnection

from proxy.resilience.store_guard import StoreGuard
from proxy.storage.errors import StoreError
from proxy.storage.failures import NotConnected

Make = Callable[[], AbstractConnection]


class Node:
    """One server: up to `limit` connections, used one command at a time, and what is known of its health."""

    def __init__(self, name: str, make: Make, limit: int, random: Callable[[], float]) -> None:
        self.name = name
        self.reach = StoreGuard(random)
        """Open while the server is of no use."""
        self.writes = StoreGuard(random)
        """Open while the server answers, but refuses what we ask."""
        self.make = make
        """A new connection, not counted here."""
        self._limit = limit
        self._made = 0
        self._idle: list[AbstractConnection] = []
        self._waiting: deque[asyncio.Future[AbstractConnection]] = deque()
        self._closed = False

    async def call(self, *words: bytes | int | str, asking: bool = False) -> Any:
        """Send one command and read its answer; opens a connection when there is none.

        Whatever ends it before the answer is complete, cancellation too, ends the connection: no answer can be left
        behind for the next command. Raises what is in FAILURES, and StoreError when the server is given up meanwhile.
        """
        if self._closed:
            raise StoreError("unavailable", "the client is closed")
        connection = await self._take()
        try:
            await _ready(connection)
            if asking:
                await connection.send_command("ASKING")
                await connection.read_response()
            await connection.send_command(*words)
            answer = await connection.read_response()
        except exceptions.ResponseError:  # a complete answer, too
            raise
        except (ValueError, TypeError, IndexError, RecursionError) as error:  # redis-py's parser trusts the server
            await connection.disconnect(nowait=True)
            raise exceptions.InvalidResponse(f"no answer of a Redis server: {error}") from error
        except BaseException:
            await connection.disconnect(nowait=True)  # waits for nothing: a second cancellation does not interrupt it
            raise
        finally:
            if self._closed:
                await connection.disconnect(nowait=True)
            self._give_back(connection)
        return answer

    def give_up(self) -> None:
        """Send those away who wait for a connection."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(StoreError("unavailable"))

    async def drop_idle(self) -> None:
        """Close the connections that are not in use: the address may stand for another server now."""
        for connection in list(self._idle):
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close what is idle now, and the rest as it is given back."""
        self._closed = True
        self.give_up()
        await self.drop_idle()

    async def _take(self) -> AbstractConnection:
        if self._idle:
            return self._idle.pop()
        if self._made < self._limit:
            self._made += 1
            return self.make()
        waiter: asyncio.Future[AbstractConnection] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_back(waiter.result())  # given in the moment of the cancellation
            raise

    def _give_back(self, connection: AbstractConnection) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append(connection)

    def __repr__(self) -> str:
        return f"<Node {self.name} made={self._made} idle={len(self._idle)} waiting={len(self._waiting)}>"


async def _ready(connection: AbstractConnection) -> None:
    """Open it, unless it is open and nothing has arrived that nobody asked for, the server's farewell included."""
    if connection.is_connected and await connection.can_read():
        await connection.disconnect(nowait=True)
    if not connection.is_connected:
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except (exceptions.RedisError, OSError) as error:
            raise NotConnected(error) from error
