"""Those who want the same at the same time: who shares one request to the upstream, and who goes alone."""

import asyncio
import random
from collections.abc import Callable

import pytest

from proxy.errors import BulkheadFull, CollapsedFailure, ConnectionRefused, DeadlineExceeded
from proxy.exchange import Exchange, Response
from proxy.protocol.caching.stored import Validity
from tests.support.cache_layer import FRESH, Answer, CacheLayer, Held, ended, reply, validated, versions
from tests.support.exchange import Outcome
from tests.support.fills import ArrivingBody
from tests.support.waiting import eventually

pytestmark = [pytest.mark.usefixtures("leak_check")]

DOWN = ConnectionRefused()
TAGGED = {"Cache-Control": "max-age=10", "ETag": '"1"'}


async def all_of(site: CacheLayer, count: int, held: Held, **fields: str) -> list[Answer]:
    """The answers to so many who ask while the upstream holds its answer back."""
    headers = {name.replace("_", "-").title(): value for name, value in fields.items()}
    asking = [site.asking("GET", "/r", headers) for _ in range(count)]
    await held.reached.wait()
    await site.settle()
    held.comes()
    return [await each for each in asking]


# --- who shares -----------------------------------------------------------------------------------------------------


async def test_one_request_answers_all_who_wait() -> None:
    held = Held(reply({**FRESH, "Age": "3"}, b"body"))
    site = CacheLayer(held)

    first, *others = await all_of(site, 50, held)

    assert (site.fetches, site.metrics.collapsed, site.is_at_rest) == (1, 49, True)
    assert first.said == "fwd=uri-miss;fwd-status=200;stored"
    assert {each.said for each in others} == {"fwd=uri-miss;fwd-status=200;stored;collapsed"}
    assert {each.body for each in others} == {b"body"}
    assert {each.field("Age") for each in (first, *others)} == {"3"}


async def test_body_is_read_by_all_while_it_arrives() -> None:
    body = ArrivingBody(b"begin ")
    site = CacheLayer(reply({**FRESH, "Content-Length": "9"}, body))

    leader = site.asking()
    await site.settle()
    follower = site.asking()
    await site.settle()
    body.arrives(b"end")
    body.ends()

    answers = [await leader, await follower]
    assert [each.body for each in answers] == [b"begin end"] * 2
    assert [each.field("Content-Length") for each in answers] == ["9", "9"]
    assert (site.fetches, (await site.get()).said) == (1, "hit;ttl=60")


async def test_validation_is_shared_and_each_gets_what_its_condition_asks_for() -> None:
    held = Held(validated(TAGGED, {"ETag": '"1"', **FRESH}))
    site = CacheLayer(reply(TAGGED, b"body"), held)

    await site.get()
    site.later(11)
    plain, asked = site.asking(), site.asking("GET", "/r", {"If-None-Match": '"1"'})
    await site.settle()
    held.comes()

    assert [(await plain).status, (await asked).status] == [200, 304]
    assert site.fetches == 2


async def test_client_with_a_condition_waits_for_the_whole_of_what_another_has_asked_for() -> None:
    held = Held(reply({**FRESH, "ETag": '"1"'}, b"0123456789"))
    site = CacheLayer(held)

    asking = [
        site.asking(),
        site.asking("GET", "/r", {"Range": "bytes=1-2"}),
        site.asking("GET", "/r", {"If-None-Match": '"1"'}),
    ]
    await site.settle()
    held.comes()

    assert [((await each).status, (await each).body) for each in asking] == [
        (200, b"0123456789"),
        (206, b"12"),
        (304, b""),
    ]
    assert site.fetches == 1


async def test_those_of_another_variant_share_one_request_of_their_own() -> None:
    held = Held(reply({**FRESH, "Vary": "X-One"}, b"one"))
    other = Held(reply({**FRESH, "Vary": "X-One"}, b"two"))
    site = CacheLayer(held, other)

    ones = [site.asking("GET", "/r", {"X-One": "1"}) for _ in range(3)]
    twos = [site.asking("GET", "/r", {"X-One": "2"}) for _ in range(3)]
    await site.settle()
    held.comes()
    await other.reached.wait()
    await site.settle()
    other.comes()

    assert [(await each).body for each in ones] == [b"one"] * 3
    assert [(await each).body for each in twos] == [b"two"] * 3
    assert site.fetches == 2


