"""How long responses are fresh, and in which spellings: RFC 9111 sections 1.2.2, 4.2, 4.2.1, 5.2 and 5.3."""

import pytest

from tests.support.cache_site import cache_site, is_reused
from tests.support.messages import Fields


def control(*values: str) -> Fields:
    return [("Cache-Control", value) for value in values]


@pytest.mark.parametrize(
    ("answer", "later", "reused"),
    [
        (control("max-age=60"), 59, True),
        (control("max-age=60"), 60, False),
        (control("max-age=60"), 61, False),
        (control("max-age=0"), 0, False),
        (control("s-maxage=60"), 59, True),
        (control("s-maxage=60"), 60, False),
        (control("s-maxage=60, max-age=1"), 30, True),
        (control("s-maxage=1, max-age=60"), 30, False),
        (control("max-age=60, s-maxage=0"), 0, False),
        ({"Expires": "{+60}"}, 59, True),
        ({"Expires": "{+60}"}, 60, False),
        ({"Expires": "{-60}"}, 0, False),
        ({"Expires": "{+0}"}, 0, False),
        ({"Expires": "{-1}", "Cache-Control": "public"}, 0, False),
        ({"Expires": "{+100000000}"}, 90_000_000, True),
        ({"Expires": "Fri, 31 Dec 9999 23:59:59 GMT"}, 1e9, True),
    ],
)
@pytest.mark.requirement("9111-4.2-5", "9111-4.2.1-1", "9111-5.2.2.1-1", "9111-5.2.2.10-1", "9111-4-5")
async def test_lifetime_ends_when_age_reaches_it(answer: Fields, later: float, reused: bool) -> None:
    assert await is_reused(answer, later=later) is reused


@pytest.mark.parametrize(
    ("cache_control", "expires", "later", "reused"),
    [
        ("max-age=60", "{-60}", 30, True),
        ("max-age=60", "0", 30, True),
        ("max-age=60", "{+10}", 30, True),
        ("max-age=10", "{+60}", 30, False),
        ("max-age=0", "{+60}", 0, False),
        ("s-maxage=60", "{-60}", 30, True),
        ("s-maxage=60", "0", 30, True),
        ("s-maxage=10", "{+60}", 30, False),
        ("s-maxage=0", "{+60}", 0, False),
    ],
)
@pytest.mark.requirement("9111-5.3-2", "9111-5.3-3")
async def test_expires_counts_only_alone(cache_control: str, expires: str, later: float, reused: bool) -> None:
    assert await is_reused({"Cache-Control": cache_control, "Expires": expires}, later=later) is reused


@pytest.mark.parametrize(
    "value",
    [
        "MAX-AGE=60",
        "Max-Age=60",
        'max-age="60"',
        "public, max-age=60",
        ",, max-age=60,,",
        "public,\tmax-age=60 ",
        "public,max-age=60",
        "max-age=60,must-revalidate",
        "max-age=0060",
        "max-age=00000000000000000000000060",
        "foo=bar, max-age=60",
        'foo="a,b", max-age=60',
        'foo="max-age=0", max-age=60',
        'foo="a\\", max-age=0, b=\\"", max-age=60',
        'foo="", max-age=60',
        "max-age=60, s-maxag=0",
        "x-max-age=0, max-age=60, max-age-x=0",
        'no-cached, no-storing="x", max-age=60',
        'max-age=60, foo="it\'s"',
    ],
)
@pytest.mark.requirement("9111-5.2-2", "9111-5.2.3-1")
async def test_legal_spellings_are_understood(value: str) -> None:
    assert await is_reused(control(value), later=59)
    assert not await is_reused(control(value), later=61)


@pytest.mark.parametrize("name", ["max-age", "s-maxage"])
@pytest.mark.parametrize(
    "value",
    [
        "",
        "=",
        '=""',
        "=a",
        "=-1",
        "=+60",
        "=60.5",
        "=60a",
        "=a60",
        "=1e3",
        "=0x3c",
        "='60'",
        '="-1"',
        '="60s"',
        "=60 60",
        " =60",
        "= 60",
        "=6,0",
        '="6,0"',
        "=\u0666\u0660",
    ],
)
@pytest.mark.requirement("9111-4.2.1-4")
async def test_invalid_lifetimes_are_over(name: str, value: str) -> None:
    if value == "=6,0":
        assert not await is_reused(control(name + value), later=10)
    else:
        assert not await is_reused([*control(name + value), ("Expires", "{+60}"), ("Last-Modified", "{-86400}")])


