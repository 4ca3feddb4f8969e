"""Clients that vanish while they wait for a permit (fault C05)."""

import asyncio
import contextlib
import os
from random import Random

import pytest

from tests.support.aftermath import assert_unharmed, until_metric, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, get
from tests.support.settings import policies
from tests.support.steps import Gate, delay, hang, reply
from tests.support.upstream import ScriptedUpstream
from tests.support.wire import WireEnded

pytestmark = pytest.mark.both_loops

CYCLES = int(os.environ.get("TIDEGATE_DISCONNECTS", "1000"))
"""The catalogue's figure is 10,000."""
AT_ONCE = 20
QUEUED = "proxy_bulkhead_queued"
IN_USE = "proxy_bulkhead_in_use"


def bulkhead(upstream: ScriptedUpstream, permits: int) -> str:
    return policies(
        upstream.url, route={"bulkhead": {"max_concurrent": permits, "max_queued": 12, "queue_timeout": "10s"}}
    )


def leave(client: RawClient, how: str) -> None:
    match how:
        case "fin":
            client.wire.close()
        case "rst":
            client.reset()
        case "half-close":
            client.half_close()


async def all_back(app: RunningApp) -> None:
    await wait_at_rest(app)
    await until_metric(app, 0, IN_USE)
    await until_metric(app, 0, QUEUED)


@pytest.mark.parametrize("how", ["fin", "rst", "half-close"])
async def test_c05_client_that_vanishes_while_queued_leaves_the_queue(how: str) -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(bulkhead(upstream, 1)) as app:
        upstream.on("/held", gate, reply())
        held = asyncio.ensure_future(get(app.port, "/held"))
        await gate.reached.wait()
        async with RawClient(app.port) as client:
            await client.send_request("GET", "/gone")
            await until_metric(app, 1, QUEUED)
            follower = asyncio.ensure_future(get(app.port, "/follower"))
            await until_metric(app, 2, QUEUED)

            leave(client, how)
            await until_metric(app, 1, QUEUED)

        gate.open()
        assert [(await held).status, (await follower).status] == [200, 200]
        await all_back(app)
        assert upstream.hits("/gone") == 0
        assert await app.metric("proxy_requests_total", status="499") == 1
        await assert_unharmed(app)


@pytest.mark.parametrize("how", ["fin", "rst", "half-close"])
async def test_c05_permit_of_a_client_that_vanishes_goes_to_the_next(how: str) -> None:
    async with ScriptedUpstream() as upstream, running_app(bulkhead(upstream, 1)) as app:
        upstream.on("/hang", hang())
        async with RawClient(app.port) as client:
            await client.send_request("GET", "/hang")
            await upstream.wait_for_requests(1)
            follower = asyncio.ensure_future(get(app.port, "/follower"))
            await until_metric(app, 1, QUEUED)

            leave(client, how)

            assert (await follower).status == 200
        await all_back(app)


async def visit(app: RunningApp, random: Random) -> None:
    """Ask for something and leave at some point: most often from the queue, sometimes after the answer."""
    async with RawClient(app.port) as client:
        with contextlib.suppress(WireEnded):
            await client.send_request("GET", "/slow")
            await asyncio.sleep(random.random() * 0.03)
            leave(client, random.choice(["fin", "rst", "half-close"]))
            await asyncio.sleep(random.random() * 0.002)


async def test_c05_clients_that_vanish_from_the_queue_by_the_thousand_leave_nothing_behind() -> None:
    async with ScriptedUpstream(keep_bodies=False) as upstream, running_app(bulkhead(upstream, 3)) as app:
        upstream.on("/slow", delay(0.002), reply())
        randoms = [Random(seed) for seed in range(AT_ONCE)]
        for _ in range(CYCLES // AT_ONCE):
            await asyncio.gather(*(visit(app, random) for random in randoms))

        await all_back(app)
        assert await app.metric("proxy_bulkhead_wait_seconds_count") > 0
        assert await app.metric("proxy_errors_total", source="upstream") == 0
        await assert_unharmed(app)
