"""A response with a Date to come was chosen before all later ones of its key, and so nothing else was ever a hit."""

from tests.support.cache_site import FRESH, cache_site


async def test_stale_response_from_the_future_is_not_preferred_to_a_later_one() -> None:
    async with cache_site() as site:
        await site.stored({"Cache-Control": "max-age=5", "Vary": "X-One", "Date": "{+864000}"})
        site.later(6)
        site.serve({**FRESH, "Vary": "X-Two"})

        await site.get()

        assert await site.is_hit()
