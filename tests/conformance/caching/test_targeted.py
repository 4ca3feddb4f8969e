"""Directives for this cache alone: RFC 9213 and its field CDN-Cache-Control, and Surrogate-Control."""

import pytest

from tests.support.cache_site import cache_site, is_reused
from tests.support.messages import Fields

LONG = "max-age=3600"


def cdn(*values: str, control: str = "", **others: str) -> Fields:
    fields: Fields = [("CDN-Cache-Control", value) for value in values]
    return [*fields, *([("Cache-Control", control)] if control else []), *others.items()]


@pytest.mark.parametrize(
    ("answer", "later", "reused"),
    [
        (cdn("max-age=60"), 59, True),
        (cdn("max-age=60"), 61, False),
        (cdn("max-age=60", control="max-age=10"), 59, True),
        (cdn("max-age=60", control="no-store"), 59, True),
        (cdn("max-age=60", control="private"), 59, True),
        (cdn("max-age=60", control="no-cache"), 59, True),
        (cdn("max-age=60", control="s-maxage=10"), 59, True),
        (cdn("max-age=60", Expires="0"), 59, True),
        (cdn("max-age=10", control=LONG), 11, False),
        (cdn("max-age=10", Expires="{+3600}"), 11, False),
        (cdn("max-age=0", control=LONG), 0, False),
        (cdn("no-store", control=LONG), 0, False),
        (cdn("no-store, max-age=60", control=LONG), 0, False),
        (cdn("private", control=LONG), 0, False),
        (cdn("private, max-age=60", control=f"public, {LONG}"), 0, False),
        (cdn("no-cache", control=LONG), 0, False),
        (cdn("no-cache, max-age=60", control=LONG), 0, False),
        (cdn("none", control=LONG), 0, False),
        (cdn("none", Expires="{+3600}"), 0, False),
        (cdn("s-maxage=60, max-age=10"), 59, True),
        (cdn("max-age=60, unknown=1, unknown2"), 59, True),
        (cdn("max-age=60,must-revalidate"), 59, True),
        (cdn("public", "max-age=60"), 59, True),
    ],
)
@pytest.mark.requirement("9213-2.2-1", "9213-2.2-2", "9213-2.2-4", "9213-2.2-5")
async def test_targeted_field_outdoes_the_others(answer: Fields, later: float, reused: bool) -> None:
    assert await is_reused(answer, later=later) is reused


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "max-age=0,",
        ",max-age=0",
        "max-age=0,,no-store",
        "max-age=",
        "Max-Age=0",
        "no-store; =",
        "max-age=0 no-store",
        'no-store, x="unterminated',
        "no-store, &",
        "no-store, x=?2",
        "no-store, x=00000000000000001",
        "no-store;x;",
    ],
)
@pytest.mark.requirement("9213-2.1-1")
async def test_targeted_field_that_is_empty_or_does_not_parse_is_ignored(value: str) -> None:
    assert await is_reused(cdn(value, control="max-age=60"), later=59)
    assert not await is_reused(cdn(value, control="no-store"))


@pytest.mark.parametrize("value", ["max-age=60;foo=bar", 'max-age=60;a;b="c"', "public;x, max-age=60"])
@pytest.mark.requirement("9213-2.1-2")
async def test_parameters_are_ignored(value: str) -> None:
    assert await is_reused(cdn(value, control="no-store"), later=59)


@pytest.mark.parametrize("value", ["max-age=60.5", 'max-age="60"', "max-age", "max-age=?1", "max-age=-1", "max-age=x"])
@pytest.mark.requirement("9213-2.1-3")
async def test_values_of_the_wrong_type_are_no_lifetimes(value: str) -> None:
    assert not await is_reused(cdn(value, control="no-store"))


@pytest.mark.requirement("9213-2.2-1")
async def test_last_value_of_a_directive_counts_as_in_any_dictionary() -> None:
    assert await is_reused(cdn("max-age=0, max-age=60"), later=59)
    assert not await is_reused(cdn("max-age=60, max-age=0"))


@pytest.mark.parametrize("directive", ["must-revalidate", "proxy-revalidate"])
@pytest.mark.requirement("9213-2.2-4", "9213-2.2-5")
async def test_must_revalidate_forbids_stale_responses(directive: str) -> None:
    async with cache_site({"stale_if_error": "1h"}) as site:
        await site.stored(cdn(f"max-age=10, {directive}", control="stale-if-error=600"))
        site.later(11)
        site.serve({}, status=503)

        assert (await site.get(headers={"Cache-Control": "max-stale"})).status == 503


