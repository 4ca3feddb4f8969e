"""Too many connections: over our own limit, over the operating system's, and storms of them (faults C06 and C07)."""

import asyncio
import contextlib
import os
import resource

import pytest

from tests.support.aftermath import assert_unharmed, until_metric, wait_at_rest
from tests.support.app import running_app
from tests.support.client import RawClient, get
from tests.support.settings import policies
from tests.support.sidecar import Sidecar
from tests.support.steps import Gate, reply
from tests.support.upstream import ScriptedUpstream
from tests.support.wire import WireEnded

STORM = int(os.environ.get("TIDEGATE_STORM", "1500"))
"""Connections; the catalogue's figure is 60,000."""


async def test_c06_oldest_idle_connection_makes_room_for_a_new_one() -> None:
    server = {"limits": {"max_connections": 3}}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=server)) as app:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(RawClient(app.port)) for _ in range(3)]
            for client in clients:
                assert (await client.request("GET", "/")).status == 200

            newcomer = await stack.enter_async_context(RawClient(app.port))
            assert (await newcomer.request("GET", "/")).status == 200

            assert await clients[0].ended_within() == "fin"
            for client in clients[1:]:
                assert (await client.request("GET", "/")).status == 200
        assert await app.metric("proxy_client_connections_refused_total") == 0


async def test_c06_connection_over_the_limit_is_refused_when_all_are_busy() -> None:
    server = {"limits": {"max_connections": 2}}
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=server)) as app:
        upstream.on("/busy", gate, reply(200))
        async with RawClient(app.port) as first, RawClient(app.port) as second:
            await first.send_request("GET", "/busy")
            await second.send_request("GET", "/busy")
            await upstream.wait_for_requests(2)
            with pytest.raises(WireEnded):
                await get(app.port, "/refused")
            assert await app.metric("proxy_client_connections_refused_total") == 1

            gate.open()
            assert (await first.read_response()).status == (await second.read_response()).status == 200
            assert (await get(app.port, "/welcome")).status == 200
        assert upstream.hits("/refused") == 0


async def test_c06_idle_connections_are_cheap_and_a_storm_of_new_ones_leaves_nothing() -> None:
    server = {"limits": {"max_connections": 500}}
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url, server=server)) as sidecar:
        await assert_unharmed(sidecar)
        fds, rss = sidecar.fds(), sidecar.rss()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(490):
                await stack.enter_async_context(RawClient(sidecar.port))
            await until_metric(sidecar, 490, "proxy_client_connections")
            assert (sidecar.rss() - rss) / 490 < 20_000

            for number in range(STORM):
                client = await RawClient(sidecar.port).connect()
                if number % 2:
                    client.reset()
                await client.close()
                if number % 100 == 0:
                    assert (await get(sidecar.port, "/canary")).status == 200
        await wait_at_rest(sidecar)
        await until_metric(sidecar, 0, "proxy_client_connections")
        assert sidecar.fds() <= fds + 2
        assert "Traceback" not in sidecar.stderr


@pytest.mark.both_loops
async def test_c07_without_file_descriptors_live_requests_finish_and_service_returns() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url)) as sidecar:
        upstream.on("/live", gate, reply(200, body=b"alive"))
        resource.prlimit(sidecar.pid, resource.RLIMIT_NOFILE, (256, 256))
        async with RawClient(sidecar.port) as live:
            await live.send_request("GET", "/live")
            await upstream.wait_for_requests(1)
            crowd = await asyncio.gather(*(RawClient(sidecar.port).connect() for _ in range(400)))
            busy = sidecar.cpu_seconds()
            await asyncio.sleep(1)
            assert sidecar.cpu_seconds() - busy < 0.7, "spins"

            gate.open()
            assert (await live.read_response()).body == b"alive"
            await asyncio.gather(*(client.close() for client in crowd))
            await _until_served(sidecar)
            await wait_at_rest(sidecar)
            assert await sidecar.metric("process_max_fds") == 256, "what an alert compares process_open_fds with"
        noise = [line for line in sidecar.stderr.splitlines() if "out of system resource" not in line]
        assert not any("Traceback" in line for line in noise)
        assert sidecar.stderr.count("\n") < 50


async def _until_served(sidecar: Sidecar) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(OSError):
                if (await get(sidecar.port, "/again")).status == 200:
                    return
            await asyncio.sleep(0.05)
