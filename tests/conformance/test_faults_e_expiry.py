"""What was stored together does not expire together, and hot pages are fetched before they do (fault E09)."""

import asyncio
from collections import Counter

import pytest

from tests.support.cache_site import PATH, cache_site
from tests.support.client import RawClient
from tests.support.steps import Gate

PAGES = 1000
EARLY = {"early_refresh": True}


@pytest.mark.timeout(180)
async def test_e09_pages_that_were_stored_together_are_fetched_anew_over_a_tenth_of_their_lifetime() -> None:
    async with cache_site(EARLY, sections={"cache": {"max_entries": 10_000}}) as site:
        site.serve({"Cache-Control": "max-age=100"})
        anew: Counter[int] = Counter()

        async with RawClient(site.app.port) as client:
            for number in range(PAGES):
                await client.request("GET", f"/{number}")
            site.later(85)
            for second in range(85, 102):
                before = site.fills
                for number in range(PAGES):
                    await client.request("GET", f"/{number}")
                anew[second] = site.fills - before
                site.later(1)

        busy = [anew[second] for second in range(91, 101)]
        assert sum(anew.values()) >= PAGES
        assert sum(anew[second] for second in range(85, 90)) == 0
        assert max(anew.values()) <= 1.5 * PAGES / 10, anew
        assert min(busy) > 0, anew


async def test_e09_hot_page_is_fetched_early_while_its_readers_go_on() -> None:
    async with cache_site(EARLY) as site:
        gate = Gate()
        site.serve({"Cache-Control": "max-age=100"}, b"old", times=1)
        site.upstream.on("*", gate, site.answer({"Cache-Control": "max-age=100"}, b"new"))
        await site.get()

        site.later(99.99)
        for _ in range(20):
            answer = await site.get()
            assert (answer.body, answer.header("Age")) == (b"old", "99")
        await gate.reached.wait()
        assert site.fills == 2
        gate.open()
        async with asyncio.timeout(5):
            while (await site.get()).body != b"new":
                pass

        assert site.fills == 2


async def test_e09_early_fetch_that_fails_costs_nobody_anything() -> None:
    async with cache_site(EARLY) as site:
        site.serve({"Cache-Control": "max-age=100"}, b"old", times=1)
        site.serve({}, b"down", status=503)
        await site.get()

        site.later(99.99)
        answers = [await site.get() for _ in range(20)]

        assert {(each.status, each.body) for each in answers} == {(200, b"old")}


async def test_e09_nobody_waits_while_a_stale_page_is_fetched_anew() -> None:
    async with cache_site(EARLY) as site:
        gate = Gate()
        site.serve({"Cache-Control": "max-age=10, stale-while-revalidate=60"}, b"old", times=1)
        site.upstream.on("*", gate, site.answer({"Cache-Control": "max-age=10"}, b"new"))
        await site.get()
        site.later(15)

        async with RawClient(site.app.port) as client:
            bodies = [(await client.request("GET", PATH)).body for _ in range(50)]
        await gate.reached.wait()

        assert (set(bodies), site.fills) == ({b"old"}, 2)
        gate.open()
