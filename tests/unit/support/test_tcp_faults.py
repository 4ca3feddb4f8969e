"""Each fault does what its name says, and stops doing it."""

import asyncio

import pytest

from tests.support.client import RawClient, get
from tests.support.steps import reply
from tests.support.tcp_faults import FaultProxy
from tests.support.upstream import ScriptedUpstream
from tests.support.wire import WireEnded

pytestmark = pytest.mark.both_loops


async def test_passes_everything_on_when_no_fault_is_set() -> None:
    async with ScriptedUpstream() as upstream, FaultProxy(upstream.port) as faults:
        upstream.on("/x", reply(200, body=b"x" * 1_000_000))

        assert (await get(faults.port, "/x")).body == b"x" * 1_000_000
        assert await upstream.wait_closed() == "fin"


async def test_stalled_stream_holds_bytes_back_until_it_flows() -> None:
    async with ScriptedUpstream() as upstream, FaultProxy(upstream.port) as faults:
        faults.downstream.stall()
        async with RawClient(faults.port) as client:
            await client.send_request("GET", "/x")
            await upstream.wait_for_requests(1)
            assert await client.ended_within(0.1) == "open"
            assert client.unread == b""

            faults.downstream.flow()
            assert (await client.read_response()).status == 200


async def test_latency_and_bandwidth_take_time() -> None:
    async with ScriptedUpstream() as upstream, FaultProxy(upstream.port) as faults:
        upstream.on("/x", reply(200, body=b"x" * 10_000))
        loop = asyncio.get_running_loop()
        start = loop.time()
        faults.upstream.latency = 0.05
        faults.downstream.bandwidth = 100_000
        faults.downstream.slicer = 1000

        await get(faults.port, "/x")

        assert loop.time() - start >= 0.15


async def test_reset_peer_reaches_both_sides() -> None:
    async with ScriptedUpstream() as upstream, FaultProxy(upstream.port) as faults, RawClient(faults.port) as client:
        await client.request("GET", "/x")

        faults.reset_peer()

        assert await client.ended_within() == "rst"
        assert await upstream.wait_closed() == "rst"


async def test_limit_data_cuts_the_answer() -> None:
    async with ScriptedUpstream() as upstream, FaultProxy(upstream.port) as faults:
        upstream.on("/x", reply(200, body=b"x" * 1000))
        faults.downstream.limit_data = 500

        answer = await get(faults.port, "/x")

        assert not answer.complete
        assert len(answer.raw) == 500


async def test_half_close_leaves_the_other_direction_open() -> None:
    async with ScriptedUpstream() as upstream, FaultProxy(upstream.port) as faults, RawClient(faults.port) as client:
        await client.request("GET", "/1")

        faults.half_close()

        assert await client.ended_within() == "fin"
        await client.send_request("GET", "/2")
        await upstream.wait_for_requests(2)


async def test_down_refuses_and_up_accepts_again_on_the_same_port() -> None:
    async with ScriptedUpstream() as upstream, FaultProxy(upstream.port) as faults:
        await faults.down()
        with pytest.raises(ConnectionRefusedError):
            await get(faults.port, "/x")

        await faults.up()
        assert (await get(faults.port, "/x")).status == 200


async def test_nothing_listens_behind_the_proxy() -> None:
    async with ScriptedUpstream() as upstream, FaultProxy(upstream.port) as faults:
        await upstream.stop()

        with pytest.raises((WireEnded, ConnectionError)):
            await get(faults.port, "/x")
