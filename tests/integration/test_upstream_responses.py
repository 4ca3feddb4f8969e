"""What the client makes of an upstream's responses, good and bad (faults D05, D07, D08, D10 to D16)."""

import pytest

from proxy.errors import (
    ConnectionTerminated,
    ProxyError,
    ResponseHeadTooLarge,
    ResponseIncomplete,
    UpstreamProtocolError,
)
from proxy.upstream.inflow import HIGH_WATER, Inflow
from tests.support.steps import (
    Gate,
    Step,
    chunk,
    close,
    endless,
    half_close,
    hang,
    head,
    interim,
    last_chunk,
    reply,
    reply_chunked,
    reset,
    send,
)
from tests.support.upstream import ScriptedUpstream
from tests.support.upstream_client import client_for, read_all

pytestmark = pytest.mark.both_loops

LENGTH_2 = {"Content-Length": "2"}


# --- well-formed ---


async def test_complete_response_is_bytes_and_keeps_reason_spelling_and_order() -> None:
    fields = [("X-b", "1"), ("x-A", "2"), ("Set-Cookie", "a"), ("Set-Cookie", "b")]
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", reply(203, fields, b"body", reason="Almost"))
        response = await client.ask()

    assert (response.status, response.reason, response.body) == (203, b"Almost", b"body")
    assert response.headers == [*((n.encode(), v.encode()) for n, v in fields), (b"Content-Length", b"4")]


async def test_hop_by_hop_fields_of_the_response_stay_here() -> None:
    fields = {"Connection": "X-Private", "X-Private": "1", "Keep-Alive": "timeout=5", "X-Public": "1"}
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", reply_chunked(b"a", headers=fields))
        response = await client.ask()
        response.close()

    assert response.headers == [(b"X-Public", b"1")]


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
async def test_body_of_any_size_arrives_whole_and_frees_the_connection(size: int) -> None:
    body = bytes(i % 251 for i in range(1000)) * (size // 1000) + b"x" * (size % 1000)
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/sized", reply(200, body=body))
        upstream.on("/chunked", reply_chunked(*(body[i : i + 9999] for i in range(0, size, 9999))))

        assert await client.fetch("/sized") == (200, body)
        assert await client.fetch("/chunked") == (200, body)

        assert (client.idle, client.busy) == (1, 0)
        assert len(upstream.wires) == 1


async def test_trailers_are_dropped() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on(
            "/", head(200, {"Transfer-Encoding": "chunked"}), chunk(b"a"), last_chunk({"Set-Cookie": "x", "X-T": "1"})
        )
        response = await client.ask()
        assert await read_all(response) == b"a"
        assert (await client.fetch("/next"))[0] == 200

    assert response.headers == []
    assert len(upstream.wires) == 1


async def test_pieces_of_an_unknown_length_are_there_at_once() -> None:
    gates = [Gate(), Gate()]
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on(
            "/",
            head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}),
            gates[0],
            chunk(b"data: 1\n\n"),
            gates[1],
            chunk(b"data: 2\n\n"),
            last_chunk(),
        )
        response = await client.ask()
        assert isinstance(response.body, Inflow)
        gates[0].open()
        assert await response.body.read() == b"data: 1\n\n"
        gates[1].open()
        assert await response.body.read() == b"data: 2\n\n"
        assert await response.body.read() == b""
        assert client.idle == 1


@pytest.mark.parametrize("end", [close(), half_close()])
async def test_close_delimited_body_ends_with_the_connection(end: Step) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(200), send(b"all "), send(b"of it"), end)

        assert await client.fetch() == (200, b"all of it")
        assert (client.idle, client.busy) == (0, 0)


async def test_close_delimited_body_is_incomplete_after_a_reset() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(200), send(b"part"), gate, reset())
        response = await client.ask()
        gate.open()

        with pytest.raises(ResponseIncomplete):
            await read_all(response)


async def test_http_10_is_reused_only_when_it_says_so() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/once", send(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab"))
        upstream.on("/keep", send(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nab"))
        for target in ("/keep", "/once", "/keep"):
            assert await client.fetch(target) == (200, b"ab")

    assert [request.connection for request in upstream.requests] == [1, 1, 2]


async def test_connection_close_is_honoured() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", reply(200, {"Connection": "close"}, b"ab"))
        await client.fetch()
        await client.fetch()

    assert [request.connection for request in upstream.requests] == [1, 2]


@pytest.mark.parametrize("framing", [{"Content-Length": "500"}, {"Transfer-Encoding": "chunked"}, {}])
async def test_head_has_no_body_and_frees_the_connection(framing: dict[str, str]) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(200, framing))
        assert await client.fetch(method="HEAD") == (200, b"")
        assert await client.fetch(method="HEAD") == (200, b"")
        assert (await client.fetch("/next"))[0] == 200

    assert [request.connection for request in upstream.requests] == [1, 1, 1]


# --- D05 to D08: too little ---


async def test_d07_length_not_reached_is_not_a_response() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/fin", head(200, {"Content-Length": "10"}), send(b"abc"), close())
        upstream.on("/rst", head(200, {"Content-Length": "10"}), send(b"abc"), reset())

        for target in ("/fin", "/rst"):
            with pytest.raises(ProxyError) as caught:
                await client.fetch(target)
            assert isinstance(caught.value, ResponseIncomplete | ConnectionTerminated)
        assert (client.idle, client.busy) == (0, 0)


async def test_d07_what_arrived_is_given_before_the_error_and_the_error_stays() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(200, {"Content-Length": "10"}), send(b"abc"), gate, close())
        response = await client.ask()
        assert isinstance(response.body, Inflow)
        assert await response.body.read() == b"abc"
        gate.open()
        for _ in range(2):
            with pytest.raises(ResponseIncomplete):
                await response.body.read()


