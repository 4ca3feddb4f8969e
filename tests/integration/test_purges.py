"""Purges across instances: here at once, elsewhere by message, owed while Redis is gone; and what a gap does."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from proxy.protocol.caching.stored import Validity
from proxy.storage.redis import Redis
from proxy.storage.subscription import Subscription
from tests.support.cache_instance import KEY, TAGS, CacheInstance, cache_instance, stored
from tests.support.clock import ManualClock
from tests.support.exchange import make_exchange
from tests.support.valkey import Valkey
from tests.support.waiting import WITHIN, eventually

LEVELS = [Validity.SOFT, Validity.INVALID, Validity.GONE]
SOON = 2.0
"""What takes milliseconds, on a busy machine."""


@pytest.fixture
async def one(valkey: Valkey) -> AsyncIterator[CacheInstance]:
    async with cache_instance(valkey.url) as instance:
        yield instance


@pytest.fixture
async def two(valkey: Valkey) -> AsyncIterator[CacheInstance]:
    async with cache_instance(valkey.url) as instance:
        yield instance


def validity(instance: CacheInstance) -> Validity:
    return instance.generations.validity(TAGS, 0)[0]


async def invalidate(instance: CacheInstance, *tags: str) -> bool:
    return await instance.purges.purge(tags or ("property:1",), Validity.INVALID, cause="mutation")


# --- the ordinary course --------------------------------------------------------------------------------------------


async def test_a_purge_has_happened_here_before_anything_is_awaited(one: CacheInstance) -> None:
    one.remember(stored())
    task = one.purges.begin(["property:1"], Validity.INVALID, cause="mutation")

    assert one.remembered() is None
    assert await task
    assert one.metrics.purges == {("mutation", "done"): 1}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("tag", TAGS)
async def test_the_other_instances_hear_of_it(
    one: CacheInstance, two: CacheInstance, level: Validity, tag: str
) -> None:
    two.remember(stored())
    noted = two.generations.sequence
    assert await one.purges.purge([tag, "unrelated"], level, cause="purge")

    await eventually(lambda: two.generations.validity(TAGS, noted)[0] is level, SOON)
    assert two.remembered() is None


async def test_own_messages_are_not_heard_twice(one: CacheInstance, two: CacheInstance) -> None:
    first, second = one.generations.sequence, two.generations.sequence
    await invalidate(one)
    await eventually(lambda: two.generations.sequence == second + 1, SOON)
    await invalidate(two)  # its message comes after that of the first

    await eventually(lambda: one.generations.sequence == first + 2, SOON)
    assert two.generations.sequence == second + 2


async def test_a_purge_of_many_tags_takes_few_calls(valkey: Valkey, one: CacheInstance, two: CacheInstance) -> None:
    await invalidate(one)
    before = valkey.command_calls("evalsha")
    tags = [f"property:{number}" for number in range(1000)]
    assert await invalidate(one, *tags, *tags)

    assert valkey.command_calls("evalsha") - before == 5
    await eventually(lambda: two.generations.validity(["property:999"], 0)[0] is Validity.INVALID, SOON)


async def test_without_redis_a_purge_is_one_of_this_process() -> None:
    alone = CacheInstance(None, wall=time.time, prefix="tidegate")
    await alone.purges.start()
    alone.remember(stored())

    assert await invalidate(alone)
    assert alone.remembered() is None
    assert alone.purges.gap_since is None
    await alone.purges.close()


async def test_redis_without_a_shared_level_still_carries_messages(valkey: Valkey, two: CacheInstance) -> None:
    async with cache_instance(valkey.url, shares=False) as one:
        one.remember(stored())
        two.remember(stored())
        await invalidate(two)
        await eventually(lambda: one.remembered() is None, SOON)
        await two.find(lease=5.0)
        await one.purges.purge(["*"], Validity.GONE, cause="purge")

        await eventually(lambda: validity(two) is Validity.GONE, SOON)


async def test_a_client_that_leaves_ends_no_purge(one: CacheInstance, two: CacheInstance) -> None:
    two.remember(stored())
    purging = asyncio.create_task(invalidate(one))
    await asyncio.sleep(0)
    purging.cancel()
    await asyncio.gather(purging, return_exceptions=True)

    await eventually(lambda: two.remembered() is None, SOON)
    await eventually(lambda: one.metrics.purges == {("mutation", "done"): 1}, SOON)


async def test_close_waits_for_purges_that_have_begun(valkey: Valkey, two: CacheInstance) -> None:
    two.remember(stored())
    async with cache_instance(valkey.url) as one:
        one.purges.begin(["property:1"], Validity.GONE, cause="mutation")

    await eventually(lambda: two.remembered() is None, SOON)


# --- other workers --------------------------------------------------------------------------------------------------


async def test_other_workers_are_told_before_redis(one: CacheInstance, two: CacheInstance) -> None:
    told = []

    async def tell(tags: Sequence[str], level: int) -> None:
        told.append((tags, level, two.generations.sequence))

    before = two.generations.sequence
    one.purges.tell = tell
    assert await invalidate(one)

    assert told == [(("property:1",), 2, before)]


async def test_workers_that_do_not_answer_hold_nobody_up(one: CacheInstance, two: CacheInstance) -> None:
    async def tell(_tags: Sequence[str], _level: int) -> None:
        await asyncio.Event().wait()

    one.purges.tell = tell
    began = time.monotonic()
    assert not await invalidate(one)

    assert time.monotonic() - began < SOON
    assert one.metrics.purges == {("mutation", "local"): 1}
    await eventually(lambda: validity(two) is not Validity.VALID, SOON)


async def test_a_bug_in_telling_workers_is_logged_and_ends_nothing(
    one: CacheInstance, caplog: pytest.LogCaptureFixture
) -> None:
    async def tell(_tags: Sequence[str], _level: int) -> None:
        raise RuntimeError("a bug")

    one.purges.tell = tell
    assert not await invalidate(one)
    assert "Bug: the other workers were not told of a purge" in caplog.text


# --- between here and Redis -----------------------------------------------------------------------------------------


async def test_nothing_is_read_from_redis_that_a_purge_on_its_way_makes_outdated(
    one: CacheInstance, two: CacheInstance
) -> None:
    await one.fill(stored())
    gate = asyncio.Event()

    async def tell(_tags: Sequence[str], _level: int) -> None:
        await gate.wait()

    one.purges.tell = tell
    purging = one.purges.begin(["property:1"], Validity.GONE, cause="mutation")
    assert await one.body() is None
    assert not (await one.find()).marks
    assert await two.body() == b"body"
    assert (await one.find(tags=("property:2", "*"))).marks
    gate.set()
    await purging

    assert await two.body() is None
    assert (await one.find()).marks


async def test_what_was_read_while_a_purge_began_is_not_used(one: CacheInstance) -> None:
    await one.fill(stored())
    finding = asyncio.create_task(one.find(lease=5.0))
    await asyncio.sleep(0)
    purging = one.purges.begin(["property:1"], Validity.SOFT, cause="mutation")

    assert (await finding).stored is None
    assert not (await finding).marks
    await purging


# --- Redis does not take it -----------------------------------------------------------------------------------------


async def test_what_redis_did_not_take_is_owed_and_paid_when_it_is_back(valkey: Valkey) -> None:
    async with cache_instance(valkey.url, timeout=0.05) as one, cache_instance(valkey.url, timeout=0.05) as two:
        await one.fill(stored())
        valkey.stop_process()
        assert not await invalidate(one)
        assert one.metrics.pending == len(one.purges.pending) == 1
        assert one.metrics.purges == {("mutation", "local"): 1}
        valkey.continue_process()
        await eventually(lambda: one.purges.pending.is_empty)

        assert (await one.find()).validity is Validity.INVALID
        assert one.metrics.pending == 0
        await eventually(lambda: two.purges.gap_since is None and validity(two) is not Validity.VALID)


async def test_nothing_is_read_or_stored_while_something_is_owed(valkey: Valkey) -> None:
    async with cache_instance(valkey.url) as one:
        await one.fill(stored())
        marks = (await one.find()).marks
        one.purges.pending.owe(["unrelated"], Validity.SOFT)

        assert await one.body() is None
        assert not await one.level2.put(KEY, stored(), marks, 60)
        assert one.shared_outcomes("put") == {"stored": 1, "pending": 1}
        assert one.shared_outcomes("find")["pending"] == 1
        one.purges.pending.paid(one.purges.pending.first(1))
        assert await one.body() == b"body"


async def test_debts_are_paid_in_order_and_each_reaches_the_others(valkey: Valkey) -> None:
    async with cache_instance(valkey.url, timeout=0.05) as one, cache_instance(valkey.url, prefix="other") as witness:
        news = witness_of(witness.redis, one)
        news.start()
        await news.next()
        valkey.replica_of(1)
        for number in range(300):
            await one.purges.purge([f"property:{number}"], Validity.INVALID, cause="mutation")
        valkey.replica_of(None)
        await eventually(lambda: one.purges.pending.is_empty)

        heard: list[bytes] = []
        while len(heard) < 300:
            item = await asyncio.wait_for(news.next(), WITHIN)
            heard += getattr(item, "data", b"").split(b"\n")[1:]
        assert heard == [b"2 property:%d" % number for number in range(300)]
        await news.close()


def witness_of(redis: Redis | None, instance: CacheInstance) -> Subscription:
    assert redis is not None
    return redis.subscribe(instance.level2.keys.purges)


async def test_too_many_debts_become_a_new_namespace(valkey: Valkey) -> None:
    async with cache_instance(valkey.url, timeout=0.05) as one:
        await one.fill(stored(tags=("unrelated", "*")))
        valkey.replica_of(1)
        for number in range(11):
            await invalidate(one, *[f"property:{number}:{each}" for each in range(100)])
        assert 0 < len(one.purges.pending) <= 1000
        valkey.replica_of(None)
        await eventually(lambda: one.purges.pending.is_empty)

        assert await one.body(tags=("unrelated", "*")) is None


async def test_an_exchange_without_time_for_redis_leaves_the_purge_to_be_paid_at_once(one: CacheInstance) -> None:
    exchange = make_exchange()
    exchange.store_seconds = 99.0
    await one.fill(stored())

    assert not await one.purges.purge(["*"], Validity.GONE, cause="mutation", exchange=exchange)
    await eventually(lambda: one.purges.pending.is_empty, SOON)
    assert await one.body() is None


async def test_debts_are_paid_at_the_end_if_redis_is_there(valkey: Valkey, two: CacheInstance) -> None:
    await two.fill(stored())
    async with cache_instance(valkey.url, starts=False) as one:
        one.purges.pending.owe(["property:1"], Validity.GONE)

    assert await two.body() is None


async def test_what_one_configuration_owes_the_next_one_pays(valkey: Valkey) -> None:
    async with cache_instance(valkey.url, timeout=0.05) as before:
        await before.fill(stored())
        valkey.replica_of(1)
        assert not await invalidate(before)
        async with cache_instance(valkey.url, timeout=0.05, pending=before.level2.pending) as after:
            await before.purges.close()
            assert after.metrics.pending == 1
            assert (await after.find()).stored is None
            valkey.replica_of(None)
            await eventually(lambda: after.purges.pending.is_empty)

            assert (await after.find()).validity is Validity.INVALID


async def test_a_cancelled_purge_is_owed(valkey: Valkey, one: CacheInstance) -> None:
    task = one.purges.begin(["property:1"], Validity.GONE, cause="mutation")
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    await eventually(lambda: one.purges.pending.is_empty, SOON)
    assert not one.purges.pending.blocks(["property:1"])


# --- gaps -----------------------------------------------------------------------------------------------------------


async def test_there_is_a_gap_until_messages_arrive(valkey: Valkey) -> None:
    wall = ManualClock(1_700_000_000.0)
    valkey.kill()
    async with cache_instance(valkey.url, timeout=0.05, wall=wall) as one:
        wall.advance(5)
        assert one.purges.gap_since == 1_700_000_000.0
        assert one.metrics.gap
        valkey.start()
        await eventually(lambda: one.purges.gap_since is None)

        assert not one.metrics.gap


async def test_a_gap_begins_with_the_last_sign_of_life(valkey: Valkey, one: CacheInstance) -> None:
    before = time.time()
    await asyncio.sleep(0.2)
    valkey.kill()
    await eventually(lambda: one.purges.gap_since is not None)

    assert one.purges.gap_since is not None
    assert before - SOON < one.purges.gap_since < before + 0.2


async def test_a_gap_that_goes_on_keeps_its_beginning(valkey: Valkey, one: CacheInstance) -> None:
    valkey.kill()
    await eventually(lambda: one.purges.gap_since is not None)
    since = one.purges.gap_since
    one.purges._lost(0.0)

    assert one.purges.gap_since == since


async def test_what_predates_the_end_of_a_gap_is_dropped(valkey: Valkey, one: CacheInstance) -> None:
    one.remember(stored())
    noted = one.generations.sequence
    valkey.restart()
    await eventually(lambda: one.remembered() is None)
    await eventually(lambda: one.purges.gap_since is None)

    assert one.memory.entries == 0
    assert one.memory.put(KEY, stored(), noted, max_variants=8) is None  # a fill that began before
    assert one.remember(stored()) is not None


async def test_messages_that_were_dropped_drop_everything(valkey: Valkey, one: CacheInstance) -> None:
    one.remember(stored())
    assert one.purges._subscription is not None
    one.purges._subscription._limit = 10
    with valkey.client() as client:
        for _ in range(100):
            client.publish(one.level2.keys.purges, b"1 somebody\n2 other")
    await eventually(lambda: one.memory.entries == 0, SOON)

    assert one.purges.gap_since is None


@pytest.mark.parametrize("data", [b"", b"\x00\xff", b"9 from\nthe future", b"1 somebody\n7 property"])
async def test_a_message_that_is_not_understood_is_about_everything(
    valkey: Valkey, one: CacheInstance, data: bytes
) -> None:
    one.remember(stored())
    valkey.command("PUBLISH", one.level2.keys.purges, data)

    await eventually(lambda: one.remembered() is None, SOON)


async def test_a_bug_in_hearing_drops_everything_and_ends_nothing(
    valkey: Valkey, one: CacheInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_data: bytes) -> None:
        raise RuntimeError("a bug")

    one.remember(stored())
    monkeypatch.setattr("proxy.storage.purges.read_message", fail)
    valkey.command("PUBLISH", one.level2.keys.purges, b"1 somebody\n3 other")
    await eventually(lambda: one.memory.entries == 0, SOON)
    monkeypatch.undo()
    one.remember(stored())
    valkey.command("PUBLISH", one.level2.keys.purges, b"1 somebody\n3 property:1")

    await eventually(lambda: one.remembered() is None, SOON)
    assert "Bug: a message about the cache" in caplog.text


async def test_a_bug_in_paying_is_logged_and_tried_again(
    one: CacheInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_sender: bytes, _changes: object) -> bytes:
        raise RuntimeError("a bug")

    monkeypatch.setattr("proxy.storage.debts.write_message", fail)
    assert not await invalidate(one)
    await eventually(lambda: "Bug: purges that Redis has not taken" in caplog.text)
    monkeypatch.undo()

    await eventually(lambda: one.purges.pending.is_empty)


# --- another server -------------------------------------------------------------------------------------------------


async def test_what_an_old_dump_brings_back_is_not_used(valkey: Valkey) -> None:
    """The purge came after the dump: to the server that is restarted from it, it has never happened."""
    async with cache_instance(valkey.url, timeout=0.5) as one:
        await one.fill(stored())
        valkey.command("SAVE")
        await one.purges.purge(["property:1"], Validity.GONE, cause="purge")
        valkey.restart()
        assert valkey.command("EXISTS", one.level2.keys.response(KEY)) == 1
        await eventually(lambda: one.purges.gap_since is not None)
        await eventually(lambda: one.purges.gap_since is None and one.purges.pending.is_empty)

        assert await one.body() is None
        assert await one.fill(stored(b"new"))
        assert await one.body() == b"new"


async def test_redis_that_was_gone_is_not_trusted_before_it_has_been_looked_at(valkey: Valkey) -> None:
    """Even when the connection for messages has noticed nothing."""
    async with cache_instance(valkey.url, timeout=0.1) as one:
        await one.fill(stored())
        valkey.stop_process()
        while one.redis is not None and one.redis.is_available:
            await one.find()
        await one.find()
        assert one.purges.pending.doubt
        assert one.purges.gap_since is None
        valkey.continue_process()
        await eventually(lambda: one.purges.pending.is_empty)

        assert await one.body() == b"body"


async def test_a_connection_that_breaks_costs_nothing_in_redis(valkey: Valkey) -> None:
    async with cache_instance(valkey.url, timeout=0.5) as one:
        await one.fill(stored())
        valkey.drop_clients()
        await eventually(lambda: one.purges.gap_since is not None)
        await eventually(lambda: one.purges.gap_since is None and one.purges.pending.is_empty)

        assert await one.body() == b"body"


async def test_an_instance_that_starts_finds_what_others_have_stored(valkey: Valkey, one: CacheInstance) -> None:
    await one.fill(stored())
    async with cache_instance(valkey.url) as late:
        assert await late.body() == b"body"
