"""Stored responses for tests of what keeps them, and the fields of requests that tell them apart."""

from typing import Any

from proxy.protocol.caching.stored import Part, StoredResponse, Terms
from proxy.protocol.caching.vary import variant_of
from proxy.protocol.request_checks import CheckedFields

FIELDS = (
    (b"Date", b"Sat, 14 Feb 2026 00:00:00 GMT"),
    (b"Content-Type", b"application/json"),
    (b"Cache-Control", b"max-age=60"),
    (b"ETag", b'"v1"'),
)
NOTHING = CheckedFields([])


def asking(**fields: str) -> CheckedFields:
    """The fields of a request: `accept_encoding="gzip"` for `Accept-Encoding: gzip`."""
    return CheckedFields([(name.replace("_", "-").title().encode(), value.encode()) for name, value in fields.items()])


def stored_response(
    body: bytes = b"{}",
    *,
    status: int = 200,
    fields: tuple[tuple[bytes, bytes], ...] = FIELDS,
    tags: tuple[str, ...] = ("*",),
    vary: tuple[bytes, ...] = (),
    answers: CheckedFields = NOTHING,
    part: Part | None = None,
    fill_seconds: float = 0.25,
    **terms: Any,
) -> StoredResponse:
    """One that answered a request with the fields of `answers`; further arguments are those of Terms."""
    terms = {"refusal": "", "date": 1000.0, "born": 1000.0, "lifetime": 60.0, "etag": b'"v1"', **terms}
    return StoredResponse(
        status=status,
        reason=b"OK",
        fields=fields,
        body=body,
        terms=Terms(vary=vary, **terms),
        part=part,
        variant=variant_of(vary, answers.raw),
        fill_seconds=fill_seconds,
        tags=tags,
    )
