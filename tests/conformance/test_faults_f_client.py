"""Faults F: the client of Redis while its server is killed, silent, slow, restarted, full or refuses."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from proxy.storage.redis import Script, StoreError
from tests.support.exchange import make_exchange
from tests.support.redis_client import GET, SET, Client, running_client
from tests.support.tcp_faults import FaultProxy
from tests.support.valkey import Valkey
from tests.support.waiting import WITHIN, eventually

BUDGET = 0.05
"""`redis.timeout`, by default, in seconds."""
POOL = 16
"""`redis.max_connections`, by default."""
AT_ONCE = 0.025
"""Far above what a call costs that is not made, in seconds."""
LONG = 5.0


@pytest.fixture
async def client(valkey: Valkey) -> AsyncIterator[Client]:
    async with running_client(valkey.unix_url) as client:
        await client.redis.run(SET, [b"key"], [b"value"])
        yield client


@pytest.fixture
async def patient(valkey: Valkey) -> AsyncIterator[Client]:
    """A client that waits for an answer, for tests of servers that answer."""
    async with running_client(valkey.unix_url, timeout=LONG) as client:
        await client.redis.run(SET, [b"key"], [b"value"])
        yield client


async def ask(client: Client, script: Script = GET) -> tuple[str, float]:
    """How one request's call ended, and how long it took."""
    began = time.monotonic()
    try:
        await client.redis.run(script, [b"key"], [] if script is GET else [b"value"], make_exchange())
    except StoreError as error:
        return error.outcome, time.monotonic() - began
    return "ok", time.monotonic() - began


async def under_load(client: Client, seconds: float, rate: int = 300) -> list[tuple[str, float]]:
    """Requests come at their own pace, whatever becomes of those before them."""
    tasks = []
    began = time.monotonic()
    for number in range(int(seconds * rate)):
        await asyncio.sleep(max(began + number / rate - time.monotonic(), 0))
        tasks.append(asyncio.create_task(ask(client)))
    return await asyncio.gather(*tasks)


async def assert_as_before(client: Client) -> None:
    """Within moments Redis is used again, and every connection is good for a command."""
    async with asyncio.timeout(WITHIN):
        while not await all_well(client):  # noqa: ASYNC110 - nothing here can set an event
            await asyncio.sleep(0.005)


async def all_well(client: Client) -> bool:
    answers = await asyncio.gather(*(ask(client, SET) for _ in range(2 * POOL)))
    return all(outcome == "ok" for outcome, _ in answers)


# --- F01 to F04: gone, silent, slow, flapping -----------------------------------------------------------------------


def assert_few_have_waited(answers: list[tuple[str, float]]) -> None:
    """At most as many as there are connections have waited, and the others were not even tried."""
    outcomes = Counter(outcome for outcome, _ in answers)
    tried = [seconds for outcome, seconds in answers if outcome not in ("ok", "unavailable")]

    assert len(tried) <= 2 * POOL, outcomes  # those that wait for a connection leave with the others
    assert max(tried) < 10 * BUDGET
    bypassed = sorted(seconds for outcome, seconds in answers if outcome == "unavailable")
    assert len(bypassed) > len(answers) / 4
    assert bypassed[len(bypassed) // 2] < AT_ONCE


async def test_f01_killed_under_load(valkey: Valkey, client: Client) -> None:
    load = asyncio.create_task(under_load(client, 1.0))
    await asyncio.sleep(0.3)
    valkey.kill()
    answers = await load

    assert_few_have_waited(answers)
    valkey.restart()
    await assert_as_before(client)


async def test_f02_stopped_under_load(valkey: Valkey, client: Client) -> None:
    tasks = len(asyncio.all_tasks())
    load = asyncio.create_task(under_load(client, 1.5))
    await asyncio.sleep(0.3)
    valkey.stop_process()
    stopped_at = time.monotonic()
    answers = await load
    passed = time.monotonic() - stopped_at

    assert_few_have_waited(answers)
    assert client.outcomes("ping").get("timeout", 0) <= passed / 0.5 + 1  # at most one trial each half second
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks + 1)
    valkey.continue_process()
    await assert_as_before(client)


async def test_f03_slower_than_its_time_costs_a_request_one_timeout_in_all(valkey: Valkey) -> None:
    async with (
        FaultProxy(valkey.port) as faults,
        running_client(f"redis://127.0.0.1:{faults.port}") as client,
    ):
        faults.downstream.latency = 0.2
        exchange = make_exchange()
        for _ in range(5):
            with pytest.raises(StoreError):
                await client.redis.run(GET, [b"key"], [], exchange)
        assert exchange.store_seconds < 10 * BUDGET
        assert client.outcomes("get") == {"timeout": 1, "no_time": 4}

        outcomes = Counter(outcome for outcome, _ in [await ask(client) for _ in range(20)])
        assert outcomes.keys() == {"timeout", "unavailable"}
        assert outcomes["timeout"] <= 2
        faults.downstream.latency = 0.0
        await assert_as_before(client)


