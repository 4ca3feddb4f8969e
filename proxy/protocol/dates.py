"""Dates in fields: HTTP-date in all three of its forms (RFC 9110 section 5.6.7)."""

import re
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Final

_MAX_AHEAD: Final = 50
"""Years that the two digits of an obsolete date can be ahead of us."""
_LEAP_SECOND: Final = (23, 59, 60)

_MONTHS: Final = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_MONTH: Final = rb"(?P<month>%b)" % b"|".join(_MONTHS)
_TIME: Final = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY: Final = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY: Final = rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_FORMS: Final = (
    re.compile(_DAY + rb", (?P<day>[0-9]{2}) " + _MONTH + rb" (?P<year>[0-9]{4}) " + _TIME + rb" gmt"),
    re.compile(_LONG_DAY + rb", (?P<day>[0-9]{2})-" + _MONTH + rb"-(?P<year>[0-9]{2}) " + _TIME + rb" gmt"),
    re.compile(_DAY + rb" " + _MONTH + rb" (?P<day>[ 0-9][0-9]) " + _TIME + rb" (?P<year>[0-9]{4})"),
)
"""IMF-fixdate, and the two obsolete forms that a recipient has to accept: RFC 850's and asctime's."""


def parse_http_date(value: bytes, now: float) -> float | None:
    """`value` as Unix time; None for what is no HTTP-date, or a day or time that there is not.

    Case does not matter, as RFC 9111 section 4.2 asks of caches. `now` (Unix time) tells the century of two digits.
    """
    value = value.strip(b" \t").lower()
    for form in _FORMS:
        if match := form.fullmatch(value):
            return _unix_time(match, now)
    return None


def format_http_date(at: float) -> bytes:
    """`at` (Unix time) as IMF-fixdate, its second rounded down."""
    return formatdate(int(at), usegmt=True).encode()


def _unix_time(match: re.Match[bytes], now: float) -> float | None:
    year, day, hour, minute, second = (int(match[part]) for part in ("year", "day", "hour", "minute", "second"))
    if (hour, minute, second) == _LEAP_SECOND:
        second -= 1  # Unix time has none: the nearest time before it
    rest = (_MONTHS.index(match["month"]) + 1, day, hour, minute, second)
    if len(match["year"]) == len("94"):
        year = _full_year(year, rest, now)
    try:
        return datetime(year, *rest, tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _full_year(two_digits: int, rest: tuple[int, ...], now: float) -> int:
    """The latest year of these digits that puts the date no more than 50 years ahead."""
    today = datetime.fromtimestamp(now, UTC)
    latest = today.year + _MAX_AHEAD
    if rest > (today.month, today.day, today.hour, today.minute, today.second):
        latest -= 1
    return latest - (latest - two_digits) % 100
