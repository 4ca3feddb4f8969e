"""Fault B08: whatever a client says of itself, the limit counts the address that it has."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable

import pytest

from tests.support.edge import Edge, running_edge

SPOOFS = 1000
LIMIT = 5


@contextlib.asynccontextmanager
async def limited_edge(*trusted: str) -> AsyncIterator[Edge]:
    server = {"trusted_proxies": list(trusted)} if trusted else {}
    async with running_edge(server=server, route={"rate_limit": f"{LIMIT}/hour"}) as edge:
        yield edge


async def statuses(edge: Edge, chains: Iterable[str]) -> Counter[int]:
    """What a client behind each of these X-Forwarded-For chains is answered."""
    counts: Counter[int] = Counter()
    async with edge.client() as client:
        for chain in chains:
            counts[(await client.request("GET", "/", {"X-Forwarded-For": chain})).status] += 1
    return counts


async def test_b08_a_thousand_spoofed_addresses_are_one_client() -> None:
    async with limited_edge() as edge:
        spoofs = [f"6.6.{number // 256}.{number % 256}" for number in range(SPOOFS)]
        async with edge.client() as client:
            answers = Counter[int]()
            for spoof in spoofs:
                fields = {"X-Forwarded-For": spoof, "X-Real-IP": spoof, "Forwarded": f"for={spoof}"}
                answers[(await client.request("GET", "/", fields)).status] += 1

    assert answers == {200: LIMIT, 429: SPOOFS - LIMIT}
    assert len(edge.upstream.requests) == LIMIT


async def test_b08_behind_a_trusted_proxy_the_right_most_address_counts() -> None:
    async with limited_edge("127.0.0.1", "10.0.0.0/8") as edge:
        spoofed = await statuses(edge, (f"6.6.6.{number}, 192.0.2.1" for number in range(20)))
        passed_on = await statuses(edge, (f"192.0.2.1, 10.0.0.{number}" for number in range(20)))
        other = await statuses(edge, ["192.0.2.1, 192.0.2.2"])

    assert spoofed == {200: LIMIT, 429: 20 - LIMIT}
    assert passed_on == {429: 20}
    assert other == {200: 1}


@pytest.mark.parametrize(
    "chains",
    [
        [f"2001:db8::{number:x}" for number in range(20)],
        [f"2001:db8:0:0:{number:x}:1:2:3" for number in range(20)],
        ["192.0.2.1", "::ffff:192.0.2.1", "[::ffff:c000:201]:443", "192.0.2.1:5000"] * 5,
        [f"fe80::{number}%eth{number}" for number in range(20)],
        [f"junk{number}" for number in range(20)],
        [f"192.0.2.{number}, junk" for number in range(20)],
    ],
    ids=["a /64", "interface ids", "IPv4-mapped", "zones", "junk", "junk at the right"],
)
async def test_b08_spellings_of_one_client(chains: list[str]) -> None:
    async with limited_edge("127.0.0.1") as edge:
        assert await statuses(edge, chains) == {200: LIMIT, 429: 20 - LIMIT}


async def test_b08_neighbouring_networks_are_clients_of_their_own() -> None:
    async with limited_edge("127.0.0.1") as edge:
        assert await statuses(edge, (f"2001:db8:0:{number:x}::1" for number in range(20))) == {200: 20}
