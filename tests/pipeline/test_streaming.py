"""Bodies of any size and kind, both ways, through the whole proxy with little memory."""

import hashlib
import os
from functools import partial

import pytest

from tests.support.aftermath import assert_unharmed, wait_at_rest
from tests.support.app import running_app
from tests.support.client import RawClient, fetch, get
from tests.support.settings import policies
from tests.support.sidecar import Sidecar
from tests.support.steps import (
    Gate,
    chunk,
    close,
    echo,
    head,
    last_chunk,
    read_body,
    repeat,
    reply,
    reply_chunked,
    send,
)
from tests.support.upstream import ScriptedUpstream

SIZE = int(os.environ.get("TIDEGATE_STREAM_BYTES", "300000000"))
"""Bytes each way; the requirement is 2 GB."""
PIECE = bytes(range(256)) * 4096
PIECES = SIZE // len(PIECE)
LENGTH = PIECES * len(PIECE)
MAX_RSS = 150 << 20
CHUNKED = {"Transfer-Encoding": "chunked"}
NO_LIMIT = {"limits": {"max_body": "off", "write_timeout": "60s"}}


def unlimited(upstream: ScriptedUpstream) -> str:
    return policies(upstream.url, server=NO_LIMIT, route={"timeout": {"total": "none"}})


def expected_sha256() -> str:
    digest = hashlib.sha256()
    for _ in range(PIECES):
        digest.update(PIECE)
    return digest.hexdigest()


@pytest.mark.timeout(600)
async def test_huge_download_and_upload_pass_whole_in_little_memory() -> None:
    async with ScriptedUpstream(keep_bodies=False) as upstream, Sidecar(unlimited(upstream)) as sidecar:
        upstream.on("/download", head(200, {"Content-Length": str(LENGTH)}), repeat(PIECES, send(PIECE)))
        upstream.on("/upload", read_body(), reply(200), early=True)
        rss = [sidecar.rss()]
        async with RawClient(sidecar.port, within=500) as client:
            await client.send_request("GET", "/download")
            answer = await client.read_head()
            digest = hashlib.sha256()
            async for piece in client.read_body(answer):
                answer.raw.clear()
                digest.update(piece)
                rss.append(sidecar.rss())
            assert answer.complete

            await client.send_request("POST", "/upload", {"Content-Length": str(LENGTH)})
            for _ in range(PIECES):
                await client.send(PIECE)
                rss.append(sidecar.rss())
            assert (await client.read_response("POST")).status == 200

        assert digest.hexdigest() == expected_sha256()
        upload = upstream.requests[1]
        assert (upload.body_length, upload.body_sha256.hexdigest()) == (LENGTH, expected_sha256())
        assert max(rss) < MAX_RSS
        assert max(rss) - rss[0] < 30 << 20


@pytest.mark.both_loops
async def test_events_of_a_stream_arrive_one_by_one() -> None:
    gates = [Gate() for _ in range(3)]
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        steps = [step for number, gate in enumerate(gates) for step in (gate, chunk(b"data: %d\n\n" % number))]
        upstream.on("/events", head(200, {"Content-Type": "text/event-stream", **CHUNKED}), *steps, last_chunk())
        async with RawClient(app.port) as client:
            await client.send_request("GET", "/events")
            answer = await client.read_head()
            pieces = client.read_body(answer)
            for number, gate in enumerate(gates):
                gate.open()
                assert await anext(pieces) == b"data: %d\n\n" % number
            assert [piece async for piece in pieces] == []
            assert answer.complete
            await assert_unharmed(app, client)


@pytest.mark.both_loops
async def test_upload_arrives_piece_by_piece() -> None:
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url)) as app,
        RawClient(app.port) as client,
    ):
        await client.send_request("POST", "/", CHUNKED)
        for number in range(1, 4):
            await client.send(b"5\r\nhello\r\n")
            await upstream.wait_until(partial(_has_received, upstream, 5 * number))
        await client.send(b"0\r\n\r\n")

        assert (await client.read_response("POST")).json()["body_length"] == 15


