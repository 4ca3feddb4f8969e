"""Responses that drip or stop short: never shown as complete, never longer than the deadline (faults D05, D07, D08)."""

import asyncio
import time

import pytest

from tests.support.aftermath import assert_cut, assert_problem, assert_unharmed, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, chunked
from tests.support.messages import Response
from tests.support.settings import policies
from tests.support.steps import Gate, Step, chunk, close, drip, head, reset, send
from tests.support.upstream import ScriptedUpstream

pytestmark = pytest.mark.both_loops

CHUNKED = {"Transfer-Encoding": "chunked"}
LENGTH_10 = {"Content-Length": "10"}


async def ask(app: RunningApp, target: str, body: bytes = b"") -> Response:
    """GET, or POST with a chunked body."""
    async with RawClient(app.port) as client:
        await client.send_request("POST" if body else "GET", target, CHUNKED if body else None, body or None)
        return await client.read_response(check=False)


async def test_d05_head_that_drips_is_504_at_the_deadline() -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/fault", drip(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: " + b"x" * 1000, 0.05))
        async with (
            running_app(policies(upstream.url, route={"timeout": "300ms"})) as app,
            RawClient(app.port) as client,
        ):
            assert_problem(await client.request("GET", "/fault"), 504, "http_response_timeout")

            await wait_at_rest(app)
            await assert_unharmed(app, client)
        assert upstream.hits("/fault") == 1


@pytest.mark.parametrize("headers", [CHUNKED, {"Content-Length": "1000"}, {}], ids=["chunked", "length", "neither"])
async def test_d05_body_that_drips_is_cut_visibly_at_the_deadline(headers: dict[str, str]) -> None:
    async with ScriptedUpstream() as upstream:
        pieces = b"1\r\nx\r\n" * 1000 if headers is CHUNKED else b"x" * 1000
        upstream.on("/fault", head(200, headers), drip(pieces, 0.05))
        async with running_app(policies(upstream.url, route={"timeout": "400ms"})) as app:
            started = time.monotonic()
            answer = await ask(app, "/fault")

            assert_cut(answer)
            assert time.monotonic() - started < 3
            await wait_at_rest(app)
            await assert_unharmed(app)
            assert await app.metric("proxy_timeouts_total", kind="total") == 1


@pytest.mark.parametrize("end", [close(), reset()], ids=["fin", "rst"])
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize(
    "start",
    [
        pytest.param((head(200, LENGTH_10), send(b"abc")), id="D07-short-of-its-length"),
        pytest.param((head(200, CHUNKED), chunk(b"abc")), id="D08-no-last-chunk"),
        pytest.param((head(200, CHUNKED), chunk(b"abc"), send(b"5\r\nab")), id="D08-within-a-chunk"),
        pytest.param((head(200, CHUNKED), chunk(b"abc"), send(b"0\r\n")), id="D08-within-the-last-chunk"),
    ],
)
async def test_d07_d08_response_that_stops_short_is_never_shown_as_whole(
    start: tuple[Step, ...], version: str, end: Step
) -> None:
    """The client has seen a part, so a visible end is all that is left; on HTTP/1.0 that has to be a reset."""
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/fault", *start, gate, end)
        async with RawClient(app.port) as client:
            await client.send(f"GET /fault {version}\r\nHost: localhost\r\n\r\n".encode())
            answer = await client.read_head()
            body = client.read_body(answer)
            assert (await anext(body)).startswith(b"abc")
            gate.open()
            async for _ in body:
                pass

            assert_cut(answer)
            if version == "HTTP/1.0" and answer.content_length is None:
                assert answer.ended == "rst"
        await wait_at_rest(app)
        await assert_unharmed(app)
        assert upstream.hits("/fault") == 1
        assert await app.metric("proxy_errors_total", source="upstream", error="http_response_incomplete") == 1


@pytest.mark.parametrize("junk", [b"xyz\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"5 5\r\n", b"0x5\r\nhello\r\n"])
async def test_d08_bad_chunk_size_within_the_body_cuts_the_response(junk: bytes) -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/fault", head(200, CHUNKED), chunk(b"abc"), gate, send(junk))
        async with RawClient(app.port) as client:
            await client.send_request("GET", "/fault")
            answer = await client.read_head()
            gate.open()
            async for _ in client.read_body(answer):
                pass

            assert_cut(answer)
        await upstream.wait_closed(1)
        await wait_at_rest(app)
        await assert_unharmed(app)


@pytest.mark.parametrize("body", [b"", chunked(b"hello")], ids=["GET", "POST"])
async def test_d07_upstream_that_ends_at_once_after_its_head_is_502_or_a_visible_cut(body: bytes) -> None:
    """Head and end may arrive together: then nothing has been sent yet, and a clear answer is still possible."""
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/fault", head(200, LENGTH_10), send(b"abc"), close())
        answers = await asyncio.gather(*(ask(app, "/fault", body) for _ in range(20)))

        for answer in answers:
            if answer.complete:
                assert_problem(answer, 502, "http_response_incomplete")
            else:
                assert_cut(answer)
        await wait_at_rest(app)
        await assert_unharmed(app)