async def test_known_variants_do_not_wait_for_each_other() -> None:
    site = CacheLayer(versions({**TAGGED, "Vary": "X-One"}))
    await site.get(x_one="1")
    site.later(11)
    held = Held(reply(FRESH, b"slow"))
    site.serve(held, reply(FRESH, b"fast"))

    slow = site.asking("GET", "/r", {"X-One": "1"})
    await held.reached.wait()
    assert (await site.get(x_one="2")).body == b"fast"
    held.comes()
    assert (await slow).body == b"slow"


@pytest.mark.parametrize("asked", ["no-cache", "max-age=0", "no-store", "min-fresh=1"])
async def test_who_wants_more_than_others_goes_alone(asked: str) -> None:
    held = Held(reply(FRESH, b"1"))
    site = CacheLayer(held, reply(FRESH, b"2"))

    waiting = site.asking()
    await held.reached.wait()
    assert (await site.get(cache_control=asked)).body == b"2"
    held.comes()
    assert (await waiting).body == b"1"


async def test_older_answer_does_not_take_the_place_of_a_newer_one() -> None:
    """The one that was asked for first comes last: it is older, and its Date says so."""
    site = CacheLayer()
    held = Held(reply(FRESH, b"old", date=site.wall()))
    site.serve(held, reply(FRESH, b"new", date=site.wall() + 2))

    waiting = site.asking()
    await held.reached.wait()
    site.later(2)
    await site.get(cache_control="no-cache")
    held.comes()

    assert (await waiting).body == b"old"
    assert (await site.get()).body == b"new"


async def test_part_does_not_take_the_place_of_the_whole() -> None:
    part = {**FRESH, "Content-Range": "bytes 0-1/4", "Content-Length": "2"}
    held = Held(reply(part, b"bo", status=206))
    site = CacheLayer(held, reply(FRESH, b"body"))

    waiting = site.asking("GET", "/r", {"Range": "bytes=0-1"})
    await held.reached.wait()
    await site.get()
    held.comes()

    assert (await waiting).status == 206
    assert (await site.get()).said == "hit;ttl=60"


# --- what is not shared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Cache-Control": "private"},
        {"Cache-Control": "no-store"},
        {**FRESH, "Set-Cookie": "a=b"},
        {**FRESH, "Vary": "*"},
    ],
)
async def test_response_that_may_not_be_stored_is_for_one(headers: dict[str, str]) -> None:
    held = Held(versions(headers))
    site = CacheLayer(held, versions(headers))

    answers = await all_of(site, 5, held)

    assert (site.fetches, site.metrics.collapsed) == (5, 0)
    assert all("collapsed" not in each.said for each in answers)


async def test_nobody_waits_for_what_could_not_be_stored_a_moment_ago() -> None:
    site = CacheLayer(versions({"Cache-Control": "private"}))
    await site.get()

    held = [Held(reply({}, b"%d" % number)) for number in range(3)]
    site.serve(*held)
    asking = [site.asking() for _ in held]
    await asyncio.gather(*[each.reached.wait() for each in held])
    for each in held:
        each.comes()
    assert sorted([(await each).body for each in asking]) == [b"0", b"1", b"2"]

    site.later(11)
    last = Held(reply(FRESH, b"x"))
    site.serve(last)
    before = site.fetches
    await all_of(site, 3, last)
    assert site.fetches == before + 1


@pytest.mark.parametrize(
    ("outcome", "fields"),
    [
        (reply({}, b"x", status=503), {}),
        (reply({}, b"x", status=501), {}),
        (reply({}, b"x", status=429), {}),
        (reply({"ETag": '"1"'}, status=304), {"if_none_match": '"1"'}),
        (reply({}, status=412), {"if_match": '"1"'}),
        (reply({}, status=416), {"range": "bytes=9-"}),
        (reply(FRESH, b"x"), {"cache_control": "no-store"}),
        (reply(FRESH, b"x"), {"cookie": "a=b"}),
        (reply(FRESH, b"x"), {"authorization": "x"}),
    ],
)
async def test_one_client_or_a_failure_does_not_end_the_sharing(outcome: Outcome, fields: dict[str, str]) -> None:
    """Else anybody could have all others' requests sent on, and a failing upstream would get them all."""
    held = Held(reply(FRESH, b"body"))
    site = CacheLayer(outcome, held)

    await site.get(**fields)
    answers = await all_of(site, 10, held)

    assert (site.fetches, {each.body for each in answers}) == (2, {b"body"})