async def test_f03_paused(valkey: Valkey, client: Client) -> None:
    valkey.pause(1500)
    answers = [await ask(client) for _ in range(50)]

    assert Counter(outcome for outcome, _ in answers) == {"timeout": 3, "unavailable": 47}
    await assert_as_before(client)


async def test_f04_flapping_makes_few_connections_and_ends_well(valkey: Valkey, client: Client) -> None:
    rounds = 5
    load = asyncio.create_task(under_load(client, rounds * 0.8))
    made = 0
    for _ in range(rounds):
        await asyncio.sleep(0.4)
        made += valkey.statistic("total_connections_received")
        valkey.kill()
        await asyncio.sleep(0.4)
        valkey.restart()
    answers = await load

    administrative = 10 * rounds
    assert made <= rounds * POOL + administrative
    tried = [outcome for outcome, _ in answers if outcome not in ("ok", "unavailable")]
    assert len(tried) <= rounds * 2 * POOL
    await assert_as_before(client)


async def test_f04_a_restarted_server_has_forgotten_the_scripts(valkey: Valkey, client: Client) -> None:
    valkey.restart()

    await assert_as_before(client)
    assert valkey.command_calls("eval") >= 1


# --- F05, F06: full, and everything else that a server says ---------------------------------------------------------


async def test_f05_full_is_down_for_writes_and_of_use_for_reads(valkey: Valkey, patient: Client) -> None:
    valkey.fill()

    writes = Counter(outcome for outcome, _ in [await ask(patient, SET) for _ in range(20)])
    reads = Counter(outcome for outcome, _ in [await ask(patient, GET) for _ in range(20)])

    assert writes == {"oom": 3, "unavailable": 17}
    assert reads == {"ok": 20}
    valkey.empty()
    await assert_as_before(patient)


async def refusals(client: Client, script: Script, count: int = 20) -> Counter[str]:
    """How calls one after the other ended."""
    return Counter(outcome for outcome, _ in [await ask(client, script) for _ in range(count)])


async def test_f06_readonly_closes_the_connections_since_the_name_may_mean_another_server_now(
    valkey: Valkey, patient: Client
) -> None:
    await asyncio.gather(*(ask(patient) for _ in range(8)))
    made = valkey.statistic("total_connections_received")
    valkey.config_set("replica-serve-stale-data", "yes")
    valkey.replica_of(1)  # nobody is there: it stays a replica without a master

    assert await refusals(patient, SET) == {"readonly": 3, "unavailable": 17}
    assert valkey.statistic("total_connections_received") - made >= 3
    valkey.replica_of(None)
    await assert_as_before(patient)


async def test_f06_loading(valkey: Valkey, patient: Client) -> None:
    valkey.restart_loading()

    outcomes = await refusals(patient, GET)
    assert set(outcomes) <= {"lost", "refused", "loading", "unavailable"}
    assert outcomes["unavailable"] >= 17
    await eventually(lambda: patient.outcomes("ping").get("loading", 0) > 0)
    valkey.restart()
    await assert_as_before(patient)


async def test_f06_busy_with_a_script_that_does_not_end(valkey: Valkey, patient: Client) -> None:
    valkey.be_busy()

    assert await refusals(patient, GET) == {"busy": 3, "unavailable": 17}
    await eventually(lambda: patient.outcomes("ping").get("busy", 0) > 0)
    valkey.end_busy()
    await assert_as_before(patient)


async def test_f06_unable_to_save(valkey: Valkey, patient: Client) -> None:
    valkey.fail_to_save()

    assert await refusals(patient, SET) == {"misconf": 3, "unavailable": 17}
    assert await refusals(patient, GET) == {"ok": 20}
    valkey.config_set("save", "")
    await assert_as_before(patient)


async def test_f06_a_password_that_we_do_not_have(valkey: Valkey, patient: Client) -> None:
    valkey.require_password("secret")
    await asyncio.sleep(0.02)  # for the farewell to arrive

    assert await refusals(patient, GET) == {"noauth": 3, "unavailable": 17}
    valkey.config_set("requirepass", "")
    await assert_as_before(patient)


async def test_f06_a_user_who_may_do_nothing(valkey: Valkey) -> None:
    valkey.command("ACL", "SETUSER", "nobody", "on", "nopass", "~*", "+ping", "+select")
    async with running_client(f"redis://nobody:x@127.0.0.1:{valkey.port}", timeout=LONG) as client:
        assert (await refusals(client, SET)).keys() == {"noperm", "unavailable"}


async def test_f06_a_key_of_another_type_is_nobody_elses_outage(valkey: Valkey, patient: Client) -> None:
    valkey.command("DEL", "key")
    valkey.command("LPUSH", "key", "not a string")

    assert await refusals(patient, GET) == {"wrongtype": 20}
    assert patient.redis.is_available


