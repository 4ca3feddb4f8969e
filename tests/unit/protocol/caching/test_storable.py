"""Which responses may be stored, and the word for why not (RFC 9111 sections 3, 3.3 and 3.5)."""

from dataclasses import replace

import pytest

from proxy.protocol.caching.stored import Rules
from proxy.protocol.caching.terms import terms_of

NOW = 1_800_000_000.0
STANDARD = Rules()
PER_USER = Rules(is_private=True)

Field = tuple[bytes, bytes]
FRESH: Field = (b"Cache-Control", b"max-age=60")
ETAG: Field = (b"ETag", b'"a"')
WITH_PART = (b"Content-Range", b"bytes 0-4/10")


def says(value: bytes) -> Field:
    return b"Cache-Control", value


def refusal(
    *fields: Field,
    method: str = "GET",
    request: tuple[Field, ...] = (),
    status: int = 200,
    rules: Rules = STANDARD,
) -> str:
    return terms_of(method, request, status, fields, requested_at=NOW, received_at=NOW, rules=rules).refusal


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get", "QUERY"])
def test_only_get_is_stored(method: str) -> None:
    assert refusal(FRESH, method=method) == "method"


@pytest.mark.parametrize("status", [100, 103, 304, 407, 412, 416, 428, 429, 431, 500, 502, 503, 504, 511])
def test_statuses_that_are_never_stored(status: int) -> None:
    assert refusal(FRESH, status=status) == "status"


@pytest.mark.parametrize("status", [200, 201, 299, 302, 307, 399, 400, 403, 404, 418, 499, 501, 505, 599])
def test_any_final_status_is_stored_with_explicit_freshness(status: int) -> None:
    for field in (FRESH, says(b"s-maxage=60"), (b"Expires", b"Fri, 15 Jan 2027 09:00:00 GMT")):
        assert refusal(field, status=status) == ""


@pytest.mark.parametrize("status", [201, 202, 302, 303, 307, 400, 403, 505, 599])
def test_status_that_is_not_heuristically_cacheable_needs_a_mark(status: int) -> None:
    assert refusal(ETAG, status=status, rules=Rules(ttl=60.0, negative_ttl=60.0)) == "no_freshness"
    assert refusal(ETAG, says(b"public"), status=status) == ""


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, ""), (302, ""), (404, ""), (505, ""), (299, "status"), (306, "status"), (418, "status"), (599, "status")],
)
def test_must_understand_needs_a_status_that_is_known(status: int, expected: str) -> None:
    for value in (b"max-age=60, must-understand", b"max-age=60, must-understand, no-store"):
        assert refusal(says(value), status=status) == expected


@pytest.mark.parametrize(
    "value", [b"no-store", b"No-Store", b"no-store=x", b"public, max-age=60, no-store", b"no-store, must-understand=x"]
)
def test_no_store_is_not_stored(value: bytes) -> None:
    assert refusal(says(value), ETAG) == "no_store"
    assert refusal(says(value), ETAG, rules=Rules(ttl=60.0, respect_origin=False)) == "no_store"


def test_request_with_no_store_is_not_stored() -> None:
    assert refusal(FRESH, request=((b"cache-control", b"max-age=5, No-Store"),)) == "request_no_store"
    assert refusal(FRESH, request=((b"cache-control", b"no-cache"), (b"Pragma", b"no-store"))) == ""


@pytest.mark.parametrize("value", [b"private", b"private, max-age=60", b"public, private", b'private="a b"'])
def test_private_is_stored_only_for_its_user(value: bytes) -> None:
    assert refusal(says(value), ETAG) == "private"
    assert refusal(says(value), ETAG, rules=Rules(ttl=60.0, respect_origin=False)) == "private"
    assert refusal(says(value), ETAG, rules=PER_USER) == ""


def test_private_marks_a_response_as_cacheable_for_its_user() -> None:
    assert refusal(says(b"private"), ETAG, status=302, rules=PER_USER) == ""


def test_private_with_field_names_is_stored_without_them() -> None:
    assert refusal(says(b'private="x-a", max-age=60')) == ""


