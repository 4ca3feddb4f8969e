"""Faults A16 and A17: many requests on one connection, and what is no HTTP/1 at all."""

import asyncio

import pytest

from tests.support.edge import SECOND, check_last, request, running_edge
from tests.support.steps import Gate, reply, reply_chunked

pytestmark = pytest.mark.both_loops

ROUTES = [{"name": "things", "match": "GET /things/{id}"}, {"name": "second", "match": "GET /second"}]


def get(target: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: api.example", *fields, "", ""]).encode()


async def test_a16_pipelined_requests_are_answered_in_order_one_each() -> None:
    slow = Gate()
    async with running_edge(routes=ROUTES) as edge, edge.client() as client:
        edge.upstream.on("/things/slow", slow, reply(200, body=b"slow"))
        edge.upstream.on("/things/chunked", reply_chunked(b"chun", b"ked"))
        names = ["slow", "5", "chunked", "", "7", "absent"] * 9
        await client.send(b"".join(get(f"/things/{name}" if name else "/nowhere") for name in names))
        await slow.reached.wait()
        slow.open()
        answers = [await client.read_response() for _ in names]
        assert client.unread == b""

    for name, answer in zip(names, answers, strict=True):
        match name:
            case "":
                assert answer.status == 404
            case "slow" | "chunked":
                assert answer.body == name.encode()
            case _:
                assert answer.json()["target"] == f"/things/{name}"
    assert len(edge.upstream.requests) == 9 * 5


async def test_a16_client_that_pipelines_without_measure_is_not_read_from() -> None:
    gate = Gate()
    flood = b"".join(get(f"/nowhere/{number}", "X: " + "x" * 4000) for number in range(5000))
    async with running_edge(routes=ROUTES) as edge, edge.client() as client:
        edge.upstream.on("/second", gate, reply(200))
        sending = asyncio.create_task(client.send(SECOND + flood))
        await gate.reached.wait()
        # 20 MB: more than the kernel holds between the two, so the sender gets rid of it only if it is read.
        finished, _ = await asyncio.wait([sending], timeout=0.3)
        assert not finished
        gate.open()
        answers = [(await client.read_response(check=False)).status for _ in range(5001)]
        await sending

    assert answers == [200] + [404] * 5000


async def test_a16_what_follows_a_malformed_request_is_not_answered() -> None:
    async with running_edge() as edge, edge.client() as client:
        await client.request("GET", "/first")
        await client.send(b"zq7\r\n\r\n" + SECOND)
        response = await client.read_response()
        await check_last(client, response)

    assert response.status == 400
    assert [each.target for each in edge.upstream.requests] == ["/first"]


@pytest.mark.parametrize("fields", [b"Connection: close\r\n", b"Connection: keep-alive, Close\r\n"])
async def test_a16_what_follows_the_last_request_is_not_answered(fields: bytes) -> None:
    async with running_edge() as edge:
        received = await edge.passes(request(fields, method="GET"), pipelined=False, ends=True)

    assert received.header("Connection") is None


async def test_a16_the_same_fields_are_checked_again_for_another_version() -> None:
    fields, body = b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"
    async with running_edge() as edge, edge.client() as client:
        await client.send(request(fields, body))
        assert (await client.read_response()).status == 200
        await client.send(request(fields, body).replace(b"HTTP/1.1", b"HTTP/1.0"))
        response = await client.read_response()
        await check_last(client, response)

    assert (response.status, len(edge.upstream.requests)) == (400, 1)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"GET /zq7 HTTP/2.0\r\nHost: api.example\r\n\r\n", id="2.0"),
        pytest.param(b"GET /zq7 HTTP/1.2\r\nHost: api.example\r\n\r\n", id="1.2"),
        pytest.param(b"GET /zq7 HTTP/0.9\r\nHost: api.example\r\n\r\n", id="0.9"),
        pytest.param(b"GET /zq7 HTTP/1.1x\r\nHost: api.example\r\n\r\n", id="1.1x"),
        pytest.param(b"GET /zq7 HTTP/11\r\nHost: api.example\r\n\r\n", id="11"),
        pytest.param(b"GET /zq7 http/1.1\r\nHost: api.example\r\n\r\n", id="lower-case"),
        pytest.param(b"GET /zq7\r\n\r\n", id="no-version"),
        pytest.param(b"GET /zq7 zq7 HTTP/1.1\r\nHost: api.example\r\n\r\n", id="space-in-target"),
        pytest.param(b"GET\t/zq7\tHTTP/1.1\r\nHost: api.example\r\n\r\n", id="tabs"),
        pytest.param(b" GET /zq7 HTTP/1.1\r\nHost: api.example\r\n\r\n", id="leading-space"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http2-preface"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), id="tls-hello"),
        pytest.param(b"\xde\xad\xbe\xef" * 15000, id="garbage"),
        pytest.param(b"zq7" * 20000, id="letters"),
        pytest.param(b"\0" * 100, id="nul"),
    ],
)
async def test_a17_other_protocols_are_refused(raw: bytes) -> None:
    async with running_edge() as edge:
        await edge.refuses(raw, 400, 505)


@pytest.mark.parametrize(
    "start", [b"\r\n\r\nGET /zq7", b"GET   /zq7", b"GET /zq7  "], ids=["empty-lines", "spaces", "more-spaces"]
)
async def test_a17_what_rfc_9112_lets_a_server_overlook_is_not_passed_on(start: bytes) -> None:
    async with running_edge() as edge:
        received = await edge.passes(start + b" HTTP/1.1\r\nHost: api.example\r\n\r\n")

    assert received.raw.startswith(b"GET /zq7 HTTP/1.1\r\n")