@pytest.mark.parametrize("field", [{"Authorization": "x"}, {"Cookie": "a=b"}])
async def test_those_who_waited_for_somebody_with_credentials_share_the_next_request(field: dict[str, str]) -> None:
    held, other = Held(reply(FRESH, b"for one")), Held(reply(FRESH, b"for all"))
    site = CacheLayer(held, other)

    first = site.asking("GET", "/r", field)
    await held.reached.wait()
    others = [site.asking() for _ in range(20)]
    await site.settle()
    held.comes()
    await other.reached.wait()
    await site.settle()
    other.comes()

    assert (await first).body == b"for one"
    assert {(await each).body for each in others} == {b"for all"}
    assert site.fetches == 2


async def test_304_that_makes_the_response_private_is_for_one() -> None:
    held = Held(reply({"ETag": '"1"', "Cache-Control": "private", "X-User": "ada"}, status=304))
    site = CacheLayer(reply(TAGGED, b"body"), held, reply({"Cache-Control": "private", "X-User": "bob"}, b"bob"))

    await site.get()
    site.later(11)
    first, *others = await all_of(site, 3, held)

    assert (first.field("X-User"), [each.field("X-User") for each in others]) == ("ada", ["bob", "bob"])
    assert "stored" not in first.said


async def test_part_that_nobody_asked_for_is_for_one() -> None:
    part = {**FRESH, "Content-Range": "bytes 0-1/4", "Content-Length": "2"}
    held = Held(reply(part, b"bo", status=206))
    site = CacheLayer(held, reply(FRESH, b"body"))

    first, other = await all_of(site, 2, held)

    assert (first.status, other.status, other.body) == (206, 200, b"body")


# --- failures -------------------------------------------------------------------------------------------------------


async def test_failure_is_told_to_all_who_wait() -> None:
    held = Held(DOWN)
    site = CacheLayer(held)

    asking = [site.asking() for _ in range(5)]
    await held.reached.wait()
    await site.settle()
    held.comes()

    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in results] == [ConnectionRefused] * 5
    assert len({id(each) for each in results}) == 5
    assert (site.fetches, site.is_at_rest) == (1, True)


@pytest.mark.parametrize("arrives", [False, True])
async def test_failed_response_is_for_all_who_wait(arrives: bool) -> None:
    body = ArrivingBody(b"down")
    body.ends()
    held = Held(reply({}, body if arrives else b"down", status=503))
    site = CacheLayer(held)

    answers = await all_of(site, 5, held)

    assert [(each.status, each.body) for each in answers] == [(503, b"down")] * 5
    assert site.fetches == 1
    await eventually(lambda: site.is_at_rest)


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({"Set-Cookie": "a=b"}, {}),
        ({"Cache-Control": "private"}, {}),
        ({}, {"Cookie": "a=b"}),
        ({}, {"Authorization": "x"}),
    ],
)
async def test_failed_response_that_may_be_personal_is_kept_apart(
    headers: dict[str, str], fields: dict[str, str]
) -> None:
    held = Held(reply(headers, b"secret", status=503))
    site = CacheLayer(held)

    first = site.asking("GET", "/r", fields)
    await held.reached.wait()
    others = [site.asking() for _ in range(3)]
    await site.settle()
    held.comes()

    assert (await first).body == b"secret"
    results = await asyncio.gather(*others, return_exceptions=True)
    assert [type(each) for each in results] == [CollapsedFailure] * 3
    assert site.fetches == 1


