"""What the upstream gets to see of a request."""

import pytest

from proxy.config.model import HeaderEdit
from proxy.errors import AmbiguousPath, DeadlineExceeded
from tests.support.exchange import PiecewiseBody
from tests.support.upstream import ScriptedUpstream
from tests.support.upstream_client import client_for

pytestmark = pytest.mark.both_loops


async def test_fields_keep_spelling_order_and_repetition() -> None:
    fields = [("Host", "api.example"), ("X-b", "1"), ("x-A", "2"), ("X-B", "3"), ("COOKIE", "caf\xe9")]
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch("/a%2fb?x=%2F&y", headers=[(n, v.encode("latin-1")) for n, v in fields])

    request = upstream.requests[0]
    assert request.target == "/a%2fb?x=%2F&y"
    assert request.headers[:5] == [(n.encode(), v.encode("latin-1")) for n, v in fields]


async def test_edge_fields_and_attempt_come_after_the_clients() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        exchange = client.exchange(headers=[("Host", "h"), ("Accept", "*/*"), ("X-Request-Attempt", "9")], attempt=5)
        exchange.forwarded = [(b"Via", b"1.1 tidegate")]
        exchange.request_id = "r1"
        exchange.attempt = 2
        await client.upstream.handle(exchange)

    request = upstream.requests[0]
    assert request.names() == ["Host", "Accept", "Via", "X-Request-ID", "X-Request-Attempt", "X-Request-Deadline-Ms"]
    assert request.header("X-Request-Attempt") == "2"
    assert 0 < int(request.header("X-Request-Deadline-Ms") or 0) <= 5000


async def test_without_a_deadline_none_is_sent() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch(total=None)

    assert upstream.requests[0].header_list("X-Request-Deadline-Ms") == []


async def test_hop_by_hop_fields_stay_here() -> None:
    fields = [
        ("Host", "h"),
        ("Connection", "close, X-Private"),
        ("X-Private", "1"),
        ("TE", "trailers"),
        ("Accept", "a"),
    ]
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch(headers=fields)
        await client.fetch(headers=fields)

    assert upstream.requests[0].names()[:2] == ["Host", "Accept"]
    assert "Connection" not in upstream.requests[0].names()
    assert upstream.requests[1].connection == 1


@pytest.mark.parametrize(
    ("host", "sent"),
    [("preserve", "api.example"), ("upstream", "127.0.0.1:{port}"), ("internal.test:8443", "internal.test:8443")],
)
async def test_host_field(host: str, sent: str) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url, host=host) as client:
        await client.fetch()

    assert upstream.requests[0].header("Host") == sent.format(port=upstream.port)


async def test_a_client_without_host_gets_that_of_the_endpoint() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch(headers=())

    assert upstream.requests[0].header("Host") == f"127.0.0.1:{upstream.port}"


async def test_edits_of_the_route_come_last() -> None:
    edit = HeaderEdit(set={"X-Key": "ours"}, remove=("Cookie", "X-Request-Attempt"))
    fields = [("Host", "h"), ("x-key", "client"), ("Cookie", "c"), ("Accept", "a")]
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch(headers=fields, edit=edit, method="POST", body=b"abc")

    request = upstream.requests[0]
    assert request.names() == ["Host", "Accept", "X-Request-ID", "X-Request-Deadline-Ms", "X-Key", "Content-Length"]
    assert request.header("X-Key") == "ours"


async def test_rewritten_path_keeps_the_query() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        exchange = client.exchange("/old/7?q=1", rewrite="/v2/{id}")
        exchange.params = {"id": "7"}
        await client.upstream.handle(exchange)

    assert upstream.requests[0].target == "/v2/7?q=1"


async def test_rewrite_that_leads_astray_reaches_nobody() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        exchange = client.exchange("/old/..", rewrite="/v2/{id}/x")
        exchange.params = {"id": ".."}
        with pytest.raises(AmbiguousPath):
            await client.upstream.handle(exchange)

    assert upstream.requests == []


async def test_no_body_means_no_framing_fields() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch(method="POST")

    assert upstream.requests[0].header_list("Content-Length") == []
    assert upstream.requests[0].header_list("Transfer-Encoding") == []


async def test_declared_length_is_kept() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch(method="POST", body=PiecewiseBody(b"one", b"two", content_length=6))

    assert upstream.requests[0].content_length == 6
    assert upstream.requests[0].body == b"onetwo"


@pytest.mark.parametrize("pieces", [(), (b"",), (b"one",), (b"one", b"two", b"three")])
async def test_unknown_length_is_sent_in_chunks(pieces: tuple[bytes, ...]) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch(method="POST", body=PiecewiseBody(*pieces))

    assert upstream.requests[0].is_chunked
    assert upstream.requests[0].body == b"".join(pieces)


async def test_small_body_leaves_with_the_head_and_the_connection_is_used_again() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch(method="POST", body=b"x" * 1000)
        await client.fetch(method="PUT", body=PiecewiseBody(b"a", b"b"))
        await client.fetch()

    assert [request.connection for request in upstream.requests] == [1, 1, 1]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
async def test_a11_unexpected_body_keeps_its_framing_and_ends_the_connection(method: str) -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        await client.fetch(method=method, body=b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.fetch("/next")

    assert [request.target for request in upstream.requests] == ["/", "/next"]
    assert [request.connection for request in upstream.requests] == [1, 2]


async def test_passed_deadline_dispatches_nothing() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        exchange = client.exchange()
        exchange.deadline = exchange.attempt_deadline = exchange.started
        with pytest.raises(DeadlineExceeded) as caught:
            await client.upstream.handle(exchange)

    assert not caught.value.request_written
    assert upstream.requests == []


async def test_exchange_and_observer_are_told() -> None:
    async with ScriptedUpstream() as upstream, client_for(upstream.url) as client:
        exchange = client.exchange()
        await client.upstream.handle(exchange)

    assert (exchange.upstream_name, exchange.upstream_endpoint) == ("api", upstream.url)
    assert exchange.upstream_status == 200
    assert exchange.upstream_seconds > 0
    assert client.observer.attempts == ["2xx"]
    assert client.observer.connections == {"opened": 1, "closed": 1}
