"""HTTP-date in its three forms, and what only looks like one (RFC 9110 section 5.6.7)."""

from datetime import UTC, datetime

import pytest

from proxy.protocol.dates import format_http_date, parse_http_date

DATE = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "value",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"Sun Nov 06 08:49:37 1994",
        b" Sun, 06 Nov 1994 08:49:37 GMT\t",
    ],
)
def test_all_three_forms_are_read(value: bytes) -> None:
    assert parse_http_date(value, NOW) == DATE


@pytest.mark.parametrize("value", [b"sun, 06 nov 1994 08:49:37 gmt", b"SUNDAY, 06-NOV-94 08:49:37 GMT"])
def test_case_does_not_matter(value: bytes) -> None:
    assert parse_http_date(value, NOW) == DATE


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"-1",
        b"784111777",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"Sun, 06 Nov 1994 08:49:37 EST",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun,  06 Nov 1994 08:49:37 GMT",
        b"Sun 06 Nov 1994 08:49:37 GMT",
        b"06 Nov 1994 08:49:37 GMT",
        b"Sun, 06-Nov-1994 08:49:37 GMT",
        b"Sun, 06 Nov 94 08:49:37 GMT",
        b"Sun, 06 Nov 1994 8:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49 GMT",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:60:00 GMT",
        b"Sun, 06 Nov 1994 08:49:60 GMT",
        b"Sun, 32 Nov 1994 08:49:37 GMT",
        b"Thu, 29 Feb 2001 08:49:37 GMT",
        b"Sun, 06 Foo 1994 08:49:37 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        b'"Sun, 06 Nov 1994 08:49:37 GMT"',
        "Sun, 0\uff16 Nov 1994 08:49:37 GMT".encode(),
        b"\xff",
    ],
)
def test_anything_else_is_no_date(value: bytes) -> None:
    assert parse_http_date(value, NOW) is None


def test_leap_second_is_the_second_before_it() -> None:
    assert parse_http_date(b"Sat, 31 Dec 2016 23:59:60 GMT", NOW) == parse_http_date(
        b"Sat, 31 Dec 2016 23:59:59 GMT", NOW
    )


@pytest.mark.parametrize(
    ("value", "year"),
    [
        (b"Saturday, 21-Nov-26 12:00:00 GMT", 2026),
        (b"Friday, 01-Jan-27 12:00:00 GMT", 2027),
        (b"Saturday, 21-Nov-76 12:00:00 GMT", 2076),
        (b"Saturday, 21-Nov-76 12:00:01 GMT", 1976),
        (b"Friday, 01-Jan-77 12:00:00 GMT", 1977),
        (b"Friday, 31-Dec-99 12:00:00 GMT", 1999),
        (b"Saturday, 01-Jan-00 12:00:00 GMT", 2000),
    ],
)
def test_two_digits_are_a_year_no_more_than_fifty_years_ahead(value: bytes, year: int) -> None:
    at = parse_http_date(value, NOW)

    assert at is not None
    assert datetime.fromtimestamp(at, UTC).year == year


def test_dates_before_1970_and_far_ahead_are_dates() -> None:
    assert parse_http_date(b"Thu, 01 Jan 1931 00:00:00 GMT", NOW) == datetime(1931, 1, 1, tzinfo=UTC).timestamp()
    assert parse_http_date(b"Fri, 31 Dec 9999 23:59:59 GMT", NOW) is not None


def test_what_is_written_is_read_as_the_same_second() -> None:
    assert format_http_date(DATE + 0.9) == b"Sun, 06 Nov 1994 08:49:37 GMT"
    assert parse_http_date(format_http_date(NOW), NOW) == NOW
