"""What clients ask of the cache: RFC 9111 sections 5.2.1 and 5.4."""

import pytest

from tests.support.cache_site import cache_site, cache_status
from tests.support.messages import Fields, HeadersLike

HOUR = {"Cache-Control": "max-age=3600", "ETag": '"a"'}


async def is_answered(request: HeadersLike, stored: HeadersLike = HOUR, *, later: float = 0.0) -> bool:
    """Whether a response stored `later` seconds ago answers this request."""
    async with cache_site() as site:
        site.serve(stored)
        await site.get()
        site.later(later)
        return await site.is_hit(headers=request)


def control(*values: str) -> Fields:
    return [("Cache-Control", value) for value in values]


@pytest.mark.parametrize(
    ("request_control", "later", "answered"),
    [
        ("max-age=10", 9, True),
        ("max-age=10", 11, False),
        ("max-age=0", 1, False),
        ("Max-Age=10", 11, False),
        ('max-age="10"', 11, False),
        ('max-age="10"', 9, True),
        ("max-age=99999999999999999999", 3000, True),
        ("x=y, max-age=10", 11, False),
        ("max-age=10, max-stale=100", 9, True),
    ],
)
@pytest.mark.requirement("9111-5.2.1.1-1", "9111-5.2-2")
async def test_max_age(request_control: str, later: float, answered: bool) -> None:
    assert await is_answered(control(request_control), later=later) is answered


@pytest.mark.parametrize(
    ("request_control", "later", "answered"),
    [
        ("max-stale", 3605, True),
        ("max-stale", 1e6, True),
        ("max-stale=10", 3605, True),
        ("max-stale=10", 3611, False),
        ("Max-Stale=10", 3605, True),
        ('max-stale="10"', 3605, True),
        ("max-stale=0", 3605, False),
        ("max-stale=x", 3605, False),
        ("max-stale=10, max-age=5000", 3605, True),
        ("max-stale=10, max-age=3600", 3611, False),
        ("max-stale=100, no-cache", 3605, False),
    ],
)
@pytest.mark.requirement("9111-5.2.1.2-1", "9111-4.2.4-2")
async def test_max_stale(request_control: str, later: float, answered: bool) -> None:
    assert await is_answered(control(request_control), later=later) is answered


@pytest.mark.parametrize(
    ("request_control", "later", "answered"),
    [
        ("min-fresh=100", 3400, True),
        ("min-fresh=100", 3550, False),
        ("min-fresh=3600", 1, False),
        ("min-fresh=0", 3500, True),
        ("MIN-FRESH=100", 3550, False),
        ("min-fresh=99999999999999999999", 0, False),
    ],
)
@pytest.mark.requirement("9111-5.2.1.3-1")
async def test_min_fresh(request_control: str, later: float, answered: bool) -> None:
    assert await is_answered(control(request_control), later=later) is answered


@pytest.mark.parametrize(
    "request_fields",
    [
        control("no-cache"),
        control("No-Cache"),
        control("x", "no-cache"),
        control("max-age=100, no-cache"),
        control('x="y, z", no-cache'),
        [("Pragma", "no-cache")],
        [("Pragma", "No-Cache")],
        [("Pragma", "x=y, no-cache")],
        [("pragma", "x"), ("Pragma", "no-cache")],
    ],
)
@pytest.mark.requirement("9111-5.2.1.4-1", "9111-5.4-1")
async def test_no_cache(request_fields: Fields) -> None:
    assert not await is_answered(request_fields)


@pytest.mark.parametrize(
    "request_fields",
    [
        [("Pragma", "no-cache"), ("Cache-Control", "max-age=100")],
        [("Pragma", "no-cached")],
        [("Pragma", "x")],
        control('x="no-cache"'),
        control("no-caches, mno-cache"),
        control("foo, bar=baz"),
        control("no-transform"),
        control("immutable"),
        control("public, private, s-maxage=0, must-revalidate, proxy-revalidate"),
        control(""),
    ],
)
@pytest.mark.requirement("9111-5.2.3-1", "9111-5.4-1", "8246-2-3")
async def test_what_asks_for_nothing(request_fields: Fields) -> None:
    assert await is_answered(request_fields, later=10)


