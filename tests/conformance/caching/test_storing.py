"""Which responses are stored at all: RFC 9111 section 3."""

import pytest

from tests.support.cache_site import FRESH, cache_site, is_reused
from tests.support.messages import HeadersLike

LONG = "max-age=3600"
HEURISTIC = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501]
OTHERS = [302, 303, 307, 400, 401, 403, 409, 418, 422, 429, 451, 500, 502, 503, 504]


@pytest.mark.parametrize("status", [*HEURISTIC, 302, 303, 307])
@pytest.mark.requirement("9111-3-2", "9110-9.3.1-1")
async def test_final_response_with_explicit_freshness_is_reused(status: int) -> None:
    assert await is_reused(FRESH, status=status)


@pytest.mark.parametrize("status", OTHERS)
@pytest.mark.requirement("9111-3-7", "9111-4.2.2-2")
async def test_response_that_nothing_makes_cacheable_is_not_reused(status: int) -> None:
    assert not await is_reused({"Last-Modified": "{-864000}", "ETag": '"a"'}, status=status)


@pytest.mark.parametrize("status", [428, 429, 431, 511])
@pytest.mark.requirement("6585-3-1", "6585-4-1", "6585-5-1", "6585-6-1")
async def test_statuses_that_forbid_it_are_not_stored(status: int) -> None:
    assert not await is_reused({"Cache-Control": "public, max-age=60", "Expires": "{+60}"}, status=status)


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.requirement("9111-3-7", "9111-4-5")
async def test_response_without_freshness_or_validator_is_not_reused(status: int) -> None:
    assert not await is_reused({}, status=status)


@pytest.mark.parametrize(
    "control",
    [
        "no-store",
        "No-Store",
        "NO-STORE",
        f"{LONG}, no-store",
        f"no-store, {LONG}",
        f"public, no-store, {LONG}",
        f"s-maxage=3600, no-store, {LONG}",
        f"no-store, immutable, {LONG}",
        f" ,, no-store ,,{LONG}",
        f'x="a, b", no-store, {LONG}',
        f'x="a\\", b", no-store, {LONG}',
        f"{LONG},\tno-store",
    ],
)
@pytest.mark.requirement("9111-3-4", "9111-5.2.2.5-1", "9111-5.2.2.5-2", "9111-5.2.2-1")
async def test_no_store_is_not_stored(control: str) -> None:
    assert not await is_reused({"Cache-Control": control, "Expires": "{+3600}"})


@pytest.mark.requirement("9111-3-4", "9111-5.2.2.5-1")
async def test_no_store_on_a_line_of_its_own_counts() -> None:
    assert not await is_reused([("Cache-Control", LONG), ("X", "y"), ("cache-control", "no-store")])


@pytest.mark.parametrize(
    "control",
    ["private", f"private, {LONG}", f"{LONG}, Private", f"public, private, {LONG}", f"private, s-maxage=3600, {LONG}"],
)
@pytest.mark.requirement("9111-3-5", "9111-5.2.2.7-1", "9111-4.2.1-3")
async def test_private_is_not_stored(control: str) -> None:
    assert not await is_reused({"Cache-Control": control, "Expires": "{+3600}"})


@pytest.mark.parametrize(
    "control",
    [
        'private="x-secret',
        'private=""',
        "private=",
        'private=" , "',
        'no-cache="x-secret',
        'no-cache=""',
        "no-cache=",
        "no-store=x",
        'no-store=""',
        '"unterminated, no-store',
        'x="unterminated, private',
        "@, no-store",
        "=x, no-store",
        "no-store =x",
        "private =x",
    ],
)
@pytest.mark.requirement("9111-5.2.2-1", "9111-4.2.1-3")
async def test_broken_directives_are_read_on_the_safe_side(control: str) -> None:
    assert not await is_reused([("Cache-Control", LONG), ("Cache-Control", control)])


@pytest.mark.requirement("9111-5.2.2.7-1")
async def test_private_with_and_without_names_is_private() -> None:
    assert not await is_reused([("Cache-Control", f'private="x-one", {LONG}'), ("Cache-Control", "private")])


