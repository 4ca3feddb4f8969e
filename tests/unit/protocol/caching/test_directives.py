"""What directives mean: duplicates, contradictions, arguments (RFC 9111 sections 4.2.1 and 5.2, RFC 5861, RFC 8246)."""

from math import inf
from typing import Any

import pytest

from proxy.protocol.caching.cache_control import members_of
from proxy.protocol.caching.directives import (
    NO_DIRECTIVES,
    RequestDirectives,
    ResponseDirectives,
    request_directives,
)


def asked(*lines: bytes) -> dict[str, Any]:
    return said(request_directives([(b"Cache-Control", line) for line in lines]))


def demanded(line: bytes) -> dict[str, Any]:
    return said(ResponseDirectives(members_of([line])))


def said(directives: RequestDirectives | ResponseDirectives) -> dict[str, Any]:
    """What differs from saying nothing."""
    silent = type(directives)(()) if isinstance(directives, ResponseDirectives) else NO_DIRECTIVES
    values = {name: getattr(directives, name) for name in directives.__slots__}
    return {name: value for name, value in values.items() if value != getattr(silent, name)}


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        (b"no-cache", {"no_cache": True}),
        (b"no-cache=x, No-Store=1", {"no_cache": True, "no_store": True}),
        (b"only-if-cached", {"only_if_cached": True}),
        (b"max-age=0", {"max_age": 0}),
        (b'max-age="7"', {"max_age": 7}),
        (b"max-age=9, max-age=4", {"max_age": 4}),
        (b"max-age=9, max-age=soon", {"max_age": 0}),
        (b"max-age", {"max_age": 0}),
        (b"max-age=99999999999", {"max_age": 2**31}),
        (b"min-fresh=4, min-fresh=9", {"min_fresh": 9}),
        (b"min-fresh=-4, min-fresh", {}),
        (b"max-stale", {"max_stale": inf}),
        (b"max-stale=60", {"max_stale": 60}),
        (b"max-stale, max-stale=60", {"max_stale": 60}),
        (b"max-stale=60, max-stale=30", {"max_stale": 30}),
        (b"max-stale=x", {"max_stale": 0}),
        (b"stale-if-error=60, stale-if-error=90", {"stale_if_error": 60}),
        (b"stale-if-error", {}),
        (b"no-transform, community=UCI, public, s-maxage=4, min-freshness=4", {}),
    ],
)
def test_what_a_request_asks(line: bytes, meaning: dict[str, Any]) -> None:
    assert asked(line) == meaning


def test_lines_of_a_request_are_one_list() -> None:
    assert asked(b"max-age=5", b"", b"no-cache, max-age=3") == {"max_age": 3, "no_cache": True}


@pytest.mark.parametrize(
    ("fields", "no_cache"),
    [
        ([(b"Pragma", b"no-cache")], True),
        ([(b"pragma", b'x="a, b"'), (b"PRAGMA", b"foo, No-Cache")], True),
        ([(b"Pragma", b"no-cacheable")], False),
        ([(b"Pragma", b"no-cache"), (b"Cache-Control", b"max-age=5")], False),
        ([(b"Pragma", b"no-cache"), (b"Cache-Control", b"")], False),
    ],
)
def test_pragma_counts_where_there_is_no_cache_control(fields: list[tuple[bytes, bytes]], no_cache: bool) -> None:
    assert request_directives(fields).no_cache is no_cache


def test_request_without_directives_has_the_constant() -> None:
    assert request_directives([(b"Accept", b"no-cache")]) is NO_DIRECTIVES
    assert request_directives([(b"Pragma", b"x")]) is NO_DIRECTIVES


def test_long_lines_are_read_like_short_ones() -> None:
    assert asked(b"max-age=5", b"x=" + b"y" * 5000) == {"max_age": 5}


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        (b"max-age=60", {"max_age": 60}),
        (b"max-age=60, max-age=5", {"max_age": 5}),
        (b"max-age=5, max-age=60", {"max_age": 5}),
        (b"max-age=60, max-age=60", {"max_age": 60}),
        (b"max-age=60, max-age=6.0", {"max_age": 0}),
        (b"max-age, s-maxage=", {"max_age": 0, "s_maxage": 0}),
        (b"s-maxage=-1", {"s_maxage": 0}),
        (b"MAX-AGE=60, S-MaxAge=5", {"max_age": 60, "s_maxage": 5}),
        (b"stale-while-revalidate=9, stale-if-error=8", {"stale_while_revalidate": 9, "stale_if_error": 8}),
        (b"stale-while-revalidate, stale-if-error=x", {"stale_while_revalidate": 0, "stale_if_error": 0}),
        (b"no-store, public", {"no_store": True, "public": True}),
        (b"no-store=x, must-revalidate=y, proxy-revalidate=z",
         {"no_store": True, "must_revalidate": True, "proxy_revalidate": True}),
        (b"public=x, must-understand=x", {}),
        (b"must-understand, no-store", {"must_understand": True, "no_store": True}),
        (b"immutable", {"immutable": True}),
        (b"immutable=x, immutable", {"immutable": True}),
        (b"no-cache", {"no_cache": True}),
        (b"private", {"private": True}),
        (b'private="Set-Cookie, X-A", no-cache=x-b', {"hidden": {b"set-cookie", b"x-a", b"x-b"}}),
        (b'private, private="x-a"', {"private": True, "hidden": {b"x-a"}}),
        (b'private=""', {"private": True}),
        (b'no-cache=" , "', {"no_cache": True}),
        (b'private="x-a, a b"', {"private": True}),
        (b'private="x-a', {"private": True}),
        (b"private = x-a", {"private": True}),
        (b"no-transform, no-storage, max_age=5, maxage=5, min-fresh=5, only-if-cached, max-stale", {}),
    ],
)  # fmt: skip
def test_what_a_response_demands(line: bytes, meaning: dict[str, Any]) -> None:
    assert demanded(line) == meaning


@pytest.mark.parametrize(
    ("line", "forbids_stale", "shares_credentials"),
    [
        (b"max-age=60", False, False),
        (b"public", False, True),
        (b"must-revalidate", True, True),
        (b"proxy-revalidate", True, False),
        (b"s-maxage=5", True, True),
        (b"no-cache", False, False),
    ],
)
def test_what_directives_imply_for_a_shared_cache(line: bytes, forbids_stale: bool, shares_credentials: bool) -> None:
    directives = ResponseDirectives(members_of([line]))

    assert directives.forbids_stale is forbids_stale
    assert directives.shares_credentials is shares_credentials