async def test_f06_no_more_clients(valkey: Valkey) -> None:
    async with running_client(valkey.unix_url, timeout=LONG) as client:
        valkey.config_set("maxclients", 2)
        answers = await asyncio.gather(*(ask(client, SET) for _ in range(POOL)))

        outcomes = Counter(outcome for outcome, _ in answers)
        assert set(outcomes) <= {"ok", "maxclients", "lost", "refused", "unavailable"}
        assert outcomes["maxclients"] + outcomes["lost"] > 0  # the server may hang up before its reason is read


# --- F07: cancelled at any point ------------------------------------------------------------------------------------


async def test_f07_ten_thousand_cancelled_commands_cross_no_answers(valkey: Valkey) -> None:
    keys = [b"key-%d" % number for number in range(100)]
    for key in keys:
        valkey.command("SET", key, b"value of " + key)
    picks = random.Random(7)
    async with (
        FaultProxy(valkey.port) as faults,
        running_client(f"redis://127.0.0.1:{faults.port}", timeout=LONG, max_connections=64) as client,
    ):
        faults.upstream.latency = faults.downstream.latency = 0.01
        mismatches = cancelled = 0

        async def read(key: bytes) -> None:
            nonlocal mismatches
            mismatches += await client.redis.run(GET, [key], []) != b"value of " + key

        while cancelled < 10_000:
            tasks = [asyncio.create_task(read(picks.choice(keys))) for _ in range(300)]
            loop = asyncio.get_running_loop()
            for task in tasks:
                loop.call_later(picks.random() * 0.05, task.cancel)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled += sum(isinstance(result, asyncio.CancelledError) for result in results)
            assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)

        faults.upstream.latency = faults.downstream.latency = 0.0
        await asyncio.gather(*(read(key) for key in keys * 10))
        assert mismatches == 0
        assert client.redis.is_available
        await eventually(lambda: valkey.clients() <= 64)


# --- F08: names -----------------------------------------------------------------------------------------------------


async def test_f08_no_part_of_a_key_reaches_another_tenants_keys(valkey: Valkey) -> None:
    async with (
        running_client(valkey.unix_url, timeout=LONG, prefix="one") as one,
        running_client(valkey.unix_url, timeout=LONG, prefix="other") as other,
    ):
        hostile = ["\r\nFLUSHALL\r\n", "../other", "other:limit:x", "*", "x" * 1_000_000, "\udcff", "{other}"]
        for identity in hostile:
            await one.redis.run(SET, [one.redis.key("limit", identity)], [b"one"])
            assert await other.redis.run(GET, [other.redis.key("limit", identity)], []) is None

        names = {bytes(key) for key in valkey.command_raw("KEYS", "*")} - {b"one:instances", b"other:instances"}
        assert len(names) == len(hostile)
        assert all(name.startswith(b"one:limit:~") and len(name) < 64 for name in names)
        for forbidden in ("flushall", "flushdb", "keys", "scan", "eval_ro"):
            assert valkey.command_calls(forbidden) == (forbidden == "keys"), forbidden


# --- F10, F11: what is left, and the clock --------------------------------------------------------------------------


async def test_f10_whatever_is_forgotten_or_flushed_heals_and_every_key_expires(
    valkey: Valkey, patient: Client
) -> None:
    valkey.flush()
    valkey.forget_scripts()

    await patient.redis.instances.beat()
    assert (await ask(patient, SET))[0] == "ok"
    for key in valkey.command_raw("KEYS", "*"):
        assert valkey.command("PTTL", key) > 0, key


async def test_f11_the_guard_and_the_budget_are_on_the_clock_that_is_given(valkey: Valkey) -> None:
    offset = 0.0

    def clock() -> float:
        return time.monotonic() + offset

    async with running_client(valkey.unix_url, timeout=LONG, clock=clock) as client:
        for step in (3600.0, -7200.0, 3600.0):
            offset += step
            assert (await refusals(client, SET, 5)) == {"ok": 5}


WITHOUT: dict[str, Callable[[Valkey], object]] = {
    "killed": Valkey.kill,
    "stopped": Valkey.stop_process,
    "full": Valkey.fill,
}


@pytest.mark.parametrize("fault", WITHOUT)
async def test_no_connections_or_tasks_are_left_after_many_faults(valkey: Valkey, fault: str) -> None:
    heal: dict[str, Callable[[], object]] = {
        "killed": valkey.restart,
        "stopped": valkey.continue_process,
        "full": valkey.empty,
    }
    async with running_client(valkey.unix_url) as client:
        for _ in range(3):
            WITHOUT[fault](valkey)
            await asyncio.gather(*(ask(client, SET) for _ in range(100)))
            heal[fault]()
            await assert_as_before(client)
    await eventually(lambda: valkey.clients() == 0)