@pytest.mark.both_loops
@pytest.mark.parametrize("framing", [{"Content-Length": "500"}, CHUNKED, {}], ids=["length", "chunked", "neither"])
async def test_head_keeps_the_length_and_has_no_body(framing: dict[str, str]) -> None:
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url)) as app,
        RawClient(app.port) as client,
    ):
        upstream.on("/head", head(200, framing))
        answer = await client.request("HEAD", "/head")

        assert (answer.status, answer.body, answer.header("Content-Length")) == (
            200,
            b"",
            framing.get("Content-Length"),
        )
        await assert_unharmed(app, client)


@pytest.mark.both_loops
@pytest.mark.parametrize("status", [204, 304])
async def test_status_without_content_has_no_body_and_no_framing(status: int) -> None:
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url)) as app,
        RawClient(app.port) as client,
    ):
        upstream.on("/none", reply(status, {"ETag": '"1"'}))
        answer = await client.request("GET", "/none")

        assert (answer.status, answer.body, answer.header("ETag")) == (status, b"", '"1"')
        assert answer.header("Transfer-Encoding") is answer.header("Content-Length") is None
        await assert_unharmed(app, client)


async def _ask_in_http_10(client: RawClient, target: str, fields: str = "") -> bytes:
    await client.send(f"GET {target} HTTP/1.0\r\nHost: localhost\r\n{fields}\r\n".encode())
    answer = await client.read_response(check=False)
    assert answer.complete
    assert answer.header("Transfer-Encoding") is None
    return answer.body


@pytest.mark.both_loops
async def test_http_10_client_gets_a_chunked_response_without_the_chunks() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/chunked", reply_chunked(b"one", b"two"))
        async with RawClient(app.port) as client:
            assert await _ask_in_http_10(client, "/chunked") == b"onetwo"


@pytest.mark.both_loops
async def test_http_10_client_reads_a_stream_until_the_connection_ends() -> None:
    gate = Gate()
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url)) as app,
        RawClient(app.port) as client,
    ):
        upstream.on("/", head(200, CHUNKED), chunk(b"one"), gate, chunk(b"two"), last_chunk())
        await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = await client.read_head()
        gate.open()

        assert [piece async for piece in client.read_body(answer)] == [b"one", b"two"]
        assert (answer.header("Connection"), answer.ended) == ("close", "fin")


@pytest.mark.both_loops
async def test_http_10_client_keeps_its_connection_only_if_it_asks_to() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/", reply(200, body=b"hello"))
        async with RawClient(app.port) as client:
            for _ in range(2):
                assert await _ask_in_http_10(client, "/", "Connection: keep-alive\r\n") == b"hello"
            assert await _ask_in_http_10(client, "/") == b"hello"
            assert await client.ended_within() == "fin"


@pytest.mark.both_loops
async def test_body_that_ends_with_the_upstreams_connection_is_chunked_for_the_client() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/", head(200), send(b"all "), send(b"of it"), close())
        async with RawClient(app.port) as client:
            answer = await client.request("GET", "/")
            assert (answer.is_chunked, answer.body, answer.complete) == (True, b"all of it", True)
            await assert_unharmed(app, client)


@pytest.mark.both_loops
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1_000_000])
async def test_bodies_of_any_size_come_back_as_they_were_sent(size: int) -> None:
    body = (PIECE * 2)[:size]
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/sized", reply(200, body=body))
        upstream.on("/chunked", reply_chunked(*(body[i : i + 7000] for i in range(0, size, 7000))))
        for target in ("/sized", "/chunked"):
            answer = await get(app.port, target)
            assert (answer.complete, answer.body == body) == (True, True)
        upstream.on("/echo", echo())
        sent = await fetch(app.port, "PUT", "/echo", body=body)
        assert sent.json()["seen"]["body_sha256"] == hashlib.sha256(body).hexdigest()
        await wait_at_rest(app)


def _has_received(upstream: ScriptedUpstream, length: int) -> bool:
    return bool(upstream.requests) and upstream.requests[0].body_length == length
