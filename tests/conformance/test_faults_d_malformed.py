"""Responses that are no valid HTTP, too large, or too early (faults D11, D14, D15, D16, D18)."""

import asyncio
import time

import pytest

from tests.support.aftermath import assert_problem, assert_unharmed, wait_at_rest
from tests.support.app import running_app
from tests.support.client import RawClient
from tests.support.settings import policies
from tests.support.sidecar import Sidecar
from tests.support.steps import Step, close, endless, head, read_body, reply, send, sequence, stop_reading
from tests.support.upstream import ScriptedUpstream
from tests.support.wire import WireEnded

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.both_loops
@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: +5\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Length: 5\r\nX: a\r\n folded\r\n",
        b"Content-Length: 5\nX: y\r\n",
        b"Content-Length : 5\r\n",
        b"Content-Length: 5\r\n: no name\r\n",
        b"Content-Length: 5\r\nX: a\x00b\r\n",
        b"Content-Length: 5\r\nX: a\x07b\r\n",
    ],
)
async def test_d11_d16_head_that_can_be_read_in_two_ways_is_502(fields: bytes) -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/fault", send(OK + fields + b"\r\nhello"))
        async with RawClient(app.port) as client:
            assert_problem(await client.request("GET", "/fault"), 502, "http_protocol_error")
            await upstream.wait_closed(1)
            await assert_unharmed(app, client)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(send(OK + b"X: 1\r\n" * 130 + b"Content-Length: 0\r\n\r\n"), id="130 fields"),
        pytest.param(send(OK + b"X: " + b"x" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n"), id="a 70 KB field"),
        pytest.param(sequence(send(OK), endless(b"X: 1\r\n" * 1000)), id="endless fields"),
        pytest.param(sequence(send(OK + b"X: "), endless()), id="an endless value"),
        pytest.param(sequence(send(b"HTTP/1.1 200 "), endless()), id="an endless reason"),
    ],
)
async def test_d14_head_without_measure_is_502(steps: Step) -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/fault", steps)
        async with RawClient(app.port) as client:
            answer = await client.request("GET", "/fault")
            assert_problem(answer, 502, "http_response_header_section_size")
            await upstream.wait_closed(1)
            await assert_unharmed(app, client)


@pytest.mark.parametrize("headers", [{"Transfer-Encoding": "chunked"}, {}], ids=["chunked", "close-delimited"])
async def test_d15_body_without_end_streams_with_flat_memory(headers: dict[str, str]) -> None:
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n" if headers else b"x" * 65536
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url)) as sidecar:
        upstream.on("/fault", head(200, headers), endless(piece))
        async with RawClient(sidecar.port) as client:
            await client.send_request("GET", "/fault")
            answer = await client.read_head()
            received, rss = 0, 0
            async for data in client.read_body(answer):
                answer.raw.clear()
                received += len(data)
                rss = rss or sidecar.rss()
                if received > 100_000_000:
                    break
            assert sidecar.rss() - rss < 10_000_000
        await upstream.wait_closed(1)
        await wait_at_rest(sidecar)
        await assert_unharmed(sidecar)


@pytest.mark.parametrize("reason", [b"x" * 8000, b"caf\xe9", b"", b"a\tb"], ids=["8 KB", "latin-1", "none", "tab"])
async def test_d16_odd_reason_phrase_does_not_spoil_the_response(reason: bytes) -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/fault", send(b"HTTP/1.1 200 " + reason + b"\r\nContent-Length: 5\r\n\r\nhello"))
        async with RawClient(app.port) as client:
            answer = await client.request("GET", "/fault")

            assert (answer.status, answer.body) == (200, b"hello")
            assert len(answer.reason) < 300
            await assert_unharmed(app, client)


@pytest.mark.parametrize("status", [401, 413])
@pytest.mark.parametrize(
    "after", [(), (stop_reading(), read_body()), (close(),)], ids=["reads on", "stops reading", "closes"]
)
async def test_d18_early_final_response_reaches_a_client_that_is_still_sending(
    after: tuple[Step, ...], status: int
) -> None:
    async with ScriptedUpstream(keep_bodies=False) as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/fault", read_body(1000), reply(status, body=b"enough"), *after, early=True)
        async with RawClient(app.port) as client:
            await client.send_request("POST", "/fault", {"Content-Length": "90000000"})
            uploading = asyncio.ensure_future(_send_for_ever(client))
            started = time.monotonic()
            answer = await client.read_response("POST")

            assert (answer.status, answer.body) == (status, b"enough")
            assert time.monotonic() - started < 5
            assert await client.ended_within() in ("fin", "rst")
            await uploading
        await wait_at_rest(app)
        assert await app.metric("proxy_upstream_connections_total", event="closed") == 1
        await assert_unharmed(app)
        assert upstream.requests[0].body_length < 45_000_000


async def _send_for_ever(client: RawClient) -> None:
    try:
        for _ in range(90_000):
            await client.send(b"x" * 1000)
            await asyncio.sleep(0)
    except WireEnded:
        return
