"""THE order of the policies. A route's handler is folded together here, once, when the configuration is loaded."""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.config.model import RouteConfig
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.observe import Observe
from proxy.policies.response_headers import ResponseHeaders
from proxy.policies.timeout import Attempt, Total
from proxy.protocol.request_checks import METHODS
from proxy.rescue import Rescue
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.instruments import RouteMetrics

Clock = Callable[[], float]
Layer = Callable[[Handler], Handler]


@dataclass(frozen=True, slots=True)
class Observers:
    """Who is told about each exchange of a route."""

    metrics: RouteMetrics
    access_log: AccessLog
    slow: float | None
    """Seconds from which an exchange is logged as slow."""
    clock: Clock


def build_handler(route: RouteConfig, upstream: Handler, observers: Observers) -> Handler:
    """The route's policies around its upstream, outermost first. What the route does not use is not there."""
    edit = route.headers.response
    layers: list[Layer | None] = [
        # Counts and times everything, refusals too: nothing may come before it.
        _observe(observers),
        # Every response gets the route's fields, also the ones that rescue writes.
        (lambda inner: ResponseHeaders(inner, edit)) if edit.set or edit.remove else None,
        # Nothing above sees an exception: whatever fails below becomes a problem response.
        Rescue,
        # One deadline for all attempts and all waiting between them.
        Total,
        # Innermost, so that each attempt has its own number and its own end.
        lambda inner: Attempt(inner, route.timeout.attempt, observers.clock),
    ]
    return _fold(layers, upstream)


def build_bare(innermost: Handler, observers: Observers) -> Handler:
    """The handler for what belongs to no route: counted and logged, and nothing else."""
    return _fold([_observe(observers), Rescue], innermost)


class Refuse:
    """Raises the error with which an exchange arrives."""

    async def handle(self, exchange: Exchange) -> Response:
        """Raise `exchange.error`."""
        if exchange.error is None:
            raise LookupError("an exchange without a route must bring its error")
        raise exchange.error


class AboutItself:
    """Answers `OPTIONS *`: what the proxy itself can do (RFC 9110 section 9.3.7)."""

    async def handle(self, exchange: Exchange) -> Response:
        """The methods that may be routed, and no content."""
        return Response(204, [(b"Allow", ", ".join(sorted(METHODS)).encode())])


def _observe(observers: Observers) -> Layer:
    return lambda inner: Observe(
        inner, observers.metrics, observers.access_log, slow=observers.slow, clock=observers.clock
    )


def _fold(layers: list[Layer | None], innermost: Handler) -> Handler:
    handler = innermost
    for layer in reversed(layers):
        if layer is not None:
            handler = layer(handler)
    return handler
