"""HEAD and the cache: answered from what GET has stored, and what its answers say of that."""

import pytest

from proxy.errors import ConnectionRefused
from proxy.protocol.caching.stored import Validity
from tests.support.cache_layer import FRESH, CacheLayer, Held, ended, reply, versions

pytestmark = [pytest.mark.usefixtures("leak_check")]

SWR = {"Cache-Control": "max-age=10, stale-while-revalidate=30"}
TAGGED = {"Cache-Control": "max-age=10", "ETag": '"1"'}
DOWN = ConnectionRefused()


async def test_head_is_answered_from_what_get_has_stored() -> None:
    site = CacheLayer(versions(FRESH))

    await site.get()
    answer = await site.ask("HEAD")

    assert (answer.body, answer.field("Content-Length"), answer.said) == (b"", "1", "hit;ttl=60")


async def test_response_to_head_is_not_stored() -> None:
    site = CacheLayer(reply(FRESH, b""))

    answer = await site.ask("HEAD")

    assert (answer.said, answer.exchange.cache_outcome) == ("fwd=uri-miss", "miss")
    assert site.store.memory.entries == 0


async def test_head_that_finds_something_stale_has_a_get_fetch_it() -> None:
    """What a HEAD brings has no body: as the response to a GET it would be an empty page for all."""
    site = CacheLayer(versions(SWR))

    await site.get()
    site.later(11)
    answer = await site.ask("HEAD")
    await site.settle()

    assert (answer.body, answer.said) == (b"", "hit;ttl=-1")
    assert site.upstream.exchanges[-1].request.method == "GET"
    assert (await site.get()).body == b"2"


@pytest.mark.parametrize(
    ("head", "is_kept"),
    [
        ({"ETag": '"1"', **FRESH}, True),
        ({"ETag": '"2"', **FRESH}, False),
        ({"ETag": '"1"', "Cache-Control": "no-store"}, False),
    ],
)
async def test_head_tells_whether_what_is_stored_still_holds(head: dict[str, str], is_kept: bool) -> None:
    site = CacheLayer(reply(TAGGED, b"body"), reply(head), reply(FRESH, b"new"))

    await site.get()
    site.later(11)
    await site.ask("HEAD")

    assert (await site.get()).body == (b"body" if is_kept else b"new")


@pytest.mark.parametrize("field", [{"Cookie": "a=b"}, {"Cache-Control": "no-store"}, {"If-None-Match": '"9"'}])
async def test_head_of_one_client_alone_makes_nothing_of_others_go(field: dict[str, str]) -> None:
    site = CacheLayer(reply(TAGGED, b"body"), reply({"ETag": '"1"', **FRESH}), reply({"ETag": '"1"'}, status=304))

    await site.get()
    site.later(11)
    await site.ask("HEAD", "/r", field)

    assert ((await site.get()).body, site.fetched()["if-none-match"]) == (b"body", '"1"')


async def test_what_would_be_of_an_unknown_variant_is_not_kept() -> None:
    """A HEAD that brings another Vary does not tell by what request the stored body was selected."""
    bare = {"Cache-Control": "max-age=10"}
    site = CacheLayer(reply(bare, b"of 1"), reply({"Vary": "X-One", **FRESH}), reply(FRESH, b"of 2"))

    await site.get(x_one="1")
    site.later(11)
    await site.ask("HEAD", "/r", {"X-One": "2"})

    assert (await site.get(x_one="2")).body == b"of 2"


@pytest.mark.parametrize("validity", [Validity.SOFT, Validity.INVALID])
async def test_head_makes_nothing_valid_that_was_purged(validity: Validity) -> None:
    site = CacheLayer(reply({"Cache-Control": "max-age=60, stale-if-error=60"}, b"old"), reply(FRESH), DOWN)

    await site.get()
    site.purge("*", validity)
    await site.ask("HEAD")

    if validity is Validity.SOFT:
        assert (await site.get()).body == b"old", "what may stand in for errors is still there"
    else:
        with pytest.raises(ConnectionRefused):
            await site.get()


async def test_response_stands_in_for_an_error_to_head() -> None:
    site = CacheLayer(reply({"Cache-Control": "max-age=10, stale-if-error=30"}, b"body"), DOWN)

    await site.get()
    site.later(11)
    answer = await site.ask("HEAD")

    assert (answer.status, answer.body, answer.field("Content-Length")) == (200, b"", "4")


async def test_what_was_stored_during_a_head_is_not_replaced_by_what_was_before() -> None:
    head = Held(reply({"ETag": '"1"', **FRESH}))
    site = CacheLayer(reply(TAGGED, b"old"), head, reply(FRESH, b"new"))

    await site.get()
    site.later(11)
    asking = site.asking("HEAD")
    await head.reached.wait()
    await site.get(cache_control="no-cache")
    head.comes()
    await asking

    assert (await site.get()).body == b"new"


async def test_head_that_is_cancelled_leaves_everything_as_it_is() -> None:
    head = Held(reply(FRESH))
    site = CacheLayer(reply(TAGGED, b"old"), head)

    await site.get()
    site.later(11)
    asking = site.asking("HEAD")
    await head.reached.wait()
    await ended(asking)

    assert (head.was_cancelled, site.store.memory.entries, site.is_at_rest) == (True, 1, True)
