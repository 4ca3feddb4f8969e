"""Upstreams that fail while the route retries: how often they are asked (faults C05, D01, D02, D07, D19, D20)."""

import asyncio
import time
from email.utils import formatdate
from typing import Any

import pytest

from tests.support.aftermath import assert_cut, assert_problem, assert_unharmed, until_metric, wait_at_rest
from tests.support.app import running_app
from tests.support.client import RawClient, chunked, fetch, get
from tests.support.settings import free_port, policies
from tests.support.steps import Step, close, hang, head, reply, reset, send
from tests.support.upstream import ScriptedUpstream, refusing_port

pytestmark = pytest.mark.both_loops

QUICK: dict[str, Any] = {"max_attempts": 3, "base_delay": "1ms", "max_delay": "1ms"}
RESERVE = 30


def retrying(url: str, **settings: Any) -> str:
    """A file whose only route retries at most twice, and quickly where `settings` do not say otherwise."""
    timeout = settings.pop("timeout", "10s")
    return policies(url, route={"retry": {**QUICK, **settings}, "timeout": timeout})


# --- D01, D02, D07: which requests are sent again -------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("early", [True, False], ids=["before reading", "after reading"])
@pytest.mark.parametrize("end", [close(), reset()], ids=["fin", "rst"])
async def test_d02_end_without_an_answer_is_retried_for_a_get_and_never_for_a_post(
    end: Step, early: bool, method: str
) -> None:
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url)) as app:
        upstream.on("/fault", end, early=early)
        async with RawClient(app.port) as client:
            body = b"x" * 10 if method == "POST" else None
            assert_problem(await client.request(method, "/fault", body=body), 502, "connection_terminated")

            await wait_at_rest(app)
            await assert_unharmed(app, client)
        hits = 3 if method == "GET" else 1
        assert upstream.hits("/fault") == hits
        assert await app.metric("proxy_retries_total", cause="reset") == hits - 1


async def test_d02_retry_that_succeeds_is_all_that_the_client_sees() -> None:
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url)) as app:
        upstream.on("/fault", reset(), times=1)
        upstream.on("/fault", reply(503, {"Retry-After": "soon"}, b"not yet"), times=1)
        upstream.on("/fault", reply(200, body=b"now"))

        answer = await get(app.port, "/fault")

        assert (answer.status, answer.body) == (200, b"now")
        assert [request.header("X-Request-Attempt") for request in upstream.requests] == ["1", "2", "3"]
        (line,) = await app.access_log()
        assert (line["status"], line["attempts"]) == (200, 3)
        assert [each["decision"] for each in line["decisions"]] == ["retried"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_d01_d02_any_method_is_retried_while_no_byte_was_written(method: str) -> None:
    with refusing_port() as port:
        async with running_app(retrying(f"http://127.0.0.1:{port}")) as app:
            body = b"x" if method == "POST" else None
            assert_problem(await fetch(app.port, method, "/", body=body), 502, "connection_refused")

            assert await app.metric("proxy_upstream_attempts_total", outcome="connection_refused") == 3
            assert await app.metric("proxy_retries_total", cause="connect") == 2


async def test_d01_post_waits_for_an_upstream_that_comes_up_and_reaches_it_once() -> None:
    upstream = ScriptedUpstream(port=free_port())
    settings = retrying(upstream.url, max_attempts=25, base_delay="500ms", max_delay="500ms")
    async with running_app(settings) as app:
        body = chunked(b"abc")
        asking = asyncio.create_task(fetch(app.port, "POST", "/order", {"Transfer-Encoding": "chunked"}, body))
        while not await app.metric("proxy_retries_total", cause="connect"):  # noqa: ASYNC110 - nothing here sets an event
            await asyncio.sleep(0.01)
        async with upstream:
            answer = await asking

            assert answer.status == 200
            assert [bytes(request.body) for request in upstream.requests] == [b"abc"]


@pytest.mark.parametrize(("method", "hits"), [("GET", 3), ("POST", 1)])
async def test_d07_end_within_the_head_is_retried_like_no_answer_at_all(method: str, hits: int) -> None:
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url)) as app:
        upstream.on("/fault", send(b"HTTP/1.1 200 OK\r\nContent-Len"), close())

        body = b"x" if method == "POST" else None
        assert_problem(await fetch(app.port, method, "/fault", body=body), 502, "connection_terminated")

        assert upstream.hits("/fault") == hits


