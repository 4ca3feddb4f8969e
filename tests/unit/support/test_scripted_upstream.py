"""The support must not lie: what the upstream does on the wire is what the client sees, and the other way round."""

import asyncio
import socket
from pathlib import Path

import pytest

from tests.support.client import RawClient, chunked, fetch, get
from tests.support.messages import Malformed
from tests.support.steps import (
    Gate,
    Step,
    Turn,
    chunk,
    close,
    endless,
    half_close,
    hang,
    head,
    interim,
    last_chunk,
    later,
    read_body,
    reply,
    reply_chunked,
    reset,
    send,
    stop_reading,
    tunnel,
)
from tests.support.upstream import ScriptedUpstream, blackhole_port, refusing_port
from tests.support.wire import WireEnded

pytestmark = pytest.mark.both_loops


async def test_echo_tells_what_was_received_in_spelling_and_order() -> None:
    async with ScriptedUpstream() as upstream:
        answer = await fetch(upstream.port, "POST", "/a?b=%2f", [("X-b", "1"), ("x-A", "2"), ("X-b", "3")], b"body")

    assert answer.complete
    assert answer.json()["target"] == "/a?b=%2f"
    assert answer.json()["headers"][1:4] == [["X-b", "1"], ["x-A", "2"], ["X-b", "3"]]
    request = upstream.requests[0]
    assert (request.method, request.path, request.body, request.complete) == ("POST", "/a", b"body", True)
    assert bytes(request.raw).startswith(b"POST /a?b=%2f HTTP/1.1\r\nHost: localhost\r\nX-b: 1\r\nx-A: 2\r\n")
    assert bytes(request.raw).endswith(b"\r\n\r\nbody")


async def test_requests_are_numbered_by_connection() -> None:
    async with ScriptedUpstream() as upstream:
        async with RawClient(upstream.port) as client:
            await client.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.read_response()
            await client.read_response()
        await get(upstream.port, "/3")

    assert [(r.target, r.connection, r.number) for r in upstream.requests] == [
        ("/1", 1, 1),
        ("/2", 1, 2),
        ("/3", 2, 1),
    ]


async def test_rules_are_used_up_in_order() -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/x", reply(500), times=2)
        upstream.on("/x", reply(204))

        statuses = [(await get(upstream.port, "/x")).status for _ in range(4)]

    assert statuses == [500, 500, 204, 204]
    assert upstream.hits("/x") == 4


@pytest.mark.parametrize(("end", "how"), [(close(), "fin"), (half_close(), "fin"), (reset(), "rst")])
async def test_truncation_shows_with_the_way_it_ended(end: Step, how: str) -> None:
    async with ScriptedUpstream() as upstream:
        gate = Gate()
        upstream.on("/x", head(200, {"Content-Length": "10"}), send(b"abc"), gate, end)
        async with RawClient(upstream.port) as client:
            await client.send_request("GET", "/x")
            answer = await client.read_head()
            pieces = client.read_body(answer)
            assert await anext(pieces) == b"abc"

            gate.open()
            assert [piece async for piece in pieces] == []

    assert (answer.complete, answer.ended) == (False, how)


async def test_chunks_come_one_by_one_through_a_gate() -> None:
    async with ScriptedUpstream() as upstream:
        gate = Gate()
        parts: list[Step] = [chunk(b"a"), gate, chunk(b"b"), last_chunk({"X-End": "1"})]
        upstream.on("/x", head(200, {"Transfer-Encoding": "chunked"}), *parts)
        async with RawClient(upstream.port) as client:
            await client.send_request("GET", "/x")
            answer = await client.read_head()
            pieces = client.read_body(answer)
            assert await anext(pieces) == b"a"
            await gate.reached.wait()
            assert b"b" not in client.unread

            gate.open()
            assert [piece async for piece in pieces] == [b"b"]

    assert answer.complete
    assert answer.trailers == [(b"X-End", b"1")]


