"""How a 304 or a HEAD brings a stored response up to date (RFC 9111 sections 3.2, 4.3.4 and 4.3.5)."""

from dataclasses import replace

import pytest

from proxy.protocol.caching.stored import Part, StoredResponse, Terms
from proxy.protocol.caching.updating import freshened_fields, head_update, selects, share_strong_validator, updated
from proxy.protocol.dates import format_http_date
from tests.support.stored import BORN, make_stored

Fields = list[tuple[bytes, bytes]]

CHANGED = BORN - 3600
ON_CHANGE = format_http_date(CHANGED)
LATER = format_http_date(BORN + 100)
TERMS = Terms("", BORN + 100, BORN + 100, 30.0, etag=b'"a"')


@pytest.mark.parametrize(
    ("etag", "last_modified", "fields", "expected"),
    [
        (b'"a"', None, [(b"ETag", b'"a"')], True),
        (b'"a"', None, [(b"etag", b' "a"')], True),
        (b'"a"', None, [(b"ETag", b'"b"')], False),
        (b'W/"a"', None, [(b"ETag", b'"a"')], False),
        (b"", CHANGED, [(b"ETag", b'"a"')], False),
        (b"", CHANGED, [(b"ETag", b'"a"'), (b"Last-Modified", ON_CHANGE)], False),
        (b'"a"', None, [(b"ETag", b'W/"a"')], True),
        (b'W/"a"', None, [(b"ETag", b'W/"a"')], True),
        (b'W/"a"', None, [(b"ETag", b'W/"b"')], False),
        (b'"a"', CHANGED, [(b"ETag", b'W/"b"'), (b"Last-Modified", ON_CHANGE)], False),
        (b"", CHANGED, [(b"ETag", b'W/"a"'), (b"Last-Modified", ON_CHANGE)], True),
        (b"", CHANGED, [(b"ETag", b'W/"a"')], False),
        (b'"a"', CHANGED, [(b"Last-Modified", ON_CHANGE)], True),
        (b'"a"', CHANGED, [(b"Last-Modified", LATER)], False),
        (b"", CHANGED, [(b"Last-Modified", ON_CHANGE)], True),
        (b"", CHANGED, [(b"Last-Modified", b"junk")], False),
        (b'"a"', None, [(b"Last-Modified", ON_CHANGE)], False),
        (b'"a"', CHANGED, [(b"Date", LATER)], True),
        (b"", None, [], True),
    ],
)
def test_which_response_a_304_speaks_of(
    etag: bytes, last_modified: float | None, fields: Fields, expected: bool
) -> None:
    assert selects(make_stored(etag=etag, last_modified=last_modified), fields) is expected


def test_each_field_that_comes_replaces_all_of_its_name() -> None:
    stored = make_stored(headers=[("X-A", "1"), ("x-a", "2"), ("X-B", "3")], etag=b'"a"')

    fields = freshened_fields(stored, [(b"X-a", b"4"), (b"X-A", b"5"), (b"X-C", b"6"), (b"Date", LATER)])

    assert fields == [
        (b"ETag", b'"a"'),
        (b"X-B", b"3"),
        (b"X-a", b"4"),
        (b"X-A", b"5"),
        (b"X-C", b"6"),
        (b"Date", LATER),
    ]


@pytest.mark.parametrize("name", [b"Content-Type", b"Content-MD5", b"Content-Language", b"ETag", b"Set-Cookie", b"Age"])
def test_content_fields_are_updated_like_others(name: bytes) -> None:
    stored = make_stored(headers=[(name, b"old")])

    assert freshened_fields(stored, [(name, b"new")]) == [(name, b"new")]


@pytest.mark.parametrize("name", [b"Content-Length", b"Content-Range", b"content-encoding"])
def test_what_the_body_depends_upon_is_not_updated(name: bytes) -> None:
    stored = make_stored(headers=[(b"Content-Encoding", b"gzip")])

    assert freshened_fields(stored, [(name, b"new")]) == [(b"Content-Encoding", b"gzip")]


