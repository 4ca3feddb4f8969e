"""THE order of the policies. A route's handler is folded together here, once, when the configuration is loaded."""

from collections.abc import Sequence

from proxy.config.model import RouteConfig
from proxy.exchange import Exchange, Handler, Response
from proxy.layers import Layers, Parts
from proxy.policies.enforcement import Layer
from proxy.policies.timeout import Total
from proxy.protocol.request_checks import METHODS
from proxy.rescue import Rescue


def build_handler(route: RouteConfig, parts: Parts) -> Handler:
    """The route's policies around its upstream, outermost first. What the route does not use is not there."""
    make = Layers(route, parts)
    layers: list[Layer | None] = [
        # Counts and times everything, refusals too: nothing may come before it.
        make.observe(),
        # Every response gets the route's fields, also the ones that rescue writes.
        make.response_headers(),
        # Nothing above sees an exception: whatever fails below becomes a problem response.
        Rescue,
        # Before anybody waits: a limit that is in shadow bounds nothing.
        make.shadow_timeouts(),
        # Before a byte of the body is read, and for everything that is answered below, from wherever it comes.
        *make.rate_limits(),
        # The last word on any failure below; a client that is over its limit has none coming.
        make.fallback(),
        # Before its client has the answer to a change, nobody is given what the change has made outdated.
        make.invalidate(),
        *_from_cache_on(make),
    ]
    return _fold(layers, parts.upstreams[route.upstream])


def _from_cache_on(make: Layers) -> list[Layer | None]:
    return [
        # A hit costs the upstream nothing, so it asks neither breaker nor bulkhead, and is no attempt.
        make.cache(),
        # One deadline for all attempts and all waiting between them.
        Total,
        # Before there is anything that a slow client could hold: a probe, a permit.
        make.body_first(),
        # Re-runs only what is below, so each attempt asks the breaker and the bulkhead anew.
        make.retry(),
        # Outside the bulkhead: what is refused here takes no permit, and a full bulkhead is no failure of the upstream.
        make.breaker(),
        # A permit is held while the upstream works for us, to the end of the body.
        make.bulkhead(),
        # Innermost, so that each attempt has its own number and end, and waiting for a permit is no part of it.
        make.attempt(),
    ]


def build_warming(route: RouteConfig, parts: Parts) -> Handler:
    """The route's cache and what is below it: for requests of our own, which no limit is for."""
    return _fold(_from_cache_on(Layers(route, parts)), parts.upstreams[route.upstream])


def build_refusing(route: RouteConfig, parts: Parts) -> Handler:
    """The handler for what the edge refuses before the route's policies are asked."""
    make = Layers(route, parts)
    return _fold([make.observe(), make.response_headers(), Rescue], Refuse())


def build_bare(route: RouteConfig, innermost: Handler, parts: Parts) -> Handler:
    """The handler for what belongs to no route: counted and logged, and nothing else."""
    return _fold([Layers(route, parts).observe(), Rescue], innermost)


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


def _fold(layers: Sequence[Layer | None], innermost: Handler) -> Handler:
    handler = innermost
    for layer in reversed(layers):
        if layer is not None:
            handler = layer(handler)
    return handler
