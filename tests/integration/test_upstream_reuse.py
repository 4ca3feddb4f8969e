"""Which connection serves which exchange, and that nothing of one ever reaches another (faults D02, D03, D09)."""

import asyncio
from random import Random

import pytest

from proxy.errors import ConnectionTerminated, ProxyError
from tests.support.exchange import PiecewiseBody
from tests.support.steps import (
    Gate,
    Step,
    close,
    hang,
    head,
    later,
    reply,
    reply_chunked,
    reset,
    send,
)
from tests.support.tcp_faults import FaultProxy
from tests.support.upstream import ScriptedUpstream
from tests.support.upstream_client import Client, client_for, read_all
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_loops

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


async def test_the_connection_used_last_is_used_first() -> None:
    gates = [Gate(), Gate(), Gate()]
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        for number, gate in enumerate(gates):
            upstream.on(f"/{number}", gate, reply(200))
        fetches = []
        for number, gate in enumerate(gates):
            fetches.append(asyncio.ensure_future(client.fetch(f"/{number}")))
            await gate.reached.wait()
        for number in (0, 2, 1):
            gates[number].open()
            await fetches[number]
        for _ in range(3):
            await client.fetch("/again")

    assert [request.connection for request in upstream.requests[3:]] == [2, 2, 2]
    assert client.observer.connections["reused"] == 3


# --- D09: more than was asked for ---


@pytest.mark.parametrize("surplus", [POISON, b"junk", b"H", b"HTTP/1.1 200 OK\r\n"])
async def test_d09_bytes_behind_a_response_end_its_connection(surplus: bytes) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab" + surplus))
        assert await client.fetch() == (200, b"ab")
        status, body = await client.fetch("/next")

    assert (status, b"poison" in body) == (200, False)
    assert upstream.requests[-1].connection == 2


@pytest.mark.parametrize("late", [POISON, b"j", b"\r\n"])
async def test_d09_late_bytes_on_an_idle_connection_end_it(late: bytes) -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", later(gate, send(late)), reply(200, body=b"ab"))
        assert await client.fetch() == (200, b"ab")
        assert client.idle == 1
        gate.open()
        await eventually(lambda: client.idle == 0)
        status, body = await client.fetch("/next")

    assert (status, b"poison" in body) == (200, False)
    assert upstream.requests[-1].connection == 2


async def test_d09_late_bytes_still_in_the_kernel_are_not_the_next_answer() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch()
        # Sent straight into the socket, without a turn of the loop: the client's transport has not read it yet.
        upstream.wires[0].transport.write(POISON)
        status, body = await client.fetch("/next")

    assert (status, b"poison" in body) == (200, False)
    assert upstream.requests[-1].connection == 2


async def test_d09_nonces_match_while_responses_come_twice() -> None:
    twice = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntwice"
    async with ScriptedUpstream() as upstream, client_for(upstream.url, max_connections=4) as client:
        upstream.on("/twice", send(twice * 2))

        async def one(number: int) -> None:
            assert await client.fetch("/twice") == (200, b"twice")
            status, body = await client.fetch(f"/{number}", headers=[("Host", "h"), ("X-Nonce", str(number))])
            assert (status, f'"nonce": "{number}"'.encode() in body) == (200, True)

        await asyncio.gather(*(one(number) for number in range(100)))


# --- D02: nothing comes ---


@pytest.mark.parametrize("step", [close(), reset()])
async def test_d02_fresh_connection_that_ends_is_not_tried_again(step: Step) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", step)
        for method in ("GET", "POST"):
            with pytest.raises(ConnectionTerminated) as caught:
                await client.fetch(method=method)
            assert caught.value.request_written

    assert upstream.hits("/") == 2


@pytest.mark.parametrize("step", [close(), reset()])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
async def test_d02_reused_connection_that_ends_is_replaced_once_for_idempotent_methods(method: str, step: Step) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch("/first")
        upstream.on("/", step, times=1)
        assert (await client.fetch(method=method))[0] == 200

    assert [request.connection for request in upstream.requests] == [1, 1, 2]
    assert client.observer.attempts == ["2xx", "2xx"]


async def test_d02_only_once() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch("/first")
        upstream.on("/", close())
        with pytest.raises(ConnectionTerminated):
            await client.fetch()

    assert upstream.hits("/") == 2


@pytest.mark.parametrize("step", [close(), reset()])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_d02_other_methods_reach_the_upstream_once(method: str, step: Step) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch("/first")
        upstream.on("/", step)
        with pytest.raises(ConnectionTerminated) as caught:
            await client.fetch(method=method, body=b"x")

    assert caught.value.request_written
    assert upstream.hits("/") == 1


async def test_d02_part_of_a_response_ends_the_matter() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch("/first")
        upstream.on("/", send(b"HTT"), close())
        with pytest.raises(ConnectionTerminated):
            await client.fetch()

    assert upstream.hits("/") == 1


async def test_d02_small_put_body_is_sent_again_and_a_consumed_one_is_not() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch("/first")
        upstream.on("/", close(), times=1)
        assert (await client.fetch(method="PUT", body=b"small"))[0] == 200
        assert upstream.requests[-1].body == b"small"

        upstream.on("/big", close(), times=1)
        with pytest.raises(ConnectionTerminated):
            await client.fetch("/big", method="PUT", body=PiecewiseBody(b"a", b"b"))

    assert upstream.hits("/big") == 1


