"""Only what the response says makes it storable, and only when all of it has come (faults E04 and E05)."""

import asyncio

import pytest

from tests.support.cache_site import FRESH, PATH, cache_site
from tests.support.client import RawClient
from tests.support.steps import Gate, Step, Turn, chunk, close, hang, head, last_chunk, reply, reset, send

DISGUISES = [
    "/me/x.css",
    "/me%2fx.css",
    "/me;x.js",
    "/me;%2f..%2fx.js",
    "/me%00.css",
    "/me%0a.css",
    "/me%23.css",
    "/me%3f.css",
    "/me/.css",
    "/me.css",
    "/me?x.css",
    "/me/..%2fx.png",
    "/static/..%2fme",
    "/static/..%2f..%2fme",
    "/static%2f..%2fme",
    "/assets//..%5cme",
    "/me%252fx.css",
    "/me/favicon.ico",
    "/me/robots.txt",
    "/static/app.js%2f..%2f..%2fme",
]


@pytest.mark.parametrize("target", DISGUISES)
@pytest.mark.parametrize(
    "fields",
    [
        {"Cache-Control": "private"},
        {"Cache-Control": "no-store", "Content-Type": "text/css"},
        {"Cache-Control": "private, max-age=60", "Content-Type": "application/javascript"},
        {"Content-Type": "image/png"},
        {"Cache-Control": "no-cache", "Content-Type": "text/css"},
    ],
    ids=str,
)
async def test_e04_page_of_a_user_is_not_stored_because_its_name_looks_like_a_file(
    target: str, fields: dict[str, str]
) -> None:
    async with cache_site() as site:

        async def step(turn: Turn) -> None:
            await reply(200, fields, (turn.request.header("Cookie") or "nobody").encode())(turn)

        site.upstream.on("*", step)

        await site.get(target, headers={"Cookie": "session=victim"})

        assert b"victim" not in (await site.get(target)).body
        assert b"victim" not in (await site.get(target, headers={"Cookie": "session=attacker"})).body


@pytest.mark.parametrize("target", DISGUISES)
async def test_e04_not_even_where_the_route_gives_everything_a_lifetime(target: str) -> None:
    routes = [{"name": "all", "match": "GET /*", "cache": {"ttl": "1h", "respect_origin": False}}]
    async with cache_site(routes=routes) as site:

        async def step(turn: Turn) -> None:
            await reply(200, {}, (turn.request.header("Cookie") or "nobody").encode())(turn)

        site.upstream.on("*", step)

        await site.get(target, headers={"Cookie": "session=victim"})

        assert b"victim" not in (await site.get(target)).body


@pytest.mark.parametrize("target", DISGUISES)
async def test_e04_page_of_a_user_is_not_found_under_another_name(target: str) -> None:
    async with cache_site({"per_user": "header:X-User-ID"}) as site:

        async def step(turn: Turn) -> None:
            body = f"{turn.request.target} of {turn.request.header('X-User-ID')}"
            await reply(200, {"Cache-Control": "private, max-age=60"}, body.encode())(turn)

        site.upstream.on("*", step)

        await site.get("/me", headers={"X-User-ID": "victim"})
        answer = await site.get(target, headers={"X-User-ID": "attacker"})

        assert b"victim" not in answer.body


# --- E05 ------------------------------------------------------------------------------------------------------------

BODY = b"0123456789" * 1000
LENGTH = {**FRESH, "Content-Length": "10000"}
CHUNKED = {**FRESH, "Transfer-Encoding": "chunked"}
BROKEN: dict[str, list[Step]] = {
    "short": [head(200, LENGTH), send(BODY[:5000]), close()],
    "reset": [head(200, LENGTH), send(BODY[:5000]), reset()],
    "one byte short": [head(200, LENGTH), send(BODY[:-1]), close()],
    "no last chunk": [head(200, CHUNKED), chunk(BODY), close()],
    "cut chunk": [head(200, CHUNKED), send(b"2710\r\n" + BODY[:5000]), close()],
    "bad chunk": [head(200, CHUNKED), chunk(BODY[:5000]), send(b"xyz\r\n"), close()],
    "no body": [head(200, LENGTH), close()],
    "two lengths": [head(200, [*LENGTH.items(), ("Content-Length", "5000")]), send(BODY), close()],
    "length and chunked": [head(200, {**LENGTH, **CHUNKED}), chunk(BODY[:5000]), last_chunk()],
    "500": [reply(500, {}, b"broken")],
    "502": [reply(502, {}, b"broken")],
    "503": [reply(503, {"Retry-After": "0"}, b"broken")],
    "504 with max-age": [reply(504, FRESH, b"broken")],
    "500 with max-age": [reply(500, FRESH, b"broken")],
    "206": [reply(206, {**FRESH, "ETag": '"a"', "Content-Range": "bytes 0-9/10000"}, BODY[:10])],
    "206 without range": [reply(206, FRESH, BODY[:10])],
}


