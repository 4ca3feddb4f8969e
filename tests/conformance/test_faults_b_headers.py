"""Faults B07 and B09 to B13: header fields arrive as they were sent, less what is not the client's to say."""

import pytest

from tests.support.edge import MARK, request, running_edge
from tests.support.messages import ReceivedRequest
from tests.support.steps import head, send

TRUSTING = {"trusted_proxies": ["127.0.0.1"]}
OURS = (
    *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "X-Request-ID"),
    *("Via", "X-Request-Attempt", "X-Request-Deadline-Ms"),
)
"""What the upstream gets from us on each request."""


def fields_of(received: ReceivedRequest, *leaving_out: str) -> list[tuple[bytes, bytes]]:
    """What came from the client, in order."""
    ours = {name.lower().encode() for name in (*OURS, "Host", "X-Mark", *leaving_out)}
    return [(name, value) for name, value in received.headers if name.lower() not in ours]


# --- B07: hop-by-hop ---


@pytest.mark.both_loops
async def test_b07_connection_takes_nothing_away_that_is_ours() -> None:
    listed = ", ".join(["close", "X-User-Id", "Authorization", "Host", "Content-Length", "Transfer-Encoding", *OURS])
    fields = (
        f"Connection: {listed}\r\nX-User-Id: zq7\r\nX-Forwarded-For: 6.6.6.6\r\nAuthorization: zq7\r\n"
        "X-Kept: 1\r\nContent-Length: 2\r\n"
    )

    async with running_edge() as edge:
        received = await edge.passes(request(fields.encode(), b"ab"), pipelined=False, ends=True)

    assert fields_of(received) == [(b"X-Kept", b"1"), (b"Content-Length", b"2")]
    assert (received.header("Host"), received.body) == ("api.example", b"ab")
    assert received.header("X-Forwarded-For") == "127.0.0.1"
    for name in OURS:
        assert received.header(name) is not None


async def test_b07_hop_by_hop_fields_stay_here() -> None:
    names = ("Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Proxy-Authorization", "Proxy-Authenticate")
    fields = "".join(f"{name}: zq7\r\n" for name in names) + "Upgrade: zq7\r\nConnection: X-a\r\nconnection: x-B\r\n"

    async with running_edge() as edge:
        received = await edge.passes(request(fields.encode() + b"x-A: zq7\r\nX-b: zq7\r\n", method="GET"))

    assert fields_of(received) == []


# --- B09: what only we may say ---


@pytest.mark.parametrize("name", [*OURS[:6], *OURS[7:], "x-REQUEST-id", "X-Forwarded-Port", "X-Forwarded-Zq7"])
async def test_b09_internal_field_of_a_client_is_replaced_or_dropped(name: str) -> None:
    async with running_edge() as edge:
        received = await edge.passes(request(f"{name}: zq7\r\n".encode() * 2, method="GET"))

    assert bytes(received.raw).count(MARK) == 2, "in the target and in X-Mark"
    assert len(received.header_list(name)) == (name in OURS or name == "x-REQUEST-id")


@pytest.mark.parametrize(
    "name",
    [
        *("X_Request_ID", "x-request_id", "X_Forwarded_For", "X_Real_IP", "X_Request_Deadline_Ms", "Content_Length"),
        *("Transfer_Encoding", "X_forwarded-host", "Proxy_Authorization"),
    ],
)
async def test_b09_underscore_form_of_a_field_with_a_meaning_is_refused(name: str) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(f"{name}: zq7\r\n".encode(), method="GET"), 400)


async def test_b09_two_fields_that_differ_in_an_underscore_are_refused() -> None:
    async with running_edge() as edge:
        await edge.refuses(request(b"X-User-Id: 1\r\nX_User-ID: zq7\r\n", method="GET"), 400)
        await edge.passes(request(b"X_User_Id: 1\r\n", method="GET"))


# --- B10: names and order ---


@pytest.mark.both_loops
async def test_b10_spelling_order_and_repetition_are_kept_both_ways() -> None:
    sent = [("X-a", "1"), ("x-A", "2"), ("Cookie", "a=b"), ("ETAG", "x"), ("Cookie", "c=d"), ("X-a", "1")]
    back = [("Set-Cookie", "a=1"), ("x-B", "2"), ("Set-Cookie", "b=2"), ("X-b", "1"), ("set-cookie", "c=3")]
    async with running_edge() as edge, edge.client() as client:
        edge.upstream.on("/zq7", head(200, [*back, ("Content-Length", "0")]))
        answer = await client.request("GET", "/zq7", sent)

    assert fields_of(edge.upstream.requests[0]) == [(name.encode(), value.encode()) for name, value in sent]
    assert answer.headers[: len(back)] == [(name.encode(), value.encode()) for name, value in back]


