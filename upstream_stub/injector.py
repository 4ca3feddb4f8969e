"""Acting out faults around the application, on the response's messages and on the connection below them."""

import asyncio
import socket
import struct

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upstream_stub.faults import BadFault, Fault, FaultRules
from upstream_stub.serving import transport_of
from upstream_stub.web import ProblemResponse

HEADER = b"x-stub-fault"
SAFE_PATH = "/admin"
"""Faults do not reach the place where they are cleared."""


class FaultInjector:
    """The application with the fault of the request's header, or else of the rules."""

    def __init__(self, app: ASGIApp, rules: FaultRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        try:
            fault = self._fault(scope)
        except BadFault as error:
            await ProblemResponse(400, str(error))(scope, receive, send)
            return
        if fault is None:
            await self._app(scope, receive, send)
        else:
            await self._act(fault, scope, receive, send)

    def _fault(self, scope: Scope) -> Fault | None:
        path = scope["path"]
        if path == SAFE_PATH or path.startswith(SAFE_PATH + "/"):
            return None
        for name, value in scope["headers"]:
            if name == HEADER:
                return Fault.parse(value.decode("latin-1"))
        return self._rules.choose(path)

    async def _act(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(fault.delay)
        if fault.hang:
            await _client_gone(receive)
        elif fault.reset and not fault.truncate:
            await _break_connection(scope, receive, reset=True)
        else:
            app = self._app if fault.status is None else _failure(fault.status)
            await app(scope, receive, _FaultySend(fault, scope, receive, send))


class _FaultySend:
    """Sends a response that came whole: marked, byte by byte, or only the first half of it."""

    def __init__(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        self._fault = fault
        self._scope = scope
        self._receive = receive
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message["headers"], (HEADER, self._fault.text.encode("latin-1"))]
            await self._send({**message, "headers": headers})
        elif self._fault.truncate:
            body = message["body"]
            await self._send_body(body[: len(body) // 2])
            await _break_connection(self._scope, self._receive, reset=self._fault.reset)
        else:
            await self._send_body(message["body"])
            await self._send({"type": "http.response.body"})

    async def _send_body(self, body: bytes) -> None:
        if self._fault.drip is None:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            return
        for place in range(len(body)):
            if transport_of(self._scope).is_closing():
                return
            await self._send({"type": "http.response.body", "body": body[place : place + 1], "more_body": True})
            await asyncio.sleep(self._fault.drip)


def _failure(status: int) -> ASGIApp:
    return ProblemResponse(status, "a fault was asked for")


async def _break_connection(scope: Scope, receive: Receive, *, reset: bool) -> None:
    """Ends the connection after what was sent: with RST, or with FIN."""
    transport = transport_of(scope)
    if reset:
        # closing with a linger time of zero seconds makes the kernel send RST
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    else:
        transport.close()
    await _client_gone(receive)


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
