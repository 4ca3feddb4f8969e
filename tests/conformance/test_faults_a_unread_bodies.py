"""Faults A12 to A14: bodies that nobody reads hide no request, and Expect gets its 100 only once the body is wanted."""

from typing import Any

import pytest

from tests.support.client import RawClient
from tests.support.edge import SECOND, check_last, check_problem, request, running_edge
from tests.support.messages import Response

pytestmark = pytest.mark.both_loops

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: api.example\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(HIDDEN)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
IN_CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
EXPECT = b"Expect: 100-continue\r\n"

SETTINGS: dict[str, Any] = {
    "server": {"hosts": ["api.example", "localhost"], "limits": {"max_body": "128KiB"}},
    "routes": [
        {"name": "items", "match": "POST /items"},
        {"name": "second", "match": "GET /second"},
        {"name": "canary", "match": "GET /canary"},
        {"name": "hidden", "match": "GET /hidden"},
    ],
}
REFUSED = {
    "404": (404, {}),
    "405": (405, {"target": "/hidden"}),
    "421": (421, {"target": "/items", "host": "evil.example"}),
    "ambiguous": (400, {"target": "//items"}),
}


def refused(fields: bytes, body: bytes = b"", *, host: str = "api.example", **options: Any) -> bytes:
    raw = request(fields, body, **options)
    return raw.replace(b"Host: api.example", f"Host: {host}".encode(), 1)


@pytest.mark.parametrize(("status", "options"), REFUSED.values(), ids=REFUSED)
async def test_a12_unread_body_is_read_away(status: int, options: dict[str, Any]) -> None:
    async with running_edge(**SETTINGS) as edge:
        await edge.refuses_but_goes_on(refused(LENGTH, HIDDEN, **options), status)


@pytest.mark.parametrize(("status", "options"), REFUSED.values(), ids=REFUSED)
async def test_a12_unread_body_is_read_away_when_it_comes_after_the_answer(
    status: int, options: dict[str, Any]
) -> None:
    async with running_edge(**SETTINGS) as edge, edge.client() as client:
        await client.send(refused(LENGTH, HIDDEN[:10], **options))
        response = await client.read_response()
        await client.send(HIDDEN[10:] + SECOND)
        assert (await client.read_response()).status == 200

    check_problem(response, status)
    assert [each.target for each in edge.upstream.requests] == ["/second"]


@pytest.mark.parametrize(("status", "options"), REFUSED.values(), ids=REFUSED)
async def test_a12_unread_chunks_end_the_connection(status: int, options: dict[str, Any]) -> None:
    async with running_edge(**SETTINGS) as edge:
        await edge.refuses(refused(CHUNKED, IN_CHUNKS, **options), status)


@pytest.mark.parametrize(("status", "options"), REFUSED.values(), ids=REFUSED)
async def test_a12_large_unread_body_ends_the_connection(status: int, options: dict[str, Any]) -> None:
    body = HIDDEN * 2000

    async with running_edge(**SETTINGS) as edge:
        await edge.refuses(refused(b"Content-Length: %d\r\n" % len(body), body, **options), status)


async def test_a12_body_over_the_limit_ends_the_connection() -> None:
    body = HIDDEN * 4000

    async with running_edge(**SETTINGS) as edge:
        await edge.refuses(request(b"Content-Length: %d\r\n" % len(body), body, target="/items"), 413)


async def test_a12_request_inside_a_message_with_two_framings_is_not_seen() -> None:
    async with running_edge(**SETTINGS) as edge:
        await edge.refuses(request(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n" + HIDDEN), 400)


# --- A13: the body is not wanted ---


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize(("status", "options"), REFUSED.values(), ids=REFUSED)
async def test_a13_refused_expectation_gets_no_100(status: int, options: dict[str, Any], framing: bytes) -> None:
    async with running_edge(**SETTINGS) as edge:
        response = await _refused_without_body(edge.port, refused(EXPECT + framing, **options))

    check_problem(response, status)
    assert (response.interim, edge.upstream.requests) == ([], [])


async def test_a13_body_over_the_limit_gets_no_100() -> None:
    async with running_edge(**SETTINGS) as edge:
        raw = request(EXPECT + b"Content-Length: 200000\r\n", target="/items")
        response = await _refused_without_body(edge.port, raw)

    check_problem(response, 413)
    assert (response.interim, edge.upstream.requests) == ([], [])


async def _refused_without_body(port: int, raw: bytes) -> Response:
    async with RawClient(port) as client:
        await client.send(raw)
        response = await client.read_response()
        await check_last(client, response)
        return response


# --- A14: the body is wanted ---


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a14_one_100_and_one_answer(framing: str) -> None:
    head, body = (LENGTH, HIDDEN) if framing == "length" else (CHUNKED, IN_CHUNKS)
    async with running_edge(**SETTINGS) as edge, edge.client() as client:
        await client.send(request(EXPECT + head, target="/items"))
        await client.wire.read_until(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert edge.upstream.requests == []
        await client.send(body)
        response = await client.read_response()
        assert (await client.request("GET", "/second")).status == 200

    assert (response.status, response.interim) == (200, [])
    assert (edge.upstream.requests[0].body, edge.upstream.requests[0].header("Expect")) == (HIDDEN, None)


async def test_a14_body_that_comes_at_once_is_not_asked_for() -> None:
    async with running_edge(**SETTINGS) as edge:
        received = await edge.passes(request(EXPECT + LENGTH, HIDDEN, target="/items"))

    assert (received.body, received.header("Expect")) == (HIDDEN, None)


@pytest.mark.parametrize(
    "fields", [b"Expect: y 100-continue\r\n", b"Expect: 100-continue, 100-continue\r\n", EXPECT * 2, b"Expect: \r\n"]
)
async def test_a14_other_expectations_fail(fields: bytes) -> None:
    async with running_edge(**SETTINGS) as edge:
        await edge.refuses(request(fields + LENGTH, HIDDEN, target="/items"), 417)


async def test_a14_expectation_in_http_1_0_is_ignored() -> None:
    raw = b"POST /items HTTP/1.0\r\nHost: api.example\r\nConnection: keep-alive\r\n" + EXPECT + LENGTH + b"\r\n"
    async with running_edge(**SETTINGS) as edge, edge.client() as client:
        await client.send(raw + HIDDEN)
        response = await client.read_response()

    assert (response.status, response.interim) == (200, [])
    assert edge.upstream.requests[0].header("Expect") is None
