"""The remaining deadline as it travels between services, in whole milliseconds: `X-Request-Deadline-Ms`."""

from typing import Final

_MAX_DIGITS: Final = 9
_LARGEST: Final = 10**_MAX_DIGITS - 1


def parse_deadline_ms(value: bytes) -> float | None:
    """Seconds left, None unless `value` is 1 to 9 ASCII digits."""
    return int(value) / 1000 if value.isdigit() and len(value) <= _MAX_DIGITS else None


def format_deadline_ms(remaining: float) -> bytes:
    """`remaining` seconds rounded down, at least 1 (whoever is asked has some time), at most what can be read back."""
    return b"%d" % min(max(remaining * 1000, 1), _LARGEST)
