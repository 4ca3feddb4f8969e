from ipaddress import ip_network

import pytest

from proxy.protocol.forwarded import ClientAddress, Forwarding, parse_hop, request_id

Fields = list[tuple[bytes, bytes]]
TRUSTED = ClientAddress([ip_network("10.0.0.0/8"), ip_network("127.0.0.1"), ip_network("fd00::/8")])


def chain(*values: str) -> Fields:
    return [(b"X-Forwarded-For", value.encode()) for value in values]


def client(peer: str, fields: Fields) -> str:
    return Forwarding(TRUSTED, peer, "http").identify("h", fields)[0]


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" \t192.0.2.1 ", "192.0.2.1"),
        ("192.0.2.1:443", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:1", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:9", "192.0.2.1"),
    ],
)
def test_addresses_are_read_as_proxies_write_them(text: str, address: str) -> None:
    hop = parse_hop(text)

    assert hop is not None
    assert hop.text == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unknown",
        "_hidden",
        "1.2.3",
        "010.0.0.1",
        "256.1.1.1",
        "[1.2.3.4",
        "1.2.3.4:x",
        "a" * 10_000,
        "\uff11.1.1.1",
    ],
)
def test_what_is_no_address_is_nothing(text: str) -> None:
    assert parse_hop(text) is None


# --- who the client is ----------------------------------------------------------------------------------------------


def test_peer_that_is_not_trusted_is_the_client() -> None:
    assert client("192.0.2.1", chain("198.51.100.1")) == "192.0.2.1"


def test_nobody_is_trusted_by_default() -> None:
    forwarding = Forwarding(ClientAddress(()), "127.0.0.1", "http")

    assert not forwarding.is_trusted
    assert forwarding.identify("h", chain("198.51.100.1"))[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "10.0.0.1"),
        (["198.51.100.1"], "198.51.100.1"),
        (["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        (["203.0.113.9", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        (["198.51.100.1, fd00::1,10.0.0.2"], "198.51.100.1"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (["198.51.100.1, junk, 10.0.0.2"], "10.0.0.2"),
        (["198.51.100.1, "], "10.0.0.1"),
        (["::ffff:198.51.100.1"], "198.51.100.1"),
        (["[2001:db8::1%1]:80"], "2001:db8::1"),
        (["198.51.100.1, 127.0.0.1"], "198.51.100.1"),
        (["127.0.0.1"], "10.0.0.1"),
        (["198.51.100.1, ::1"], "10.0.0.1"),
        (["::1"], "10.0.0.1"),
        (["127.0.0.2"], "10.0.0.1"),
        (["169.254.169.254"], "10.0.0.1"),
        (["fe80::1"], "10.0.0.1"),
        (["0.0.0.0"], "10.0.0.1"),
        (["198.51.100.1," + "10.0.0.2," * 31 + "10.0.0.3"], "10.0.0.2"),
    ],
)
def test_client_is_the_right_most_address_that_is_not_trusted(values: list[str], expected: str) -> None:
    assert client("10.0.0.1", chain(*values)) == expected


def test_thousand_spoofed_values_do_not_move_the_client() -> None:
    spoofed = [f"203.0.113.{number % 256}" for number in range(1000)]

    assert client("192.0.2.1", chain(*spoofed)) == "192.0.2.1"
    assert client("10.0.0.1", chain(*spoofed, "198.51.100.1")) == "198.51.100.1"


def test_bytes_over_ascii_in_the_chain_are_junk() -> None:
    assert client("10.0.0.1", [(b"x-forwarded-FOR", b"198.51.100.1, \xe9")]) == "10.0.0.1"


def test_mapped_peer_is_its_ipv4_address() -> None:
    assert client("::ffff:10.0.0.1", chain("198.51.100.1")) == "198.51.100.1"


def test_peer_of_a_unix_socket_is_unknown() -> None:
    forwarding = Forwarding(TRUSTED, "", "http")

    client_ip, _, fields = forwarding.identify("h", chain("198.51.100.1"))

    assert (client_ip, forwarding.is_trusted) == ("unknown", False)
    assert (b"Forwarded", b'for=unknown;host="h";proto=http') in fields


