"""`enforce_percent`: for which clients a policy acts, and for which it only reports."""

from collections.abc import Callable, Coroutine
from hashlib import blake2b
from typing import Any, Final

from proxy.config.model import RouteConfig
from proxy.config.policies import Policy
from proxy.config.policy_types import ClientKey, Mode
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.client_key import KeyReader

Layer = Callable[[Handler], Handler]

_DIGEST_SIZE: Final = 7
"""Bytes: 56 bits, of which a float holds 53."""
_BITS: Final = 53


class ClientPlace:
    """Where a client stands on a route, in [0, 1): the same for all its requests, policies and instances.

    A client is what the route's first rate limit counts by, else an address.
    """

    __slots__ = ("_hash", "_key")

    def __init__(self, route: RouteConfig) -> None:
        self._key = KeyReader(route.rate_limit[0].key if route.rate_limit else (ClientKey("client_ip"),))
        # The route comes first, so that another route's share are other clients. No name holds a zero byte.
        self._hash = blake2b(route.name.encode() + b"\0", digest_size=_DIGEST_SIZE)

    def of(self, exchange: Exchange) -> float:
        """The place of the exchange's client; worked out once for each exchange."""
        place = exchange.share
        if place is None:
            digest = self._hash.copy()
            digest.update(self._key.read(exchange))
            number = int.from_bytes(digest.digest()) >> (8 * _DIGEST_SIZE - _BITS)
            place = exchange.share = number / (1 << _BITS)
        return place


class EnforcedShare:
    """One policy twice over one inner handler: in force for the first `share` of the clients, in shadow for others."""

    __slots__ = ("_enforced", "_place", "_shadowed", "_share")

    def __init__(self, enforced: Handler, shadowed: Handler, share: float, place: ClientPlace) -> None:
        self._enforced = enforced
        self._shadowed = shadowed
        self._share = share
        self._place = place

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, Response]:
        """Pass the exchange to the layer that is its client's."""
        if self._place.of(exchange) < self._share:
            return self._enforced.handle(exchange)
        return self._shadowed.handle(exchange)

    def __repr__(self) -> str:
        return f"<EnforcedShare {self._share:.4g} of {self._enforced!r}>"


def moded(policy: Policy, make: Callable[[Mode, Handler], Handler], place: ClientPlace) -> Layer | None:
    """The layer for `policy`, which `make` builds in a mode around its inner handler; None when the policy is off."""
    share = policy.enforce_percent
    match policy.mode:
        case "off":
            return None
        case "shadow":
            return lambda inner: make("shadow", inner)
        case _ if share >= 1:
            return lambda inner: make("enforce", inner)
        case _:
            return lambda inner: EnforcedShare(make("enforce", inner), make("shadow", inner), share, place)
