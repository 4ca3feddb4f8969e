"""What a Range asks for, what a 206 holds, and putting parts together (RFC 9110 sections 14 and 15.3.7, 9111 3.4)."""

from dataclasses import replace

import pytest

from proxy.protocol.caching.ranges import combined, holds, is_whole, multipart, part_of, requested
from proxy.protocol.caching.stored import Part, StoredResponse
from tests.support.stored import BORN, make_stored

BODY = b"0123456789"
Ranges = list[tuple[int, int]]


@pytest.mark.parametrize(
    ("value", "ranges"),
    [
        (b"bytes=0-0", [(0, 0)]),
        (b"bytes=0-9", [(0, 9)]),
        (b"bytes=2-5", [(2, 5)]),
        (b"bytes=2-", [(2, 9)]),
        (b"bytes=0-", [(0, 9)]),
        (b"bytes=-3", [(7, 9)]),
        (b"bytes=-10", [(0, 9)]),
        (b"bytes=-11", [(0, 9)]),
        (b"bytes=9-", [(9, 9)]),
        (b"bytes=5-100", [(5, 9)]),
        (b"bytes=5-" + b"9" * 5000, [(5, 9)]),
        (b"bytes=-" + b"9" * 5000, [(0, 9)]),
        (b"bytes=" + b"0" * 5000 + b"1-2", [(1, 2)]),
        (b"BYTES=0-1", [(0, 1)]),
        (b" bytes=0-1\t", [(0, 1)]),
        (b"bytes= 0-1 ,\t3-4", [(0, 1), (3, 4)]),
        (b"bytes=,0-1,,3-4,", [(0, 1), (3, 4)]),
    ],
)
def test_ranges_of_ten_bytes(value: bytes, ranges: Ranges) -> None:
    assert requested(value, 10) == ranges


@pytest.mark.parametrize(
    "value", [b"bytes=10-", b"bytes=10-20", b"bytes=-0", b"bytes=99-, -0", b"bytes=" + b"9" * 5000 + b"-"]
)
def test_what_is_beyond_the_end_cannot_be_satisfied(value: bytes) -> None:
    assert requested(value, 10) == []


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes=",
        b"bytes=,",
        b"bytes=-",
        b"bytes=a-b",
        b"bytes=1",
        b"bytes=1-2-3",
        b"bytes=--1",
        b"bytes=-1-",
        b"bytes=+1-2",
        b"bytes=1 -2",
        b"bytes=0x1-2",
        b"bytes=1-2;3-4",
        b"bytes=5-4",
        b"bytes=0-1,5-4",
        b"bytes=0-1,x",
        b"bytes =0-1",
        b"items=0-1",
        b"0-1",
        b"bytes:0-1",
        b"bytes=\xb2-3",
    ],
)
def test_what_is_malformed_or_no_bytes_is_ignored(value: bytes) -> None:
    assert requested(value, 10) is None


@pytest.mark.parametrize(
    ("value", "ranges"),
    [
        (b"bytes=0-1,10-", [(0, 1)]),
        (b"bytes=0-3,2-5", [(0, 5)]),
        (b"bytes=0-3,4-5", [(0, 5)]),
        (b"bytes=0-3,5-6", [(0, 3), (5, 6)]),
        (b"bytes=5-6,0-1", [(5, 6), (0, 1)]),
        (b"bytes=8-9,0-1,7-8", [(7, 9), (0, 1)]),
        (b"bytes=0-6,1-2,3-3", [(0, 6)]),
        (b"bytes=0-1,0-1", [(0, 1)]),
        (b"bytes=-2,3-3", [(8, 9), (3, 3)]),
    ],
)
def test_what_overlaps_or_touches_is_one_range(value: bytes, ranges: Ranges) -> None:
    assert requested(value, 10) == ranges