def test_an_update_is_dated_when_it_came() -> None:
    stored = make_stored(b"body", [("X-Old", "1")], etag=b'"a"', variant=b"v")

    result = updated(stored, [(b"X-New", b"2")], TERMS)

    assert dict(result.fields) == {b"X-Old": b"1", b"ETag": b'"a"', b"X-New": b"2", b"Date": LATER}
    assert (result.status, result.body, result.terms, result.variant) == (200, b"body", TERMS, b"v")
    assert dict(stored.fields)[b"Date"] != LATER


def test_an_update_stores_nothing_that_is_never_stored() -> None:
    fields = [(b"Age", b"5"), (b"Content-Length", b"7"), (b"Content-Range", b"bytes 0-1/2"), (b"Date", LATER)]

    result = updated(make_stored(), [*fields, (b"Keep-Alive", b"timeout=5")], TERMS)

    assert result.fields == ((b"Date", LATER),)


def test_what_the_new_directives_name_leaves_the_stored_fields() -> None:
    stored = make_stored(headers=[("X-User", "a"), ("Cache-Control", "max-age=1")])

    result = updated(stored, [(b"Cache-Control", b'private="X-User", max-age=5')], TERMS)

    assert b"X-User" not in dict(result.fields)


def test_an_update_may_change_the_variant() -> None:
    assert updated(make_stored(variant=b"v"), [], replace(TERMS, vary=(b"foo",)), b"w").variant == b"w"


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"ETag", b'"a"')],
        [(b"Last-Modified", ON_CHANGE)],
        [(b"Content-Length", b"10")],
        [(b"ETag", b'"a"'), (b"last-modified", ON_CHANGE), (b"content-length", b"10"), (b"X-New", b"1")],
    ],
)
def test_a_head_that_agrees_updates(fields: Fields) -> None:
    result = head_update(make_stored(etag=b'"a"', last_modified=CHANGED), fields, TERMS)

    assert result is not None
    assert result.terms is TERMS
    assert (b"X-New" in dict(result.fields)) is (len(fields) == 4)


@pytest.mark.parametrize(
    "field",
    [
        (b"ETag", b'"b"'),
        (b"ETag", b'W/"a"'),
        (b"Last-Modified", LATER),
        (b"Last-Modified", b"junk"),
        (b"Content-Length", b"11"),
        (b"Content-Length", b"010"),
    ],
)
def test_a_head_that_differs_makes_it_outdated(field: tuple[bytes, bytes]) -> None:
    assert head_update(make_stored(etag=b'"a"', last_modified=CHANGED), [field], TERMS) is None


def test_a_head_tells_the_length_of_the_whole() -> None:
    stored = make_stored(b"234", part=Part(2, 10))

    assert head_update(stored, [(b"Content-Length", b"10")], TERMS) is not None
    assert head_update(stored, [(b"Content-Length", b"3")], TERMS) is None


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (make_stored(etag=b'"a"'), make_stored(etag=b'"a"'), True),
        (make_stored(etag=b'"a"'), make_stored(etag=b'"b"'), False),
        (make_stored(etag=b'W/"a"'), make_stored(etag=b'W/"a"'), False),
        (make_stored(etag=b'"a"', last_modified=CHANGED), make_stored(last_modified=CHANGED), False),
        (make_stored(last_modified=CHANGED), make_stored(last_modified=CHANGED), True),
        (make_stored(last_modified=CHANGED), make_stored(last_modified=CHANGED - 1), False),
        (make_stored(last_modified=BORN), make_stored(last_modified=BORN), False),
        (make_stored(), make_stored(), False),
    ],
)
def test_strong_validators_identify_a_representation(
    one: StoredResponse, other: StoredResponse, expected: bool
) -> None:
    assert share_strong_validator(one.terms, other.terms) is expected
