"""Terms as a whole, and which fields are stored (RFC 9111 sections 3.1 and 4.2)."""

import pytest

from proxy.protocol.caching.stored import Rules, Terms
from proxy.protocol.caching.terms import stored_fields, terms_of
from proxy.protocol.dates import format_http_date

NOW = 1_800_000_000.5
DATE = (b"Date", format_http_date(NOW))

Field = tuple[bytes, bytes]


def terms(*fields: Field, method: str = "GET", rules: Rules = Rules(), delay: float = 0.5) -> Terms:  # noqa: B008
    return terms_of(method, [], 200, fields, requested_at=NOW - delay, received_at=NOW, rules=rules)


def test_all_that_a_head_says() -> None:
    found = terms(
        (b"Date", format_http_date(NOW - 3)),
        (b"Age", b"7"),
        (b"cache-control", b"max-age=60, stale-while-revalidate=5, stale-if-error=9, immutable"),
        (b"ETag", b'W/"a"'),
        (b"Last-Modified", format_http_date(NOW - 100)),
        (b"Vary", b"Accept"),
        rules=Rules(vary=(b"x-tenant",)),
    )

    assert found == Terms(
        refusal="",
        date=int(NOW) - 3,
        born=NOW - 7.5,
        lifetime=60,
        stale_while_revalidate=5,
        stale_if_error=9,
        is_immutable=True,
        vary=(b"accept", b"x-tenant"),
        etag=b'W/"a"',
        last_modified=int(NOW) - 100,
    )
    assert found.fresh_until == NOW - 7.5 + 60


def test_response_without_a_date_was_made_when_it_was_received() -> None:
    assert terms(delay=0.0).date == terms(delay=0.0).born == NOW
    assert terms((b"Date", b"today"), delay=0.0).born == NOW


def test_refused_response_has_its_terms_all_the_same() -> None:
    found = terms((b"Cache-Control", b"max-age=60"), (b"ETag", b'"a"'), method="HEAD")

    assert (found.refusal, found.lifetime, found.etag) == ("method", 60, b'"a"')


@pytest.mark.parametrize(
    ("values", "etag"),
    [
        ([], b""),
        ([b'"a"'], b'"a"'),
        ([b' W/"a" '], b'W/"a"'),
        ([b'""'], b'""'),
        ([b'"a,b\xe9"'], b'"a,b\xe9"'),
        ([b"unquoted"], b"unquoted"),
        ([b""], b""),
        ([b'"a b"'], b""),
        ([b'"a", "b"'], b""),
        ([b"a,b"], b""),
        ([b'w/"a"'], b""),
        ([b'"a'], b""),
        ([b'"a"', b'"b"'], b""),
    ],
)
def test_tag_is_one_that_can_be_asked_with(values: list[bytes], etag: bytes) -> None:
    assert terms(*((b"ETag", value) for value in values)).etag == etag


def test_fields_are_stored_in_order_and_spelling() -> None:
    fields = (DATE, (b"content-TYPE", b"a/b"), (b"X-Unknown", b"1"), (b"x-unknown", b"2"), (b"ETag", b'"a"'))

    assert stored_fields(fields, NOW) == fields


@pytest.mark.parametrize(
    "name",
    [
        *(b"Age", b"Content-Length", b"content-range", b"Surrogate-Control", b"X-Request-ID"),
        *(b"Connection", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Trailer", b"Transfer-Encoding", b"Upgrade"),
        *(b"Proxy-Authenticate", b"Proxy-Authentication-Info", b"Proxy-Authorization", b"no name"),
    ],
)
def test_fields_of_this_hop_and_of_this_message_are_not_stored(name: bytes) -> None:
    assert stored_fields([DATE, (name, b"x"), (b"X-A", b"1")], NOW) == (DATE, (b"X-A", b"1"))


@pytest.mark.parametrize(
    "name",
    [
        *(b"CDN-Cache-Control", b"Cache-Control", b"Expires", b"Pragma", b"Warning", b"Via", b"Set-Cookie"),
        *(b"Content-Encoding", b"Content-Location", b"Vary", b"Cache-Status", b"WWW-Authenticate", b"RateLimit"),
    ],
)
def test_other_fields_are_stored(name: bytes) -> None:
    assert stored_fields([DATE, (name, b"x")], NOW) == (DATE, (name, b"x"))


def test_fields_that_connection_names_are_not_stored() -> None:
    fields = [DATE, (b"Connection", b"close, X-A"), (b"x-a", b"1"), (b"connection", b"X-B"), (b"X-B", b"1")]

    assert stored_fields(fields, NOW) == (DATE,)


@pytest.mark.parametrize("directive", [b'private="x-a, Set-Cookie"', b'no-cache="X-A,set-cookie"'])
@pytest.mark.parametrize("name", [b"Cache-Control", b"CDN-Cache-Control"])
def test_fields_that_private_or_no_cache_names_are_not_stored(name: bytes, directive: bytes) -> None:
    says = (name, directive + b", max-age=60")

    assert stored_fields([DATE, says, (b"X-A", b"1"), (b"set-cookie", b"a=b")], NOW) == (DATE, says)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], format_http_date(NOW)),
        ([b"Sun, 06 Nov 1994"], format_http_date(NOW)),
        ([b"Sun, 06 Nov 1994 08:49:37 GMT"], b"Sun, 06 Nov 1994 08:49:37 GMT"),
        ([b"0", b"Sun Nov  6 08:49:37 1994", format_http_date(NOW)], b"Sun Nov  6 08:49:37 1994"),
    ],
)
def test_one_valid_date_is_stored(values: list[bytes], expected: bytes) -> None:
    assert stored_fields([(b"Date", value) for value in values], NOW) == ((b"Date", expected),)
