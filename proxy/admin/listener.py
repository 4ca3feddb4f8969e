"""An aiohttp Application on its own socket, with limits of its own: the data path and it cannot starve each other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from proxy.admin.responses import SECURITY_HEADERS, problem, problem_of
from proxy.config.addresses import ListenAddress

MAX_BODY = 64 * 1024
_MAX_CONNECTIONS = 64
_READ_TIMEOUT = 5.0
_WRITE_TIMEOUT = 10.0
_LIMITS: dict[str, Any] = {
    "access_log": None,
    "keepalive_timeout": 15.0,  # aiohttp's time limit for a request head, too
    "lingering_time": 1.0,
    "max_field_size": 8190,
    "max_line_size": 8190,
}

log = logging.getLogger("tidegate.admin")

Check = Callable[[web.BaseRequest], None]


class Listener:
    """Serves `routes` at `address`; `check` may refuse a request by raising HTTPException."""

    def __init__(self, address: ListenAddress, routes: list[web.RouteDef], check: Check) -> None:
        self._address = address
        self.check = check
        app = web.Application(middlewares=[self._answer], client_max_size=MAX_BODY)
        app.add_routes(routes)
        app.on_response_prepare.append(_add_security_headers)
        self._runner = _Runner(app, handle_signals=False, shutdown_timeout=1.0, **_LIMITS)

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken."""
        await self._runner.setup()
        site: web.BaseSite
        if self._address.path:
            site = web.UnixSite(self._runner, self._address.path)
        else:
            site = web.TCPSite(self._runner, self._address.host or None, self._address.port, backlog=64)
        await site.start()

    async def stop(self) -> None:
        """Close the socket and all connections, within about a second."""
        await self._runner.cleanup()

    @property
    def port(self) -> int:
        """The port in use, also when the address said 0."""
        return int(self._runner.addresses[0][1])

    @web.middleware
    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Check, handle and send: aiohttp itself would wait forever for a client that does not read."""
        try:
            self.check(request)
            await _read_body(request)
            response = await handler(request)
        except web.HTTPException as error:
            response = problem_of(error)
        except Exception:
            log.exception("an admin handler failed")
            response = problem(500)
        await _send(request, response)
        return response


async def _add_security_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SECURITY_HEADERS)


async def _read_body(request: web.Request) -> None:
    """No handler wants a body; read it within limits so that the connection can be used again."""
    try:
        async with asyncio.timeout(_READ_TIMEOUT):
            await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="The request body did not arrive in time.") from None


async def _send(request: web.Request, response: web.StreamResponse) -> None:
    try:
        async with asyncio.timeout(_WRITE_TIMEOUT):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()


class _Runner(web.AppRunner):
    """Gives the connections our own answer to what the HTTP parser refuses."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return _Server(server.request_handler, request_factory=server.request_factory, **self._kwargs)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """aiohttp's connection, less its error pages: those echo the input and name the server's version."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        connections = self._manager.connections if self._manager is not None else []
        if len(connections) > _MAX_CONNECTIONS:
            connections[0].force_close()  # the oldest: a new probe must always get in

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        log.debug("admin request refused by the parser", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        response = problem(status)
        response.force_close()
        return response
