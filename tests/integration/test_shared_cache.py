"""The level of the cache in Redis: found, judged and stored by single calls, shared by instances."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from proxy.protocol.caching.stored import Validity
from proxy.storage import leases
from proxy.storage.shared_cache import ALONE, Found
from tests.support.cache_instance import KEY, TAGS, CacheInstance, cache_instance, stored
from tests.support.exchange import make_exchange
from tests.support.valkey import Valkey, ValkeyCluster
from tests.support.waiting import WITHIN, eventually

GZIP = ((b"Accept-Encoding", b"gzip"),)
BROTLI = ((b"Accept-Encoding", b"br"),)
ENCODING = (b"accept-encoding",)
LANGUAGE = (b"accept-language",)
OTHER = b"another key bytes"


@pytest.fixture
async def one(valkey: Valkey) -> AsyncIterator[CacheInstance]:
    async with cache_instance(valkey.url) as instance:
        yield instance


@pytest.fixture
async def two(valkey: Valkey) -> AsyncIterator[CacheInstance]:
    async with cache_instance(valkey.url) as instance:
        yield instance


def names_of(valkey: Valkey, kind: str) -> list[bytes]:
    return [bytes(name) for name in valkey.command("KEYS", f"*cache*:{kind}:*")]


# --- find and put ---------------------------------------------------------------------------------------------------


async def test_what_one_instance_stores_another_finds(one: CacheInstance, two: CacheInstance) -> None:
    response = stored(b"x" * 10_000)
    assert await one.fill(response)
    found = await two.find()

    assert found == Found(response, Validity.VALID, 0.0, found.marks, b"")
    assert await two.find(OTHER) == Found(None, marks=found.marks)
    assert two.shared_outcomes("find") == {"hit": 1, "miss": 1}


async def test_a_hit_and_a_store_are_one_call_each(valkey: Valkey, one: CacheInstance) -> None:
    await one.fill(stored())
    before = valkey.command_calls("evalsha")
    marks = (await one.find()).marks
    await one.level2.put(KEY, stored(), marks, 60)

    assert valkey.command_calls("evalsha") - before == 2


@pytest.mark.parametrize("size", [0, 1, 5000, 300_000, 3_000_000])
async def test_bodies_of_every_size_come_back(one: CacheInstance, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    assert await one.fill(stored(body[:size]))

    assert await one.body() == body[:size]


async def test_a_body_that_is_too_long_is_not_stored(one: CacheInstance) -> None:
    assert not await one.fill(stored(bytes(64 * 2**20 + 1)))
    assert one.shared_outcomes("put") == {"too_large": 1}


@pytest.mark.parametrize("keep", [0.0, -1.0, float("nan"), float("inf")])
async def test_what_is_kept_for_no_time_is_not_stored(one: CacheInstance, keep: float) -> None:
    assert not await one.fill(stored(), keep=keep)
    assert await one.body() is None


async def test_life_times_differ_by_a_tenth_either_way(valkey: Valkey, one: CacheInstance) -> None:
    marks = (await one.find()).marks
    for number in range(50):
        await one.level2.put(b"%d" % number, stored(), marks, 1000)
    lives = [valkey.command("PTTL", name) / 1000 for name in names_of(valkey, "r1")]

    assert 890 < min(lives) < 970 < 1030 < max(lives) <= 1100


async def test_generations_outlive_what_is_stored_with_them_and_everything_expires(
    valkey: Valkey, one: CacheInstance
) -> None:
    await one.fill(stored(), keep=5000)
    await one.fill(stored(), b"2", keep=100)

    longest = max(valkey.command("PTTL", name) for name in names_of(valkey, "r1"))
    assert min(valkey.command("PTTL", name) for name in names_of(valkey, "g")) > longest
    assert min(valkey.command("PTTL", name) for name in valkey.command("KEYS", "*cache*")) > 0


async def test_an_exchange_without_time_for_redis_is_a_miss(one: CacheInstance) -> None:
    await one.fill(stored())
    exchange = make_exchange()
    exchange.store_seconds = 99.0

    assert await one.find(exchange=exchange) == Found(None, lease=ALONE)


# --- generations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("validity", [Validity.SOFT, Validity.INVALID])
async def test_a_purge_of_any_tag_shows_in_what_is_found(
    one: CacheInstance, two: CacheInstance, tag: str, validity: Validity
) -> None:
    await one.fill(stored())
    assert await two.purges.purge([tag], validity, cause="test")
    found = await one.find()

    assert (found.stored is not None, found.validity) == (True, validity)
    assert (found.softened_at == pytest.approx(time.time(), abs=5)) == (validity is Validity.SOFT)
    assert one.shared_outcomes("find")["stale"] == 1


@pytest.mark.parametrize("tag", TAGS)
async def test_what_is_gone_is_a_miss_and_is_deleted(
    valkey: Valkey, one: CacheInstance, two: CacheInstance, tag: str
) -> None:
    await one.fill(stored())
    await two.purges.purge([tag], Validity.GONE, cause="test")

    assert (await one.find()).stored is None
    assert names_of(valkey, "r1") == []


async def test_the_worst_of_several_purges_counts(one: CacheInstance) -> None:
    await one.fill(stored())
    await one.purges.purge(["uri=00"], Validity.INVALID, cause="test")
    await one.purges.purge(["*"], Validity.SOFT, cause="test")
    assert (await one.find()).validity is Validity.INVALID
    await one.purges.purge(["property"], Validity.GONE, cause="test")

    assert (await one.find()).stored is None


async def test_a_purge_of_other_tags_changes_nothing(valkey: Valkey, one: CacheInstance) -> None:
    await one.fill(stored())
    before = set(valkey.command("KEYS", "*cache*"))
    await one.purges.purge(["property:2", "route=other"], Validity.INVALID, cause="test")

    assert await one.body() == b"body"
    assert set(valkey.command("KEYS", "*cache*")) == before


@pytest.mark.parametrize("validity", [Validity.SOFT, Validity.INVALID, Validity.GONE])
async def test_a_fill_that_began_before_a_purge_is_not_stored(
    one: CacheInstance, two: CacheInstance, validity: Validity
) -> None:
    marks = (await one.find()).marks
    await two.purges.purge(["property:1"], validity, cause="test")

    assert not await one.level2.put(KEY, stored(), marks, 60)
    assert await one.body() is None
    assert one.shared_outcomes("put") == {"outdated": 1}
    assert await one.fill(stored(b"new"))
    assert await two.body() == b"new"


async def test_an_old_fill_does_not_overwrite_what_came_after_the_purge(one: CacheInstance, two: CacheInstance) -> None:
    old = (await one.find()).marks
    await two.purges.purge(["property:1"], Validity.INVALID, cause="test")
    await two.fill(stored(b"new"))

    assert not await one.level2.put(KEY, stored(b"old"), old, 60)
    assert await one.body() == b"new"


async def test_a_missing_generation_is_a_miss(valkey: Valkey, one: CacheInstance) -> None:
    await one.fill(stored())
    marks = (await one.find()).marks
    for name in names_of(valkey, "g")[:1]:
        valkey.command("DEL", name)

    assert not await one.level2.put(KEY, stored(), marks, 60)
    assert await one.body() is None


@pytest.mark.parametrize("value", ["", "x", "0" * 51, "0" * 53])
async def test_a_generation_that_is_none_is_a_miss_and_made_anew(
    valkey: Valkey, one: CacheInstance, value: str
) -> None:
    await one.fill(stored())
    for name in names_of(valkey, "g"):
        valkey.command("SET", name, value)

    assert await one.body() is None
    assert await one.fill(stored())
    assert await one.body() == b"body"


async def test_other_tags_than_it_was_stored_with_are_a_miss(one: CacheInstance) -> None:
    await one.fill(stored())

    assert await one.body(tags=(*TAGS, "added")) is None
    await one.fill(stored())
    assert await one.body(tags=TAGS[1:]) is None
    await one.fill(stored())
    assert await one.body(tags=("renamed", *TAGS[1:])) is None


async def test_generations_are_never_the_same_twice(valkey: Valkey, one: CacheInstance) -> None:
    seen = set()
    for _ in range(20):
        seen.add((await one.find()).marks)
        valkey.flush()

    assert len(seen) == 20
    marks = (await one.find()).marks
    assert len({marks[at : at + 13] for at in range(0, len(marks), 13)}) == 3 * len(TAGS)


# --- Vary -----------------------------------------------------------------------------------------------------------


async def put_variant(instance: CacheInstance, response_fields: tuple[tuple[bytes, bytes], ...], body: bytes) -> bool:
    marks = (await instance.find()).marks
    return await instance.level2.put(KEY, stored(body, vary=ENCODING, fields=response_fields), marks, 60)


async def test_variants_are_found_by_instances_that_know_nothing_of_them(
    one: CacheInstance, two: CacheInstance
) -> None:
    assert await put_variant(one, GZIP, b"gzip")
    assert await put_variant(one, BROTLI, b"br")

    assert [await two.body(fields=fields) for fields in (GZIP, BROTLI, ())] == [b"gzip", b"br", None]


async def test_a_known_set_of_names_saves_the_second_call(valkey: Valkey, one: CacheInstance) -> None:
    await put_variant(one, GZIP, b"gzip")
    calls = []
    for names in ((), (ENCODING,), (ENCODING, LANGUAGE)):
        before = valkey.command_calls("evalsha")
        assert await one.body(fields=GZIP, names=names) == b"gzip"
        calls.append(valkey.command_calls("evalsha") - before)

    assert calls == [2, 1, 1]


async def test_of_two_that_match_the_one_with_the_later_date_is_used(one: CacheInstance) -> None:
    fields = (*GZIP, (b"Accept-Language", b"de"))
    marks = (await one.find()).marks
    now = time.time()
    for vary, body, date in ((ENCODING, b"older", now - 9), (LANGUAGE, b"newer", now), (ENCODING, b"oldest", now - 20)):
        assert await one.level2.put(KEY, stored(body, vary=vary, fields=fields, date=date), marks, 60)

    assert await one.body(fields=fields) == b"newer"
    assert await one.body(fields=GZIP) == b"oldest"


async def test_variants_share_their_purges(one: CacheInstance) -> None:
    await put_variant(one, GZIP, b"gzip")
    await put_variant(one, BROTLI, b"br")
    await one.purges.purge(["uri=00"], Validity.GONE, cause="test")

    assert [await one.body(fields=fields) for fields in (GZIP, BROTLI)] == [None, None]


async def test_a_response_without_vary_takes_the_place_of_all_variants(valkey: Valkey, one: CacheInstance) -> None:
    await put_variant(one, GZIP, b"gzip")
    await put_variant(one, BROTLI, b"br")
    assert await one.fill(stored(b"plain"))

    assert [await one.body(fields=fields) for fields in (GZIP, BROTLI, ())] == [b"plain"] * 3
    assert len(names_of(valkey, "r1")) == 1
    assert await put_variant(one, GZIP, b"gzip again")
    assert [await one.body(fields=fields) for fields in (GZIP, BROTLI, ())] == [b"gzip again", None, None]


async def test_variants_and_sets_of_names_of_a_key_are_bounded(valkey: Valkey, one: CacheInstance) -> None:
    marks = (await one.find()).marks
    for number in range(100):
        fields = ((b"Accept-Encoding", b"x%d" % number),)
        await one.level2.put(KEY, stored(vary=ENCODING, fields=fields), marks, 60)
    assert len(names_of(valkey, "r1")) == 64 + 1
    assert [await one.body(fields=((b"Accept-Encoding", each),)) for each in (b"x35", b"x36")] == [None, b"body"]

    for number in range(20):
        await one.level2.put(KEY, stored(vary=(b"x-%d" % number,)), marks, 60)
    assert len(names_of(valkey, "r1")) == 8 + 1
    assert await one.body(names=tuple((b"x-%d" % number,) for number in range(20))) == b"body"


async def test_an_index_lives_as_long_as_the_longest_of_its_variants(valkey: Valkey, one: CacheInstance) -> None:
    marks = (await one.find()).marks
    for fields, keep in ((GZIP, 1000), (BROTLI, 10)):
        await one.level2.put(KEY, stored(vary=ENCODING, fields=fields), marks, keep)

    assert valkey.command("PTTL", one.level2.keys.response(KEY)) > 800_000


# --- leases ---------------------------------------------------------------------------------------------------------


async def test_one_of_many_gets_the_lease(one: CacheInstance, two: CacheInstance) -> None:
    found = await asyncio.gather(*(each.find(lease=5.0) for each in (one, two) * 10))

    assert sum(bool(each.lease) for each in found) == 1
    assert all(each.stored is None for each in found)


async def test_the_store_wakes_those_who_wait(one: CacheInstance, two: CacheInstance) -> None:
    leader = await one.find(lease=60.0)
    assert not (await two.find(lease=60.0)).lease
    waiting = [asyncio.create_task(two.level2.wait(KEY, 60.0)) for _ in range(3)]
    await eventually(lambda: bool(two.level2._leases._waiters))
    assert await one.level2.put(KEY, stored(), leader.marks, 60)

    assert await asyncio.wait_for(asyncio.gather(*waiting), WITHIN) == [True] * 3
    assert await two.body() == b"body"
    assert two.level2._leases._waiters == {}


async def test_what_is_given_up_wakes_those_who_wait(one: CacheInstance, two: CacheInstance) -> None:
    leader = await one.find(lease=60.0)
    await two.find(lease=60.0)
    waiting = asyncio.create_task(two.level2.wait(KEY, 60.0))
    await one.level2.release(KEY, leader.lease)

    assert await asyncio.wait_for(waiting, WITHIN)
    assert (await two.find(lease=60.0)).lease


async def test_a_fill_that_is_outdated_wakes_those_who_wait(one: CacheInstance, two: CacheInstance) -> None:
    leader = await one.find(lease=60.0)
    await two.find(lease=60.0)
    waiting = asyncio.create_task(two.level2.wait(KEY, 60.0))
    await two.purges.purge(["property:1"], Validity.INVALID, cause="test")
    assert not await one.level2.put(KEY, stored(), leader.marks, 60)

    assert await asyncio.wait_for(waiting, WITHIN)


async def test_a_lease_that_has_ended_before_anybody_waits_costs_no_wait(
    one: CacheInstance, two: CacheInstance
) -> None:
    leader = await one.find(lease=60.0)
    await two.find(lease=60.0)
    await one.level2.put(KEY, stored(), leader.marks, 60)

    assert await asyncio.wait_for(two.level2.wait(KEY, 60.0), WITHIN)


async def test_waiting_needs_no_messages(valkey: Valkey, one: CacheInstance) -> None:
    async with cache_instance(valkey.url, starts=False) as deaf:
        leader = await one.find(lease=60.0)
        waiting = asyncio.create_task(deaf.level2.wait(KEY, 60.0))
        await one.level2.put(KEY, stored(), leader.marks, 60)

        assert await asyncio.wait_for(waiting, WITHIN)


async def test_waiting_ends_at_its_limit(one: CacheInstance, two: CacheInstance) -> None:
    await one.find(lease=60.0)

    assert not await asyncio.wait_for(two.level2.wait(KEY, 0.05), WITHIN)
    assert two.shared_outcomes("wait") == {"limit": 1}
    assert two.level2._leases._waiters == {}


async def test_waiting_that_is_cancelled_leaves_nothing(one: CacheInstance, two: CacheInstance) -> None:
    await one.find(lease=60.0)
    waiting = asyncio.create_task(two.level2.wait(KEY, 60.0))
    await eventually(lambda: bool(two.level2._leases._waiters))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert two.level2._leases._waiters == {}


async def test_a_lease_expires_with_its_holder(one: CacheInstance, two: CacheInstance) -> None:
    await one.find(lease=0.05)
    assert not (await two.find(lease=5.0)).lease

    assert await asyncio.wait_for(two.level2.wait(KEY, 60.0), WITHIN)
    assert (await two.find(lease=5.0)).lease


async def test_a_question_that_is_cancelled_leaves_no_lease(one: CacheInstance, two: CacheInstance) -> None:
    for turns in range(12):
        asking = asyncio.create_task(one.find(b"%d" % turns, lease=600.0))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not asking.cancel():
            await one.level2.release(b"%d" % turns, asking.result().lease)
        await asyncio.gather(asking, return_exceptions=True)
    for turns in range(12):
        key = b"%d" % turns
        found = await two.find(key, lease=600.0)
        if not found.lease:
            assert await asyncio.wait_for(two.level2.wait(key, 60.0), WITHIN)


async def test_a_lease_of_another_is_not_given_back(one: CacheInstance, two: CacheInstance) -> None:
    await one.find(lease=60.0)
    await two.level2.release(KEY, b"0" * 16)
    await two.level2.release(KEY, ALONE)
    await two.level2.release(KEY, b"")

    assert not (await two.find(lease=60.0)).lease


async def test_nothing_fresh_is_worth_a_lease_and_what_is_fresh_is_not(one: CacheInstance) -> None:
    await one.fill(stored())
    assert not (await one.find(lease=5.0)).lease
    await one.purges.purge(["property:1"], Validity.SOFT, cause="test")
    assert (await one.find(lease=5.0)).lease
    await one.fill(stored(lifetime=0.0), b"2")
    assert (await one.find(b"2", lease=5.0)).lease


async def test_a_lease_without_an_end_is_nobodys(valkey: Valkey, one: CacheInstance) -> None:
    valkey.command("SET", one.level2.keys.lease(KEY), "forever")

    assert (await one.find(lease=5.0)).lease
    assert 0 < valkey.command("PTTL", one.level2.keys.lease(KEY)) <= 5000


async def test_nobody_is_told_of_leases_that_nobody_waits_for(valkey: Valkey, one: CacheInstance) -> None:
    before = valkey.command_calls("publish")
    leader = await one.find(lease=5.0)
    await one.level2.put(KEY, stored(), leader.marks, 60)

    assert valkey.command_calls("publish") == before


async def test_a_lease_goes_on_while_it_is_held(
    monkeypatch: pytest.MonkeyPatch, valkey: Valkey, one: CacheInstance
) -> None:
    monkeypatch.setattr(leases, "_RENEWALS", 1000)
    found = await one.find(lease=5.0)
    one.level2.hold(KEY, found.lease, 60.0)

    await eventually(lambda: valkey.command("PTTL", one.level2.keys.lease(KEY)) > 50_000)
    await one.level2.release(KEY, found.lease)

    assert one.level2._leases._holds == {}
    assert not valkey.command("EXISTS", one.level2.keys.lease(KEY))


async def test_a_lease_that_another_has_by_now_is_not_renewed(
    monkeypatch: pytest.MonkeyPatch, valkey: Valkey, one: CacheInstance
) -> None:
    monkeypatch.setattr(leases, "_RENEWALS", 1000)
    found = await one.find(lease=5.0)
    valkey.command("SET", one.level2.keys.lease(KEY), b"0" * 16, "PX", 5000)
    one.level2.hold(KEY, found.lease, 60.0)

    await eventually(lambda: one.level2._leases._holds == {})
    assert valkey.command("PTTL", one.level2.keys.lease(KEY)) <= 5000


async def test_a_lease_is_not_renewed_for_ever(monkeypatch: pytest.MonkeyPatch, one: CacheInstance) -> None:
    monkeypatch.setattr(leases, "_RENEWALS", 1000)
    monkeypatch.setattr(leases, "_LONGEST", 0.0)
    one.level2.hold(KEY, (await one.find(lease=5.0)).lease, 60.0)

    await eventually(lambda: one.level2._leases._holds == {})
    assert not (await one.find(lease=5.0)).lease


async def test_a_lease_is_renewed_on_through_a_loss_of_redis(
    monkeypatch: pytest.MonkeyPatch, valkey: Valkey, one: CacheInstance
) -> None:
    monkeypatch.setattr(leases, "_RENEWALS", 1000)
    found = await one.find(lease=5.0)
    valkey.kill()
    one.level2.hold(KEY, found.lease, 60.0)
    await eventually(lambda: one.redis is not None and not one.redis.is_available)
    hold = one.level2._leases._holds[KEY]
    timer = hold.timer
    await eventually(lambda: hold.timer is not timer)
    valkey.start()

    await eventually(lambda: one.level2._leases._holds == {})  # the lease is gone, as Redis says now


async def test_a_lease_is_renewed_no_more_when_what_was_fetched_is_stored(one: CacheInstance) -> None:
    found = await one.find(lease=60.0)
    one.level2.hold(KEY, found.lease, 60.0)
    one.level2.hold(b"other", ALONE, 60.0)
    assert [*one.level2._leases._holds] == [KEY]

    await one.level2.put(KEY, stored(), found.marks, 60)

    assert one.level2._leases._holds == {}


async def test_of_two_holders_only_the_first_is_waited_for(valkey: Valkey, one: CacheInstance) -> None:
    name = one.level2.keys.lease(KEY)
    async with cache_instance(valkey.url, starts=False) as deaf:
        await one.find(lease=60.0)
        waiting = asyncio.create_task(deaf.level2.wait(KEY, 60.0))
        await eventually(lambda: bytes(valkey.command("GET", name)).endswith(b"w"))
        valkey.command("SET", name, b"0" * 16, "PX", 60_000)

        assert await asyncio.wait_for(waiting, WITHIN)


# --- a cluster ------------------------------------------------------------------------------------------------------


async def test_it_works_in_a_cluster(tmp_path_factory: pytest.TempPathFactory) -> None:
    with ValkeyCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        async with cache_instance(cluster.cluster_url) as one, cache_instance(cluster.cluster_url) as two:
            assert await one.fill(stored())
            assert await put_variant(one, GZIP, b"gzip")
            assert await two.body(fields=GZIP) == b"gzip"
            two.remember(stored())
            assert await one.purges.purge(["property"], Validity.INVALID, cause="test")

            assert (await two.find(fields=GZIP)).validity is Validity.INVALID
            await eventually(lambda: two.remembered() is None)
