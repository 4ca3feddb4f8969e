"""Addresses: networks, listeners, authorities and upstream URLs."""

from ipaddress import ip_network

import pytest
from pydantic import TypeAdapter

from proxy.config.addresses import Authority, Cidr, HostChoice, HostName, ListenAddress, UpstreamUrl, is_loopback

CIDR = TypeAdapter(Cidr)
AUTHORITY = TypeAdapter(Authority)
HOST_CHOICE = TypeAdapter(HostChoice)
HOST_NAME = TypeAdapter(HostName)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("127.0.0.1", "127.0.0.1/32"),
        ("127.0.0.1/32", "127.0.0.1/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_cidr_takes_networks_and_single_addresses(text: str, network: str) -> None:
    assert CIDR.validate_python(text) == ip_network(network)
    assert CIDR.validate_python(ip_network(network)) == ip_network(network)
    assert CIDR.validate_python(CIDR.dump_python(ip_network(network), mode="json")) == ip_network(network)


@pytest.mark.parametrize(
    "value", ["", "10.0.0.0/33", "10.0.0/8", "010.0.0.1", "fe80::1%eth0", "localhost", "1", 1, None, "10.0.0.0/\uff18"]
)
def test_what_is_no_network_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a network: write 10"):
        CIDR.validate_python(value)


def test_cidr_with_host_bits_is_refused_with_both_meanings() -> None:
    with pytest.raises(ValueError, match=r"write 10\.0\.0\.0/8 or the address alone"):
        CIDR.validate_python("10.0.0.1/8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:8080", ListenAddress("0.0.0.0", 8080)),
        ("[::1]:80", ListenAddress("::1", 80)),
        (":8080", ListenAddress("", 8080)),
        ("LocalHost:0", ListenAddress("localhost", 0)),
        ("unix:/run/t.sock", ListenAddress("", 0, "/run/t.sock")),
    ],
)
def test_listen_address_is_read_and_printed(text: str, expected: ListenAddress) -> None:
    address = ListenAddress.parse(text)

    assert address == expected
    assert ListenAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "value",
    [
        "",
        "8080",
        "host",
        "host:",
        "host:x",
        "host:65536",
        "::1:80",
        "[::1]",
        "[1.2.3.4]:80",
        "[::g]:1",
        "a b:80",
        "*:80",
        "1.2.3:80",
        "0x7f.1:80",
        "-a:80",
        "unix:relative",
        "unix:",
        f"unix:/{'x' * 107}",
        "unix:/a\nb",
        "http://x:80",
        "a:٨",
        8080,
        None,
        f"{'a.' * 127}com:1",
    ],
)
def test_what_is_no_listen_address_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"is not an address|not a Unix socket|out of range|neither a host name"):
        ListenAddress.parse(value)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("127.0.0.1:1", False),
        ("127.9.9.9:1", False),
        ("[::1]:1", False),
        ("localhost:1", False),
        ("unix:/a", False),
        ("0.0.0.0:1", True),
        (":1", True),
        ("[::]:1", True),
        ("10.0.0.1:1", True),
        ("example.com:1", True),
    ],
)
def test_only_loopback_and_unix_sockets_are_not_public(text: str, public: bool) -> None:
    assert ListenAddress.parse(text).is_public is public


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", ":80", True),
        ("127.0.0.1:80", "10.0.0.1:80", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("unix:/a", "unix:/a", True),
        ("unix:/a", "unix:/b", False),
        ("unix:/a", ":80", False),
    ],
)
def test_listeners_that_cannot_be_bound_together_overlap(one: str, other: str, overlap: bool) -> None:
    assert ListenAddress.parse(one).overlaps(ListenAddress.parse(other)) is overlap


@pytest.mark.parametrize(
    ("text", "authority"),
    [("API.Example.com", "api.example.com"), ("a:8443", "a:8443"), ("[::1]:80", "[::1]:80"), ("10.0.0.1", "10.0.0.1")],
)
def test_authority_is_lowered_and_kept(text: str, authority: str) -> None:
    assert AUTHORITY.validate_python(text) == authority
    assert HOST_CHOICE.validate_python(text) == authority


