"""Requests that Tidegate makes of itself: they pass through a route's cache as those of a client would."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from multidict import CIMultiDict

from proxy.config.model import UpstreamConfig
from proxy.exchange import Exchange, Handler, Request, Response
from proxy.protocol.forwarded import request_id
from proxy.protocol.request_checks import check_request
from proxy.routing import Router
from proxy.watchdog import Watchdog

LIMIT: Final = 30.0
"""Seconds for a request of a route without a total limit."""
_MAX_HEAD: Final = 32 * 1024
_FIELDS: Final = ((b"Accept", b"*/*"), (b"User-Agent", b"tidegate"))


class Wanted(NamedTuple):
    """A URL that is asked for."""

    target: str
    """In origin form."""
    scheme: str = "http"
    authority: str = ""
    """Empty: that of the first endpoint of its route's upstream."""


class InternalRequests:
    """GETs of no importance to anybody who waits, answered by `handlers`, which are by route; else by the route's own.

    `clock` is monotonic, `wall` Unix time, both in seconds; `random_bytes` makes request ids.
    """

    __slots__ = ("_clock", "_handlers", "_loop", "_random_bytes", "_router", "_upstreams", "_wall")

    def __init__(
        self,
        router: Router[Handler],
        handlers: Mapping[str, Handler],
        upstreams: Mapping[str, UpstreamConfig],
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._router = router
        self._handlers = handlers
        self._upstreams = upstreams
        self._loop = loop
        self._clock = clock
        self._wall = wall
        self._random_bytes = random_bytes

    def upstream_of(self, target: str) -> UpstreamConfig:
        """The upstream that a GET of this target goes to. Raises ProxyError when no route takes it."""
        return self._upstreams[self._router.match("GET", target.partition("?")[0]).route.upstream]

    async def get(self, wanted: Wanted) -> Response:
        """The response; the caller closes it. Raises ProxyError."""
        path = wanted.target.partition("?")[0]
        match = self._router.match("GET", path)
        authority = wanted.authority or self._upstreams[match.route.upstream].endpoints[0].authority
        exchange = Exchange(_request(wanted.target, authority), match.route, self._clock())
        exchange.params = match.params
        exchange.scheme = wanted.scheme
        exchange.wall_started = self._wall()
        exchange.request_id = request_id(None, trusted=False, random_bytes=self._random_bytes)
        exchange.criticality = "background"
        exchange.may_queue = False
        exchange.is_internal = True
        exchange.deadline = exchange.started + (match.route.timeout.total or LIMIT)
        exchange.watchdog = watchdog = Watchdog(self._loop)
        try:
            response = await self._handlers.get(match.route.name, match.target).handle(exchange)
        except BaseException:
            watchdog.close()
            raise
        response.on_close(watchdog.close)
        return response


def _request(target: str, authority: str) -> Request:
    """Raises ProxyError for a target that no client could send."""
    fields = [(b"Host", authority.encode()), *_FIELDS]
    checked = check_request("GET", target, (1, 1), fields, _MAX_HEAD)
    headers = CIMultiDict((name.decode(), value.decode()) for name, value in fields)
    return Request("GET", checked.target, checked.fields, headers, checked.host)