@pytest.mark.requirement("9213-2.2-2", "9213-2.2-5")
async def test_stale_windows_are_those_of_the_targeted_field() -> None:
    async with cache_site() as site:
        await site.stored(cdn("max-age=10, stale-if-error=600", control="max-age=10, must-revalidate"), b"stored")
        site.later(11)
        site.serve({}, status=503)

        assert (await site.get()).body == b"stored"

    async with cache_site() as site:
        await site.stored(cdn("max-age=10", control="max-age=10, stale-if-error=600"))
        site.later(11)
        site.serve({}, status=503)

        assert (await site.get()).status == 503


@pytest.mark.parametrize(
    ("answer", "reused"),
    [
        (cdn("max-age=60, public"), True),
        (cdn("s-maxage=60"), True),
        (cdn("max-age=60, must-revalidate"), True),
        (cdn("max-age=60", control="public, max-age=60"), False),
        (cdn("max-age=60", control="s-maxage=60"), False),
    ],
)
@pytest.mark.requirement("9213-2.2-2", "9213-2.2-5", "9111-3.5-1")
async def test_permission_to_share_is_that_of_the_targeted_field(answer: Fields, reused: bool) -> None:
    assert await is_reused(answer, first={"Authorization": "Bearer a"}) is reused


@pytest.mark.parametrize("value", ['no-cache="x-secret"', 'private="x-secret"'])
@pytest.mark.requirement("9213-2.2-4")
async def test_fields_that_the_targeted_field_names_are_not_reused(value: str) -> None:
    async with cache_site() as site:
        site.serve([*cdn(f"{value}, max-age=60"), ("X-Secret", "s")])

        await site.get()
        hit = await site.get()

        assert (hit.header("X-Secret"), site.fills) == (None, 1)


@pytest.mark.parametrize("name", ["Other-CDN-Cache-Control", "Cloudflare-CDN-Cache-Control", "X-Cache-Control"])
@pytest.mark.requirement("9213-2.2-3")
async def test_fields_for_other_caches_are_passed_on_and_not_followed(name: str) -> None:
    async with cache_site() as site:
        site.serve({name: "no-store", "Cache-Control": "max-age=60"})

        answers = [await site.get(), await site.get()]

        assert [answer.header(name) for answer in answers] == ["no-store"] * 2
        assert site.fills == 1


@pytest.mark.requirement("9213-2.2-3", "9213-2.2-2")
async def test_targeted_field_is_passed_on_with_the_others() -> None:
    async with cache_site() as site:
        site.serve(cdn("max-age=60", control="no-store", Expires="0"))

        answers = [await site.get(), await site.get()]

        for answer in answers:
            assert answer.header("CDN-Cache-Control") == "max-age=60"
            assert (answer.header("Cache-Control"), answer.header("Expires")) == ("no-store", "0")
        assert site.fills == 1


@pytest.mark.requirement("9213-2.2-1")
async def test_targeted_field_of_a_304_counts() -> None:
    async with cache_site() as site:
        site.serve([*cdn("max-age=10", control="no-store"), ("ETag", '"a"')], b"stored", times=1)
        site.serve([*cdn("max-age=100", control="no-store"), ("ETag", '"a"')], status=304)

        await site.get()
        site.later(11)
        await site.get()
        site.later(99)

        assert await site.is_hit()


@pytest.mark.requirement("9213-2.2-3")
async def test_targeted_field_in_a_request_means_nothing() -> None:
    async with cache_site() as site:
        await site.stored({"Cache-Control": "max-age=60"})

        assert await site.is_hit(headers={"CDN-Cache-Control": "no-cache"})


# --- Surrogate-Control ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("surrogate", "control", "later", "reused"),
    [
        ("max-age=60", "no-store", 59, True),
        ("max-age=60", "max-age=10", 59, True),
        ("max-age=60", LONG, 61, False),
        ("no-store", LONG, 0, False),
        ('max-age=60, content="ESI/1.0"', "no-store", 59, True),
        ("max-age=60+600", LONG, 59, True),
    ],
)
async def test_surrogate_control_outdoes_cache_control(
    surrogate: str, control: str, later: float, reused: bool
) -> None:
    assert await is_reused({"Surrogate-Control": surrogate, "Cache-Control": control}, later=later) is reused


async def test_surrogate_control_does_not_reach_clients() -> None:
    async with cache_site() as site:
        site.serve({"Surrogate-Control": "max-age=60", "Cache-Control": "no-cache"})

        answers = [await site.get(), await site.get()]

        assert [answer.header("Surrogate-Control") for answer in answers] == [None, None]
        assert [answer.header("Cache-Control") for answer in answers] == ["no-cache"] * 2


@pytest.mark.requirement("9213-2.2-1")
async def test_cdn_cache_control_comes_before_surrogate_control() -> None:
    answer = {"CDN-Cache-Control": "max-age=60", "Surrogate-Control": "no-store", "Cache-Control": "no-store"}

    assert await is_reused(answer, later=59)
