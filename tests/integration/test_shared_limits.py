"""Two sidecars before one API hold one limit together, also while Redis fails and comes back under load."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.aftermath import until_metric, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, get
from tests.support.settings import policies
from tests.support.upstream import ScriptedUpstream
from tests.support.valkey import Valkey, running_valkey
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("leak_check")

RATE, BURST = 100, 50
BOUND = 1.0
"""Seconds within which every answer is there: twenty times the budget that a request has for Redis."""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with running_valkey(tmp_path / "valkey") as server:
        yield server


@contextlib.asynccontextmanager
async def running_pair(url: str, *, timeout: str = "50ms", **limit: Any) -> AsyncIterator[list[RunningApp]]:
    """Two instances that know of each other. `timeout` is what a request may spend on Redis."""
    async with ScriptedUpstream(keep_bodies=False) as upstream, contextlib.AsyncExitStack() as stack:
        settings = {"rate": f"{RATE}/s", "burst": BURST, **limit}
        file = {
            **json.loads(policies(upstream.url, route={"rate_limit": settings})),
            "redis": {"url": url, "timeout": timeout},
        }
        pair = [await stack.enter_async_context(running_app(json.dumps(file))) for _ in range(2)]
        for each in pair:
            await until_metric(each, 2, "proxy_redis_instances")
        yield pair


class Load:
    """Clients of both instances that ask again and again, all from one address."""

    def __init__(self, pair: list[RunningApp]) -> None:
        self.pair = pair
        self.statuses: Counter[tuple[int, int]] = Counter()
        """By instance and status."""
        self.slowest = 0.0
        self.began = 0.0
        self.last_admitted = 0.0
        self._stopped = False

    @property
    def admitted(self) -> int:
        return sum(count for (_, status), count in self.statuses.items() if status == 200)

    @property
    def allowance(self) -> float:
        """What the limit lets pass from the first request to the last that passed."""
        return BURST + RATE * (self.last_admitted - self.began)

    def others(self) -> set[int]:
        """Statuses that are neither of the limit's two."""
        return {status for _, status in self.statuses} - {200, 429}

    @contextlib.asynccontextmanager
    async def running(self, pause: float) -> AsyncIterator[None]:
        self.began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for index in (0, 1, 0, 1):
                group.create_task(self._ask(index, pause))
            try:
                yield
            finally:
                self._stopped = True

    async def _ask(self, index: int, pause: float) -> None:
        async with RawClient(self.pair[index].port) as client:
            while not self._stopped:
                asked = time.monotonic()
                status = (await client.request("GET", "/")).status
                now = time.monotonic()
                self.slowest = max(self.slowest, now - asked)
                self.statuses[index, status] += 1
                if status == 200:
                    self.last_admitted = now
                await asyncio.sleep(pause)


async def until_used(pair: list[RunningApp], value: float) -> None:
    for each in pair:
        await until_metric(each, value, "proxy_redis_up")


async def test_two_sidecars_hold_one_limit_within_one_percent(valkey: Valkey) -> None:
    burst, rate = 600, 10  # what a slow machine is late by is a few requests, and less than one percent
    async with running_pair(valkey.url, timeout="2s", rate=f"{rate}/s", burst=burst) as pair:
        load = Load(pair)
        async with load.running(0.0):
            await eventually(lambda: all(load.statuses[index, 429] > 20 for index in (0, 1)), within=30.0)

        assert load.others() == set()
        assert load.admitted == pytest.approx(burst + rate * (load.last_admitted - load.began), rel=0.01)
        assert min(load.statuses[index, 200] for index in (0, 1)) > load.admitted / 5
        await wait_at_rest(pair[0])


