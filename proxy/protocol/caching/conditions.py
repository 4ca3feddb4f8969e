"""Preconditions that a cache answers from what it has stored (RFC 9111 section 4.3.2, RFC 9110 section 13).

If-Match and If-Unmodified-Since are for the origin server: they are never evaluated here.
"""

from typing import Final

from proxy.protocol.caching.entity_tags import members_of, same_strongly, same_weakly
from proxy.protocol.caching.stored import StoredResponse, Terms
from proxy.protocol.dates import parse_http_date
from proxy.protocol.headers import RawHeaders

_CONDITIONAL_STATUSES: Final = frozenset({200, 203})
"""Conditions hold for what would be sent with a representation of the target (RFC 9110 section 13.2.1)."""
_APART: Final = 1.0
"""Seconds from which a Last-Modified lies far enough before Date to be a strong validator (section 8.8.2.2)."""


def is_not_modified(request_fields: RawHeaders, stored: StoredResponse) -> bool:
    """Whether a GET or HEAD with these fields is answered with 304 (RFC 9110 section 13.2.2)."""
    if stored.status not in _CONDITIONAL_STATUSES:
        return False
    tags: list[bytes] = []
    dates: list[bytes] = []
    for name, value in request_fields:
        lower = name.lower()
        if lower == b"if-none-match":
            tags.append(value)
        elif lower == b"if-modified-since":
            dates.append(value)
    if tags:
        return _matches_any(b",".join(tags), stored.terms.etag)
    return len(dates) == 1 and _is_unmodified_since(dates[0], stored.terms)


def range_applies(request_fields: RawHeaders, stored: StoredResponse) -> bool:
    """Whether the Range of a request holds: without If-Range always, else only for the very representation it names.

    RFC 9110 section 13.1.5: a tag is compared strongly, a date has to be equal and a strong validator.
    """
    conditions = [value for name, value in request_fields if name.lower() == b"if-range"]
    if not conditions:
        return True
    value = conditions[0].strip(b" \t")
    if len(conditions) > 1:
        return False
    if value.endswith(b'"'):
        return same_strongly(value, stored.terms.etag)
    return has_strong_date(stored.terms) and parse_http_date(value, stored.terms.date) == stored.terms.last_modified


def has_strong_date(terms: Terms) -> bool:
    """Whether Last-Modified is a strong validator: no second change can have the same date (section 8.8.2.2)."""
    return terms.last_modified is not None and terms.date - terms.last_modified >= _APART


def _matches_any(value: bytes, etag: bytes) -> bool:
    if value.strip(b" \t") == b"*":  # there is a representation: that is enough
        return True
    return any(same_weakly(etag, tag) for tag in members_of(value))


def _is_unmodified_since(value: bytes, terms: Terms) -> bool:
    """A date that is none is ignored (section 13.1.3); Date stands in for a missing Last-Modified (RFC 9111 4.3.2)."""
    since = parse_http_date(value.strip(b" \t"), terms.date)
    if since is None:
        return False
    return (terms.date if terms.last_modified is None else terms.last_modified) <= since
