"""ScriptedUpstream: an upstream that does exactly what a test writes down, at byte level, and records what it got.

    async with ScriptedUpstream() as upstream:
        upstream.on("/slow", head(200, {"Content-Length": "2"}), send(b"a"), gate, send(b"b"))
        upstream.on("/flaky", reset(), times=1)
        upstream.on("/flaky", reply(200, body=b"now it works"))

A script is a row of steps (see `steps.py`), run for each request of that path; what has no script gets `echo()`.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.messages import Malformed, ReceivedRequest, read_chunked, read_head, read_sized
from tests.support.steps import Step, Turn, echo
from tests.support.waiting import WITHIN
from tests.support.wire import Ended, Wire, WireEnded


@dataclass(slots=True)
class Rule:
    """A script and the requests it is for."""

    path: str
    steps: tuple[Step, ...]
    early: bool
    left: int | None


class ScriptedUpstream:
    """Listens on 127.0.0.1 (or a Unix socket); `port` is known once entered or started.

    `keep_bodies=False` is for load and for huge bodies: of them only length and hash are recorded.
    """

    def __init__(
        self, *, unix: Path | None = None, tls: ssl.SSLContext | None = None, port: int = 0, keep_bodies: bool = True
    ) -> None:
        self.port = port
        self.keep_bodies = keep_bodies
        self.unix = unix
        self.tls = tls
        self.requests: list[ReceivedRequest] = []
        """Every request whose head arrived, in that order; bodies grow while they arrive."""
        self.malformed: list[str] = []
        """Why what arrived was no HTTP/1.1 request; heads that were never finished, too."""
        self.wires: list[Wire] = []
        """Every connection ever accepted: number n is `wires[n - 1]`."""
        self.errors: list[BaseException] = []
        """Bugs in scripts; raised again when the upstream stops."""
        self._rules: list[Rule] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    # --- scripting ---

    def on(self, path: str, *steps: Step, times: int | None = None, early: bool = False) -> None:
        """Answer requests for `path` ("*": any) with these steps, `times` times; the first fitting rule counts.

        `early` starts the script at the end of the head, before the body is read.
        """
        self._rules.append(Rule(path, steps, early, times))

    def forget(self) -> None:
        """Drop all scripts: everything is echoed again."""
        self._rules.clear()

    # --- life ---

    async def start(self) -> None:
        """Listen; again on the same port after a stop."""
        loop = asyncio.get_running_loop()
        if self.unix is not None:
            self._server = await loop.create_unix_server(self._accept, str(self.unix), ssl=self.tls)
            return
        self._server = await loop.create_server(self._accept, "127.0.0.1", self.port, ssl=self.tls, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and reset every connection."""
        if self._server is None:
            return
        self._server.close()
        for wire in self.wires:
            wire.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(wire.closed.wait() for wire in self.wires))
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if self.errors and error is None:
            raise self.errors[0]

    # --- asking ---

    @property
    def url(self) -> str:
        """As `upstreams.NAME.url` takes it."""
        if self.unix is not None:
            return f"unix:{self.unix}"
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def hits(self, path: str) -> int:
        """Number of requests for that path, whatever their query."""
        return sum(request.path == path for request in self.requests)

    def hits_by_path(self) -> Counter[str]:
        return Counter(request.path for request in self.requests)

    @property
    def open_connections(self) -> int:
        return sum(not wire.closed.is_set() for wire in self.wires)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for anything that changes with bytes or connections of this upstream; raises TimeoutError."""
        async with asyncio.timeout(WITHIN):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def wait_for_requests(self, count: int) -> list[ReceivedRequest]:
        """Wait until that many request heads have arrived in all."""
        await self.wait_until(lambda: len(self.requests) >= count)
        return self.requests

    async def wait_for_connections(self, count: int) -> None:
        await self.wait_until(lambda: len(self.wires) >= count)

    async def wait_closed(self, connection: int = 1) -> Ended:
        """Wait until connection number `connection` is ended by the proxy, and say how."""
        await self.wait_until(lambda: len(self.wires) >= connection and _is_over(self.wires[connection - 1]))
        return self.wires[connection - 1].ended

    # --- inside ---

    def _accept(self) -> Wire:
        return Wire(self._changed.set, on_open=self._opened)

    def _opened(self, wire: Wire) -> None:
        self.wires.append(wire)
        task = asyncio.get_running_loop().create_task(self._serve(wire, len(self.wires)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, wire: Wire, connection: int) -> None:
        try:
            number = 1
            while await self._serve_one(wire, connection, number):
                number += 1
        except WireEnded:
            wire.close()
        except Malformed as error:
            self.malformed.append(str(error))
            wire.close()
        except Exception as error:
            self.errors.append(error)
            wire.reset()

    async def _serve_one(self, wire: Wire, connection: int, number: int) -> bool:
        """Answer one request; returns whether the connection goes on."""
        request = await _receive(wire)
        request.connection, request.number = connection, number
        rule = self._rule_for(request.path)
        self.requests.append(request)
        self._changed.set()
        if not self.keep_bodies:
            wire.log = None
        turn = Turn(wire, request, self._body_pieces(wire, request), self._tasks)
        if rule is None or not rule.early:
            await turn.read_body()
        for step in rule.steps if rule else (echo(),):
            await step(turn)
        await turn.read_body()
        if request.header("Connection") == "close":
            wire.close()
        return not wire.transport.is_closing()

    async def _body_pieces(self, wire: Wire, request: ReceivedRequest) -> AsyncIterator[bytes]:
        """Read the body into the request as it arrives."""
        if request.header_list("Transfer-Encoding"):
            if not request.is_chunked or request.header_list("Content-Length"):
                raise Malformed(f"framing {request.headers!r}")
            pieces = read_chunked(wire, request)
        else:
            pieces = read_sized(wire, request.content_length or 0)
        async for piece in pieces:
            request.body_length += len(piece)
            request.body_sha256.update(piece)
            if self.keep_bodies:
                request.body += piece
            self._changed.set()
            yield piece
        request.complete = True
        self._changed.set()

    def _rule_for(self, path: str) -> Rule | None:
        for rule in self._rules:
            if rule.path in (path, "*") and rule.left != 0:
                rule.left = rule.left and rule.left - 1
                return rule
        return None


async def _receive(wire: Wire) -> ReceivedRequest:
    """The head of the next request; raises WireEnded or Malformed."""
    wire.log = bytearray()
    try:
        start, headers = await read_head(wire)
    except WireEnded as error:
        if wire.buffer:
            raise Malformed(f"unfinished head: {error}") from error
        raise
    words = start.decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Malformed(f"request line {start[:200]!r}")
    method, target, version = words
    return ReceivedRequest(headers=headers, raw=wire.log, method=method, target=target, version=version)


def _is_over(wire: Wire) -> bool:
    return wire.ended != "open" or wire.closed.is_set()


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port that is ours but not listening: connecting is refused."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def blackhole_port() -> Iterator[int]:
    """A port whose backlog is full: connecting neither succeeds nor fails."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield sock.getsockname()[1]
