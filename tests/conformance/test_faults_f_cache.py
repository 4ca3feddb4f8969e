"""Faults E10, E11, F01 to F05 and F09: the cache when Redis is gone, slow, full, restarted, or holds rubbish."""

import asyncio
import pickle
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from proxy.protocol.caching.stored import Validity
from proxy.storage.cache_codec import encode
from proxy.storage.cache_records import record_of
from proxy.storage.shared_cache import ALONE
from tests.support.cache_instance import KEY, TAGS, CacheInstance, cache_instance, stored
from tests.support.exchange import make_exchange
from tests.support.tcp_faults import FaultProxy
from tests.support.valkey import Valkey, running_valkey
from tests.support.waiting import WITHIN, eventually

pytestmark = pytest.mark.usefixtures("leak_check")

BUDGET = 0.05
PATIENT = 10 * BUDGET
PROMPT = 0.001 * 100
GZIP = ((b"Accept-Encoding", b"gzip"),)
ENCODING = (b"accept-encoding",)
OTHER = b"another key bytes"


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with running_valkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
async def one(valkey: Valkey) -> AsyncIterator[CacheInstance]:
    async with cache_instance(valkey.url, timeout=BUDGET) as instance:
        yield instance


@pytest.fixture
async def patient(valkey: Valkey) -> AsyncIterator[CacheInstance]:
    """One whose calls may take as long as a busy machine needs."""
    async with cache_instance(valkey.url) as instance:
        yield instance


async def settled(instance: CacheInstance) -> None:
    """Redis is back, and all is well."""
    purges = instance.purges
    await eventually(lambda: instance.redis is not None and instance.redis.is_available)
    await eventually(lambda: purges.gap_since is None and purges.pending.is_empty)


async def works(instance: CacheInstance, body: bytes = b"again") -> bool:
    return await instance.fill(stored(body)) and await instance.body() == body


# --- E10: what is in Redis is rubbish -------------------------------------------------------------------------------


def text(stored_entry: bytes, marks: bytes) -> dict[str, bytes]:
    """What may be found under the name of a response."""
    head = record_of(stored(), marks, b"")
    entry = encode(KEY, stored(), compress_above=None)
    return {
        "another_key": head + encode(OTHER, stored(), compress_above=None),
        "another_variant": head + encode(KEY, stored(vary=ENCODING, fields=GZIP), compress_above=None),
        "other_tags": head + encode(KEY, stored(tags=("x", *TAGS[1:])), compress_above=None),
        "cut_short": stored_entry[:-1],
        "cut_in_the_entry": head + entry[:20],
        "cut_in_the_marks": stored_entry[:50],
        "cut_in_the_head": stored_entry[:10],
        "one_bit": stored_entry[:-1] + bytes([stored_entry[-1] ^ 1]),
        "old_version": head + b"\x00" + entry[1:],
        "pickle": head + pickle.dumps({"body": b"x"}),
        "bare_pickle": pickle.dumps(["E", b"x" * 500]),
        "far_future": head + encode(KEY, stored(date=time.time() + 3 * 86_400), compress_above=None),
        "negative_age": head + encode(KEY, stored(lifetime=-1.0), compress_above=None),
        "not_a_number": head + encode(KEY, stored(lifetime=float("nan")), compress_above=None),
        "foreign": b"somebody else's",
        "one_byte": b"E",
        "no_digits": b"E" + b"x" * 200,
        "index_without_lines": b"I\n",
        "index_of_many_sets": b"I\n" + b"\n".join(b"x-%d\t%032d" % (n, n) for n in range(100)),
        "index_too_long": b"I\n" + b"x\tff\n" * 20_000,
        "index_of_rubbish": b"I\n\x00\xff,,\t\t\n,\n\n\x00",
    }


RUBBISH = list(text(b"E", b""))


