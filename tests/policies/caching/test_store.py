"""What the caches of all routes share: its beginning, its end, and what is done beside the requests."""

import asyncio

import pytest

from proxy.errors import InternalError
from tests.support.cache_layer import FRESH, CacheLayer, Held, reply

pytestmark = [pytest.mark.usefixtures("leak_check")]


async def test_it_starts_once_and_ends() -> None:
    site = CacheLayer()

    await site.store.start()
    assert site.store.is_started
    await site.store.start()
    await site.store.close()


async def test_end_of_everything_ends_the_fills() -> None:
    held = Held(reply(FRESH, b"x"))
    site = CacheLayer(held)

    asking = site.asking()
    await held.reached.wait()
    await site.store.close()

    with pytest.raises(InternalError):
        await asking
    assert (held.was_cancelled, site.is_at_rest) == (True, True)


async def test_successor_has_the_fills() -> None:
    held = Held(reply(FRESH, b"x"))
    site = CacheLayer(held)

    asking = site.asking()
    await held.reached.wait()
    await site.store.close(ends_fills=False)
    held.comes()

    assert (await asking).body == b"x"


@pytest.mark.parametrize("fails", [False, True])
async def test_what_nobody_waits_for_is_waited_for_in_the_end(fails: bool) -> None:
    site, done = CacheLayer(), asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        done.set()
        if fails:
            raise OSError

    site.store.spawn(work())
    await site.store.close()

    assert done.is_set()
