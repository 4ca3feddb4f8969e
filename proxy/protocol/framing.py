"""How the length of a message body is told (RFC 9112 section 6)."""

from enum import Enum
from typing import Final

_MAX_DIGITS: Final = 19


class Framing(Enum):
    """How the end of a response body is found."""

    NONE = "none"
    """No body, whatever the fields say."""
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"
    """The body ends with the connection."""
    TUNNEL = "tunnel"
    """The connection changes protocol."""


def parse_content_length(value: bytes) -> int | None:
    """The number of bytes, None unless written as `0` or without leading zero, sign, list or space.

    Stricter than RFC 9112 section 6.3, so that no two readers can see different lengths.
    """
    if not value.isdigit() or len(value) > _MAX_DIGITS or (value[0] == ord("0") and len(value) > 1):
        return None
    return int(value)


def is_chunked(value: bytes) -> bool:
    """Whether `value` is the one transfer coding that is spoken here."""
    return value.lower() == b"chunked"
