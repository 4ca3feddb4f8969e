"""Stored responses for tests, as the cache would make them."""

from proxy.protocol.caching.stored import Part, StoredResponse, Terms
from proxy.protocol.dates import format_http_date
from tests.support.messages import HeadersLike, header_pairs, octets

BORN = 1_000_000_000.0
"""Unix seconds of what is made here: when it was received and its age was 0."""


def make_stored(
    body: bytes = b"0123456789",
    headers: HeadersLike = (),
    *,
    status: int = 200,
    reason: bytes = b"",
    etag: bytes = b"",
    last_modified: float | None = None,
    lifetime: float = 60.0,
    part: Part | None = None,
    vary: tuple[bytes, ...] = (),
    variant: bytes = b"",
) -> StoredResponse:
    """One that was received at `BORN`, with the fields that its validators need."""
    fields = [(b"Date", format_http_date(BORN))]
    if etag:
        fields.append((b"ETag", etag))
    if last_modified is not None:
        fields.append((b"Last-Modified", format_http_date(last_modified)))
    fields += [(octets(name), octets(value)) for name, value in header_pairs(headers)]
    terms = Terms("", BORN, BORN, lifetime, vary=vary, etag=etag, last_modified=last_modified)
    return StoredResponse(status, reason, tuple(fields), body, terms, part, variant)
