"""Request bodies on their way up: backpressure, early answers (D18), bodies that fail."""

import asyncio

import pytest

from proxy.errors import BadRequest, ClientDisconnected, InternalError, ProxyError
from tests.support.exchange import PiecewiseBody
from tests.support.steps import Gate, hang, head, read_body, reply, send, stop_reading
from tests.support.upstream import ScriptedUpstream
from tests.support.upstream_client import client_for, read_all
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_loops

PIECE = b"x" * 65536


class FailingBody(PiecewiseBody):
    """Raises after its first piece."""

    def __init__(self, error: Exception) -> None:
        super().__init__(b"first", b"never")
        self._error = error

    async def read(self) -> bytes:
        if self.received:
            raise self._error
        return await super().read()


class GatedBody(PiecewiseBody):
    """Gives its second piece when told."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__(*pieces)
        self.go_on = asyncio.Event()

    async def read(self) -> bytes:
        if self.received:
            await self.go_on.wait()
        return await super().read()


async def test_large_body_arrives_whole() -> None:
    body = PiecewiseBody(*[PIECE] * 100, content_length=100 * len(PIECE))
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        assert (await client.fetch(method="PUT", body=body))[0] == 200
        assert (await client.fetch("/next"))[0] == 200

    assert upstream.requests[0].body == PIECE * 100
    assert upstream.requests[1].connection == 1


async def test_body_leaves_while_it_comes_in() -> None:
    body = GatedBody(b"one", b"two")
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", read_body(), reply(200), early=True)
        fetch = asyncio.ensure_future(client.fetch(method="POST", body=body))
        await upstream.wait_until(lambda: bool(upstream.requests) and bytes(upstream.requests[0].body) == b"one")
        body.go_on.set()

        assert (await fetch)[0] == 200


async def test_slow_upstream_slows_the_client_down() -> None:
    body = PiecewiseBody(*[PIECE] * 1000)
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", stop_reading(), hang(), early=True)
        fetch = asyncio.ensure_future(client.fetch(method="POST", body=body))
        await upstream.wait_for_requests(1)
        before = -1
        while before != body.received:  # until nothing moves any more
            before = body.received
            await asyncio.sleep(0.05)
        fetch.cancel()
        await asyncio.gather(fetch, return_exceptions=True)

    assert body.received < 500 * len(PIECE)


@pytest.mark.parametrize("status", [401, 413])
async def test_d18_early_answer_is_delivered_and_stops_the_upload(status: int) -> None:
    body = GatedBody(b"one", b"two", b"three")
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", reply(status, body=b"no"), hang(), early=True)
        assert await client.fetch(method="POST", body=body) == (status, b"no")
        body.go_on.set()
        await upstream.wait_closed()
        assert (client.idle, client.busy) == (0, 0)

    assert body.received == 3


async def test_d18_early_streamed_answer_keeps_the_connection_until_its_end() -> None:
    gate = Gate()
    body = GatedBody(b"one", b"two")
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", head(413, {"Content-Length": "4"}), gate, send(b"much"), hang(), early=True)
        response = await client.ask(method="POST", body=body)
        body.go_on.set()
        gate.open()
        assert await read_all(response) == b"much"
        await upstream.wait_closed()

    assert client.busy == 0
    assert body.received == 3


async def test_d18_request_that_has_not_left_entirely_ends_the_connection() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", stop_reading(), reply(413, body=b"much"), hang(), early=True)

        assert await client.fetch(method="POST", body=PIECE * 400) == (413, b"much")
        assert (client.idle, client.busy) == (0, 0)


async def test_d18_answer_while_the_upstream_stopped_reading() -> None:
    body = PiecewiseBody(*[PIECE] * 1000)
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        upstream.on("/", stop_reading(), reply(413, body=b"much"), hang(), early=True)

        assert await client.fetch(method="POST", body=body) == (413, b"much")
        assert client.busy == 0


@pytest.mark.parametrize(
    ("error", "raised"), [(ClientDisconnected(), ClientDisconnected), (RuntimeError("bug"), InternalError)]
)
async def test_body_that_fails_ends_the_exchange(error: Exception, raised: type[ProxyError]) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        with pytest.raises(raised):
            await client.fetch(method="POST", body=FailingBody(error))
        await upstream.wait_closed()
        assert client.busy == 0

    assert not upstream.requests[0].complete


async def test_body_that_fails_before_its_first_byte_takes_no_connection() -> None:
    body = FailingBody(ClientDisconnected())
    body.received = 1
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        with pytest.raises(ClientDisconnected):
            await client.fetch(method="POST", body=body)

    assert upstream.wires == []


@pytest.mark.parametrize("pieces", [(b"ab",), (b"abcd",), (b"ab", b"cde"), (b"ab", b"")])
async def test_body_of_another_length_than_declared_never_becomes_the_next_request(pieces: tuple[bytes, ...]) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        body = PiecewiseBody(*pieces, content_length=3)
        with pytest.raises(BadRequest):
            await client.fetch(method="POST", body=body)
        assert client.idle == 0

    assert all(not request.complete for request in upstream.requests)


async def test_cancelled_upload_ends_its_connection() -> None:
    body = GatedBody(b"one", b"two")
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        fetch = asyncio.ensure_future(client.fetch(method="POST", body=body))
        await upstream.wait_for_requests(1)
        fetch.cancel()
        await asyncio.gather(fetch, return_exceptions=True)
        await eventually(lambda: client.busy == 0)
        await upstream.wait_closed()

    assert not upstream.requests[0].complete
