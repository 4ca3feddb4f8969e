"""Freshness lifetimes and the windows after them (RFC 9111 section 4.2, RFC 5861), with the route's rules beside."""

import pytest

from proxy.protocol.caching.stored import Rules, Terms
from proxy.protocol.caching.terms import terms_of
from proxy.protocol.dates import format_http_date

NOW = 1_800_000_000.0
DAY = 86_400.0
STANDARD = Rules()
TTL = Rules(ttl=300.0, negative_ttl=10.0)
OURS = Rules(ttl=300.0, negative_ttl=10.0, respect_origin=False)
STALE = Rules(stale_while_revalidate=20.0, stale_if_error=40.0)

Field = tuple[bytes, bytes]


def terms(*fields: Field, status: int = 200, rules: Rules = STANDARD, is_dated: bool = True) -> Terms:
    dated = [(b"Date", format_http_date(NOW))] if is_dated else []
    return terms_of("GET", [], status, [*dated, *fields], requested_at=NOW, received_at=NOW, rules=rules)


def says(value: bytes) -> Field:
    return b"Cache-Control", value


def expires(seconds: float) -> Field:
    return b"Expires", format_http_date(NOW + seconds)


def changed(seconds_ago: float) -> Field:
    return b"Last-Modified", format_http_date(NOW - seconds_ago)


@pytest.mark.parametrize(
    ("fields", "lifetime"),
    [
        ([says(b"max-age=60")], 60),
        ([says(b"max-age=60, s-maxage=5")], 5),
        ([says(b"s-maxage=600, max-age=5")], 600),
        ([says(b"max-age=60"), says(b"s-maxage=5")], 5),
        ([expires(60)], 60),
        ([expires(60), says(b"max-age=5")], 5),
        ([expires(60), says(b"s-maxage=5")], 5),
        ([expires(60), says(b"public")], 60),
        ([expires(-60)], 0),
        ([expires(0)], 0),
        ([(b"Expires", b"0")], 0),
        ([(b"Expires", b"-1")], 0),
        ([(b"Expires", b"")], 0),
        ([(b"Expires", b"Fri, 15 Jan 2027 09:00:00 UTC")], 0),
        ([(b"Expires", b"fri, 15 jan 2027 08:01:00 gmt")], 60),
        ([(b"Expires", b"Friday, 15-Jan-27 08:01:00 GMT")], 60),
        ([(b"Expires", b"Fri Jan 15 08:01:00 2027")], 60),
        ([(b"Expires", b"Fri, 31 Dec 9999 23:59:59 GMT")], 2**31),
        ([expires(600), expires(60)], 60),
        ([expires(60), expires(600)], 60),
        ([expires(60), (b"Expires", b"0")], 0),
        ([says(b"max-age=x"), expires(60)], 0),
        ([says(b"max-age=60"), (b"Expires", b"0")], 60),
        ([says(b"max-age=99999999999")], 2**31),
        ([says(b"max-age=0"), changed(DAY)], 0),
        ([(b"Expires", b"0"), changed(DAY)], 0),
        ([(b"Pragma", b"no-cache"), says(b"max-age=60")], 60),
    ],
)
def test_explicit_lifetime(fields: list[Field], lifetime: float) -> None:
    assert terms(*fields).lifetime == lifetime


def test_expires_counts_from_the_date_of_the_origin_whatever_our_clock_says() -> None:
    for skew in (-DAY, DAY):
        fields = [(b"Date", format_http_date(NOW + skew)), (b"Expires", format_http_date(NOW + skew + 60))]

        assert terms(*fields, is_dated=False).lifetime == 60


def test_expires_counts_from_the_receipt_without_a_date() -> None:
    assert terms(expires(60), is_dated=False).lifetime == 60
    assert terms(expires(60), (b"Date", b"now"), is_dated=False).lifetime == 60


@pytest.mark.parametrize(
    ("fields", "status", "lifetime"),
    [
        ([changed(1000)], 200, 100),
        ([changed(100 * DAY)], 200, DAY),
        ([changed(0)], 200, 0),
        ([changed(-1000)], 200, 0),
        ([(b"Last-Modified", b"long ago")], 200, 0),
        ([changed(1000), changed(2000)], 200, 0),
        ([], 200, 0),
        *(([changed(1000)], status, 100) for status in (203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501)),
        *(([changed(1000)], status, 0) for status in (201, 202, 302, 303, 307, 400, 403, 500, 503, 599)),
        ([changed(1000), says(b"public")], 302, 100),
        ([changed(1000), says(b"public")], 599, 100),
    ],
)
def test_heuristic_is_a_tenth_of_the_time_since_the_last_change(
    fields: list[Field], status: int, lifetime: float
) -> None:
    assert terms(*fields, status=status).lifetime == lifetime


