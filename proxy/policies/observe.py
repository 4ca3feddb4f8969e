"""The outermost layer: times, counts and logs every exchange once, whatever becomes of it."""

import logging
from asyncio import CancelledError
from collections.abc import Callable
from functools import partial

from proxy.errors import ClientDisconnected, InternalError, ProxyError
from proxy.exchange import Exchange, Handler, Response
from proxy.protocol.headers import is_event_stream
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.instruments import RouteMetrics

log = logging.getLogger("tidegate.observe")


class Observe:
    """Reports an exchange when its response is closed, or at once when there will be none.

    `slow` is the duration in seconds above which a request is worth a warning; None: never.
    """

    __slots__ = ("_access_log", "_clock", "_inner", "_metrics", "_slow")

    def __init__(
        self,
        inner: Handler,
        metrics: RouteMetrics,
        access_log: AccessLog,
        *,
        slow: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._inner = inner
        self._metrics = metrics
        self._access_log = access_log
        self._slow = slow
        self._clock = clock

    async def handle(self, exchange: Exchange) -> Response:
        """Pass the exchange on; count it when its last byte has gone."""
        self._metrics.in_flight += 1
        try:
            response = await self._inner.handle(exchange)
        except BaseException as error:
            if exchange.error is None:
                exchange.error = _as_proxy_error(error)
            self._finish(exchange, None)
            raise
        response.on_close(partial(self._finish, exchange, response))
        return response

    def _finish(self, exchange: Exchange, response: Response | None) -> None:
        seconds = self._clock() - exchange.started
        status = response.status if response and exchange.error is None else _final_status(exchange, response)
        self._metrics.finished(exchange, status, seconds)
        self._access_log.record(exchange, status, seconds)
        if self._slow is not None and seconds > self._slow and not _is_lasting(response):
            self._report_slow(exchange, status, seconds)

    def _report_slow(self, exchange: Exchange, status: int, seconds: float) -> None:
        self._metrics.slow += 1
        details = {
            "route": self._metrics.name,
            "request_id": exchange.request_id,
            "status": status,
            "duration_ms": round(seconds * 1000),
            "upstream_ms": round(exchange.upstream_seconds * 1000),
            "attempts": exchange.attempt,
        }
        log.warning("slow request", extra=details)


def _as_proxy_error(error: BaseException) -> ProxyError:
    """What ended an exchange that has no response: it is cancelled only because its client left."""
    match error:
        case CancelledError():
            return ClientDisconnected()
        case ProxyError():
            return error
        case _:
            return InternalError(cause=type(error).__name__)


def _final_status(exchange: Exchange, response: Response | None) -> int:
    """What the client saw; 499 when it left before the end."""
    error = exchange.error
    if response is None or isinstance(error, ClientDisconnected):
        return error.status if isinstance(error, ProxyError) else InternalError.status
    return response.status


def _is_lasting(response: Response | None) -> bool:
    """Whether the exchange is meant to go on: a tunnel, or an event stream."""
    if response is None:
        return False
    return response.tunnel is not None or is_event_stream(response.headers)
