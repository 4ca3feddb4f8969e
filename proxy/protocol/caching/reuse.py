"""Whether a stored response may answer a request now, by its terms and by what the client asks (RFC 9111 section 4)."""

from enum import IntEnum
from math import floor

from proxy.protocol.caching.cache_control import MAX_SECONDS
from proxy.protocol.caching.directives import NO_DIRECTIVES, RequestDirectives
from proxy.protocol.caching.stored import Terms, Validity


class Use(IntEnum):
    """How a stored response may be used."""

    FRESH = 0
    STALE = 1
    """It is stale, and the client's max-stale allows it."""
    BEHIND = 2
    """It is stale, and sent while it is fetched anew (stale-while-revalidate)."""
    VALIDATE = 3
    """Not before the upstream has validated it."""


def use_of(
    terms: Terms, validity: Validity, directives: RequestDirectives, now: float, softened_at: float = 0.0
) -> Use:
    """What a request with these directives may do with the response at `now` (Unix seconds).

    `softened_at`: since when it has been SOFT; 0 is unknown, and means now.
    """
    if validity >= Validity.INVALID or terms.always_validates:
        return Use.VALIDATE
    left = _freshness_left(terms, validity, now, softened_at)
    if left > 0.0:
        return (
            Use.FRESH if directives is NO_DIRECTIVES or _accepts_fresh(terms, directives, now, left) else Use.VALIDATE
        )
    if terms.forbids_stale:
        return Use.VALIDATE
    if directives is not NO_DIRECTIVES and not _accepts_stale(terms, directives, now, -left):
        return Use.VALIDATE
    if 0.0 < terms.stale_while_revalidate >= -left:
        return Use.BEHIND
    return Use.VALIDATE if directives.max_stale is None else Use.STALE


def may_stand_in(
    terms: Terms, validity: Validity, directives: RequestDirectives, now: float, softened_at: float = 0.0
) -> bool:
    """Whether the response may be sent in place of an error: 500, 502, 503, 504 or no answer (RFC 5861 section 4).

    A request's own stale-if-error counts in place of the response's. Otherwise `no-cache` in a request forbids it;
    what it says of ages and freshness does not, as the RFC has it.
    """
    if validity >= Validity.INVALID or terms.always_validates:
        return False
    if directives.no_cache and directives.stale_if_error is None:
        return False
    left = _freshness_left(terms, validity, now, softened_at)
    if left > 0.0:
        return True
    said = directives.stale_if_error
    window = terms.stale_if_error if said is None else said
    return not terms.forbids_stale and 0.0 < window >= -left


def age_of(terms: Terms, now: float) -> int:
    """Whole seconds, as Age has them (RFC 9111 section 5.1)."""
    return min(max(int(now - terms.born), 0), MAX_SECONDS)


def ttl_of(terms: Terms, now: float) -> int:
    """Whole seconds of freshness left, below 0 when stale: the ttl of Cache-Status (RFC 9211 section 2.3)."""
    return floor(terms.born + terms.lifetime - now)


def _freshness_left(terms: Terms, validity: Validity, now: float, softened_at: float) -> float:
    """Seconds; 0 or less since the end of its lifetime, or since it was purged softly if that was earlier."""
    left = terms.born + terms.lifetime - now
    if validity is Validity.SOFT:
        return min(left, softened_at - now if softened_at else 0.0, 0.0)
    return left


def _accepts_fresh(terms: Terms, directives: RequestDirectives, now: float, left: float) -> bool:
    """Sections 5.2.1.1, 5.2.1.3 and 5.2.1.4.

    An immutable response is not validated for its age while it is fresh, but for no-cache it is (RFC 8246 section 2.1).
    """
    if directives.no_cache or (directives.min_fresh is not None and left < directives.min_fresh):
        return False
    return terms.is_immutable or not _is_too_old(terms, directives.max_age, now)


def _accepts_stale(terms: Terms, directives: RequestDirectives, now: float, staleness: float) -> bool:
    """A request that limits age or freshness wants nothing stale, unless it says how stale (section 5.2.1.1)."""
    if directives.no_cache or directives.min_fresh is not None:
        return False
    if directives.max_stale is None:
        return directives.max_age is None
    return staleness <= directives.max_stale and not _is_too_old(terms, directives.max_age, now)


def _is_too_old(terms: Terms, max_age: int | None, now: float) -> bool:
    """`max-age=0` asks for a validation: then nothing is young enough."""
    return max_age is not None and (max_age == 0 or now - terms.born > max_age)
