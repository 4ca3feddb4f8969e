"""Who is one client and who is another, whatever they send."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import pytest

from proxy.config.policy_types import ClientKey
from proxy.policies.client_key import KeyReader
from tests.support.exchange import make_exchange
from tests.support.messages import HeadersLike


def key_of(
    keys: str | Sequence[str],
    headers: HeadersLike = (),
    *,
    ip: str = "192.0.2.1",
    params: Mapping[str, str] | None = None,
) -> bytes:
    exchange = make_exchange(headers=headers)
    exchange.client_ip = ip
    exchange.params = params or {}
    return KeyReader([ClientKey.parse(key) for key in ([keys] if isinstance(keys, str) else keys)]).read(exchange)


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "addresses",
    [
        ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201"),
        ("2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff:ffff:ffff:ffff", "2001:DB8::1%eth0"),
        ("fe80::1%eth0", "fe80::2%eth1", "fe80::3"),
        ("", "unknown", "192.0.2.256", "1.2.3", ":::", "192.0.2.1:80", "\udcff", "1\0", "ip" * 1000),
    ],
)
def test_addresses_of_one_client_are_one_key(addresses: tuple[str, ...]) -> None:
    assert len({key_of("client_ip", ip=address) for address in addresses}) == 1


def test_addresses_of_different_clients_are_different_keys() -> None:
    addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1", "::1", "c000:201::", ""]

    assert len({key_of("client_ip", ip=address) for address in addresses}) == len(addresses)


def test_no_hash_passes_for_an_address() -> None:
    assert len(key_of("client_ip")) == 5
    assert len(key_of("client_ip", ip="2001:db8::1")) == 9
    assert len(key_of("header:X-User", {"X-User": "a"})) == 16


# --- what clients send ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "headers", "same"),
    [
        ("header:X-User", {"X-User": "anna"}, {"x-USER": "anna"}),
        ("header:X-User", [("X-User", "a"), ("x-user", "b")], {"X-User": "a, b"}),
        ("api_key", {"X-API-Key": "k1"}, {"Authorization": "Bearer k1"}),
        ("api_key", {"Authorization": "Bearer k1"}, {"authorization": "bearer   k1"}),
        ("api_key", {"X-API-Key": "k1"}, {"X-API-Key": "k1", "Authorization": "Bearer another"}),
        ("cookie:session", {"Cookie": "session=s1"}, {"Cookie": 'a=b; session = "s1" ; c=d'}),
        ("cookie:session", {"Cookie": "session=s1; session=s2"}, [("Cookie", "a=b"), ("Cookie", "session=s1")]),
    ],
)
def test_one_client_in_two_spellings(key: str, headers: HeadersLike, same: HeadersLike) -> None:
    assert key_of(key, headers) == key_of(key, same)


@pytest.mark.parametrize(
    ("key", "headers", "other"),
    [
        ("header:X-User", {"X-User": "anna"}, {"X-User": "Anna"}),
        ("header:X-User", {"X-User": "anna"}, {"X-Users": "anna"}),
        ("api_key", {"Authorization": "Basic k1"}, {"Authorization": "Basic k2"}),
        ("cookie:session", {"Cookie": "session=s1"}, {"Cookie": "Session=s1"}),
        ("cookie:session", {"Cookie": "session=s1"}, {"Cookie": "xsession=s1"}),
        (("header:A", "header:B"), {"A": "x", "B": "yz"}, {"A": "xy", "B": "z"}),
        (("header:A", "header:B"), {"A": "x"}, {"B": "x"}),
        (("header:A", "header:B"), {"A": "1:+1:x", "B": "y"}, {"A": "1:", "B": "+1:xy"}),
        (("client_ip", "header:A"), {"A": "x"}, {"A": "y"}),
    ],
)
def test_two_clients_are_two_keys(key: str | tuple[str, ...], headers: HeadersLike, other: HeadersLike) -> None:
    assert key_of(key, headers) != key_of(key, other)


def test_path_parameters_are_read_as_the_upstream_reads_them() -> None:
    spellings = [{"id": "%61b"}, {"id": "ab"}, {"id": "%61%62"}, {"id": "a%62"}]
    others = [{"id": "a+b"}, {"id": "%2561b"}, {"id": "Ab"}, {"id": "a%zz"}]

    assert len({key_of("param:id", params=params) for params in spellings}) == 1
    assert len({key_of("param:id", params=params) for params in (*spellings[:1], *others)}) == 5


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        ("header:X-User", {"X-User": ""}),
        ("api_key", {"Authorization": "Bearer"}),
        ("api_key", {"Authorization": "Bearer  "}),
        ("cookie:session", {"Cookie": "session="}),
        ("cookie:session", {"Cookie": "other=1"}),
        ("param:id", {}),
    ],
)
def test_client_that_leaves_its_key_away_is_its_address(key: str, headers: dict[str, str]) -> None:
    assert key_of(key, headers) == key_of(key)
    assert key_of(key, headers) != key_of(key, headers, ip="192.0.2.2")


def test_nobody_passes_for_the_address_of_another() -> None:
    address = key_of("client_ip").decode("latin-1")

    assert key_of("header:X-User", {"X-User": address}) != key_of("header:X-User")


def test_address_and_user_together() -> None:
    both = ("client_ip", "header:X-User")
    clients = [("192.0.2.1", "a"), ("192.0.2.1", "b"), ("192.0.2.2", "a"), ("192.0.2.2", "b")]
    keys = [key_of(both, {"X-User": user}, ip=ip) for ip, user in clients]

    assert all(one != other for one, other in combinations(keys, 2))


@pytest.mark.parametrize(
    "value", [b"x" * 1_000_000, bytes(range(0x80, 0x100)), b"\xff\xfe}{:*\t\"'", b";" * 10_000, b"=" * 10_000]
)
@pytest.mark.parametrize("key", ["header:X-User", "api_key", "cookie:session", "param:id"])
def test_f08_hostile_values_become_sixteen_bytes(key: str, value: bytes) -> None:
    headers = [(b"X-User", value), (b"X-API-Key", value), (b"Cookie", b"session=" + value)]
    params = {"id": value.decode("utf-8", "surrogateescape")}

    assert len(key_of(key, headers, params=params)) == 16
