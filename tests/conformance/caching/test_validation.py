"""Requests of the cache that validate what it has stored, and what it makes of the answers: RFC 9111 section 4.3."""

import pytest

from tests.support.cache_site import CacheSite, cache_site
from tests.support.steps import reset

TEN = {"Cache-Control": "max-age=10"}
OLD = "Wed, 01 Jan 2020 00:00:00 GMT"


async def validating(site: CacheSite, fields: dict[str, str]) -> None:
    """Store a response with these fields, and let it become stale."""
    await site.stored({**TEN, **fields}, b"stored")
    site.later(11)


@pytest.mark.parametrize(
    "tag", ['"a"', 'W/"a"', '""', '"a,b"', '"\\"', '"\'"', '"\xe9"', '"' + "x" * 500 + '"', '"W/"']
)
@pytest.mark.requirement("9111-4.3.1-1")
async def test_entity_tag_is_sent_as_it_came(tag: str) -> None:
    async with cache_site() as site:
        await validating(site, {"ETag": tag})
        site.serve({**TEN, "ETag": tag}, status=304)

        answer = await site.get()

        assert site.last.header("If-None-Match") == tag
        assert site.last.header("If-Modified-Since") is None
        assert (answer.status, answer.body) == (200, b"stored")


@pytest.mark.parametrize("modified", [OLD, "Wednesday, 01-Jan-20 00:00:00 GMT"])
@pytest.mark.requirement("9111-4.3.1-2")
async def test_last_modified_is_sent_as_it_came(modified: str) -> None:
    async with cache_site() as site:
        await validating(site, {"Last-Modified": modified})
        site.serve({**TEN, "Last-Modified": modified}, status=304)

        answer = await site.get()

        assert site.last.header("If-Modified-Since") == modified
        assert site.last.header("If-None-Match") is None
        assert (answer.status, answer.body) == (200, b"stored")


@pytest.mark.requirement("9111-4.3.1-1", "9111-4.3.1-2")
async def test_both_validators_are_sent() -> None:
    async with cache_site() as site:
        await validating(site, {"Last-Modified": OLD, "ETag": '"a"'})
        site.serve({**TEN, "ETag": '"a"'}, status=304)

        await site.get()

        assert (site.last.header("If-None-Match"), site.last.header("If-Modified-Since")) == ('"a"', OLD)


@pytest.mark.requirement("9111-4.3.1-1")
async def test_without_validators_it_is_fetched_anew() -> None:
    async with cache_site() as site:
        await validating(site, {})
        site.serve(TEN, b"new")

        answer = await site.get()

        assert answer.body == b"new"
        assert [site.last.header(name) for name in ("If-None-Match", "If-Modified-Since")] == [None, None]


@pytest.mark.requirement("9111-4.3.4-2", "9111-4-5")
async def test_304_makes_it_fresh_again() -> None:
    async with cache_site() as site:
        await validating(site, {"ETag": '"a"'})
        site.serve({"Cache-Control": "max-age=100", "ETag": '"a"'}, status=304)

        await site.get()
        site.later(99)

        assert await site.is_hit()
        site.later(2)
        assert not await site.is_hit()


@pytest.mark.requirement("9111-4.3.4-2")
async def test_304_without_freshness_lets_it_be_fresh_as_before() -> None:
    async with cache_site() as site:
        await validating(site, {"ETag": '"a"'})
        site.serve({"ETag": '"a"'}, status=304)

        await site.get()
        site.later(9)

        assert await site.is_hit()
        site.later(2)
        assert not await site.is_hit()


@pytest.mark.parametrize("status", [200, 203, 301, 404, 410])
@pytest.mark.requirement("9111-4.3.3-1")
async def test_full_response_is_used_and_replaces_it(status: int) -> None:
    async with cache_site() as site:
        await validating(site, {"ETag": '"a"'})
        site.serve({**TEN, "ETag": '"b"'}, b"new", status=status)

        answers = [await site.get(), await site.get()]

        assert [(each.status, each.body) for each in answers] == [(status, b"new")] * 2
        assert site.fills == 2


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.requirement("9111-4.3.3-1", "9111-5.2.2.5-2")
async def test_full_response_that_may_not_be_stored_is_used_once(status: int) -> None:
    async with cache_site() as site:
        await validating(site, {"ETag": '"a"'})
        site.serve({"Cache-Control": "no-store"}, status=status)

        answers = [await site.get(), await site.get()]

        assert [each.body for each in answers] == [b"answer 2", b"answer 3"]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.requirement("9111-4.3.3-2")
