"""Partial and incomplete responses: RFC 9111 sections 3.3 and 3.4, RFC 9110 sections 14.4 and 15.3.7.3."""

import pytest

from tests.support.cache_site import FRESH, PATH, CacheSite, cache_site
from tests.support.client import RawClient
from tests.support.messages import Response
from tests.support.steps import Step, Turn, chunk, close, reply, reset, send

BODY = b"0123456789"
STRONG = {**FRESH, "ETag": '"a"', "Content-Type": "text/plain"}


def serve_ranges(site: CacheSite, fields: dict[str, str], body: bytes = BODY, *, times: int | None = None) -> None:
    """An upstream that answers ranges of `bytes=A-B` by 206, and everything else by 200."""

    async def step(turn: Turn) -> None:
        wanted = turn.request.header("Range")
        if wanted is None:
            await site.answer(fields, body)(turn)
            return
        first, last = wanted.removeprefix("bytes=").split("-")
        start, end = int(first), min(int(last or 10**9), len(body) - 1)
        extra = {"Content-Range": f"bytes {start}-{end}/{len(body)}"}
        await site.answer({**fields, **extra}, body[start : end + 1], status=206)(turn)

    site.upstream.on("*", step, times=times)


async def part(site: CacheSite, span: str) -> Response:
    return await site.get(headers={"Range": f"bytes={span}"})


@pytest.mark.parametrize("fields", [STRONG, {**STRONG, "ETag": 'W/"a"'}, FRESH])
@pytest.mark.requirement("9111-3.3-2", "9111-3.3-3")
async def test_part_answers_no_request_for_the_whole(fields: dict[str, str]) -> None:
    async with cache_site() as site:
        serve_ranges(site, fields)

        first = await part(site, "0-4")
        whole = await site.get()

        assert (first.status, first.body, first.header("Content-Range")) == (206, b"01234", "bytes 0-4/10")
        assert (whole.status, whole.body, whole.header("Content-Range")) == (200, BODY, None)


@pytest.mark.parametrize("span", ["0-4", "1-3", "4-4", "2-"])
@pytest.mark.requirement("9111-3.3-2", "9111-3.3-3", "9110-15.3.7.1-1")
async def test_range_within_a_part_is_answered_rightly(span: str) -> None:
    async with cache_site() as site:
        serve_ranges(site, STRONG)

        await part(site, "0-4")
        answer = await part(site, span)

        first, _, last = span.partition("-")
        end = int(last or 9)
        assert (answer.status, answer.body) == (206, BODY[int(first) : end + 1])
        assert answer.header("Content-Range") == f"bytes {first}-{end}/10"


@pytest.mark.parametrize("span", ["0-5", "5-9", "3-7", "9-9"])
@pytest.mark.requirement("9111-3.3-2")
async def test_range_that_is_not_within_a_part_is_forwarded(span: str) -> None:
    async with cache_site() as site:
        serve_ranges(site, STRONG)

        await part(site, "0-4")
        answer = await part(site, span)

        first, last = map(int, span.split("-"))
        assert (answer.status, answer.body, site.fills) == (206, BODY[first : last + 1], 2)


@pytest.mark.parametrize("spans", [("0-4", "5-9"), ("5-9", "0-4"), ("0-6", "3-9"), ("2-5", "6-9", "0-1")])
@pytest.mark.requirement("9111-3.4-2", "9110-15.3.7.3-2", "9111-3.3-2")
async def test_parts_that_make_up_the_whole_are_a_whole_response(spans: tuple[str, ...]) -> None:
    async with cache_site() as site:
        serve_ranges(site, STRONG)

        for span in spans:
            await part(site, span)
        whole = await site.get()

        assert (whole.status, whole.body, whole.header("Content-Length")) == (200, BODY, "10")
        assert whole.header("Content-Range") is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"ETag": '"a"'}, {"ETag": '"b"'}),
        ({"ETag": 'W/"a"'}, {"ETag": 'W/"a"'}),
        ({"ETag": '"a"'}, {}),
        ({}, {"ETag": '"a"'}),
        ({}, {}),
        ({"Last-Modified": "{+0}"}, {"Last-Modified": "{+0}"}),
    ],
)
@pytest.mark.requirement("9111-3.4-2", "9110-15.3.7.3-1")
async def test_parts_without_the_same_strong_validator_are_not_combined(
    first: dict[str, str], second: dict[str, str]
) -> None:
    async with cache_site() as site:
        serve_ranges(site, {**FRESH, **first}, BODY, times=1)
        serve_ranges(site, {**FRESH, **second}, b"abcdefghij")

        await part(site, "0-4")
        await part(site, "5-9")

        assert (await site.get()).body == b"abcdefghij"
        assert (await part(site, "3-6")).body == b"defg"