@pytest.mark.parametrize(("name", "word"), [(b"Authorization", "authorization"), (b"cookie", "cookie")])
def test_credentials_need_a_word_of_the_origin(name: bytes, word: str) -> None:
    request = ((name, b"x"),)

    assert refusal(FRESH, request=request) == word
    assert refusal(FRESH, request=request, rules=Rules(ttl=60.0)) == word
    assert refusal(says(b"max-age=60, proxy-revalidate"), request=request) == word
    assert refusal(says(b"max-age=60, public=x"), request=request) == word
    for value in (b"public, max-age=60", b"s-maxage=60", b"max-age=60, must-revalidate"):
        assert refusal(says(value), request=request) == ""
    assert refusal((b"CDN-Cache-Control", b"max-age=60"), says(b"public"), request=request) == word
    assert refusal((b"CDN-Cache-Control", b"max-age=60, public"), request=request) == ""
    assert refusal(FRESH, request=request, rules=PER_USER) == ""


def test_set_cookie_is_stored_only_if_the_route_says_so() -> None:
    cookie = (b"set-cookie", b"a=b")

    assert refusal(FRESH, cookie) == "set_cookie"
    assert refusal(says(b"public, max-age=60"), cookie) == "set_cookie"
    assert refusal(FRESH, cookie, rules=PER_USER) == "set_cookie"
    assert refusal(FRESH, cookie, rules=Rules(stores_cookies=True)) == ""


@pytest.mark.parametrize("directive", [b'private="Set-Cookie"', b'no-cache="Set-Cookie"'])
def test_response_whose_set_cookie_is_left_out_may_be_stored(directive: bytes) -> None:
    assert refusal(says(b"max-age=60, " + directive), (b"Set-Cookie", b"a=b")) == ""


def test_vary_star_is_not_stored() -> None:
    assert refusal(FRESH, ETAG, (b"Vary", b"Accept, *")) == "vary"


@pytest.mark.parametrize(
    ("fields", "rules", "expected"),
    [
        ([], STANDARD, "no_freshness"),
        ([says(b"max-age=0")], STANDARD, "no_freshness"),
        ([says(b"max-age=0"), ETAG], STANDARD, ""),
        ([ETAG], STANDARD, ""),
        ([(b"Last-Modified", b"Fri, 15 Jan 2027 08:00:00 GMT")], STANDARD, ""),
        ([says(b"no-cache, max-age=60")], STANDARD, "no_freshness"),
        ([says(b"no-cache"), ETAG], STANDARD, ""),
        ([says(b"max-age=0, stale-while-revalidate=5")], STANDARD, ""),
        ([says(b"max-age=0, stale-if-error=5")], STANDARD, ""),
        ([says(b"max-age=0")], Rules(stale_if_error=5.0), ""),
        ([says(b"max-age=0, must-revalidate")], Rules(stale_if_error=5.0), "no_freshness"),
        ([], Rules(ttl=5.0), ""),
    ],
)
def test_what_could_never_be_used_again_is_not_stored(fields: list[Field], rules: Rules, expected: str) -> None:
    assert refusal(*fields, rules=rules) == expected


@pytest.mark.parametrize("value", [b"bytes 0-4/10", b"Bytes 9-9/10", b"bytes 0-9/10", b"bytes 0-0/999999999999999999"])
def test_part_with_a_sane_range_is_stored(value: bytes) -> None:
    assert refusal(FRESH, (b"Content-Range", value), status=206) == ""


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"bytes", b"bytes 0-4/*", b"bytes */10", b"bytes 4-0/10", b"bytes 0-10/10", b"bytes=0-4/10"),
        *(b"items 0-4/10", b"bytes -4/10", b"bytes 0-/10", b"bytes 0-4/0", b"bytes 0 - 4/10", b"bytes 0-4/10, 5-6/10"),
        b"bytes 0-4/" + b"9" * 5000,
    ],
)
def test_part_without_a_sane_range_is_not_stored(value: bytes) -> None:
    assert refusal(FRESH, (b"Content-Range", value), status=206) == "partial"
    assert refusal(FRESH, WITH_PART, (b"Content-Range", value), status=206) == "partial"
    assert refusal(FRESH, (b"Content-Type", b"multipart/byteranges; boundary=x"), status=206) == "partial"


def test_first_reason_is_named() -> None:
    rules = replace(STANDARD, ttl=60.0)
    everything = (says(b"no-store, private"), (b"Set-Cookie", b"a=b"), (b"Vary", b"*"))

    assert refusal(*everything, method="POST", status=429, rules=rules) == "method"
    assert refusal(*everything, request=((b"Authorization", b"x"),)) == "no_store"
    assert refusal(*everything[1:], request=((b"Authorization", b"x"), (b"Cookie", b"a"))) == "authorization"
    assert refusal(*everything[1:]) == "set_cookie"