@pytest.mark.parametrize("kind", RUBBISH)
async def test_e10_rubbish_is_a_miss_and_makes_room(valkey: Valkey, patient: CacheInstance, kind: str) -> None:
    await patient.fill(stored())
    name = patient.level2.keys.response(KEY)
    marks = (await patient.find()).marks
    good = valkey.command("GET", name)
    valkey.command("SET", name, text(good, marks)[kind])

    for lease in (5.0, 5.0):
        found = await patient.find(lease=lease)
        assert found.stored is None
    assert valkey.command("GET", name) is None or kind in ("index_without_lines", "index_of_rubbish")
    assert "error" not in patient.shared_outcomes("find")
    assert await works(patient)


@pytest.mark.parametrize("kind", RUBBISH)
async def test_e10_rubbish_in_place_of_a_variant_is_a_miss(valkey: Valkey, patient: CacheInstance, kind: str) -> None:
    marks = (await patient.find()).marks
    variant = stored(vary=ENCODING, fields=GZIP)
    await patient.level2.put(KEY, variant, marks, 60)
    name = patient.level2.keys.variant(KEY, variant.variant)
    good = valkey.command("GET", name)
    assert good
    valkey.command("SET", name, text(good, marks)[kind] if kind != "another_variant" else good[:40])

    assert await patient.body(fields=GZIP) is None
    assert valkey.command("EXISTS", name) == 0


async def test_e10_rubbish_is_counted(valkey: Valkey, patient: CacheInstance) -> None:
    valkey.command("SET", patient.level2.keys.response(KEY), "rubbish")
    await patient.find()

    assert patient.shared_outcomes("find") == {"bad": 1, "miss": 1}


async def test_e10_whoever_finds_rubbish_gets_the_lease(valkey: Valkey, patient: CacheInstance) -> None:
    await patient.fill(stored())
    name = patient.level2.keys.response(KEY)
    valkey.command("SET", name, valkey.command("GET", name)[:-1])

    assert (await patient.find(lease=5.0)).lease not in (b"", ALONE)


@pytest.mark.parametrize("make", [("RPUSH", "x"), ("SADD", "x"), ("HSET", "a", "b"), ("ZADD", "1", "x")])
async def test_e10_values_of_another_type_are_misses(
    valkey: Valkey, patient: CacheInstance, make: tuple[str, ...]
) -> None:
    keys = patient.level2.keys
    await patient.fill(stored())
    names = (keys.response(KEY), keys.lease(KEY), *keys.generations(TAGS))
    for name in names:
        valkey.command("DEL", name)
        valkey.command(make[0], name, *make[1:])

    found = await patient.find(lease=5.0)
    assert found.stored is None
    assert found.lease
    assert await patient.level2.put(KEY, stored(), found.marks, 60)
    assert await patient.body() == b"body"


async def test_e10_huge_values_are_not_read(valkey: Valkey, patient: CacheInstance) -> None:
    name = patient.level2.keys.response(KEY)
    valkey.command("SETRANGE", name, 512 * 2**20 - 1, "x")
    sent = valkey.statistic("total_net_output_bytes")

    assert (await patient.find()).stored is None
    assert valkey.command("EXISTS", name) == 0
    assert valkey.statistic("total_net_output_bytes") - sent < 1_000_000


# --- E11: purges and fills cross ------------------------------------------------------------------------------------


async def test_e11_fill_that_a_purge_overtakes_is_stored_nowhere(valkey: Valkey, patient: CacheInstance) -> None:
    async with cache_instance(valkey.url) as two:
        noted, marks = patient.generations.sequence, (await patient.find()).marks
        two.remember(stored(b"old"))
        assert await two.purges.purge(["property"], Validity.INVALID, cause="mutation")
        await eventually(lambda: patient.generations.sequence > noted)

        assert patient.memory.put(KEY, stored(b"old"), noted, max_variants=8) is None
        assert not await patient.level2.put(KEY, stored(b"old"), marks, 60)
        assert two.remembered() is None


async def test_e11_memory_elsewhere_is_outdated_within_a_second(valkey: Valkey, patient: CacheInstance) -> None:
    async with cache_instance(valkey.url) as two:
        for number in range(20):
            two.remember(stored(b"%d" % number))
            await patient.purges.purge(["property:1"], Validity.INVALID, cause="mutation")
            await eventually(lambda: two.remembered() is None, within=1.0)