@pytest.mark.requirement("9111-5.2.1.4-1")
async def test_answer_to_no_cache_is_stored() -> None:
    async with cache_site() as site:
        site.serve(HOUR)

        await site.get()
        new = await site.get(headers={"Cache-Control": "no-cache"})

        assert (await site.get()).body == new.body
        assert site.fills == 2


@pytest.mark.requirement("9111-5.2.1.5-1")
async def test_no_store_does_not_replace_what_is_stored() -> None:
    async with cache_site() as site:
        site.serve({**HOUR, "Vary": "X-One"})

        await site.get()
        await site.get(headers={"X-One": "1", "Cache-Control": "no-store"})

        assert not await site.is_hit(headers={"X-One": "1"})


@pytest.mark.parametrize(
    "request_control",
    [
        "only-if-cached",
        "Only-If-Cached",
        "only-if-cached, max-age=100",
        "only-if-cached, max-stale",
        "x, only-if-cached",
    ],
)
@pytest.mark.requirement("9111-5.2.1.7-1")
async def test_only_if_cached_is_answered_from_the_store(request_control: str) -> None:
    async with cache_site() as site:
        await site.stored(HOUR, b"stored")

        answer = await site.get(headers={"Cache-Control": request_control})

        assert (answer.status, answer.body, site.fills) == (200, b"stored", 1)


@pytest.mark.parametrize(
    ("request_control", "later"),
    [
        ("only-if-cached", 3601),
        ("only-if-cached, max-age=10", 11),
        ("only-if-cached, no-cache", 0),
        ("only-if-cached, min-fresh=100", 3590),
        ("only-if-cached, max-stale=10", 3611),
    ],
)
@pytest.mark.requirement("9111-5.2.1.7-1", "9211-2-3")
async def test_only_if_cached_is_504_when_what_is_stored_will_not_do(request_control: str, later: float) -> None:
    async with cache_site() as site:
        await site.stored(HOUR, b"stored")
        site.later(later)

        answer = await site.get(headers={"Cache-Control": request_control})

        assert (answer.status, site.fills, cache_status(answer)) == (504, 1, {})


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.requirement("9111-5.2.1.7-1", "9211-2-3")
async def test_only_if_cached_is_504_when_nothing_is_stored(method: str) -> None:
    async with cache_site() as site:
        answer = await site.ask(method, headers={"Cache-Control": "only-if-cached"})

        assert (answer.status, site.fills, answer.header("Cache-Status")) == (504, 0, None)


@pytest.mark.requirement("9111-5.2.1.7-1", "9111-4.1-1")
async def test_only_if_cached_is_504_for_another_variant() -> None:
    async with cache_site() as site:
        site.serve({**HOUR, "Vary": "X-One"})
        await site.get()

        answer = await site.get(headers={"Cache-Control": "only-if-cached", "X-One": "1"})

        assert (answer.status, site.fills) == (504, 1)


@pytest.mark.requirement("9111-5.2.1.7-1", "5861-3-1")
async def test_only_if_cached_may_be_answered_stale_within_stale_while_revalidate() -> None:
    async with cache_site() as site:
        await site.stored({"Cache-Control": "max-age=10, stale-while-revalidate=100"}, b"stored")
        site.later(11)

        answer = await site.get(headers={"Cache-Control": "only-if-cached, max-stale=5"})

        assert (answer.status, answer.body) == (200, b"stored")


@pytest.mark.parametrize(
    "value", ["max-age=0, x=y", "no-cache", "no-store", "no-transform", 'foo="b,c"', "max-stale=5"]
)
@pytest.mark.requirement("9111-5.2-1", "9111-5.2.1.6-1")
async def test_directives_are_forwarded(value: str) -> None:
    async with cache_site() as site:
        await site.get(headers={"Cache-Control": value})

        assert site.last.header("Cache-Control") == value


@pytest.mark.requirement("9111-5.2-1")
async def test_pragma_is_forwarded() -> None:
    async with cache_site() as site:
        await site.get(headers={"Pragma": "no-cache"})

        assert site.last.header("Pragma") == "no-cache"
