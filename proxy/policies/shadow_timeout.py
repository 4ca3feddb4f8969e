"""Time limits in shadow: nothing is ended, and what would have been is reported."""

from collections.abc import Callable
from math import inf
from typing import Final, NamedTuple

from proxy.config.policies import TimeoutConfig
from proxy.exchange import Body, Exchange, Handler, Response, Tunnel
from proxy.policies.enforcement import ClientPlace
from proxy.protocol.headers import is_event_stream
from proxy.telemetry.events import Decision

NO_LIMITS: Final = TimeoutConfig(total=None, attempt=None, first_byte=None, idle=None)

_FIRED: Final = {kind: Decision("timeout", kind, "shadow") for kind in ("total", "attempt", "first_byte", "idle")}


class ShadowTimeouts:
    """Lifts the route's limits from the exchanges for which they are not enforced, and watches them instead.

    What a trusted caller said still holds. Limits in `mode: enforce` are enforced for `share` of the clients.
    """

    __slots__ = ("_clock", "_inner", "_limits", "_place", "_share")

    def __init__(
        self, inner: Handler, config: TimeoutConfig, share: float, place: ClientPlace, *, clock: Callable[[], float]
    ) -> None:
        self._inner = inner
        self._limits = _Limits.of(config)
        self._share = share if config.mode == "enforce" else 0.0
        self._place = place
        self._clock = clock

    async def handle(self, exchange: Exchange) -> Response:
        """Pass the exchange on, with or without its limits."""
        if self._share and self._place.of(exchange) < self._share:
            return await self._inner.handle(exchange)
        exchange.deadline = exchange.caller_deadline
        exchange.timeout = NO_LIMITS
        watch = _Watch(exchange, self._limits, self._clock)
        try:
            response = await self._inner.handle(exchange)
        except BaseException:
            watch.head_came()
            raise
        watch.head_came()
        if response.tunnel is not None:
            watch.lasts()
            response.tunnel = _WatchedTunnel(response.tunnel, watch)
        elif not isinstance(response.body, bytes):
            if is_event_stream(response.headers):
                watch.lasts()
            response.body = _WatchedBody(response.body, watch)
        return response


class _Limits(NamedTuple):
    """Seconds; infinite where there is no limit."""

    total: float
    attempt: float
    first_byte: float
    idle: float

    @classmethod
    def of(cls, config: TimeoutConfig) -> "_Limits":
        limits = (config.total, config.attempt, config.first_byte, config.idle)
        return cls(*(inf if limit is None else limit for limit in limits))


class _Watch:
    """The limits of one exchange. Reports the first that passes: in force, it would have been the end."""

    __slots__ = ("_clock", "_ends_at", "_exchange", "_fired", "_kind", "_limits")

    def __init__(self, exchange: Exchange, limits: _Limits, clock: Callable[[], float]) -> None:
        self._exchange = exchange
        self._limits = limits
        self._clock = clock
        self._fired = False
        self._ends_at = exchange.started + limits.total
        self._kind = "total"

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock()

    def head_came(self) -> None:
        """The head of the response is there, or an error in its place."""
        began = self._exchange.attempt_started or inf
        end = began + self._limits.attempt
        if end < self._ends_at:
            self._ends_at, self._kind = end, "attempt"
        self._look(began + self._limits.first_byte, "first_byte")

    def waited(self, since: float) -> None:
        """The upstream has kept us waiting since then."""
        self._look(since + self._limits.idle, "idle")

    def lasts(self) -> None:
        """An event stream or a tunnel: from its head on only `idle` counts."""
        self._ends_at = inf

    def _look(self, end: float, kind: str) -> None:
        if self._ends_at <= end:
            end, kind = self._ends_at, self._kind
        if end < self._clock() and not self._fired:
            self._fired = True
            self._exchange.decide(_FIRED[kind])


class _WatchedBody:
    """A body that tells how long it was waited for."""

    __slots__ = ("_body", "_watch")

    def __init__(self, body: Body, watch: _Watch) -> None:
        self._body = body
        self._watch = watch

    async def read(self) -> bytes:
        """The next piece."""
        since = self._watch.now()
        try:
            return await self._body.read()
        finally:
            self._watch.waited(since)


class _WatchedTunnel:
    """A tunnel that tells how long both sides were silent."""

    __slots__ = ("_moved_at", "_tunnel", "_watch")

    def __init__(self, tunnel: Tunnel, watch: _Watch) -> None:
        self._tunnel = tunnel
        self._watch = watch
        self._moved_at = watch.now()

    async def read(self) -> bytes:
        """Bytes from the upstream."""
        try:
            return await self._tunnel.read()
        finally:
            self._moved()

    async def write(self, data: bytes) -> None:
        """Send bytes to the upstream."""
        self._moved()
        await self._tunnel.write(data)

    def write_eof(self) -> None:
        """The client sends no more."""
        self._tunnel.write_eof()

    def _moved(self) -> None:
        self._watch.waited(self._moved_at)
        self._moved_at = self._watch.now()
