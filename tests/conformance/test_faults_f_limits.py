"""Faults F: the shared rate limit when Redis is gone, slow, full, empty, hostile or wrong about the time."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from proxy.config.policies import RateLimitConfig
from proxy.config.policy_types import ClientKey, Rate
from proxy.errors import RateLimitUnavailable
from proxy.exchange import Exchange
from proxy.policies.client_key import KeyReader
from proxy.resilience.gcra import Verdict
from proxy.resilience.limiter import LimiterState
from proxy.storage.limits import SharedLimits
from tests.support.exchange import make_exchange
from tests.support.redis_client import Client, running_client
from tests.support.valkey import Valkey, ValkeyCluster, running_valkey
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("leak_check")

BUDGET = 0.05
PATIENT = 10 * BUDGET
"""What the budget is held to on a busy machine."""
PROMPT = 0.01 * 10
"""The same for a decision without Redis, which takes microseconds."""
ME = (b"me",)


class Instance:
    """One sidecar's view of the limits of a route."""

    def __init__(
        self,
        client: Client,
        limits: tuple[RateLimitConfig, ...],
        clock: Callable[[], float] = time.monotonic,
        *,
        route: str = "search",
        prefix: str = "tidegate",
    ) -> None:
        self.redis = client.redis
        self.outcomes = client.outcomes
        state = LimiterState(limits, clock())
        self.shared = SharedLimits(self.redis, route, limits, state, clock=clock, prefix=prefix)

    async def take(self, keys: tuple[bytes, ...] = ME, exchange: Exchange | None = None) -> Verdict:
        return await self.shared.take(keys, exchange or make_exchange())

    async def passed(self, times: int, keys: tuple[bytes, ...] = ME) -> int:
        """How many of so many requests pass."""
        return sum([(await self.take(keys))[0] for _ in range(times)])

    def asked(self) -> int:
        """How often Redis was asked."""
        return sum(self.outcomes("gcra").values())


def limit(rate: str, **settings: Any) -> RateLimitConfig:
    return RateLimitConfig(rate=Rate.parse(rate), **settings)


@contextlib.asynccontextmanager
async def instance(
    url: str,
    *limits: RateLimitConfig | str,
    clock: Callable[[], float] = time.monotonic,
    route: str = "search",
    prefix: str = "tidegate",
) -> AsyncIterator[Instance]:
    """`limits` may be rates; the default is one of 20/hour."""
    configs = tuple(limit(each) if isinstance(each, str) else each for each in limits or ("20/hour",))
    async with running_client(url) as client:
        yield Instance(client, configs, clock, route=route, prefix=prefix)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with running_valkey(tmp_path / "valkey") as server:
        yield server


def decisions(exchange: Exchange) -> list[str]:
    return [each.decision for each in exchange.decisions or ()]


# --- the ordinary course --------------------------------------------------------------------------------------------


async def test_two_instances_hold_one_limit(valkey: Valkey) -> None:
    async with instance(valkey.url) as one, instance(valkey.url) as two:
        verdicts = [await each.take() for _ in range(10) for each in (one, two)]
        refused = [await each.take() for each in (one, two)]

    assert [verdict[2] for verdict in verdicts] == list(range(19, -1, -1))
    assert [verdict[:3] for verdict in refused] == [(False, 0, 0)] * 2
    assert refused[0][3] == pytest.approx(180, abs=5)


async def test_client_known_to_be_over_its_limit_costs_no_question(valkey: Valkey) -> None:
    async with instance(valkey.url, "5/hour") as one, instance(valkey.url, "5/hour") as two:
        assert await one.passed(5) == 5
        assert not (await two.take())[0]
        before = one.asked(), two.asked()

        assert await one.passed(100) == await two.passed(100) == 0

        assert (one.asked(), two.asked()) == before


async def test_all_limits_count_or_none(valkey: Valkey) -> None:
    async with instance(valkey.url, "2/hour", "10/hour") as one:
        assert await one.passed(9, (b"me", b"team")) == 2
        assert await one.passed(9, (b"you", b"team")) == 2
        assert (await one.take((b"she", b"team")))[:3] == (True, 0, 1)
        names = valkey.command("KEYS", "*limit*")

    assert len(names) == 4
    assert all(name.startswith(b"{tidegate:search}:limit:") for name in names)


