"""Which request fields select a response, and which of their values are the same (RFC 9111 section 4.1)."""

from itertools import combinations

import pytest

from proxy.protocol.caching.vary import STAR, variant_of, vary_of

Fields = list[tuple[bytes, bytes]]
Names = tuple[bytes, ...]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ([], ()),
        ([(b"Vary", b"")], ()),
        ([(b"Vary", b"Foo")], (b"foo",)),
        ([(b"VARY", b" foo ,\tBAR,, foo")], (b"bar", b"foo")),
        ([(b"Vary", b"Foo"), (b"vary", b"Bar")], (b"bar", b"foo")),
        ([(b"Vary", b"*")], STAR),
        ([(b"Vary", b"Foo, *")], STAR),
        ([(b"Vary", b"*, Foo")], STAR),
        ([(b"Vary", b", *")], STAR),
        ([(b"Vary", b"Foo"), (b"Vary", b"*")], STAR),
        ([(b"Vary", b"Foo Bar")], STAR),
        ([(b"Vary", b'"Foo"')], STAR),
        ([(b"Vary", b"F\xc3\xb6\xc3\xb6")], STAR),
    ],
)
def test_names_of_vary(fields: Fields, names: Names) -> None:
    assert vary_of(fields, ()) == names


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ([(b"Content-Encoding", b"gzip")], (b"accept-encoding",)),
        ([(b"content-language", b"de")], (b"accept-language",)),
        ([(b"Access-Control-Allow-Origin", b"https://a.example")], (b"origin",)),
        ([(b"Access-Control-Allow-Origin", b"null")], (b"origin",)),
        ([(b"Access-Control-Allow-Origin", b" * ")], ()),
        ([(b"Content-Encoding", b" ")], ()),
        ([(b"Content-Encoding", b"br"), (b"Vary", b"accept-encoding, Foo")], (b"accept-encoding", b"foo")),
        ([(b"Content-Encoding", b"br"), (b"Vary", b"*")], STAR),
    ],
)
def test_what_the_upstream_forgot_is_implied(fields: Fields, names: Names) -> None:
    assert vary_of(fields, ()) == names


def test_the_route_adds_names() -> None:
    assert vary_of([(b"Vary", b"Foo")], (b"x-tenant", b"foo")) == (b"foo", b"x-tenant")


def test_no_names_have_one_variant() -> None:
    assert variant_of((), [(b"Foo", b"1")]) == b""


def test_a_variant_has_16_bytes() -> None:
    assert len(variant_of((b"foo",), [])) == 16


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        (b"foo", [(b"Foo", b"1")], [(b"FOO", b"1"), (b"Bar", b"2")]),
        (b"foo", [(b"Foo", b"1, 2")], [(b"Foo", b"1"), (b"foo", b"2")]),
        (b"foo", [(b"Foo", b" 1 ,\t2")], [(b"Foo", b"1,2")]),
        (b"foo", [(b"Foo", b'"a, b" , c')], [(b"Foo", b'"a, b",c')]),
        (b"foo", [(b"Foo", b'a="\\",", b')], [(b"Foo", b'a="\\",",b')]),
        (b"accept-encoding", [(b"Accept-Encoding", b"gzip, br")], [(b"Accept-Encoding", b"BR,gzip")]),
        (b"accept-encoding", [(b"Accept-Encoding", b"gzip")], [(b"Accept-Encoding", b"gzip;q=1.000")]),
        (b"accept-encoding", [(b"Accept-Encoding", b"x-gzip")], [(b"Accept-Encoding", b"gzip")]),
        (b"accept-encoding", [(b"Accept-Encoding", b"gzip ; Q=0.50, *")], [(b"Accept-Encoding", b"*,gzip;q=0.5")]),
        (b"accept-encoding", [(b"Accept-Encoding", b"gzip, gzip,")], [(b"Accept-Encoding", b"gzip")]),
        (b"accept-encoding", [(b"Accept-Encoding", b"identity;q=0.")], [(b"Accept-Encoding", b"identity;q=0")]),
        (b"accept-language", [(b"Accept-Language", b"de, EN;q=0.5")], [(b"Accept-Language", b"en;q=0.5 , de")]),
        (b"accept-charset", [(b"Accept-Charset", b"UTF-8")], [(b"Accept-Charset", b"utf-8")]),
        (
            b"accept",
            [(b"Accept", b"text/html;Level=1;q=0.7, */*;q=0.1, a/b")],
            [(b"Accept", b"A/B, Text/HTML; level=1; q=0.7,*/*;q=0.1")],
        ),
    ],
)
def test_what_means_the_same_is_one_variant(name: bytes, one: Fields, other: Fields) -> None:
    assert variant_of((name,), one) == variant_of((name,), other)


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        (b"foo", [[], [(b"Foo", b"")], [(b"Foo", b"1")], [(b"Foo", b"1,")], [(b"Foo", b"11")]]),
        (b"foo", [[(b"Foo", b"a")], [(b"Foo", b"A")], [(b"Foo", b"a a")], [(b"Foo", b"a,a")]]),
        (b"foo", [[(b"Foo", b"1, 2")], [(b"Foo", b"2, 1")]]),
        (b"foo", [[(b"Foo", b'"1, 2"')], [(b"Foo", b'"1,2"')], [(b"Foo", b'"1, 2')], [(b"Foo", b'"1,2')]]),
        (b"foo", [[(b"Foo", b"a\x00b")], [(b"Foo", b"a")], [(b"Foo", b"a\x00")]]),
        (b"foo", [[(b"Foo", b"1")], [(b"Fooo", b"1")]]),
        (b"user-agent", [[(b"User-Agent", b"a (b, c)")], [(b"User-Agent", b"a (b,c)")]]),
        (b"cookie", [[(b"Cookie", b"a=1; b=2")], [(b"Cookie", b"b=2; a=1")]]),
        (
            b"accept-encoding",
            [
                [],
                [(b"Accept-Encoding", b"")],
                [(b"Accept-Encoding", b"gzip")],
                [(b"Accept-Encoding", b"gzip;q=0")],
                [(b"Accept-Encoding", b"gzip;q=0.5")],
                [(b"Accept-Encoding", b"gzip;q=1000")],
                [(b"Accept-Encoding", b"gzip;q=2")],
                [(b"Accept-Encoding", b"gzip;q=")],
                [(b"Accept-Encoding", b"gzip, identity")],
                [(b"Accept-Encoding", b"gzip, *;q=0")],
                [(b"Accept-Encoding", b"br")],
            ],
        ),
        (b"accept-language", [[(b"Accept-Language", b"de, en")], [(b"Accept-Language", b"en, de")]]),
        (
            b"accept",
            [
                [(b"Accept", b"a/b;x=1")],
                [(b"Accept", b"a/b;x=2")],
                [(b"Accept", b"a/b;x=A")],
                [(b"Accept", b"a/b;x=a")],
                [(b"Accept", b"a/b;q=0.5;x=1")],
                [(b"Accept", b"a/b;x=1;q=0.5")],
                [(b"Accept", b'a/b;x="1,c/d"')],
                [(b"Accept", b"a/b;x")],
            ],
        ),
    ],
)
def test_what_differs_is_never_one_variant(name: bytes, sets: list[Fields]) -> None:
    for one, other in combinations(sets, 2):
        assert variant_of((name,), one) != variant_of((name,), other), (one, other)