@pytest.mark.requirement("9111-3.4-1", "9111-3.2-1")
async def test_combined_response_has_the_fields_of_the_newer_part() -> None:
    async with cache_site() as site:
        serve_ranges(site, {**STRONG, "X-Part": "1"}, times=1)
        serve_ranges(site, {**STRONG, "X-Part": "2"})

        await part(site, "0-4")
        await part(site, "5-9")
        whole = await site.get()

        assert (whole.body, whole.header("X-Part")) == (BODY, "2")


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 5-2/10",
        "bytes 0-10/10",
        "bytes 0-4/3",
        "bytes 0-3/10",
        "bytes 0-9/10",
        "bytes */10",
        "bytes 0-4",
        "bytes=0-4/10",
        "bytes 0-4/x",
        "garbage",
        "",
    ],
)
@pytest.mark.requirement("9110-14.4-3", "9111-3.3-1")
async def test_part_with_an_invalid_content_range_is_not_reused(content_range: str) -> None:
    async with cache_site() as site:
        site.serve({**STRONG, "Content-Range": content_range}, b"01234", status=206, times=1)
        serve_ranges(site, STRONG)

        await part(site, "0-4")
        assert (await part(site, "5-9")).body == b"56789"
        assert site.fills == 2
        assert (await site.get()).body == BODY


@pytest.mark.parametrize("unit", ["items", "lines", "x-bytes"])
@pytest.mark.requirement("9110-14.4-1", "9110-14.4-2", "9111-3.3-1")
async def test_part_in_another_unit_is_passed_on_and_not_reused(unit: str) -> None:
    async with cache_site() as site:
        site.serve({**STRONG, "Content-Range": f"{unit} 0-4/10"}, b"01234", status=206)
        request = {"Range": f"{unit}=0-4"}

        answers = [await site.get(headers=request), await site.get(headers=request)]

        assert [(each.status, each.header("Content-Range")) for each in answers] == [(206, f"{unit} 0-4/10")] * 2
        assert site.fills == 2


@pytest.mark.requirement("9111-3.3-1", "9110-14.4-3")
async def test_several_parts_in_one_response_are_passed_on_and_not_taken_for_one() -> None:
    async with cache_site() as site:
        body = (
            b"--b\r\nContent-Range: bytes 0-0/10\r\n\r\n0\r\n--b\r\nContent-Range: bytes 9-9/10\r\n\r\n9\r\n--b--\r\n"
        )
        fields = {**FRESH, "ETag": '"a"', "Content-Type": "multipart/byteranges; boundary=b"}
        site.serve(fields, body, status=206, times=1)
        serve_ranges(site, STRONG)

        first = await site.get(headers={"Range": "bytes=0-0,9-9"})

        assert (first.status, first.body) == (206, body)
        assert (await site.get()).body == BODY
        assert (await part(site, "0-0")).body == b"0"


@pytest.mark.requirement("9110-14.2-4")
async def test_416_of_the_upstream_is_not_reused_for_the_whole() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Content-Range": "bytes */10"}, b"", status=416, times=1)
        serve_ranges(site, STRONG)

        refused = await part(site, "99-")

        assert (refused.status, refused.header("Content-Range")) == (416, "bytes */10")
        assert (await site.get()).body == BODY


LENGTH = {"Content-Length": "10"}
CHUNKED = {"Transfer-Encoding": "chunked"}


@pytest.mark.parametrize(
    ("framing", "steps"),
    [
        (LENGTH, [send(b"01234"), close()]),
        (LENGTH, [send(b"01234"), reset()]),
        (LENGTH, [close()]),
        (CHUNKED, [chunk(b"01234"), close()]),
        (CHUNKED, [chunk(b"01234"), reset()]),
        (CHUNKED, [send(b"a\r\n01234"), close()]),
        ({}, [send(b"01234"), reset()]),
    ],
    ids=["length-fin", "length-rst", "length-empty", "chunked-fin", "chunked-rst", "chunk-cut", "neither-rst"],
)
@pytest.mark.requirement("9111-3.3-2")
async def test_incomplete_response_answers_nothing(framing: dict[str, str], steps: list[Step]) -> None:
    async with cache_site() as site:
        site.upstream.on("*", site.frame({**STRONG, **framing}, *steps), times=1)
        site.serve(STRONG, BODY)

        async with RawClient(site.app.port) as client:
            await client.send_request("GET", PATH)
            cut = await client.read_response(check=False)
        answers = [await site.get(), await site.get()]

        assert (cut.status, cut.complete) != (200, True)
        assert [(each.status, each.body, each.complete) for each in answers] == [(200, BODY, True)] * 2


@pytest.mark.requirement("9111-3.3-2")
async def test_body_that_ends_with_the_connection_is_whole() -> None:
    async with cache_site() as site:
        site.upstream.on("*", site.frame(STRONG, send(BODY), close()), times=1)
        site.serve({}, b"another")

        first = await site.get()
        second = await site.get()

        assert (first.body, first.complete) == (BODY, True)
        assert second.body in (BODY, b"another")


@pytest.mark.requirement("9111-3.3-2")
async def test_surplus_bytes_are_no_part_of_what_is_stored() -> None:
    async with cache_site() as site:
        site.upstream.on("*", site.frame({**STRONG, "Content-Length": "5"}, send(BODY)), times=1)
        site.upstream.on("*", reply(200, FRESH, b"another"))

        first = await site.get()
        second = await site.get()

        assert first.body == b"01234"
        assert second.body in (b"01234", b"another")
