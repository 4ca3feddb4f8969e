"""What unsafe requests invalidate: RFC 9111 section 4.4."""

import pytest

from tests.support.cache_site import FRESH, PATH, CacheSite, cache_site
from tests.support.steps import reset

UNSAFE = ["POST", "PUT", "PATCH", "DELETE"]


async def invalidates(
    site: CacheSite,
    method: str = "POST",
    target: str = PATH,
    *,
    status: int = 200,
    answer: dict[str, str] | None = None,
    stored: str = PATH,
) -> bool:
    """Whether what is stored of `stored` is asked for anew after this request."""
    site.serve(FRESH, times=1)
    await site.get(stored)
    site.serve(answer or {}, b"done", status=status, times=1)
    await site.ask(method, target)
    site.serve(FRESH)
    return not await site.is_hit(stored)


@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize("status", [200, 201, 202, 204, 205, 301, 303, 307])
@pytest.mark.requirement("9111-4.4-1")
async def test_unsafe_request_that_went_well_invalidates_its_target(method: str, status: int) -> None:
    async with cache_site() as site:
        assert await invalidates(site, method, status=status)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_safe_request_does_not(method: str) -> None:
    async with cache_site() as site:
        assert not await invalidates(site, method)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 412, 422, 429])
async def test_refused_request_does_not(status: int) -> None:
    async with cache_site() as site:
        assert not await invalidates(site, status=status)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_request_with_unknown_outcome_does(status: int) -> None:
    async with cache_site() as site:
        assert await invalidates(site, status=status)


async def test_request_whose_connection_breaks_does() -> None:
    async with cache_site() as site:
        await site.stored(FRESH)
        site.upstream.on("*", reset())

        assert (await site.ask("POST", body=b"x")).status == 502

        site.upstream.forget()
        site.serve(FRESH)
        assert not await site.is_hit()


@pytest.mark.requirement("9111-4.4-1")
async def test_all_variants_are_invalidated() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Vary": "X-One"})
        for value in "abc":
            await site.get(headers={"X-One": value})

        await site.ask("PUT", headers={"X-One": "d"}, body=b"x")

        assert [await site.is_hit(headers={"X-One": value}) for value in "abc"] == [False] * 3


@pytest.mark.parametrize(
    ("target", "stored"), [("/r", "/r?x=1"), ("/r?x=1", "/r"), ("/r?x=1", "/r?x=2"), ("/r", "/s"), ("/r/", "/r")]
)
@pytest.mark.requirement("9111-4.4-1")
async def test_only_its_target_is_invalidated(target: str, stored: str) -> None:
    async with cache_site() as site:
        assert not await invalidates(site, target=target, stored=stored)


@pytest.mark.requirement("9111-4.4-1")
async def test_query_is_part_of_the_target() -> None:
    async with cache_site() as site:
        assert await invalidates(site, target="/r?x=1", stored="/r?x=1")


@pytest.mark.parametrize("host", ["other.example", "localhost:81"])
@pytest.mark.requirement("9111-4.4-1", "9111-4.4-2")
async def test_another_authority_is_not_invalidated(host: str) -> None:
    async with cache_site() as site:
        site.serve(FRESH)
        await site.get(headers={"Host": "localhost"})

        await site.ask("POST", headers={"Host": host})

        assert await site.is_hit(headers={"Host": "localhost"})


@pytest.mark.parametrize("field", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    "reference",
    [
        "/r",
        "r",
        "./r",
        "../r",
        "../../r",
        "//localhost/r",
        "http://localhost/r",
        "HTTP://LOCALHOST:80/r",
        "/r#fragment",
    ],
)
@pytest.mark.parametrize("status", [200, 201, 303])
@pytest.mark.requirement("9111-4.4-3")
async def test_what_the_answer_names_on_the_same_origin_is_invalidated(field: str, reference: str, status: int) -> None:
    async with cache_site() as site:
        assert await invalidates(site, target="/y", answer={field: reference}, status=status)


@pytest.mark.parametrize("field", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    "reference",
    [
        "http://other.example/r",
        "//other.example/r",
        "http://localhost:81/r",
        "https://localhost/r",
        "http://localhost.other.example/r",
        "http://localhost@other.example/r",
        "ftp://localhost/r",
        "//localhost:8080/r",
    ],
)
@pytest.mark.requirement("9111-4.4-2")
async def test_what_the_answer_names_on_another_origin_is_not(field: str, reference: str) -> None:
    async with cache_site() as site:
        assert not await invalidates(site, target="/y", answer={field: reference})


@pytest.mark.parametrize("reference", ["http://[", "::", "\\\\x", "", "http:///r", "/s", "?x", "javascript:1"])
@pytest.mark.requirement("9111-4.4-2")
async def test_what_is_no_reference_to_it_does_no_harm(reference: str) -> None:
    async with cache_site() as site:
        assert not await invalidates(site, target="/y", answer={"Location": reference})


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.requirement("9111-4.4-2")
async def test_errors_invalidate_nothing_that_they_name(status: int) -> None:
    async with cache_site() as site:
        assert not await invalidates(site, target="/y", answer={"Location": "/r"}, status=status)


@pytest.mark.requirement("9111-4.4-3")
async def test_get_invalidates_nothing_that_it_names() -> None:
    async with cache_site() as site:
        assert not await invalidates(site, "GET", "/y", answer={"Content-Location": "/r", "Location": "/r"})


@pytest.mark.requirement("9111-4.4-1", "9111-4.2.4-1")
async def test_invalidated_response_stands_in_for_no_error() -> None:
    async with cache_site({"stale_if_error": "1h", "stale_while_revalidate": "1h"}) as site:
        await site.stored({"Cache-Control": "max-age=60, stale-if-error=600, stale-while-revalidate=600"}, b"stored")
        site.serve({}, times=1)
        await site.ask("PUT", body=b"x")
        site.serve({}, b"error", status=503)

        assert (await site.get()).status == 503
        assert (await site.get(headers={"Cache-Control": "max-stale"})).status == 503


@pytest.mark.requirement("9111-4.4-1")
async def test_invalidated_response_may_be_validated() -> None:
    async with cache_site() as site:
        await site.stored({**FRESH, "ETag": '"a"'}, b"stored")
        site.serve({}, times=1)
        await site.ask("PUT", body=b"x")
        site.revalidate({**FRESH, "ETag": '"a"'}, {**FRESH, "ETag": '"a"'}, b"stored")

        answer = await site.get()

        assert (answer.body, site.fills) == (b"stored", 3)
        assert await site.is_hit()


@pytest.mark.requirement("9111-4.4-1")
async def test_what_a_get_brings_after_the_request_is_stored_again() -> None:
    async with cache_site() as site:
        site.serve(FRESH)

        await site.get()
        await site.ask("DELETE")
        await site.get()

        assert await site.is_hit()


@pytest.mark.requirement("9111-4.4-1")
async def test_methods_on_routes_without_a_cache_invalidate_too() -> None:
    routes = [
        {"name": "read", "match": "GET /r", "cache": {}},
        {"name": "write", "match": "* /*"},
    ]
    async with cache_site(routes=routes) as site:
        assert await invalidates(site, "PUT")