def test_no_value_can_pass_for_two_fields() -> None:
    names = (b"a", b"b")
    variants = {
        variant_of(names, [(b"A", b"1"), (b"B", b"2")]),
        variant_of(names, [(b"A", b"2"), (b"B", b"1")]),
        variant_of(names, [(b"A", b"12")]),
        variant_of(names, [(b"B", b"12")]),
        variant_of(names, [(b"A", b"1\x00\x01\x00\x00\x00\x012")]),
        variant_of((b"a",), [(b"A", b"1"), (b"B", b"2")]),
    }

    assert len(variants) == 6


def test_a_name_with_an_underscore_counts_but_is_not_the_same() -> None:
    names = (b"x-foo",)
    variants = {
        variant_of(names, []),
        variant_of(names, [(b"X-Foo", b"1")]),
        variant_of(names, [(b"X_Foo", b"1")]),
        variant_of(names, [(b"X_foo", b"2")]),
        variant_of(names, [(b"X_foo", b"2"), (b"x_FOO", b"3")]),
        variant_of(names, [(b"X-Foo", b"1"), (b"X_Foo", b"1")]),
    }

    assert len(variants) == 6


def test_a_vary_that_names_an_underscore_takes_it_as_it_is() -> None:
    assert variant_of((b"x_foo",), [(b"X_Foo", b"1")]) != variant_of((b"x_foo",), [(b"X-Foo", b"1")])


@pytest.mark.parametrize("size", [511, 512, 513, 100_000])
def test_long_values_are_told_apart(size: int) -> None:
    assert variant_of((b"foo",), [(b"Foo", b"a" * size)]) != variant_of((b"foo",), [(b"Foo", b"a" * (size - 1) + b"b")])
    assert variant_of((b"foo",), [(b"Foo", b"a" * size)]) == variant_of((b"foo",), [(b"foo", b"a" * size)])


def test_escaped_quotes_without_end_take_no_longer_than_any_value() -> None:
    assert variant_of((b"foo",), [(b"Foo", b'"' + b'\\"' * 30_000)])


def test_ever_new_spellings_are_still_read() -> None:
    for number in range(1100):
        spelling = b"x-%d" % number
        assert variant_of((spelling,), [(spelling.upper(), b"1")]) == variant_of((spelling,), [(spelling, b"1")])
    long = b"x" * 100
    assert variant_of((long,), [(long.upper(), b"1")]) == variant_of((long,), [(long, b"1")])
