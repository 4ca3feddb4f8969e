"""The upstream client: the innermost handler of every route."""

import asyncio
from collections.abc import Mapping
from math import inf
from random import Random
from time import perf_counter, time
from typing import Final

from proxy.config.model import UpstreamConfig
from proxy.config.types import UpstreamUrl
from proxy.errors import ConnectionTerminated, DeadlineExceeded, ProxyError, Source
from proxy.exchange import Exchange, Response
from proxy.outbox import Outbox
from proxy.telemetry.events import EndpointEvent
from proxy.upstream.connection import Connection
from proxy.upstream.dial import Dialer, tls_context
from proxy.upstream.dns import Resolver
from proxy.upstream.endpoints import Endpoint, Endpoints
from proxy.upstream.health import HealthChecks
from proxy.upstream.observer import UpstreamObserver
from proxy.upstream.pool import Pool
from proxy.upstream.request_head import RequestHeads
from proxy.upstream.snapshot import EndpointSnapshot
from proxy.upstream.upload import Upload

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2."""
_OUTCOMES: Final[Mapping[int, str]] = {status: f"{status // 100}xx" for status in range(100, 600)}
_FIRST_FAILURE_STATUS: Final = 500


class Upstream:
    """One named upstream: its endpoints, their connections and their health."""

    def __init__(
        self,
        config: UpstreamConfig,
        *,
        loop: asyncio.AbstractEventLoop,
        observer: UpstreamObserver,
        random: Random,
        outbox: Outbox | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self.config = config
        self._loop = loop
        self._outbox = outbox or Outbox(loop)
        self._observer = observer
        self._random = random.random
        self._resolver = Resolver(loop) if resolver is None else resolver
        self._all = [self._endpoint(url) for url in config.endpoints]
        self._endpoints = Endpoints(self._all, config.ejection, self._random, self._report)
        self._heads: dict[str, RequestHeads] = {}
        self._checks: HealthChecks | None = None

    def start(self) -> None:
        """Begin the active health checks, if there are any and they have not begun."""
        if self.config.health is None or self._checks is not None:
            return
        host = None if self.config.host in ("preserve", "upstream") else self.config.host
        self._checks = HealthChecks(
            self.config.health, self._endpoints, host=host, loop=self._loop, random=self._random
        )
        self._checks.start(self._all)

    async def close(self) -> None:
        """Stop the checks and close idle connections; those that serve an exchange close when it is over."""
        if self._checks is not None:
            await self._checks.close()
        await asyncio.gather(*(endpoint.pool.close() for endpoint in self._all))

    def snapshot(self) -> tuple[EndpointSnapshot, ...]:
        """All endpoints as they are now."""
        now = self._loop.time()
        return tuple(
            EndpointSnapshot(
                endpoint=each.name,
                state=each.state(now),
                idle=each.pool.idle,
                busy=each.pool.busy,
                connecting=each.pool.connecting,
                waiting=each.pool.waiting,
                ejected_for=max(0.0, each.ejected_until - now),
                last_check=each.last_check,
            )
            for each in self._all
        )

    async def handle(self, exchange: Exchange) -> Response:
        """Make one attempt: the response with its head, the body perhaps still on its way. Raises ProxyError."""
        body = exchange.request.body
        upload = None if body is None else await Upload.begin(body)
        endpoint = self._endpoints.choose(self._loop.time())
        exchange.upstream_name = self.config.name
        exchange.upstream_endpoint = endpoint.name
        started = perf_counter()
        try:
            response = await self._attempt(exchange, endpoint, upload)
        except ProxyError as error:
            exchange.upstream_seconds = seconds = perf_counter() - started
            self._observer.attempt(error.token, seconds)
            if error.source is Source.UPSTREAM:
                self._endpoints.record(endpoint, self._loop.time(), failed=True)
            raise
        status = response.status
        exchange.upstream_status = status
        exchange.upstream_seconds = seconds = perf_counter() - started
        self._observer.attempt(_OUTCOMES[status], seconds)
        self._endpoints.record(endpoint, self._loop.time(), failed=status >= _FIRST_FAILURE_STATUS)
        return response

    async def _attempt(self, exchange: Exchange, endpoint: Endpoint, upload: Upload | None) -> Response:
        """Send the request; a second time when a reused connection turns out to have ended, and that is harmless."""
        now = self._loop.time()
        deadline = inf if exchange.attempt_deadline is None else exchange.attempt_deadline
        if deadline <= now:
            raise DeadlineExceeded(request_written=False)
        head = self._head(exchange, endpoint, now)
        connection = endpoint.pool.take(now)
        fresh = False
        while True:
            if connection is None:
                connection = await endpoint.pool.wait(deadline, fresh=fresh)
                now = self._loop.time()
                head = self._head(exchange, endpoint, now)
            try:
                answer = connection.send(exchange, head, upload, now)
                return await answer
            except asyncio.CancelledError:
                _abandon(connection, answer)
                raise
            except ConnectionTerminated as error:
                if fresh or not (connection.ended_unanswered and _may_be_sent_again(exchange, upload, error)):
                    raise
            connection, fresh = None, True

    def _head(self, exchange: Exchange, endpoint: Endpoint, now: float) -> bytes:
        route = exchange.route
        heads = self._heads.get(route.name)
        if heads is None or heads.route is not route:
            heads = self._heads[route.name] = RequestHeads(route, self.config.host)
        return heads.build(exchange, endpoint.authority, now)

    def _endpoint(self, url: UpstreamUrl) -> Endpoint:
        tls = self.config.tls
        dialer = Dialer(
            self._loop,
            url,
            self._resolver,
            timeout=self.config.connect_timeout,
            context=tls_context(tls) if url.scheme == "https" else None,
            server_name=tls.server_name,
        )
        return Endpoint(url, dialer, Pool(self.config, dialer, self._loop, self._observer, self._random, self._outbox))

    def _report(self, endpoint: Endpoint, state: str, reason: str) -> None:
        self._observer.endpoint(EndpointEvent(self.config.name, endpoint.name, state, reason, time()))

    def __repr__(self) -> str:
        return f"<Upstream {self.config.name} {self._all!r}>"


def _abandon(connection: Connection, answer: asyncio.Future[Response]) -> None:
    """Nobody waits any more, but the response may have come in the same moment."""
    if answer.cancelled():
        connection.abort()
    elif answer.exception() is None:
        answer.result().close()


def _may_be_sent_again(exchange: Exchange, upload: Upload | None, error: ConnectionTerminated) -> bool:
    """RFC 9110 section 9.2.2, and only while the whole body is still at hand."""
    harmless = exchange.request.method in _IDEMPOTENT or not error.request_written
    return harmless and (upload is None or upload.is_untouched)
