"""A log that nobody reads holds up no request (fault G06)."""

import asyncio
import contextlib
import os

from tests.support.aftermath import assert_unharmed
from tests.support.client import RawClient, get
from tests.support.settings import policies
from tests.support.sidecar import Sidecar
from tests.support.steps import reply
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually


async def test_g06_pipe_that_is_not_read_costs_lines_and_no_requests() -> None:
    """A FIFO stands for stdout: it takes 64 KiB and then nothing."""
    async with ScriptedUpstream() as upstream, contextlib.AsyncExitStack() as stack:
        upstream.on("*", reply(200))
        sidecar = Sidecar(policies(upstream.url))
        stack.push_async_exit(sidecar)
        fifo = sidecar.folder / "log"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        stack.callback(os.close, reader)
        sidecar.write_policies(policies(upstream.url, server={"access_log": str(fifo)}))
        sidecar.start()
        await sidecar.wait_ready()

        long = "/" + "x" * 2047  # the longest path that a line takes
        async with RawClient(sidecar.port) as client:
            async with asyncio.timeout(50):
                while not await sidecar.metric("proxy_access_log_dropped_total"):
                    for _ in range(200):
                        assert (await client.request("GET", long)).status == 200
        assert await sidecar.metric("proxy_loop_lag_max_seconds") < 1
        assert (await get(sidecar.admin_port, "/readyz")).status == 200
        assert await sidecar.stop() == 0


async def test_g06_full_disk_costs_lines_and_no_requests() -> None:
    async with ScriptedUpstream() as upstream:
        settings = policies(upstream.url, server={"access_log": "/dev/full"})
        async with Sidecar(settings) as sidecar:
            await assert_unharmed(sidecar)
            async with asyncio.timeout(10):
                while await sidecar.metric("proxy_access_log_dropped_total") < 2:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
            await eventually(lambda: "dropped" in sidecar.stderr)
            assert sidecar.stderr.count("\n") < 5