async def test_d02_the_second_connection_is_new_even_at_the_limit() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, client_for(upstream.url, max_connections=2) as client:
        upstream.on("/gate", gate, reply(200))
        first = asyncio.ensure_future(client.fetch("/gate"))
        await gate.reached.wait()
        await client.fetch("/two")
        gate.open()
        await first
        upstream.on("/", close(), times=1)
        assert client.idle == 2
        assert (await client.fetch())[0] == 200

    assert upstream.requests[-1].connection == 3
    assert upstream.requests[-1].number == 1


# --- D03: closed while idle ---


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_d03_idle_connection_that_ends_is_dropped_at_once(ending: str) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch()
        getattr(upstream.wires[0], ending)()
        await eventually(lambda: client.idle == 0)
        assert (await client.fetch(method="POST", body=b"x"))[0] == 200

    assert client.observer.connections["reused"] == 0


async def test_d03_post_races_with_the_close_of_idle_connections() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("*", reply(200), later(close()))
        for number in range(200):
            method = "POST" if number % 2 else "GET"
            try:
                assert (await client.fetch(f"/{number}", method=method))[0] == 200
            except ConnectionTerminated:
                assert method == "POST"  # one visible failure, and never a second hit
            if number % 3:
                await asyncio.sleep(0)

    posts = [request.target for request in upstream.requests if request.method == "POST"]
    assert len(posts) == len(set(posts))


async def test_handed_over_connection_that_just_ended_is_replaced() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, client_for(upstream.url, max_connections=1) as client:
        upstream.on("/first", gate, reply(200), close())
        first = asyncio.ensure_future(client.fetch("/first"))
        await gate.reached.wait()
        second = asyncio.ensure_future(client.fetch("/second"))
        await eventually(lambda: client.waiting == 1)
        gate.open()

        assert (await first)[0] == 200
        assert (await second)[0] == 200


# --- age ---


async def test_idle_connection_is_closed_after_its_timeout() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url, idle_timeout=0.05) as client:
        await client.fetch()
        assert client.idle == 1
        await upstream.wait_closed()
        assert client.idle == 0


async def test_connection_is_not_used_beyond_its_age() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url, max_age=0.15) as client:
        async with asyncio.timeout(10):
            while len(upstream.wires) < 3:
                await client.fetch()
                await asyncio.sleep(0.01)
        assert client.idle <= 1

    assert client.observer.connections["reused"] > 0


async def test_connection_is_not_handed_on_beyond_its_age() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url, max_age=0.1, max_connections=1) as client:

        async def until_replaced() -> None:
            while len(upstream.wires) < 3:
                await client.fetch()

        async with asyncio.timeout(10):
            await asyncio.gather(*(until_replaced() for _ in range(3)))


# --- integrity under a mix ---


async def test_nonces_match_under_mixed_traffic_and_faults() -> None:
    random = Random(3)
    async with ScriptedUpstream() as upstream, FaultProxy(upstream.port) as faults:
        upstream.on("/chunked", reply_chunked(b"a", b"b"))
        upstream.on("/close", reply(200, {"Connection": "close"}, b"ab"))
        upstream.on("/poison", send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab" + POISON))
        upstream.on("/truncated", head(200, {"Content-Length": "9"}), send(b"abc"), close())
        upstream.on("/reset", reset())
        upstream.on("/hang", hang())
        odd = ["/chunked", "/close", "/poison", "/truncated", "/reset", "/hang"]

        async with client_for(f"http://127.0.0.1:{faults.port}", max_connections=16) as client:

            async def one(number: int) -> None:
                if random.random() < 0.3:
                    await _provoke(client, random.choice(odd), random)
                headers = [("Host", "h"), ("X-Nonce", f"nonce-{number}")]
                status, body = await client.fetch(f"/{number}", headers=headers)
                assert (status, f'"nonce": "nonce-{number}"'.encode() in body) == (200, True)

            for start in range(0, 400, 40):
                await asyncio.gather(*(one(number) for number in range(start, start + 40)))
            assert (client.busy, client.waiting) == (0, 0)


async def _provoke(client: Client, target: str, random: Random) -> None:
    try:
        async with asyncio.timeout(random.random() * 0.05):
            response = await client.ask(target)
            if random.random() < 0.5:
                await read_all(response)
            response.close()
    except (ProxyError, TimeoutError):
        return


@pytest.mark.parametrize("unasked", [POISON, b"x"])
async def test_upstream_that_spoke_unasked_is_not_trusted_with_reuse_for_a_while(unasked: bytes) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/double", reply(200, body=b"one"), send(unasked), times=1)
        await client.fetch("/double")
        await eventually(lambda: client.observer.connections["surplus"] == 1)

        for _ in range(3):
            assert (await client.fetch("/next"))[0] == 200

    assert [request.connection for request in upstream.requests] == [1, 2, 3, 4]
    assert client.observer.connections["reused"] == 0


async def test_empty_line_too_many_is_no_reason_for_distrust() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", reply(200, body=b"one"), send(b"\r\n"))
        for _ in range(5):
            assert (await client.fetch("/"))[1] == b"one"

    assert client.observer.connections["surplus"] == 0
