"""Many who want the same at once cost the upstream one request, and nobody waits longer than he may (fault E07)."""

import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.aftermath import until_metric, wait_at_rest
from tests.support.cache_site import FRESH, PATH, CacheSite, cache_site
from tests.support.client import RawClient
from tests.support.messages import HeadersLike, Response
from tests.support.steps import Gate, Step, Turn, hang, reply, reset
from tests.support.waiting import WITHIN

MANY = 1000


@contextlib.asynccontextmanager
async def waiting(
    site: CacheSite, count: int, gate: Gate, headers: HeadersLike | None = None
) -> AsyncIterator[list[RawClient]]:
    """That many clients whose requests are all under way while the upstream has not answered the first of them."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(RawClient(site.app.port, within=3 * WITHIN)) for _ in range(count)]
        for client in clients:
            await client.send_request("GET", PATH, headers)
        await gate.reached.wait()
        await until_metric(site.app, count, "proxy_requests_in_flight")
        yield clients


async def answers_of(clients: list[RawClient]) -> list[Response]:
    return [await client.read_response(check=False) for client in clients]


@pytest.mark.timeout(120)
async def test_e07_a_thousand_misses_at_once_are_one_request_to_the_upstream() -> None:
    async with cache_site() as site:
        gate = Gate()
        site.upstream.on("*", gate, site.answer(FRESH, b"body" * 1000))

        async with waiting(site, MANY, gate) as clients:
            gate.open()
            answers = await answers_of(clients)

        assert {(each.status, each.body, each.complete) for each in answers} == {(200, b"body" * 1000, True)}
        assert site.fills == 1
        assert await site.app.metric("proxy_cache_collapsed_total") == MANY - 1
        await wait_at_rest(site.app)


async def test_e07_a_hundred_validations_at_once_are_one_request_to_the_upstream() -> None:
    async with cache_site() as site:
        gate = Gate()
        await site.stored({"Cache-Control": "max-age=10", "ETag": '"a"'}, b"stored")
        site.later(11)
        site.upstream.on("*", gate, site.answer({"Cache-Control": "max-age=10", "ETag": '"a"'}, status=304))

        async with waiting(site, 100, gate) as clients:
            gate.open()
            answers = await answers_of(clients)

        assert {(each.status, each.body) for each in answers} == {(200, b"stored")}
        assert site.fills == 2


@pytest.mark.parametrize(
    ("failure", "status"), [(reply(500, {}, b"failed"), 500), (reset(), 502)], ids=["500", "reset"]
)
async def test_e07_failed_fill_gives_all_its_error_at_once(failure: Step, status: int) -> None:
    async with cache_site() as site:
        gate = Gate()
        site.upstream.on("*", gate, failure)

        async with waiting(site, 50, gate) as clients:
            before = site.fills
            gate.open()
            answers = await answers_of(clients)

        assert {each.status for each in answers} == {status}
        assert site.fills <= before + 1
        await wait_at_rest(site.app)


async def test_e07_failed_fill_gives_all_the_stale_response() -> None:
    async with cache_site() as site:
        gate = Gate()
        await site.stored({"Cache-Control": "max-age=10, stale-if-error=60"}, b"stored")
        site.later(11)
        site.upstream.on("*", gate, reply(503))

        async with waiting(site, 50, gate) as clients:
            gate.open()
            answers = await answers_of(clients)

        assert {(each.status, each.body) for each in answers} == {(200, b"stored")}
        assert site.fills == 2


@pytest.mark.parametrize("leaving", [1, 25, 49])
async def test_e07_clients_that_leave_do_not_end_the_fill(leaving: int) -> None:
    async with cache_site() as site:
        gate = Gate()
        site.upstream.on("*", gate, site.answer(FRESH, b"body"))

        async with waiting(site, 50, gate) as clients:
            for client in clients[:leaving]:
                client.reset()
            await until_metric(site.app, 50 - leaving, "proxy_requests_in_flight")
            gate.open()
            answers = await answers_of(clients[leaving:])

        assert {(each.status, each.body) for each in answers} == {(200, b"body")}
        assert site.fills == 1


async def test_e07_fill_ends_with_the_last_who_leaves() -> None:
    async with cache_site() as site:
        gate = Gate()
        site.upstream.on("*", gate, hang())

        async with waiting(site, 20, gate) as clients:
            for client in clients:
                client.reset()
            gate.open()
            await site.upstream.wait_closed()

        await wait_at_rest(site.app)
        site.upstream.forget()
        site.serve(FRESH, b"new")
        assert (await site.get()).body == b"new"


async def test_e07_nobody_waits_past_his_deadline() -> None:
    async with cache_site(route={"timeout": "500ms"}) as site:
        gate = Gate()
        site.upstream.on("*", gate, hang())
        started = time.monotonic()

        async with waiting(site, 50, gate) as clients:
            answers = await answers_of(clients)

        assert {each.status for each in answers} == {504}
        assert time.monotonic() - started < 5
        await wait_at_rest(site.app)


async def test_e07_responses_that_may_not_be_shared_do_not_queue_behind_each_other() -> None:
    async with cache_site() as site:
        await site.stored({"Cache-Control": "no-store"})
        gate = Gate()
        site.upstream.on("*", gate, site.answer({"Cache-Control": "no-store"}))

        async with waiting(site, 20, gate) as clients:
            await site.upstream.wait_until(lambda: site.fills == 21)
            gate.open()
            answers = await answers_of(clients)

        assert {each.status for each in answers} == {200}


async def test_e07_those_whom_the_first_answer_does_not_suit_get_their_own() -> None:
    async with cache_site() as site:
        gate = Gate()

        async def step(turn: Turn) -> None:
            await gate(turn)
            who = turn.request.header("X-One") or ""
            await reply(200, {**FRESH, "Vary": "X-One"}, who.encode())(turn)

        site.upstream.on("*", step)
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(RawClient(site.app.port)) for _ in range(30)]
            for number, client in enumerate(clients):
                await client.send_request("GET", PATH, {"X-One": str(number % 3)})
            await until_metric(site.app, 30, "proxy_requests_in_flight")
            gate.open()
            answers = await answers_of(clients)

        assert [each.body for each in answers] == [b"%d" % (number % 3) for number in range(30)]


async def test_e07_hits_do_not_wait_behind_misses() -> None:
    async with cache_site() as site:
        gate = Gate()
        site.serve(FRESH, b"hit", path="/hit")
        site.upstream.on("*", gate, site.answer(FRESH))
        await site.get("/hit")

        async with waiting(site, 20, gate) as clients:
            assert (await site.get("/hit")).body == b"hit"
            gate.open()
            await answers_of(clients)
