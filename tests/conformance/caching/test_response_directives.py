"""What the upstream asks of the cache: RFC 9111 section 5.2.2."""

import pytest

from tests.support.cache_site import cache_site
from tests.support.messages import Fields

LONG = "max-age=3600"


@pytest.mark.parametrize(
    "control",
    [
        "no-cache",
        f"no-cache, {LONG}",
        f"{LONG}, No-Cache",
        f"public, s-maxage=3600, no-cache, {LONG}",
        f"no-cache, immutable, {LONG}",
        f"no-cache, stale-while-revalidate=600, {LONG}",
        f'no-cache="x-one", no-cache, {LONG}',
    ],
)
@pytest.mark.requirement("9111-4-4", "9111-5.2.2.4-1", "9111-5.2.2-1")
async def test_no_cache_is_validated_every_time(control: str) -> None:
    async with cache_site() as site:
        site.revalidate({"Cache-Control": control, "ETag": '"a"'}, {"ETag": '"a"'}, b"stored")

        answers = [await site.get() for _ in range(3)]

        assert [(each.status, each.body) for each in answers] == [(200, b"stored")] * 3
        assert [each.header("If-None-Match") for each in site.upstream.requests] == [None, '"a"', '"a"']


@pytest.mark.requirement("9111-4-4", "9111-5.2.2.4-1")
async def test_no_cache_without_a_validator_is_fetched_every_time() -> None:
    async with cache_site() as site:
        site.serve({"Cache-Control": f"no-cache, {LONG}"})

        assert [(await site.get()).body for _ in range(3)] == [b"answer 1", b"answer 2", b"answer 3"]


@pytest.mark.requirement("9111-4-4", "9111-5.2.2.4-1", "9111-4.3.2-1")
async def test_no_cache_answers_no_condition_before_validation() -> None:
    async with cache_site() as site:
        site.serve({"Cache-Control": "no-cache", "ETag": '"a"'}, b"old", times=1)
        site.serve({"Cache-Control": "no-cache", "ETag": '"b"'}, b"new")

        await site.get()
        answer = await site.get(headers={"If-None-Match": '"a"'})

        assert (answer.status, answer.body) == (200, b"new")


@pytest.mark.parametrize(
    "value",
    [
        "max-age=60",
        "public, max-age=60, s-maxage=30, must-revalidate, proxy-revalidate, no-transform, immutable",
        'private="x-y", max-age=60, foo="bar, baz"',
        "Max-Age=60,,EXT",
        "no-store",
        "private",
    ],
)
@pytest.mark.requirement("9111-5.2-1")
async def test_directives_are_passed_on_as_they_came(value: str) -> None:
    async with cache_site() as site:
        site.serve({"Cache-Control": value})

        answers = [await site.get(), await site.get()]

        assert [answer.header("Cache-Control") for answer in answers] == [value] * 2


@pytest.mark.requirement("9111-5.2-1")
async def test_directives_on_several_lines_are_passed_on() -> None:
    async with cache_site() as site:
        lines: Fields = [("Cache-Control", "max-age=60"), ("cache-control", "public"), ("Pragma", "no-cache")]
        site.serve(lines)

        answers = [await site.get(), await site.get()]

        assert [answer.header_list("Cache-Control") for answer in answers] == [["max-age=60", "public"]] * 2
        assert [answer.header("Pragma") for answer in answers] == ["no-cache"] * 2
        assert site.fills == 1


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity"])
@pytest.mark.parametrize("control", ["max-age=60, no-transform", "no-store, no-transform", "max-age=60"])
@pytest.mark.requirement("9111-5.2.2.6-1", "9111-5.2.1.6-1")
async def test_content_is_not_transformed(control: str, encoding: str) -> None:
    async with cache_site() as site:
        body = bytes(range(256)) * 40
        fields = {"Cache-Control": control, "Content-Encoding": encoding, "Content-Type": "text/html"}
        site.serve(fields, body)
        request = {"Accept-Encoding": "gzip, br", "Cache-Control": "no-transform"}

        answers = [await site.get(headers=request), await site.get(headers=request)]

        assert [answer.body == body for answer in answers] == [True] * 2
        assert [answer.header("Content-Encoding") for answer in answers] == [encoding] * 2
        assert [answer.header("Content-Type") for answer in answers] == ["text/html"] * 2


@pytest.mark.requirement("9111-5.2.2.5-2")
async def test_no_store_response_does_not_answer_those_who_wait() -> None:
    async with cache_site() as site:
        site.serve({"Cache-Control": "no-store"})

        bodies = {(await site.get()).body for _ in range(3)}

        assert len(bodies) == 3


@pytest.mark.parametrize("control", ["must-revalidate", "proxy-revalidate", "must-revalidate, proxy-revalidate"])
@pytest.mark.requirement("9111-5.2.2.2-1", "9111-5.2.2.8-1")
async def test_validation_satisfies_must_revalidate(control: str) -> None:
    async with cache_site() as site:
        fields = {"Cache-Control": f"max-age=10, {control}", "ETag": '"a"'}
        site.revalidate(fields, fields, b"stored")

        await site.get()
        site.later(11)
        answer = await site.get()

        assert (answer.status, answer.body, site.last.header("If-None-Match")) == (200, b"stored", '"a"')
        assert await site.is_hit()


@pytest.mark.requirement("9111-5.2.2.2-3", "9111-5.2.2.2-4")
async def test_error_for_must_revalidate_says_that_the_upstream_was_not_reached() -> None:
    async with cache_site() as site:
        await site.stored({"Cache-Control": "max-age=10, must-revalidate", "ETag": '"a"'}, b"stored")
        site.later(11)
        await site.upstream.stop()

        answer = await site.get()

        assert answer.status in (502, 503, 504)
        assert answer.header("Content-Type") == "application/problem+json"