@pytest.mark.parametrize("ending", [b"", b"zz\r\nabc", b"3\r\nabcd\r\n0\r\n\r\n", b"-1\r\n", b"0x1\r\na\r\n0\r\n\r\n"])
async def test_d08_broken_chunks_never_look_complete(ending: bytes) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(200, {"Transfer-Encoding": "chunked"}), chunk(b"abc"), send(ending), close())
        with pytest.raises((ResponseIncomplete, UpstreamProtocolError)):
            await client.fetch()
        assert client.idle == 0


async def test_endless_chunk_extension_and_trailer_are_refused() -> None:
    chunked = head(200, {"Transfer-Encoding": "chunked"})
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/extension", chunked, send(b"5;"), endless(b"x" * 1000))
        upstream.on("/trailer", chunked, send(b"0\r\n"), endless(b"X-Trailer: 1\r\n"))
        for target in ("/extension", "/trailer"):
            with pytest.raises(UpstreamProtocolError):
                await client.fetch(target)


# --- D10 to D16: not what it should be ---


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 204), ("GET", 304), ("HEAD", 200), ("HEAD", 204), ("HEAD", 304)]
)
async def test_d10_body_where_none_may_be_is_dropped_with_the_connection(method: str, status: int) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(status, LENGTH_2), send(b"ab"))
        assert await client.fetch(method=method) == (status, b"")
        await upstream.wait_closed()
        assert (await client.fetch("/next"))[0] == 200

    assert upstream.requests[-1].connection == 2


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab",
        b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: a\x07\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: a\x00\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 1000 X\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 X\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
    ],
)
async def test_d11_d13_invalid_heads_are_a_protocol_error(response: bytes) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", send(response), hang())
        with pytest.raises(UpstreamProtocolError) as caught:
            await client.fetch()
        assert (client.idle, client.busy) == (0, 0)

    assert caught.value.status == 502
    assert client.observer.attempts == ["http_protocol_error"]


async def test_d13_upgrade_field_on_an_ordinary_response_changes_nothing() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", reply(200, {"Upgrade": "h2c", "Connection": "Upgrade"}, b"ab"))
        response = await client.ask()

    assert (response.status, response.body, response.tunnel) == (200, b"ab", None)


async def test_d12_interim_responses_leave_nothing_in_the_final_one() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", interim(100), interim(103, {"Link": "</x>", "X-Early": "1"}, times=20), reply(200, body=b"ab"))
        response = await client.ask()
        assert client.idle == 1

    assert (response.status, response.body) == (200, b"ab")
    assert response.headers == [(b"Content-Length", b"2")]
    assert response.reason == b"OK"


async def test_d12_endless_interim_responses_are_a_protocol_error() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", interim(103, times=None))
        with pytest.raises(UpstreamProtocolError):
            await client.fetch()


@pytest.mark.parametrize(
    "steps",
    [
        [head(200, [(f"X-{n}", "1") for n in range(130)])],
        [send(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n")],
        [send(b"HTTP/1.1 200 OK\r\n"), endless(b"X-Header: 1\r\n")],
        [send(b"HTTP/1.1 200 OK\r\nX: "), endless(b"a" * 1000)],
        [send(b"HTTP/1.1 200 "), endless(b"a" * 1000)],
    ],
    ids=["fields", "value", "endless fields", "endless value", "endless reason"],
)
async def test_d14_head_limits_hold_while_it_arrives(steps: list[Step]) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", *steps)
        with pytest.raises(ResponseHeadTooLarge):
            await client.fetch()


async def test_d15_endless_body_is_paused_while_nobody_reads() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(200), endless())
        response = await client.ask()
        assert isinstance(response.body, Inflow)
        largest = 0
        for _ in range(100):
            largest = max(largest, len(await response.body.read()))
        response.close()
        assert client.busy == 0

    assert largest <= HIGH_WATER + 256 * 1024


async def test_d16_reason_is_safe() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/long", send(b"HTTP/1.1 200 " + b"a" * 8000 + b"\r\nContent-Length: 0\r\n\r\n"))
        upstream.on("/latin", send(b"HTTP/1.1 200 caf\xe9\r\nContent-Length: 0\r\n\r\n"))
        upstream.on("/none", send(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"))
        upstream.on("/cr", send(b"HTTP/1.1 200 a\rX: b\r\nContent-Length: 0\r\n\r\n"))

        assert (await client.ask("/long")).reason == b""
        assert (await client.ask("/latin")).reason == b"caf\xe9"
        assert (await client.ask("/none")).reason == b""
        with pytest.raises(UpstreamProtocolError):
            await client.ask("/cr")


# --- who does not read on ---


async def test_closing_an_unfinished_response_ends_its_connection() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(200, {"Content-Length": "10"}), send(b"abc"), hang())
        response = await client.ask()
        response.close()
        response.close()

        assert (client.idle, client.busy) == (0, 0)
        await upstream.wait_closed()


async def test_closing_a_finished_response_leaves_the_connection_to_its_next_user() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(200, {"Content-Length": "3"}), gate, send(b"abc"))
        first = await client.ask()
        gate.open()
        assert await read_all(first) == b"abc"
        upstream.on("/second", head(200, {"Content-Length": "3"}), send(b"a"), gate, send(b"bc"))
        second = await client.ask("/second")
        first.close()

        assert await read_all(second) == b"abc"
        assert len(upstream.wires) == 1
