"""The end of the process: nothing is lost, and nothing takes longer than it may (fault G01)."""

import asyncio
import contextlib
import signal
import time
from collections import Counter

import pytest

from tests.support.client import RawClient, get
from tests.support.messages import Response
from tests.support.settings import policies
from tests.support.sidecar import Sidecar
from tests.support.steps import Gate, chunk, delay, echo, hang, head, last_chunk, reply
from tests.support.upstream import ScriptedUpstream
from tests.support.wire import WireEnded

CHUNKED = {"Transfer-Encoding": "chunked"}


async def keep_asking(port: int, pause: float, outcomes: Counter[str]) -> None:
    """Requests on one kept connection, as a client pool does it: on a new one when told to close, until refused."""
    while True:
        try:
            client = await RawClient(port).connect()
        except ConnectionError:
            return
        try:
            if not await _ask_until_told_to_close(client, pause, outcomes):
                return
        finally:
            await client.close()


async def _ask_until_told_to_close(client: RawClient, pause: float, outcomes: Counter[str]) -> bool:
    while client.wire.ended == "open":
        try:
            answer = await client.request("GET", "/")
        except WireEnded:
            outcomes["lost"] += 1
            return False
        outcomes["answered" if answer.complete and answer.status == 200 else "lost"] += 1
        if answer.header("Connection") == "close":
            outcomes["told to close"] += 1
            return True
        await asyncio.sleep(pause)
    return True


async def test_g01_sigterm_at_load_loses_nothing() -> None:
    """200 requests a second on 20 kept connections, and five streams that go on for a while."""
    gate = Gate()
    outcomes: Counter[str] = Counter()
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url)) as sidecar:
        upstream.on("/", delay(0.005), echo())
        upstream.on("/stream", head(200, CHUNKED), chunk(b"first"), gate, chunk(b"last"), last_chunk())
        streams = [asyncio.ensure_future(get(sidecar.port, "/stream")) for _ in range(5)]
        clients = [asyncio.ensure_future(keep_asking(sidecar.port, 0.1, outcomes)) for _ in range(20)]
        await upstream.wait_until(lambda: len(upstream.requests) > 60 and upstream.hits("/stream") == 5)

        sidecar.signal(signal.SIGTERM)
        await _until_not_ready(sidecar)
        await asyncio.gather(*clients)
        assert sidecar.process.poll() is None, "the streams are still under way"
        gate.open()
        answers: list[Response] = await asyncio.gather(*streams)
        assert await sidecar.wait_exit() == 0

    assert outcomes["lost"] == 0, outcomes
    assert outcomes["told to close"] >= 20
    assert all(answer.complete and answer.body == b"firstlast" for answer in answers)


async def _until_not_ready(sidecar: Sidecar) -> None:
    async with asyncio.timeout(5):
        while (await get(sidecar.admin_port, "/readyz")).status != 503:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    assert sidecar.process.poll() is None


async def test_g01_request_on_a_connection_that_was_idle_is_still_answered() -> None:
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url)) as sidecar:
        async with RawClient(sidecar.port) as client:
            assert (await client.request("GET", "/")).header("Connection") is None
            sidecar.signal(signal.SIGTERM)
            await _until_not_ready(sidecar)

            answer = await client.request("GET", "/")
            assert (answer.status, answer.header("Connection")) == (200, "close")
            assert await client.ended_within() == "fin"
        assert await sidecar.wait_exit() == 0


async def test_g01_end_of_a_response_that_is_taken_slowly_is_not_lost() -> None:
    """It is out of the exchange and in our buffer when the drain begins."""
    size = 6_000_000
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url)) as sidecar:
        upstream.on("/large", reply(200, body=bytes(size)))
        async with RawClient(sidecar.port, rcvbuf=4096) as client:
            client.stop_reading()
            await client.send_request("GET", "/large")
            await upstream.wait_for_requests(1)
            exiting = asyncio.ensure_future(sidecar.stop())
            await asyncio.sleep(1.5)
            client.resume_reading()
            answer = await client.read_response(check=False)
            assert (answer.complete, len(answer.body)) == (True, size)
        assert await exiting == 0


async def test_g01_connection_that_becomes_idle_during_the_drain_does_not_hold_up_the_end() -> None:
    """Its response began before the drain, so nothing in it told the client to leave."""
    gate = Gate()
    async with (
        ScriptedUpstream() as upstream,
        Sidecar(policies(upstream.url, server={"drain": "50s"})) as sidecar,
        RawClient(sidecar.port) as client,
    ):
        upstream.on("/stream", head(200, CHUNKED), chunk(b"first"), gate, chunk(b"last"), last_chunk())
        await client.send_request("GET", "/stream")
        answer = await client.read_head()
        sidecar.signal(signal.SIGTERM)
        await _until_not_ready(sidecar)
        await asyncio.sleep(1.5)  # until idle connections have been closed
        gate.open()
        body = b"".join([piece async for piece in client.read_body(answer)])
        assert (answer.complete, body) == (True, b"firstlast")
        assert await client.ended_within() == "fin"
        assert await sidecar.wait_exit() == 0


@pytest.mark.parametrize("drain", ["1s", "0s"])
async def test_g01_hung_upstream_does_not_hold_up_the_end(drain: str) -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/hang", hang())
        upstream.on("/stream", head(200, CHUNKED), chunk(b"part"), hang())
        async with Sidecar(policies(upstream.url, server={"drain": drain})) as sidecar:
            async with RawClient(sidecar.port) as hung, RawClient(sidecar.port) as old:
                await hung.send_request("GET", "/hang")
                await old.send(b"GET /stream HTTP/1.0\r\n\r\n")
                answer = await old.read_head()
                await upstream.wait_for_requests(2)
                started = time.monotonic()
                assert await sidecar.stop() == 0
                assert time.monotonic() - started < 8
                assert await hung.ended_within() in ("fin", "rst")
                async for _ in old.read_body(answer):
                    pass
                assert answer.ended == "rst", "for an HTTP/1.0 client a FIN would be the end of the body"
            assert "Traceback" not in sidecar.stderr


async def test_g01_second_sigterm_ends_the_drain() -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/hang", hang())
        async with Sidecar(policies(upstream.url, server={"drain": "50s"})) as sidecar:
            async with RawClient(sidecar.port) as client:
                await client.send_request("GET", "/hang")
                await upstream.wait_for_requests(1)
                sidecar.signal(signal.SIGTERM)
                await _until_not_ready(sidecar)
                started = time.monotonic()
                sidecar.signal(signal.SIGTERM)
                assert await sidecar.wait_exit() == 0
                assert time.monotonic() - started < 5
            assert "Traceback" not in sidecar.stderr


@pytest.mark.parametrize("after", [0.05, 0.3, 0.6])
async def test_g01_sigterm_during_the_start_ends_it(after: float) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sidecar = Sidecar(policies("http://127.0.0.1:1"))
        stack.push_async_exit(sidecar)
        sidecar.start()
        await asyncio.sleep(after)
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.wait_exit() in (0, -signal.SIGTERM)


@pytest.mark.both_loops
async def test_sigint_ends_within_two_seconds_with_idle_connections_open() -> None:
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url)) as sidecar:
        async with RawClient(sidecar.port) as idle, RawClient(sidecar.admin_port) as admin, RawClient(sidecar.port):
            assert (await idle.request("GET", "/")).status == 200
            assert (await admin.request("GET", "/healthz")).status == 200
            started = time.monotonic()
            sidecar.signal(signal.SIGINT)
            assert await sidecar.wait_exit() == 0
            assert time.monotonic() - started < 2
        assert "Traceback" not in sidecar.stderr
