"""Which preconditions a cache answers itself, and how (RFC 9111 section 4.3.2, RFC 9110 section 13)."""

import pytest

from proxy.protocol.caching.conditions import has_strong_date, is_not_modified, range_applies
from proxy.protocol.caching.stored import Part
from proxy.protocol.dates import format_http_date
from tests.support.stored import BORN, make_stored

Fields = list[tuple[bytes, bytes]]

CHANGED = BORN - 3600
ON_CHANGE = format_http_date(CHANGED)
BEFORE_CHANGE = format_http_date(CHANGED - 1)
AFTER_CHANGE = format_http_date(CHANGED + 1)


@pytest.mark.parametrize(
    ("etag", "value", "expected"),
    [
        (b'"a"', b'"a"', True),
        (b'"a"', b'W/"a"', True),
        (b'W/"a"', b'"a"', True),
        (b'W/"a"', b'W/"a"', True),
        (b'"a"', b'"b"', False),
        (b'"a"', b'"b", "a"', True),
        (b'"a"', b'"b" , W/"a","c"', True),
        (b'"a"', b'"b", "c"', False),
        (b'"a,b"', b'"a,b"', True),
        (b'"a"', b'"a,b"', False),
        (b'"a"', b"*", True),
        (b'"a"', b" * ", True),
        (b"", b"*", True),
        (b"", b'"a"', False),
        (b"", b"", False),
        (b'"a"', b"", False),
        (b'"a"', b"a", False),
        (b"a", b"a", True),
    ],
)
def test_if_none_match_compares_weakly(etag: bytes, value: bytes, expected: bool) -> None:
    assert is_not_modified([(b"If-None-Match", value)], make_stored(etag=etag)) is expected


def test_if_none_match_in_several_lines_is_one_list() -> None:
    fields = [(b"if-none-match", b'"b"'), (b"Accept", b"*/*"), (b"IF-NONE-MATCH", b'"a"')]

    assert is_not_modified(fields, make_stored(etag=b'"a"'))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ON_CHANGE, True),
        (AFTER_CHANGE, True),
        (BEFORE_CHANGE, False),
        (b" " + ON_CHANGE, True),
        (b"0", False),
        (b"yesterday", False),
        (b"", False),
        (str(int(BORN)).encode(), False),
    ],
)
def test_if_modified_since_is_compared_with_last_modified(value: bytes, expected: bool) -> None:
    assert is_not_modified([(b"If-Modified-Since", value)], make_stored(last_modified=CHANGED)) is expected


@pytest.mark.parametrize(("offset", "expected"), [(-1, False), (0, True), (1, True)])
def test_date_stands_in_for_a_missing_last_modified(offset: int, expected: bool) -> None:
    fields = [(b"If-Modified-Since", format_http_date(BORN + offset))]

    assert is_not_modified(fields, make_stored()) is expected


def test_if_modified_since_twice_is_ignored() -> None:
    assert not is_not_modified([(b"If-Modified-Since", AFTER_CHANGE)] * 2, make_stored(last_modified=CHANGED))


@pytest.mark.parametrize(("tag", "expected"), [(b'"a"', True), (b'"b"', False)])
@pytest.mark.parametrize("date", [BEFORE_CHANGE, AFTER_CHANGE])
def test_if_none_match_outdoes_if_modified_since(tag: bytes, date: bytes, expected: bool) -> None:
    fields = [(b"If-Modified-Since", date), (b"If-None-Match", tag)]

    assert is_not_modified(fields, make_stored(etag=b'"a"', last_modified=CHANGED)) is expected


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"If-Match", b'"a"')],
        [(b"If-Match", b"*")],
        [(b"If-Unmodified-Since", BEFORE_CHANGE)],
        [(b"If-Range", b'"a"')],
        [(b"If_None_Match", b'"a"')],
    ],
)
def test_what_is_for_the_origin_server_is_not_evaluated(fields: Fields) -> None:
    assert not is_not_modified(fields, make_stored(etag=b'"a"', last_modified=CHANGED))


@pytest.mark.parametrize(("status", "expected"), [(200, True), (203, True), (204, False), (301, False), (404, False)])
def test_conditions_are_about_representations(status: int, expected: bool) -> None:
    assert is_not_modified([(b"If-None-Match", b"*")], make_stored(status=status, etag=b'"a"')) is expected


def test_a_stored_part_has_the_validator_of_the_whole() -> None:
    stored = make_stored(b"234", etag=b'"a"', part=Part(2, 10))

    assert is_not_modified([(b"If-None-Match", b'"a"')], stored)


@pytest.mark.parametrize(
    ("etag", "value", "expected"),
    [
        (b'"a"', b'"a"', True),
        (b'"a"', b' "a" ', True),
        (b'"a"', b'"b"', False),
        (b'W/"a"', b'W/"a"', False),
        (b'W/"a"', b'"a"', False),
        (b'"a"', b'W/"a"', False),
        (b'"a"', b"a", False),
        (b'"a"', b"", False),
        (b"a", b"a", False),
        (b"", b'"a"', False),
    ],
)
def test_if_range_compares_tags_strongly(etag: bytes, value: bytes, expected: bool) -> None:
    assert range_applies([(b"If-Range", value)], make_stored(etag=etag)) is expected


@pytest.mark.parametrize(
    ("last_modified", "value", "expected"),
    [
        (CHANGED, ON_CHANGE, True),
        (CHANGED, AFTER_CHANGE, False),
        (CHANGED, BEFORE_CHANGE, False),
        (None, format_http_date(BORN), False),
        (None, b"junk", False),
        (BORN, format_http_date(BORN), False),
        (BORN - 1, format_http_date(BORN - 1), True),
    ],
)
def test_if_range_takes_a_date_only_if_it_is_strong_and_equal(
    last_modified: float | None, value: bytes, expected: bool
) -> None:
    assert range_applies([(b"If-Range", value)], make_stored(last_modified=last_modified)) is expected


def test_a_range_without_if_range_applies() -> None:
    assert range_applies([(b"Range", b"bytes=0-1")], make_stored())


def test_if_range_twice_holds_for_nothing() -> None:
    assert not range_applies([(b"If-Range", b'"a"')] * 2, make_stored(etag=b'"a"'))


@pytest.mark.parametrize(("last_modified", "expected"), [(None, False), (BORN, False), (BORN - 1, True)])
def test_a_date_is_strong_when_no_second_change_can_have_it(last_modified: float | None, expected: bool) -> None:
    assert has_strong_date(make_stored(last_modified=last_modified).terms) is expected