async def test_each_who_waits_gets_what_may_stand_in_for_it() -> None:
    held = Held(DOWN)
    site = CacheLayer(reply({"Cache-Control": "max-age=10, stale-if-error=60"}, b"stale"), held)

    await site.get()
    site.later(11)
    answers = await all_of(site, 5, held)

    assert [(each.body, each.said) for each in answers] == [(b"stale", 'fwd=stale;detail="error"')] * 5


async def test_who_went_alone_gets_what_may_stand_in_too() -> None:
    control = "max-age=10, stale-if-error=60"
    held = Held(reply({"Cache-Control": "private", "ETag": '"2"'}, b"for one"))
    site = CacheLayer(reply({"Cache-Control": control}, b"stale"), held, DOWN)

    await site.get()
    site.later(11)
    first, *others = await all_of(site, 4, held)

    assert (first.body, [each.body for each in others]) == (b"for one", [b"stale"] * 3)


async def test_who_went_alone_gets_what_may_stand_in_for_a_failed_response() -> None:
    held = Held(reply({"Cache-Control": "private"}, b"for one"))
    site = CacheLayer(
        reply({"Cache-Control": "max-age=10, stale-if-error=60"}, b"stale"), held, reply({}, b"x", status=503)
    )

    await site.get()
    site.later(11)
    _, other = await all_of(site, 2, held)

    assert (other.body, other.said) == (b"stale", 'fwd=stale;fwd-status=503;detail="error"')


# --- changes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("validity", [Validity.SOFT, Validity.INVALID, Validity.GONE])
async def test_nobody_joins_a_request_from_before_a_change(validity: Validity) -> None:
    before, after = Held(reply(FRESH, b"old")), Held(reply(FRESH, b"new"))
    site = CacheLayer(before, after)

    early = site.asking()
    await before.reached.wait()
    site.purge("property:r", validity)
    late = [site.asking() for _ in range(3)]
    await after.reached.wait()
    await site.settle()
    after.comes()
    assert [(await each).body for each in late] == [b"new"] * 3
    before.comes()
    assert (await early).body == b"old"

    assert ((await site.get()).body, site.fetches) == (b"new", 2), "the older answer is not stored"


async def test_what_is_gone_is_not_validated_by_who_has_to_ask_a_second_time() -> None:
    refresh = Held(BulkheadFull(request_written=False))
    tagged = {"Cache-Control": "max-age=10, stale-while-revalidate=10", "ETag": '"1"'}
    site = CacheLayer(reply(tagged, b"bad"), refresh, validated({"ETag": '"1"'}, {"ETag": '"1"'}, b"good"))

    await site.get()
    site.later(11)
    await site.get()
    site.later(20)
    waiting = site.asking()
    await site.settle()
    site.purge("*", Validity.GONE)
    refresh.comes()

    assert (await waiting).body == b"good"
    assert "if-none-match" not in site.fetched()


async def test_mutation_outdates_before_it_is_answered() -> None:
    site = CacheLayer(versions(FRESH))

    await site.get()
    assert (await site.ask("PUT", "/r", body=b"x")).status == 200

    assert (await site.get()).said == "fwd=stale;fwd-status=200;stored"


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"Range": "bytes=0-1"}])
async def test_each_waits_no_longer_than_its_own_deadline(fields: dict[str, str]) -> None:
    """For the head, and with a condition for the whole body."""
    body = ArrivingBody(b"bo")
    held = Held(reply(FRESH, body))
    site = CacheLayer(held)

    leader = site.asking()
    await held.reached.wait()
    exchange = site.exchange(headers=fields)
    exchange.deadline = site.clock() - 1.0
    follower = asyncio.ensure_future(site.send(exchange))
    if fields:
        await site.settle()
        held.comes()
    with pytest.raises(DeadlineExceeded):
        await follower
    assert [(each.policy, each.decision) for each in exchange.decisions or ()] == [("timeout", "total")]

    held.comes()
    body.arrives(b"dy")
    body.ends()
    assert (await leader).body == b"body"


