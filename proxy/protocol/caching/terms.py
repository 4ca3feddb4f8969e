"""What the head of a response means for a cache, worked out once when it arrives (RFC 9111 sections 3 and 4.2)."""

import re
from dataclasses import replace
from typing import Final

from proxy.protocol.caching.ages import date_of, initial_age
from proxy.protocol.caching.lifetimes import lifetime_of, window
from proxy.protocol.caching.storable import refusal_of
from proxy.protocol.caching.stored import Rules, Terms
from proxy.protocol.caching.targeted import SURROGATE_CONTROL, Lines, directives_of, lines_of
from proxy.protocol.caching.vary import STAR, vary_of
from proxy.protocol.dates import format_http_date, parse_http_date
from proxy.protocol.fields import (
    CONNECTION,
    CONTENT_LENGTH,
    DATE,
    HOP_BY_HOP,
    INTERNAL,
    INVALID,
    KINDS,
    TRANSFER_ENCODING,
    UPGRADE,
)
from proxy.protocol.headers import RawHeaders, connection_options

_NOT_STORED: Final = CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION | UPGRADE | HOP_BY_HOP | INTERNAL | INVALID
_NOT_STORED_NAMES: Final = frozenset({b"age", b"content-range", SURROGATE_CONTROL})
_TAG: Final = re.compile(rb'(?:W/)?"[!#-~\x80-\xff]*"|[!#-+\--~\x80-\xff]+')


def terms_of(
    method: str,
    request_fields: RawHeaders,
    status: int,
    response_fields: RawHeaders,
    *,
    requested_at: float,
    received_at: float,
    rules: Rules,
) -> Terms:
    """The terms of one response; times are Unix seconds: when the request was begun, and when the head was there.

    All but `refusal` is worked out for a response that is refused, too: HEAD and 304 update what is stored with it.
    """
    lines = lines_of(response_fields)
    directives = directives_of(lines)
    date = date_of(lines, received_at)
    last_modified = _last_modified(lines, received_at)
    terms = Terms(
        refusal="",
        date=date,
        born=received_at - initial_age(lines, date, requested_at, received_at),
        lifetime=lifetime_of(
            status, lines, directives, rules, date=date, received_at=received_at, last_modified=last_modified
        ),
        stale_while_revalidate=window(directives, directives.stale_while_revalidate, rules.stale_while_revalidate),
        stale_if_error=window(directives, directives.stale_if_error, rules.stale_if_error),
        forbids_stale=directives.forbids_stale,
        always_validates=directives.no_cache,
        is_immutable=directives.immutable,
        vary=vary_of(response_fields, rules.vary),
        etag=_etag(lines),
        last_modified=last_modified,
    )
    refusal = refusal_of(method, status, lines_of(request_fields), lines, directives, rules) or _lack_of_use(terms)
    return replace(terms, refusal=refusal) if refusal else terms


def stored_fields(response_fields: RawHeaders, received_at: float) -> tuple[tuple[bytes, bytes], ...]:
    """The fields that are stored (RFC 9111 section 3.1), in wire order, with one valid Date (RFC 9110 section 6.6.1).

    Not stored: what ends at this hop, framing, Age, Content-Range, the upstream's request id, Surrogate-Control, and
    what `private` or `no-cache` names.
    """
    hidden = directives_of(lines_of(response_fields)).hidden | _NOT_STORED_NAMES | _connection_options(response_fields)
    stored = []
    has_date = False
    for field in response_fields:
        name, value = field
        kind = KINDS[name]
        if kind & _NOT_STORED or name.lower() in hidden:
            continue
        if kind & DATE:
            if has_date or parse_http_date(value, received_at) is None:
                continue
            has_date = True
        stored.append(field)
    if not has_date:
        stored.append((b"Date", format_http_date(received_at)))
    return tuple(stored)


def _connection_options(fields: RawHeaders) -> frozenset[bytes]:
    options: frozenset[bytes] = frozenset()
    for name, value in fields:
        if KINDS[name] & CONNECTION:
            options = connection_options(value, options)
    return options


def _lack_of_use(terms: Terms) -> str:
    """Why it could be stored, but never used again; empty if it could."""
    if terms.vary == STAR:
        return "vary"
    if terms.has_validator:
        return ""
    if terms.always_validates:
        return "no_freshness"
    return "" if terms.lifetime or terms.stale_while_revalidate or terms.stale_if_error else "no_freshness"


def _last_modified(lines: Lines, received_at: float) -> float | None:
    values = lines.get(b"last-modified", ())
    return parse_http_date(values[0], received_at) if len(values) == 1 else None


def _etag(lines: Lines) -> bytes:
    """As received, also without the quotes that it should have; none where it could pass for a list, or is one."""
    values = lines.get(b"etag", ())
    return values[0] if len(values) == 1 and _TAG.fullmatch(values[0]) else b""
