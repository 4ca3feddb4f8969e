"""Time limits of one exchange: which one passes, what it is called, and that the connection goes with it (D04, D05)."""

import asyncio
from typing import Any

import pytest

from proxy.errors import DeadlineExceeded, UpstreamTimeout
from tests.support.exchange import PiecewiseBody
from tests.support.steps import (
    Gate,
    chunk,
    delay,
    drip,
    endless,
    hang,
    head,
    last_chunk,
    read_body,
    reply,
    send,
    stop_reading,
)
from tests.support.upstream import ScriptedUpstream
from tests.support.upstream_client import client_for, read_all

pytestmark = pytest.mark.both_loops

SHORT = 0.08


class StalledBody(PiecewiseBody):
    """A body whose rest never comes."""

    async def read(self) -> bytes:
        if self.received:
            await asyncio.Event().wait()
        return await super().read()


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        ({"total": SHORT}, "total"),
        ({"total": 10.0, "attempt": SHORT}, "attempt"),
        ({"total": None, "attempt": SHORT}, "attempt"),
        ({"total": 10.0, "first_byte": SHORT}, "first_byte"),
    ],
)
async def test_d04_silent_upstream(limits: dict[str, Any], kind: str) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", hang())
        started = asyncio.get_running_loop().time()
        with pytest.raises(UpstreamTimeout) as caught:
            await client.fetch(**limits)
        assert asyncio.get_running_loop().time() - started >= SHORT - 0.01
        assert (client.idle, client.busy) == (0, 0)
        await upstream.wait_closed()

    assert (caught.value.kind, caught.value.status, caught.value.request_written) == (kind, 504, True)
    assert client.observer.attempts == ["http_response_timeout"]


async def test_limits_hold_on_a_reused_connection() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/hang", hang())
        await client.fetch("/", total=30.0)
        with pytest.raises(UpstreamTimeout):
            await client.fetch("/hang", total=SHORT)

    assert upstream.requests[1].connection == 1


async def test_d05_dripping_head_does_not_escape() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", drip(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1000, every=0.01))
        with pytest.raises(UpstreamTimeout) as caught:
            await client.fetch(total=SHORT, idle=SHORT * 5)

    assert caught.value.kind == "total"


async def test_d05_dripping_body_does_not_escape() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(200, {"Content-Length": "1000"}), drip(b"a" * 1000, every=0.01))
        response = await client.ask(total=SHORT * 2, idle=10.0)
        with pytest.raises(UpstreamTimeout) as caught:
            await read_all(response)

    assert caught.value.kind == "total"


async def test_first_byte_limit_ends_with_the_head() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(200, {"Content-Length": "1"}), delay(SHORT * 2), send(b"a"))

        assert await client.fetch(first_byte=SHORT) == (200, b"a")


async def test_first_byte_limit_begins_when_the_request_has_been_sent() -> None:
    class SlowBody(PiecewiseBody):
        async def read(self) -> bytes:
            await asyncio.sleep(SHORT)
            return await super().read()

    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        assert (await client.fetch(method="POST", body=SlowBody(b"a", b"b", b"c"), first_byte=SHORT * 1.5))[0] == 200
        upstream.on("/hang", hang())
        with pytest.raises(UpstreamTimeout) as caught:
            await client.fetch("/hang", method="POST", body=SlowBody(b"a", b"b"), first_byte=SHORT)

    assert caught.value.kind == "first_byte"


async def test_idle_limit_between_pieces_of_a_body() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(200, {"Content-Length": "9"}), send(b"abc"), hang())
        response = await client.ask(idle=SHORT)
        with pytest.raises(UpstreamTimeout) as caught:
            await read_all(response)

    assert caught.value.kind == "idle"


async def test_idle_limit_does_not_run_while_it_is_the_client_that_does_not_read() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(200, {"Content-Length": "6"}), send(b"abc"), gate, send(b"def"))
        response = await client.ask(idle=SHORT)
        await asyncio.sleep(SHORT * 2)
        gate.open()

        assert await read_all(response) == b"abcdef"


async def test_total_limit_while_the_client_does_not_read_is_not_the_upstreams_fault() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(200), endless())
        response = await client.ask(total=SHORT)
        await upstream.wait_closed()
        with pytest.raises(DeadlineExceeded):
            await read_all(response)
        assert client.busy == 0


async def test_total_limit_while_the_client_does_not_send_is_not_the_upstreams_fault() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        with pytest.raises(DeadlineExceeded):
            await client.fetch(method="POST", body=StalledBody(b"a", b"b"), total=SHORT)
        await upstream.wait_closed()


async def test_upstream_that_takes_no_more_of_the_body_is_idle() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", stop_reading(), hang(), early=True)
        body = PiecewiseBody(*[b"x" * 65536] * 400)
        with pytest.raises(UpstreamTimeout) as caught:
            await client.fetch(method="POST", body=body, idle=SHORT)

    assert caught.value.kind == "idle"


async def test_event_stream_leaves_the_total_limit_at_its_head_and_keeps_idle() -> None:
    gate = Gate()
    stream = head(200, {"Content-Type": "text/event-stream; charset=utf-8", "Transfer-Encoding": "chunked"})
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", stream, gate, chunk(b"data: 1\n\n"), last_chunk())
        exchange = client.exchange(total=SHORT)
        response = await client.upstream.handle(exchange)
        assert exchange.deadline is None
        await asyncio.sleep(SHORT * 2)
        gate.open()
        assert await read_all(response) == b"data: 1\n\n"

        upstream.on("/silent", stream, hang())
        response = await client.ask("/silent", idle=SHORT)
        with pytest.raises(UpstreamTimeout) as caught:
            await read_all(response)

    assert caught.value.kind == "idle"


async def test_no_limits_at_all() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", delay(SHORT), reply(200, body=b"ab"))

        assert await client.fetch(total=None) == (200, b"ab")


async def test_upload_is_not_cut_by_the_first_byte_limit() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", read_body(1), delay(SHORT), read_body(), reply(200), early=True)

        assert (await client.fetch(method="POST", body=PiecewiseBody(b"a", b"b"), first_byte=SHORT * 10))[0] == 200
