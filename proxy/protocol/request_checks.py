"""What must hold of a request head before any policy sees it, beyond what the parser has checked (RFC 9112).

The parser leaves open: version, method, target form, Host, the exact forms of framing, Expect and the size of the head.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from proxy.errors import (
    BadRequest,
    ExpectationFailed,
    HeadersTooLarge,
    MethodRefused,
    MisdirectedRequest,
    NotImplementedHere,
    ProxyError,
    VersionNotSupported,
)
from proxy.protocol.fields import (
    CONTENT_LENGTH,
    EXPECT,
    FRAMING,
    HOST,
    INVALID,
    KINDS,
    MAX_FIELDS,
    TOKEN_BYTES,
    TRANSFER_ENCODING,
    TWIN,
    UNDERSCORE,
    has_control_byte,
)
from proxy.protocol.framing import is_chunked, parse_content_length
from proxy.protocol.headers import RawHeaders, end_to_end

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""What may be routed. CONNECT and TRACE are never allowed, others not implemented."""

_SINGLE: Final = HOST | CONTENT_LENGTH | TRANSFER_ENCODING | EXPECT
_REFUSED: Final = INVALID | TWIN
_EXAMINED: Final = _SINGLE | _REFUSED
_FIELD: Final = len(": \r\n")
_NOT_IN_TARGET: Final = re.compile(r"[\x00-\x20\x7f#]")
_ABSOLUTE_FORM: Final = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY: Final = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|[A-Za-z0-9._~\-]{1,255})(?::([0-9]{1,5}))?")


class CheckedFields:
    """The header fields of a request, checked. A connection keeps them for the next request that repeats them."""

    __slots__ = ("_added", "_lines", "content_length", "host", "kinds", "raw", "size", "version")

    def __init__(
        self,
        raw: RawHeaders,
        host: str = "",
        content_length: int | None = None,
        kinds: int = 0,
        size: int = 0,
        version: tuple[int, int] = (1, 1),
    ) -> None:
        self.raw = raw
        self.host = host
        """Of the Host field; "" on HTTP/1.0 without one."""
        self.content_length = content_length
        self.kinds = kinds
        """The kinds of all fields (`proxy.protocol.fields`): `kinds & VIA` tells whether any Via is there."""
        self.size = size
        """Bytes on the wire, line ends included."""
        self.version = version
        self._added: RawHeaders | None = None
        self._lines = b""

    def lines(self, added: RawHeaders) -> bytes:
        """The end-to-end fields and `added`, as lines of a head; worked out once for the same `added`."""
        if self._added is not added and self._added != added:  # several connections of one client share these fields
            self._lines = b"".join([b"%b: %b\r\n" % field for field in (*end_to_end(self.raw), *added)])
            self._added = added
        return self._lines


class Checked:
    """A request head that passed the checks, and what they found out on the way."""

    __slots__ = ("chunked", "expect_continue", "fields", "host", "target")

    def __init__(self, target: str, host: str, fields: CheckedFields) -> None:
        self.target = target
        """Origin form, or "*" for an OPTIONS request about the proxy itself (RFC 9110 section 9.3.7)."""
        self.host = host
        """The effective authority: that of an absolute target, else Host; "" on HTTP/1.0 without one."""
        self.fields = fields
        self.chunked = fields.kinds & TRANSFER_ENCODING != 0
        # RFC 9110 section 10.1.1: an expectation in HTTP/1.0 is ignored.
        self.expect_continue = fields.kinds & EXPECT != 0 and fields.version == (1, 1)


def check_request(
    method: str,
    target: str,
    version: tuple[int, int],
    raw_headers: RawHeaders,
    max_head: int,
    known: CheckedFields | None = None,
) -> Checked:
    """Check one head as parsed. Targets are text decoded with surrogateescape. `known` are fields checked before.

    Raises the ClientError that fits: BadRequest, MethodNotAllowed, NotImplementedHere, VersionNotSupported,
    ExpectationFailed or HeadersTooLarge.
    """
    if version != (1, 1) and version != (1, 0):
        raise VersionNotSupported
    if method not in METHODS:
        raise _method_error(method)
    if known is None or known.raw != raw_headers or known.version != version:
        known = check_fields(raw_headers, version)
    if len(method) + len(target) + known.size > max_head:
        raise HeadersTooLarge
    if _is_origin_form(target):
        return Checked(target, known.host, known)
    authority, target = _split_target(method, target)
    return Checked(target, authority or known.host, known)


def check_fields(raw_headers: RawHeaders, version: tuple[int, int]) -> CheckedFields:
    """Check the header fields alone. Raises BadRequest, ExpectationFailed, NotImplementedHere and HeadersTooLarge."""
    if len(raw_headers) > MAX_FIELDS:
        raise HeadersTooLarge
    host, content_length, kinds = _check_each(raw_headers, version)
    values = b"".join([value for _, value in raw_headers])
    if has_control_byte(values):
        raise BadRequest("A header value has a control character.")
    names = sum([len(name) for name, _ in raw_headers])
    size = len(values) + names + _FIELD * len(raw_headers)
    return CheckedFields(raw_headers, host, content_length, kinds, size, version)


