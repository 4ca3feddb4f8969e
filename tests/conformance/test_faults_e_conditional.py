"""HEAD, ranges, conditions, Vary without end, clocks that disagree (fault E12); more in tests/conformance/caching."""

import pytest

from tests.support.cache_site import FRESH, cache_site, is_reused

BODY = b"0123456789"
VALIDATED = {**FRESH, "ETag": '"a"'}


@pytest.mark.parametrize(
    ("method", "request_fields", "status", "body"),
    [
        ("HEAD", {}, 200, b""),
        ("HEAD", {"If-None-Match": '"a"'}, 304, b""),
        ("GET", {"Range": "bytes=2-4"}, 206, b"234"),
        ("GET", {"Range": "bytes=10-"}, 416, None),
        ("GET", {"If-None-Match": "*"}, 304, b""),
        ("GET", {"If-None-Match": 'W/"a"'}, 304, b""),
        ("GET", {"If-None-Match": '"x", W/"a", "y"'}, 304, b""),
        ("GET", {"If-None-Match": '"x"'}, 200, BODY),
        ("GET", {"If-None-Match": '"x"', "Range": "bytes=-1"}, 206, b"9"),
    ],
    ids=str,
)
async def test_e12_stored_get_answers(
    method: str, request_fields: dict[str, str], status: int, body: bytes | None
) -> None:
    async with cache_site() as site:
        await site.stored(VALIDATED, BODY)

        answer = await site.ask(method, headers=request_fields)

        assert (answer.status, site.fills) == (status, 1)
        assert body is None or answer.body == body


async def test_e12_vary_star_is_never_answered_from_the_store() -> None:
    assert not await is_reused({**FRESH, "Vary": "*"})


@pytest.mark.parametrize("name", ["User-Agent", "X-One", "Cookie"])
async def test_e12_a_thousand_variants_of_one_page_are_capped(name: str) -> None:
    async with cache_site({"max_variants": 20}) as site:
        site.serve({"Cache-Control": "public, max-age=3600", "Vary": name})

        await site.get("/other")
        for number in range(1000):
            await site.get(headers={name: f"variant {number}"})

        assert await site.app.metric("proxy_cache_entries") <= 21
        assert await site.app.metric("proxy_cache_evictions_total", reason="variants") >= 900
        assert await site.is_hit("/other")
        assert await site.is_hit(headers={name: "variant 999"})


async def test_e12_vary_that_changes_a_thousand_times_is_capped() -> None:
    async with cache_site({"max_variants": 20}) as site:
        for number in range(300):
            site.serve({**FRESH, "Vary": f"X-{number}"}, times=1)

        for number in range(300):
            await site.get(headers={"Cache-Control": "no-cache", f"X-{number}": "1"})

        assert await site.app.metric("proxy_cache_entries") <= 20


@pytest.mark.parametrize(
    ("fields", "later", "reused"),
    [
        ({"Date": "{+86400}", "Cache-Control": "max-age=60"}, 59, True),
        ({"Date": "{+86400}", "Cache-Control": "max-age=60"}, 61, False),
        ({"Date": "{+86400}", "Expires": "{+86460}"}, 59, True),
        ({"Date": "{+86400}", "Expires": "{+86460}"}, 61, False),
        ({"Date": "{-86400}", "Expires": "{-86340}"}, 61, False),
        ({"Date": "{-86400}", "Cache-Control": "max-age=60"}, 61, False),
        ({"Date": "{-86400}", "Cache-Control": "max-age=172800"}, 86_300, True),
        ({"Age": "86400", "Cache-Control": "max-age=60"}, 0, False),
        ({"Age": "86400", "Cache-Control": "max-age=172800"}, 86_300, True),
        ({"Age": "86400", "Cache-Control": "max-age=172800"}, 86_500, False),
        ({"Age": "-86400", "Cache-Control": "max-age=60"}, 61, False),
    ],
    ids=str,
)
async def test_e12_clocks_a_day_apart(fields: dict[str, str], later: float, reused: bool) -> None:
    assert await is_reused(fields, later=later) is reused


async def test_e12_clock_that_goes_back_keeps_nothing_fresh_for_longer() -> None:
    async with cache_site() as site:
        await site.stored({"Cache-Control": "max-age=60"})

        site.clock.now -= 3600
        hit = await site.get()
        site.clock.now += 3600 + 61

        assert int(hit.header("Age") or 0) >= 0
        assert not await site.is_hit()