# --- B11: bytes that are not ASCII ---


@pytest.mark.both_loops
@pytest.mark.parametrize("value", [b"caf\xe9z", b"\x80\xff", b"\xc3\xa9\xe2\x82\xac", b"a\x85\xa0b", b"\xed\xa0\x80"])
async def test_b11_other_bytes_in_values_arrive_as_they_were_sent(value: bytes) -> None:
    async with running_edge() as edge, edge.client() as client:
        fields = b"X-Text: " + value + b"\r\nUser-Agent: " + value + b"\r\nCookie: " + value + b"\r\n"
        edge.upstream.on(
            "/zq7", send(b"HTTP/1.1 200 " + value + b"\r\nX-Text: " + value + b"\r\nContent-Length: 0\r\n\r\n")
        )
        await client.send(request(fields, method="GET"))
        answer = await client.read_response(check=False)

    assert [text for name, text in edge.upstream.requests[0].headers if name != b"X-Mark"][1:4] == [value] * 3
    assert (b"X-Text", value) in answer.headers
    assert answer.raw.startswith(b"HTTP/1.1 200 " + value + b"\r\n")


@pytest.mark.parametrize("name", [b"X-\xe9", b"X\xff", b"X Y", b"X(Y)", b"", b"X\0", b'"X"'])
async def test_b11_names_that_are_no_token_are_refused(name: bytes) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(name + b": zq7\r\n", method="GET"), 400)


# --- B12: size ---


@pytest.mark.both_loops
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(request(b"".join(b"A%d: b\r\n" % n for n in range(129)), method="GET"), 431, id="129-fields"),
        pytest.param(request(b"A: " + MARK * 3000 + b"\r\n", method="GET"), 431, id="9-kB-field"),
        pytest.param(request(b"A" * 9000 + b": b\r\n", method="GET"), 431, id="9-kB-name"),
        pytest.param(request((b"A: " + b"b" * 8000 + b"\r\n") * 5, method="GET"), 431, id="40-kB-head"),
        pytest.param(request((b"A: " + b"b" * 8000 + b"\r\n") * 126, method="GET"), 431, id="1-MB-head"),
        pytest.param(request(b"", method="GET", target="/" + "zq7" * 3000), 414, id="9-kB-target"),
    ],
)
async def test_b12_oversized_heads_are_refused(raw: bytes, status: int) -> None:
    async with running_edge() as edge:
        await edge.refuses(raw, status)


async def test_b12_large_heads_within_the_limits_pass() -> None:
    fields = (b"A: " + b"b" * 7000 + b"\r\n") * 4 + b"".join(b"A%d: b\r\n" % number for number in range(100))

    async with running_edge() as edge:
        received = await edge.passes(request(fields, method="GET"))

    assert len(fields_of(received)) == 104


# --- B13: numbers that a trusted caller sends ---


@pytest.mark.parametrize(
    "value",
    ["nan", "inf", "-1", "1e309", "１０", "1_0", "9" * 5000, "", "0x10", "1.5", "+5", "٣", "1 0", "5,6", "0" * 5000],  # noqa: RUF001
)
async def test_b13_deadline_that_is_no_plain_number_is_ignored(value: str) -> None:
    async with running_edge(server=TRUSTING, route={"timeout": "7s"}) as edge:
        received = await edge.passes(request(f"X-Request-Deadline-Ms: {value}\r\n".encode(), method="GET"))

    assert 0 < int(received.header("X-Request-Deadline-Ms") or 0) <= 7000


@pytest.mark.parametrize("value", ["6000", "00006000"])
async def test_b13_deadline_of_a_trusted_caller_is_taken_over(value: str) -> None:
    async with running_edge(server=TRUSTING) as edge:
        received = await edge.passes(request(f"X-Request-Deadline-Ms: {value}\r\n".encode(), method="GET"))

    assert 0 < int(received.header("X-Request-Deadline-Ms") or 0) <= 6000


async def test_b13_deadline_cannot_be_lengthened() -> None:
    async with running_edge(server=TRUSTING, route={"timeout": "7s"}) as edge:
        received = await edge.passes(request(b"X-Request-Deadline-Ms: 600000\r\n", method="GET"))

    assert 0 < int(received.header("X-Request-Deadline-Ms") or 0) <= 7000
