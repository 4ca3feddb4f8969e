"""Clients that leave at any point of an exchange (fault C05)."""

import asyncio
import contextlib
import os
from random import Random

import pytest

from tests.support.aftermath import assert_unharmed, until_metric, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, request_bytes
from tests.support.leaks import open_fds
from tests.support.settings import policies
from tests.support.steps import endless, hang, head, read_body
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually
from tests.support.wire import WireEnded

pytestmark = pytest.mark.both_loops

CYCLES = int(os.environ.get("TIDEGATE_DISCONNECTS", "1000"))
"""The catalogue's figure is 10,000."""
AT_ONCE = 20
UPSTREAM_CONNECTIONS = 12
"""Fewer than clients, so that some leave while they queue."""

REQUESTS = {
    "waiting": request_bytes("GET", "/hang"),
    "downloading": request_bytes("GET", "/download"),
    "uploading": request_bytes("POST", "/upload", {"Content-Length": "100000000"}, b"x" * 70_000),
    "chunked": request_bytes("POST", "/upload", {"Transfer-Encoding": "chunked"}, b"5\r\nhello\r\n"),
    "half a head": b"GET /never HTTP/1.1\r\nHost: lo",
    "pipelining": request_bytes("GET", "/hang") * 3,
}


def scripted() -> ScriptedUpstream:
    upstream = ScriptedUpstream(keep_bodies=False)
    upstream.on("/hang", hang())
    upstream.on("/download", head(200, {"Transfer-Encoding": "chunked"}), endless(b"ffff\r\n" + b"x" * 65535 + b"\r\n"))
    upstream.on("/upload", read_body(), early=True)
    return upstream


def leave(client: RawClient, how: str) -> None:
    match how:
        case "fin":
            client.wire.close()
        case "rst":
            client.reset()
        case "half-close":
            client.half_close()


async def visit(app: RunningApp, random: Random) -> None:
    """Begin an exchange and leave it at some point."""
    async with RawClient(app.port) as client:
        stage = random.choice([*REQUESTS])
        with contextlib.suppress(WireEnded):
            message = REQUESTS[stage]
            cut = random.randrange(1, len(message) + 1) if random.random() < 0.2 else len(message)
            await client.send(message[:cut])
            await asyncio.sleep(random.random() * 0.02)
            leave(client, random.choice(["fin", "rst", "half-close"]))
            await asyncio.sleep(random.random() * 0.002)


async def test_c05_clients_that_vanish_anywhere_leave_nothing_behind() -> None:
    async with scripted() as upstream:
        settings = policies(upstream.url, options={"max_connections": UPSTREAM_CONNECTIONS, "connect_timeout": "5s"})
        async with running_app(settings) as app:
            await assert_unharmed(app)
            tasks, fds = len(asyncio.all_tasks()), open_fds()
            randoms = [Random(seed) for seed in range(AT_ONCE)]
            for _ in range(CYCLES // AT_ONCE):
                await asyncio.gather(*(visit(app, random) for random in randoms))

            await wait_at_rest(app)
            await eventually(lambda: len(asyncio.all_tasks()) <= tasks + UPSTREAM_CONNECTIONS)
            await eventually(lambda: open_fds() <= fds + 2 * UPSTREAM_CONNECTIONS)
            assert await app.metric("proxy_client_connections") == 0
            assert await app.metric("proxy_errors_total", source="upstream") == 0
            await assert_unharmed(app)
        assert not upstream.hits("/never")


@pytest.mark.parametrize("how", ["fin", "rst", "half-close"])
@pytest.mark.parametrize("stage", ["waiting", "downloading", "uploading", "chunked"])
async def test_c05_work_for_a_client_that_left_ends_at_once(stage: str, how: str) -> None:
    async with scripted() as upstream, running_app(policies(upstream.url)) as app, RawClient(app.port) as client:
        await client.send(REQUESTS[stage])
        (request,) = await upstream.wait_for_requests(1)
        if stage in ("uploading", "chunked"):
            await upstream.wait_until(lambda: request.body_length > 0)
        if stage == "downloading":
            client.stop_reading()
        leave(client, how)

        await upstream.wait_closed(1)
        await wait_at_rest(app)
        (line,) = await app.access_log()
        assert line["status"] == 499


async def test_c05_client_that_leaves_the_queue_gives_up_its_place() -> None:
    async with scripted() as upstream:
        settings = policies(upstream.url, options={"max_connections": 1, "connect_timeout": "30s"})
        async with running_app(settings) as app, RawClient(app.port) as first, RawClient(app.port) as queued:
            await first.send_request("GET", "/hang")
            await upstream.wait_for_requests(1)
            await queued.send_request("GET", "/queued")
            await until_metric(app, 1, "proxy_upstream_pool_waiting")

            queued.reset()
            await until_metric(app, 0, "proxy_upstream_pool_waiting")
            first.reset()
            await wait_at_rest(app)
            await assert_unharmed(app)
        assert upstream.hits("/queued") == 0