@pytest.mark.parametrize("steps", BROKEN.values(), ids=BROKEN.keys())
async def test_e05_broken_response_is_not_the_answer_for_others(steps: list[Step]) -> None:
    async with cache_site() as site:
        site.upstream.on("*", *steps, times=1)
        site.serve(FRESH, BODY)

        async with RawClient(site.app.port) as client:
            await client.send_request("GET", PATH)
            first = await client.read_response(check=False)
        answers = [await site.get(), await site.get()]

        assert (first.status, first.complete) != (200, True)
        assert [(each.status, each.body == BODY, each.complete) for each in answers] == [(200, True, True)] * 2


@pytest.mark.parametrize("steps", BROKEN.values(), ids=BROKEN.keys())
async def test_e05_broken_response_does_not_replace_a_stale_one_that_may_stand_in(steps: list[Step]) -> None:
    async with cache_site() as site:
        await site.stored({"Cache-Control": "max-age=10, stale-if-error=600", "ETag": '"s"'}, b"stored")
        site.later(11)
        site.upstream.on("*", *steps, times=1)
        site.upstream.on("*", reply(503, {}, b"down"))

        async with RawClient(site.app.port) as client:
            await client.send_request("GET", PATH)
            await client.read_response(check=False)
        later = await site.get()

        assert (later.status, later.body) == (200, b"stored")


async def test_e05_interim_response_is_not_the_answer_for_others() -> None:
    async with cache_site() as site:
        site.upstream.on("*", head(103, FRESH), head(103, FRESH), site.answer(FRESH, b"final"))

        answers = [await site.get(), await site.get()]

        assert [(each.status, each.body) for each in answers] == [(200, b"final")] * 2
        assert site.fills == 1


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED], ids=["length", "chunked"])
async def test_e05_leader_that_leaves_leaves_nothing_half_behind(framing: dict[str, str]) -> None:
    async with cache_site() as site:
        gate = Gate()
        piece = send(BODY[:5000]) if framing is LENGTH else chunk(BODY[:5000])
        site.upstream.on("*", head(200, framing), piece, gate, hang(), times=1)
        site.serve(FRESH, BODY)

        async with RawClient(site.app.port) as client:
            await client.send_request("GET", PATH)
            await client.read_head()
            await gate.reached.wait()
        gate.open()
        await site.upstream.wait_closed()
        whole = await site.get()

        assert (whole.body == BODY, whole.complete) == (True, True)


async def test_e05_follower_gets_all_when_the_leader_leaves() -> None:
    async with cache_site() as site:
        gate = Gate()
        site.upstream.on("*", head(200, LENGTH), send(BODY[:5000]), gate, send(BODY[5000:]))

        async with RawClient(site.app.port) as leader:
            await leader.send_request("GET", PATH)
            await leader.read_head()
            follower = asyncio.ensure_future(site.get())
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.05)
        gate.open()
        answer = await follower

        assert (answer.body == BODY, answer.complete, site.fills) == (True, True, 1)


@pytest.mark.parametrize(
    "framing", [{"Content-Length": "200000"}, {"Transfer-Encoding": "chunked"}], ids=["length", "chunked"]
)
async def test_e05_body_beyond_the_cap_is_delivered_and_not_stored(framing: dict[str, str]) -> None:
    body = b"x" * 200_000
    async with cache_site({"max_body": "100KB"}) as site:
        steps = [send(body)] if "Content-Length" in framing else [chunk(body), last_chunk()]
        site.upstream.on("*", head(200, {**FRESH, **framing}), *steps)

        answers = [await site.get() for _ in range(2)]

        assert [(each.body == body, each.complete) for each in answers] == [(True, True)] * 2
        assert site.fills == 2


async def test_e05_readers_of_a_broken_fill_are_all_told() -> None:
    async with cache_site() as site:
        gate = Gate()
        site.upstream.on("*", head(200, LENGTH), send(BODY[:5000]), gate, reset(), times=1)
        site.serve(FRESH, BODY)

        async with RawClient(site.app.port) as one, RawClient(site.app.port) as two:
            for client in (one, two):
                await client.send_request("GET", PATH)
            heads = [await client.read_head() for client in (one, two)]
            gate.open()
            for client, response in zip((one, two), heads, strict=True):
                async for _ in client.read_body(response):
                    pass

        assert [response.complete for response in heads] == [False, False]
        assert (await site.get()).body == BODY
