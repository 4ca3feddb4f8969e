"""Which field counts (RFC 9213, and Surrogate-Control of the Edge Architecture)."""

import pytest

from proxy.protocol.caching.directives import ResponseDirectives
from proxy.protocol.caching.targeted import directives_of, lines_of


def chosen(*fields: tuple[bytes, bytes]) -> ResponseDirectives:
    return directives_of(lines_of([*fields, (b"Cache-Control", b"max-age=1")]))


def test_cache_control_counts_where_nothing_is_targeted() -> None:
    directives = chosen((b"Example-Cache-Control", b"max-age=5"), (b"cache-control", b"no-cache"))

    assert (directives.max_age, directives.no_cache, directives.is_targeted) == (1, True, False)


@pytest.mark.parametrize(
    ("value", "attribute", "expected"),
    [
        (b"max-age=60", "max_age", 60),
        (b"max-age=60;x=1", "max_age", 60),
        (b"max-age=5, max-age=60", "max_age", 60),
        (b"max-age=999999999999999", "max_age", 2**31),
        (b"max-age=60.0", "max_age", 0),
        (b'max-age="60"', "max_age", 0),
        (b"max-age=-60", "max_age", 0),
        (b"max-age=sixty", "max_age", 0),
        (b"max-age=(60)", "max_age", 0),
        (b"max-age", "max_age", 0),
        (b"s-maxage=60", "s_maxage", 60),
        (b"no-store", "no_store", True),
        (b"no-store=?0", "no_store", False),
        (b"no-cache", "no_cache", True),
        (b"no-cache=token", "no_cache", True),
        (b'private="x-a, x-b"', "hidden", {b"x-a", b"x-b"}),
        (b"private", "private", True),
        (b"private=1", "private", True),
        (b"must-revalidate", "must_revalidate", True),
        (b"stale-while-revalidate=9", "stale_while_revalidate", 9),
        (b"stale-if-error=9", "stale_if_error", 9),
        (b"public", "public", True),
        (b"immutable", "immutable", True),
        (b"none", "max_age", None),
    ],
)
def test_cdn_cache_control_outdoes_cache_control(value: bytes, attribute: str, expected: object) -> None:
    directives = chosen((b"CDN-Cache-Control", value))

    assert directives.is_targeted
    assert getattr(directives, attribute) == expected


@pytest.mark.parametrize(
    "value", [b"", b" ", b"max-age=60,", b"max-age=60 no-store", b"Max-Age=60", b"max-age=60s", b"no-store;", b"&"]
)
def test_cdn_cache_control_that_is_empty_or_does_not_parse_is_ignored(value: bytes) -> None:
    directives = chosen((b"CDN-Cache-Control", value))

    assert (directives.max_age, directives.is_targeted) == (1, False)


def test_one_bad_line_spoils_the_whole_field() -> None:
    assert chosen((b"CDN-Cache-Control", b"max-age=60"), (b"cdn-cache-control", b"NO")).max_age == 1


def test_cdn_cache_control_comes_before_surrogate_control() -> None:
    fields = [(b"Surrogate-Control", b"max-age=7"), (b"CDN-Cache-Control", b"max-age=60")]

    assert chosen(*fields).max_age == 60
    assert chosen((b"Surrogate-Control", b"max-age=7"), (b"CDN-Cache-Control", b"")).max_age == 7


@pytest.mark.parametrize(
    ("value", "max_age", "windows"),
    [
        (b"max-age=60", 60, (None, None)),
        (b"max-age=60+30", 60, (30, 30)),
        (b"Max-Age=60+30, stale-if-error=5", 60, (30, 5)),
        (b"max-age=60+30, stale-while-revalidate=5, stale-if-error=6", 60, (5, 6)),
        (b"max-age=60+", 60, (0, 0)),
        (b"max-age=60+x", 60, (0, 0)),
        (b"max-age=x+30", 0, (30, 30)),
        (b"max-age", 0, (None, None)),
        (b"max-age=60, max-age=5", 5, (None, None)),
        (b"max-age=60, max-age=600;tidegate", 600, (None, None)),
        (b"max-age=60, max-age=600; Tidegate ,", 600, (None, None)),
        (b"max-age=60, max-age=600;other", 60, (None, None)),
        (b'max-age=60, content="ESI/1.0"', 60, (None, None)),
        (b"no-store-remote, max-age=60", 60, (None, None)),
    ],
)
def test_surrogate_control_outdoes_cache_control(
    value: bytes, max_age: int, windows: tuple[int | None, int | None]
) -> None:
    directives = chosen((b"Surrogate-Control", value))

    assert directives.is_targeted
    assert directives.max_age == max_age
    assert (directives.stale_while_revalidate, directives.stale_if_error) == windows


def test_surrogate_control_forbids_storing() -> None:
    assert chosen((b"Surrogate-Control", b"no-store")).no_store
    assert chosen((b"Surrogate-Control", b"max-age=60"), (b"surrogate-control", b"no-store")).no_store
    assert not chosen((b"Surrogate-Control", b"max-age=60, no-store;other")).no_store


@pytest.mark.parametrize("value", [b"", b'content="ESI/1.0"', b"max-age=60;other", b"no-store;abc", b"unknown=1"])
def test_surrogate_control_without_a_word_for_this_cache_is_passed_over(value: bytes) -> None:
    directives = chosen((b"Surrogate-Control", value))

    assert (directives.max_age, directives.is_targeted) == (1, False)
