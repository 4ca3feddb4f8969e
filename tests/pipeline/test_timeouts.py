"""Every time limit through the whole proxy: what the client sees, who is blamed, what the upstream is told."""

import asyncio
import time
from typing import Any

import pytest

from tests.support.aftermath import assert_cut, assert_problem, assert_unharmed, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, get
from tests.support.settings import policies
from tests.support.steps import Gate, Step, chunk, delay, drip, endless, hang, head, last_chunk, reply, send
from tests.support.upstream import ScriptedUpstream, blackhole_port

pytestmark = pytest.mark.both_loops

SOON = 3.0
"""Seconds: ten times as long as any limit that is set here."""
CHUNKED = {"Transfer-Encoding": "chunked"}
OFF = {"total": "none", "idle": "none"}


def with_timeout(upstream: ScriptedUpstream, timeout: Any, **server: Any) -> str:
    return policies(upstream.url, server=server, route={"timeout": timeout})


async def assert_blamed(app: RunningApp, kind: str, source: str, *, status: int) -> None:
    """The time limit counted under this name, the error under this source, and both are in the log."""
    assert await app.metric("proxy_timeouts_total", kind=kind) == 1
    assert await app.metric("proxy_timeouts_total") == 1
    assert await app.metric("proxy_errors_total", source=source) == 1
    assert await app.metric("proxy_errors_total") == 1
    (line,) = await app.access_log()
    assert line["status"] == status


@pytest.mark.parametrize(
    ("kind", "timeout"),
    [
        ("total", {**OFF, "total": "200ms"}),
        ("attempt", {**OFF, "attempt": "200ms"}),
        ("first_byte", {**OFF, "first_byte": "200ms"}),
    ],
)
@pytest.mark.parametrize("body", [None, b"x" * 10])
async def test_upstream_that_does_not_answer_is_504_and_to_blame(
    kind: str, timeout: dict[str, str], body: bytes | None
) -> None:
    async with ScriptedUpstream() as upstream, running_app(with_timeout(upstream, timeout)) as app:
        upstream.on("/slow", hang())
        async with RawClient(app.port) as client:
            started = time.monotonic()
            answer = await client.request("POST" if body else "GET", "/slow", body=body)

            assert_problem(answer, 504, "http_response_timeout")
            assert time.monotonic() - started < SOON
            await upstream.wait_closed(1)
            await assert_blamed(app, kind, "upstream", status=504)
            await assert_unharmed(app, client)


@pytest.mark.parametrize(
    ("kind", "timeout", "steps"),
    [
        ("total", {**OFF, "total": "300ms"}, (chunk(b"a"), hang())),
        ("total", {**OFF, "total": "300ms"}, (drip(b"1\r\na\r\n" * 500, 0.02),)),
        ("attempt", {**OFF, "attempt": "300ms"}, (chunk(b"a"), hang())),
        ("idle", {**OFF, "idle": "300ms"}, (chunk(b"a"), hang())),
    ],
)
async def test_limit_that_passes_within_the_body_cuts_the_response(
    kind: str, timeout: dict[str, str], steps: tuple[Step, ...]
) -> None:
    async with ScriptedUpstream() as upstream, running_app(with_timeout(upstream, timeout)) as app:
        upstream.on("/slow", head(200, CHUNKED), *steps)
        answer = await get(app.port, "/slow")

        assert answer.status == 200
        assert_cut(answer)
        await upstream.wait_closed(1)
        await wait_at_rest(app)
        await assert_blamed(app, kind, "upstream", status=200)
        assert await app.metric("proxy_policy_decisions_total", policy="timeout", decision=kind) == 1


async def test_pieces_that_keep_coming_do_not_trip_idle_or_first_byte() -> None:
    timeout = {**OFF, "idle": "1s", "first_byte": "1s"}
    async with ScriptedUpstream() as upstream, running_app(with_timeout(upstream, timeout)) as app:
        upstream.on("/", head(200, {"Content-Length": "15"}), drip(b"x" * 15, 0.1))

        assert (await get(app.port, "/")).body == b"x" * 15


async def test_connect_timeout_is_504_and_the_upstream_is_to_blame() -> None:
    with blackhole_port() as port:
        settings = policies(f"http://127.0.0.1:{port}", options={"connect_timeout": "200ms"})
        async with running_app(settings) as app:
            assert_problem(await get(app.port, "/"), 504, "connection_timeout")
            await assert_blamed(app, "connect", "upstream", status=504)


async def test_no_free_connection_is_503_and_nobody_elses_fault() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream:
        upstream.on("/busy", gate, reply(200))
        settings = policies(upstream.url, options={"connect_timeout": "200ms", "max_connections": 1})
        async with running_app(settings) as app, RawClient(app.port) as first:
            await first.send_request("GET", "/busy")
            await upstream.wait_for_requests(1)
            assert_problem(await get(app.port, "/queued"), 503, "connection_limit_reached")

            gate.open()
            assert (await first.read_response()).status == 200
            assert await app.metric("proxy_errors_total", source="upstream") == 0
            assert await app.metric("proxy_errors_total", source="proxy", error="connection_limit_reached") == 1
            await assert_unharmed(app)


