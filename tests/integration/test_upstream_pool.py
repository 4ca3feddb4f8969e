"""The limit of connections, the queue in front of it, and what cancelled exchanges leave behind: nothing."""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from functools import partial
from math import inf
from random import Random

import pytest

from proxy.config.model import UpstreamConfig
from proxy.config.types import UpstreamUrl
from proxy.errors import ConnectionLimitReached, ConnectionTimeout, ProxyError, Source
from proxy.outbox import Outbox
from proxy.upstream.dial import Dialer
from proxy.upstream.dns import Resolver
from proxy.upstream.pool import Pool
from tests.support.exchange import PiecewiseBody
from tests.support.steps import Gate, chunk, hang, head, last_chunk, reply
from tests.support.upstream import ScriptedUpstream, blackhole_port, refusing_port
from tests.support.upstream_client import Client, Recorder, client_for, read_all
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_loops


async def test_never_more_connections_than_allowed() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url, max_connections=3) as client:
        results = await asyncio.gather(*(client.fetch(f"/{n}") for n in range(50)))

        assert {status for status, _ in results} == {200}
        assert (client.idle, client.busy, client.waiting) == (3, 0, 0)

    assert len(upstream.wires) == 3


async def test_full_pool_refuses_after_the_connect_timeout_without_blaming_the_upstream() -> None:
    async with (
        ScriptedUpstream() as upstream,
        client_for(upstream.url, max_connections=1, connect_timeout=0.1) as client,
    ):
        upstream.on("/", hang())
        holder = asyncio.ensure_future(client.fetch())
        await upstream.wait_for_requests(1)
        with pytest.raises(ConnectionLimitReached) as caught:
            await client.fetch("/other")
        assert client.waiting == 0
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)

    assert (caught.value.status, caught.value.source, caught.value.request_written) == (503, Source.PROXY, False)
    assert client.observer.attempts == ["connection_limit_reached"]
    assert upstream.hits("/other") == 0


async def test_waiters_give_up_at_their_deadline() -> None:
    async with (
        ScriptedUpstream() as upstream,
        client_for(upstream.url, max_connections=1, connect_timeout=30.0) as client,
    ):
        upstream.on("/", hang())
        holder = asyncio.ensure_future(client.fetch())
        await upstream.wait_for_requests(1)
        with pytest.raises(ConnectionLimitReached):
            await client.fetch("/other", total=0.5)
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)


async def test_freed_connection_goes_to_the_first_in_the_queue() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, client_for(upstream.url, max_connections=1) as client:
        upstream.on("/first", gate, reply(200))
        fetches = [asyncio.ensure_future(client.fetch("/first"))]
        await gate.reached.wait()
        for number in range(5):
            fetches.append(asyncio.ensure_future(client.fetch(f"/{number}")))
            await eventually(partial(_are_waiting, client, number + 1))
        gate.open()
        await asyncio.gather(*fetches)

    assert [request.target for request in upstream.requests] == ["/first", *(f"/{number}" for number in range(5))]
    assert len(upstream.wires) == 1


async def test_connection_is_busy_until_the_body_ends() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, client_for(upstream.url, max_connections=1) as client:
        upstream.on("/", head(200, {"Transfer-Encoding": "chunked"}), gate, chunk(b"a"), last_chunk())
        response = await client.ask()
        waiter = asyncio.ensure_future(client.fetch("/next"))
        await eventually(lambda: client.waiting == 1)
        assert client.busy == 1
        gate.open()
        assert await read_all(response) == b"a"

        assert (await waiter)[0] == 200


async def test_closed_connection_makes_room_for_a_waiter() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url, max_connections=1) as client:
        upstream.on("/", head(200), hang())
        response = await client.ask()
        waiter = asyncio.ensure_future(client.fetch("/next"))
        await eventually(lambda: client.waiting == 1)
        response.close()

        assert (await waiter)[0] == 200


async def test_cancelled_waiter_leaves_the_queue() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, client_for(upstream.url, max_connections=1) as client:
        upstream.on("/first", gate, reply(200))
        first = asyncio.ensure_future(client.fetch("/first"))
        await gate.reached.wait()
        gone, stays = (asyncio.ensure_future(client.fetch(target)) for target in ("/gone", "/stays"))
        await eventually(lambda: client.waiting == 2)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert client.waiting == 1
        gate.open()

        assert ((await first)[0], (await stays)[0]) == (200, 200)

    assert upstream.hits("/gone") == 0


async def test_waiter_cancelled_in_the_moment_of_its_turn_passes_the_connection_on() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, client_for(upstream.url, max_connections=1) as client:
        upstream.on("/first", head(200, {"Content-Length": "1"}), hang())
        first = await client.ask("/first")
        gone, stays = (asyncio.ensure_future(client.fetch(target)) for target in ("/gone", "/stays"))
        await eventually(lambda: client.waiting == 2)
        first.close()  # frees the place; both waiters hear of it in later turns of the loop
        await eventually(lambda: client.busy == 1 or client.waiting < 2)
        gone.cancel()

        assert (await stays)[0] == 200
        await asyncio.gather(gone, return_exceptions=True)
        gate.open()


async def test_abandoned_connect_ends_in_the_pool() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        task = asyncio.ensure_future(client.fetch())
        await asyncio.sleep(0)
        assert client.waiting == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await eventually(lambda: client.idle == 1)
        await client.fetch()

    assert len(upstream.wires) == 1


