"""The memory keeps within its bounds, whatever is asked for and however it varies (fault E08)."""

import time

import pytest

from proxy.protocol.caching.stored import StoredResponse, Terms
from proxy.storage.generations import Generations
from proxy.storage.memory import Memory
from tests.support.cache_site import FRESH, START, CacheSite, cache_site

MIB = 1024 * 1024


def a_megabyte(number: int) -> StoredResponse:
    terms = Terms("", date=START, born=START, lifetime=3600.0)
    return StoredResponse(200, b"OK", ((b"X-Number", b"%d" % number),), BODY, terms, tags=(f"thing:{number}",))


BODY = bytes(MIB)


@pytest.mark.timeout(120)
def test_e08_a_hundred_thousand_megabytes_stay_within_the_bounds_of_the_memory() -> None:
    memory = Memory(64 * MIB, 1000, Generations(), wall=lambda: START)
    slowest = 0.0

    for number in range(100_000):
        before = time.thread_time()
        memory.put(b"%016d" % number, a_megabyte(number), 0, max_variants=64)
        slowest = max(slowest, time.thread_time() - before)
        assert memory.bytes <= 64 * MIB
        assert memory.entries <= 1000

    assert memory.entries >= 50
    assert slowest < 0.2, "ten times what the loop may be late"


async def fills_of_distinct_pages(site: CacheSite, pages: int, size: int) -> None:
    site.serve(FRESH, b"x" * size)
    for number in range(pages):
        await site.get(f"/{number}")
        if number % 25 == 0:
            assert await site.app.metric("proxy_cache_bytes") <= await site.app.metric("proxy_cache_bytes_limit")


async def test_e08_bytes_are_bounded_in_service() -> None:
    async with cache_site(sections={"cache": {"max_bytes": "2MiB", "max_entries": 100_000}}) as site:
        await fills_of_distinct_pages(site, 300, 64 * 1024)

        assert 10 <= await site.app.metric("proxy_cache_entries") <= 32
        assert await site.app.metric("proxy_cache_evictions_total", reason="capacity") >= 250


async def test_e08_entries_are_bounded_in_service() -> None:
    async with cache_site(sections={"cache": {"max_entries": 50}}) as site:
        await fills_of_distinct_pages(site, 300, 10)

        assert await site.app.metric("proxy_cache_entries") == 50


async def test_e08_long_keys_and_fields_are_counted() -> None:
    async with cache_site(sections={"cache": {"max_bytes": "1MiB", "max_entries": 100_000}}) as site:
        site.serve({**FRESH, **{f"X-Field-{number}": "v" * 100 for number in range(40)}}, b"")

        for number in range(400):
            await site.get(f"/{number}" + "k" * 2000)

        assert await site.app.metric("proxy_cache_bytes") <= MIB
        assert await site.app.metric("proxy_cache_entries") <= 200


async def test_e08_a_page_that_is_asked_for_often_survives_a_scan() -> None:
    async with cache_site(sections={"cache": {"max_entries": 100}}) as site:
        site.serve(FRESH)
        for _ in range(5):
            await site.get("/often")

        for number in range(1000):
            await site.get(f"/once/{number}")
            if number % 50 == 0:
                await site.get("/often")

        assert site.upstream.hits("/often") == 1
