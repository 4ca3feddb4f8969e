"""Reading Retry-After: seconds, or a date (RFC 9110 sections 10.2.3 and 5.6.7)."""

import re
from datetime import UTC, datetime
from typing import Final

from proxy.protocol.headers import RawHeaders

_LARGEST: Final = 2**31
"""Seconds; what is larger means as much (RFC 9111 section 1.2.2 has the same rule for ages)."""
_MAX_DIGITS: Final = len(str(_LARGEST))
_MAX_AHEAD: Final = 50
"""Years that the two digits of an obsolete date can be ahead of us."""

_MONTHS: Final = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTH: Final = rb"(?P<month>%b)" % b"|".join(_MONTHS)
_TIME: Final = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY: Final = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY: Final = rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_DATES: Final = (
    re.compile(_DAY + rb", (?P<day>[0-9]{2}) " + _MONTH + rb" (?P<year>[0-9]{4}) " + _TIME + rb" GMT"),
    re.compile(_LONG_DAY + rb", (?P<day>[0-9]{2})-" + _MONTH + rb"-(?P<year>[0-9]{2}) " + _TIME + rb" GMT"),
    re.compile(_DAY + rb" " + _MONTH + rb" (?P<day>[ 0-9][0-9]) " + _TIME + rb" (?P<year>[0-9]{4})"),
)
"""IMF-fixdate, and the two obsolete forms that a recipient has to accept: RFC 850's and asctime's."""


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
    for form in _DATES:
        if match := form.fullmatch(value):
            at = _unix_time(match, wall_now)
            return None if at is None else min(max(at - wall_now, 0.0), _LARGEST)
    return None


def _unix_time(match: re.Match[bytes], wall_now: float) -> float | None:
    """None for a day or a time that there is not."""
    year = int(match["year"])
    if len(match["year"]) == len("94"):
        year = _full_year(year, wall_now)
    month = _MONTHS.index(match["month"]) + 1
    day, hour, minute, second = (int(match[part]) for part in ("day", "hour", "minute", "second"))
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _full_year(two_digits: int, wall_now: float) -> int:
    latest = datetime.fromtimestamp(wall_now, UTC).year + _MAX_AHEAD
    return latest - (latest - two_digits) % 100
