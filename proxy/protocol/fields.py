"""What a field name means to a proxy, found in one look-up per field (RFC 9110 sections 5 and 7.6.1)."""

from collections.abc import Sequence
from string import ascii_letters, digits
from typing import Final

TOKEN_BYTES: Final = ("!#$%&'*+-.^_`|~" + digits + ascii_letters).encode()
"""`tchar` of RFC 9110 section 5.6.2."""
_CONTROL_BYTES: Final = bytes(set(range(32)) - {0x09}) + b"\x7f"
_CONTROLS_CHANGED: Final = bytes(1 if byte == 0 else 0 if byte in _CONTROL_BYTES else byte for byte in range(256))

MAX_FIELDS: Final = 128
"""Fields in one head, of a request or a response."""

# A kind is a set of bits; 0 is a field that the proxy only carries.
ORDINARY: Final = 0
HOST: Final = 1 << 0
CONTENT_LENGTH: Final = 1 << 1
TRANSFER_ENCODING: Final = 1 << 2
FRAMING: Final = CONTENT_LENGTH | TRANSFER_ENCODING
"""Either of these announces a request body."""
CONNECTION: Final = 1 << 3
UPGRADE: Final = 1 << 4
HOP_BY_HOP: Final = 1 << 5
"""The other fields that end at each hop."""
EXPECT: Final = 1 << 6
VIA: Final = 1 << 7
TRACE: Final = 1 << 8
"""traceparent and tracestate."""
FORWARDED: Final = 1 << 9
"""Says where a request came from. Ours replaces the client's."""
INTERNAL: Final = 1 << 10
"""Means something between a Tidegate and its upstream: deadline, attempt, criticality, request id."""
UNDERSCORE: Final = 1 << 11
"""Has a `_` where many servers read the same name as with `-`."""
TWIN: Final = 1 << 12
"""Reads with `-` for `_` as a name that is not ordinary."""
INVALID: Final = 1 << 13
"""Not a token."""
DATE: Final = 1 << 14
LONG: Final = 1 << 15
"""Longer than `_SHORT_NAME`, so its length counts."""
DIRECTIVES: Final = 1 << 16
"""Of a request: says what a cache may answer it with."""
CONDITION: Final = 1 << 17
"""Of a request: asks for less than the whole response, under a condition or always."""
CREDENTIALS: Final = 1 << 18
"""Of a request: tells one user from the other, so that its response may be for that user alone."""
CACHING: Final = DIRECTIVES | CONDITION | CREDENTIALS

_SHORT_NAME: Final = 64

DEADLINE_FIELD: Final = b"X-Request-Deadline-Ms"
ATTEMPT_FIELD: Final = b"X-Request-Attempt"
REQUEST_ID_FIELD: Final = b"X-Request-ID"
CRITICALITY_FIELD: Final = b"X-Request-Criticality"

_KINDS: Final = {
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
    b"date": DATE,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
    b"via": VIA,
    b"traceparent": TRACE,
    b"tracestate": TRACE,
    b"forwarded": FORWARDED,
    b"x-real-ip": FORWARDED,
    DEADLINE_FIELD.lower(): INTERNAL,
    ATTEMPT_FIELD.lower(): INTERNAL,
    REQUEST_ID_FIELD.lower(): INTERNAL,
    CRITICALITY_FIELD.lower(): INTERNAL,
    **dict.fromkeys((b"keep-alive", b"proxy-connection", b"te", b"trailer", b"http2-settings"), HOP_BY_HOP),
    **dict.fromkeys((b"cache-control", b"pragma"), DIRECTIVES),
    **dict.fromkeys((b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since"), CONDITION),
    **dict.fromkeys((b"range", b"if-range"), CONDITION),
    **dict.fromkeys((b"authorization", b"cookie"), CREDENTIALS),
    **dict.fromkeys((b"proxy-authenticate", b"proxy-authorization", b"proxy-authentication-info"), HOP_BY_HOP),
}

_COMMON: Final = (
    *(b"accept", b"accept-encoding", b"accept-language", b"authorization", b"cache-control", b"content-encoding"),
    *(b"content-type", b"cookie", b"date", b"etag", b"if-modified-since", b"if-none-match", b"last-modified"),
    *(b"origin", b"pragma", b"referer", b"server", b"set-cookie", b"user-agent", b"vary", b"x-api-key"),
)


def kind_of(name: bytes) -> int:
    """The kind of a field name in any spelling."""
    if not name or name.translate(None, TOKEN_BYTES):
        return INVALID
    lower = name.lower()
    if b"_" in lower:
        return UNDERSCORE | TWIN if kind_of(lower.replace(b"_", b"-")) else UNDERSCORE
    return _KINDS.get(lower) or (FORWARDED if lower.startswith(b"x-forwarded-") else ORDINARY)


def has_control_byte(text: bytes) -> bool:
    """Whether `text` has a byte that no field value may hold (RFC 9110 section 5.5); those over 0x7f may."""
    return text.translate(_CONTROLS_CHANGED) != text


def is_oversized(raw_headers: Sequence[tuple[bytes, bytes]], kinds: int, values: int, limit: int) -> bool:
    """Whether the fields take more than `limit` bytes on the wire: names, `values` bytes and four more for each.

    `kinds` are those of all fields; short names are counted only when it may matter.
    """
    if not kinds & LONG and values + (_SHORT_NAME + 4) * len(raw_headers) <= limit:
        return False
    return values + sum(len(name) + 4 for name, _ in raw_headers) > limit


class _KnownKinds(dict[bytes, int]):
    """Kinds by the spellings seen so far. Bounded: once full, or for a long name, the kind is worked out each time."""

    _MAX_NAMES: Final = 1024

    def __missing__(self, name: bytes) -> int:
        kind = kind_of(name)
        if len(name) > _SHORT_NAME:
            return kind | LONG
        if len(self) < self._MAX_NAMES:
            self[name] = kind
        return kind


KINDS: Final = _KnownKinds(
    {spelling: kind_of(name) for name in (*_KINDS, *_COMMON) for spelling in (name, name.title())}
)
"""`KINDS[name]` is `kind_of(name)`, remembered. The usual spellings are there from the start, whoever comes first."""
