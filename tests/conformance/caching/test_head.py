"""What a response to HEAD says of a stored response to GET: RFC 9111 section 4.3.5."""

import pytest

from tests.support.cache_site import cache_site

LONG = {"Cache-Control": "max-age=1000"}
MODIFIED = "Wed, 01 Jan 2020 00:00:00 GMT"
VALIDATORS = {"ETag": '"a"', "Last-Modified": MODIFIED}
AGAIN = {"Cache-Control": "no-cache"}


@pytest.mark.parametrize(
    ("stored", "head"),
    [
        ({"ETag": '"a"'}, {"ETag": '"a"'}),
        (VALIDATORS, VALIDATORS),
        ({"Last-Modified": MODIFIED}, {"Last-Modified": MODIFIED}),
        (VALIDATORS, {"ETag": '"a"'}),
    ],
)
@pytest.mark.requirement("9111-4.3.5-1", "9111-4.3.5-2", "9111-4.3.5-4", "9111-3.2-1")
async def test_head_that_agrees_updates(stored: dict[str, str], head: dict[str, str]) -> None:
    async with cache_site() as site:
        site.serve({"Cache-Control": "max-age=10", "X-Old": "1", **stored}, b"0123456789", times=1)
        site.serve({**LONG, "X-New": "1", **head}, b"0123456789")

        await site.get()
        site.later(11)
        answer = await site.ask("HEAD")
        hit = await site.get()

        assert (answer.status, answer.header("X-New")) == (200, "1")
        assert (site.fills, hit.body, hit.header("X-New")) == (2, b"0123456789", "1")
        assert hit.header("Cache-Control") == "max-age=1000"


@pytest.mark.requirement("9111-4.3.5-1", "9111-4.3.5-2", "9111-4.3.2-1")
async def test_304_to_a_head_updates_too() -> None:
    async with cache_site() as site:
        site.serve({"Cache-Control": "max-age=10", "ETag": '"a"'}, b"0123456789", times=1)
        site.revalidate({**LONG, "ETag": '"a"'}, {**LONG, "ETag": '"a"', "X-New": "1"}, b"0123456789")

        await site.get()
        site.later(11)
        answer = await site.ask("HEAD")

        assert (answer.status, answer.body, answer.header("Content-Length")) == (200, b"", "10")
        assert await site.is_hit()


@pytest.mark.parametrize(
    "head",
    [
        {"ETag": '"b"'},
        {"ETag": 'W/"a"'},
        {"ETag": '"a"', "Last-Modified": "Thu, 02 Jan 2020 00:00:00 GMT"},
        {"ETag": '"b"', "Last-Modified": MODIFIED},
    ],
)
@pytest.mark.requirement("9111-4.3.5-1", "9111-4.3.5-3")
async def test_head_with_other_validators_makes_it_stale(head: dict[str, str]) -> None:
    async with cache_site() as site:
        site.serve({**LONG, **VALIDATORS}, b"0123456789", times=1)
        site.serve({**LONG, **head}, b"9876543210")

        await site.get()
        await site.ask("HEAD", headers=AGAIN)

        assert (await site.get()).body == b"9876543210"


@pytest.mark.requirement("9111-4.3.5-1", "9111-4.3.5-3")
async def test_head_with_another_length_makes_it_stale() -> None:
    async with cache_site() as site:
        site.serve({**LONG, **VALIDATORS}, b"0123456789", times=1)
        site.serve({**LONG, **VALIDATORS}, b"longer than ten bytes")

        await site.get()
        await site.ask("HEAD", headers=AGAIN)

        assert (await site.get()).body == b"longer than ten bytes"


@pytest.mark.requirement("9111-4.3.5-1")
async def test_head_concerns_only_what_it_could_have_selected() -> None:
    async with cache_site() as site:
        site.serve({**LONG, "Vary": "X-One", "ETag": '"a"'}, b"for a", times=1)
        site.serve({**LONG, "Vary": "X-One", "ETag": '"b"'}, b"for b", times=1)
        site.serve({**LONG, "Vary": "X-One", "ETag": '"a2"'}, b"new a")

        await site.get(headers={"X-One": "a"})
        await site.get(headers={"X-One": "b"})
        await site.ask("HEAD", headers={"X-One": "a", **AGAIN})

        assert (await site.get(headers={"X-One": "b"})).body == b"for b"
        assert (await site.get(headers={"X-One": "a"})).body == b"new a"


@pytest.mark.requirement("9111-4-2", "9110-9.3.2-1")
async def test_head_for_what_is_not_stored_is_answered_without_content() -> None:
    async with cache_site() as site:
        site.serve({**LONG, "ETag": '"a"'}, b"0123456789")

        answer = await site.ask("HEAD")

        assert (answer.status, answer.body, answer.header("Content-Length")) == (200, b"", "10")


@pytest.mark.requirement("9111-4.2.4-2")
async def test_head_is_not_answered_by_a_stale_response() -> None:
    async with cache_site() as site:
        await site.stored({"Cache-Control": "max-age=10"}, b"old")
        site.later(11)
        site.serve({"X-New": "1"}, b"new")

        assert (await site.ask("HEAD")).header("X-New") == "1"
