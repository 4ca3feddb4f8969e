"""The grammar of Cache-Control (RFC 9111 section 5.2), by the letter and beside it."""

import pytest

from proxy.protocol.caching.cache_control import (
    INVALID,
    MAX_SECONDS,
    Member,
    delta_seconds,
    field_names,
    members_of,
)


@pytest.mark.parametrize(
    ("line", "members"),
    [
        (b"", []),
        (b" , ,\t,", []),
        (b"no-store", [(b"no-store", None)]),
        (b"No-STORE,mAx-Age=5", [(b"no-store", None), (b"max-age", b"5")]),
        (b"\tmax-age=5 , public\t", [(b"max-age", b"5"), (b"public", None)]),
        (b'max-age="5"', [(b"max-age", b"5")]),
        (b'a="", b=', [(b"a", b""), (b"b", INVALID)]),
        (b'private="a, no-store", public', [(b"private", b"a, no-store"), (b"public", None)]),
        (rb'x="a\", no-store\\", public', [(b"x", rb'a", no-store' + b"\\"), (b"public", None)]),
        (b"x=a=b", [(b"x", INVALID)]),
        (b"max-age =5, max-age= 5", [(b"max-age", INVALID), (b"max-age", INVALID)]),
        (b"max-age='5'", [(b"max-age", b"'5'")]),
        (b'x="a"b', [(b"x", INVALID)]),
        (b'"no-store", =5, no store, no-store;x', []),
        (b'private="a, no-store', [(b"private", INVALID), (b"no-store", None)]),
        (b'x="a", private="b, no-store', [(b"x", b"a"), (b"private", INVALID), (b"no-store", None)]),
    ],
)
def test_members_of_one_line(line: bytes, members: list[Member]) -> None:
    assert members_of([line]) == members


def test_lines_follow_each_other_and_a_quote_ends_with_its_line() -> None:
    assert members_of([b'a="x', b'no-store, b="']) == [(b"a", INVALID), (b"no-store", None), (b"b", INVALID)]


@pytest.mark.parametrize("line", [b'"\\' * 30_000, b'x="' + b'\\"' * 30_000, b'"' * 60_001, b"," * 60_000])
def test_long_nonsense_is_read_in_linear_time(line: bytes) -> None:
    assert len(members_of([line])) <= 1


@pytest.mark.parametrize(
    ("argument", "seconds"),
    [
        (b"0", 0),
        (b"000", 0),
        (b"60", 60),
        (b"0060", 60),
        (b"2147483647", 2**31 - 1),
        (b"2147483648", MAX_SECONDS),
        (b"2147483649", MAX_SECONDS),
        (b"99999999999", MAX_SECONDS),
        (b"9" * 6000, MAX_SECONDS),
        (b"0" * 6000 + b"7", 7),
    ],
)
def test_seconds_are_whole_and_bounded(argument: bytes, seconds: int) -> None:
    assert delta_seconds(argument) == seconds


@pytest.mark.parametrize(
    "argument", [None, b"", INVALID, b"-1", b"+1", b"1.0", b"1,0", b"1e3", b"0x1", b"60s", b" 6", b"'6'", b"\xb2"]
)
def test_anything_else_is_no_number_of_seconds(argument: bytes | None) -> None:
    assert delta_seconds(argument) is None


@pytest.mark.parametrize(
    ("argument", "names"),
    [
        (None, set()),
        (b"", set()),
        (b" , ", set()),
        (INVALID, set()),
        (b"Set-Cookie", {b"set-cookie"}),
        (b"X-A,\tx-b ,, X-A", {b"x-a", b"x-b"}),
        (b"x-a, no name", set()),
    ],
)
def test_field_names_are_all_names_or_none(argument: bytes | None, names: set[bytes]) -> None:
    assert field_names(argument) == names
