"""Ranges of a stored response: RFC 9110 sections 13.1.5, 14 and 15.3.7."""

import re

import pytest

from tests.support.cache_site import FRESH, CacheSite, cache_site, cache_status
from tests.support.messages import Fields, Response

BODY = b"0123456789"
MODIFIED = "Wed, 01 Jan 2020 00:00:00 GMT"
ALL = {
    **FRESH,
    "Content-Language": "en",
    "Content-Location": "/r.en",
    "Content-Type": "text/plain",
    "ETag": '"a"',
    "Expires": "{+60}",
    "Last-Modified": MODIFIED,
    "Vary": "X-One",
}


async def ranged(request: Fields, stored: dict[str, str] | None = None, *, status: int = 200) -> Response:
    """The answer to a request with these fields from a stored response; the upstream is not asked."""
    async with cache_site() as site:
        site.serve(ALL if stored is None else {**FRESH, **stored}, BODY, status=status)
        await site.get()

        answer = await site.get(headers=request)

        assert site.fills == 1
        return answer


def parts_of(answer: Response) -> list[tuple[dict[bytes, bytes], bytes]]:
    """Fields, by name in lower case, and bytes of each part of a multipart/byteranges body."""
    found = re.fullmatch(r'multipart/byteranges; *boundary="?([0-9A-Za-z\'()+_,./:=?-]{1,70})"?', type_of(answer))
    assert found, type_of(answer)
    delimiter = b"--" + found[1].encode()
    before, *parts, end = answer.body.split(delimiter)
    assert before in (b"", b"\r\n")
    assert end.strip(b"\r\n") == b"--"
    return [_part(each.removeprefix(b"\r\n").removesuffix(b"\r\n")) for each in parts]


def _part(part: bytes) -> tuple[dict[bytes, bytes], bytes]:
    head, _, body = part.partition(b"\r\n\r\n")
    pairs = (line.partition(b":") for line in head.split(b"\r\n"))
    return {name.lower(): value.strip() for name, _, value in pairs}, body


def type_of(answer: Response) -> str:
    return answer.header("Content-Type") or ""


@pytest.mark.parametrize(
    ("field", "first", "last"),
    [
        ("bytes=0-4", 0, 4),
        ("bytes=0-0", 0, 0),
        ("bytes=9-9", 9, 9),
        ("bytes=5-", 5, 9),
        ("bytes=0-", 0, 9),
        ("bytes=-3", 7, 9),
        ("bytes=-10", 0, 9),
        ("bytes=-99", 0, 9),
        ("bytes=0-9", 0, 9),
        ("bytes=5-99", 5, 9),
        ("bytes=2-99999999999999999999999999", 2, 9),
        ("bytes=-99999999999999999999999999", 0, 9),
        ("BYTES=0-4", 0, 4),
        ("Bytes=0-4", 0, 4),
        ("bytes=000-004", 0, 4),
        ("bytes=, 0-4 ,", 0, 4),
    ],
)
@pytest.mark.requirement("9110-14.2-3", "9110-15.3.7.1-1", "9110-15.3.7.2-5", "9111-3.3-3")
async def test_single_range(field: str, first: int, last: int) -> None:
    answer = await ranged([("Range", field)])

    assert (answer.status, answer.body) == (206, BODY[first : last + 1])
    assert answer.header("Content-Range") == f"bytes {first}-{last}/10"
    assert answer.header("Content-Length") == str(last - first + 1)
    assert type_of(answer) == "text/plain"


@pytest.mark.parametrize("field", ["bytes=10-", "bytes=10-20", "bytes=99-100", "bytes=-0", "bytes=10-11, 20-30"])
@pytest.mark.requirement("9110-14.2-4", "9110-15.5.17-1")
async def test_ranges_beyond_the_end(field: str) -> None:
    answer = await ranged([("Range", field)])

    assert (answer.status, answer.header("Content-Range")) == (416, "bytes */10")
    assert BODY not in answer.body


@pytest.mark.parametrize(
    "field",
    [
        "items=0-4",
        "none",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=a-b",
        "bytes=4-2",
        "bytes=0-4-6",
        "bytes=--4",
        "bytes=+1-2",
        "bytes=1.0-2",
        "bytes=0-4, x",
        "bytes 0-4",
        "0-4",
        "bytes=0 - 4",
        "bytes=\u0660-\u0664",
        "bytes=0-4;1-2",
        "",
    ],
)
@pytest.mark.requirement("9110-14.2-5")
async def test_ranges_that_mean_nothing_are_ignored(field: str) -> None:
    answer = await ranged([("Range", field)])

    assert (answer.status, answer.body, answer.header("Content-Range")) == (200, BODY, None)


@pytest.mark.requirement("9110-14.2-5")
async def test_two_lines_of_range_get_what_one_of_them_or_neither_asks_for() -> None:
    answer = await ranged([("Range", "bytes=0-1"), ("Range", "bytes=4-5")])

    assert (answer.status, answer.body) in ((200, BODY), (206, BODY[:2]))


