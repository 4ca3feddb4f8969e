"""Several workers, each with a memory of its own: what one has changed no other sends on."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.client import RawClient, fetch, get
from tests.support.settings import policies
from tests.support.steps import Turn, reply
from tests.support.upstream import ScriptedUpstream
from tests.support.workers import RunningSupervisor, running_supervisor, until_ready

ROUTES: list[dict[str, Any]] = [
    {"name": "details", "match": "GET /properties/{id}", "cache": {"ttl": "1h", "tags": ["property:{id}"]}},
    {"name": "update", "match": "PUT /properties/{id}", "invalidate": "property:{id}"},
]


class Site:
    def __init__(self, app: RunningSupervisor, upstream: ScriptedUpstream) -> None:
        self.app = app
        self.upstream = upstream

    async def fill_all(self, target: str) -> None:
        """Ask on new connections until every worker has it."""
        async with asyncio.timeout(20):
            while len({each["worker"] for each in (await self.entry(target))["entries"]}) < 2:
                await get(self.app.port, target)

    async def purge(self, query: str) -> dict[str, Any]:
        """Purge until all workers have taken it in time: on a busy machine one may be late."""
        async with asyncio.timeout(20):
            while True:
                answer = await fetch(self.app.admin_port, "POST", f"/purge?{query}")
                assert answer.status == 200
                if answer.json()["complete"]:
                    return dict(answer.json())

    async def entry(self, target: str) -> dict[str, Any]:
        return dict((await get(self.app.admin_port, f"/cache/entry?url={target}")).json())

    async def caches(self) -> list[dict[str, Any]]:
        return list((await get(self.app.admin_port, "/cache")).json()["caches"])


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with ScriptedUpstream() as upstream:

        async def step(turn: Turn) -> None:
            await reply(200, {}, b"answer %d" % len(upstream.requests))(turn)

        upstream.on("*", step)
        async with running_supervisor(policies(upstream.url, routes=ROUTES, server={"workers": 2})) as app:
            yield Site(app, upstream)


async def test_mutation_through_one_worker_is_heard_by_all_before_its_client_has_the_answer(site: Site) -> None:
    for round_ in range(5):
        await site.fill_all("/properties/1")

        assert (await fetch(site.app.port, "PUT", "/properties/1", body=b"new")).status == 200

        entries = (await site.entry("/properties/1"))["entries"]
        assert [each["validity"] for each in entries] == ["invalid", "invalid"], round_
        before = len(site.upstream.requests)
        bodies = {(await get(site.app.port, "/properties/1")).body for _ in range(12)}
        assert all(int(body.split()[1]) > before for body in bodies)
    assert await site.app.metric("proxy_cache_purges_total", cause="mutation") == 5


async def test_purge_reaches_every_worker(site: Site) -> None:
    await site.fill_all("/properties/1")
    await site.fill_all("/properties/2")

    answer = await site.purge("tag=property:1")

    assert answer == {"tags": ["property:1"], "level": "hard", "complete": True}
    assert (await site.entry("/properties/1"))["entries"] == []
    assert len((await site.entry("/properties/2"))["entries"]) == 2

    await site.purge("all=true")
    assert [cache["entries"] for cache in await site.caches()] == [0, 0]


async def test_wish_that_makes_no_sense_is_refused_as_by_one_process(site: Site) -> None:
    answer = await fetch(site.app.admin_port, "POST", "/purge?tag=a%3Db")

    assert (answer.status, answer.json()["detail"]) == (400, "a tag has no `=`; write %3D where a word holds one")


async def test_caches_of_all_workers_are_shown(site: Site) -> None:
    await site.fill_all("/properties/1")

    caches = await site.caches()

    assert [(cache["worker"], cache["entries"], cache["max_bytes"]) for cache in caches] == [
        (0, 1, 32 * 1024 * 1024),
        (1, 1, 32 * 1024 * 1024),
    ]
    assert (await site.entry("/properties/9"))["reason"] == "Nothing is stored for it."
    assert (await fetch(site.app.admin_port, "POST", "/warm")).status == 404


async def test_worker_that_is_stopped_holds_nobody_up_and_sends_nothing_outdated_when_it_goes_on(site: Site) -> None:
    await site.fill_all("/properties/1")
    stopped, running = await until_ready(site.app, 2)
    os.kill(stopped, signal.SIGSTOP)
    try:
        began = time.monotonic()
        # The port is shared: a connection that the stopped worker has taken is not answered.
        while True:
            async with RawClient(site.app.port) as client:
                try:
                    async with asyncio.timeout(1.0):
                        answer = await client.request("PUT", "/properties/1", body=b"new")
                except TimeoutError:
                    continue
            assert answer.status == 200
            break
        assert time.monotonic() - began < 30
    finally:
        os.kill(stopped, signal.SIGCONT)
    async with asyncio.timeout(10):
        while True:
            entries = (await site.entry("/properties/1"))["entries"]
            if len(entries) == 2 and {each["validity"] for each in entries} == {"invalid"}:
                break
            await asyncio.sleep(0.02)
    assert running


async def test_worker_that_is_started_again_is_told_as_well(site: Site) -> None:
    first, _ = await until_ready(site.app, 2)
    os.kill(first, signal.SIGKILL)
    await until_ready(site.app, 2, without=first)
    await site.fill_all("/properties/1")

    await site.purge("all=true")

    assert (await site.entry("/properties/1"))["entries"] == []


async def test_all_workers_are_warmed_and_share_the_rate() -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/properties", reply(200, {"Content-Type": "application/json"}, b'[{"id": 1}, {"id": 2}]'))
        upstream.on("*", reply(200, {}, b"x"))
        file = policies(upstream.url, routes=[*ROUTES, {"name": "rest", "match": "* /*"}])
        warm = ', "cache": {"warm": {"from": "/properties", "rate": "100/s", "ready": true}}}'
        async with running_supervisor(file.removesuffix("}") + warm) as app:
            async with asyncio.timeout(10):
                while True:
                    caches = (await get(app.admin_port, "/cache")).json()["caches"]
                    if [cache["warm"]["state"] for cache in caches] == ["ended"] * 2:
                        break
                    await asyncio.sleep(0.02)
            assert [(cache["warm"]["done"], cache["entries"]) for cache in caches] == [(2, 2)] * 2
            assert (await fetch(app.admin_port, "POST", "/warm")).status == 202
