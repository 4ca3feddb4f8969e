"""What looked like a request that was known was taken for one, although it went on with a head that had begun."""

import asyncio

from tests.support.cache_site import FRESH, cache_site
from tests.support.client import RawClient

KNOWN = b"GET /known HTTP/1.1\r\nHost: a.example\r\n\r\n"
BEGUN = b"GET /other HTTP/1.1\r\nHost: a.example\r\n"


async def test_second_head_that_ends_with_a_line_is_gone_on_with() -> None:
    async with cache_site() as site, RawClient(site.app.port) as client:
        site.serve(FRESH)
        for _ in range(2):
            await client.send(KNOWN)
            assert (await client.read_response()).status == 200

        await client.send(KNOWN + BEGUN)
        assert (await client.read_response()).status == 200
        await client.send(KNOWN)

        assert (await client.read_response()).status == 400


async def test_head_that_comes_in_pieces_leaves_nothing_behind() -> None:
    async with cache_site(server={"limits": {"header_timeout": "100ms"}}) as site, RawClient(site.app.port) as client:
        site.serve(FRESH)
        for cut in (1, 2, 3, 4):
            await client.send(KNOWN[:-cut])
            await asyncio.sleep(0)
            await client.send(KNOWN[-cut:])
            assert (await client.read_response()).status == 200

        await client.send(KNOWN)
        assert (await client.read_response()).status == 200