@pytest.mark.parametrize(
    ("field", "spans"),
    [
        ("bytes=0-1,4-5", [(0, 1), (4, 5)]),
        ("bytes=0-1, 4-5, 8-9", [(0, 1), (4, 5), (8, 9)]),
        ("bytes=0-0,-1", [(0, 0), (9, 9)]),
        ("bytes=8-9,0-1", [(8, 9), (0, 1)]),
        ("bytes=0-1,4-5,99-", [(0, 1), (4, 5)]),
    ],
)
@pytest.mark.requirement(
    "9110-15.3.7.2-1", "9110-15.3.7.2-2", "9110-15.3.7.2-3", "9110-15.3.7.2-4", "9110-15.3.7.2-6", "9110-14.2-3"
)
async def test_several_ranges(field: str, spans: list[tuple[int, int]]) -> None:
    answer = await ranged([("Range", field)])

    assert (answer.status, answer.header("Content-Range")) == (206, None)
    assert answer.header("Content-Length") == str(len(answer.body))
    parts = parts_of(answer)
    assert [fields[b"content-range"] for fields, _ in parts] == [b"bytes %d-%d/10" % span for span in spans]
    assert [fields[b"content-type"] for fields, _ in parts] == [b"text/plain"] * len(spans)
    assert [body for _, body in parts] == [BODY[first : last + 1] for first, last in spans]


@pytest.mark.parametrize("field", ["bytes=0-4,3-6", "bytes=0-4,5-6", "bytes=0-1,99-100", "bytes=2-3,2-3"])
@pytest.mark.requirement("9110-14.2-3", "9110-15.3.7.2-2")
async def test_ranges_that_come_to_one_may_be_sent_as_one(field: str) -> None:
    answer = await ranged([("Range", field)])

    if answer.header("Content-Range") is None and answer.status == 206:
        spans = [fields[b"content-range"] for fields, _ in parts_of(answer)]
        assert spans
        assert len(set(spans)) == len(spans)
    else:
        assert answer.status == 206
        first, last = map(int, re.findall(r"\d+", answer.header("Content-Range") or "")[:2])
        assert answer.body == BODY[first : last + 1]


