"""What an unsafe request makes outdated (RFC 9111 section 4.4)."""

import pytest

from proxy.protocol.caching.invalidation import invalidated, is_unsafe


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_safe_methods(method: str) -> None:
    assert not is_unsafe(method)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "FOO", "get", ""])
def test_all_other_methods_are_unsafe(method: str) -> None:
    assert is_unsafe(method)


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        (b"/other", "/other"),
        (b"other", "/a/other"),
        (b"./other", "/a/other"),
        (b"../other?y", "/other?y"),
        (b"../../../other", "/other"),
        (b"/x/./y/../z", "/x/z"),
        (b"/x/..", "/"),
        (b"..", "/"),
        (b".", "/a/"),
        (b"?z=2", "/a/b?z=2"),
        (b"?", "/a/b?"),
        (b" /other\t", "/other"),
        (b"/other#part", "/other"),
        (b"http://site.example/other", "/other"),
        (b"HTTP://SITE.example:80/other?q", "/other?q"),
        (b"http://site.example:/other", "/other"),
        (b"http://user@site.example/other", "/other"),
        (b"http://site.example", "/"),
        (b"http://site.example?q", "/?q"),
        (b"//site.example/other", "/other"),
        (b"/caf\xc3\xa9", "/caf\u00e9"),
        (b"/caf\xe9", "/caf\udce9"),
        (b"/a:b", "/a:b"),
    ],
)
@pytest.mark.parametrize("name", [b"Location", b"content-location"])
def test_references_of_the_same_origin(name: bytes, reference: bytes, target: str) -> None:
    assert invalidated("site.example", "http", "/a/b?x=1", [(name, reference)]) == ["/a/b?x=1", target]


@pytest.mark.parametrize(
    "reference",
    [
        b"http://elsewhere.example/other",
        b"https://site.example/other",
        b"http://site.example:8080/other",
        b"http://site.example.evil/other",
        b"http://site.example@evil/other",
        b"//elsewhere.example/other",
        b"ftp://site.example/other",
        b"http:other",
        b"mailto:site.example",
        b"/oth er",
        b"/other\x01",
    ],
)
def test_nothing_of_another_origin_or_malformed(reference: bytes) -> None:
    assert invalidated("site.example", "http", "/a", [(b"Location", reference)]) == ["/a"]


@pytest.mark.parametrize("reference", [b"", b"#part", b"/a?x=1", b"?x=1"])
def test_the_own_target_is_named_once(reference: bytes) -> None:
    assert invalidated("site.example", "http", "/a?x=1", [(b"Location", reference)]) == ["/a?x=1"]


def test_both_fields_count_and_others_do_not() -> None:
    fields = [(b"Content-Location", b"/c"), (b"Link", b"</no>"), (b"Location", b"/l"), (b"Location", b"/c")]

    assert invalidated("site.example", "http", "/a", fields) == ["/a", "/c", "/l"]


def test_ports_of_the_request_count() -> None:
    fields = [(b"Location", b"https://site.example:8443/x"), (b"Content-Location", b"https://site.example/y")]

    assert invalidated("Site.example:8443", "https", "/a", fields) == ["/a", "/x"]
    assert invalidated("site.example:443", "https", "/a", fields) == ["/a", "/y"]


def test_an_address_in_brackets_is_a_host() -> None:
    assert invalidated("[::1]:3000", "http", "/a", [(b"Location", b"http://[::1]:3000/x")]) == ["/a", "/x"]
    assert invalidated("[::1]", "http", "/a", [(b"Location", b"http://[::1]:80/x")]) == ["/a", "/x"]
