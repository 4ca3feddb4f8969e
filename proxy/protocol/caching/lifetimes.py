"""How long a response is fresh, and how long it may be used after that (RFC 9111 section 4.2, RFC 5861).

What the response says comes first, then the route's rules, then a guess from Last-Modified.
"""

from typing import Final

from proxy.protocol.caching.cache_control import MAX_SECONDS
from proxy.protocol.caching.directives import ResponseDirectives
from proxy.protocol.caching.stored import Rules
from proxy.protocol.caching.targeted import Lines
from proxy.protocol.dates import parse_http_date

NEGATIVE: Final = frozenset({404, 405, 410, 414, 501})
"""What `negative_ttl` is for."""
_POSITIVE: Final = frozenset({200, 203, 204, 206, 300, 301, 308})
"""What `ttl` is for where the response is not marked `public`."""
HEURISTIC: Final = _POSITIVE | NEGATIVE
"""Heuristically cacheable (RFC 9110 section 15.1)."""

_FRACTION: Final = 0.1
"""Of the time since the last change (section 4.2.2)."""
_MAX_GUESS: Final = 86_400.0
_LAST_GOOD: Final = 399


def lifetime_of(
    status: int,
    lines: Lines,
    directives: ResponseDirectives,
    rules: Rules,
    *,
    date: float,
    received_at: float,
    last_modified: float | None,
) -> float:
    """Freshness lifetime in seconds, 0 for what is stale from the start (section 4.2.1).

    With `respect_origin` off, `ttl` outdoes what the response says, but never makes an error last longer.
    """
    if not rules.respect_origin and rules.ttl is not None and status <= _LAST_GOOD:
        return rules.ttl
    explicit = explicit_lifetime(lines, directives, date, received_at)
    if explicit is not None:
        return explicit
    configured = _configured(status, directives, rules)
    if configured is not None:
        return configured
    if last_modified is None or not (status in HEURISTIC or directives.public):
        return 0.0
    return min(max(min(date, received_at) - last_modified, 0.0) * _FRACTION, _MAX_GUESS)


def explicit_lifetime(lines: Lines, directives: ResponseDirectives, date: float, received_at: float) -> float | None:
    """s-maxage before max-age before Expires less Date; None if there is none of them."""
    if directives.s_maxage is not None:
        return float(directives.s_maxage)
    if directives.max_age is not None:
        return float(directives.max_age)
    if has_expires(lines, directives):
        return min(max(_expires(lines, received_at) - date, 0.0), MAX_SECONDS)
    return None


def has_expires(lines: Lines, directives: ResponseDirectives) -> bool:
    """Whether there is an Expires that counts."""
    return b"expires" in lines and not directives.is_targeted


def window(directives: ResponseDirectives, said: int | None, configured: float | None) -> float:
    """Seconds of stale use: what the response `said`, else the route's.

    None at all against must-revalidate, proxy-revalidate, s-maxage and no-cache (RFC 9111 section 4.2.4).
    """
    if directives.forbids_stale or directives.no_cache:
        return 0.0
    return (configured or 0.0) if said is None else float(said)


def _configured(status: int, directives: ResponseDirectives, rules: Rules) -> float | None:
    if status in NEGATIVE:
        return rules.negative_ttl
    return rules.ttl if status in _POSITIVE or (directives.public and status <= _LAST_GOOD) else None


def _expires(lines: Lines, received_at: float) -> float:
    """The earliest of several; what is no date has passed (section 5.3)."""
    dates = [parse_http_date(value, received_at) for value in lines[b"expires"]]
    return min(0.0 if date is None else date for date in dates)