@pytest.mark.parametrize(
    "field", ["bytes=" + ",".join(["0-"] * 1000), "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 2000, 2))]
)
@pytest.mark.requirement("9110-14.2-3")
async def test_very_many_ranges_are_not_amplified(field: str) -> None:
    answer = await ranged([("Range", field)])

    assert len(answer.raw) < 2000


@pytest.mark.requirement("9110-15.3.7-1", "9110-15.3.7-3", "9111-4-6")
async def test_fields_of_a_206() -> None:
    async with cache_site() as site:
        site.serve(ALL, BODY)
        await site.get(headers={"X-One": "1"})
        site.later(5)

        whole = await site.get(headers={"X-One": "1"})
        answer = await site.get(headers={"X-One": "1", "Range": "bytes=0-4"})

        for name in (*ALL, "Date", "Age"):
            assert answer.header(name) == whole.header(name) is not None
        assert "hit" in cache_status(answer)


@pytest.mark.requirement("9110-15.3.7-2", "9110-15.3.7-1")
async def test_fields_of_a_206_after_if_range() -> None:
    answer = await ranged([("Range", "bytes=0-4"), ("If-Range", '"a"')], {**ALL, "Vary": "X-Absent"})

    assert (answer.status, answer.body) == (206, b"01234")
    for name in ("Cache-Control", "Content-Location", "Date", "ETag", "Expires", "Vary", "Age"):
        assert answer.header(name) is not None
    for name in ("Content-Language", "Last-Modified"):
        assert answer.header(name) is None


@pytest.mark.parametrize(
    ("stored", "condition", "status"),
    [
        ({"ETag": '"a"'}, '"a"', 206),
        ({"ETag": '"a"', "Last-Modified": MODIFIED}, '"a"', 206),
        ({"ETag": '"a"', "Last-Modified": MODIFIED}, MODIFIED, 206),
        ({"Last-Modified": MODIFIED}, MODIFIED, 206),
        ({"Last-Modified": MODIFIED}, "Wednesday, 01-Jan-20 00:00:00 GMT", 206),
        ({"ETag": '"a"'}, '"b"', 200),
        ({"ETag": '"a"'}, '"A"', 200),
        ({"ETag": 'W/"a"'}, 'W/"a"', 200),
        ({"ETag": 'W/"a"'}, '"a"', 200),
        ({"ETag": '"a"'}, 'W/"a"', 200),
        ({"ETag": '"a"'}, '"a", "b"', 200),
        ({"ETag": '"a"'}, "*", 200),
        ({"ETag": '"a"'}, "a", 200),
        ({"ETag": '"a"'}, "", 200),
        ({}, '"a"', 200),
        ({"Last-Modified": MODIFIED}, "Wed, 01 Jan 2020 00:00:01 GMT", 200),
        ({"Last-Modified": MODIFIED}, "Tue, 31 Dec 2019 23:59:59 GMT", 200),
        ({"Last-Modified": MODIFIED}, "{+0}", 200),
        ({"Last-Modified": "{+0}"}, "{+0}", 200),
        ({"Last-Modified": MODIFIED}, "rubbish", 200),
        ({"ETag": '"a"'}, "{+0}", 200),
    ],
)
@pytest.mark.requirement("9110-13.1.5-2", "9110-13.1.5-3", "9110-13.1.5-4")
async def test_if_range(stored: dict[str, str], condition: str, status: int) -> None:
    answer = await ranged([("Range", "bytes=0-4"), ("If-Range", condition)], stored)

    assert (answer.status, answer.body) == (status, BODY if status == 200 else b"01234")


@pytest.mark.parametrize("condition", ['"a"', '"b"', MODIFIED])
@pytest.mark.requirement("9110-13.1.5-1")
async def test_if_range_without_range_is_ignored(condition: str) -> None:
    answer = await ranged([("If-Range", condition)])

    assert (answer.status, answer.body) == (200, BODY)


@pytest.mark.requirement("9110-14.2-4", "9110-13.1.5-3")
async def test_false_if_range_keeps_a_range_beyond_the_end_from_being_refused() -> None:
    assert (await ranged([("Range", "bytes=99-"), ("If-Range", '"b"')])).status == 200


@pytest.mark.parametrize(
    ("request_fields", "status"),
    [
        ([("If-None-Match", '"a"')], 304),
        ([("If-None-Match", '"b"')], 206),
        ([("If-Modified-Since", MODIFIED)], 304),
        ([("If-None-Match", '"a"'), ("If-Range", '"b"')], 304),
        ([("If-None-Match", '"b"'), ("If-Range", '"b"')], 200),
    ],
)
@pytest.mark.requirement("9110-14.2-2", "9110-13.2.2-1")
async def test_conditions_come_before_range(request_fields: Fields, status: int) -> None:
    assert (await ranged([("Range", "bytes=0-4"), *request_fields])).status == status


@pytest.mark.parametrize("status", [301, 404, 410])
@pytest.mark.requirement("9110-14.2-2")
async def test_range_of_another_status_is_ignored(status: int) -> None:
    answer = await ranged([("Range", "bytes=0-4")], {}, status=status)

    assert (answer.status, answer.body) == (status, BODY)


@pytest.mark.requirement("9110-14.2-1")
async def test_range_is_ignored_with_head() -> None:
    async with cache_site() as site:
        await site.stored(ALL, BODY)

        answer = await site.ask("HEAD", headers={"Range": "bytes=0-4"})

        assert (answer.status, answer.header("Content-Length"), answer.header("Content-Range")) == (200, "10", None)


@pytest.mark.requirement("9110-14.2-1")
async def test_range_with_post_is_the_upstreams_business() -> None:
    async with cache_site() as site:
        await site.stored(ALL, BODY)
        site.serve({}, b"posted")

        answer = await site.ask("POST", headers={"Range": "bytes=0-4"}, body=b"x")

        assert (answer.status, answer.body, site.last.header("Range")) == (200, b"posted", "bytes=0-4")


@pytest.mark.requirement("9110-14.2-3", "9111-3.3-3")
async def test_range_of_what_is_not_stored_gets_the_range_or_all() -> None:
    async with cache_site() as site:
        site.serve(ALL, BODY)

        answer = await site.get(headers={"Range": "bytes=2-4"})

        assert (answer.status, answer.body) in ((200, BODY), (206, b"234"))


async def _stale(site: CacheSite) -> None:
    await site.stored({"Cache-Control": "max-age=10", "ETag": '"a"'}, BODY)
    site.later(11)


@pytest.mark.requirement("9110-14.2-3", "9111-4.3.4-2")
async def test_range_after_validation() -> None:
    async with cache_site() as site:
        await _stale(site)
        site.serve({"Cache-Control": "max-age=10", "ETag": '"a"'}, status=304)

        answer = await site.get(headers={"Range": "bytes=2-4"})

        assert (answer.status, answer.body, answer.header("Content-Range")) == (206, b"234", "bytes 2-4/10")


@pytest.mark.requirement("9111-4.3.3-1", "9111-3.3-3")
async def test_range_of_what_has_changed_is_not_that_of_the_old() -> None:
    async with cache_site() as site:
        await _stale(site)
        site.serve({"Cache-Control": "max-age=10", "ETag": '"b"'}, b"abcdefghij")

        answer = await site.get(headers={"Range": "bytes=2-4"})

        assert (answer.status, answer.body) in ((200, b"abcdefghij"), (206, b"cde"))
        assert (await site.get()).body == b"abcdefghij"
