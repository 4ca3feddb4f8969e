"""The edge: an incoming message becomes an Exchange, its route's handler answers, the answer is written."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from random import Random
from typing import Any, cast

from aiohttp import EMPTY_PAYLOAD, web
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from aiohttp.web_protocol import ERROR

from proxy.config.model import Limits
from proxy.errors import ClientDisconnected, ProxyError, RequestTimeout, UpstreamTimeout
from proxy.exchange import Exchange, Handler, Response
from proxy.outbox import Outbox
from proxy.resilience.shedding import Shedder
from proxy.runtime import Runtime
from proxy.server.connection import Connection
from proxy.server.incoming import CLOSED, KEPT_ALIVE, Answered, IncomingRequest
from proxy.server.known_heads import KnownHeads
from proxy.server.opening import Opener
from proxy.server.response_writer import ResponseWriter
from proxy.server.tunnel import run_tunnel
from proxy.telemetry.events import Decision
from proxy.telemetry.instruments import ServerMetrics

HAS_STRICT_PARSER = HttpRequestParser is not HttpRequestParserPy
"""False where aiohttp runs without its C parser: the one in Python is not strict enough to stand at an edge."""
UNREAD_LIMIT = 64 * 1024
"""An unread request body of at most this length is read away, so that the connection can be used again."""
IDLE_SEARCH = 64
"""Connections looked at for an idle one when the limit is reached."""


class Edge(web.Server):
    """aiohttp's low-level server with our connections. `runtime` is the one reference that a reload swaps."""

    def __init__(
        self,
        runtime: Runtime,
        outbox: Outbox,
        metrics: ServerMetrics,
        random: Random,
        pseudonym: bytes,
    ) -> None:
        # aiohttp only passes the request from one to the other, and asks the result for `keep_alive`.
        handler, factory = cast("Any", self.answer), cast("Any", IncomingRequest)
        super().__init__(handler, request_factory=factory, handler_cancellation=True)
        self.runtime = runtime
        self.outbox = outbox
        self.known_heads = KnownHeads()
        self.draining = False
        self._metrics = metrics
        self._shedder = Shedder(random.random)
        self._opener = Opener(random.randbytes, pseudonym, self._shedder, metrics)
        self._writer = ResponseWriter(b"1.1 " + pseudonym)
        self._connected: dict[Connection, None] = {}
        self._tasks: set[asyncio.Task[Answered]] = set()
        self._tunnels: set[asyncio.Task[object]] = set()
        self._deserted = asyncio.Event()

    def __call__(self) -> Connection:
        """A protocol for one more client connection."""
        return Connection(self, self, self._loop)

    # --- connections ---

    @property
    def limits(self) -> Limits:
        """The limits in force now."""
        return self.runtime.config.server.limits

    def admit(self, connection: Connection) -> bool:
        """Whether one more connection may be opened; at the limit the longest open idle one makes room."""
        limit = self.limits.max_connections
        if len(self._connected) >= limit and not self._close_an_idle_one():
            self._metrics.client_connections_refused += 1
            return False
        self._connected[connection] = None
        self._metrics.client_connections = len(self._connected)
        return True

    def closed(self, connection: Connection) -> None:
        """The connection is gone."""
        self._connected.pop(connection, None)
        self._metrics.client_connections = len(self._connected)
        if not self._connected:
            self._deserted.set()

    def lagged(self, seconds: float) -> None:
        """The event loop ran a timer this much too late: what follows from that decides what is shed."""
        self._metrics.lagged(seconds)
        self._metrics.shed_level = self._shedder.sample(seconds, self.limits.loop_lag)

    def close_idle(self) -> None:
        """Close every connection that waits for a request of which nothing has come."""
        for connection in list(self._connected):
            connection.close_if_idle()

    def close_tunnels(self) -> None:
        """End every tunnel; both sides see an orderly close."""
        for task in self._tunnels:
            task.cancel()

    async def deserted(self) -> None:
        """Wait until the last client has its answer to the last byte and is gone."""
        while self._connected:
            self._deserted.clear()
            await self._deserted.wait()

    def _close_an_idle_one(self) -> bool:
        for connection, _ in zip(self._connected, range(IDLE_SEARCH), strict=False):
            if connection.is_idle:
                self.closed(connection)
                connection.force_close()
                return True
        return False

    # --- exchanges ---

    def answer(self, incoming: IncomingRequest) -> Coroutine[Any, Any, Answered]:
        """Answer a message. Raises ConnectionError when the connection cannot go on."""
        exchange, handler = self._opener.open(self.runtime, incoming)
        return self._run(incoming, exchange, handler)

    def refuse(self, incoming: IncomingRequest, error: ProxyError) -> Coroutine[Any, Any, Answered]:
        """Answer a message that could not be parsed."""
        exchange, handler = self._opener.refusal(self.runtime, incoming, error)
        return self._run(incoming, exchange, handler)

    def refuse_slow_head(self, connection: Connection) -> None:
        """Answer a head that does not get finished, and close."""
        connection.close()
        incoming = IncomingRequest(ERROR, EMPTY_PAYLOAD, connection)
        task = self._loop.create_task(self.refuse(incoming, RequestTimeout("The request head arrives too slowly.")))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: connection.force_close())

    async def _run(self, incoming: IncomingRequest, exchange: Exchange, handler: Handler) -> Answered:
        connection = incoming.connection
        connection.stall.clear()
        response: Response | None = None
        self.outbox.exchanges += 1
        try:
            response = await handler.handle(exchange)
            if response.tunnel is not None:
                return await self._tunnel(incoming, exchange, response)
            keep_alive = self._may_keep_alive(incoming, exchange)
            if isinstance(response.body, bytes):
                data = self._writer.whole(exchange, response, response.body, keep_alive=keep_alive)
                connection.send(data, is_last=keep_alive and incoming.is_alone)
                if connection.writing_paused:
                    await self._writer.drain(connection, exchange, self.limits.write_timeout)
            else:
                keep_alive = await self._writer.stream(
                    connection,
                    exchange,
                    response,
                    response.body,
                    keep_alive=keep_alive,
                    stall=self.limits.write_timeout,
                )
            return KEPT_ALIVE if keep_alive else CLOSED
        except asyncio.CancelledError:
            if response is None or response.tunnel is None:  # for a tunnel, this is an end like any other
                exchange.error = exchange.error or ClientDisconnected()
            connection.abort()
            raise
        except ProxyError as error:
            # The head is out, or nobody is there to read one: all that can be said now is that this is not the whole.
            exchange.error = error
            if isinstance(error, UpstreamTimeout):
                exchange.decide(Decision("timeout", error.kind))
            connection.abort()
            raise ConnectionResetError from None
        finally:
            self.outbox.exchanges -= 1
            if response is not None:
                response.close()
            connection.rest()

    async def _tunnel(self, incoming: IncomingRequest, exchange: Exchange, response: Response) -> Answered:
        tunnel = response.tunnel
        if tunnel is None:
            raise LookupError("only a response with a tunnel may switch protocols")
        self._writer.switch(incoming.connection, exchange, response)
        drain = partial(self._writer.drain, incoming.connection, exchange, self.limits.write_timeout)
        copying = self._loop.create_task(run_tunnel(incoming, exchange, tunnel, drain))
        self._tunnels.add(copying)
        try:
            await asyncio.wait([copying])
            if not copying.cancelled():
                copying.result()
        finally:
            self._tunnels.discard(copying)
            copying.cancel()
            await asyncio.gather(copying, return_exceptions=True)
        return CLOSED

    def _may_keep_alive(self, incoming: IncomingRequest, exchange: Exchange) -> bool:
        """Whether the next request may come on this connection; what is left of this one's body decides, too."""
        error = exchange.error
        connection = incoming.connection
        if self.draining or incoming.message.should_close or (isinstance(error, ProxyError) and error.closes):
            keep_alive = False
        else:
            # A WebSocket that was declined ends the connection, too: what follows it was not read as requests.
            keep_alive = not (connection.is_final or exchange.request.upgrade)
        body = connection.body
        if body is None or body.is_complete:
            return keep_alive
        if body.awaits_continue or body.is_broken:
            connection.no_linger()
            return False
        length = body.content_length
        return keep_alive and length is not None and length - body.received <= UNREAD_LIMIT