async def test_d07_end_within_the_body_is_cut_and_not_retried() -> None:
    """Its head has been passed on: the next attempt's could not take its place any more."""
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url)) as app:
        upstream.on("/fault", head(200, {"Content-Length": "10"}), send(b"abc"), close())

        async with RawClient(app.port) as client:
            await client.send_request("GET", "/fault")
            answer = await client.read_response(check=False)

        assert_cut(answer)
        assert upstream.hits("/fault") == 1
        await wait_at_rest(app)


@pytest.mark.parametrize("length", [10, 64 * 1024], ids=["small", "limit"])
@pytest.mark.parametrize("is_chunked", [True, False], ids=["chunked", "length"])
async def test_d02_short_body_is_sent_again_whole(length: int, is_chunked: bool) -> None:
    content = bytes(range(256)) * (length // 256) or b"0123456789"
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url, methods=["PUT"])) as app:
        upstream.on("/fault", reset(), times=1)
        upstream.on("/fault", reply(503), times=1)
        headers = {"Transfer-Encoding": "chunked"} if is_chunked else {}

        answer = await fetch(app.port, "PUT", "/fault", headers, chunked(content) if is_chunked else content)

        assert answer.status == 200
        assert [bytes(request.body) for request in upstream.requests] == [content] * 3
        assert upstream.malformed == []


@pytest.mark.parametrize("fault", [(reset(),), (reply(503), close()), (send(b"HTTP/1.1 503 No\r\n\r\nbusy"),)])
async def test_d18_attempt_that_ends_within_the_upload_leaves_the_rest_of_the_body_to_the_next(
    fault: tuple[Step, ...],
) -> None:
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url, methods=["PUT"])) as app:
        upstream.on("/fault", *fault, early=True, times=2)
        async with RawClient(app.port) as client:
            await client.send_request("PUT", "/fault", {"Transfer-Encoding": "chunked"}, b"6\r\nfirst \r\n")
            await upstream.wait_until(lambda: upstream.hits("/fault") == 3)
            await upstream.wait_until(lambda: bytes(upstream.requests[-1].body) == b"first ")
            await client.send(b"6\r\nsecond\r\n0\r\n\r\n")
            answer = await client.read_response("PUT")

            assert answer.status == 200
            assert bytes(upstream.requests[-1].body) == b"first second"
            assert upstream.requests[-1].complete
            await wait_at_rest(app)
            await assert_unharmed(app, client)


async def test_d02_long_body_is_streamed_and_sent_once() -> None:
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url, methods=["PUT"])) as app:
        upstream.on("/fault", reset())

        answer = await fetch(app.port, "PUT", "/fault", body=b"x" * 300_000)

        assert_problem(answer, 502, "connection_terminated")
        assert upstream.hits("/fault") == 1
        assert await app.metric("proxy_policy_decisions_total", policy="retry", decision="not_replayable") == 1


async def test_d02_timeout_of_an_attempt_is_retried() -> None:
    timeout = {"total": "10s", "first_byte": "50ms"}
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url, timeout=timeout)) as app:
        upstream.on("/fault", hang())

        assert_problem(await get(app.port, "/fault"), 504, "http_response_timeout")

        assert upstream.hits("/fault") == 3
        assert await app.metric("proxy_retries_total", cause="timeout") == 2


async def test_d02_timeout_of_the_whole_is_not_retried() -> None:
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url, timeout="100ms")) as app:
        upstream.on("/fault", hang())

        assert_problem(await get(app.port, "/fault"), 504, "http_response_timeout")

        assert upstream.hits("/fault") == 1


async def test_c05_client_that_leaves_during_the_wait_leaves_nothing_behind() -> None:
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url)) as app:
        upstream.on("/fault", reply(502, {"Retry-After": "7"}))
        async with RawClient(app.port) as client:
            await client.send_request("GET", "/fault")
            await until_metric(app, 1, "proxy_retries_total", cause="502")
            client.reset()

        await wait_at_rest(app)
        assert upstream.hits("/fault") == 1
        await assert_unharmed(app)


