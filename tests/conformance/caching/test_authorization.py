"""Responses to requests with credentials: RFC 9111 section 3.5, and Cookie treated alike."""

import pytest

from tests.support.cache_site import cache_site, is_reused

CREDENTIALS = [{"Authorization": "Bearer a"}, {"Cookie": "session=a"}]
LONG = "max-age=3600"


@pytest.mark.parametrize("first", CREDENTIALS, ids=["authorization", "cookie"])
@pytest.mark.parametrize("second", [{}, {"Authorization": "Bearer b"}, {"Cookie": "session=b"}], ids=str)
@pytest.mark.parametrize(
    "answer",
    [
        {"Cache-Control": LONG},
        {"Expires": "{+3600}"},
        {"Cache-Control": f"{LONG}, proxy-revalidate"},
        {"Cache-Control": f"{LONG}, immutable"},
        {"Cache-Control": f"{LONG}, stale-while-revalidate=60"},
        {"Cache-Control": f'{LONG}, x="public, s-maxage=60, must-revalidate"'},
        {"Cache-Control": f"{LONG}, must-understand"},
        {"Last-Modified": "{-864000}", "ETag": '"a"'},
    ],
    ids=str,
)
@pytest.mark.requirement("9111-3-6", "9111-3.5-1")
async def test_response_to_credentials_is_for_nobody_else(
    answer: dict[str, str], first: dict[str, str], second: dict[str, str]
) -> None:
    assert not await is_reused(answer, first=first, second=second)


@pytest.mark.parametrize("first", CREDENTIALS, ids=["authorization", "cookie"])
@pytest.mark.parametrize("control", [f"public, {LONG}", "s-maxage=3600", f"must-revalidate, {LONG}", f"PUBLIC, {LONG}"])
@pytest.mark.requirement("9111-3.5-1", "9111-5.2.2.9-1")
async def test_response_that_is_declared_shared_is_reused(control: str, first: dict[str, str]) -> None:
    assert await is_reused({"Cache-Control": control}, first=first)


@pytest.mark.parametrize("control", ["s-maxage=10", "must-revalidate, max-age=10"])
@pytest.mark.requirement("9111-3.5-1")
async def test_directive_that_declares_it_shared_is_followed(control: str) -> None:
    async with cache_site() as site:
        site.serve({"Cache-Control": f"{control}, stale-while-revalidate=600, stale-if-error=600"})

        await site.get(headers={"Authorization": "Bearer a"})
        site.later(11)

        assert not await site.is_hit(headers={"Cache-Control": "max-stale"})


@pytest.mark.requirement("9111-3.5-1")
async def test_credentials_are_forwarded_where_nothing_is_stored() -> None:
    async with cache_site() as site:
        site.serve({"Cache-Control": LONG})

        await site.get(headers={"Authorization": "Bearer a"})
        await site.get(headers={"Authorization": "Bearer b"})

        assert [each.header("Authorization") for each in site.upstream.requests] == ["Bearer a", "Bearer b"]


@pytest.mark.requirement("9111-3.5-1")
async def test_validation_for_one_user_does_not_share_what_another_may_not_see() -> None:
    async with cache_site() as site:
        site.revalidate({"Cache-Control": "max-age=0", "ETag": '"a"'}, {"ETag": '"a"', "Cache-Control": LONG}, b"mine")

        await site.get(headers={"Authorization": "Bearer a"})
        await site.get(headers={"Authorization": "Bearer a"})
        await site.get()

        assert site.fills == 3