# --- what the upstream is told --------------------------------------------------------------------------------------


def test_fields_of_an_untrusted_peer_are_all_ours() -> None:
    forwarding = Forwarding(TRUSTED, "2001:db8::7", "https")
    received = [*chain("1.1.1.1"), (b"X-Forwarded-Proto", b"http"), (b"X-Forwarded-User", b"root")]

    client_ip, scheme, fields = forwarding.identify("api.example:8443", received)

    assert (client_ip, scheme) == ("2001:db8::7", "https")
    assert dict(fields) == {
        b"X-Forwarded-For": b"2001:db8::7",
        b"X-Forwarded-Proto": b"https",
        b"X-Forwarded-Host": b"api.example:8443",
        b"X-Real-IP": b"2001:db8::7",
        b"Forwarded": b'for="[2001:db8::7]";host="api.example:8443";proto=https',
    }


def test_fields_of_an_untrusted_peer_are_made_once_for_each_host() -> None:
    forwarding = Forwarding(TRUSTED, "192.0.2.1", "http")

    first = forwarding.identify("a", ())[2]

    assert forwarding.identify("a", chain("1.1.1.1"))[2] is first
    assert (b"X-Forwarded-Host", b"b") in forwarding.identify("b", ())[2]


def test_trusted_peer_adds_to_its_chain_and_names_scheme_and_host() -> None:
    forwarding = Forwarding(TRUSTED, "10.0.0.1", "http")
    received = [
        *chain("203.0.113.9", "198.51.100.1"),
        (b"x-forwarded-proto", b"HTTPS"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X-Forwarded-Port", b"443"),
        (b"Forwarded", b"for=spoof"),
        (b"X-Real-IP", b"1.1.1.1"),
        (b"Accept", b"*/*"),
    ]

    client_ip, scheme, fields = forwarding.identify("internal", received)

    assert (client_ip, scheme) == ("198.51.100.1", "https")
    assert dict(fields) == {
        b"X-Forwarded-For": b"203.0.113.9, 198.51.100.1, 10.0.0.1",
        b"X-Forwarded-Proto": b"https",
        b"X-Forwarded-Host": b"shop.example",
        b"X-Forwarded-Port": b"443",
        b"X-Real-IP": b"198.51.100.1",
        b"Forwarded": b'for=198.51.100.1;host="shop.example";proto=https',
    }


@pytest.mark.parametrize("proto", [b"ftp", b"https, http", b""])
@pytest.mark.parametrize("host", [b"a,b", b"", b'x"y'])
def test_what_a_trusted_peer_says_unclearly_is_replaced(proto: bytes, host: bytes) -> None:
    forwarding = Forwarding(TRUSTED, "10.0.0.1", "http")

    _, scheme, fields = forwarding.identify("own", [(b"X-Forwarded-Proto", proto), (b"X-Forwarded-Host", host)])

    assert scheme == "http"
    assert dict(fields)[b"X-Forwarded-Host"] == b"own"


def test_request_without_host_tells_none() -> None:
    fields = dict(Forwarding(TRUSTED, "192.0.2.1", "http").identify("", ())[2])

    assert b"X-Forwarded-Host" not in fields
    assert fields[b"Forwarded"] == b"for=192.0.2.1;proto=http"


# --- request id -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"a", b"A-1.b_~", b"x" * 128])
def test_request_id_of_a_trusted_peer_is_taken_over(value: bytes) -> None:
    assert request_id(value, True, bytes) == value.decode()


@pytest.mark.parametrize(
    ("value", "trusted"),
    [(b"a", False), (None, True), (b"", True), (b"x" * 129, True), (b"a b", True), (b"a\n", True), (b"\xe9", True)],
)
def test_any_other_request_id_is_replaced(value: bytes | None, trusted: bool) -> None:
    assert request_id(value, trusted, lambda count: b"\xab" * count) == "ab" * 16