# --- D19: Retry-After -----------------------------------------------------------------------------------------------


def in_an_hour() -> str:
    return formatdate(time.time() + 3600, usegmt=True)


@pytest.mark.parametrize("value", ["5", "-1", "date", "1000000000", None])
async def test_d19_429_is_passed_on_at_once_and_concerns_nobody_else(value: str | None) -> None:
    value = in_an_hour() if value == "date" else value
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url)) as app:
        upstream.on("/fault", reply(429, {} if value is None else {"Retry-After": value}, b"slow down"))
        for _ in range(5):
            answer = await get(app.port, "/fault")
            assert (answer.status, answer.body, answer.header("Retry-After")) == (429, b"slow down", value)

        assert upstream.hits("/fault") == 5
        assert (await get(app.port, "/other")).status == 200
        assert await app.metric("proxy_policy_decisions_total", policy="retry") == 0


@pytest.mark.parametrize("value", ["-1", "1e9", "soon", "0", "Sun, 06 Nov 1994 08:49:37 GMT", "5, 5", "\u0665"])
async def test_d19_garbage_and_the_past_ask_for_nothing(value: str) -> None:
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url)) as app:
        upstream.on("/fault", reply(503, {"Retry-After": value}, b"busy"))

        answer = await get(app.port, "/fault")

        assert (answer.status, answer.body) == (503, b"busy")
        assert upstream.hits("/fault") == 3
        assert (await get(app.port, "/other")).status == 200


@pytest.mark.parametrize(("value", "longest"), [("5", 5), ("date", 30), ("1000000000", 30), ("9" * 400, 30)])
async def test_d19_503_cools_the_route_down_for_as_long_as_it_says_up_to_the_cap(value: str, longest: int) -> None:
    value = in_an_hour() if value == "date" else value
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url, timeout="4s")) as app:
        upstream.on("/fault", reply(503, {"Retry-After": value}, b"busy"))

        first = await get(app.port, "/fault")
        others = await asyncio.gather(*(fetch(app.port, method, "/fault") for method in ("GET", "POST", "DELETE")))

        assert (first.status, first.body, first.header("Retry-After")) == (503, b"busy", value)
        for answer in others:
            assert_problem(answer, 503, "destination_unavailable")
            assert answer.json()["type"] == "urn:tidegate:problem:upstream-cooling-down"
            assert longest - 2 <= int(answer.header("Retry-After") or 0) <= longest
        assert upstream.hits("/fault") == 1


async def test_d19_wait_is_capped_and_the_route_is_served_again_after_it() -> None:
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url, max_retry_after="300ms")) as app:
        upstream.on("/fault", reply(503, {"Retry-After": "1000000000"}), times=1)
        started = time.monotonic()

        answer = await get(app.port, "/fault")

        assert answer.status == 200
        assert 0.3 <= time.monotonic() - started < 5
        assert upstream.hits("/fault") == 2
        assert (await get(app.port, "/other")).status == 200


# --- D20: amplification ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ((reply(503),), 503),
        ((reply(502, body=b"x" * 100),), 502),
        ((close(),), 502),
        ((reply(429, {"Retry-After": "1"}),), 429),
    ],
    ids=["503", "502", "fin", "429"],
)
async def test_d20_retries_add_at_most_a_tenth_when_everything_fails(fault: tuple[Step, ...], status: int) -> None:
    count = 600
    async with ScriptedUpstream() as upstream, running_app(retrying(upstream.url, max_attempts=6)) as app:
        upstream.on("/fault", *fault)
        statuses = [answer.status for _ in range(count // 50) for answer in await ask_together(app.port, 50)]

        assert statuses == [status] * count
        retries = upstream.hits("/fault") - count
        assert retries == await app.metric("proxy_retries_total")
        assert retries == 0 if status == 429 else RESERVE <= retries <= 0.1 * count
        await wait_at_rest(app)


async def ask_together(port: int, count: int) -> list[Any]:
    return await asyncio.gather(*(get(port, "/fault") for _ in range(count)))
