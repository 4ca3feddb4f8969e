"""Reading Retry-After: seconds, or a date (RFC 9110 sections 10.2.3 and 5.6.7)."""

from typing import Final

from proxy.protocol.dates import parse_http_date
from proxy.protocol.headers import RawHeaders

_LARGEST: Final = 2**31
"""Seconds; what is larger means as much (RFC 9111 section 1.2.2 has the same rule for ages)."""
_MAX_DIGITS: Final = len(str(_LARGEST))


def find_retry_after(headers: RawHeaders, wall_now: float) -> float | None:
    """What the first Retry-After in `headers` asks for, in seconds from `wall_now` (Unix time); None: nothing."""
    for name, value in headers:
        if name.lower() == b"retry-after":
            return parse_retry_after(value, wall_now)
    return None


def parse_retry_after(value: bytes, wall_now: float) -> float | None:
    """Seconds from `wall_now` (Unix time), 0 for a date that has passed, at most 2^31; None for anything else."""
    value = value.strip(b" \t")
    if value.isdigit():
        return float(_LARGEST if len(value) > _MAX_DIGITS else min(int(value), _LARGEST))
    at = parse_http_date(value, wall_now)
    return None if at is None else min(max(at - wall_now, 0.0), _LARGEST)
