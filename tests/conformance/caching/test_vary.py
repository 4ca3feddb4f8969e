"""Responses that request fields select: RFC 9111 section 4.1, RFC 9110 section 12.5.5."""

import pytest

from tests.support.cache_site import FRESH, cache_site, is_reused
from tests.support.messages import Fields, HeadersLike

ONE: Fields = [("X-One", "1")]


@pytest.mark.parametrize(
    ("vary", "first", "second"),
    [
        ("X-One", ONE, ONE),
        ("x-one", [("X-ONE", "1")], [("x-One", "1")]),
        ("X-One", [], []),
        ("X-One, X-Two", ONE, ONE),
        (" ,X-One,, X-Two ,", ONE, ONE),
        ("X-One", ONE, [*ONE, ("X-Two", "2")]),
        ("X-One", [("X-One", "1")], [("X-One", "  1\t")]),
        ("X-One", [("X-One", "1, 2")], [("X-One", "1"), ("X-One", "2")]),
        ("Accept-Encoding", [("Accept-Encoding", "gzip, br")], [("Accept-Encoding", "br,gzip")]),
        ("Accept-Encoding", [("Accept-Encoding", "gzip;q=1, br")], [("Accept-Encoding", "GZIP, br")]),
        ("X-One", [("X-One", "a,b")], [("X-One", "a , b")]),
    ],
)
@pytest.mark.requirement("9111-4.1-1", "9111-4-3")
async def test_fields_that_match_select_it(vary: str, first: HeadersLike, second: HeadersLike) -> None:
    assert await is_reused({**FRESH, "Vary": vary}, first=first, second=second)


@pytest.mark.parametrize(
    ("vary", "first", "second"),
    [
        ("X-One", ONE, [("X-One", "2")]),
        ("X-One", ONE, []),
        ("X-One", [], ONE),
        ("X-One", [], [("X-One", "")]),
        ("X-One", [("X-One", "")], []),
        ("x-one", ONE, [("x-ONE", "2")]),
        ("X-One, X-Two", ONE, [*ONE, ("X-Two", "2")]),
        ("X-Two,X-One", ONE, [("X-One", "2")]),
        ("X-One", [("X-One", "a"), ("X-One", "b")], [("X-One", "b"), ("X-One", "a")]),
        ("X-One", [("X-One", "A")], [("X-One", "a")]),
        ("X-One, X-Two", [("X-One", "ab"), ("X-Two", "")], [("X-One", "a"), ("X-Two", "b")]),
        ("Accept-Encoding", [("Accept-Encoding", "gzip")], [("Accept-Encoding", "br")]),
        ("Accept-Encoding", [("Accept-Encoding", "gzip")], []),
        ("Accept-Encoding", [("Accept-Encoding", "gzip;q=0")], [("Accept-Encoding", "gzip")]),
        ("Accept-Language", [("Accept-Language", "de")], [("Accept-Language", "en")]),
        ("Accept", [("Accept", "text/html")], [("Accept", "application/json")]),
        ("Origin", [("Origin", "https://a.example")], [("Origin", "https://b.example")]),
        ("User-Agent", [("User-Agent", "a")], [("User-Agent", "b")]),
    ],
)
@pytest.mark.requirement("9111-4.1-1", "9111-4.1-2", "9111-4-3")
async def test_fields_that_differ_do_not_select_it(vary: str, first: HeadersLike, second: HeadersLike) -> None:
    assert not await is_reused({**FRESH, "Vary": vary}, first=first, second=second)


@pytest.mark.parametrize(
    "vary", [[("Vary", "*")], [("Vary", "X-One, *")], [("Vary", "*,X-One")], [("Vary", "X-One"), ("Vary", "*")]]
)
@pytest.mark.requirement("9111-4.1-3")
async def test_star_never_matches(vary: Fields) -> None:
    assert not await is_reused([*FRESH.items(), *vary], first=ONE, second=ONE)


@pytest.mark.requirement("9111-4.1-1")
async def test_several_lines_of_vary_are_one_list() -> None:
    answer = [*FRESH.items(), ("Vary", "X-One"), ("Vary", "X-Two")]

    assert not await is_reused(answer, first=ONE, second=[*ONE, ("X-Two", "2")])
    assert not await is_reused(answer, first=ONE, second=[("X-One", "2")])


