"""Active health checks: one GET per interval and endpoint, on connections of their own."""

import asyncio
import re
from collections.abc import Callable
from typing import Final, cast

from proxy.config.model import HealthCheck
from proxy.errors import ProxyError
from proxy.upstream.endpoints import Endpoint, Endpoints

_JITTER: Final = 0.1
"""Share of the interval by which checks wander, so that those of several instances do not coincide."""
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]")
_MAX_ANSWER: Final = 1024
"""Bytes that are looked at."""


class _StatusProbe(asyncio.Protocol):
    """Sends one request; `status` becomes the answer's status, 0 for what is none."""

    def __init__(self, loop: asyncio.AbstractEventLoop, request: bytes) -> None:
        self.status: asyncio.Future[int] = loop.create_future()
        self._request = request
        self._answer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        match = _STATUS_LINE.match(self._answer)
        if match is not None:
            self._end(int(match[1]))
        elif b"\n" in self._answer or len(self._answer) > _MAX_ANSWER:
            self._end(0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(0)

    def close(self) -> None:
        self._transport.abort()

    def _end(self, status: int) -> None:
        if not self.status.done():
            self.status.set_result(status)


class HealthChecks:
    """Checks all endpoints of an upstream until closed. `host` is the Host field; None: the endpoint's authority."""

    def __init__(
        self,
        config: HealthCheck,
        endpoints: Endpoints,
        *,
        host: str | None,
        loop: asyncio.AbstractEventLoop,
        random: Callable[[], float],
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._host = host
        self._loop = loop
        self._random = random
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, endpoints: list[Endpoint]) -> None:
        """Begin at once."""
        self._tasks = [self._loop.create_task(self._watch(endpoint)) for endpoint in endpoints]

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _watch(self, endpoint: Endpoint) -> None:
        against = 0
        while True:
            failure = await self._check(endpoint)
            endpoint.last_check = failure or "ok"
            against = against + 1 if endpoint.healthy == bool(failure) else 0
            needed = self._config.unhealthy_after if endpoint.healthy else self._config.healthy_after
            if against >= needed:
                against = 0
                self._endpoints.set_healthy(endpoint, not failure, endpoint.last_check, self._loop.time())
            await asyncio.sleep(self._config.interval * (1 + _JITTER * (2 * self._random() - 1)))

    async def _check(self, endpoint: Endpoint) -> str:
        """What is wrong, "" if nothing."""
        host = self._host or endpoint.authority.decode("ascii")
        request = (
            f"GET {self._config.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidegate-health\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n"
        )
        try:
            async with asyncio.timeout(self._config.timeout):
                probe = await endpoint.dialer.dial(lambda: _StatusProbe(self._loop, request.encode("ascii")))
                try:
                    status = await probe.status
                finally:
                    probe.close()
        except TimeoutError:
            return "no answer in time"
        except ProxyError as error:
            return error.slug
        except Exception as bug:  # whatever it is, the checks must go on
            return repr(bug)
        return "" if 200 <= status < 400 else f"status {status}"