def check_authority(host: str, allowed: frozenset[str]) -> None:
    """Raise MisdirectedRequest unless `allowed`, in lower case, holds `host` with or without its port; empty: any."""
    if not allowed:
        return
    host = host.lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if host not in allowed and name.removesuffix(".") not in allowed:
        raise MisdirectedRequest


@lru_cache(maxsize=1024)
def parse_authority(value: bytes) -> str:
    """`host[:port]` as text (RFC 9110 section 7.2), stricter than the grammar. Raises BadRequest."""
    match = _AUTHORITY.fullmatch(value)
    if match is None or int(match[2] or 0) > 65535:
        raise BadRequest("Host is not a host name with an optional port.")
    if match[1] is not None:
        try:
            IPv6Address(match[1].decode())
        except AddressValueError:
            raise BadRequest("Host is not a valid IPv6 address.") from None
    return value.decode()


def _method_error(method: str) -> ProxyError:
    if method in ("CONNECT", "TRACE"):
        return MethodRefused(allow=", ".join(sorted(METHODS)))
    if not method.isascii() or method.encode().translate(None, TOKEN_BYTES):
        return BadRequest("The method is not a token.")
    return NotImplementedHere("The method is not known here.")


def _check_each(raw_headers: RawHeaders, version: tuple[int, int]) -> tuple[str, int | None, int]:
    """Host, Content-Length and the kinds of all fields."""
    host = ""
    content_length: int | None = None
    kinds = 0
    for name, value in raw_headers:
        kind = KINDS[name]
        if kind:
            if kind & _EXAMINED:
                if kind & (kinds | _REFUSED):
                    raise _field_error(kind)
                if kind == HOST:
                    host = parse_authority(value)
                elif kind == CONTENT_LENGTH:
                    content_length = _content_length(value)
                elif kind == TRANSFER_ENCODING:
                    _check_coding(value, version)
                elif value.lower() != b"100-continue" and version == (1, 1):
                    raise ExpectationFailed
            kinds |= kind
    if not kinds & HOST and version == (1, 1):
        raise BadRequest("Host is missing.")
    if kinds & FRAMING == FRAMING:
        raise BadRequest("Content-Length and Transfer-Encoding exclude each other.")
    if kinds & UNDERSCORE:
        _check_twins(raw_headers)
    return host, content_length, kinds


def _is_origin_form(target: str) -> bool:
    """Whether `target` is a path with an optional query (RFC 9112 section 3.2.1). Raises BadRequest."""
    clean = target.isascii() and target.isprintable() and " " not in target and "#" not in target
    if not clean and _NOT_IN_TARGET.search(target):
        raise BadRequest("The request target has a character that must be encoded.")
    return target[:1] == "/"


def _split_target(method: str, target: str) -> tuple[str, str]:
    """Authority and origin form of an absolute target, which overrules Host (RFC 9112 section 3.2.2)."""
    if target == "*" and method == "OPTIONS":
        return "", "*"
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None or not match[1].isascii():
        raise BadRequest("The request target is not a path.")
    authority, rest = parse_authority(match[1].encode()), match[2]
    if not rest and method == "OPTIONS":
        return authority, "*"
    return authority, rest if rest[:1] == "/" else f"/{rest}"


def _field_error(kind: int) -> ProxyError:
    if kind & INVALID:
        return BadRequest("A header name is not a token.")
    if kind & TWIN:
        return BadRequest("A header name has an underscore where it would be read as another field.")
    if kind == EXPECT:
        return ExpectationFailed()
    return BadRequest("A header that must be single is repeated.")


def _content_length(value: bytes) -> int:
    length = parse_content_length(value)
    if length is None:
        raise BadRequest("Content-Length is not a plain number.")
    return length


def _check_coding(value: bytes, version: tuple[int, int]) -> None:
    if version != (1, 1):
        raise BadRequest("Transfer-Encoding is not allowed in HTTP/1.0.")
    if not is_chunked(value):
        raise _coding_error(value)


def _coding_error(value: bytes) -> ProxyError:
    """501 for codings that are unknown here but end in `chunked`; without that the length cannot be told at all."""
    *others, last = (coding.strip(b" \t").lower() for coding in value.split(b","))
    known_end = last == b"chunked" and b"chunked" not in others
    if known_end and all(coding and not coding.translate(None, TOKEN_BYTES) for coding in others):
        return NotImplementedHere("The transfer coding is not known here.")
    return BadRequest("Transfer-Encoding is not chunked.")


def _check_twins(raw_headers: RawHeaders) -> None:
    """Refuse two spellings that a server which reads `_` as `-` would take for one field."""
    lowered = {name.lower() for name, _ in raw_headers}
    if len({name.replace(b"_", b"-") for name in lowered}) < len(lowered):
        raise BadRequest("Two header names differ only in an underscore.")