@contextlib.asynccontextmanager
async def pool_for(url: UpstreamUrl) -> AsyncIterator[Pool]:
    loop = asyncio.get_running_loop()
    dialer = Dialer(loop, url, Resolver(loop), timeout=1.0, context=None, server_name=None)
    pool = Pool(UpstreamConfig(name="api", endpoints=(url,)), dialer, loop, Recorder(), Random(1).random, Outbox(loop))
    yield pool
    await pool.close()


async def test_connection_that_has_served_others_does_not_go_to_who_needs_a_fresh_one() -> None:
    async with ScriptedUpstream() as upstream, pool_for(UpstreamUrl.parse(upstream.url)) as pool:
        used = await pool.wait(inf)
        used.served = 1
        fresh = asyncio.ensure_future(pool.wait(inf, fresh=True))
        await asyncio.sleep(0)
        assert pool.connecting == 1
        pool.release(used)

        given = await fresh
        assert given is not used
        assert pool.idle == 1
        given.abort()


async def test_waiter_cancelled_just_after_it_got_a_connection_hands_it_back() -> None:
    async with ScriptedUpstream() as upstream, pool_for(UpstreamUrl.parse(upstream.url)) as pool:
        connection = await pool.wait(inf)
        waiter = asyncio.ensure_future(pool.wait(inf))
        await asyncio.sleep(0)
        pool.release(connection)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)

        assert pool.take(asyncio.get_running_loop().time()) is connection
        connection.abort()


async def test_exchange_cancelled_just_after_its_head_came_ends_its_connection() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", hang())
        task = asyncio.ensure_future(client.fetch())
        await upstream.wait_for_requests(1)
        (connection,) = client.upstream._all[0].pool._connections
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert (client.idle, client.busy) == (0, 0)


async def test_exchange_cancelled_while_the_upstream_is_silent_ends_its_connection() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", hang())
        task = asyncio.ensure_future(client.fetch())
        await upstream.wait_for_requests(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert (client.idle, client.busy) == (0, 0)
        await upstream.wait_closed()


async def test_out_of_file_descriptors_is_not_the_upstreams_fault() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with refusing_port() as port:
        async with client_for(f"http://127.0.0.1:{port}") as client:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # 0, 1 and 2 are taken
            try:
                with pytest.raises(ConnectionLimitReached):
                    await client.fetch()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_deadline_while_connecting() -> None:
    with blackhole_port() as port:
        async with client_for(f"http://127.0.0.1:{port}", connect_timeout=5.0) as client:
            with pytest.raises(ConnectionTimeout) as caught:
                await client.fetch(total=0.1)

    assert not caught.value.request_written


async def test_close_lets_busy_connections_finish() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/slow", gate, reply(200, body=b"done"))
        slow = asyncio.ensure_future(client.fetch("/slow"))
        await gate.reached.wait()
        await client.fetch("/quick")
        await client.upstream.close()
        assert (client.idle, client.busy) == (0, 1)
        gate.open()

        assert await slow == (200, b"done")
        assert (client.idle, client.busy) == (0, 0)


async def test_exchange_that_comes_after_the_close_is_still_served() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        gone = asyncio.ensure_future(client.fetch())
        await asyncio.sleep(0)
        gone.cancel()
        await client.upstream.close()
        await asyncio.gather(gone, return_exceptions=True)

        assert (await client.fetch())[0] == 200
        assert (client.idle, client.busy) == (0, 0)


async def test_repr_tells_the_state() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch()

        assert repr(client.upstream) == (
            f"<Upstream api [<Endpoint {upstream.url} healthy=True failures=0 "
            f"<Pool <Dialer {upstream.url}> idle=1 busy=0 connecting=0 waiting=0>>]>"
        )


async def test_a_thousand_random_cancellations_leave_nothing() -> None:
    random = Random(11)
    async with ScriptedUpstream() as upstream, client_for(upstream.url, max_connections=8) as client:
        upstream.on("/stream", head(200, {"Transfer-Encoding": "chunked"}), chunk(b"a"), chunk(b"b"), last_chunk())
        upstream.on("/slow", head(200, {"Content-Length": "4"}), hang())
        for _ in range(20):
            await asyncio.gather(*(_cancelled_exchange(client, random) for _ in range(50)))

        await eventually(lambda: (client.busy, client.waiting) == (0, 0))
        assert (await client.fetch("/after"))[0] == 200
        await eventually(lambda: upstream.open_connections == client.idle)


async def _cancelled_exchange(client: Client, random: Random) -> None:
    target = random.choice(["/", "/stream", "/slow"])
    body = random.choice([None, b"x" * 100, PiecewiseBody(b"a", b"b", b"c")])

    async def exchange() -> None:
        response = await client.ask(target, "POST" if body else "GET", body=body)
        try:
            await read_all(response)
        finally:
            response.close()

    task = asyncio.ensure_future(exchange())
    for _ in range(random.randrange(12)):
        await asyncio.sleep(0)
    if random.random() < 0.5:
        await asyncio.sleep(random.random() * 0.01)
    task.cancel()
    try:
        await task
    except (asyncio.CancelledError, ProxyError):
        return


def _are_waiting(client: Client, number: int) -> bool:
    return client.waiting == number
