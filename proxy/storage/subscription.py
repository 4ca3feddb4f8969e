"""Messages by pub/sub, for as long as they come and through every interruption.

Redis keeps no message for those who are not listening. So after each start of a subscription, and whenever messages had
to be dropped, its consumer is told of a gap: what it knows may be out of date.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.storage.errors import StoreError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

log = logging.getLogger("tidegate.redis")

PING_AFTER: Final = 5.0
"""Seconds of silence after which the server is asked whether it is there, and for which its answer is awaited."""
BACKOFF: Final = 0.1
"""Longest wait in seconds before the second attempt; it doubles with each failure in a row."""
MAX_BACKOFF: Final = 1.0
LIMIT: Final = 10_000
"""Messages that may wait for the consumer."""
_TURN: Final = 100
"""Messages that are taken before others get their turn of the event loop."""


class Message(NamedTuple):
    """What somebody published."""

    channel: bytes
    data: bytes


class Gap(NamedTuple):
    """Messages may be missing before the next one."""

    reason: str
    """`subscribed` (for the first time or again) or `overflow`."""


class Subscription:
    """The messages of `channels`. `make` gives a new connection or raises StoreError."""

    def __init__(
        self,
        make: "Callable[[], AbstractConnection]",
        channels: Sequence[bytes],
        *,
        timeout: float,
        random: Callable[[], float],
        ping_after: float = PING_AFTER,
        limit: int = LIMIT,
    ) -> None:
        self._make = make
        self._channels = channels
        self._timeout = timeout
        self._random = random
        self._ping_after = ping_after
        self._limit = limit
        self._items: deque[Message | Gap] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.is_live = False
        """Whether messages arrive now."""
        self.on_loss: Callable[[float], None] | None = None
        """Called when none arrive any more, with the seconds since the last sign of life."""
        self._heard_at = 0.0

    def start(self) -> None:
        """Subscribe, now and again after every interruption."""
        self._task = asyncio.get_running_loop().create_task(self._supervise())

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def next(self) -> Message | Gap:
        """The next message, or word that some are missing. Waits for it."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        return self._items.popleft()

    async def _supervise(self) -> None:
        from proxy.storage.failures import FAILURES

        failures = 0
        while True:
            try:
                await self._listen()
            except FAILURES as error:
                log.debug("a subscription was interrupted", extra={"reason": str(error)})
            except Exception:
                log.exception("Bug: a subscription starts anew")
            failures = 0 if self.is_live else failures + 1
            self._lost()
            longest = min(BACKOFF * 2 ** min(failures, 10), MAX_BACKOFF)
            await asyncio.sleep(longest * (0.5 + 0.5 * self._random()))

    async def _listen(self) -> None:
        """Take messages until the connection fails. Raises what is in FAILURES."""
        connection = self._make()
        try:
            async with asyncio.timeout(self._timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
                await connection.send_command(b"SUBSCRIBE", *self._channels)
                for _channel in self._channels:
                    await connection.read_response()
            self.is_live = True
            self._heard_at = asyncio.get_running_loop().time()
            self._gap("subscribed")
            await self._receive(connection)
        finally:
            await connection.disconnect(nowait=True)

    def _lost(self) -> None:
        was_live, self.is_live = self.is_live, False
        if was_live and self.on_loss is not None:
            self.on_loss(asyncio.get_running_loop().time() - self._heard_at)

    async def _receive(self, connection: "AbstractConnection") -> None:
        time = asyncio.get_running_loop().time
        is_asked = False
        taken = 0
        while True:
            # A limit of the reader's own does not end the connection, and a message that has half arrived stays.
            answer = await connection.read_response(timeout=self._ping_after)
            if answer is not None:
                self._heard_at = time()
                is_asked = False
                if answer[0] == b"message":
                    self._put(Message(answer[1], answer[2]))
            elif is_asked:
                raise StoreError("timeout", "the server is silent")
            else:
                is_asked = True
                async with asyncio.timeout(self._timeout):
                    await connection.send_command(b"PING")
            taken += 1
            if taken % _TURN == 0:
                await asyncio.sleep(0)

    def _put(self, message: Message) -> None:
        if len(self._items) >= self._limit:
            self._gap("overflow")
        self._items.append(message)
        self._arrived.set()

    def _gap(self, reason: str) -> None:
        """What still waits does not matter any more: the consumer has to forget everything that it knows."""
        self._items.clear()
        self._items.append(Gap(reason))
        self._arrived.set()
