"""Dates in every legal and illegal spelling: RFC 9111 sections 4.2 and 5.3, RFC 9110 section 5.6.7."""

import os
import time
from collections.abc import Iterator

import pytest

from tests.support.cache_site import is_reused

FUTURE = [
    "{+60}",
    "{850+60}",
    "{asctime+60}",
    "Fri, 01 Jan 2027 00:00:00 GMT",
    "Friday, 01-Jan-27 00:00:00 GMT",
    "Fri Jan  1 00:00:00 2027",
    "Fri Jan 15 00:00:00 2027",
    "Fri, 31 Dec 2100 23:59:60 GMT",
]


@pytest.mark.parametrize("expires", FUTURE)
@pytest.mark.requirement("9110-5.6.7-1")
async def test_three_forms_of_dates_are_understood(expires: str) -> None:
    assert await is_reused({"Expires": expires}, later=30)


@pytest.mark.parametrize(
    "expires",
    [
        "fri, 01 jan 2027 00:00:00 gmt",
        "FRI, 01 JAN 2027 00:00:00 GMT",
        "Fri, 01 Jan 2027 00:00:00 gmt",
        "friday, 01-jan-27 00:00:00 gmt",
        "fri jan  1 00:00:00 2027",
    ],
)
@pytest.mark.requirement("9111-4.2-1")
async def test_case_of_dates_does_not_matter(expires: str) -> None:
    assert await is_reused({"Expires": expires})


@pytest.mark.parametrize("zone", ["UTC", "EST", "PDT", "CET", "Z", "+0000", "-0100", "GMT+1", "BST", "A"])
@pytest.mark.requirement("9111-4.2-4")
async def test_dates_in_other_zones_are_invalid(zone: str) -> None:
    assert not await is_reused({"Expires": f"Fri, 01 Jan 2027 00:00:00 {zone}"})


@pytest.mark.parametrize(
    "expires",
    [
        "0",
        "-1",
        "",
        "1",
        "1800000000",
        "never",
        "garbage",
        "2027-01-01T00:00:00Z",
        "2027-01-01",
        "01 Jan 2027 00:00:00 GMT",
        "Fri 01 Jan 2027 00:00:00 GMT",
        "Fri, 1 Jan 2027 00:00:00 GMT",
        "Fri, 01-Jan-2027 00:00:00 GMT",
        "Fri, 01 Jan 27 00:00:00 GMT",
        "Fri, 01 Jan 2027 0:00:00 GMT",
        "Fri, 01 Jan 2027 00:00 GMT",
        "Fri, 01 Jan 2027 000000 GMT",
        "Fri, 01 Jan 2027 00:00:00",
        "Fri, 01 Jan 2027 00:00:00 GMT trailing",
        "Fri, 01 Jan 2027 24:00:00 GMT",
        "Fri, 01 Jan 2027 00:60:00 GMT",
        "Fri, 32 Jan 2027 00:00:00 GMT",
        "Fri, 30 Feb 2027 00:00:00 GMT",
        "Fri, 01 Foo 2027 00:00:00 GMT",
        "Fri, 01 Jan 02027 00:00:00 GMT",
        "Fri,01 Jan 2027 00:00:00 GMT",
        "Fri,  01 Jan 2027 00:00:00 GMT",
        '"Fri, 01 Jan 2027 00:00:00 GMT"',
        "Friday, 01-Jan-2027 00:00:00 GMT",
        "Fri Jan 1 00:00:00 2027",
        "Jan  1 00:00:00 2027",
        "Fri, 01 Jan 2027 00:00:00 GMT, Fri, 01 Jan 2027 00:00:00 GMT",
    ],
)
@pytest.mark.requirement("9111-5.3-1", "9111-4.2.1-4")
async def test_invalid_expires_is_in_the_past(expires: str) -> None:
    assert not await is_reused({"Expires": expires, "Last-Modified": "{-864000}", "Cache-Control": "public"})


@pytest.fixture(params=["America/New_York", "Asia/Kolkata", "Pacific/Kiritimati"])
def local_zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """The process lives in another time zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize("form", ["{+60}", "{850+60}", "{asctime+60}"])
@pytest.mark.requirement("9111-4.2-3")
async def test_local_time_zone_does_not_count(local_zone: str, form: str) -> None:
    assert await is_reused({"Expires": form}, later=59)
    assert not await is_reused({"Expires": form}, later=61)


@pytest.mark.parametrize(("year", "reused"), [("75", True), ("76", False), ("99", False), ("26", True), ("00", False)])
@pytest.mark.requirement("9110-5.6.7-1")
async def test_two_digits_of_a_year_are_at_most_fifty_years_ahead(year: str, reused: bool) -> None:
    assert await is_reused({"Expires": f"Sunday, 01-Jun-{year} 00:00:00 GMT"}) is reused


@pytest.mark.parametrize("date", ["garbage", "0", "{+0} x", "2025-06-15"])
@pytest.mark.requirement("9110-6.6.1-1")
async def test_invalid_date_does_not_keep_it_from_being_reused(date: str) -> None:
    assert await is_reused({"Date": date, "Cache-Control": "max-age=60"}, later=59)
    assert not await is_reused({"Date": date, "Cache-Control": "max-age=60"}, later=61)
