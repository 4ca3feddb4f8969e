"""Upstreams that cannot be reached or leave before they answer, as the client sees it (faults D01 to D04)."""

import asyncio
import os
import time

import pytest

from tests.support.aftermath import assert_problem, assert_unharmed, wait_at_rest
from tests.support.app import running_app
from tests.support.client import RawClient, fetch, get
from tests.support.settings import policies
from tests.support.steps import Gate, Step, close, delay, echo, hang, reset
from tests.support.upstream import ScriptedUpstream, blackhole_port, refusing_port

pytestmark = pytest.mark.both_loops

RACES = int(os.environ.get("TIDEGATE_RACES", "10"))
"""Rounds of 40 requests; the catalogue's figure is 50 rounds of 2000."""


async def test_d01_refused_connection_is_502() -> None:
    with refusing_port() as port:
        async with running_app(policies(f"http://127.0.0.1:{port}")) as app, RawClient(app.port) as client:
            assert_problem(await client.request("GET", "/"), 502, "connection_refused")
            assert_problem(await client.request("POST", "/", body=b"x"), 502, "connection_refused")
            await wait_at_rest(app)


async def test_d01_unknown_name_is_502() -> None:
    settings = policies("http://does-not-exist.invalid:80", options={"connect_timeout": "5s"})
    async with running_app(settings) as app, RawClient(app.port) as client:
        assert_problem(await client.request("GET", "/"), 502, "dns_error")


async def test_d01_address_that_does_not_answer_is_504_within_the_connect_timeout() -> None:
    with blackhole_port() as port:
        settings = policies(f"http://127.0.0.1:{port}", options={"connect_timeout": "200ms"})
        async with running_app(settings) as app, RawClient(app.port) as client:
            started = time.monotonic()
            assert_problem(await client.request("GET", "/"), 504, "connection_timeout")
            assert time.monotonic() - started < 2
            assert await app.metric("proxy_timeouts_total", kind="connect") == 1
            await wait_at_rest(app)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("early", [True, False], ids=["before reading", "after reading"])
@pytest.mark.parametrize("end", [close(), reset()], ids=["fin", "rst"])
async def test_d02_end_without_an_answer_is_502_after_one_hit(end: Step, early: bool, method: str) -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/fault", end, early=early)
        async with RawClient(app.port) as client:
            body = b"x" * 10 if method == "POST" else None
            assert_problem(await client.request(method, "/fault", body=body), 502, "connection_terminated")

            await wait_at_rest(app)
            await assert_unharmed(app, client)
        assert upstream.hits("/fault") == 1


async def test_d03_connection_that_ends_just_before_its_reuse_costs_no_get_and_no_second_post() -> None:
    """The upstream closes each connection at about the moment of the next request."""
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/last", echo(), delay(0.001), close())
        upstream.on("/last-now", echo(), close())
        refused = 0
        for number in range(RACES):
            for _ in range(10):
                async with RawClient(app.port) as client:
                    for path in ("/last", "/get", "/last-now", f"/post/{number}"):
                        method, body = ("POST", b"x") if path.startswith("/post") else ("GET", None)
                        answer = await client.request(method, path, body=body)
                        if answer.status != 200:
                            assert method == "POST"
                            assert_problem(answer, 502, "connection_terminated")
                            refused += 1
        posts = sum(request.method == "POST" for request in upstream.requests)
        assert posts <= RACES * 10, "a POST was sent twice"
        assert posts >= RACES * 10 - refused
        await assert_unharmed(app)


@pytest.mark.parametrize("settings", [{"total": "300ms"}, {"total": "none", "attempt": "300ms"}])
async def test_d04_no_answer_is_504_in_time_and_the_connection_is_not_used_again(settings: dict[str, str]) -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/fault", hang())
        configured = policies(upstream.url, route={"timeout": settings})
        async with running_app(configured) as app, RawClient(app.port) as client:
            started = time.monotonic()
            assert_problem(await client.request("GET", "/fault"), 504, "http_response_timeout")
            assert 0.29 < time.monotonic() - started < 1.5

            assert await upstream.wait_closed(1) in ("fin", "rst")
            await assert_unharmed(app, client)
        assert upstream.hits("/fault") == 1
        assert [r.connection for r in upstream.requests if r.path != "/fault"] == [2, 2, 2, 2]


async def test_d04_answer_after_the_timeout_reaches_nobody() -> None:
    late = Gate()
    async with ScriptedUpstream() as upstream:
        upstream.on("/fault", late, echo())
        async with running_app(policies(upstream.url, route={"timeout": "100ms"})) as app:
            refused = await get(app.port, "/fault")
            late.open()
            assert_problem(refused, 504, "http_response_timeout")
            await assert_unharmed(app)
            many = await asyncio.gather(*(fetch(app.port, "GET", f"/{number}") for number in range(20)))
            assert [answer.json()["target"] for answer in many] == [f"/{number}" for number in range(20)]
