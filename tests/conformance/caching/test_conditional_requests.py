"""Conditions that a fresh stored response answers: RFC 9111 section 4.3.2, RFC 9110 sections 13 and 15.4.5."""

import pytest

from tests.support.cache_site import FRESH, cache_site, cache_status
from tests.support.messages import Fields, HeadersLike

MODIFIED = "Wed, 01 Jan 2020 00:00:00 GMT"
ALL = {
    "Cache-Control": "max-age=3600",
    "Content-Language": "en",
    "Content-Location": "/r.en",
    "Content-Type": "text/plain",
    "ETag": '"a"',
    "Expires": "{+60}",
    "Last-Modified": MODIFIED,
    "Vary": "X-One",
    "X-Own": "1",
}


async def answer_to(stored: HeadersLike, request: HeadersLike, *, status: int = 200, method: str = "GET") -> int:
    """The status of the answer to this request, when that response is stored; the upstream is not asked."""
    async with cache_site() as site:
        site.serve([*dict(FRESH).items(), *dict(stored).items()], b"body", status=status)
        await site.get()

        answer = await site.ask(method, headers=request)

        assert site.fills == 1
        assert answer.body == (b"" if answer.status == 304 or method == "HEAD" else b"body")
        return answer.status


@pytest.mark.parametrize(
    ("tag", "condition"),
    [
        ('"a"', '"a"'),
        ('"a"', 'W/"a"'),
        ('W/"a"', '"a"'),
        ('W/"a"', 'W/"a"'),
        ('"a"', '"x", "a"'),
        ('"a"', '"x","a","y"'),
        ('"a"', ' , "x" ,, "a" ,'),
        ('"a"', 'W/"x", W/"a"'),
        ('"a"', "*"),
        ('"a,b"', '"a,b"'),
        ('"a,b"', '"x", "a,b"'),
        ('""', '""'),
        ('"\xe9"', '"\xe9"'),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.requirement("9111-4.3.2-1", "9110-13.1.2-1")
async def test_matching_tag_is_answered_by_304(tag: str, condition: str, method: str) -> None:
    assert await answer_to({"ETag": tag}, {"If-None-Match": condition}, method=method) == 304


@pytest.mark.parametrize(
    ("tag", "condition"),
    [
        ('"a"', '"b"'),
        ('"a"', '"A"'),
        ('"a"', '"a,b"'),
        ('"a,b"', '"a"'),
        ('"a"', '"x", "y"'),
        ('"a"', "a"),
        ('"a"', '""'),
        ('"a"', '"a'),
        ('"a"', '"*"'),
        ('"a"', '"W/a"'),
        ('"W/a"', 'W/"a"'),
        ('"a"', ""),
    ],
)
@pytest.mark.requirement("9111-4.3.2-1", "9110-13.1.2-1")
async def test_other_tag_is_answered_by_200(tag: str, condition: str) -> None:
    assert await answer_to({"ETag": tag}, {"If-None-Match": condition}) == 200


@pytest.mark.requirement("9111-4.3.2-1")
async def test_tags_may_be_on_several_lines() -> None:
    assert await answer_to({"ETag": '"a"'}, [("If-None-Match", '"x"'), ("If-None-Match", '"a"')]) == 304


@pytest.mark.parametrize(("condition", "status"), [('"a"', 200), ("*", 304)])
@pytest.mark.requirement("9111-4.3.2-1")
async def test_response_without_a_tag(condition: str, status: int) -> None:
    assert await answer_to({}, {"If-None-Match": condition}) == status


@pytest.mark.parametrize(
    ("modified", "since", "status"),
    [
        (MODIFIED, MODIFIED, 304),
        (MODIFIED, "Wed, 01 Jan 2020 00:00:01 GMT", 304),
        (MODIFIED, "Tue, 31 Dec 2019 23:59:59 GMT", 200),
        (MODIFIED, "{+1000}", 304),
        (MODIFIED, "Wednesday, 01-Jan-20 00:00:00 GMT", 304),
        (MODIFIED, "Wed Jan  1 00:00:00 2020", 304),
        ("Wed Jan  1 00:00:00 2020", MODIFIED, 304),
        (MODIFIED, "0", 200),
        (MODIFIED, "", 200),
        (MODIFIED, "yesterday", 200),
        (MODIFIED, f"{MODIFIED}, {MODIFIED}", 200),
        (MODIFIED, "Fri, 01 Jan 2021 00:00:00 EST", 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.requirement("9111-4.3.2-1", "9110-13.1.3-2", "9110-13.1.3-3", "9110-5.6.7-1")
async def test_date_is_compared_with_last_modified(modified: str, since: str, status: int, method: str) -> None:
    assert await answer_to({"Last-Modified": modified}, {"If-Modified-Since": since}, method=method) == status


@pytest.mark.requirement("9110-13.1.3-2")
async def test_two_dates_are_ignored() -> None:
    request = [("If-Modified-Since", MODIFIED), ("If-Modified-Since", MODIFIED)]

    assert await answer_to({"Last-Modified": MODIFIED}, request) == 200


@pytest.mark.parametrize(("since", "status"), [("{+0}", 304), ("{+10}", 304), ("{-1}", 200)])
@pytest.mark.requirement("9111-4.3.2-3")
async def test_date_is_compared_with_date_where_there_is_no_last_modified(since: str, status: int) -> None:
    assert await answer_to({"ETag": '"a"'}, {"If-Modified-Since": since}) == status


@pytest.mark.parametrize(("since", "status"), [("{+3600}", 304), ("{+3599}", 200)])
@pytest.mark.requirement("9111-4.3.2-3", "9110-13.1.3-3")
async def test_date_of_the_upstream_counts(since: str, status: int) -> None:
    assert await answer_to({"Date": "{+3600}"}, {"If-Modified-Since": since}) == status


@pytest.mark.parametrize(
    ("condition", "since", "status"),
    [
        ('"x"', MODIFIED, 200),
        ('"a"', "Tue, 31 Dec 2019 23:59:59 GMT", 304),
        ('"a"', MODIFIED, 304),
        ("", MODIFIED, 200),
    ],
)
@pytest.mark.requirement("9110-13.1.3-1", "9110-13.2.2-1")
async def test_tag_outweighs_date(condition: str, since: str, status: int) -> None:
    request = {"If-Modified-Since": since, "If-None-Match": condition}

    assert await answer_to({"ETag": '"a"', "Last-Modified": MODIFIED}, request) == status


@pytest.mark.parametrize("status", [301, 404, 410])
@pytest.mark.parametrize(
    "request_fields", [{"If-None-Match": '"a"'}, {"If-None-Match": "*"}, {"If-Modified-Since": "{+0}"}]
)
@pytest.mark.requirement("9110-13.2.1-2")
async def test_conditions_on_other_statuses_are_ignored(status: int, request_fields: dict[str, str]) -> None:
    assert await answer_to({"ETag": '"a"', "Last-Modified": MODIFIED}, request_fields, status=status) == status


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.requirement("9110-15.4.5-1", "9110-15.4.5-2", "9110-8.6-2", "9111-4-6")
async def test_fields_of_a_304(method: str) -> None:
    async with cache_site() as site:
        site.serve(ALL, b"body")
        await site.get(headers={"X-One": "1"})
        site.later(5)

        whole = await site.get(headers={"X-One": "1"})
        answer = await site.ask(method, headers={"X-One": "1", "If-None-Match": '"a"'})

        assert (answer.status, site.fills) == (304, 1)
        for name in ("Cache-Control", "Content-Location", "Date", "ETag", "Expires", "Vary"):
            assert answer.header(name) == whole.header(name) is not None
        for name in ("Content-Type", "Content-Language", "Content-Encoding", "Last-Modified", "Transfer-Encoding"):
            assert answer.header(name) is None
        assert answer.header("Content-Length") in (None, "4")
        assert answer.header("Age") == "5"
        assert "hit" in cache_status(answer)


@pytest.mark.requirement("9110-15.4.5-2")
async def test_304_without_a_tag_has_last_modified() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Last-Modified": MODIFIED}, b"body")
        await site.get()

        answer = await site.get(headers={"If-Modified-Since": MODIFIED})

        assert (answer.status, answer.header("Last-Modified")) == (304, MODIFIED)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.requirement("9111-4.3.2-2", "9110-13.2.1-1")
async def test_conditions_of_other_methods_are_the_upstreams_business(method: str) -> None:
    async with cache_site() as site:
        await site.stored({**FRESH, "ETag": '"a"'})
        site.serve({}, b"precondition", status=412)

        answer = await site.ask(method, headers={"If-None-Match": '"a"', "If-Modified-Since": MODIFIED})

        assert (answer.status, answer.body) == (412, b"precondition")
        assert (site.last.header("If-None-Match"), site.last.header("If-Modified-Since")) == ('"a"', MODIFIED)


@pytest.mark.requirement("9110-13.1.1-1", "9111-4.3.2-2")
async def test_if_none_match_counts_beside_conditions_for_the_upstream() -> None:
    async with cache_site() as site:
        await site.stored({**FRESH, "ETag": '"a"'}, b"stored")
        site.serve({"ETag": '"a"'}, status=304)

        assert (await site.get(headers={"If-None-Match": '"a"', "If-Match": '"a"'})).status == 304


@pytest.mark.requirement("9111-4.3.2-1")
async def test_300_tags_are_looked_through() -> None:
    tags: Fields = [("If-None-Match", ", ".join(f'"{number}"' for number in range(300)) + ', "a"')]

    assert await answer_to({"ETag": '"a"'}, tags) == 304
