"""How a later response brings a stored one up to date (RFC 9111 sections 3.2, 4.3.4 and 4.3.5)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from proxy.protocol.caching.conditions import has_strong_date
from proxy.protocol.caching.entity_tags import is_strong, same_weakly
from proxy.protocol.caching.stored import StoredResponse, Terms
from proxy.protocol.caching.terms import stored_fields
from proxy.protocol.dates import parse_http_date
from proxy.protocol.headers import RawHeaders

_NOT_UPDATED: Final = frozenset({b"content-length", b"content-range", b"content-encoding"})
"""Section 3.2 exempts the first, lets the second be left out, and with it what the stored body depends upon: with
another Content-Encoding nobody could read it. All other fields are updated, Content-Type too: the body is stored as it
came, so nothing here has been made from them."""


def selects(stored: StoredResponse, response_fields: RawHeaders) -> bool:
    """Whether a 304 with these fields, the answer to the validators of `stored`, speaks of it (section 4.3.4).

    One without any validator does: what we asked about was `stored` alone.
    """
    etag = _first(response_fields, b"etag")
    if etag:
        if is_strong(etag):
            return etag == stored.terms.etag
        if stored.terms.etag:
            return same_weakly(etag, stored.terms.etag)
    date = _first(response_fields, b"last-modified")
    if date:
        return parse_http_date(date, stored.terms.date) == stored.terms.last_modified
    return not etag


def freshened_fields(stored: StoredResponse, response_fields: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The stored fields, each replaced that the response brings: what the terms of the update are made from.

    The stored Date is always left out: a response without one is dated when it is received.
    """
    brought = [field for field in response_fields if field[0].lower() not in _NOT_UPDATED]
    replaced = {name.lower() for name, _ in brought}
    replaced.add(b"date")
    return [field for field in stored.fields if field[0].lower() not in replaced] + brought


def updated(
    stored: StoredResponse, response_fields: RawHeaders, terms: Terms, variant: bytes | None = None
) -> StoredResponse:
    """`stored` as a 304 or a HEAD has made it; `terms` are those of `freshened_fields`.

    `variant` is `variant_of(terms.vary, ...)` the request, needed where Vary may have changed.
    """
    fields = stored_fields(freshened_fields(stored, response_fields), terms.date)
    return replace(stored, fields=fields, terms=terms, variant=stored.variant if variant is None else variant)


def head_update(stored: StoredResponse, head_fields: RawHeaders, terms: Terms) -> StoredResponse | None:
    """`stored` as the 200 to a HEAD has made it; None: they differ, `stored` is outdated (section 4.3.5)."""
    length = len(stored.body) if stored.part is None else stored.part.complete_length
    for name, value in head_fields:
        match name.lower():
            case b"etag" if value != stored.terms.etag:
                return None
            case b"last-modified" if parse_http_date(value, terms.date) != stored.terms.last_modified:
                return None
            case b"content-length" if value != b"%d" % length:
                return None
    return updated(stored, head_fields, terms)


def share_strong_validator(one: Terms, other: Terms) -> bool:
    """Whether both are known to belong to the very same representation (RFC 9110 section 8.8.1)."""
    if one.etag or other.etag:
        return is_strong(one.etag) and one.etag == other.etag
    return has_strong_date(one) and has_strong_date(other) and one.last_modified == other.last_modified


def _first(fields: Sequence[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    return next((value.strip(b" \t") for name, value in fields if name.lower() == wanted), b"")