async def test_e11_reads_after_a_write_never_see_what_was_before_it(valkey: Valkey) -> None:
    """Many fills, finds and purges at once, in two instances: what is found was current when the find began."""
    async with cache_instance(valkey.url) as one, cache_instance(valkey.url) as two:
        truth = written = hits = 0

        async def write(instance: CacheInstance) -> None:
            nonlocal truth, written
            while hits < 200:
                truth += 1
                mine = truth
                assert await instance.purges.purge(["property:1"], Validity.INVALID, cause="mutation")
                written = max(written, mine)
                await asyncio.sleep(0.02)

        async def read(instance: CacheInstance) -> None:
            nonlocal hits
            while hits < 200:
                floor = written
                found = await instance.find()
                if found.stored is not None and found.validity is Validity.VALID:
                    assert int(found.stored.body) >= floor
                    hits += 1
                else:
                    value = truth
                    await asyncio.sleep(0.001)
                    await instance.level2.put(KEY, stored(b"%d" % value), found.marks, 60)

        async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as group:
            for instance in (one, two):
                group.create_task(write(instance))
                for _ in range(3):
                    group.create_task(read(instance))
        assert written > 2


# --- F01 to F05: Redis is not what it was ---------------------------------------------------------------------------


async def test_f01_killed_redis_is_a_miss_at_once(valkey: Valkey, one: CacheInstance) -> None:
    await one.fill(stored())
    valkey.kill()
    began = time.monotonic()
    found = [await one.find(lease=5.0, exchange=make_exchange()) for _ in range(200)]
    seconds = time.monotonic() - began

    assert all(each.stored is None and each.marks == b"" and each.lease for each in found)
    assert found[-1].lease == ALONE
    assert seconds < PATIENT
    assert not await one.level2.put(KEY, stored(), b"m" * 39 * len(TAGS), 60)
    assert not await one.level2.wait(KEY, 5.0)
    await one.level2.release(KEY, b"0" * 16)
    assert not await one.purges.purge(["*"], Validity.GONE, cause="purge")


async def test_f01_memory_is_used_on_when_redis_is_killed(valkey: Valkey, one: CacheInstance) -> None:
    one.remember(stored())
    valkey.kill()
    await eventually(lambda: one.purges.gap_since is not None)

    assert one.remembered() is not None
    await one.purges.purge(["property:1"], Validity.INVALID, cause="mutation")
    assert one.remembered() is None


async def test_f02_hanging_redis_costs_each_exchange_its_budget_until_it_is_left_alone(
    valkey: Valkey, one: CacheInstance
) -> None:
    await one.fill(stored())
    valkey.stop_process()
    try:
        exchanges = [make_exchange() for _ in range(200)]
        began = time.monotonic()
        await asyncio.gather(*(one.find(lease=5.0, exchange=each) for each in exchanges))
        assert time.monotonic() - began < PATIENT
        began = time.monotonic()
        for _ in range(200):
            assert (await one.find(lease=5.0)).lease == ALONE
        assert time.monotonic() - began < PATIENT
        assert max(each.store_seconds for each in exchanges) < PATIENT
    finally:
        valkey.continue_process()
    await settled(one)

    assert await one.body() == b"body"


async def test_f03_slow_redis_costs_one_exchange_one_budget_in_all(valkey: Valkey) -> None:
    async with (
        FaultProxy(valkey.port) as faults,
        cache_instance(f"redis://127.0.0.1:{faults.port}", timeout=BUDGET) as one,
    ):
        faults.downstream.latency = 0.2
        exchange = make_exchange()
        began = time.monotonic()
        found = [await one.find(lease=5.0, exchange=exchange) for _ in range(10)]
        seconds = time.monotonic() - began
        faults.downstream.latency = 0.0

    assert all(each.stored is None and each.lease for each in found)
    assert seconds < PATIENT


async def test_f04_restarted_redis_is_used_again(valkey: Valkey, one: CacheInstance) -> None:
    await one.fill(stored())
    for number in range(3):
        valkey.restart()
        await eventually(lambda: one.purges.gap_since is not None)
        await settled(one)
        assert await one.body() is None
        assert await works(one, b"%d" % number)