@pytest.mark.parametrize("name", ["max-age", "s-maxage"])
@pytest.mark.parametrize(
    "seconds", [2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**64, 10**19, 10**30, 10**300]
)
@pytest.mark.requirement("9111-1.2.2-1", "9111-1.2.2-2")
async def test_large_lifetimes_do_not_overflow(name: str, seconds: int) -> None:
    assert await is_reused(control(f"{name}={seconds}"), later=1e8)


@pytest.mark.parametrize(
    "values",
    [
        ("max-age=0, max-age=60",),
        ("max-age=0", "max-age=60"),
        ("max-age=1, max-age=3600",),
        ("s-maxage=1", "s-maxage=3600"),
        ("max-age=60, no-cache",),
        ("no-cache", "max-age=60"),
        ("public, no-cache, s-maxage=60",),
        ("max-age=60, max-age=x, max-age=0",),
    ],
)
@pytest.mark.requirement("9111-4.2.1-2", "9111-4.2.1-3")
async def test_conflicts_are_decided_for_the_shorter_life(values: tuple[str, ...]) -> None:
    assert not await is_reused(control(*values), later=30)


@pytest.mark.parametrize("dates", [("{-60}", "{+60}"), ("0", "{+60}"), ("{+10}", "{+60}")])
@pytest.mark.requirement("9111-4.2.1-2")
async def test_first_of_several_expires_counts(dates: tuple[str, ...]) -> None:
    assert not await is_reused([("Expires", date) for date in dates], later=30)


@pytest.mark.parametrize(
    ("date", "expires", "later", "reused"),
    [
        ("{+100}", "{+160}", 59, True),
        ("{+100}", "{+160}", 61, False),
        ("{+86400}", "{+86460}", 59, True),
        ("{+86400}", "{+86460}", 61, False),
        ("{+86400}", "{+60}", 0, False),
        ("{+100}", "{+100}", 0, False),
    ],
)
@pytest.mark.requirement("9111-4.2.1-1")
async def test_expires_is_read_by_the_upstreams_clock(date: str, expires: str, later: float, reused: bool) -> None:
    assert await is_reused({"Date": date, "Expires": expires}, later=later) is reused


@pytest.mark.parametrize(("later", "reused"), [(59, True), (61, False)])
@pytest.mark.requirement("9111-4.2.1-1", "9110-6.6.1-1")
async def test_expires_without_date_counts_from_receipt(later: float, reused: bool) -> None:
    async with cache_site() as site:
        site.serve({"Expires": "{+60}"}, date=False)

        await site.get()
        site.later(later)

        assert await site.is_hit() is reused


@pytest.mark.parametrize(("ttl", "later", "reused"), [("5m", 299, True), ("5m", 301, False)])
async def test_lifetime_of_the_route_is_for_responses_that_bring_none(ttl: str, later: float, reused: bool) -> None:
    assert await is_reused({}, later=later, cache={"ttl": ttl}) is reused


@pytest.mark.parametrize(
    "answer",
    [
        control("max-age=0"),
        control("no-store"),
        control("private"),
        control("no-cache"),
        control("max-age=x"),
        [("Expires", "0")],
        [("Set-Cookie", "a=b")],
        [("Vary", "*")],
    ],
)
@pytest.mark.requirement("9111-5.2.2-1")
async def test_lifetime_of_the_route_overrides_no_word_of_the_upstream(answer: Fields) -> None:
    assert not await is_reused(answer, cache={"ttl": "5m"})


@pytest.mark.parametrize("answer", [control("no-store"), control("private"), control("no-cache")])
@pytest.mark.requirement("9111-5.2.2-1")
async def test_not_even_where_the_upstream_is_not_respected(answer: Fields) -> None:
    assert not await is_reused(answer, cache={"ttl": "5m", "respect_origin": False})
