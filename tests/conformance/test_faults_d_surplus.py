"""Upstreams that say too much: the next client must never hear it (faults D09, D10, D12, D13)."""

from collections.abc import Sequence

import pytest

from tests.support.aftermath import assert_problem, assert_unharmed, wait_at_rest
from tests.support.app import running_app
from tests.support.client import RawClient
from tests.support.load import run_mix
from tests.support.messages import encode_headers
from tests.support.nonce import answer
from tests.support.settings import policies
from tests.support.steps import Step, Turn, delay, echo, head, interim, reply, send
from tests.support.upstream import ScriptedUpstream

pytestmark = pytest.mark.both_loops

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


async def echo_with_poison(turn: Turn) -> None:
    """The right answer and another one in a single write."""
    fields, body = answer(turn.request)
    head = encode_headers([*fields, ("Content-Length", str(len(body)))])
    await turn.wire.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body + POISON)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((echo_with_poison,), id="a second response at once"),
        pytest.param((echo(), delay(0.02), send(POISON)), id="a second response 20 ms later"),
        pytest.param((echo(), send(b"junk\r\n\r\n")), id="junk after the body"),
    ],
)
async def test_d09_surplus_bytes_end_the_connection_and_reach_nobody(steps: Sequence[Step]) -> None:
    """One upstream connection, so that whatever it would spoil is asked for next."""
    async with ScriptedUpstream() as upstream:
        upstream.on("/fault", *steps)
        async with running_app(policies(upstream.url, options={"max_connections": 1})) as app:
            async with RawClient(app.port) as client:
                for number in range(5):
                    response = await client.request("GET", f"/fault?{number}")
                    assert response.json()["target"] == f"/fault?{number}"
                    await upstream.wait_closed(upstream.requests[-1].connection)
                    await assert_unharmed(app, client)
            await wait_at_rest(app)


async def test_d09_under_load_no_client_gets_what_was_meant_for_another() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        for number in range(0, 50, 2):
            upstream.on(f"/cacheable/{number}", echo_with_poison)
        ledger = await run_mix(app.port, seconds=2, rps=150, seed=9, mix={"get": 80, "post": 20})
        report = ledger.reconcile(upstream.requests)

    assert not report.violations, report
    assert report.errors == 0, report


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\npoison"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison"),
    ],
)
async def test_d10_body_where_there_is_none_is_stripped(method: str, message: bytes) -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/fault", send(message))
        settings = policies(upstream.url, options={"max_connections": 1})
        async with running_app(settings) as app, RawClient(app.port) as client:
            response = await client.request(method, "/fault")
            assert (response.complete, response.body) == (True, b"")
            await assert_unharmed(app, client)
        assert {request.connection for request in upstream.requests[:1]} != {
            request.connection for request in upstream.requests[1:]
        }


async def test_d12_interim_responses_before_the_final_one_pass() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/fault", interim(103, {"Link": "</style.css>"}, times=32), reply(200, body=b"final"))
        async with RawClient(app.port) as client:
            response = await client.request("GET", "/fault")

            assert (response.status, response.body) == (200, b"final")
            assert [(each.status, each.headers) for each in response.interim] == [
                (103, [(b"Link", b"</style.css>")])
            ] * 32
            await assert_unharmed(app, client)


@pytest.mark.parametrize("times", [200, None])
@pytest.mark.parametrize(("status", "passed_on"), [(100, 0), (103, 32)])
async def test_d12_more_interim_responses_than_there_may_be_are_502(
    status: int, passed_on: int, times: int | None
) -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/fault", interim(status, times=times), reply(200))
        async with RawClient(app.port) as client:
            response = await client.request("GET", "/fault")

            assert_problem(response, 502, "http_protocol_error")
            assert len(response.interim) == passed_on
            await upstream.wait_closed(1)
            await assert_unharmed(app, client)


@pytest.mark.parametrize("status", ["99", "000", "600", "999", "1000", "2x0", ""])
async def test_d13_status_that_is_none_is_502(status: str) -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/fault", send(f"HTTP/1.1 {status} Odd\r\nContent-Length: 0\r\n\r\n".encode()))
        async with RawClient(app.port) as client:
            assert_problem(await client.request("GET", "/fault"), 502, "http_protocol_error")
            await upstream.wait_closed(1)
            await assert_unharmed(app, client)


async def test_d13_switch_of_protocols_that_nobody_asked_for_is_502() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/fault", head(101, {"Upgrade": "websocket", "Connection": "Upgrade"}), send(POISON))
        async with RawClient(app.port) as client:
            assert_problem(await client.request("GET", "/fault"), 502, "http_protocol_error")
            await upstream.wait_closed(1)
            await assert_unharmed(app, client)


async def test_d13_upgrade_field_on_an_ordinary_response_is_dropped() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/fault", reply(200, {"Upgrade": "h2c", "Connection": "Upgrade"}, b"plain"))
        async with RawClient(app.port) as client:
            response = await client.request("GET", "/fault")

            assert (response.status, response.body, response.header("Upgrade")) == (200, b"plain", None)
            await assert_unharmed(app, client)
