"""The request of a fill: the client's, less what selects a response and is not in its key.

What is stored may be sent to others. So these do not go upstream: conditions and ranges, other names for the target,
and what the client or its proxies say about where the request was sent.
"""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from proxy.exchange import Exchange, Request
from proxy.protocol.caching.keys import canonical_authority
from proxy.protocol.fields import CONNECTION, CONTENT_LENGTH, DIRECTIVES, FORWARDED, KINDS
from proxy.protocol.headers import RawHeaders, connection_options
from proxy.protocol.request_checks import CheckedFields
from proxy.watchdog import Watchdog

Fields = tuple[tuple[bytes, bytes], ...]

_KEPT: Final = 0
_CONDITION: Final = 1
"""Asks for less than the whole response."""
_OVERRIDE: Final = 2
"""Says that the request is for something else than its request line does."""
_OVERRIDES: Final = frozenset(
    {b"x-original-url", b"x-rewrite-url", b"x-http-method-override", b"x-http-method", b"x-method-override"}
)
_ADDRESSES: Final = frozenset({b"x-forwarded-for", b"x-real-ip"})
_LONGEST_NAME: Final = 64


def fill_exchange(
    exchange: Exchange,
    *,
    now: float,
    loop: asyncio.AbstractEventLoop,
    target: str | None = None,
    conditions: Sequence[tuple[bytes, bytes]] = (),
    keeps_conditions: bool = False,
    is_background: bool = False,
    method: str | None = None,
) -> Exchange:
    """An exchange for the same route with a deadline of its own: the route's total from `now` (monotonic seconds).

    `target` and `method` stand in for the client's; `conditions` are our validators. The client's own conditions and
    ranges go on with `keeps_conditions` only: the answer is then for this client alone. In the background it is less
    important than anything else, and waits for no permit. Whoever sends it closes its watchdog.
    """
    asked = exchange.request
    request = Request(
        method or asked.method,
        target or asked.target,
        _cleaned(asked.fields, conditions, keeps_conditions),
        asked.headers,
        canonical_authority(asked.authority, exchange.scheme),
    )
    fill = Exchange(request, exchange.route, now)
    fill.wall_started = exchange.wall_started
    fill.timeout = limits = exchange.timeout
    fill.deadline = None if limits.total is None else now + limits.total
    fill.params = exchange.params
    fill.client_ip = exchange.client_ip
    fill.scheme = exchange.scheme
    fill.share = exchange.share
    fill.request_id = exchange.request_id
    fill.forwarded = _forwarded(tuple(exchange.forwarded), request.authority, exchange.scheme)
    fill.watchdog = Watchdog(loop)
    if is_background:
        fill.criticality = "background"
        fill.may_queue = False
    else:
        fill.criticality = exchange.criticality
        fill.may_queue = exchange.may_queue
        fill.received_attempt = exchange.received_attempt
        if exchange.client is not None:
            fill.client = Leader(exchange)
    return fill


class Leader:
    """The client that a fill was begun for: it gets the interim responses as if it had asked by itself."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def interim(self, exchange: Exchange, status: int, fields: RawHeaders) -> None:
        """Pass it on, without what was for a cache alone."""
        client = self._exchange.client
        if client is not None:
            client.interim(
                self._exchange, status, [field for field in fields if field[0].lower() != b"surrogate-control"]
            )


def lend_trace(own: Exchange, exchange: Exchange) -> None:
    """Note what a fill has met in the exchange that it was begun for; once, when there is a head or an error."""
    exchange.attempt = own.attempt
    exchange.upstream_name = own.upstream_name
    exchange.upstream_endpoint = own.upstream_endpoint
    exchange.upstream_status = own.upstream_status
    exchange.upstream_seconds = own.upstream_seconds
    exchange.store_seconds += own.store_seconds
    for decision in own.decisions or ():
        exchange.decide(decision)


def _cleaned(fields: CheckedFields, conditions: Sequence[tuple[bytes, bytes]], keeps_conditions: bool) -> CheckedFields:
    """The fields that may go on, and ours; the same object when they are the same, since it remembers its lines."""
    dropped = _OVERRIDE if keeps_conditions else _OVERRIDE | _CONDITION
    roles = _ROLES
    kept = [field for field in fields.raw if not roles[field[0]] & dropped]
    if fields.kinds & CONNECTION:
        kept = _without_named(kept)
    if len(kept) == len(fields.raw) and not conditions and not fields.kinds & CONTENT_LENGTH:
        return fields
    kept += conditions
    kinds = 0
    for name, _ in kept:
        kinds |= KINDS[name]
    return CheckedFields(kept, fields.host, None, kinds, fields.size, fields.version)


def _without_named(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """`fields` less those that Connection names: they do not reach the upstream, so they select no response of its.

    What is said to caches was said to us as well.
    """
    options: frozenset[bytes] = frozenset()
    for name, value in fields:
        if KINDS[name] & CONNECTION:
            options = connection_options(value, options)
    return [field for field in fields if KINDS[field[0]] & DIRECTIVES or field[0].lower() not in options]


def is_as_keyed(exchange: Exchange, target: str | None) -> bool:
    """Whether the exchange says no more to the upstream than a fill of its key, whose `target` is, would say."""
    request, scheme = exchange.request, exchange.scheme
    authority = canonical_authority(request.authority, scheme)
    said = {b"x-forwarded-proto": scheme.encode(), b"x-forwarded-host": authority.encode(), b"forwarded": None}
    return (
        target is None
        and authority == request.authority
        and _cleaned(request.fields, (), keeps_conditions=False) is request.fields
        and all(
            (name := field[0].lower()) in _ADDRESSES or said.get(name, b"") in (None, field[1])
            for field in exchange.forwarded
            if KINDS[field[0]] & FORWARDED
        )
    )


@lru_cache(maxsize=256)
def _forwarded(fields: Fields, authority: str, scheme: str) -> RawHeaders:
    """What the edge adds, with no more about the target than is in the key; the same object for the same client."""
    kept = [field for field in fields if not KINDS[field[0]] & FORWARDED or field[0].lower() in _ADDRESSES]
    if len(kept) == len(fields):  # whoever made this exchange adds none
        return fields
    kept.append((b"X-Forwarded-Proto", scheme.encode()))
    element = f"proto={scheme}"
    if authority:
        kept.append((b"X-Forwarded-Host", authority.encode()))
        element = f'host="{authority}";{element}'
    kept.append((b"Forwarded", element.encode()))
    return tuple(kept)


def _role(name: bytes) -> int:
    folded = name.lower().replace(b"_", b"-")  # many servers read both as one
    if folded == b"range" or folded.startswith(b"if-"):
        return _CONDITION
    return _OVERRIDE if folded in _OVERRIDES else _KEPT


class _Roles(dict[bytes, int]):
    """Roles by the spellings seen so far. Bounded: once full, or for a long name, the role is worked out each time."""

    _MAX_NAMES: Final = 1024

    def __missing__(self, name: bytes) -> int:
        role = _role(name)
        if len(name) <= _LONGEST_NAME and len(self) < self._MAX_NAMES:
            self[name] = role
        return role


_ROLES: Final = _Roles()
