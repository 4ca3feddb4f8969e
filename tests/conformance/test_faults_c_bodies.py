"""Bodies over the limit, and floods of malformed requests (faults C10 and C11)."""

import asyncio
import os

from tests.support.aftermath import assert_problem, assert_unharmed, wait_at_rest
from tests.support.app import running_app
from tests.support.client import RawClient, chunked, fetch
from tests.support.settings import policies
from tests.support.sidecar import Sidecar
from tests.support.upstream import ScriptedUpstream

LIMIT = {"limits": {"max_body": "100KiB"}}
OVER = 100 * 1024 + 1
FLOOD = int(os.environ.get("TIDEGATE_FLOOD", "2000"))
"""The catalogue's figure is 100,000."""


async def test_c10_declared_length_over_the_limit_is_refused_before_the_upstream_hears_of_it() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=LIMIT)) as app:
        async with RawClient(app.port) as client:
            await client.send_request("POST", "/", {"Content-Length": str(OVER)})

            assert_problem(await client.read_response(), 413, "http_request_error")
            assert await client.ended_within() == "fin"
        assert upstream.requests == []


async def test_c10_body_at_the_limit_passes() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=LIMIT)) as app:
        whole = await fetch(app.port, "POST", "/", body=b"x" * (OVER - 1))
        pieces = chunked(b"x" * 50_000, b"x" * (OVER - 50_001))
        streamed = await fetch(app.port, "POST", "/", {"Transfer-Encoding": "chunked"}, pieces)

        assert [whole.json()["body_length"], streamed.json()["body_length"]] == [OVER - 1, OVER - 1]


async def test_c10_chunked_body_that_grows_over_the_limit_is_cut_off_at_both_ends() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=LIMIT)) as app:
        async with RawClient(app.port) as client:
            await client.send_request("POST", "/", {"Transfer-Encoding": "chunked"})
            await client.send(b"c350\r\n" + b"x" * 50_000 + b"\r\n")
            (request,) = await upstream.wait_for_requests(1)
            await upstream.wait_until(lambda: request.body_length > 0)
            await client.send(b"fffff\r\n" + b"x" * 60_000)

            assert_problem(await client.read_response(), 413, "http_request_error")
            assert await client.ended_within() in ("fin", "rst")
        await upstream.wait_closed(1)
        assert not request.complete
        await wait_at_rest(app)
        await assert_unharmed(app)
        assert await app.metric("proxy_errors_total", source="client") == 1
        assert await app.metric("proxy_errors_total", source="upstream") == 0


async def test_c11_flood_of_malformed_requests_leaves_no_traceback_and_a_quiet_log() -> None:
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url)) as sidecar:
        garbage = [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHost: a\nb: c\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n"]

        async def send(number: int) -> None:
            async with RawClient(sidecar.port) as client:
                await client.send(garbage[number % 3])
                assert_problem(await client.read_response(), 400, "http_request_error")

        for start in range(0, FLOOD, 50):
            await asyncio.gather(*(send(number) for number in range(start, start + 50)))
        await assert_unharmed(sidecar)
        assert await sidecar.metric("proxy_requests_total", route="unmatched", status="4xx") == FLOOD
        assert await sidecar.stop() == 0

        assert "Traceback" not in sidecar.stderr
        assert sidecar.stderr.count("\n") < 20
    assert upstream.hits_by_path().keys() == {"/unharmed"}
