"""The beginning of a response head as bytes, worked out once for a response that is sent again and again."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from proxy.protocol.fields import INTERNAL, KINDS
from proxy.protocol.headers import RawHeaders

_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_STATUS_LINES: Final = {status: b"HTTP/1.1 %d %b" % (status, _PHRASES.get(status, b"")) for status in range(100, 600)}


def status_line(status: int, reason: bytes) -> bytes:
    """RFC 9112 section 4, without its line end; the standard phrase where there is no `reason`."""
    return b"HTTP/1.1 %d %b" % (status, reason) if reason else _STATUS_LINES[status]


def kinds_of(fields: RawHeaders) -> int:
    """The kinds of all fields together."""
    kinds = 0
    for name, _ in fields:
        kinds |= KINDS[name]
    return kinds


class Encoded:
    """A status line with the fields that come first. It holds for a response whose fields still begin with `fields`."""

    __slots__ = ("count", "fields", "kinds", "lines", "reason", "status")

    def __init__(self, status: int, reason: bytes, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.reason = reason
        self.fields = list(fields)
        """A list, since only lists are equal to lists."""
        self.count = len(self.fields)
        sent = [field for field in self.fields if not KINDS[field[0]] & INTERNAL]
        self.kinds = kinds_of(sent)
        """Without INTERNAL: the edge sends its own in place of those."""
        self.lines = b"\r\n".join([status_line(status, reason), *map(b": ".join, sent)])
        """Without the line end of the last."""
