"""Comparing entity tags (RFC 9110 section 8.8.3.2)."""

import pytest

from proxy.protocol.caching.entity_tags import is_strong, members_of, same_strongly, same_weakly


@pytest.mark.parametrize(
    ("one", "other", "strongly", "weakly"),
    [
        (b'W/"1"', b'W/"1"', False, True),
        (b'W/"1"', b'W/"2"', False, False),
        (b'W/"1"', b'"1"', False, True),
        (b'"1"', b'"1"', True, True),
        (b'""', b'""', True, True),
        (b'"a"', b'"A"', False, False),
        (b'w/"1"', b'"1"', False, False),
        (b"abc", b"abc", False, True),
        (b"abc", b'"abc"', False, False),
        (b"", b"", False, False),
        (b"", b'"1"', False, False),
    ],
)
def test_comparison(one: bytes, other: bytes, strongly: bool, weakly: bool) -> None:
    assert same_strongly(one, other) is same_strongly(other, one) is strongly
    assert same_weakly(one, other) is same_weakly(other, one) is weakly


@pytest.mark.parametrize("tag", [b"", b'"', b'a"', b'"a', b'W/"a"', b"a"])
def test_only_a_quoted_tag_without_mark_is_strong(tag: bytes) -> None:
    assert not is_strong(tag)


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b'"a"', [b'"a"']),
        (b'"a", W/"b" ,"c"', [b'"a"', b'W/"b"', b'"c"']),
        (b'"a,b", "c d"', [b'"a,b"', b'"c d"']),
        (b', ,"a",,', [b'"a"']),
        (b"a, b", [b"a", b"b"]),
        (b'"*"', [b'"*"']),
        (b'"open', [b'"open']),
        (b"", []),
    ],
)
def test_list_members(value: bytes, members: list[bytes]) -> None:
    assert members_of(value) == members
