"""The only place where an error becomes a response."""

import logging

from proxy.errors import ClientDisconnected, InternalError, ProxyError
from proxy.exchange import Exchange, Handler, Response
from proxy.protocol.problem import problem_response

log = logging.getLogger("tidegate.rescue")


class Rescue:
    """Turns any error from below into a problem response; nothing above it sees exceptions.

    Two pass: a cancellation, and ClientDisconnected, since nobody is left to read an answer.
    """

    def __init__(self, inner: Handler) -> None:
        self._inner = inner

    async def handle(self, exchange: Exchange) -> Response:
        """Answer, whatever happens below."""
        try:
            return await self._inner.handle(exchange)
        except ClientDisconnected as error:
            exchange.error = error
            raise
        except ProxyError as error:
            return self._answer(exchange, error)
        except Exception:
            log.exception("Bug: an unexpected error on route %s", exchange.route.name)
            return self._answer(exchange, InternalError())

    @staticmethod
    def _answer(exchange: Exchange, error: ProxyError) -> Response:
        # Its frames hold the exchange, which holds the error: such a circle would be left to the garbage collector.
        exchange.error = error.with_traceback(None)
        headers, body = problem_response(
            error, exchange.request_id, exchange.request.headers.get("Accept", ""), exchange.upstream_status
        )
        return Response(error.status, headers, body)