async def test_body_that_turns_out_too_long_is_asked_for_once_more_at_most() -> None:
    """Who wants a part of it waits for the whole: it goes by itself when there is none, with its own Range."""

    async def long(exchange: Exchange) -> Response:
        body = ArrivingBody(b"x" * 60, b"x" * 60)
        body.ends()
        return Response(200, [(b"Cache-Control", b"max-age=60")], body)

    site = CacheLayer(reply(TAGGED, b"body"), long, reply({}, b"xx", status=206), max_body=100)
    await site.get()
    site.later(11)
    answer = await site.get(range="bytes=0-1")

    assert (answer.status, answer.body, site.fetches) == (206, b"xx", 3)
    assert site.fetched()["range"] == "bytes=0-1"
    await eventually(lambda: site.is_at_rest)


async def test_nobody_waits_for_what_was_too_long_a_moment_ago() -> None:
    async def long(exchange: Exchange) -> Response:
        body = ArrivingBody(b"x" * 60, b"x" * 60)
        body.ends()
        return Response(200, [(b"Cache-Control", b"max-age=60")], body)

    site = CacheLayer(long, max_body=100)
    assert len((await site.get()).body) == 120
    await eventually(lambda: site.is_at_rest)

    held = [Held(long) for _ in range(2)]
    site.serve(*held)
    asking = [site.asking() for _ in held]
    await asyncio.gather(*[each.reached.wait() for each in held])
    for each in held:
        each.comes()
    assert [len((await task).body) for task in asking] == [120, 120]
    await eventually(lambda: site.is_at_rest)


# --- clients that leave ---------------------------------------------------------------------------------------------


async def test_request_goes_on_for_those_who_stay_and_ends_with_the_last() -> None:
    held = Held(reply(FRESH, b"body"))
    site = CacheLayer(held)

    leader, follower, last = site.asking(), site.asking(), site.asking()
    await held.reached.wait()
    await site.settle()
    await ended(leader)
    await ended(follower)
    assert not held.was_cancelled
    await ended(last)
    await site.settle()
    assert (held.was_cancelled, site.is_at_rest) == (True, True)


def stepping(permits: list[int], body: Callable[[], bytes | ArrivingBody], headers: dict[str, str]) -> Outcome:
    """A response that takes some turns of the loop, with a permit that lasts as long as its body."""

    async def answer(exchange: Exchange) -> Response:
        permits[0] += 1
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            if random.random() < 0.1:
                raise ConnectionRefused
        except BaseException:
            permits[0] -= 1
            raise
        is_known = any(name.lower() == b"if-none-match" for name, _ in exchange.request.fields.raw)
        fields = [(name.encode(), value.encode()) for name, value in headers.items()]
        response = Response(304, fields) if is_known else Response(200, fields, body())

        def release() -> None:
            permits[0] -= 1

        response.on_close(release)
        return response

    return answer


def arriving() -> bytes | ArrivingBody:
    body = ArrivingBody(b"a", b"b", b"c")
    body.ends()
    return body


def at_once() -> bytes | ArrivingBody:
    return b"abc"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "headers",
    [
        {"Cache-Control": "max-age=1, stale-while-revalidate=1, stale-if-error=5", "ETag": '"1"'},
        {"Cache-Control": "max-age=1", "Vary": "X-One", "ETag": '"1"'},
        {"Cache-Control": "private"},
    ],
)
async def test_whoever_leaves_whenever_leaves_nothing_behind(seed: int, headers: dict[str, str]) -> None:
    rng = random.Random(seed)
    permits = [0]
    site = CacheLayer(stepping(permits, arriving if rng.random() < 0.5 else lambda: b"abc", headers))
    requests = [
        {},
        {},
        {},
        {"X-One": "1"},
        {"Range": "bytes=0-1"},
        {"If-None-Match": '"1"'},
        {"Cache-Control": "no-cache"},
    ]

    async def client() -> None:
        task = site.asking(rng.choice(["GET", "GET", "GET", "HEAD", "PUT"]), "/r", rng.choice(requests))
        for _ in range(rng.randrange(12)):
            await asyncio.sleep(0)
        if rng.random() < 0.6:
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, ConnectionRefused), error

    for _ in range(20):
        await asyncio.gather(*[client() for _ in range(rng.randrange(1, 12))])
        site.later(rng.choice([0, 0.4, 1.2]))
    await eventually(lambda: site.is_at_rest)
    await eventually(lambda: permits == [0])
