"""A stored response becomes the answer to a request: all of it, parts of it, or the word that it has not changed."""

from typing import Final

from proxy.exchange import Exchange, Response
from proxy.protocol.caching.conditions import is_not_modified, range_applies
from proxy.protocol.caching.ranges import Range, holds, is_whole, multipart, requested
from proxy.protocol.caching.reuse import age_of, ttl_of
from proxy.protocol.caching.status_field import hit
from proxy.protocol.caching.stored import StoredResponse
from proxy.protocol.encoded import Encoded
from proxy.protocol.fields import CONDITION
from proxy.protocol.headers import RawHeaders

RawField = tuple[bytes, bytes]

_OK: Final = 200
_PARTIAL: Final = 206
_NOT_MODIFIED: Final = 304
_NOT_SATISFIABLE: Final = 416
_WITHOUT_LENGTH: Final = frozenset({204})
"""RFC 9110 section 8.6."""

_IN_NOT_MODIFIED: Final = frozenset(
    {b"cache-control", b"content-location", b"date", b"etag", b"expires", b"vary", b"cache-status"}
)
"""RFC 9110 section 15.4.5. Other fields that describe the representation would say again what the client has."""
_TARGETED: Final = b"-cache-control"
"""The end of a name by which one cache is told more than others (RFC 9213): it guides updates like Cache-Control."""
_CORS: Final = b"access-control-"
"""Not about the representation: without them a browser would not let a script see the 304."""
_REPRESENTATION: Final = frozenset({b"content-type", b"content-encoding", b"content-language"})
"""What a client that sends If-Range has from the response whose validator it names (section 15.3.7)."""


class Delivery:
    """Sends one stored response to those who ask for nothing special. Made once, kept with what is stored."""

    __slots__ = ("_body", "_encoded", "_fields", "_from", "_reason", "_status", "_stored", "_until")

    def __init__(self, stored: StoredResponse) -> None:
        self._stored = stored
        self._status = stored.status
        self._reason = stored.reason
        self._body = stored.body
        self._fields = _whole(stored)
        self._from = self._until = 0.0
        """The second in which `_encoded` is right."""
        self._encoded = Encoded(stored.status, stored.reason, ())

    def fresh_get(self, now: float) -> Response:
        """The answer at `now` (Unix time) to a GET or HEAD without conditions and Range. It must be fresh and whole."""
        if not self._from <= now < self._until:
            self._renew(now)
        encoded = self._encoded
        # A list of its own: nobody's change shows in other answers.
        return Response(self._status, encoded.fields.copy(), self._body, reason=self._reason, encoded=encoded)

    def _renew(self, now: float) -> None:
        terms = self._stored.terms
        age = age_of(terms, now)
        self._from = now
        self._until = max(terms.born + age + 1, now)
        fields = (*self._fields, (b"Age", b"%d" % age), (b"Cache-Status", hit(ttl_of(terms, now))))
        self._encoded = Encoded(self._status, self._reason, fields)


def deliver(
    exchange: Exchange, stored: StoredResponse, now: float, cache_status: bytes, *, shows_age: bool = True
) -> Response | None:
    """The answer to a GET or HEAD at `now` (Unix time): 200 or what the status is, 206, 304 or 416, with its true Age.

    None: only a part is stored, and not what is asked for. `shows_age` is False where the origin has validated it for
    this very request, which Age would deny (RFC 9111 section 5.1).
    """
    request = exchange.request
    own = [(b"Age", b"%d" % age_of(stored.terms, now))] if shows_age else []
    own.append((b"Cache-Status", cache_status))
    if request.fields.kinds & CONDITION:
        asked = request.fields.raw
        if is_not_modified(asked, stored):
            return Response(_NOT_MODIFIED, [*_kept_on_not_modified(stored), *own])
        if request.method == "GET" and stored.status == _OK:
            ranges = _ranges(asked, stored)
            if ranges is not None:
                return _ranged(asked, stored, ranges, own)
    if not is_whole(stored):
        return None
    body = b"" if request.method == "HEAD" else stored.body
    return Response(stored.status, [*_whole(stored), *own], body, reason=stored.reason)


def _whole(stored: StoredResponse) -> list[RawField]:
    if stored.status in _WITHOUT_LENGTH:
        return [*stored.fields]
    return [*stored.fields, (b"Content-Length", b"%d" % len(stored.body))]


def _kept_on_not_modified(stored: StoredResponse) -> list[RawField]:
    """Last-Modified guides updates where there is no ETag."""
    has_etag = bool(stored.terms.etag)
    return [
        field
        for field in stored.fields
        if (name := field[0].lower()) in _IN_NOT_MODIFIED
        or name.endswith(_TARGETED)
        or name.startswith(_CORS)
        or (name == b"last-modified" and not has_etag)
    ]


def _ranges(asked: RawHeaders, stored: StoredResponse) -> list[Range] | None:
    """What is to be sent of it, empty for nothing; None: there is no Range, or it does not hold."""
    values = [value for name, value in asked if name.lower() == b"range"]
    if len(values) != 1 or not range_applies(asked, stored):
        return None
    return requested(values[0], _complete_length(stored))


def _ranged(asked: RawHeaders, stored: StoredResponse, ranges: list[Range], own: list[RawField]) -> Response | None:
    length = _complete_length(stored)
    if not ranges:
        cors = [field for field in stored.fields if field[0].lower().startswith(_CORS)]
        fields = [*cors, (b"Content-Range", b"bytes */%d" % length), (b"Content-Length", b"0"), *own]
        return Response(_NOT_SATISFIABLE, fields)
    if not holds(stored, ranges):
        return None
    is_conditional = any(name.lower() == b"if-range" for name, _ in asked)
    kept = _without_representation(stored) if is_conditional else [*stored.fields]
    if len(ranges) == 1:
        first, last = ranges[0]
        start = 0 if stored.part is None else stored.part.first
        body = stored.body[first - start : last - start + 1]
        kept.append((b"Content-Range", b"bytes %d-%d/%d" % (first, last, length)))
    else:
        described = [field for field in stored.fields if field[0].lower() == b"content-type"]
        content_type, body = multipart(ranges, stored, described)
        kept = [field for field in kept if field[0].lower() != b"content-type"]
        kept.append((b"Content-Type", content_type))
    return Response(_PARTIAL, [*kept, (b"Content-Length", b"%d" % len(body)), *own], body)


def _without_representation(stored: StoredResponse) -> list[RawField]:
    """Last-Modified describes the representation, too; without an ETag it tells that two parts belong together."""
    left_out = _REPRESENTATION | {b"last-modified"} if stored.terms.etag else _REPRESENTATION
    return [field for field in stored.fields if field[0].lower() not in left_out]


def _complete_length(stored: StoredResponse) -> int:
    return len(stored.body) if stored.part is None else stored.part.complete_length
