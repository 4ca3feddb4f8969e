"""Retry-After in all its forms, and what only looks like one (RFC 9110 sections 10.2.3 and 5.6.7)."""

from datetime import UTC, datetime

import pytest

from proxy.protocol.retry_after import find_retry_after, parse_retry_after

NOW = datetime(1994, 11, 6, 8, 49, 30, tzinfo=UTC).timestamp()
LARGEST = 2.0**31


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"5", 5.0),
        (b" 120\t", 120.0),
        (b"007", 7.0),
        (b"1000000000", 1e9),
        (b"2147483648", LARGEST),
        (b"9999999999", LARGEST),
        (b"9" * 5000, LARGEST),
    ],
)
def test_seconds_are_read_and_bounded(value: bytes, seconds: float) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 7.0),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", 7.0),
        (b"Sun Nov  6 08:49:37 1994", 7.0),
        (b"sun, 06 nov 1994 08:49:37 gmt", 7.0),
        (b"Wed Nov 16 08:49:30 1994", 864_000.0),
        (b"Sun, 06 Nov 1994 08:49:30 GMT", 0.0),
        (b"Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", LARGEST),
    ],
)
def test_dates_count_from_now_and_past_ones_are_over(value: bytes, seconds: float) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(("year", "is_past"), [(b"94", True), (b"95", False), (b"44", False), (b"45", True)])
def test_two_digits_of_a_year_are_at_most_fifty_years_ahead(year: bytes, is_past: bool) -> None:
    seconds = parse_retry_after(b"Friday, 01-Jan-%b 00:00:00 GMT" % year, NOW)

    assert (seconds == 0.0) is is_past


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"-1",
        b"+5",
        b"1.5",
        b"1e9",
        b"0x10",
        b"5s",
        b"1_0",
        b"5, 6",
        b"nan",
        b"soon",
        "\uff15".encode(),
        b"\xff",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 CET",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 25:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sunday, 06-Nov-1994 08:49:37 GMT",
        b"Sun Nov 06 1994 08:49:37",
        b"1994-11-06T08:49:37Z",
    ],
)
def test_anything_else_is_ignored(value: bytes) -> None:
    assert parse_retry_after(value, NOW) is None


def test_field_is_found_whatever_its_case_and_the_first_one_counts() -> None:
    headers = [(b"Content-Length", b"0"), (b"rEtRy-AfTeR", b"7"), (b"Retry-After", b"8")]

    assert find_retry_after(headers, NOW) == 7.0
    assert find_retry_after([(b"X-Retry-After", b"7")], NOW) is None