async def test_f04_flush_is_a_miss_and_no_more(valkey: Valkey, patient: CacheInstance) -> None:
    await patient.fill(stored())
    marks = (await patient.find()).marks
    valkey.flush()
    valkey.forget_scripts()

    assert await patient.body() is None
    assert not await patient.level2.put(KEY, stored(), marks, 60)
    assert await works(patient)


async def test_f05_full_redis_still_answers_and_still_takes_purges(valkey: Valkey, patient: CacheInstance) -> None:
    await patient.fill(stored())
    await patient.fill(stored(tags=("soft", "*")), OTHER)
    valkey.fill()
    assert await patient.body() == b"body"
    assert not await patient.fill(stored(b"more"))
    assert patient.shared_outcomes("put")["error"] == 1
    assert (await patient.find(b"nothing", lease=5.0)).lease == ALONE
    new = await patient.find(b"nothing", tags=("never seen", "*"))
    assert (new.stored, new.marks) == (None, b"")
    await eventually(lambda: patient.redis is not None and patient.redis.is_available)
    assert await patient.purges.purge(["property:1"], Validity.INVALID, cause="mutation")
    assert await patient.purges.purge(["soft"], Validity.SOFT, cause="purge")
    assert await patient.body() is None
    assert await patient.body(OTHER, tags=("soft", "*")) is None
    valkey.empty()
    await settled(patient)

    assert await works(patient)


REFUSALS: dict[str, Callable[[Valkey], None]] = {
    "readonly": lambda valkey: valkey.replica_of(1),
    "misconf": lambda valkey: valkey.fail_to_save(),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_f06_redis_that_takes_no_writes_answers_until_a_purge_is_owed(
    valkey: Valkey, patient: CacheInstance, refusal: str
) -> None:
    await patient.fill(stored())
    await asyncio.to_thread(REFUSALS[refusal], valkey)
    assert await patient.body() == b"body"
    marks = (await patient.find()).marks
    assert not await patient.level2.put(KEY, stored(b"more"), marks, 60)
    assert not await patient.purges.purge(["property:1"], Validity.GONE, cause="mutation")

    assert await patient.body() is None
    assert len(patient.purges.pending) == 1


# --- F09: messages --------------------------------------------------------------------------------------------------


async def test_f09_messages_arrive_again_after_every_loss(valkey: Valkey, patient: CacheInstance) -> None:
    for _ in range(3):
        patient.remember(stored())
        valkey.drop_clients()
        await eventually(lambda: patient.purges.gap_since is not None)
        await settled(patient)
        assert patient.memory.entries == 0

    patient.remember(stored())
    valkey.command("PUBLISH", patient.level2.keys.purges, b"1 somebody\n2 property:1")
    await eventually(lambda: patient.remembered() is None)


async def test_f09_burst_of_messages_is_bounded_and_lets_others_run(valkey: Valkey, patient: CacheInstance) -> None:
    patient.remember(stored())
    channel = patient.level2.keys.purges
    script = "for i = 1, 100000 do redis.call('PUBLISH', KEYS[1], '1 somebody\\n2 p:' .. i) end"
    noted, turns = patient.generations.sequence, 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    task = asyncio.create_task(others())
    await asyncio.to_thread(valkey.command, "EVAL", script, 1, channel)
    last = ["p:100000"]
    await eventually(lambda: patient.generations.validity(last, noted)[0] is not Validity.VALID, within=40)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert turns > 20
    assert patient.purges._subscription is not None
    assert len(patient.purges._subscription._items) == 0


async def test_f09_silence_is_no_gap(valkey: Valkey) -> None:
    async with cache_instance(valkey.url) as one:
        assert one.purges._subscription is not None
        one.purges._subscription._ping_after = 0.02
        valkey.drop_clients()  # the next connection pings that soon
        await eventually(lambda: one.purges.gap_since is not None)
        await settled(one)
        one.remember(stored())
        await asyncio.sleep(0.3)

        assert one.purges.gap_since is None
        assert one.remembered() is not None