async def test_client_that_stops_sending_its_body_is_408_and_to_blame() -> None:
    limits = {"body_timeout": "200ms"}
    async with ScriptedUpstream() as upstream, running_app(with_timeout(upstream, OFF, limits=limits)) as app:
        async with RawClient(app.port) as client:
            await client.send_request("POST", "/", {"Content-Length": "10"})
            await client.send(b"x")
            assert_problem(await client.read_response("POST"), 408, "http_request_error")
        await assert_blamed(app, "client", "client", status=408)


async def test_deadline_that_passes_while_the_client_sends_is_not_the_upstreams_fault() -> None:
    async with ScriptedUpstream() as upstream, running_app(with_timeout(upstream, "300ms")) as app:
        async with RawClient(app.port) as client:
            await client.send_request("POST", "/", {"Content-Length": "10"})
            await client.send(b"x")
            assert_problem(await client.read_response("POST"), 504, "http_response_timeout")
        await wait_at_rest(app)
        await assert_blamed(app, "total", "proxy", status=504)


async def test_deadline_that_passes_while_the_client_does_not_read_is_not_the_upstreams_fault() -> None:
    async with ScriptedUpstream() as upstream, running_app(with_timeout(upstream, "500ms")) as app:
        upstream.on("/large", head(200, {"Content-Length": "100000000"}), endless())
        async with RawClient(app.port, rcvbuf=4096) as client:
            client.stop_reading()
            await client.send_request("GET", "/large")
            await upstream.wait_closed(1)
            await wait_at_rest(app)
        assert await app.metric("proxy_errors_total", source="upstream") == 0
        assert await app.metric("proxy_errors_total") == 1


async def test_total_leaves_an_event_stream_alone_after_its_head() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(with_timeout(upstream, {"total": "300ms"})) as app:
        event = chunk(b"data: 1\n\n")
        upstream.on("/events", head(200, {"Content-Type": "text/event-stream", **CHUNKED}), event, gate, last_chunk())
        async with RawClient(app.port) as client:
            await client.send_request("GET", "/events")
            answer = await client.read_head()
            await asyncio.sleep(0.6)
            gate.open()
            assert [piece async for piece in client.read_body(answer)] == [b"data: 1\n\n"]

            assert answer.complete
            assert await app.metric("proxy_timeouts_total") == 0


async def test_idle_still_ends_an_event_stream() -> None:
    timeout = {"total": "200ms", "idle": "500ms"}
    async with ScriptedUpstream() as upstream, running_app(with_timeout(upstream, timeout)) as app:
        upstream.on(
            "/events", head(200, {"Content-Type": "text/event-stream", **CHUNKED}), chunk(b"data: 1\n\n"), hang()
        )
        assert_cut(await get(app.port, "/events"))
        await wait_at_rest(app)
        await assert_blamed(app, "idle", "upstream", status=200)


async def test_total_ends_a_download_that_takes_too_long() -> None:
    async with ScriptedUpstream() as upstream, running_app(with_timeout(upstream, "500ms")) as app:
        upstream.on("/large", head(200, {"Content-Length": "1000000"}), drip(b"x" * 1000, 0.01))
        started = time.monotonic()
        assert_cut(await get(app.port, "/large"))
        assert 0.4 < time.monotonic() - started < SOON + 2


async def test_remaining_deadline_is_sent_upstream_and_the_trusted_callers_counts_when_it_is_shorter() -> None:
    trusted = {"trusted_proxies": ["127.0.0.1"]}
    async with ScriptedUpstream() as upstream, running_app(with_timeout(upstream, "10s", **trusted)) as app:
        upstream.on("/slow", hang())
        refused = await get(app.port, "/slow", {"X-Request-Deadline-Ms": "300"})
        assert_problem(refused, 504, "http_response_timeout")
        for sent, low, high in (("4000", 2000, 4000), ("60000", 8000, 10000), ("nan", 8000, 10000)):
            await get(app.port, "/told", {"X-Request-Deadline-Ms": sent})
            received = int(upstream.requests[-1].header("X-Request-Deadline-Ms") or 0)
            assert low <= received <= high, sent
        lines = await app.access_log(4)
    assert [round(line.get("deadline_ms", 0), -2) for line in lines] == [300, 4000, 10000, 0]


async def test_deadline_of_an_untrusted_caller_counts_for_nothing() -> None:
    async with ScriptedUpstream() as upstream, running_app(with_timeout(upstream, "10s")) as app:
        upstream.on("/slow", delay(0.3), reply(200))
        assert (await get(app.port, "/slow", {"X-Request-Deadline-Ms": "1"})).status == 200

        assert int(upstream.requests[0].header("X-Request-Deadline-Ms") or 0) > 8000


async def test_slow_request_is_counted_and_lasting_ones_are_not() -> None:
    async with ScriptedUpstream() as upstream, running_app(with_timeout(upstream, "10s", slow_request="100ms")) as app:
        upstream.on("/slow", delay(0.2), reply(200))
        stream = {"Content-Type": "text/event-stream", **CHUNKED}
        upstream.on("/events", head(200, stream), delay(0.2), last_chunk())
        upstream.on("/raw", send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
        for target in ("/slow", "/events", "/raw"):
            assert (await get(app.port, target)).complete
        assert await app.metric("proxy_slow_requests_total") == 1
