"""What passes between a connection and the edge: messages one way, the fact that they were answered the other."""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import StreamReader
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage

from proxy.config.model import Limits
from proxy.errors import ProxyError
from proxy.outbox import Outbox
from proxy.server.known_heads import KnownHead, KnownHeads

if TYPE_CHECKING:
    from proxy.server.connection import Connection


class IncomingRequest:
    """What aiohttp hands over for a message, without the cost of its own request class."""

    __slots__ = ("_task", "connection", "known", "message", "payload", "writer")

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        connection: "Connection",
        writer: AbstractStreamWriter | None = None,
        task: "asyncio.Task[None] | None" = None,
        known: KnownHead | None = None,
    ) -> None:
        self.message = message
        self.payload = payload
        self.connection = connection
        self.writer = writer
        self._task = task
        self.known = known
        """What is remembered of its head, or can be."""

    @property
    def is_alone(self) -> bool:
        """Whether it took the lane: aiohttp's request loop does not wait for its answer."""
        return self.writer is None

    def _finish(self) -> None:
        """aiohttp's hook for the end of the request; nothing to do."""

    def _cancel(self, error: BaseException) -> None:
        """aiohttp's hook for a lost connection: wake whoever reads the body."""
        self.payload.set_exception(error)


class Answered:
    """Tells aiohttp that the response has been written, and whether the connection goes on."""

    __slots__ = ("keep_alive",)

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, _request: object) -> None:
        """Nothing is left to do."""

    async def write_eof(self) -> None:
        """Nothing is left to do."""


class Edge(Protocol):
    """What a connection needs from the edge that owns it."""

    @property
    def limits(self) -> Limits:
        """The limits in force now."""
        ...

    @property
    def known_heads(self) -> KnownHeads:
        """The heads that other connections have brought, too."""
        ...

    @property
    def outbox(self) -> Outbox:
        """Where answers may wait for the end of the loop's turn."""
        ...

    def admit(self, connection: "Connection") -> bool:
        """Whether one more connection may be opened."""
        ...

    def closed(self, connection: "Connection") -> None:
        """The connection is gone."""
        ...

    def answer(self, request: IncomingRequest) -> Coroutine[Any, Any, Answered]:
        """Answer a well-formed message."""
        ...

    def refuse(self, request: IncomingRequest, error: ProxyError) -> Coroutine[Any, Any, Answered]:
        """Answer a message that could not be parsed."""
        ...

    def refuse_slow_head(self, connection: "Connection") -> None:
        """Answer a head that does not get finished, and close."""
        ...


KEPT_ALIVE = Answered(keep_alive=True)
CLOSED = Answered(keep_alive=False)
