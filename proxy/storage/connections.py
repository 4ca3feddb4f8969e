"""Connections to Redis by redis-py. No other module imports it, and this one only when Redis is configured: it is slow.

redis-py opens connections, logs in, finds the master behind sentinels and speaks the protocol. Which connection a
command goes out on, for how long, and what follows from a failure is decided here and in `redis.py`.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from redis import exceptions
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from proxy.config.policies import RedisConfig
from proxy.resilience.store_guard import StoreGuard
from proxy.storage.errors import StoreError

FAILURES: Final = (exceptions.RedisError, exceptions.RedisClusterException, OSError)
"""All that redis-py raises; our own time limit raises TimeoutError, which is an OSError."""

Make = Callable[[], AbstractConnection]


def connection_options(config: RedisConfig) -> dict[str, Any]:
    """What every connection is made with.

    Retries, health checks and the limit on reading are off: they would each take their time, and `redis.py` has one
    limit for the whole call. RESP2 and no client information save two round trips at each start of a connection.
    """
    return {
        "username": config.url.username or None,
        "password": config.url.password or None,
        "socket_timeout": None,
        "socket_connect_timeout": config.timeout,
        "retry": Retry(NoBackoff(), 0),  # type: ignore[no-untyped-call]
        "health_check_interval": 0,
        "protocol": 2,
        "driver_info": None,
    }


class Node:
    """One server: up to `limit` connections, used one command at a time, and what is known of its health."""

    def __init__(self, name: str, make: Make, limit: int, random: Callable[[], float]) -> None:
        self.name = name
        self.reach = StoreGuard(random)
        """Open while the server is of no use."""
        self.writes = StoreGuard(random)
        """Open while the server answers, but refuses what we ask."""
        self._make = make
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
        connection = await self._take()
        try:
            await _ready(connection)
            if asking:
                await connection.send_command("ASKING")
                await connection.read_response()
            await connection.send_command(*words)
            answer = await connection.read_response()
        except exceptions.ResponseError:  # a complete answer, too
            self._give_back(connection)
            raise
        except BaseException:
            # The connection is given back even if this is cancelled again: the call does not wait for anything.
            await connection.disconnect(nowait=True)
            self._give_back(connection)
            raise
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

    @property
    def open_connections(self) -> int:
        """Connections that are idle and open."""
        return sum(connection.is_connected for connection in self._idle)

    async def _take(self) -> AbstractConnection:
        if self._idle:
            return self._idle.pop()
        if self._made < self._limit:
            self._made += 1
            return self._make()
        waiter = asyncio.get_running_loop().create_future()
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
            await connection.connect()
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
            raise NotConnected(error) from error


class NotConnected(Exception):
    """There is no connection, for the reason in its argument."""


# --- what errors mean -----------------------------------------------------------------------------------------------

_CODES: Final = {
    "BUSY": "busy",
    "CLUSTERDOWN": "clusterdown",
    "LOADING": "loading",
    "MASTERDOWN": "masterdown",
    "MISCONF": "misconf",
    "NOAUTH": "noauth",
    "NOPERM": "noperm",
    "NOREPLICAS": "noreplicas",
    "OOM": "oom",
    "READONLY": "readonly",
    "TRYAGAIN": "clusterdown",
    "WRONGPASS": "noauth",
    "WRONGTYPE": "wrongtype",
}
_CODE_WITHIN: Final = re.compile("-(" + "|".join(_CODES) + r")\b")
"""Redis 6 wraps the error of a command in a script into one of its own."""


def store_error(error: BaseException) -> StoreError:
    """The StoreError for one of FAILURES or NotConnected."""
    return StoreError(_outcome(error), str(error))


def _outcome(error: BaseException) -> str:
    match error:
        case NotConnected(args=(cause,)):
            outcome = _outcome(cause)
            return "refused" if outcome == "lost" else outcome
        case TimeoutError() | exceptions.TimeoutError():
            return "timeout"
        case exceptions.AuthenticationError():
            return "noauth"
        case exceptions.InvalidResponse():
            return "protocol"
    text = str(error)
    code = getattr(error, "status_code", None) or text.partition(" ")[0]
    if code in _CODES:
        return _CODES[code]
    if "max number of clients" in text:
        return "maxclients"
    if "previous master is now a slave" in text:  # redis-py's own words where sentinels are asked
        return "readonly"
    if isinstance(error, exceptions.ResponseError):
        within = _CODE_WITHIN.search(text)
        return _CODES[within[1]] if within else "error"
    return "lost"


# --- which server ---------------------------------------------------------------------------------------------------
