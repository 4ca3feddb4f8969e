"""How old responses are: RFC 9111 sections 4.2.3 and 5.1."""

import asyncio

import pytest

from tests.support.cache_site import cache_site, is_reused
from tests.support.messages import Fields
from tests.support.steps import Gate

MINUTE = {"Cache-Control": "max-age=60"}


@pytest.mark.parametrize(
    ("age", "later", "reused"),
    [
        ("0", 59, True),
        ("30", 29, True),
        ("30", 31, False),
        ("59", 0, True),
        ("60", 0, False),
        ("3600", 0, False),
        ("0030", 29, True),
        ("2147483648", 0, False),
        ("99999999999999999999", 0, False),
    ],
)
@pytest.mark.requirement("9111-4.2.3-2", "9111-1.2.2-1")
async def test_received_age_uses_lifetime_up(age: str, later: float, reused: bool) -> None:
    assert await is_reused({**MINUTE, "Age": age}, later=later) is reused


@pytest.mark.parametrize("age", ["", "a", "-1", "-3600", "3600.5", "3600s", "0x3600", "3 600", '"3600"', "\u0663"])
@pytest.mark.requirement("9111-5.1-2")
async def test_invalid_age_is_ignored(age: str) -> None:
    assert await is_reused({**MINUTE, "Age": age}, later=59)
    assert not await is_reused({**MINUTE, "Age": age}, later=61)


@pytest.mark.parametrize(
    ("ages", "reused"),
    [
        (["0, 3600"], True),
        (["0", "3600"], True),
        (["3600, 0"], False),
        (["3600", "0"], False),
        (["3600,0"], False),
        (["0 , x"], True),
    ],
)
@pytest.mark.requirement("9111-5.1-1")
async def test_first_member_of_age_counts(ages: list[str], reused: bool) -> None:
    answer: Fields = [*MINUTE.items(), *(("Age", age) for age in ages)]

    assert await is_reused(answer, later=30) is reused


@pytest.mark.parametrize(
    ("fields", "later", "age"),
    [
        ({}, 0, "0"),
        ({}, 7, "7"),
        ({}, 7.9, "7"),
        ({"Age": "30"}, 7, "37"),
        ({"Age": "x"}, 7, "7"),
        ({"Date": "{-10}"}, 7, "17"),
        ({"Date": "{-10}", "Age": "30"}, 7, "37"),
        ({"Date": "{-30}", "Age": "10"}, 7, "37"),
        ({"Date": "{+86400}"}, 7, "7"),
        ({"Date": "{+86400}", "Age": "30"}, 7, "37"),
        ({"Date": "{-86400}"}, 7, "86407"),
        ({"Date": "garbage"}, 7, "7"),
    ],
)
@pytest.mark.requirement("9111-4-6", "9111-4.2.3-2")
async def test_age_of_a_hit(fields: dict[str, str], later: float, age: str) -> None:
    async with cache_site() as site:
        site.serve({"Cache-Control": "max-age=864000", **fields})

        await site.get()
        site.later(later)
        hit = await site.get()

        assert (hit.header("Age"), site.fills) == (age, 1)


@pytest.mark.parametrize("age", ["2147483648", "4294967296", "99999999999999999999999"])
@pytest.mark.requirement("9111-1.2.2-1", "9111-4-6")
async def test_age_that_is_sent_does_not_overflow(age: str) -> None:
    async with cache_site() as site:
        await site.stored({**MINUTE, "Age": age}, b"stored")
        site.later(1000)

        stale = await site.get(headers={"Cache-Control": "max-stale"})

        assert (stale.body, stale.header("Age")) == (b"stored", "2147483648")


@pytest.mark.parametrize(
    ("fields", "age"), [({"Age": "10"}, "15"), ({}, "5"), ({"Age": "10", "Date": "{+0}"}, "15"), ({"Age": "0"}, "5")]
)
@pytest.mark.requirement("9111-4.2.3-1")
async def test_time_that_the_upstream_took_is_part_of_the_age(fields: dict[str, str], age: str) -> None:
    async with cache_site() as site:
        gate = Gate()
        site.upstream.on("*", gate, site.answer({"Cache-Control": "max-age=3600", **fields}))

        first = asyncio.ensure_future(site.get())
        await gate.reached.wait()
        site.later(5)
        gate.open()
        await first
        hit = await site.get()

        assert (hit.header("Age"), site.fills) == (age, 1)


@pytest.mark.requirement("9111-4.2.3-1")
async def test_time_that_the_upstream_took_uses_lifetime_up() -> None:
    async with cache_site() as site:
        gate = Gate()
        site.upstream.on("*", gate, site.answer({"Cache-Control": "max-age=20", "Age": "10"}))

        first = asyncio.ensure_future(site.get())
        await gate.reached.wait()
        site.later(6)
        gate.open()
        await first
        site.later(5)

        assert not await site.is_hit()


@pytest.mark.requirement("9111-4.2.3-2")
async def test_age_begins_anew_with_validation() -> None:
    async with cache_site() as site:
        site.revalidate({**MINUTE, "ETag": '"a"'}, {**MINUTE, "ETag": '"a"'})

        await site.get()
        site.later(100)
        await site.get()
        site.later(7)
        hit = await site.get()

        assert (hit.header("Age"), site.fills) == ("7", 2)


async def test_answer_that_came_straight_from_the_upstream_has_no_age() -> None:
    async with cache_site() as site:
        site.serve(MINUTE)

        assert (await site.get()).header("Age") is None


@pytest.mark.parametrize("control", ["max-age=3600", "no-store"])
async def test_age_of_the_upstream_is_passed_on(control: str) -> None:
    async with cache_site() as site:
        site.serve({"Cache-Control": control, "Age": "100"})

        assert (await site.get()).header("Age") == "100"