@pytest.mark.parametrize("value", [b"bytes=0-4,5-9", b"bytes=0-,0-", b"bytes=-1,0-8"])
def test_the_whole_in_pieces_is_sent_as_the_whole(value: bytes) -> None:
    assert requested(value, 10) is None


def test_too_many_ranges_are_ignored() -> None:
    assert requested(b"bytes=" + b",".join(b"%d-%d" % (n, n) for n in range(0, 32, 2)), 100) is not None
    assert requested(b"bytes=" + b",".join(b"%d-%d" % (n, n) for n in range(0, 34, 2)), 100) is None
    assert requested(b"bytes=" + b"0-0," * 127 + b"0-0", 100) == [(0, 0)]
    assert requested(b"bytes=" + b"0-0," * 128 + b"0-0", 100) is None


@pytest.mark.parametrize(
    ("value", "ranges"), [(b"bytes=0-", []), (b"bytes=-0", []), (b"bytes=-1", None), (b"bytes=0-0", [])]
)
def test_ranges_of_nothing(value: bytes, ranges: Ranges | None) -> None:
    assert requested(value, 0) == ranges


@pytest.mark.parametrize(
    ("value", "length", "part"),
    [
        (b"bytes 0-4/10", 5, Part(0, 10)),
        (b"bytes 5-9/10", 5, Part(5, 10)),
        (b"bytes 0-9/10", 10, Part(0, 10)),
        (b"Bytes  0-4/10 ", 5, Part(0, 10)),
        (b"bytes 0-4/*", 5, None),
        (b"bytes */10", 0, None),
        (b"bytes 5-4/10", 0, None),
        (b"bytes 0-10/10", 11, None),
        (b"bytes 0-4/10", 4, None),
        (b"bytes 0-4/10", 6, None),
        (b"bytes=0-4/10", 5, None),
        (b"items 0-4/10", 5, None),
        (b"bytes 0-4", 5, None),
        (b"bytes -1-3/10", 5, None),
        (b"bytes 0-4/" + b"9" * 20, 5, None),
        (b"", 5, None),
    ],
)
def test_content_range_has_to_fit_the_body(value: bytes, length: int, part: Part | None) -> None:
    assert part_of(206, [(b"Content-Type", b"a/b"), (b"content-range", value)], length) == part


def test_only_a_206_with_one_content_range_is_a_part() -> None:
    field = (b"Content-Range", b"bytes 0-4/10")

    assert part_of(200, [field], 5) is None
    assert part_of(206, [], 5) is None
    assert part_of(206, [field, field], 5) is None


def test_a_part_that_is_all_of_it_is_whole() -> None:
    assert is_whole(make_stored(BODY))
    assert is_whole(make_stored(BODY, part=Part(0, 10)))
    assert not is_whole(make_stored(BODY, part=Part(0, 11)))
    assert not is_whole(make_stored(BODY, part=Part(1, 11)))


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([(2, 4)], True),
        ([(3, 3)], True),
        ([(2, 2), (4, 4)], True),
        ([(1, 4)], False),
        ([(2, 5)], False),
        ([(2, 2), (0, 0)], False),
    ],
)
def test_a_part_holds_what_is_wholly_inside(ranges: Ranges, expected: bool) -> None:
    assert holds(make_stored(b"234", part=Part(2, 10)), ranges) is expected
    assert holds(make_stored(BODY), ranges)


def part(first: int, last: int, etag: bytes = b'"a"', **more: object) -> StoredResponse:
    return replace(make_stored(BODY[first : last + 1], etag=etag, part=Part(first, 10)), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new", "span"),
    [
        ((0, 3), (4, 6), (0, 6)),
        ((4, 6), (0, 3), (0, 6)),
        ((0, 5), (3, 7), (0, 7)),
        ((3, 7), (0, 5), (0, 7)),
        ((2, 7), (3, 4), (2, 7)),
        ((3, 4), (2, 7), (2, 7)),
        ((2, 4), (2, 4), (2, 4)),
    ],
)
def test_parts_that_touch_become_one(old: tuple[int, int], new: tuple[int, int], span: tuple[int, int]) -> None:
    both = combined(part(*old), part(*new))

    assert both is not None
    assert (both.status, both.body, both.part) == (200, BODY[span[0] : span[1] + 1], Part(span[0], 10))