def test_heuristic_does_not_grow_with_a_date_ahead_of_us() -> None:
    assert terms((b"Date", format_http_date(NOW + DAY)), changed(1000), is_dated=False).lifetime == 100


@pytest.mark.parametrize(
    ("status", "fields", "rules", "lifetime"),
    [
        *((status, [], TTL, 300) for status in (200, 203, 204, 206, 300, 301, 308)),
        *((status, [], TTL, 0) for status in (302, 303, 307, 201, 400, 403, 500, 503)),
        *((status, [], TTL, 10) for status in (404, 405, 410, 414, 501)),
        (404, [], Rules(ttl=300.0), 0),
        (404, [changed(1000)], Rules(ttl=300.0), 100),
        (302, [says(b"public")], TTL, 300),
        (503, [says(b"public")], TTL, 0),
        (200, [changed(1000)], TTL, 300),
        (200, [says(b"max-age=5")], TTL, 5),
        (200, [says(b"max-age=0")], TTL, 0),
        (200, [(b"Expires", b"0")], TTL, 0),
        (404, [says(b"max-age=60")], TTL, 60),
        (200, [says(b"max-age=5")], OURS, 300),
        (200, [says(b"s-maxage=0")], OURS, 300),
        (302, [says(b"max-age=5")], OURS, 300),
        (404, [says(b"max-age=60")], OURS, 60),
        (404, [], OURS, 10),
        (503, [says(b"max-age=60")], OURS, 60),
        (200, [says(b"max-age=5")], Rules(respect_origin=False), 5),
    ],
)
def test_route_gives_lifetimes_where_the_origin_is_silent_or_not_asked(
    status: int, fields: list[Field], rules: Rules, lifetime: float
) -> None:
    assert terms(*fields, status=status, rules=rules).lifetime == lifetime


@pytest.mark.parametrize(
    ("value", "windows"),
    [
        (b"max-age=60", (20, 40)),
        (b"max-age=60, stale-while-revalidate=5", (5, 40)),
        (b"max-age=60, stale-if-error=5", (20, 5)),
        (b"max-age=60, stale-while-revalidate=0, stale-if-error=0", (0, 0)),
        (b"max-age=60, stale-while-revalidate=x", (0, 40)),
        (b"max-age=60, stale-while-revalidate=9, stale-while-revalidate=5", (5, 40)),
        (b'max-age=60, no-cache="x-a"', (20, 40)),
        *(
            (b"max-age=60, stale-while-revalidate=5, stale-if-error=5, " + word, (0, 0))
            for word in (b"must-revalidate", b"proxy-revalidate", b"s-maxage=60", b"no-cache")
        ),
    ],
)
def test_windows_of_the_response_win_and_some_directives_forbid_any(value: bytes, windows: tuple[float, float]) -> None:
    found = terms(says(value), rules=STALE)

    assert (found.stale_while_revalidate, found.stale_if_error) == windows


def test_no_window_without_a_word() -> None:
    found = terms(says(b"max-age=60"))

    assert (found.stale_while_revalidate, found.stale_if_error) == (0, 0)


@pytest.mark.parametrize(
    "value", [b"max-age=60", b"max-age=60, must-revalidate", b"max-age=60, no-cache", b"private, no-store"]
)
def test_targeted_field_makes_expires_and_cache_control_mean_nothing(value: bytes) -> None:
    found = terms((b"CDN-Cache-Control", b"public"), says(value), expires(600), changed(1000))

    assert found.refusal == ""
    assert found.lifetime == 100
    assert (found.forbids_stale, found.always_validates) == (False, False)


def test_targeted_lifetime_and_windows() -> None:
    found = terms((b"Surrogate-Control", b"max-age=60+30"), says(b"no-store"), rules=STALE)

    assert found.refusal == ""
    assert (found.lifetime, found.stale_while_revalidate, found.stale_if_error) == (60, 30, 30)
