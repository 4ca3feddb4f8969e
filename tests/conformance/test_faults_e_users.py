"""Nothing of one user reaches another (fault E01)."""

import asyncio
import json

import pytest

from tests.support.cache_site import FRESH, CacheSite, cache_site
from tests.support.steps import Gate, Turn, reply

ALICE = {"Authorization": "Bearer alice"}
BOB = {"Authorization": "Bearer bob"}
COOKIE_ALICE = {"Cookie": "session=alice"}
COOKIE_BOB = {"Cookie": "session=bob"}
STORABLE = [
    {"Cache-Control": "max-age=3600"},
    {"Expires": "{+3600}"},
    {"Last-Modified": "{-864000}", "ETag": '"a"'},
    {"Cache-Control": "max-age=3600, stale-while-revalidate=600, stale-if-error=600"},
    {},
]


def serve_identity(site: CacheSite, fields: dict[str, str]) -> None:
    """An upstream whose pages show who has asked."""

    async def step(turn: Turn) -> None:
        who = turn.request.header("Authorization") or turn.request.header("Cookie") or "nobody"
        await site.answer(fields, json.dumps({"for": who}).encode())(turn)

    site.upstream.on("*", step)


@pytest.mark.parametrize("fields", STORABLE, ids=str)
@pytest.mark.parametrize("cache", [{}, {"ttl": "5m"}, {"ttl": "5m", "respect_origin": False}], ids=str)
@pytest.mark.parametrize(
    ("first", "second"), [(ALICE, BOB), (COOKIE_ALICE, COOKIE_BOB), (ALICE, {}), (COOKIE_ALICE, {})]
)
async def test_e01_second_user_never_gets_the_page_of_the_first(
    fields: dict[str, str], cache: dict[str, object], first: dict[str, str], second: dict[str, str]
) -> None:
    async with cache_site(cache) as site:
        serve_identity(site, fields)

        await site.get(headers=first)
        answer = await site.get(headers=second)

        assert answer.json()["for"] == next(iter(second.values()), "nobody")


@pytest.mark.parametrize(("first", "second"), [(ALICE, BOB), (COOKIE_ALICE, COOKIE_BOB), (ALICE, {}), ({}, BOB)])
async def test_e01_users_who_ask_at_the_same_time_get_each_their_own_page(
    first: dict[str, str], second: dict[str, str]
) -> None:
    async with cache_site() as site:
        gate = Gate()

        async def step(turn: Turn) -> None:
            await gate(turn)
            who = turn.request.header("Authorization") or turn.request.header("Cookie") or "nobody"
            private = {} if who == "nobody" else {"Cache-Control": "private, max-age=60"}
            await reply(200, private or FRESH, who.encode())(turn)

        site.upstream.on("*", step)
        asked = [asyncio.ensure_future(site.get(headers=each)) for each in (first, second, first, second)]
        await gate.reached.wait()
        await asyncio.sleep(0.05)
        gate.open()
        answers = [(await each).body.decode() for each in asked]

        owners = [next(iter(each.values()), "nobody") for each in (first, second, first, second)]
        assert all(got in (owner, "nobody") for got, owner in zip(answers, owners, strict=True))


@pytest.mark.parametrize("control", ["private, max-age=60", "no-store", "private", "no-cache, private", "max-age=60"])
async def test_e01_set_cookie_is_never_given_to_anybody_else(control: str) -> None:
    async with cache_site() as site:

        async def step(turn: Turn) -> None:
            await reply(200, {"Cache-Control": control, "Set-Cookie": f"session={site.fills}"}, b"page")(turn)

        site.upstream.on("*", step)

        cookies = [(await site.get()).header("Set-Cookie") for _ in range(3)]

        assert cookies == ["session=1", "session=2", "session=3"]


async def test_e01_set_cookie_of_a_validation_is_never_given_to_anybody_else() -> None:
    async with cache_site() as site:
        site.serve({"Cache-Control": "max-age=10", "ETag": '"a"'}, b"page", times=1)
        site.serve({"Cache-Control": "max-age=10", "ETag": '"a"', "Set-Cookie": "session=1"}, status=304, times=1)
        site.serve({"Cache-Control": "max-age=10", "ETag": '"a"'}, status=304)

        await site.get()
        site.later(11)
        await site.get()
        others = [await site.get(), await site.get(headers={"Cache-Control": "no-cache"}), await site.get()]

        assert [each.header("Set-Cookie") for each in others] == [None] * 3
        assert [each.body for each in others] == [b"page"] * 3


async def test_e01_set_cookie_of_a_head_is_never_given_to_anybody_else() -> None:
    async with cache_site() as site:
        await site.stored({**FRESH, "ETag": '"a"'}, b"page")
        site.serve({**FRESH, "ETag": '"a"', "Set-Cookie": "session=1"}, b"page", times=1)
        site.serve({**FRESH, "ETag": '"a"'}, b"page")

        await site.ask("HEAD", headers={"Cache-Control": "no-cache"})

        assert (await site.get()).header("Set-Cookie") is None


async def test_e01_private_answers_are_kept_apart_by_user_where_the_route_says_so() -> None:
    async with cache_site({"per_user": "header:X-User-ID"}) as site:

        async def step(turn: Turn) -> None:
            who = (turn.request.header("X-User-ID") or "nobody").encode()
            await reply(200, {"Cache-Control": "private, max-age=60"}, who)(turn)

        site.upstream.on("*", step)
        users = ["alice", "bob", "alice,bob", "ALICE", "alice ", "a" * 300, "al|ice", "alice%00", "alice;bob", ""]

        for _ in range(2):
            for user in users:
                assert (await site.get(headers={"X-User-ID": user})).body.decode() == (user.strip() or "nobody")
        assert (await site.get()).body == b"nobody"


async def test_e01_two_names_of_one_user_are_refused_or_kept_apart() -> None:
    async with cache_site({"per_user": "header:X-User-ID"}) as site:

        async def step(turn: Turn) -> None:
            who = "|".join(turn.request.header_list("X-User-ID")).encode()
            await reply(200, {"Cache-Control": "private, max-age=60"}, who)(turn)

        site.upstream.on("*", step)

        await site.get(headers=[("X-User-ID", "alice"), ("X-User-ID", "bob")])

        assert (await site.get(headers={"X-User-ID": "alice"})).body == b"alice"
        assert (await site.get(headers={"X-User-ID": "bob"})).body == b"bob"
