"""Dictionaries of Structured Fields, and what is none (RFC 8941 sections 3.2 and 4.2.2)."""

import pytest

from proxy.protocol.structured import Token
from proxy.protocol.structured_dictionary import Value, parse_dictionary


@pytest.mark.parametrize(
    ("text", "members"),
    [
        (b"", {}),
        (b"   ", {}),
        (b"a", {"a": True}),
        (b"a=?0, b=?1", {"a": False, "b": True}),
        (b"a=1,b=-2", {"a": 1, "b": -2}),
        (b"  a=1 \t,\t b=2  ", {"a": 1, "b": 2}),
        (b"a=1\t", {"a": 1}),
        (b"a=007", {"a": 7}),
        (b"a=999999999999999", {"a": 999_999_999_999_999}),
        (b"a=1.5, b=-0.125", {"a": 1.5, "b": -0.125}),
        (b"a=word, b=*x/y:z", {"a": Token("word"), "b": Token("*x/y:z")}),
        (b'a="x, y", b=""', {"a": "x, y", "b": ""}),
        (rb'a="say \"x\\y\""', {"a": 'say "x\\y"'}),
        (b"a=:aGk=:", {"a": b":aGk=:"}),
        (b"a=(), b=( 1  x;q=1 ), c=(1 2);p", {"a": None, "b": None, "c": None}),
        (b"a;p, b=1;p=2;  q;r=?0", {"a": True, "b": 1}),
        (b'a=1;p="x,y;z"', {"a": 1}),
        (b"a=1, a=2", {"a": 2}),
        (b"*a-b_c.d*9=1", {"*a-b_c.d*9": 1}),
    ],
)
def test_members_by_key(text: bytes, members: dict[str, Value]) -> None:
    assert parse_dictionary([text]) == members


def test_tokens_are_told_from_strings() -> None:
    members = parse_dictionary([b'a=x, b="x"'])

    assert members is not None
    assert isinstance(members["a"], Token)
    assert not isinstance(members["b"], Token)


@pytest.mark.parametrize(
    "text",
    [
        *(b",", b"a,", b"a, ", b",a", b"a,,b", b"a b", b"a;", b"a=1;", b"a= 1", b"a =1", b"a=1 ;p"),
        *(b"A=1", b"Max-Age=60", b"1=a", b"=1", b"a=", b"a==1", b"-a", b"a@"),
        *(b"a=1.", b"a=.5", b"a=1.2345", b"a=1.2.3", b"a=1234567890123.1", b"a=1234567890123456", b"a=--1", b"a=-"),
        *(b'a="x', b'a="\\n"', b'a="caf\xe9"', b"a=caf\xe9", b'a="\x7f"', b"a='x'", b"a=?2", b"a=?", b"a=:a", b"a=:-:"),
        *(b"a=(1", b"a=(1,2)", b"a=(1 2", b"a=(1;)", b"a=(a(b))", b"a=1;P", b"a=1;p=", b"a=1 2", b"a=60s", b"a=@1"),
    ],
)
def test_what_does_not_parse_is_none_as_a_whole(text: bytes) -> None:
    assert parse_dictionary([text]) is None
    assert parse_dictionary([b"ok=1", text]) is None


def test_tab_is_space_after_a_comma_but_not_at_the_start() -> None:
    assert parse_dictionary([b"\ta"]) is None
    assert parse_dictionary([b"b,\ta"]) == {"b": True, "a": True}


def test_lines_are_one_dictionary() -> None:
    assert parse_dictionary([b"a=1", b"b", b"a=3"]) == {"a": 3, "b": True}
    assert parse_dictionary([]) == {}


@pytest.mark.parametrize("text", [b'a="' + b"\\" * 60_001, b"a=(" + b"1 " * 30_000, b"a" + b";a" * 30_000 + b";"])
def test_long_nonsense_is_refused_in_linear_time(text: bytes) -> None:
    assert parse_dictionary([text]) is None
