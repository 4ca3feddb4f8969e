"""Heads that repeat byte for byte are taken apart once; nothing but speed may tell."""

import asyncio
import json
from typing import Any

import pytest

from proxy.server.connection import HAS_LANE
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, fetch
from tests.support.settings import policies
from tests.support.steps import echo, reply
from tests.support.upstream import ScriptedUpstream

HEAD = b"GET /item HTTP/1.1\r\nHost: a.example\r\nX-A: 1\r\n\r\n"


def known(app: RunningApp) -> int:
    heads = app.app._edge.known_heads
    return len({**heads._older, **heads._recent})


async def send_whole(client: RawClient, data: bytes = HEAD) -> Any:
    """In one write, so that it arrives in one piece."""
    await client.send(data)
    return await client.read_response()


async def test_same_bytes_from_other_connections_are_requests_of_their_own() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("*", echo())
        answers = []
        for _ in range(3):
            async with RawClient(app.port) as client:
                answers += [await send_whole(client), await send_whole(client)]

    assert known(app) == HAS_LANE
    assert [answer.status for answer in answers] == [200] * 6
    assert len({answer.header("X-Request-ID") for answer in answers}) == 6
    assert len(upstream.requests) == 6
    assert {request.header("X-A") for request in upstream.requests} == {"1"}


async def test_tail_of_a_head_is_not_taken_for_a_head() -> None:
    """The second piece, by itself, is a whole head that is known."""
    inner = b"GET /inner HTTP/1.1\r\nHost: a.example\r\n\r\n"
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("*", reply(200))
        async with RawClient(app.port) as client:
            await send_whole(client, inner)
            await send_whole(client, inner)
            await client.send(b"POST /outer HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % len(inner))
            await client.send(inner)
            answer = await client.read_response()

    assert answer.status == 200
    assert [request.target for request in upstream.requests] == ["/inner", "/inner", "/outer"]


@pytest.mark.parametrize("cut", [1, 20, len(HEAD) - 2, len(HEAD) - 1])
async def test_head_in_two_pieces_is_one_request_and_neither_piece_is_remembered(cut: int) -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("*", reply(200))
        async with RawClient(app.port) as client:
            await client.send(HEAD[:cut])
            await app_turns()
            await client.send(HEAD[cut:])
            assert (await client.read_response()).status == 200
            assert HEAD[cut:] not in app.app._edge.known_heads._recent
            assert (await send_whole(client)).status == 200

    assert [request.target for request in upstream.requests] == ["/item", "/item"]


async def test_pipelined_heads_are_answered_in_order() -> None:
    other = HEAD.replace(b"/item", b"/other")
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("*", echo())
        async with RawClient(app.port) as client:
            await send_whole(client)
            await client.send(HEAD + other + HEAD)
            targets = [json.loads((await client.read_response()).body)["target"] for _ in range(3)]

    assert targets == ["/item", "/other", "/item"]


async def test_nothing_is_remembered_after_a_chunked_message() -> None:
    """aiohttp's parser may carry a trailer over into the next head of the same connection."""
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("*", reply(200))
        async with RawClient(app.port) as client:
            await client.send(b"POST /up HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
            await client.send(b"3\r\nabc\r\n0\r\n\r\n")
            assert (await client.read_response()).status == 200
            assert (await send_whole(client)).status == 200
            assert known(app) == 0


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"X-A", b"Connection: close\r\nX-A"),
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HEAD.replace(b"GET", b"HEAD"),
        HEAD.replace(b"/item", b"/item?a=1&b"),
        HEAD.replace(b"X-A", b"Via: 1.1 other\r\nX-A"),
        b"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET http://b.example/item HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET /a/../b HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"BREW /item HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET /item HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
        b"POST /item HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n",
        b"\r\nGET /item HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ],
)
async def test_second_answer_is_that_of_the_first(head: bytes) -> None:
    answers = []
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("*", reply(200, {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, b"body"))
        for _ in range(3):
            async with RawClient(app.port) as client:
                await client.send(head)
                answer = await client.read_response("HEAD" if head.startswith(b"HEAD") else "GET")
                answers.append((answer.status, answer.header("Connection"), answer.header("Allow")))
        seen = [(request.method, request.target, request.header("Host")) for request in upstream.requests]

    assert len(set(answers)) == 1
    assert len(set(seen)) <= 1


async def test_reload_routes_known_heads_anew() -> None:
    def version(number: int, url: str) -> str:
        return policies(url, route={"headers": {"response": {"set": {"X-Version": str(number)}}}})

    async with ScriptedUpstream() as upstream, running_app(version(1, upstream.url)) as app:
        upstream.on("*", reply(200))
        async with RawClient(app.port) as client:
            first = [await send_whole(client), await send_whole(client)]
            app.write_policies(version(2, upstream.url))
            assert (await fetch(app.admin_port, "POST", "/reload")).status == 200
            second = [await send_whole(client), await send_whole(client)]

    assert [answer.header("X-Version") for answer in (*first, *second)] == ["1", "1", "2", "2"]


async def app_turns() -> None:
    """Let the edge see what has been sent."""
    for _ in range(20):
        await asyncio.sleep(0)
