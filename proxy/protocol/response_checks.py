"""What must hold of an upstream's response head before anything uses it (RFC 9112 sections 5 and 6.3)."""

from typing import Final

from proxy.errors import ResponseHeadTooLarge, UpstreamProtocolError
from proxy.protocol.fields import (
    CONNECTION,
    CONTENT_LENGTH,
    HOP_BY_HOP,
    INVALID,
    KINDS,
    MAX_FIELDS,
    TRANSFER_ENCODING,
    UPGRADE,
    has_control_byte,
    is_oversized,
)
from proxy.protocol.framing import Framing, is_chunked, parse_content_length
from proxy.protocol.headers import RawHeaders, connection_options, without_named

MAX_RESPONSE_HEAD: Final = 64 * 1024
"""Bytes of one head: field names and values, and four more for each field."""

_MAX_REASON: Final = 256
_NOT_PASSED_ON: Final = TRANSFER_ENCODING | CONNECTION | UPGRADE | HOP_BY_HOP
_SINGLE: Final = CONTENT_LENGTH | TRANSFER_ENCODING


class ResponseHead:
    """A response head that passed the checks."""

    __slots__ = ("fields", "framing", "keep_alive", "length")

    def __init__(
        self, fields: list[tuple[bytes, bytes]], framing: Framing, length: int | None, keep_alive: bool
    ) -> None:
        self.fields = fields
        """End-to-end fields in wire order, Content-Length included where the status allows it; on a 101 Upgrade too."""
        self.framing = framing
        self.length = length
        """Bytes of the body to come when the framing is LENGTH, else None."""
        self.keep_alive = keep_alive
        """Whether the connection may serve another request once the body has been read to its end."""


def check_response(
    status: int, version: str, raw_headers: RawHeaders, method: str, *, upgrade: bool = False
) -> ResponseHead:
    """Check one head, interim or final. `upgrade` says whether the request asked to switch protocols.

    Raises UpstreamProtocolError, and ResponseHeadTooLarge beyond 128 fields or 64 KiB.
    """
    if version not in ("1.1", "1.0"):
        raise UpstreamProtocolError(cause="protocol version")
    if not 100 <= status <= 599:
        raise UpstreamProtocolError(cause="status code out of range")
    kept, kinds, length, options = _read_fields(raw_headers, version)
    keep_alive = version == "1.1"
    if options:
        keep_alive = b"close" not in options and (keep_alive or b"keep-alive" in options)
        kept = without_named(kept, options)
    if status < 200 or status in (204, 304):
        return _bodiless(status, kept, raw_headers, upgrade, keep_alive and not (length or kinds & TRANSFER_ENCODING))
    if method == "HEAD":
        return ResponseHead(kept, Framing.NONE, None, keep_alive)
    if length is not None:
        return ResponseHead(kept, Framing.LENGTH, length, keep_alive)
    if kinds & TRANSFER_ENCODING:
        return ResponseHead(kept, Framing.CHUNKED, None, keep_alive)
    return ResponseHead(kept, Framing.CLOSE, None, False)


def _read_fields(
    raw_headers: RawHeaders, version: str
) -> tuple[list[tuple[bytes, bytes]], int, int | None, frozenset[bytes]]:
    """The fields to pass on, the kinds of all, Content-Length and the options of Connection."""
    kept = []
    kinds = 0
    length: int | None = None
    options: frozenset[bytes] = frozenset()
    for field in raw_headers:
        kind = KINDS[field[0]]
        if kind:
            if kind & kinds & _SINGLE or kind & INVALID:
                raise UpstreamProtocolError(cause="invalid field name, or framing field sent twice")
            kinds |= kind
            if kind & CONTENT_LENGTH:
                length = _content_length(field[1])
            elif kind & _NOT_PASSED_ON:
                if kind & TRANSFER_ENCODING:
                    _check_transfer_encoding(field[1], version)
                elif kind & CONNECTION:
                    options = connection_options(field[1], options)
                continue
        kept.append(field)
    if kinds & _SINGLE == _SINGLE:
        raise UpstreamProtocolError(cause="both Content-Length and Transfer-Encoding")
    _check_values(raw_headers, kinds)
    return kept, kinds, length, options


def _check_values(raw_headers: RawHeaders, kinds: int) -> None:
    values = b"".join([value for _, value in raw_headers])
    if len(raw_headers) > MAX_FIELDS or is_oversized(raw_headers, kinds, len(values), MAX_RESPONSE_HEAD):
        raise ResponseHeadTooLarge
    if has_control_byte(values):
        raise UpstreamProtocolError(cause="control byte in a field value")


def safe_reason(reason: bytes) -> bytes:
    """`reason` if it may stand in a status line (RFC 9112 section 4), else b"": then the standard phrase is used."""
    return b"" if len(reason) > _MAX_REASON or has_control_byte(reason) else reason


def _content_length(value: bytes) -> int:
    length = parse_content_length(value)
    if length is None:
        raise UpstreamProtocolError(cause="Content-Length is not a plain number")
    return length


def _check_transfer_encoding(value: bytes, version: str) -> None:
    if version != "1.1" or not is_chunked(value):
        raise UpstreamProtocolError(cause="Transfer-Encoding other than chunked on HTTP/1.1")


def _bodiless(
    status: int, kept: list[tuple[bytes, bytes]], raw_headers: RawHeaders, upgrade: bool, keep_alive: bool
) -> ResponseHead:
    """A head that no body follows. One that announces a body all the same ends the connection: the body may come."""
    if status == 101:
        if not upgrade:
            raise UpstreamProtocolError(cause="101 that nobody asked for")
        kept += [field for field in raw_headers if KINDS[field[0]] & UPGRADE]
        return ResponseHead(kept, Framing.TUNNEL, None, False)
    kept = [field for field in kept if not KINDS[field[0]] & CONTENT_LENGTH]
    return ResponseHead(kept, Framing.NONE, None, keep_alive)