async def test_early_answer_leaves_the_body_unread() -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/x", read_body(3), reply(413), hang(), early=True)
        async with RawClient(upstream.port) as client:
            await client.send(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
            assert (await client.read_response("PUT")).status == 413

        assert await upstream.wait_closed() == "fin"

    assert upstream.requests[0].body == b"abc"
    assert not upstream.requests[0].complete


async def test_chunked_request_body_is_decoded_and_malformed_one_is_told() -> None:
    async with ScriptedUpstream() as upstream:
        answer = await fetch(upstream.port, "POST", "/x", {"Transfer-Encoding": "chunked"}, chunked(b"ab", b"c"))
        assert answer.json()["body_length"] == 3
        async with RawClient(upstream.port) as client:
            await client.send_request("POST", "/x", {"Transfer-Encoding": "chunked"}, b"+1\r\na\r\n0\r\n\r\n")
            assert await client.ended_within() != "open"

    assert upstream.malformed == ["chunk size b'+1\\r\\n'"]


async def test_head_that_is_never_finished_is_told() -> None:
    async with ScriptedUpstream() as upstream:
        async with RawClient(upstream.port) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGPOST /smuggled")
            await client.read_response()
        await upstream.wait_until(lambda: bool(upstream.malformed))

    assert "GPOST /smuggled" in upstream.malformed[0]


async def test_junk_can_come_later_and_interim_answers_before() -> None:
    async with ScriptedUpstream() as upstream:
        gate = Gate()
        upstream.on("/x", interim(103, times=3), reply(200), later(gate, reply(200, body=b"not yours")))
        async with RawClient(upstream.port) as client:
            answer = await client.request("GET", "/x")
            assert [each.status for each in answer.interim] == [103, 103, 103]

            gate.open()
            assert (await client.read_response()).body == b"not yours"


async def test_tunnel_echoes_after_101() -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/x", tunnel())
        async with RawClient(upstream.port) as client:
            assert (await client.request("GET", "/x", {"Upgrade": "websocket"})).status == 101
            await client.send(b"\x81ping")
            assert await client.wire.read_exactly(5) == b"\x81ping"


async def test_endless_body_stands_still_while_nobody_reads() -> None:
    async with ScriptedUpstream() as upstream:
        sent = 0

        async def count(turn: Turn) -> None:
            nonlocal sent
            await send(b"x" * 65536)(turn)
            sent += 1

        async def forever(turn: Turn) -> None:
            while True:
                await count(turn)

        upstream.on("/x", head(200), forever)
        async with RawClient(upstream.port, rcvbuf=4096) as client:
            await client.send_request("GET", "/x")
            answer = await client.read_head()
            client.stop_reading()
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)
            assert sent < 200

            client.resume_reading()
            pieces = client.read_body(answer)
            while sent == before:
                await anext(pieces)
            await pieces.aclose()


async def test_upstream_that_stops_reading_blocks_its_sender() -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/x", stop_reading(), hang(), early=True)
        async with RawClient(upstream.port) as client:
            await client.send(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
            await upstream.wait_for_requests(1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.send(b"x" * 100_000_000)


async def test_close_delimited_body_is_complete_with_fin_only() -> None:
    async with ScriptedUpstream() as upstream:
        gate = Gate()
        upstream.on("/fin", head(200), send(b"all"), close())
        upstream.on("/rst", head(200), gate, reset())
        upstream.on("/endless", head(200), endless())
        answer = await get(upstream.port, "/fin")
        async with RawClient(upstream.port) as client:
            await client.send_request("GET", "/rst")
            cut = await client.read_head()
            gate.open()
            assert [piece async for piece in client.read_body(cut)] == []
        async with RawClient(upstream.port) as client:
            await client.send_request("GET", "/endless")
            await client.read_head()
            client.reset()
        assert await upstream.wait_closed(3) == "rst"

    assert (answer.body, answer.complete, answer.ended) == (b"all", True, "fin")
    assert (cut.complete, cut.ended) == (False, "rst")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_client_objects_to_a_malformed_answer(answer: bytes) -> None:
    async with ScriptedUpstream() as upstream:
        upstream.on("/x", send(answer), close())

        with pytest.raises(Malformed):
            await get(upstream.port, "/x")


async def test_stopped_upstream_refuses_and_starts_again_on_its_port() -> None:
    async with ScriptedUpstream() as upstream:
        await upstream.stop()
        with pytest.raises(ConnectionRefusedError):
            await get(upstream.port, "/")

        await upstream.start()
        assert (await get(upstream.port, "/")).status == 200


async def test_head_gets_no_body_and_connection_close_is_kept() -> None:
    async with ScriptedUpstream() as upstream, RawClient(upstream.port) as client:
        await client.send_request("HEAD", "/", {"Connection": "close"})
        answer = await client.read_response("HEAD")

        assert answer.complete
        assert answer.body == b""
        assert await client.ended_within() == "fin"


async def test_bug_in_a_script_fails_the_test() -> None:
    async def bug(turn: Turn) -> None:
        raise LookupError("oops")

    with pytest.raises(LookupError, match="oops"):
        async with ScriptedUpstream() as upstream:
            upstream.on("/x", bug)
            with pytest.raises(WireEnded):
                await get(upstream.port, "/x")


async def test_refused_and_blackholed_ports() -> None:
    with refusing_port() as port, pytest.raises(ConnectionRefusedError):
        await get(port, "/")
    with blackhole_port() as port, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await get(port, "/")


async def test_reply_chunked_and_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "u.sock"
    async with ScriptedUpstream(unix=path) as upstream, ScriptedUpstream() as tcp:
        tcp.on("/x", reply_chunked(b"a", b"bc"))
        assert (await get(tcp.port, "/x")).body == b"abc"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, str(path))
            await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await loop.sock_recv(sock, 12)) == b"HTTP/1.1 200"

    assert upstream.hits("/") == 1
