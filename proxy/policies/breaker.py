"""The circuit breaker as a layer: asks before each attempt, refuses or lets it pass, and says what became of it."""

from collections.abc import Callable
from typing import Final

from proxy.config.policy_types import Mode
from proxy.errors import BreakerOpen, ProxyError
from proxy.exchange import Body, Exchange, Handler, Response
from proxy.policies.outcome import FIRST_FAILURE_STATUS, is_upstream_failure
from proxy.protocol.headers import is_event_stream
from proxy.resilience.breaker import Breaker
from proxy.telemetry.events import Decision

_DETAIL: Final = "The service behind this route has failed too often and is left alone for a while."
_REFUSED: Final = Decision("breaker", "open")
_WOULD_REFUSE: Final = Decision("breaker", "open", mode="shadow")


class CircuitBreaker:
    """Refuses attempts while `breaker` is open. In shadow it only reports, and the outcomes count all the same."""

    __slots__ = ("_breaker", "_clock", "_enforces", "_inner")

    def __init__(self, inner: Handler, breaker: Breaker, *, mode: Mode, clock: Callable[[], float]) -> None:
        self._inner = inner
        self._breaker = breaker
        self._enforces = mode == "enforce"
        self._clock = clock

    async def handle(self, exchange: Exchange) -> Response:
        """Make the attempt. Raises BreakerOpen before anything is waited for."""
        breaker = self._breaker
        exchange.gate, exchange.ticket = self, breaker.ticket or self._ask(exchange)
        exchange.attempt_started = 0.0
        try:
            response = await self._inner.handle(exchange)
        except BaseException as error:
            self._failed(exchange, exchange.ticket, error)
            raise
        ticket = exchange.ticket
        body, failed = response.body, response.status >= FIRST_FAILURE_STATUS
        if failed or isinstance(body, bytes) or is_event_stream(response.headers):
            now, started = self._clock(), exchange.attempt_started
            breaker.record(ticket, now, now - started if started else 0.0, failed=failed)
        elif ticket:
            self._begun(exchange, ticket, response, body)
        return response

    def confirm(self, exchange: Exchange) -> None:
        """Ask again after a wait: the breaker may have opened meanwhile. Raises BreakerOpen."""
        if exchange.ticket and not self._breaker.counts(exchange.ticket):
            exchange.ticket = self._breaker.ticket or self._ask(exchange)

    def _ask(self, exchange: Exchange) -> int:
        """The ticket, 0 in shadow where there is none. Raises BreakerOpen."""
        now = self._clock()
        ticket = self._breaker.admit(now, exchange.deadline)
        if not ticket:
            if self._enforces:
                exchange.decide(_REFUSED)
                raise BreakerOpen(_DETAIL, retry_after=self._breaker.retry_after(now), request_written=False)
            exchange.decide(_WOULD_REFUSE)
        return ticket

    def _failed(self, exchange: Exchange, ticket: int, error: BaseException) -> None:
        now, started = self._clock(), exchange.attempt_started
        if started and is_upstream_failure(error, exchange, now):
            self._breaker.record(ticket, now, now - started, failed=True)
        else:
            self._breaker.give_back(ticket)

    def _begun(self, exchange: Exchange, ticket: int, response: Response, body: Body) -> None:
        """The head is there, and all is well so far; the body comes in pieces."""
        now, started = self._clock(), exchange.attempt_started
        seconds = now - started if started else 0.0
        self._breaker.answered(ticket, now, seconds)
        watched = _WatchedBody(body, exchange, self._breaker, ticket, seconds, self._clock)
        response.body = watched
        response.on_close(watched.closed)


class _WatchedBody:
    """A body whose end decides: it has failed when reading it met an error of the upstream."""

    __slots__ = ("_body", "_breaker", "_clock", "_error", "_exchange", "_seconds", "_ticket")

    def __init__(
        self,
        body: Body,
        exchange: Exchange,
        breaker: Breaker,
        ticket: int,
        seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._body = body
        self._exchange = exchange
        self._breaker = breaker
        self._ticket = ticket
        self._seconds = seconds
        self._clock = clock
        self._error: ProxyError | None = None

    async def read(self) -> bytes:
        """The next piece. Raises what the body raises."""
        try:
            return await self._body.read()
        except ProxyError as error:
            self._error = error
            raise

    def closed(self) -> None:
        """The response is closed: nobody reads any more."""
        # The edge has noted what ended the exchange, if it was no end that a response comes to.
        now, error = self._clock(), self._error or self._exchange.error
        failed = error is not None and is_upstream_failure(error, self._exchange, now)
        if failed or error is None:
            self._breaker.record(self._ticket, now, self._seconds, failed=failed)
        else:
            self._breaker.give_back(self._ticket)