@pytest.mark.parametrize(("old", "new"), [((0, 4), (5, 9)), ((5, 9), (0, 4)), ((0, 8), (2, 9)), ((0, 0), (0, 9))])
def test_all_of_it_is_a_whole_response(old: tuple[int, int], new: tuple[int, int]) -> None:
    both = combined(part(*old), part(*new))

    assert both is not None
    assert (both.body, both.part) == (BODY, None)


def test_a_part_brings_a_whole_one_up_to_date() -> None:
    old = make_stored(BODY, [("X-Old", "1"), ("X-Both", "old")], etag=b'"a"')
    new = make_stored(b"23", [("X-Both", "new")], etag=b'"a"', part=Part(2, 10), lifetime=99)

    both = combined(old, new)

    assert both is not None
    assert (both.body, both.part, both.terms) == (BODY, None, new.terms)
    assert (b"X-Old", b"1") in both.fields
    assert [value for name, value in both.fields if name == b"X-Both"] == [b"new"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (part(0, 3), part(5, 6)),
        (part(5, 6), part(0, 3)),
        (part(0, 3), part(4, 6, b'"b"')),
        (part(0, 3, b'W/"a"'), part(4, 6, b'W/"a"')),
        (part(0, 3, b""), part(4, 6, b"")),
        (part(0, 3), part(4, 6, b"")),
        (part(0, 3), part(4, 6, part=Part(4, 11))),
        (part(0, 3), part(4, 6, variant=b"other")),
        (part(0, 5), part(3, 5, body=b"xyz")),
        (make_stored(BODY + b"x", etag=b'"a"'), part(4, 6)),
    ],
    ids=["gap", "gap before", "tag", "weak", "none", "one has none", "length", "variant", "contradiction", "whole"],
)
def test_what_does_not_belong_together_is_not_combined(old: StoredResponse, new: StoredResponse) -> None:
    assert combined(old, new) is None


@pytest.mark.parametrize(("date", "other", "expected"), [(-60, -60, True), (-60, -61, False), (0, 0, False)])
def test_dates_join_parts_only_if_they_are_strong(date: float, other: float, expected: bool) -> None:
    old = make_stored(BODY[:5], last_modified=BORN + date, part=Part(0, 10))
    new = make_stored(BODY[5:], last_modified=BORN + other, part=Part(5, 10))

    assert (combined(old, new) is not None) is expected


def test_multipart_frames_each_range() -> None:
    content_type, body = multipart([(0, 1), (7, 9)], make_stored(BODY), [(b"Content-Type", b"text/plain")])

    boundary = content_type.removeprefix(b"multipart/byteranges; boundary=")
    assert body == (
        b"--%b\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n"
        b"--%b\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-9/10\r\n\r\n789\r\n--%b--\r\n"
    ) % (boundary, boundary, boundary)


def test_multipart_of_a_part_counts_from_its_beginning() -> None:
    _, body = multipart([(3, 3), (5, 5)], make_stored(b"345", part=Part(3, 10)), [])

    assert b"Content-Range: bytes 3-3/10\r\n\r\n3\r\n" in body
    assert b"Content-Range: bytes 5-5/10\r\n\r\n5\r\n" in body
    assert b"Content-Type" not in body


def test_no_body_contains_its_boundary() -> None:
    first, _ = multipart([(0, 0), (2, 2)], make_stored(BODY), [])
    hostile = BODY + first.rpartition(b"=")[2]

    second, body = multipart([(0, 0), (2, len(hostile) - 1)], make_stored(hostile), [])

    assert second != first
    assert body.count(second.rpartition(b"=")[2]) == 3
