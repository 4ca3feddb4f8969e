"""Faults of worker processes: one dies (G02), one is blocked (G05). The others never notice."""

import asyncio
import json
import os
import signal
import time
from collections import Counter

import pytest

from proxy.workers.timing import Timing
from tests.support.aftermath import until_metric
from tests.support.client import RawClient, get
from tests.support.instance import Instance
from tests.support.settings import policies
from tests.support.sidecar import Sidecar
from tests.support.steps import delay, echo
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually
from tests.support.wire import WireEnded
from tests.support.workers import running_supervisor, until_ready, workers_of

TWO = {"workers": 2}
CLIENTS = 16
IMPATIENT = Timing(blocked=1.5, kill=4.0)
"""Otherwise 2 s and 10 s. Below that a busy machine could make a healthy worker look blocked."""


async def keep_asking(port: int, stop: asyncio.Event, outcomes: Counter[str]) -> int:
    """Requests on one kept connection, on a new one when it is lost. How often it was lost."""
    losses = 0
    while not stop.is_set():
        async with RawClient(port) as client:
            try:
                while not stop.is_set():
                    answer = await client.request("GET", "/")
                    outcomes["answered" if answer.status == 200 and answer.complete else "wrong"] += 1
            except WireEnded:
                losses += 1
    return losses


async def test_g02_killed_worker_loses_its_own_requests_and_nothing_else() -> None:
    outcomes: Counter[str] = Counter()
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url, server=TWO)) as sidecar:
        upstream.on("*", delay(0.005), echo())
        victim, survivor = await until_ready(sidecar, 2)
        stop = asyncio.Event()
        clients = [asyncio.ensure_future(keep_asking(sidecar.port, stop, outcomes)) for _ in range(CLIENTS)]
        await until_metric(sidecar, CLIENTS, "proxy_client_connections")
        await upstream.wait_until(lambda: len(upstream.requests) > 300)
        counted = await sidecar.metric("proxy_requests_total", route="everything")

        os.kill(victim, signal.SIGKILL)
        assert survivor in await until_ready(sidecar, 2, without=victim)
        assert await sidecar.metric("proxy_requests_total", route="everything") >= counted, "no sum goes back"
        before = outcomes["answered"]
        await eventually(lambda: outcomes["answered"] > before + 300)
        stop.set()
        losses = await asyncio.gather(*clients)

        assert outcomes["wrong"] == 0, outcomes
        assert all(lost <= 1 for lost in losses), "a client loses what is on its connection to the one that died"
        assert 0 < sum(losses) < CLIENTS, "those of the other worker lose nothing"
        assert await sidecar.metric("proxy_worker_restarts_total", reason="killed") == 1
        assert await sidecar.metric("proxy_worker_restarts_total") == 1
        assert await sidecar.stop() == 0
        assert waits_of(sidecar) == [0.0], "started again at once"


async def test_g02_sums_do_not_go_backwards_with_a_worker() -> None:
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url, server=TWO)) as sidecar:
        victim, _ = await until_ready(sidecar, 2)
        for _ in range(40):
            assert (await get(sidecar.port, "/")).status == 200
        assert await sidecar.metric("proxy_requests_total", status="2xx") == 40
        cpu = await sidecar.metric("process_cpu_seconds_total")

        os.kill(victim, signal.SIGKILL)
        await until_ready(sidecar, 2, without=victim)

        assert await sidecar.metric("proxy_requests_total", status="2xx") == 40
        assert await sidecar.metric("proxy_request_duration_seconds_count", route="everything") == 40
        assert await sidecar.metric("process_cpu_seconds_total") >= cpu
        assert await sidecar.metric("proxy_client_connections") == 0


async def test_g02_worker_that_keeps_dying_is_started_less_and_less_often() -> None:
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url, server=TWO)) as sidecar:
        victim, survivor = await until_ready(sidecar, 2)
        for _ in range(4):
            os.kill(victim, signal.SIGKILL)
            assert (await get(sidecar.port, "/")).status == 200
            victim = next(pid for pid in await until_ready(sidecar, 2, without=victim) if pid != survivor)

        await eventually(lambda: len(waits_of(sidecar)) == 4)
        assert waits_of(sidecar) == [0.0, 0.5, 1.0, 2.0]
        assert survivor in [worker["pid"] for worker in await workers_of(sidecar)]


def waits_of(sidecar: Sidecar) -> list[float]:
    """The waits before each start, from the log."""
    lines = [json.loads(line) for line in sidecar.stderr.splitlines()]
    return [line["wait"] for line in lines if line["message"] == "a worker has ended and is started again"]


async def test_g02_killed_supervisor_takes_its_workers_along_and_leaves_the_port_free() -> None:
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url, server=TWO)) as sidecar:
        pids = await until_ready(sidecar, 2)
        sidecar.signal(signal.SIGKILL)
        assert await sidecar.wait_exit() == -signal.SIGKILL
        await eventually(lambda: not any(is_alive(pid) for pid in pids))

        sidecar.start()
        await sidecar.wait_ready()
        assert (await get(sidecar.port, "/")).status == 200


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_g05_blocked_worker_is_seen_left_alone_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedUpstream() as upstream, running_supervisor(policies(upstream.url), timing=IMPATIENT) as app:
        victim, survivor = await until_ready(app, 2)
        os.kill(victim, signal.SIGSTOP)
        try:
            await asyncio.gather(*(_ask_anew(app) for _ in range(40)))
            await until_metric(app, 1, "proxy_workers", state="blocked")
            assert await app.metric("proxy_workers", state="ready") == 1
            readiness = await get(app.admin_port, "/readyz")
            assert (readiness.status, readiness.json()["ready"]) == (200, True)
            assert (await get(app.admin_port, "/routes")).status == 200
            await asyncio.gather(*(_ask_anew(app) for _ in range(40)))

            pids = await until_ready(app, 2, without=victim)
        finally:
            if is_alive(victim):
                os.kill(victim, signal.SIGKILL)
        assert survivor in pids
        assert await app.metric("proxy_worker_restarts_total", reason="blocked") == 1
        assert await app.metric("proxy_worker_restarts_total") == 1
        assert "a worker has ended and is started again" in caplog.text


async def _ask_anew(app: Instance) -> None:
    """On a new connection, as a client does that finds the old one dead."""
    assert (await get(app.port, "/")).status == 200


async def test_g05_supervisor_that_was_held_up_itself_blames_nobody() -> None:
    async with ScriptedUpstream() as upstream, running_supervisor(policies(upstream.url), timing=IMPATIENT) as app:
        pids = await until_ready(app, 2)
        time.sleep(IMPATIENT.kill + 1)  # noqa: ASYNC251 - the loop of the supervisor is this one
        await asyncio.sleep(1.0)  # four looks at the workers

        assert await until_ready(app, 2) == pids
        assert await app.metric("proxy_worker_restarts_total") == 0
