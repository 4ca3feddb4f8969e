"""What a fill is sent for: Redis first, then the upstream; and what is kept of what it brings."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest

from proxy.config.caching import CacheConfig
from proxy.errors import ConnectionRefused
from proxy.exchange import Exchange, Response
from proxy.policies.caching.errand import validators_of
from proxy.policies.caching.filling import is_due, passing_key, rules_of
from proxy.protocol.caching.stored import Part, Rules, Validity
from proxy.protocol.fields import CREDENTIALS, DIRECTIVES
from proxy.storage.memory import Entry
from tests.support.cache_instance import cache_instance
from tests.support.cache_layer import FRESH, CacheLayer, Held, reply, validated, versions
from tests.support.clock import ManualClock
from tests.support.fills import ArrivingBody
from tests.support.stored import BORN, make_stored
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

DOWN = ConnectionRefused()
TAGGED = {"Cache-Control": "max-age=10, stale-if-error=60", "ETag": '"1"'}

# --- alone ----------------------------------------------------------------------------------------------------------


def test_rules_are_what_the_route_says() -> None:
    config = CacheConfig.model_validate(
        {
            "ttl": "5m",
            "respect_origin": False,
            "negative_ttl": "10s",
            "stale_while_revalidate": "30s",
            "stale_if_error": "1h",
            "set_cookie": "store",
            "per_user": "header:X-User-ID",
            "vary": ("X-Two", "X-One"),
        }
    )

    assert rules_of(CacheConfig()) == Rules()
    assert rules_of(config) == Rules(300, False, 10, 30, 3600, True, True, (b"x-one", b"x-two"))


def test_validators_are_those_of_the_whole_response() -> None:
    at = BORN - 100

    assert validators_of(make_stored()) == []
    assert validators_of(make_stored(etag=b'W/"1"')) == [(b"If-None-Match", b'W/"1"')]
    both = make_stored(etag=b'"1"', last_modified=at)
    assert [name for name, _ in validators_of(both)] == [b"If-None-Match", b"If-Modified-Since"]
    assert validators_of(make_stored(etag=b'"1"', part=Part(0, 100))) == ()


def test_refusals_are_remembered_apart_for_those_with_credentials() -> None:
    assert passing_key(b"k", DIRECTIVES) == b"k"
    assert passing_key(b"k", CREDENTIALS) != b"k"


@pytest.mark.parametrize(
    ("now", "random", "due"), [(100, 0.5, True), (99, 0.5, True), (98, 0.5, False), (0, 0.0, False)]
)
def test_refresh_is_due_by_lot(now: float, random: float, due: bool) -> None:
    stored = make_stored()
    stored.fill_seconds = 2.0
    entry = Entry(b"", stored, 0, 0, 0, 0.0)
    entry.ends_at = 100.0

    assert is_due(entry, now, random) is due


@pytest.mark.usefixtures("leak_check")
async def test_what_switches_protocols_or_ends_with_its_connection_is_not_kept() -> None:
    async def open_ended(exchange: Exchange) -> Response:
        response = Response(200, [(b"Cache-Control", b"max-age=60")], b"x")
        response.is_open_ended = True
        return response

    async def switching(exchange: Exchange) -> Response:
        tunnel: Any = object()
        return Response(101, [], tunnel=tunnel)

    for outcome, word in ((open_ended, "open_ended"), (switching, "status")):
        site = CacheLayer(outcome)
        assert f'detail="{word}"' in (await site.get()).said
        assert site.metrics.refusals == {word: 1}


@pytest.mark.usefixtures("leak_check")
async def test_part_without_a_length_is_not_kept() -> None:
    site = CacheLayer(reply({**FRESH, "Content-Range": "bytes 0-1/4"}, b"bo", status=206))

    assert 'detail="partial"' in (await site.get(range="bytes=0-1")).said


@pytest.mark.usefixtures("leak_check")
async def test_response_kept_for_fallbacks_is_found_long_after_its_end() -> None:
    site = CacheLayer(reply(FRESH, b"x"), DOWN, keeps_good=True)

    await site.get()
    site.later(6 * 86_400)
    exchange = site.exchange()
    with pytest.raises(ConnectionRefused):
        await site.send(exchange)

    assert exchange.stored is not None


# --- with other instances -------------------------------------------------------------------------------------------

Instances = Callable[..., Any]


@pytest.fixture
async def instance(shared_valkey: Valkey) -> AsyncIterator[Instances]:
    """Makes a cache that shares its level in Redis with all others of the test."""
    prefix, clock = f"errand-{uuid4().hex[:8]}", ManualClock(time.time())
    async with AsyncExitStack() as stack:

        async def make(*outcomes: Any, **options: Any) -> CacheLayer:
            own = await stack.enter_async_context(cache_instance(shared_valkey.url, wall=clock, prefix=prefix))
            return CacheLayer(*outcomes, instance=own, **options)

        yield make


async def stored_by(site: CacheLayer) -> None:
    """A GET, up to the end of its fill."""
    await site.get()
    await eventually(lambda: site.is_at_rest)


async def test_what_one_has_fetched_others_find(instance: Instances) -> None:
    one, two = await instance(versions(FRESH)), await instance(versions(FRESH))

    await stored_by(one)
    answer, hit = await two.get(), await two.get()

    assert (answer.body, answer.said) == (b"1", 'hit;ttl=60;detail="redis"')
    assert (hit.body, hit.said, two.fetches) == (b"1", "hit;ttl=60", 0)
    assert answer.exchange.cache_outcome == "hit"


async def test_stale_response_from_redis_is_sent_while_it_is_fetched_anew(instance: Instances) -> None:
    headers = {"Cache-Control": "max-age=10, stale-while-revalidate=60"}
    one, two = await instance(reply(headers, b"old")), await instance(reply(headers, b"new"))

    await stored_by(one)
    one.wall.advance(15)
    answer = await two.get()
    await eventually(lambda: two.is_at_rest)

    assert (answer.body, answer.said) == (b"old", 'hit;ttl=-5;detail="redis"')
    assert ((await two.get()).body, two.fetches) == (b"new", 1)


async def test_stale_response_from_redis_is_validated(instance: Instances) -> None:
    one = await instance(reply(TAGGED, b"body"))
    two = await instance(validated({}, {"ETag": '"1"', "Cache-Control": "max-age=60"}))

    await stored_by(one)
    one.wall.advance(15)
    answer = await two.get()

    assert (answer.body, answer.status) == (b"body", 200)
    assert "fwd-status=304" in answer.said


async def test_conditions_of_a_client_are_not_mixed_with_ours(instance: Instances) -> None:
    """The 304 would be about either of them."""
    one = await instance(reply(TAGGED, b"body"))
    two = await instance(validated({}, {"Cache-Control": "max-age=60"}))

    await stored_by(one)
    one.wall.advance(15)
    answer = await two.get(if_none_match='"9"')

    assert [name for name, _ in two.upstream.exchanges[0].request.fields.raw].count(b"If-None-Match") == 1
    assert two.fetched()["if-none-match"] == '"9"'
    assert (answer.status, two.store.memory.entries) == (304, 0)


async def test_response_from_redis_stands_in_for_an_error(instance: Instances) -> None:
    one, two = await instance(reply(TAGGED, b"body")), await instance(DOWN)

    await stored_by(one)
    one.wall.advance(15)

    assert (await two.get()).body == b"body"
    two.purge("*", Validity.INVALID)
    with pytest.raises(ConnectionRefused):
        await (await instance(DOWN)).get(cache_control="stale-if-error=1")


async def test_response_from_redis_of_another_variant_stands_in_for_nobody(instance: Instances) -> None:
    one = await instance(reply({**TAGGED, "Vary": "X-One"}, b"body"))
    two = await instance(DOWN)

    await one.get(x_one="1")
    await eventually(lambda: one.is_at_rest)
    one.wall.advance(15)
    with pytest.raises(ConnectionRefused):
        await two.get(x_one="2")


async def test_what_redis_has_will_not_do_for_who_wants_more(instance: Instances) -> None:
    one, two = await instance(versions(FRESH)), await instance(reply(FRESH, b"new"))

    await stored_by(one)

    assert (await two.get(cache_control="no-cache")).body == b"new"


async def test_route_may_keep_out_of_redis(instance: Instances) -> None:
    one, two = await instance(versions(FRESH), redis=False), await instance(reply(FRESH, b"own"))

    await stored_by(one)

    assert (await two.get()).body == b"own"


async def test_one_of_many_instances_asks_the_upstream(instance: Instances) -> None:
    held = Held(reply(FRESH, b"body"))
    one, two = await instance(held), await instance(reply(FRESH, b"own"))

    first = one.asking()
    await held.reached.wait()
    others = [two.asking() for _ in range(5)]
    await asyncio.sleep(0.05)
    held.comes()

    assert {(await each).body for each in (first, *others)} == {b"body"}
    assert two.fetches == 0


@pytest.mark.parametrize(
    "headers",
    [{"Cache-Control": "private"}, {**FRESH, "Content-Length": "5000"}, {**FRESH, "Content-Type": "text/event-stream"}],
)
async def test_nobody_waits_for_an_instance_that_reads_what_it_may_not_keep(
    instance: Instances, headers: dict[str, str]
) -> None:
    body = ArrivingBody(b"x")
    one, two = await instance(reply(headers, body), max_body=1000), await instance(reply(FRESH, b"own"), max_body=1000)

    reading = one.asking()
    await eventually(lambda: one.fetches == 1)
    started = time.monotonic()
    assert (await two.get()).body == b"own"
    assert time.monotonic() - started < 5, "a lease lasts 10 s"
    body.ends()
    await reading
    await one.close()


async def test_refresh_takes_what_another_has_refreshed_and_nothing_older(instance: Instances) -> None:
    headers = {"Cache-Control": "max-age=10, stale-while-revalidate=60"}
    one, two = await instance(versions(headers)), await instance(reply(headers, b"own"))

    await stored_by(one)
    await two.get()
    one.wall.advance(15)
    await one.get()
    await eventually(lambda: one.is_at_rest)
    stale = await two.get()
    await eventually(lambda: two.is_at_rest)

    assert (stale.body, (await two.get()).body, two.fetches) == (b"1", b"2", 0)
    one.wall.advance(15)
    await two.get()
    await eventually(lambda: two.is_at_rest)
    assert ((await two.get()).body, two.fetches) == (b"own", 1)


async def test_fill_that_is_cancelled_gives_its_lease_back(instance: Instances) -> None:
    held = Held(reply(FRESH, b"x"))
    one, two = await instance(held), await instance(reply(FRESH, b"own"))

    leaving = one.asking()
    await held.reached.wait()
    leaving.cancel()
    await asyncio.wait([leaving])
    await eventually(lambda: one.is_at_rest)
    await one.close()
    started = time.monotonic()

    assert (await two.get()).body == b"own"
    assert time.monotonic() - started < 5
