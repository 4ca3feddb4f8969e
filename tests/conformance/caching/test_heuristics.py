"""Freshness that no field states: RFC 9111 section 4.2.2."""

import pytest

from tests.support.cache_site import is_reused

OLD = {"Last-Modified": "{-1000}"}


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
@pytest.mark.requirement("9111-4.2.2-2", "9111-4.2.2-3")
async def test_a_tenth_of_the_time_since_it_was_modified(status: int) -> None:
    assert await is_reused(OLD, status=status, later=95)
    assert not await is_reused(OLD, status=status, later=105)


@pytest.mark.parametrize(
    "explicit",
    [
        {"Cache-Control": "max-age=0"},
        {"Cache-Control": "s-maxage=0"},
        {"Cache-Control": "max-age=x"},
        {"Cache-Control": "s-maxage"},
        {"Expires": "{-10}"},
        {"Expires": "0"},
        {"Expires": "{+0}"},
        {"Cache-Control": "public, max-age=0"},
    ],
)
@pytest.mark.requirement("9111-4.2.2-1", "9111-4.2.1-4")
async def test_no_heuristics_beside_an_explicit_expiration(explicit: dict[str, str]) -> None:
    assert not await is_reused({**explicit, "Last-Modified": "{-86400000}"})


@pytest.mark.parametrize("status", [302, 307, 400, 403, 500, 503, 599])
@pytest.mark.requirement("9111-4.2.2-2")
async def test_no_heuristics_for_other_statuses(status: int) -> None:
    assert not await is_reused({"Last-Modified": "{-86400000}"}, status=status)


@pytest.mark.parametrize("status", [200, 302, 307])
@pytest.mark.requirement("9111-5.2.2.9-1")
async def test_public_makes_any_status_heuristically_cacheable(status: int) -> None:
    assert await is_reused({**OLD, "Cache-Control": "public"}, status=status, later=95)
    assert not await is_reused({**OLD, "Cache-Control": "public"}, status=status, later=105)


@pytest.mark.parametrize("modified", ["{+1000}", "garbage", "0", "{+0}", ""])
@pytest.mark.requirement("9111-4.2.2-3")
async def test_nothing_follows_from_a_useless_last_modified(modified: str) -> None:
    assert not await is_reused({"Last-Modified": modified})


@pytest.mark.requirement("9111-4.2.2-3")
async def test_heuristics_end_after_a_day() -> None:
    assert await is_reused({"Last-Modified": "{-864000000}"}, later=86_300)
    assert not await is_reused({"Last-Modified": "{-864000000}"}, later=86_500)


@pytest.mark.parametrize("date", ["{+500}", "{-500}"])
@pytest.mark.requirement("9111-4.2.2-3")
async def test_clock_of_the_upstream_does_not_make_heuristics_longer(date: str) -> None:
    assert not await is_reused({"Date": date, **OLD}, later=155)


@pytest.mark.requirement("9111-4.2.3-2")
async def test_received_age_uses_heuristic_lifetime_up() -> None:
    assert not await is_reused({**OLD, "Age": "50"}, later=55)


@pytest.mark.parametrize("control", ["no-cache", "no-store", "private"])
@pytest.mark.requirement("9111-5.2.2-1")
async def test_directives_count_where_freshness_is_heuristic(control: str) -> None:
    assert not await is_reused({"Last-Modified": "{-86400000}", "Cache-Control": control})


@pytest.mark.parametrize("control", ["must-revalidate", "proxy-revalidate", "immutable", "no-transform"])
@pytest.mark.requirement("9111-4.2.2-2")
async def test_other_directives_do_not_forbid_heuristics(control: str) -> None:
    assert await is_reused({**OLD, "Cache-Control": control}, later=95)
