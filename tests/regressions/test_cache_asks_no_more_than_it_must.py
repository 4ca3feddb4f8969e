"""Hits asked the upstream each time: on stored parts, and while refreshes brought nothing. Parts outgrew `max_body`."""

import pytest

from tests.support.cache_site import FRESH, CacheSite, cache_site
from tests.support.steps import Turn

BODY = b"0123456789" * 100
HITS = 20


def serve_ranges(site: CacheSite) -> None:
    async def step(turn: Turn) -> None:
        fields = {**FRESH, "ETag": '"a"'}
        wanted = turn.request.header("Range")
        if wanted is None:
            await site.answer(fields, BODY)(turn)
            return
        first, last = map(int, wanted.removeprefix("bytes=").split("-"))
        fields["Content-Range"] = f"bytes {first}-{last}/{len(BODY)}"
        await site.answer(fields, BODY[first : last + 1], status=206)(turn)

    site.upstream.on("*", step)


@pytest.mark.parametrize("max_body", [100, 10_000])
async def test_fresh_part_is_sent_without_asking_anybody(max_body: int) -> None:
    async with cache_site({"max_body": max_body, "early_refresh": True}) as site:
        serve_ranges(site)

        for _ in range(HITS):
            assert (await site.get(headers={"Range": "bytes=0-9"})).status == 206

        assert site.fills == 1


async def test_parts_together_are_no_longer_than_max_body() -> None:
    async with cache_site({"max_body": 100}) as site:
        serve_ranges(site)

        for first in range(0, 1000, 50):
            answer = await site.get(headers={"Range": f"bytes={first}-{first + 49}"})
            assert answer.body == BODY[first : first + 50]

        cache = site.app.app._edge.runtime.cache
        assert cache is not None
        assert [len(entry.stored.body) <= 100 for entry in cache.memory.stored()] == [True]


@pytest.mark.parametrize(("status", "cookie"), [(503, None), (200, "a=b")])
async def test_refresh_that_brings_nothing_is_not_made_again_for_every_hit(status: int, cookie: str | None) -> None:
    async with cache_site({"stale_while_revalidate": "600s"}) as site:
        await site.stored({"Cache-Control": "max-age=5"})
        site.serve({"Cache-Control": "max-age=5"}, status=status)
        site.later(6)
        fields = {} if cookie is None else {"Cookie": cookie}

        async def hit() -> None:
            assert (await site.get(headers=fields)).body == b"answer 1"

        await hit()
        await site.upstream.wait_for_requests(2)
        for _ in range(HITS):
            await hit()
        assert site.fills <= 3  # one more, if the first had not ended yet
        asked = site.fills
        site.later(2)
        await hit()
        await site.upstream.wait_for_requests(asked + 1)
