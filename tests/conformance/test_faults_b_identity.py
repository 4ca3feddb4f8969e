"""Fault B08: the client's address is that of its connection, or what a trusted proxy says; nothing else."""

import pytest

from tests.support.edge import request, running_edge
from tests.support.messages import ReceivedRequest

pytestmark = pytest.mark.both_loops

SPOOFS = 1000


def client_in(received: ReceivedRequest) -> str | None:
    return received.header("X-Real-IP")


async def test_b08_no_spoofed_address_is_believed_from_a_stranger() -> None:
    async with running_edge() as edge, edge.client() as client:
        for number in range(SPOOFS):
            spoof = f"6.6.{number // 256}.{number % 256}"
            fields = {"X-Forwarded-For": spoof, "X-Real-IP": spoof, "Forwarded": f"for={spoof}", "X-Client-IP": spoof}
            assert (await client.request("GET", "/", fields)).status == 200
        log = await edge.app.access_log(SPOOFS)

    assert {line["client_ip"] for line in log} == {"127.0.0.1"}
    for name, values in (
        ("X-Real-IP", {"127.0.0.1"}),
        ("X-Forwarded-For", {"127.0.0.1"}),
        ("Forwarded", {'for=127.0.0.1;host="localhost";proto=http'}),
    ):
        assert {received.header(name) for received in edge.upstream.requests} == values


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        *(("1.2.3.4", "1.2.3.4"), ("6.6.6.6, 1.2.3.4", "1.2.3.4"), ("zq7, 1.2.3.4", "1.2.3.4")),
        *(("1.2.3.4, 10.0.0.1", "1.2.3.4"), ("1.2.3.4, 10.0.0.1, 10.9.9.9", "1.2.3.4"), ("10.0.0.1", "10.0.0.1")),
        *(("::ffff:1.2.3.4", "1.2.3.4"), ("1.2.3.4:5678", "1.2.3.4"), ("[2001:DB8:0::1]:443", "2001:db8::1")),
        *(("2001:db8::1%eth0", "2001:db8::1"), (" 1.2.3.4\t", "1.2.3.4"), ("6.6.6.6,,1.2.3.4", "1.2.3.4")),
    ],
)
async def test_b08_trusted_proxy_tells_the_client(hops: str, client: str) -> None:
    async with running_edge(server={"trusted_proxies": ["127.0.0.1", "10.0.0.0/8"]}) as edge:
        received = await edge.passes(request(f"X-Forwarded-For: {hops}\r\n".encode(), method="GET"))
        log = await edge.app.access_log(1)

    assert (client_in(received), log[0]["client_ip"]) == (client, client)


@pytest.mark.parametrize(
    "hops",
    [
        *("1.2.3.4, zq7", "1.2.3.4, ", "127.0.0.2", "1.2.3.4, 127.0.0.2", "fe80::1%eth0", "0.0.0.0", "::1"),
        *("1.2.3.4.5", "1.2.3.256", "01.2.3.4", "0x1.2.3.4", "16909060", "1.2.3.4/32", "１.2.3.4"),  # noqa: RUF001
        *("1.2.3.4\x80", "unknown", "_hidden", '"1.2.3.4"', "1" * 5000, "[1.2.3.4", "for=1.2.3.4"),
    ],
)
async def test_b08_what_no_client_can_have_is_not_believed(hops: str) -> None:
    async with running_edge(server={"trusted_proxies": ["127.0.0.1"]}) as edge:
        received = await edge.passes(request(b"X-Forwarded-For: " + hops.encode() + b"\r\n", method="GET"))

    assert client_in(received) == "127.0.0.1"


async def test_b08_repeated_fields_are_one_list() -> None:
    fields = b"X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 7.7.7.7\r\nx-forwarded-for: 1.2.3.4\r\n"

    async with running_edge(server={"trusted_proxies": ["127.0.0.1"]}) as edge:
        received = await edge.passes(request(fields, method="GET"))

    assert client_in(received) == "1.2.3.4"
    assert (received.header("X-Forwarded-For") or "").endswith("1.2.3.4, 127.0.0.1")


async def test_b08_request_id_is_taken_over_from_trusted_peers_only() -> None:
    async with running_edge() as stranger, running_edge(server={"trusted_proxies": ["127.0.0.1"]}) as friend:
        fields = b"X-Request-ID: abc-123\r\n"
        assert (await stranger.passes(request(fields, method="GET"))).header("X-Request-ID") != "abc-123"
        assert (await friend.passes(request(fields, method="GET"))).header("X-Request-ID") == "abc-123"
        bad = await friend.passes(request(b'X-Request-ID: a b"c\r\n', method="GET"))

    assert (bad.header("X-Request-ID") or "").isalnum()