FAULTS: dict[str, tuple[Callable[[Valkey], Any], Callable[[Valkey], Any]]] = {
    "killed": (Valkey.kill, Valkey.start),
    "stopped": (Valkey.stop_process, Valkey.continue_process),
    "full": (Valkey.fill, Valkey.empty),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_f01_f02_f05_loss_and_return_of_redis_cost_no_error_and_at_most_a_burst_each(
    valkey: Valkey, fault: str
) -> None:
    fail, recover = FAULTS[fault]
    async with running_pair(valkey.url) as pair:
        load = Load(pair)
        async with load.running(0.004):
            await asyncio.sleep(1)
            fail(valkey)
            await asyncio.sleep(1.5)
            during = load.admitted, time.monotonic()
            recover(valkey)
            await until_used(pair, 1)
            await asyncio.sleep(1)

        assert load.others() == set()
        assert load.slowest < BOUND
        assert during[0] <= BURST + RATE * (during[1] - load.began) + BURST
        assert load.admitted <= load.allowance + 2 * BURST
        assert load.admitted > load.allowance / 2
        for each in pair:
            assert await each.metric("proxy_policy_decisions_total", policy="rate_limit", decision="local") > 0


async def test_f04_restart_and_flush_under_load_give_no_second_burst(valkey: Valkey) -> None:
    async with running_pair(valkey.url) as pair:
        load = Load(pair)
        async with load.running(0.004):
            for _ in range(3):
                await asyncio.sleep(0.5)
                valkey.flush()
                await asyncio.sleep(0.5)
                valkey.restart()
                await until_used(pair, 1)

        assert load.others() == set()
        assert load.slowest < BOUND
        assert load.admitted <= load.allowance + BURST


async def test_f01_without_redis_from_the_start_each_sidecar_has_the_whole_limit(valkey: Valkey) -> None:
    valkey.kill()
    async with ScriptedUpstream() as upstream:
        file = {**json.loads(policies(upstream.url, route={"rate_limit": "3/hour"})), "redis": {"url": valkey.url}}
        async with running_app(json.dumps(file)) as app:
            statuses = [(await get(app.port, "/")).status for _ in range(5)]

    assert statuses == [200, 200, 200, 429, 429]


@pytest.mark.parametrize(("answer", "status"), [("open", 200), ("closed", 503)])
async def test_f01_route_says_what_happens_without_redis(valkey: Valkey, answer: str, status: int) -> None:
    async with running_pair(valkey.url, rate="1/hour", burst=1, on_store_error=answer) as pair:
        assert (await get(pair[0].port, "/")).status == 200
        assert (await get(pair[1].port, "/")).status == 429
        valkey.kill()
        for each in pair:
            await until_metric(each, 0, "proxy_redis_up")
        answers = [await get(pair[1].port, "/") for _ in range(3)]

        assert {each.status for each in answers} == {status}
        if answer == "closed":
            assert answers[0].json()["type"] == "urn:tidegate:problem:rate-limit-unavailable"
            assert answers[0].header("Retry-After") == "1"


async def test_shadow_counts_its_own_part_and_asks_nobody(valkey: Valkey) -> None:
    async with running_pair(valkey.url, rate="4/hour", burst=4, mode="shadow") as pair:
        answers = [await get(pair[0].port, "/") for _ in range(5)]

        assert {(each.status, each.header("RateLimit")) for each in answers} == {(200, None)}
        decided = {"policy": "rate_limit", "mode": "shadow", "decision": "limited"}
        assert await pair[0].metric("proxy_policy_decisions_total", **decided) == 3
        assert valkey.command("KEYS", "*:limit:*") == []


async def test_limit_outlives_a_sidecar(valkey: Valkey) -> None:
    async with ScriptedUpstream() as upstream:
        file = {**json.loads(policies(upstream.url, route={"rate_limit": "3/hour"})), "redis": {"url": valkey.url}}
        for statuses in ([200, 200], [200, 429], [429, 429]):
            async with running_app(json.dumps(file)) as app:
                await until_metric(app, 1, "proxy_redis_up")
                assert [(await get(app.port, "/")).status for _ in range(2)] == statuses


async def test_a_hundred_reloads_under_load_admit_nothing_extra() -> None:
    async with ScriptedUpstream(keep_bodies=False) as upstream:

        def file(number: int) -> str:
            words = ("local", "open", "closed")
            limit = {"rate": f"{RATE}/s", "burst": BURST, "on_store_error": words[number % 3]}
            return policies(upstream.url, route={"rate_limit": limit, "timeout": f"{number + 1}s"})

        async with running_app(file(0)) as app:
            load = Load([app, app])
            async with load.running(0.002):
                for number in range(100):
                    app.write_policies(file(number))
                    assert (await app.app.reload()).ok

            assert load.others() == set()
            assert load.admitted <= load.allowance + 1