async def test_error_is_forwarded_and_the_next_request_validates_again(status: int) -> None:
    async with cache_site() as site:
        await validating(site, {"ETag": '"a"'})
        site.serve({}, b"error", status=status, times=1)
        site.serve({**TEN, "ETag": '"a"'}, status=304)

        failed = await site.get()
        answer = await site.get()

        assert (failed.status, failed.body) == (status, b"error")
        assert (answer.status, answer.body, site.last.header("If-None-Match")) == (200, b"stored", '"a"')


@pytest.mark.requirement("9111-4.3.2-5", "9111-4.3.1-1")
async def test_client_without_the_tag_of_a_304_gets_a_200() -> None:
    async with cache_site() as site:
        await validating(site, {"ETag": '"a"'})
        site.serve({**TEN, "ETag": '"a"'}, status=304)

        answer = await site.get(headers={"If-None-Match": '"mine", "other"'})

        assert (answer.status, answer.body, answer.header("ETag")) == (200, b"stored", '"a"')
        assert '"a"' in (site.last.header("If-None-Match") or "")


@pytest.mark.parametrize("tags", ['"a"', 'W/"a"', '"x", "a"', "*"])
@pytest.mark.requirement("9111-4.3.2-1", "9110-15.4.5-3")
async def test_client_with_the_tag_of_a_304_gets_a_304(tags: str) -> None:
    async with cache_site() as site:
        await validating(site, {"ETag": '"a"'})
        site.serve({**TEN, "ETag": '"a"'}, status=304)

        answer = await site.get(headers={"If-None-Match": tags})

        assert (answer.status, answer.body, answer.header("ETag")) == (304, b"", '"a"')


@pytest.mark.requirement("9111-4.3.2-1", "9111-4.3.3-1")
async def test_client_whose_tag_is_that_of_the_new_response_gets_a_304_or_all_of_it() -> None:
    async with cache_site() as site:
        await validating(site, {"ETag": '"a"'})
        site.serve({**TEN, "ETag": '"b"'}, b"new")

        answer = await site.get(headers={"If-None-Match": '"b"'})

        assert (answer.status, answer.body) in ((304, b""), (200, b"new"))
        assert answer.header("ETag") == '"b"'


@pytest.mark.parametrize(
    ("since", "status"), [(OLD, 304), ("{+0}", 304), ("Tue, 31 Dec 2019 23:59:59 GMT", 200), ("rubbish", 200)]
)
@pytest.mark.requirement("9111-4.3.2-1", "9110-13.1.3-2")
async def test_condition_of_the_client_is_evaluated_after_validation(since: str, status: int) -> None:
    async with cache_site() as site:
        await validating(site, {"Last-Modified": OLD})
        site.serve({**TEN, "Last-Modified": OLD}, status=304)

        answer = await site.get(headers={"If-Modified-Since": since})

        assert answer.status == status


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("If-None-Match", '"client"'),
        ("If-None-Match", "*"),
        ("If-Modified-Since", "{-10}"),
        ("If-Match", '"client"'),
        ("If-Match", "*"),
        ("If-Unmodified-Since", "{-10}"),
    ],
)
@pytest.mark.requirement("9111-4.3.2-2", "9110-13.2.1-1")
async def test_condition_for_what_is_not_stored_reaches_the_upstream(field: str, value: str) -> None:
    async with cache_site() as site:
        site.serve({"ETag": '"client"'}, status=412 if field in ("If-Match", "If-Unmodified-Since") else 304)

        answer = await site.get(headers={field: value})

        assert answer.status == (412 if field in ("If-Match", "If-Unmodified-Since") else 304)
        assert site.last.header(field) is not None


@pytest.mark.requirement("9110-15.4.5-3", "9111-3-3")
async def test_304_to_the_clients_own_condition_is_forwarded() -> None:
    async with cache_site() as site:
        site.serve({"ETag": '"client"', "X-New": "1", **TEN}, status=304)

        answer = await site.get(headers={"If-None-Match": '"client"'})

        assert (answer.status, answer.header("ETag"), answer.header("X-New")) == (304, '"client"', "1")


