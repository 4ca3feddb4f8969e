"""A reload that took a route's cache away failed those who waited for it, and brought old responses back later."""

import asyncio
from typing import Any

import pytest

from tests.support.cache_site import FRESH, CacheSite, cache_site
from tests.support.settings import policies
from tests.support.steps import Turn
from tests.support.waiting import eventually

CACHE = {"early_refresh": False}


async def put_in_force(site: CacheSite, **settings: Any) -> None:
    site.app.write_policies(policies(site.upstream.url, **settings))
    event = await site.app.app.reload()
    assert event.ok, event.reason


def hold(site: CacheSite) -> asyncio.Event:
    """Have the upstream answer when the event is set."""
    comes = asyncio.Event()

    async def step(turn: Turn) -> None:
        await comes.wait()
        await site.answer(FRESH, b"held")(turn)

    site.upstream.on("*", step)
    return comes


@pytest.mark.parametrize("cache", [None, {**CACHE, "mode": "off"}, {**CACHE, "mode": "shadow"}, {**CACHE, "ttl": "5s"}])
async def test_clients_that_wait_for_a_fill_get_it(cache: dict[str, Any] | None) -> None:
    async with cache_site() as site:
        comes = hold(site)
        waiting = [asyncio.create_task(site.get()) for _ in range(3)]
        await site.upstream.wait_for_requests(1)

        await put_in_force(site, route={} if cache is None else {"cache": cache})
        comes.set()

        assert [(answer.status, answer.body) for answer in await asyncio.gather(*waiting)] == [(200, b"held")] * 3


async def test_refresh_that_nobody_waits_for_ends() -> None:
    async with cache_site({"stale_while_revalidate": "600s"}) as site:
        await site.stored({"Cache-Control": "max-age=5"})
        site.later(6)
        hold(site)
        await site.get()
        await site.upstream.wait_for_requests(2)
        cache = site.app.app._edge.runtime.cache
        assert cache is not None

        await put_in_force(site)

        await eventually(lambda: len(cache.fills) == 0)


async def test_what_was_stored_before_does_not_come_back_with_the_cache() -> None:
    def routes(*, is_cached: bool) -> list[dict[str, Any]]:
        one = {"name": "one", "match": "* /one", **({"cache": CACHE} if is_cached else {})}
        return [one, {"name": "two", "match": "* /two", "cache": CACHE}]

    async with cache_site() as site:
        site.serve(FRESH)
        await put_in_force(site, routes=routes(is_cached=True))
        await site.get("/one")
        await site.get("/two")
        assert await site.is_hit("/one")

        await put_in_force(site, routes=routes(is_cached=False))
        await site.ask("PUT", "/one", body=b"new")
        await put_in_force(site, routes=routes(is_cached=True))

        assert not await site.is_hit("/one")
        assert await site.is_hit("/two")


async def test_users_are_told_apart_anew() -> None:
    async with cache_site({"per_user": "header:X-User"}) as site:
        site.serve({"Cache-Control": "private, max-age=60"})
        await site.get(headers={"X-User": "alice"})

        await put_in_force(site, route={"cache": {**CACHE, "per_user": "header:X-Session"}})

        assert not await site.is_hit(headers={"X-Session": "alice"})