@pytest.mark.parametrize(
    "answer",
    [
        {"Cache-Control": "public", "Last-Modified": "{-864000}"},
        {"Cache-Control": "s-maxage=60"},
        {"Expires": "{+60}"},
        {"Cache-Control": 'x="no-store, private", max-age=60'},
        {"Cache-Control": "no-stores, privately, no-cached, max-age=60"},
        {"Cache-Control": 'community="UCI", max-age=60'},
    ],
)
@pytest.mark.requirement("9111-5.2.3-1")
async def test_one_reason_to_store_is_enough(answer: HeadersLike) -> None:
    assert await is_reused(answer)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.requirement("9111-3-1", "9111-4-7", "9110-9.2.3-1", "9110-9.3.3-1")
async def test_responses_to_other_methods_are_not_stored(method: str) -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Content-Location": "/other"})

        await site.ask(method)
        await site.ask(method)
        assert site.fills == 2
        await site.get()

        assert site.fills == 3


@pytest.mark.requirement("9111-3-3")
async def test_304_of_the_upstream_is_not_stored() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "ETag": '"a"'}, status=304, times=1)
        site.serve({**FRESH, "ETag": '"a"'}, b"whole")

        await site.get(headers={"If-None-Match": '"a"'})
        plain = await site.get()

        assert (plain.status, plain.body) == (200, b"whole")


@pytest.mark.requirement("9111-3-3", "9111-3.3-3")
async def test_206_is_not_stored_as_a_whole_response() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "ETag": '"a"', "Content-Range": "bytes 0-4/10"}, b"01234", status=206, times=1)
        site.serve({**FRESH, "ETag": '"a"'}, b"0123456789")

        part = await site.get(headers={"Range": "bytes=0-4"})
        whole = await site.get()

        assert (part.status, part.body) == (206, b"01234")
        assert (whole.status, whole.body) == (200, b"0123456789")


@pytest.mark.parametrize(
    ("status", "control", "stored"),
    [
        (200, f"must-understand, {LONG}", True),
        (200, f"no-store, must-understand, {LONG}", True),
        (404, f"Must-Understand, No-Store, {LONG}", True),
        (200, f"must-understand, private, {LONG}", False),
        (299, f"must-understand, {LONG}", False),
        (299, f"must-understand, no-store, {LONG}", False),
        (499, f"must-understand, {LONG}", False),
        (599, f"must-understand, no-store, {LONG}", False),
    ],
)
@pytest.mark.requirement("9111-3-3", "9111-5.2.2.3-1")
async def test_must_understand_stores_what_is_understood(status: int, control: str, stored: bool) -> None:
    assert await is_reused({"Cache-Control": control}, status=status) is stored


@pytest.mark.requirement("9111-5.2.1.5-1")
async def test_response_to_a_request_with_no_store_is_not_stored() -> None:
    assert not await is_reused(FRESH, first={"Cache-Control": "no-store"})


@pytest.mark.requirement("9111-5.2.1.5-1")
async def test_no_store_of_a_request_counts_beside_other_directives() -> None:
    assert not await is_reused(FRESH, first=[("Cache-Control", "max-age=0, x=y"), ("Cache-Control", "No-Store")])


@pytest.mark.parametrize("extra", [{}, {"Cache-Control": "public, max-age=3600"}])
async def test_response_with_a_cookie_is_not_stored(extra: dict[str, str]) -> None:
    assert not await is_reused({**FRESH, **extra, "Set-Cookie": "session=1"})


async def test_response_with_a_cookie_is_stored_where_the_route_says_so() -> None:
    assert await is_reused({**FRESH, "Set-Cookie": "colour=blue"}, cache={"set_cookie": "store"})


@pytest.mark.requirement("9111-3-2", "9110-15.2-1")
async def test_interim_responses_are_forwarded_and_not_stored() -> None:
    async with cache_site() as site:
        site.upstream.on("*", site.frame({"Link": "</style.css>"}, site.answer(FRESH, b"final"), status=103), times=1)

        first = await site.get()
        second = await site.get()

        assert [each.status for each in first.interim] == [103]
        assert (second.status, second.body, second.interim, site.fills) == (200, b"final", [], 1)