@pytest.mark.parametrize("field", ["If-Match", "If-Unmodified-Since"])
@pytest.mark.requirement("9111-4.3.2-2", "9110-13.1.1-1")
async def test_conditions_for_the_upstream_are_not_evaluated_against_what_is_stored(field: str) -> None:
    async with cache_site() as site:
        await site.stored({"Cache-Control": "max-age=100", "ETag": '"a"', "Last-Modified": "{-10}"}, b"stored")
        site.serve({}, b"from upstream", status=412)

        answer = await site.get(headers={field: '"other"' if field == "If-Match" else "{-1000}"})

        assert (answer.status, answer.body) in ((200, b"stored"), (412, b"from upstream"))


@pytest.mark.requirement("9111-4.3.4-1")
async def test_304_with_another_strong_tag_updates_and_answers_nothing() -> None:
    async with cache_site() as site:
        site.serve({**TEN, "ETag": '"a"'}, b"stored", times=1)
        site.revalidate({**TEN, "ETag": '"b"'}, {"Cache-Control": "max-age=1000", "ETag": '"b"', "X-New": "1"}, b"new")

        await site.get()
        site.later(11)
        answer = await site.get()
        again = await site.get()

        assert (answer.status, answer.body, again.body) == (200, b"new", b"new")
        assert again.header("X-New") is None


@pytest.mark.requirement("9111-4.3.4-1")
async def test_304_with_another_weak_tag_updates_nothing() -> None:
    async with cache_site() as site:
        site.serve({**TEN, "ETag": 'W/"a"'}, b"stored", times=1)
        site.revalidate({**TEN, "ETag": 'W/"b"'}, {"Cache-Control": "max-age=1000", "ETag": 'W/"b"'}, b"new")

        await site.get()
        site.later(11)

        assert (await site.get()).body == b"new"


@pytest.mark.requirement("9111-4.3.4-2")
async def test_304_with_the_same_weak_tag_updates() -> None:
    async with cache_site() as site:
        await validating(site, {"ETag": 'W/"a"'})
        site.serve({**TEN, "ETag": 'W/"a"', "X-New": "1"}, status=304)

        answer = await site.get()

        assert (answer.status, answer.body, answer.header("X-New")) == (200, b"stored", "1")


@pytest.mark.requirement("9111-4.3.4-2")
async def test_304_without_a_validator_still_ends_in_a_whole_answer() -> None:
    async with cache_site() as site:
        site.serve({**TEN, "ETag": '"a"'}, b"stored", times=1)
        site.revalidate({**TEN, "ETag": '"a"'}, TEN, b"stored")

        await site.get()
        site.later(11)
        answer = await site.get()

        assert (answer.status, answer.body) == (200, b"stored")


@pytest.mark.requirement("9111-4.3.3-2")
async def test_connection_that_breaks_leaves_it_to_be_validated_again() -> None:
    async with cache_site() as site:
        await validating(site, {"ETag": '"a"'})
        site.upstream.on("*", reset())

        assert (await site.get()).status == 502
        site.upstream.forget()
        site.serve({**TEN, "ETag": '"a"'}, status=304)
        assert (await site.get()).body == b"stored"


@pytest.mark.requirement("9111-4.3.2-4")
async def test_tag_of_a_part_is_not_sent_for_the_whole() -> None:
    async with cache_site() as site:
        part = {**TEN, "ETag": '"a"', "Content-Range": "bytes 0-4/10"}
        site.serve(part, b"01234", status=206, times=1)
        site.serve({**TEN, "ETag": '"a"'}, b"0123456789")

        await site.get(headers={"Range": "bytes=0-4"})
        site.later(11)
        answer = await site.get(headers={"If-None-Match": '"mine"'})

        assert answer.body == b"0123456789"
        assert '"a"' not in (site.last.header("If-None-Match") or "")


@pytest.mark.parametrize("control", ["no-cache", "max-age=0"])
@pytest.mark.requirement("9111-5.2.1.4-1", "9111-4.3.1-1")
async def test_validation_that_the_client_asked_for_carries_the_tag(control: str) -> None:
    async with cache_site() as site:
        await site.stored({"Cache-Control": "max-age=100", "ETag": '"a"'}, b"stored")
        site.serve({"Cache-Control": "max-age=100", "ETag": '"a"'}, status=304)

        answer = await site.get(headers={"Cache-Control": control})

        assert (answer.body, site.last.header("If-None-Match")) == (b"stored", '"a"')