async def test_several_limits_live_in_one_slot_of_a_cluster(tmp_path: Path) -> None:
    with ValkeyCluster(tmp_path) as cluster:
        async with instance(cluster.cluster_url, "2/hour", "10/hour") as two, instance(cluster.cluster_url) as one:
            assert await two.passed(5, (b"me", b"team")) == 2
            assert await one.passed(30) == 20
            assert two.outcomes("gcra") == {"ok": 2}


async def test_rate_is_held_over_time(valkey: Valkey) -> None:
    async with (
        instance(valkey.url, limit("100/s", burst=5)) as one,
        instance(valkey.url, limit("100/s", burst=5)) as two,
    ):
        began, passed = time.monotonic(), 0
        while time.monotonic() < began + 1:
            passed += sum([(await each.take())[0] for each in (one, two)])
            await asyncio.sleep(0)
        seconds = time.monotonic() - began

    assert passed <= 5 + 100 * seconds + 1


# --- F01 to F04: gone, silent, slow, empty --------------------------------------------------------------------------


async def test_f01_killed_redis_is_replaced_by_a_share(valkey: Valkey) -> None:
    async with instance(valkey.url) as one, instance(valkey.url):
        await eventually(lambda: one.redis.instances.count == 2)
        valkey.kill()

        exchange = make_exchange()
        assert (await one.take(exchange=exchange))[0]
        assert decisions(exchange) == ["local"]
        assert await one.passed(20) == 9
        assert exchange.store_seconds < PATIENT


async def test_f01_what_was_used_before_the_loss_stays_used(valkey: Valkey) -> None:
    async with instance(valkey.url) as one:
        assert await one.passed(15) == 15
        valkey.kill()

        assert await one.passed(20) == 5


async def test_f02_silent_redis_costs_few_requests_the_budget_and_then_none_anything(valkey: Valkey) -> None:
    async with instance(valkey.url, "1000/s") as one:
        await one.take()
        valkey.stop_process()
        try:
            times = []
            for _ in range(50):
                began = time.monotonic()
                assert (await one.take())[0]
                times.append(time.monotonic() - began)
            before = len(asyncio.all_tasks())
            crowd = await asyncio.gather(*(one.take() for _ in range(200)))
            assert all(verdict[0] for verdict in crowd)
            assert len(asyncio.all_tasks()) <= before + 1
        finally:
            valkey.continue_process()

    assert max(times) < PATIENT
    assert sorted(times)[-6] < PROMPT
    assert one.outcomes("gcra")["timeout"] <= 6


async def test_f03_slow_redis_is_waited_for_once_a_request(valkey: Valkey) -> None:
    async with instance(valkey.url) as one:
        await one.take()
        valkey.pause(300)
        exchange = make_exchange()

        began = time.monotonic()
        assert (await one.take(exchange=exchange))[0]
        assert (await one.take(exchange=exchange))[0]

        assert time.monotonic() - began < PATIENT
        assert decisions(exchange) == ["local", "local"]


async def test_f04_redis_that_comes_back_empty_gives_no_new_burst(valkey: Valkey) -> None:
    async with instance(valkey.url) as one, instance(valkey.url) as two:
        assert await one.passed(15) == 15
        valkey.restart()
        await eventually(lambda: one.redis.is_available and two.redis.is_available)

        assert await one.passed(3) == 3
        assert await two.passed(20) == 2


async def test_f04_forgotten_script_is_sent_again(valkey: Valkey) -> None:
    async with instance(valkey.url) as one:
        await one.take()
        valkey.forget_scripts()

        assert (await one.take())[:3] == (True, 0, 18)
        assert one.outcomes("gcra") == {"ok": 2}


async def test_f04_each_change_of_a_flapping_redis_admits_at_most_one_burst(valkey: Valkey) -> None:
    flaps = 3
    async with instance(valkey.url) as one:
        passed = await one.passed(10)
        for _ in range(flaps):
            valkey.kill()
            passed += await one.passed(30)
            valkey.start()
            await eventually(lambda: one.redis.is_available)
            passed += await one.passed(30)

    assert passed <= 21


# --- what is configured for it --------------------------------------------------------------------------------------


async def test_f01_open_limit_lets_all_pass_and_says_so(valkey: Valkey) -> None:
    async with instance(valkey.url, limit("1/hour", on_store_error="open")) as one:
        valkey.kill()
        exchange = make_exchange()

        assert [(await one.take(exchange=exchange))[:2] for _ in range(3)] == [(True, -1)] * 3
        assert decisions(exchange) == ["open"] * 3