@pytest.mark.requirement("9111-4.1-1", "9111-4-3")
async def test_each_variant_is_kept_and_selected() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Vary": "X-One"})

        bodies = [(await site.get(headers={"X-One": value})).body for value in "abc"]

        assert [(await site.get(headers={"X-One": value})).body for value in "abc"] == bodies
        assert (len(set(bodies)), site.fills) == (3, 3)


@pytest.mark.requirement("9111-4.1-1")
async def test_head_is_answered_by_its_variant_only() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Vary": "X-One"})

        await site.get(headers={"X-One": "a"})

        assert await site.is_hit(headers={"X-One": "a"}, method="HEAD")
        assert not await site.is_hit(headers={"X-One": "b"}, method="HEAD")


@pytest.mark.requirement("9111-4.1-1")
async def test_condition_is_evaluated_against_the_selected_variant() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Vary": "X-One", "ETag": '"a"'}, times=1)
        site.serve({**FRESH, "Vary": "X-One", "ETag": '"b"'}, times=1)

        await site.get(headers={"X-One": "a"})
        await site.get(headers={"X-One": "b"})

        assert (await site.get(headers={"X-One": "a", "If-None-Match": '"b"'})).status == 200
        assert (await site.get(headers={"X-One": "b", "If-None-Match": '"b"'})).status == 304
        assert site.fills == 2


@pytest.mark.requirement("9111-4.1-4")
async def test_response_with_vary_is_preferred_to_those_that_omit_it() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Vary": "X-One", "Date": "{-20}"}, b"for a", times=1)
        site.serve({**FRESH, "Date": "{-10}"}, b"default", times=1)

        await site.get(headers={"X-One": "a"})
        await site.get(headers={"Cache-Control": "no-cache"})

        assert (await site.get(headers={"X-One": "a"})).body == b"for a"
        assert (await site.get()).body == b"default"
        assert site.fills == 2


@pytest.mark.requirement("9111-4.1-1")
async def test_vary_that_changes_is_followed() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Vary": "X-One"}, b"first", times=1)
        site.serve({**FRESH, "Vary": "X-One, X-Two"}, b"second")

        await site.get(headers={"X-One": "a", "X-Two": "1"})
        await site.get(headers={"X-One": "b", "X-Two": "1"})

        assert await site.is_hit(headers={"X-One": "b", "X-Two": "1"})
        assert not await site.is_hit(headers={"X-One": "b", "X-Two": "2"})


@pytest.mark.requirement("9110-12.5.5-1", "9111-5.2-1")
async def test_vary_is_passed_on_as_it_came() -> None:
    async with cache_site({"vary": ["X-Tenant"]}) as site:
        site.serve({**FRESH, "Vary": "X-One , x-two", "Content-Encoding": "gzip"})

        answers = [await site.get(headers=ONE), await site.get(headers=ONE)]

        assert [answer.header("Vary") for answer in answers] == ["X-One , x-two"] * 2
        assert site.fills == 1


@pytest.mark.requirement("9111-4.1-1")
async def test_fields_of_the_route_tell_variants_apart_too() -> None:
    async with cache_site({"vary": ["X-Tenant"]}) as site:
        site.serve(FRESH)

        await site.get(headers={"X-Tenant": "a"})

        assert await site.is_hit(headers={"X-Tenant": "a"})
        assert not await site.is_hit(headers={"X-Tenant": "b"})


@pytest.mark.requirement("9111-4-10")
async def test_validation_concerns_its_own_variant() -> None:
    async with cache_site() as site:
        fields = {"Cache-Control": "max-age=10", "Vary": "X-One"}
        site.serve({**fields, "ETag": '"a"'}, b"a", times=1)
        site.serve({**fields, "ETag": '"b"'}, b"b", times=1)
        site.serve({**fields, "ETag": '"a"'}, status=304, times=1)
        site.serve({**fields, "ETag": '"b2"'}, b"b2", times=1)

        await site.get(headers={"X-One": "a"})
        await site.get(headers={"X-One": "b"})
        site.later(11)
        again = await site.get(headers={"X-One": "a"})
        other = await site.get(headers={"X-One": "b"})

        assert (again.status, again.body, other.body) == (200, b"a", b"b2")
        assert '"b"' in (site.last.header("If-None-Match") or "")
