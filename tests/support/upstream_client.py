"""The upstream client alone, against scripted upstreams: no edge and no policies around it."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from random import Random
from typing import Any

from proxy.config.model import HeaderEdit, HeaderEdits, HealthCheck, RouteConfig, UpstreamConfig
from proxy.config.policies import TimeoutConfig
from proxy.config.types import UpstreamUrl
from proxy.exchange import Exchange, Response
from proxy.outbox import Outbox
from proxy.telemetry.events import EndpointEvent
from proxy.upstream.client import Upstream
from proxy.upstream.dns import Resolver
from tests.support.exchange import PiecewiseBody, make_exchange
from tests.support.messages import HeadersLike


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.attempts: list[str] = []
        self.connections: Counter[str] = Counter()
        self.endpoints: list[EndpointEvent] = []
        self.changed = asyncio.Event()

    def attempt(self, outcome: str, seconds: float) -> None:
        self.attempts.append(outcome)

    def connection(self, event: str) -> None:
        self.connections[event] += 1

    def endpoint(self, event: EndpointEvent) -> None:
        self.endpoints.append(event)
        self.changed.set()

    async def wait_for_endpoint(self, state: str) -> EndpointEvent:
        """Wait for the first transition to `state`."""
        async with asyncio.timeout(10):
            while not (found := [event for event in self.endpoints if event.state == state]):
                self.changed.clear()
                await self.changed.wait()
        return found[0]


class Client:
    """An Upstream and what was seen of it."""

    def __init__(self, upstream: Upstream, observer: Recorder) -> None:
        self.upstream = upstream
        self.observer = observer

    async def ask(
        self,
        target: str = "/",
        method: str = "GET",
        headers: HeadersLike = (("Host", "api.example"),),
        body: bytes | PiecewiseBody | None = None,
        **options: Any,
    ) -> Response:
        """The response as the policies would get it; `options` are those of `exchange`."""
        return await self.upstream.handle(self.exchange(target, method, headers, body, **options))

    async def fetch(self, target: str = "/", method: str = "GET", **options: Any) -> tuple[int, bytes]:
        """Status and whole body."""
        response = await self.ask(target, method, **options)
        try:
            return response.status, await read_all(response)
        finally:
            response.close()

    def exchange(
        self,
        target: str = "/",
        method: str = "GET",
        headers: HeadersLike = (("Host", "api.example"),),
        body: bytes | PiecewiseBody | None = None,
        *,
        total: float | None = 10.0,
        attempt: float | None = None,
        first_byte: float | None = None,
        idle: float | None = None,
        upgrade: bool = False,
        rewrite: str | None = None,
        edit: HeaderEdit | None = None,
    ) -> Exchange:
        """An exchange with these limits in seconds, on its first attempt."""
        route = RouteConfig(
            name="test",
            match=("* /*",),
            upstream="api",
            rewrite=rewrite,
            headers=HeaderEdits(request=edit or HeaderEdit()),
            timeout=TimeoutConfig(total=total, attempt=attempt, first_byte=first_byte, idle=idle),
        )
        now = asyncio.get_running_loop().time()
        exchange = make_exchange(method, target, headers, body, route=route, started=now)
        exchange.request.upgrade = upgrade
        exchange.attempt = 1
        exchange.deadline = None if total is None else now + total
        exchange.attempt_deadline = exchange.deadline if attempt is None else now + attempt
        return exchange

    @property
    def idle(self) -> int:
        return sum(endpoint.idle for endpoint in self.upstream.snapshot())

    @property
    def busy(self) -> int:
        return sum(endpoint.busy for endpoint in self.upstream.snapshot())

    @property
    def waiting(self) -> int:
        return sum(endpoint.waiting for endpoint in self.upstream.snapshot())


@contextlib.asynccontextmanager
async def client_for(
    *urls: str,
    health: HealthCheck | None = None,
    outbox: Outbox | None = None,
    resolver: Resolver | None = None,
    **settings: Any,
) -> AsyncIterator[Client]:
    """An upstream client for these endpoints; `settings` are those of `upstreams.NAME`."""
    endpoints = tuple(UpstreamUrl.parse(url) for url in urls)
    # Idle connections must not end by themselves where a test waits for them to end.
    config = UpstreamConfig(name="api", endpoints=endpoints, health=health, **{"idle_timeout": 60.0, **settings})
    observer = Recorder()
    upstream = Upstream(
        config,
        loop=asyncio.get_running_loop(),
        observer=observer,
        random=Random(7),
        outbox=outbox,
        resolver=resolver,
    )
    try:
        yield Client(upstream, observer)
    finally:
        await upstream.close()


async def read_all(response: Response) -> bytes:
    """The whole body; raises what reading raises."""
    if isinstance(response.body, bytes):
        return response.body
    pieces = []
    while piece := await response.body.read():
        pieces.append(piece)
    return b"".join(pieces)