async def test_f01_closed_limit_lets_nobody_pass(valkey: Valkey) -> None:
    async with instance(valkey.url, limit("9/hour", on_store_error="closed")) as one:
        assert (await one.take())[0]
        valkey.kill()
        exchange = make_exchange()

        with pytest.raises(RateLimitUnavailable) as caught:
            await one.take(exchange=exchange)

    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    assert decisions(exchange) == ["closed"]


async def test_f01_each_limit_has_its_own_way_without_redis(valkey: Valkey) -> None:
    async with instance(valkey.url, limit("1/hour", on_store_error="open"), "2/hour") as one:
        valkey.kill()

        assert [(await one.take((b"a", b"b")))[:2] for _ in range(3)] == [(True, 1), (True, 1), (False, 1)]


async def test_f01_part_of_a_limit_does_not_outlast_the_loss(valkey: Valkey) -> None:
    """With a burst of one, a part lets a client wait for as many intervals as there are instances."""
    clock = [time.monotonic()]
    async with instance(valkey.url, "1/min", clock=lambda: clock[0]) as one, instance(valkey.url):
        await eventually(lambda: one.redis.instances.count == 2)
        valkey.kill()
        assert await one.passed(3) == 1
        valkey.start()
        await eventually(lambda: one.redis.is_available)

        assert 55 < (await one.take())[3] < 61
        clock[0] += 61
        assert await one.passed(3) == 1


async def test_shadow_counts_by_itself_and_never_asks(valkey: Valkey) -> None:
    async with instance(valkey.url, "4/hour") as one, instance(valkey.url):
        await eventually(lambda: one.redis.instances.count == 2)

        assert [one.shared.estimate(ME)[0] for _ in range(3)] == [True, True, False]
        assert one.asked() == 0


# --- F05, F06: no memory, no writes, no sense -----------------------------------------------------------------------


async def test_f05_full_redis_is_replaced_until_it_has_room(valkey: Valkey) -> None:
    async with instance(valkey.url) as one:
        assert await one.passed(5) == 5
        valkey.fill()
        assert await one.passed(5) == 5
        assert one.outcomes("gcra")["oom"] >= 1
        valkey.empty()
        await eventually(lambda: one.redis.is_available)

        before = one.outcomes("gcra")["ok"]
        assert await one.passed(20) == 10
        assert one.outcomes("gcra")["ok"] > before


def take_all_connections(valkey: Valkey, until: contextlib.ExitStack) -> None:
    client = until.enter_context(valkey.client())
    client.config_set("maxclients", 1)
    client.client_kill_filter(_type="normal", skipme=True)


def be_busy(valkey: Valkey, until: contextlib.ExitStack) -> None:
    valkey.be_busy()
    until.callback(valkey.end_busy)


