"""A route whose fallback is what its cache has left: in which order, and never what may not be."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.cache_site import PATH, CacheSite, cache_site
from tests.support.messages import Response
from tests.support.steps import reply

pytestmark = [pytest.mark.usefixtures("leak_check")]

STEPS: list[Any] = ["stale", "last_known_good", {"static": {"status": 200, "body": "static"}}]
FRESH = {"Cache-Control": "max-age=60", "ETag": '"1"'}


@pytest.fixture
async def site() -> AsyncIterator[CacheSite]:
    async with cache_site(route={"fallback": STEPS}) as running:
        yield running


def fails(site: CacheSite, status: int = 503) -> None:
    site.upstream.forget()
    site.serve({}, b"down", status=status)


def degraded(answer: Response) -> str | None:
    assert answer.status == 200
    return answer.header("X-Degraded")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_stale_response_stands_in_for_a_failure_however_old_it_is(site: CacheSite, status: int) -> None:
    first = await site.stored(FRESH)
    site.later(86_400)
    fails(site, status)

    answer = await site.get()

    assert (answer.body, degraded(answer), answer.header("Age")) == (first.body, "stale", "86400")
    assert answer.header("Cache-Control") == "no-store"
    assert f"fwd-status={status}" in (answer.header("Cache-Status") or "")


async def test_upstream_that_is_gone_leaves_what_is_stored(site: CacheSite) -> None:
    first = await site.stored(FRESH)
    site.later(3600)
    await site.upstream.stop()

    answer = await site.get()

    assert (answer.body, degraded(answer)) == (first.body, "stale")
    await site.upstream.start()


async def test_what_a_mutation_has_outdated_is_only_the_last_known_good(site: CacheSite) -> None:
    first = await site.stored(FRESH)
    site.upstream.on("*", reply(200), times=1)
    await site.ask("PUT", PATH, body=b"new")
    fails(site)

    answer = await site.get()

    assert (answer.body, degraded(answer)) == (first.body, "last_known_good")


async def test_what_was_purged_is_nothing_any_more(site: CacheSite) -> None:
    await site.stored(FRESH)
    await site.app.app.purge("all", [], soft=False)
    fails(site)

    assert degraded(await site.get()) == "static"


@pytest.mark.parametrize("directive", ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=60"])
async def test_what_must_be_validated_does_not_stand_in(site: CacheSite, directive: str) -> None:
    await site.stored({"Cache-Control": f"max-age=60, {directive}", "ETag": '"1"'})
    site.later(3600)
    fails(site)

    assert degraded(await site.get()) == "static"


async def test_without_anything_stored_the_next_step_answers(site: CacheSite) -> None:
    fails(site)

    assert degraded(await site.get()) == "static"


async def test_upstream_that_is_back_is_believed_at_once(site: CacheSite) -> None:
    await site.stored(FRESH)
    site.later(3600)
    fails(site)
    assert degraded(await site.get()) == "stale"

    site.upstream.forget()
    site.serve(FRESH, b"new")
    answer = await site.get()

    assert (answer.body, degraded(answer)) == (b"new", None)