@pytest.mark.parametrize("value", ["", ":80", "a/b", "a@b", "a b", "a:0", "a:65536", "::1", "a,b", "*.a", 5])
def test_what_is_no_authority_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"is not an authority|out of range|neither a host name"):
        AUTHORITY.validate_python(value)


def test_host_choice_has_two_words_of_its_own() -> None:
    assert [HOST_CHOICE.validate_python(word) for word in ("preserve", "upstream")] == ["preserve", "upstream"]


@pytest.mark.parametrize("value", [5, "a:80", "a b", ""])
def test_host_name_is_a_name_alone(value: object) -> None:
    assert HOST_NAME.validate_python("API.test") == "api.test"
    with pytest.raises(ValueError, match=r"must be text|neither a host name"):
        HOST_NAME.validate_python(value)


@pytest.mark.parametrize(
    ("text", "expected", "authority"),
    [
        ("http://127.0.0.1:3000", UpstreamUrl("http", "127.0.0.1", 3000), "127.0.0.1:3000"),
        ("HTTP://Api.Test/", UpstreamUrl("http", "api.test", 80), "api.test"),
        ("https://api", UpstreamUrl("https", "api", 443), "api"),
        ("https://api:80", UpstreamUrl("https", "api", 80), "api:80"),
        ("http://[::1]:8080", UpstreamUrl("http", "::1", 8080), "[::1]:8080"),
        ("http://my_service:80", UpstreamUrl("http", "my_service", 80), "my_service"),
        ("unix:/run/a.sock", UpstreamUrl("unix", "localhost", 0, "/run/a.sock"), "localhost"),
    ],
)
def test_upstream_url_is_read_and_printed(text: str, expected: UpstreamUrl, authority: str) -> None:
    url = UpstreamUrl.parse(text)

    assert url == expected
    assert url.authority == authority
    assert UpstreamUrl.parse(str(url)) == url


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file:///etc/passwd", "scheme"),
        ("ftp://x", "scheme"),
        ("gopher://x", "scheme"),
        ("http://user:secret@x", "no user name or password"),
        ("http://@x", "no user name or password"),
        ("http://x/path", "more than a host and port"),
        ("http://x?q", "more than a host and port"),
        ("http://x#f", "more than a host and port"),
        ("http://x\\@y", "more than a host and port"),
        ("http://169.254.169.254", "link-local"),
        ("http://[fe80::1]", "link-local"),
        ("http://[::ffff:169.254.169.254]", "link-local"),
        ("http://0.0.0.0:80", "unspecified"),
        ("http://[::]:80", "unspecified"),
        ("http://224.0.0.1", "multicast"),
        ("http://2852039166", "neither a host name nor an IP address"),
        ("http://0xa9fea9fe", "neither a host name nor an IP address"),
        ("http://169.254.43518", "neither a host name nor an IP address"),
        ("http://0251.0376.0251.0376", "neither a host name nor an IP address"),
        ("http://0", "neither a host name nor an IP address"),
        ("http://x:0", "out of range"),
        ("http://x:65536", "out of range"),
        ("http://x:", "no valid host and port"),
        ("http://x:\uff18\uff10", "no valid host and port"),
        ("http://", "no valid host and port"),
        ("http://:80", "no valid host and port"),
        ("http:// x", "more than a host"),
        ("http://::1", "no valid host and port"),
        ("x:80", "not an upstream URL"),
        ("//x", "not an upstream URL"),
        ("unix://x", "scheme"),
        ("unix:x", "not an upstream URL"),
        (f"unix:/{'x' * 107}", "not a Unix socket"),
        (5, "not an upstream URL"),
        (None, "not an upstream URL"),
    ],
)
def test_upstream_url_refuses_what_leads_astray(text: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refusal:
        UpstreamUrl.parse(text)

    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(("host", "expected"), [("localhost", True), ("127.0.0.2", True), ("::1", True), ("a", False)])
def test_loopback_is_told_by_name_and_address(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