REFUSALS: dict[str, Callable[[Valkey, contextlib.ExitStack], None]] = {
    "readonly": lambda valkey, _: valkey.replica_of(1),
    "misconf": lambda valkey, _: valkey.fail_to_save(),
    "noauth": lambda valkey, _: valkey.require_password("secret"),
    "busy": be_busy,
    "maxclients": take_all_connections,
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_f06_redis_that_refuses_is_replaced(valkey: Valkey, refusal: str) -> None:
    async with instance(valkey.url) as one:
        assert await one.passed(5) == 5
        with contextlib.ExitStack() as until:
            await asyncio.to_thread(REFUSALS[refusal], valkey, until)
            exchange = make_exchange()
            began = time.monotonic()
            verdicts = [await one.take(exchange=exchange) for _ in range(20)]
            seconds = time.monotonic() - began

    assert sum(verdict[0] for verdict in verdicts) == 15
    assert "local" in decisions(exchange)
    assert seconds < PATIENT
    assert refusal in one.outcomes("gcra")


async def test_f06_key_that_holds_something_else_is_replaced_for_its_client_only(valkey: Valkey) -> None:
    async with instance(valkey.url) as one:
        await one.take()
        (name,) = valkey.command("KEYS", "*limit*")
        valkey.command("DEL", name)
        valkey.command("LPUSH", name, "x")

        exchange = make_exchange()
        assert (await one.take(exchange=exchange))[0]
        assert decisions(exchange) == ["local"]
        other = make_exchange()
        assert (await one.take((b"you",), other))[0]
        assert decisions(other) == []


@pytest.mark.parametrize("value", ["", "x", "nan", "-nan", "inf", "-inf", "1e999", "0x10", "-5", "9" * 400])
async def test_f10_key_with_a_senseless_value_heals_within_a_window(valkey: Valkey, value: str) -> None:
    async with instance(valkey.url, "1/s") as one, instance(valkey.url, "1/s") as two:
        await one.take((b"x",))
        (name,) = valkey.command("KEYS", "*limit*")
        valkey.command("SET", name, value)

        async with asyncio.timeout(10):
            while not (await two.take((b"x",)))[0]:  # noqa: ASYNC110 - nothing here can set an event
                await asyncio.sleep(0.05)
        assert 0 < valkey.command("PTTL", name) <= 1000


# --- F08, F10, F11: keys, life times, clocks ------------------------------------------------------------------------


async def test_f08_hostile_identities_become_plain_keys(valkey: Valkey) -> None:
    reader = KeyReader([ClientKey.parse("header:X-User")])
    users = [b"x" * 1_000_000, b"}{tidegate:search}", b"* \r\nFLUSHALL\r\n", bytes(range(0x80, 0x100)), b"a:b", b"a"]
    async with instance(valkey.url, "1/hour") as one:
        for user in users:
            key = reader.read(make_exchange(headers=[(b"X-User", user)]))
            assert await one.passed(2, (key,)) == 1
        names = valkey.command("KEYS", "*limit*")

    assert len(names) == len(users)
    assert all(name.decode().startswith("tidegate:search:limit:1:") and len(name) == 56 for name in names)
    assert valkey.command_calls("flushall") == 0


async def test_f08_prefixes_and_routes_are_worlds_apart(valkey: Valkey) -> None:
    for prefix, route in product(("green", "blue"), ("search", "detail")):
        async with instance(valkey.url, "1/hour", prefix=prefix, route=route) as one:
            assert await one.passed(2) == 1


async def test_f10_every_key_expires_when_it_is_over(valkey: Valkey) -> None:
    async with instance(valkey.url, "20/min", "1000/hour") as one:
        await one.passed(3, (b"me", b"me"))
        lives = sorted(valkey.command("PTTL", name) for name in valkey.command("KEYS", "*limit*"))

    assert 8_000 < lives[0] <= 9_000
    assert 9_800 < lives[1] <= 10_800


async def test_f10_flush_is_made_good_by_who_remembers(valkey: Valkey) -> None:
    async with instance(valkey.url) as one, instance(valkey.url) as two:
        assert await one.passed(12) == 12
        valkey.flush()

        assert await one.passed(1) == 1
        assert await two.passed(20) == 7


@pytest.mark.parametrize("hours", [1, -1])
async def test_f11_step_of_the_clock_of_redis_locks_nobody_out(valkey: Valkey, hours: int) -> None:
    """What is written by a clock that is then set is, for the clock after it, that much in the future or the past."""
    now = [time.monotonic()]
    async with instance(valkey.url, "10/min") as one, instance(valkey.url, "10/min", clock=lambda: now[0]) as two:
        await one.take()
        (name,) = valkey.command("KEYS", "*limit*")
        valkey.command("SET", name, int(valkey.command("GET", name)) + hours * 3_600_000_000)

        allowed, _, _, seconds = await two.take()

        assert seconds <= 60
        assert 0 < valkey.command("PTTL", name) <= 60_000
        assert allowed == (hours < 0)
        if hours < 0:
            assert await two.passed(20) == 9
        else:
            ahead = int(valkey.command("GET", name)) - int(time.time() * 1e6)
            assert ahead <= 61_000_000


@pytest.mark.parametrize("offset", [-3600.0, 3600.0])
async def test_f11_instances_with_different_clocks_hold_one_limit(valkey: Valkey, offset: float) -> None:
    async with instance(valkey.url) as one, instance(valkey.url, clock=lambda: time.monotonic() + offset) as two:
        assert await one.passed(10) == 10
        assert await two.passed(20) == 10
        assert (await one.take())[3] == pytest.approx((await two.take())[3], abs=5)


async def test_cancelled_question_leaves_nothing_behind(valkey: Valkey) -> None:
    async with instance(valkey.url) as one:
        await one.take()
        valkey.stop_process()
        try:
            task = asyncio.ensure_future(one.take())
            await asyncio.sleep(0.005)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        finally:
            valkey.continue_process()

        assert (await one.take((b"you",)))[0]
